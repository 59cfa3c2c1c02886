//! The way to the application, steps three and four of a request's life: over TLS where the application speaks it.
//!
//! Nobody tells which ports do (spec 6.4), so a port is spoken to in the clear until that fails: the connection ends without
//! an answer, or the answer is 400, as servers give that notice the mistake. Then a handshake is tried, once, and what came of
//! it is known of the port from then on. To HTTP/2 in the clear a TLS server answers with an alert, which is looked for first.

use std::{future::pending, sync::Arc, time::Duration};

use http::StatusCode;
use tokio::time::sleep;

use crate::{
    Route, Stream,
    answers::Refusal,
    inner_tls::{self, Alpn},
    kept::Door,
    request::{Exchange, Proxy},
    serve::InFlight,
    share::Speech,
    upstream::Line,
};

/// How long a request on a kept connection waits before somebody looks whether the guest still answers at all.
const LOOK_AFTER: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Clone, Copy)]
pub(crate) struct Reach<'a> {
    proxy: &'a Proxy,
    route: &'a Route,
    port: u16,
    exchange: &'a Exchange,
}

impl<'a> Reach<'a> {
    pub(crate) fn new(proxy: &'a Proxy, route: &'a Route, port: u16, exchange: &'a Exchange) -> Self {
        Reach { proxy, route, port, exchange }
    }

    /// A new connection. The backend wakes and connects in one, since a machine can be suspended between the two.
    pub(crate) async fn connect(&self) -> Result<Box<dyn Stream>, Refusal> {
        if self.speech() == Some(Speech::Tls) {
            let alpn = if self.exchange.force_h2 { Alpn::Http2 } else { Alpn::Http1 };
            match inner_tls::open(self.dial().await?, &self.exchange.host, alpn).await {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    tracing::debug!(port = self.port, %error, "the application speaks TLS no more");
                    self.route.share.learn(self.port, None);
                }
            }
        }
        self.dial().await
    }

    /// Resolves when a request on a kept connection waits in vain. A dial tells of a guest that does not answer; on a kept
    /// connection nothing does.
    pub(crate) async fn lost(&self) -> Refusal {
        sleep(LOOK_AFTER).await;
        match self.dial().await {
            Ok(_) => pending().await,
            Err(refusal) => refusal,
        }
    }

    async fn dial(&self) -> Result<Box<dyn Stream>, Refusal> {
        let microvm = &self.route.microvm;
        self.proxy.backend.connect(microvm, self.port).await.map_err(|error| {
            tracing::debug!(microvm, port = self.port, %error, "not connected");
            Refusal::from(error)
        })
    }

    fn speech(&self) -> Option<Speech> {
        self.route.share.speech(self.port)
    }

    /// An answer came in the clear; is it one that a TLS server may give?
    pub(crate) fn is_doubtful(&self, status: StatusCode) -> bool {
        if self.speech().is_some() {
            return false;
        }
        let doubtful = status == StatusCode::BAD_REQUEST;
        if !doubtful {
            self.route.share.learn(self.port, Some(Speech::Clear));
        }
        doubtful
    }

    /// After a request in the clear that failed: does the port speak TLS? Not asked again of one that has answered.
    pub(crate) async fn finds_tls(&self) -> bool {
        match self.speech() {
            Some(Speech::Tls) => return false,
            // It did, and something else listens now, or it failed: the next one finds out.
            Some(Speech::Clear) => {
                self.route.share.learn(self.port, None);
                return false;
            }
            None => {}
        }
        let Ok(stream) = self.dial().await else { return false };
        let found = inner_tls::open(stream, &self.exchange.host, Alpn::Any).await;
        let speech = if found.is_ok() { Speech::Tls } else { Speech::Clear };
        tracing::debug!(port = self.port, ?speech, "asked for TLS");
        self.route.share.learn(self.port, Some(speech));
        speech == Speech::Tls
    }

    /// Before HTTP/2 in the clear to a port that nothing is known of: its requests mostly cannot be sent twice.
    pub(crate) async fn learns_by_preface(&self) -> Result<(), Refusal> {
        if self.speech().is_none() {
            let said = inner_tls::answer_to_preface(self.dial().await?, self.exchange.limits.greeting).await;
            if let Some(speech) = said.map_err(|_| Refusal::BadGateway)? {
                self.route.share.learn(self.port, Some(speech));
            }
        }
        Ok(())
    }

    /// The port that this leads to.
    pub(crate) fn door(&self) -> Arc<Door> {
        self.proxy.doors.of(&self.route.microvm, self.port)
    }

    /// A connection that an earlier request of this client has left, unless the microVM takes no new requests now.
    /// `harmless`: the request may be sent twice.
    pub(crate) fn kept(&self, client: &InFlight, door: &Arc<Door>, harmless: bool) -> Option<Line> {
        client.kept().take(door, harmless).filter(|_| self.route.open)
    }
}
