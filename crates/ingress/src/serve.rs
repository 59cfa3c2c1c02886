//! The listener: accepts, shakes hands, drives connections, and ends them in an orderly way.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Backend, Limits, linger::Lingering, request::Proxy, session::Places, token::TokenKeys,
    upstream::MIN_HTTP1_BUFFER_BYTES,
};

/// Large enough that one HTTP/2 upload fills a line of 90 ms and 300 Mbit/s (spec 15, complaint 29).
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// A silent HTTP/2 client is asked for a sign of life this often.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Any client that is silent for so long is asked for one by its kernel; HTTP/1.1 and what it is upgraded to have no other
/// way to learn that a client has vanished.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_EVERY: Duration = Duration::from_secs(20);
/// As many without an answer end the connection.
const PROBES: u32 = 3;
/// When the host is out of file descriptors or memory there is no event to wait for.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// The ingress with everything it needs but a listener.
pub struct Ingress {
    tls: Arc<ServerConfig>,
    tokens: Arc<TokenKeys>,
    backend: Arc<dyn Backend>,
    limits: Limits,
}

/// [`Ingress::serve`] with the default [`Limits`].
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    tokens: Arc<TokenKeys>,
    backend: Arc<dyn Backend>,
    shutdown: impl Future<Output = ()>,
) {
    Ingress::new(tls, tokens, backend).serve(listener, shutdown).await
}

impl Ingress {
    /// With the default limits.
    pub fn new(tls: Arc<ServerConfig>, tokens: Arc<TokenKeys>, backend: Arc<dyn Backend>) -> Self {
        Ingress { tls, tokens, backend, limits: Limits::default() }
    }

    /// With other limits.
    pub fn with_limits(self, limits: Limits) -> Self {
        Ingress { limits, ..self }
    }

    /// Serves until `shutdown` is ready, then accepts no more, lets requests in flight finish within [`Limits::drain`], ends
    /// the others, and returns when no task is left.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let stop = CancellationToken::new();
        let proxy = Arc::new(Proxy {
            tokens: self.tokens,
            backend: self.backend,
            limits: self.limits,
            tasks: TaskTracker::new(),
            abort: CancellationToken::new(),
            places: Places::default(),
        });
        let acceptor = TlsAcceptor::from(self.tls);
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let mut shutdown = pin!(shutdown);
        loop {
            let (tcp, peer, place) = tokio::select! {
                accepted = accept(&listener, &places) => accepted,
                () = &mut shutdown => break,
            };
            let (proxy, acceptor, stop) = (proxy.clone(), acceptor.clone(), stop.clone());
            proxy.tasks.clone().spawn(async move {
                let abort = proxy.abort.clone();
                tokio::select! {
                    () = connection(proxy, acceptor, tcp, peer, place, stop) => {}
                    () = abort.cancelled() => {}
                }
            });
        }
        drop(listener);
        stop.cancel();
        proxy.tasks.close();
        if timeout(self.limits.drain, proxy.tasks.wait()).await.is_err() {
            tracing::info!(tasks = proxy.tasks.len(), "ending requests that did not finish in time");
            proxy.abort.cancel();
            proxy.tasks.wait().await;
        }
    }
}

/// The next connection, once there is a place for it.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((tcp, peer)) => return (tcp, peer, place),
            Err(error) if of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

fn of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// What the requests of one connection share.
struct Client {
    /// The server name of the TLS handshake.
    sni: Option<String>,
    requests: watch::Sender<usize>,
    /// Given back when the connection and all that came of it (a WebSocket) have ended.
    _place: OwnedSemaphorePermit,
}

/// A request that has not ended. Keeps its connection from being idle.
pub(crate) struct InFlight(Arc<Client>);

impl InFlight {
    fn begin(client: &Arc<Client>) -> Arc<Self> {
        client.requests.send_modify(|requests| *requests += 1);
        Arc::new(InFlight(client.clone()))
    }

    pub(crate) fn sni(&self) -> Option<&str> {
        self.0.sni.as_deref()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.requests.send_modify(|requests| *requests -= 1);
    }
}

async fn connection(
    proxy: Arc<Proxy>,
    acceptor: TlsAcceptor,
    tcp: TcpStream,
    peer: SocketAddr,
    place: OwnedSemaphorePermit,
    stop: CancellationToken,
) {
    let limits = proxy.limits;
    // Without it small writes wait for the peer's acknowledgement; a socket that refuses these two still works.
    let _ = tcp.set_nodelay(true);
    let _ = probe(&tcp);
    let tls = match timeout(limits.handshake, acceptor.accept(tcp)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "tls handshake"),
        Err(_) => return tracing::debug!(%peer, "tls handshake took too long"),
    };
    let (_, session) = tls.get_ref();
    let http2 = session.alpn_protocol() == Some(b"h2");
    let (requests, in_flight) = watch::channel(0);
    let client = Arc::new(Client { sni: session.server_name().map(str::to_owned), requests, _place: place });

    let tasks = proxy.tasks.clone();
    let service = service_fn(move |request| {
        let (proxy, in_flight) = (proxy.clone(), InFlight::begin(&client));
        async move { Ok::<_, Infallible>(proxy.handle(in_flight, request).await) }
    });
    let outcome = if http2 {
        let connection = http2_settings(&limits, Owned(tasks)).serve_connection(TokioIo::new(tls), service);
        drive(connection, http2::Connection::graceful_shutdown, in_flight, limits.idle, stop).await
    } else {
        let connection =
            http1_settings(&limits).serve_connection(TokioIo::new(Lingering::new(tls)), service).with_upgrades();
        drive(connection, http1::UpgradeableConnection::graceful_shutdown, in_flight, limits.idle, stop).await
    };
    if let Err(error) = outcome {
        tracing::debug!(%peer, %error, "client connection");
    }
}

/// Has the kernel find out when the peer is not there any more.
fn probe(tcp: &TcpStream) -> rustix::io::Result<()> {
    sockopt::set_tcp_keepidle(tcp, PROBE_AFTER)?;
    sockopt::set_tcp_keepintvl(tcp, PROBE_EVERY)?;
    sockopt::set_tcp_keepcnt(tcp, PROBES)?;
    sockopt::set_socket_keepalive(tcp, true)
}

fn http1_settings(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head);
    builder.max_header_size(limits.head_bytes).max_buf_size(limits.head_bytes.max(MIN_HTTP1_BUFFER_BYTES));
    builder
}

fn http2_settings(limits: &Limits, owner: Owned) -> http2::Builder<Owned> {
    let mut builder = http2::Builder::new(owner);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .enable_connect_protocol();
    builder
}

/// Runs a connection to its end; asks it to end when the server stops or the client has asked for nothing for long.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    connection: C,
    shut_down: fn(Pin<&mut C>),
    mut requests: watch::Receiver<usize>,
    idle_limit: Duration,
    stop: CancellationToken,
) -> hyper::Result<()> {
    let mut connection = pin!(connection);
    tokio::select! {
        outcome = connection.as_mut() => return outcome,
        () = stop.cancelled() => {}
        () = idle(&mut requests, idle_limit) => {}
    }
    shut_down(connection.as_mut());
    connection.await
}

/// Ready when there has been no request for `limit`.
async fn idle(requests: &mut watch::Receiver<usize>, limit: Duration) {
    loop {
        // An error means that the connection has ended: so will `drive`.
        if requests.wait_for(|&requests| requests == 0).await.is_err() {
            return std::future::pending().await;
        }
        tokio::select! {
            () = tokio::time::sleep(limit) => return,
            _ = requests.changed() => {}
        }
    }
}

/// Spawns the tasks of HTTP/2 streams so that the listener owns them.
#[derive(Clone)]
pub(crate) struct Owned(pub(crate) TaskTracker);

impl<F> hyper::rt::Executor<F> for Owned
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_vanished_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        probe(&tcp).unwrap();
        assert!(sockopt::socket_keepalive(&tcp).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&tcp).unwrap(), PROBE_AFTER);
    }
}
