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
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Backend, Extras, Limits,
    kept::Kept,
    linger::Lingering,
    plain,
    request::Proxy,
    seats::{Seat, Seats},
    session::Places,
    token::TokenKeys,
    upstream::MIN_HTTP1_BUFFER_BYTES,
};

/// Large enough that one HTTP/2 upload fills a line of 90 ms and 300 Mbit/s (spec 15, complaint 29).
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// A silent HTTP/2 client is asked for a sign of life this often.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a client that asks for nothing may take to leave its place to another.
const LEAVE_WITHIN: Duration = Duration::from_millis(250);
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
    extras: Extras,
    plain: Option<TcpListener>,
}

impl Ingress {
    /// With the default limits.
    pub fn new(tls: Arc<ServerConfig>, tokens: Arc<TokenKeys>, backend: Arc<dyn Backend>) -> Self {
        Ingress { tls, tokens, backend, limits: Limits::default(), extras: Extras::default(), plain: None }
    }

    /// With other limits.
    pub fn with_limits(self, limits: Limits) -> Self {
        Ingress { limits, ..self }
    }

    /// With more than AWS has.
    pub fn with_extras(self, extras: Extras) -> Self {
        Ingress { extras, ..self }
    }

    /// Serves the same without TLS on that listener too: HTTP/1.1, and HTTP/2 by prior knowledge. Its connections are bounded
    /// by themselves, by [`Limits::connections`].
    pub fn with_plain(self, listener: Option<TcpListener>) -> Self {
        Ingress { plain: listener, ..self }
    }

    /// Serves until `shutdown` is ready, then accepts no more, lets requests in flight finish within [`Limits::drain`], ends
    /// the others, and returns when no task is left.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let stop = CancellationToken::new();
        let proxy = Arc::new(Proxy {
            tokens: self.tokens,
            backend: self.backend,
            limits: self.limits,
            extras: Arc::new(self.extras),
            tasks: TaskTracker::new(),
            abort: CancellationToken::new(),
            places: Places::default(),
            doors: Arc::default(),
        });
        let acceptor = TlsAcceptor::from(self.tls);
        let seats = Seats::new(self.limits.connections);
        let plain = self.plain.map(|listener| (listener, Seats::new(self.limits.connections)));
        let mut shutdown = pin!(shutdown);
        loop {
            let ((tcp, peer, seat), acceptor) = tokio::select! {
                accepted = accept(&listener, &seats) => (accepted, Some(acceptor.clone())),
                accepted = accept_plain(plain.as_ref()) => (accepted, None),
                () = &mut shutdown => break,
            };
            let (proxy, stop) = (proxy.clone(), stop.clone());
            proxy.tasks.clone().spawn(async move {
                let abort = proxy.abort.clone();
                tokio::select! {
                    () = connection(proxy, acceptor, tcp, peer, seat, stop) => {}
                    () = abort.cancelled() => {}
                }
            });
        }
        drop((listener, plain));
        stop.cancel();
        proxy.tasks.close();
        if timeout(self.limits.drain, proxy.tasks.wait()).await.is_err() {
            tracing::info!(tasks = proxy.tasks.len(), "ending requests that did not finish in time");
            proxy.abort.cancel();
            proxy.tasks.wait().await;
        }
    }
}

type Accepted = (TcpStream, SocketAddr, Arc<Seat>);

/// Never, when there is no plain listener.
async fn accept_plain(plain: Option<&(TcpListener, Arc<Seats>)>) -> Accepted {
    match plain {
        Some((listener, seats)) => accept(listener, seats).await,
        None => std::future::pending().await,
    }
}

/// The next connection, once there is a place for it.
async fn accept(listener: &TcpListener, seats: &Arc<Seats>) -> Accepted {
    // First somebody to serve, then a place: nobody has to leave for nobody.
    let (tcp, peer) = next(listener).await;
    (tcp, peer, seats.take().await)
}

async fn next(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
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
    tls: bool,
    peer: SocketAddr,
    requests: watch::Sender<usize>,
    /// Connections to applications.
    kept: Kept,
    /// Given back when the connection and all that came of it (a WebSocket) have ended.
    seat: Arc<Seat>,
}

/// A request that has not ended. Keeps its connection from being idle.
pub(crate) struct InFlight(Arc<Client>);

impl InFlight {
    fn begin(client: &Arc<Client>) -> Arc<Self> {
        client.requests.send_modify(|requests| {
            *requests += 1;
            client.seat.busy();
        });
        Arc::new(InFlight(client.clone()))
    }

    pub(crate) fn sni(&self) -> Option<&str> {
        self.0.sni.as_deref()
    }

    pub(crate) fn kept(&self) -> &Kept {
        &self.0.kept
    }

    /// Does the connection have TLS?
    pub(crate) fn tls(&self) -> bool {
        self.0.tls
    }

    /// The client's address.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.0.peer
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let client = &self.0;
        client.requests.send_modify(|requests| {
            *requests -= 1;
            if *requests == 0 {
                client.seat.idle();
            }
        });
    }
}

async fn connection(
    proxy: Arc<Proxy>,
    acceptor: Option<TlsAcceptor>,
    tcp: TcpStream,
    peer: SocketAddr,
    seat: Arc<Seat>,
    stop: CancellationToken,
) {
    let limits = proxy.limits;
    // Without it small writes wait for the peer's acknowledgement; a socket that refuses these two still works.
    let _ = tcp.set_nodelay(true);
    let _ = probe(&tcp);
    let (requests, in_flight) = watch::channel(0);
    let mut client =
        Client { sni: None, tls: acceptor.is_some(), peer, requests, kept: Kept::default(), seat: seat.clone() };
    let outcome = match acceptor {
        Some(acceptor) => {
            let handshake = tokio::select! {
                handshake = timeout(limits.handshake, acceptor.accept(tcp)) => handshake,
                () = seat.leave() => return tracing::debug!(%peer, "its place is needed"),
            };
            let tls = match handshake {
                Ok(Ok(tls)) => tls,
                Ok(Err(error)) => return tracing::debug!(%peer, %error, "tls handshake"),
                Err(_) => return tracing::debug!(%peer, "tls handshake took too long"),
            };
            let (_, session) = tls.get_ref();
            let http2 = session.alpn_protocol() == Some(b"h2");
            client.sni = session.server_name().map(str::to_owned);
            converse(proxy, tls, http2, client, in_flight, stop).await
        }
        None => match timeout(limits.handshake, plain::open(tcp)).await {
            Ok(Ok((stream, http2))) => converse(proxy, stream, http2, client, in_flight, stop).await,
            Ok(Err(error)) => return tracing::debug!(%peer, %error, "first bytes"),
            Err(_) => return tracing::debug!(%peer, "the first bytes took too long"),
        },
    };
    if let Err(error) = outcome {
        tracing::debug!(%peer, %error, "client connection");
    }
}

/// Serves the requests of one connection to its end.
async fn converse(
    proxy: Arc<Proxy>,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    http2: bool,
    client: Client,
    in_flight: watch::Receiver<usize>,
    stop: CancellationToken,
) -> hyper::Result<()> {
    let (limits, seat, client) = (proxy.limits, client.seat.clone(), Arc::new(client));
    let tasks = proxy.tasks.clone();
    let service = service_fn(move |request| {
        let (proxy, in_flight) = (proxy.clone(), InFlight::begin(&client));
        async move { Ok::<_, Infallible>(proxy.handle(in_flight, request).await) }
    });
    if http2 {
        let connection = http2_settings(&limits, Owned(tasks)).serve_connection(TokioIo::new(stream), service);
        drive(connection, http2::Connection::graceful_shutdown, in_flight, limits.idle, &seat, stop).await
    } else {
        let connection =
            http1_settings(&limits).serve_connection(TokioIo::new(Lingering::new(stream)), service).with_upgrades();
        drive(connection, http1::UpgradeableConnection::graceful_shutdown, in_flight, limits.idle, &seat, stop).await
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

/// Runs a connection to its end; asks it to end when the server stops, the client has asked for nothing for long, or another
/// needs its place.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    connection: C,
    shut_down: fn(Pin<&mut C>),
    mut requests: watch::Receiver<usize>,
    idle_limit: Duration,
    seat: &Seat,
    stop: CancellationToken,
) -> hyper::Result<()> {
    let mut connection = pin!(connection);
    let needed = tokio::select! {
        outcome = connection.as_mut() => return outcome,
        () = stop.cancelled() => false,
        () = idle(&mut requests, idle_limit) => false,
        () = seat.leave() => true,
    };
    shut_down(connection.as_mut());
    tokio::select! {
        outcome = connection => outcome,
        // A client that is half-way through a head does not hold the place of another.
        () = idle(&mut requests, LEAVE_WITHIN), if needed => Ok(()),
    }
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
