//! Connections to an application: HTTP/1.1, used again where [`crate::kept`] lets them; HTTP/2 with prior knowledge, one a request.

use std::{
    future, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    Limits, Stream,
    answers::Body,
    kept::{Door, Idleness},
    serve::Owned,
};

/// hyper's lower bound.
pub(crate) const MIN_HTTP1_BUFFER_BYTES: usize = 8192;
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// The application's answer, and the connection that its body and upgrades still need: dropping that ends both.
pub(crate) struct Answer {
    pub(crate) response: Response<Incoming>,
    pub(crate) connection: AbortOnDropHandle<()>,
}

/// Why there is no answer. For the log; the client gets a plain 502.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error("the application's answer: {0}")]
    Http(#[from] hyper::Error),
    #[error("the application does not speak HTTP/2")]
    Silent,
}

/// Sends a request with HTTP/1.1 on a connection of its own. Upgrades are possible.
pub(crate) async fn http1(
    stream: Box<dyn Stream>,
    request: Request<Body>,
    limits: &Limits,
) -> Result<Answer, UpstreamError> {
    let (mut sender, connection) = http1_settings(limits).handshake(connected(stream)).await?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move { ended(connection.with_upgrades().await) }));
    Ok(Answer { response: sender.send_request(request).await?, connection })
}

fn http1_settings(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_header_size(limits.head_bytes).max_buf_size(limits.head_bytes.max(MIN_HTTP1_BUFFER_BYTES));
    builder
}

fn connected(stream: Box<dyn Stream>) -> TokioIo<Patient> {
    TokioIo::new(Patient::new(stream).0)
}

fn ended(outcome: hyper::Result<()>) {
    if let Err(error) = outcome {
        tracing::debug!(%error, "connection to the application");
    }
}

/// An HTTP/1.1 connection for one request after the other.
pub(crate) struct Line {
    sender: http1::SendRequest<Body>,
    idleness: Arc<Idleness>,
    uses: u32,
    _connection: AbortOnDropHandle<()>,
}

impl Line {
    /// On a stream to that port. It ends by itself when it is idle for too long.
    pub(crate) async fn open(stream: Box<dyn Stream>, door: Arc<Door>, limits: &Limits) -> Result<Self, UpstreamError> {
        let (sender, connection) = http1_settings(limits).handshake(connected(stream)).await?;
        let idleness = Arc::new(Idleness::new(door));
        let followed = idleness.clone();
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::select! {
                outcome = connection => ended(outcome),
                () = followed.ends() => {}
            }
            followed.over();
        }));
        Ok(Line { sender, idleness, uses: 0, _connection: connection })
    }

    /// Sends a request and waits for the head of its answer. The error has the request when nothing of it was sent.
    pub(crate) async fn send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Body>>> {
        self.uses += 1;
        match self.uses {
            1 => self.idleness.first(self.sender.try_send_request(request)).await,
            _ => {
                let answer = self.sender.try_send_request(request).await;
                if answer.is_ok() {
                    self.idleness.answered_again();
                }
                answer
            }
        }
    }

    pub(crate) fn uses(&self) -> u32 {
        self.uses
    }

    pub(crate) fn door(&self) -> &Arc<Door> {
        self.idleness.door()
    }

    pub(crate) fn leads_to(&self, door: &Arc<Door>) -> bool {
        Arc::ptr_eq(self.door(), door)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.idleness.is_over()
    }

    /// Nobody uses it from now on; false when it has ended.
    pub(crate) fn set_idle(&self) -> bool {
        self.idleness.begin()
    }

    /// It is in use again; false when it has ended.
    pub(crate) fn use_again(&self) -> bool {
        self.idleness.end()
    }
}

/// Sends a request with HTTP/2, without TLS and without asking first.
pub(crate) async fn http2(
    stream: Box<dyn Stream>,
    request: Request<Body>,
    limits: &Limits,
    owner: Owned,
) -> Result<Answer, UpstreamError> {
    let (stream, greeting) = Patient::new(stream);
    let (mut sender, connection) = http2::Builder::new(owner)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .handshake(TokioIo::new(stream))
        .await?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move { ended(connection.await) }));
    let silent = async {
        match timeout(limits.greeting, greeting).await {
            Ok(_) => future::pending().await,
            Err(_) => UpstreamError::Silent,
        }
    };
    let response = tokio::select! {
        response = sender.send_request(request) => response?,
        error = silent => return Err(error),
    };
    Ok(Answer { response, connection })
}

/// A stream to the application that still reads when it can no longer write: an application may answer and close before
/// it has read the request's body (spec 6.4), and the answer must reach the client.
struct Patient {
    stream: Box<dyn Stream>,
    deaf: bool,
    greeting: Option<oneshot::Sender<()>>,
}

impl Patient {
    /// The receiver hears of the first byte that comes.
    fn new(stream: Box<dyn Stream>) -> (Self, oneshot::Receiver<()>) {
        let (greeting, heard) = oneshot::channel();
        (Patient { stream, deaf: false, greeting: Some(greeting) }, heard)
    }

    /// A failed write never ends; the read side tells what became of the connection.
    fn unless_deaf<T>(
        &mut self,
        operation: impl FnOnce(Pin<&mut dyn Stream>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.deaf {
            return Poll::Pending;
        }
        match ready!(operation(Pin::new(&mut *self.stream))) {
            Ok(done) => Poll::Ready(Ok(done)),
            Err(_) => {
                self.deaf = true;
                Poll::Pending
            }
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if let Some(greeting) = self.greeting.take() {
            // Nobody waits for it on HTTP/1.1.
            let _ = greeting.send(());
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.unless_deaf(|stream| stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.unless_deaf(|stream| stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unless_deaf(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.deaf { Poll::Ready(Ok(())) } else { Pin::new(&mut self.stream).poll_shutdown(cx) }
    }
}
