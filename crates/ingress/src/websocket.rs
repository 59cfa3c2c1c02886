//! WebSockets (spec 6.5): what the client offers, and the bridge between its upgrade and the application's.
//!
//! The client's side is an HTTP/1.1 upgrade or an HTTP/2 extended CONNECT (RFC 8441); the application's is always an
//! HTTP/1.1 upgrade. Frames are not looked at.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};
use hyper::{
    ext::Protocol,
    upgrade::{self, OnUpgrade},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    answers::{Body, Refusal, empty},
    forward::{self, Again},
    headers,
    inbound::Inbound,
    reach::Reach,
    record::{Metered, Way},
    request::{Exchange, Proxy},
    upstream::{self, Answer},
};

pub(crate) const MARKER: &str = "lambda-microvms";
const TOKEN_PREFIX: &str = "lambda-microvms.authentication.";
const PORT_PREFIX: &str = "lambda-microvms.port.";
/// After one side has ended, for what is still on its way to that side's peer.
const LINGER: Duration = Duration::from_secs(5);

/// The platform's subprotocols that a client offered.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Offer<'a> {
    /// Without the marker the others do not count.
    pub(crate) marker: bool,
    pub(crate) token: Option<&'a str>,
    pub(crate) ports: Vec<&'a str>,
}

impl<'a> Offer<'a> {
    pub(crate) fn read(headers: &'a HeaderMap) -> Self {
        let mut offer = Offer::default();
        for protocol in headers::tokens(headers, &SEC_WEBSOCKET_PROTOCOL) {
            if protocol == MARKER {
                offer.marker = true;
            } else if let Some(token) = protocol.strip_prefix(TOKEN_PREFIX) {
                offer.token = offer.token.or(Some(token));
            } else if let Some(port) = protocol.strip_prefix(PORT_PREFIX) {
                offer.ports.push(port);
            }
        }
        if offer.marker { offer } else { Offer::default() }
    }
}

/// Leaves only the application's own subprotocols; no header at all when there are none.
pub(crate) fn strip_platform_protocols(headers: &mut HeaderMap, name: HeaderName) {
    let own: Vec<&str> = headers::tokens(headers, &name)
        .filter(|protocol| !protocol.strip_prefix(MARKER).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
        .collect();
    let own = HeaderValue::from_str(&own.join(", ")).ok().filter(|own| !own.is_empty());
    headers.remove(&name);
    if let Some(own) = own {
        headers.insert(name, own);
    }
}

/// Does this request ask for a WebSocket?
pub(crate) fn is_websocket<B>(request: &Request<B>) -> bool {
    if request.version() == Version::HTTP_2 {
        let protocol = request.extensions().get::<Protocol>();
        return request.method() == Method::CONNECT
            && protocol.is_some_and(|protocol| protocol.as_str() == "websocket");
    }
    let asks = |name, value: &str| headers::tokens(request.headers(), &name).any(|one| one.eq_ignore_ascii_case(value));
    request.method() == Method::GET && asks(UPGRADE, "websocket") && asks(CONNECTION, "upgrade")
}

/// Upgrades the application's side, then the client's, and leaves a task that moves the bytes. An application that
/// declines answers the client itself.
pub(crate) async fn bridge(
    proxy: &Proxy,
    exchange: &Exchange,
    mut request: Request<Inbound>,
    reach: Reach<'_>,
) -> Result<Response<Body>, Refusal> {
    let client = upgrade::on(&mut request);
    let http2 = request.version() == Version::HTTP_2;
    let outbound = handshake(exchange, request, http2)?;
    let again = Again::of(&outbound);
    let mut answer = upstream::http1(reach.connect().await?, outbound, &exchange.limits).await;
    let doubtful = answer.as_ref().map_or(true, |answer| reach.is_doubtful(answer.response.status()));
    if let Some(again) = again.filter(|_| doubtful)
        && reach.finds_tls().await
    {
        answer = upstream::http1(reach.connect().await?, again.request(), &exchange.limits).await;
    }
    let answer = answer.map_err(|error| forward::no_answer(exchange, &error))?;
    if answer.response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // To an extended CONNECT any 2xx would mean that the tunnel stands.
        let misread = http2 && answer.response.status().is_success();
        return if misread {
            Err(Refusal::BadGateway)
        } else {
            Ok(forward::towards_client(exchange, answer.response, answer.connection))
        };
    }
    let Answer { mut response, connection } = answer;
    let application = upgrade::on(&mut response);
    let accepted = accepted(exchange, response.into_parts().0.headers, http2);

    let (meter, in_flight, abort) = (exchange.meter.clone(), exchange.in_flight.clone(), proxy.abort.clone());
    let admission = exchange.admission;
    exchange.tasks.spawn(async move {
        let moved = async {
            let (client, application) = both(client, application, connection).await?;
            tunnel(Metered::new(TokioIo::new(client), meter.clone(), Way::Received), TokioIo::new(application)).await;
            Ok::<_, hyper::Error>(())
        };
        tokio::select! {
            outcome = moved => if let Err(error) = outcome { tracing::debug!(%error, "websocket upgrade") },
            () = meter.withdrawn(admission) => {}
            () = abort.cancelled() => {}
        }
        drop(in_flight);
    });
    Ok(accepted)
}

/// The upgrade request for the application.
fn handshake(exchange: &Exchange, request: Request<Inbound>, http2: bool) -> Result<Request<Body>, Refusal> {
    let (mut parts, _) = request.into_parts();
    headers::towards_application(&mut parts.headers, parts.version, false, &exchange.host, &exchange.id);
    exchange.manner.towards_application(&mut parts.headers, &exchange.host);
    let mut outbound = Request::new(empty());
    *outbound.uri_mut() = forward::target(&parts.uri, None).ok_or(Refusal::BadGateway)?;
    *outbound.headers_mut() = parts.headers;
    let headers = outbound.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if http2 {
        // RFC 8441 section 5 has no key; HTTP/1.1 wants one.
        let key = STANDARD.encode(uuid::Uuid::new_v4().as_bytes());
        headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_str(&key).map_err(|_| Refusal::BadGateway)?);
        headers.entry(SEC_WEBSOCKET_VERSION).or_insert(HeaderValue::from_static("13"));
    }
    Ok(outbound)
}

/// The answer that completes the client's side. The subprotocol is the application's choice, or else the marker.
fn accepted(exchange: &Exchange, mut headers: HeaderMap, http2: bool) -> Response<Body> {
    headers::towards_client(&mut headers);
    exchange.manner.towards_client(&mut headers);
    headers.remove(CONTENT_LENGTH);
    strip_platform_protocols(&mut headers, SEC_WEBSOCKET_PROTOCOL);
    if exchange.marker {
        headers.entry(SEC_WEBSOCKET_PROTOCOL).or_insert(HeaderValue::from_static(MARKER));
    }
    let mut response = Response::new(empty());
    if http2 {
        headers.remove(SEC_WEBSOCKET_ACCEPT);
    } else {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    }
    *response.headers_mut() = headers;
    response
}

/// Waits until both sides are byte streams. `connection` drives the application's side until then.
async fn both(
    client: OnUpgrade,
    application: OnUpgrade,
    connection: AbortOnDropHandle<()>,
) -> Result<(upgrade::Upgraded, upgrade::Upgraded), hyper::Error> {
    let application = application.await?;
    drop(connection);
    Ok((client.await?, application))
}

/// Moves bytes both ways. A WebSocket has no half-closed state: when one side has ended, what it still sent is delivered,
/// the other direction gets a moment, and both are closed.
async fn tunnel(client: impl AsyncRead + AsyncWrite, application: impl AsyncRead + AsyncWrite) {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_application, mut to_application) = tokio::io::split(application);
    let up = async {
        // A broken stream ends the tunnel just as a closed one does.
        let _ = tokio::io::copy(&mut from_client, &mut to_application).await;
        let _ = to_application.shutdown().await;
    };
    let down = async {
        let _ = tokio::io::copy(&mut from_application, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    tokio::pin!(up, down);
    let rest = tokio::select! {
        () = &mut up => tokio::time::timeout(LINGER, down).await,
        () = &mut down => tokio::time::timeout(LINGER, up).await,
    };
    if rest.is_err() {
        tracing::debug!("websocket peer did not close in time");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn offered(lines: &[&'static str]) -> HeaderMap {
        lines.iter().map(|line| (SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(line))).collect()
    }

    #[test]
    fn offers() {
        let headers =
            offered(&["lambda-microvms,lambda-microvms.authentication.a.b..c", "lambda-microvms.port.3000 , chat"]);
        let offer = Offer::read(&headers);
        assert_eq!(offer, Offer { marker: true, token: Some("a.b..c"), ports: vec!["3000"] });
        let headers = offered(&["lambda-microvms.authentication.t, lambda-microvms.port.1"]);
        assert_eq!(Offer::read(&headers), Offer::default(), "nothing counts without the marker");
        let headers = offered(&["lambda-microvms, lambda-microvms.port.1, lambda-microvms.port.2"]);
        assert_eq!(Offer::read(&headers).ports, ["1", "2"]);
    }

    #[test]
    fn only_the_applications_protocols_pass() {
        for (lines, expected) in [
            (&["lambda-microvms, chat", "lambda-microvms.port.1,v2"][..], Some("chat, v2")),
            (&["lambda-microvms, lambda-microvms.authentication.x"], None),
            (&["lambda-microvms.anything.new"], None),
            (&["lambda-microvmsish"], Some("lambda-microvmsish")),
            (&[], None),
        ] {
            let mut headers = offered(lines);
            strip_platform_protocols(&mut headers, SEC_WEBSOCKET_PROTOCOL);
            let left: Vec<_> = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().map(|v| v.to_str().unwrap()).collect();
            assert_eq!(left, expected.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_asks_for_a_websocket() {
        let request = |method: &str, upgrade: &str, connection: &str| {
            let builder = Request::builder().method(method).header("upgrade", upgrade);
            is_websocket(&builder.header("connection", connection).body(()).unwrap())
        };
        assert!(request("GET", "WebSocket", "keep-alive, Upgrade"));
        assert!(!request("POST", "websocket", "upgrade"));
        assert!(!request("GET", "h2c", "upgrade"));
        assert!(!request("GET", "websocket", "close"));
        let connect = Request::builder().method("CONNECT").version(Version::HTTP_2);
        assert!(!is_websocket(&connect.body(()).unwrap()));
        let connect = Request::builder().method("CONNECT").version(Version::HTTP_2);
        assert!(is_websocket(&connect.extension(Protocol::from_static("websocket")).body(()).unwrap()));
    }
}
