//! A listener with a fake control plane behind it, and clients for it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, combinators::BoxBody};
use hyper::{body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ingress::{
    Admission, Allowance, Backend, Claims, ConnectError, Extras, Ingress, Kind, Limits, LocalCa, PortRange, Route,
    SessionError, Share, Stream, TlsSettings, TokenKeys,
};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tokio::{
    io::{DuplexStream, duplex},
    net::{TcpListener, TcpStream},
    sync::{Notify, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

pub type Body = BoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Nothing here takes longer, unless it hangs.
pub const SOON: Duration = Duration::from_secs(20);

#[derive(Default)]
pub struct Fake {
    pub routes: Mutex<HashMap<String, Route>>,
    pub ports: Mutex<HashMap<u16, SocketAddr>>,
    pub outcome: Mutex<Option<ConnectError>>,
    pub connects: AtomicUsize,
    pub activity: AtomicUsize,
    pub no_session: Mutex<Option<SessionError>>,
    /// Sessions that were asked for, and the guest's ends of them.
    pub guests: Mutex<Vec<(wire::Session, DuplexStream)>>,
    pub session: Notify,
    pub routed: Notify,
}

impl Fake {
    /// The next session that is asked for.
    pub async fn guest(&self) -> (wire::Session, DuplexStream) {
        loop {
            if let Some(found) = self.guests.lock().unwrap().pop() {
                return found;
            }
            timeout(SOON, self.session.notified()).await.unwrap();
        }
    }
}

#[async_trait]
impl Backend for Fake {
    fn route(&self, host: &str) -> Option<Route> {
        self.routes.lock().unwrap().get(host).cloned()
    }

    async fn connect(&self, _: &str, port: u16) -> Result<Box<dyn Stream>, ConnectError> {
        self.connects.fetch_add(1, SeqCst);
        if let Some(error) = *self.outcome.lock().unwrap() {
            return Err(error);
        }
        let address = self.ports.lock().unwrap().get(&port).copied().ok_or(ConnectError::Refused)?;
        Ok(Box::new(TcpStream::connect(address).await.map_err(|_| ConnectError::Refused)?))
    }

    async fn session(&self, _: &str, session: wire::Session) -> Result<Box<dyn Stream>, SessionError> {
        if let Some(error) = self.no_session.lock().unwrap().clone() {
            return Err(error);
        }
        let (host, guest) = duplex(1 << 20);
        self.guests.lock().unwrap().push((session, guest));
        self.session.notify_one();
        Ok(Box::new(host))
    }

    fn activity(&self, _: &str) {
        self.activity.fetch_add(1, SeqCst);
    }

    async fn withdrawn(&self, microvm: &str, admission: Admission) {
        loop {
            let routed = self.routed.notified();
            tokio::pin!(routed);
            routed.as_mut().enable();
            let routes: Vec<_> = self.routes.lock().unwrap().values().cloned().collect();
            let route = routes.into_iter().find(|route| route.microvm == microvm).unwrap();
            match admission {
                Admission::Token { revocation } if revocation < route.revocation => return,
                Admission::Public { port } if route.public != Some(port) => return,
                _ => routed.await,
            }
        }
    }
}

pub struct World {
    pub address: SocketAddr,
    pub plain: SocketAddr,
    pub backend: Arc<Fake>,
    pub tokens: Arc<TokenKeys>,
    pub ca: std::path::PathBuf,
    roots: Arc<RootCertStore>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

pub fn host(name: &str) -> String {
    format!("{name}.lambda-microvm.us-east-1.localhost")
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

impl World {
    pub async fn start() -> Self {
        Self::start_with(Limits::default()).await
    }

    pub async fn start_with(limits: Limits) -> Self {
        Self::start_beyond(limits, Extras::default()).await
    }

    /// Endpoints `a` and `b` with an application on 8080 each; nothing else listens.
    pub async fn start_beyond(limits: Limits, extras: Extras) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Arc::new(LocalCa::load_or_create(dir.path()).unwrap());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca.path()).unwrap()).unwrap();
        let tls = TlsSettings::Local { ca, names: vec![host("*")] }.server_config().unwrap();
        let tokens = Arc::new(TokenKeys::load_or_create(&dir.path().join("keys")).unwrap());
        let backend = Arc::new(Fake::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let plain_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let plain = plain_listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let ingress = Ingress::new(tls, tokens.clone(), backend.clone()).with_limits(limits).with_extras(extras);
        let ingress = ingress.with_plain(Some(plain_listener));
        let server = tokio::spawn(ingress.serve(listener, async {
            let _ = stopped.await;
        }));
        let world = World {
            address,
            plain,
            backend,
            tokens,
            ca: dir.path().join("ca.pem"),
            roots: Arc::new(roots),
            stop: Some(stop),
            server: Some(server),
            _dir: dir,
        };
        for name in ["a", "b"] {
            world.route(name, |_| {});
        }
        world.listen(8080, crate::apps::http1().await);
        world
    }

    pub fn route(&self, name: &str, change: impl FnOnce(&mut Route)) {
        let mut route = Route {
            microvm: format!("microvm-{name}"),
            application: true,
            shell: false,
            open: true,
            terminated: false,
            share: Arc::new(Share::new(Allowance::at_once(1000))),
            revocation: 0,
            public: None,
            default_port: ingress::DEFAULT_PORT,
        };
        change(&mut route);
        self.backend.routes.lock().unwrap().insert(host(name), route);
        self.backend.routed.notify_waiters();
    }

    pub fn listen(&self, port: u16, address: SocketAddr) {
        self.backend.ports.lock().unwrap().insert(port, address);
    }

    pub fn token_of(&self, kind: Kind, name: &str, ports: &[PortRange], expires_at: u64) -> String {
        let claims =
            Claims { microvm: format!("microvm-{name}"), kind, ports: ports.to_vec(), expires_at, revocation: 0 };
        self.tokens.mint(&claims).into_string()
    }

    /// For application traffic to 8080 and 3000 to 3010.
    pub fn token(&self, name: &str) -> String {
        let ports = [PortRange::single(8080), PortRange { start: 3000, end: 3010 }];
        self.token_of(Kind::Auth, name, &ports, now() + 60)
    }

    pub async fn tls(&self, sni: Option<&str>, alpn: &[u8]) -> TlsStream<TcpStream> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        config.enable_sni = sni.is_some();
        let name = ServerName::try_from(sni.map_or_else(|| host("any"), str::to_owned)).unwrap();
        let tcp = TcpStream::connect(self.address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
    }

    pub async fn h1(&self, name: &str) -> conn::http1::SendRequest<Body> {
        let tls = self.tls(Some(&host(name)), b"http/1.1").await;
        let (sender, connection) = conn::http1::handshake(TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    pub async fn h2(&self, name: &str) -> conn::http2::SendRequest<Body> {
        let tls = self.tls(Some(&host(name)), b"h2").await;
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let mut builder = conn::http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(1 << 20).initial_connection_window_size(1 << 20);
        let (sender, connection) = builder.handshake(TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// One request on a connection of its own, HTTP/1.1.
    pub async fn get(&self, name: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::get(path).header("host", host(name));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(self.h1(name).await.send_request(request.body(nothing()).unwrap()).await.unwrap()).await
    }

    pub async fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        timeout(SOON, self.server.take().unwrap()).await.unwrap().unwrap();
    }

    pub fn ask_to_stop(&mut self) -> JoinHandle<()> {
        self.stop.take().unwrap().send(()).unwrap();
        self.server.take().unwrap()
    }
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    pub text: String,
    pub trailers: Option<http::HeaderMap>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

pub async fn answer(response: Response<Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let collected = timeout(SOON, body.collect()).await.unwrap().unwrap();
    let trailers = collected.trailers().cloned();
    let text = String::from_utf8(collected.to_bytes().to_vec()).unwrap();
    Answer { status: parts.status, headers: parts.headers, text, trailers }
}

pub fn nothing() -> Body {
    Empty::new().map_err(|e| match e {}).boxed()
}

pub fn text(text: &'static str) -> Body {
    http_body_util::Full::new(Bytes::from(text)).map_err(|e| match e {}).boxed()
}
