//! A server of its own on a free port, and a client that signs.

use std::{
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use api::{
    Sensitive,
    request::Encoded,
    sigv4::{Signer, Unsigned},
};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use server::{
    Store,
    edge::{self, Edge, s3::S3Store},
    keys::AccessKeys,
    logs::Logs,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::stub::{ACCOUNT, KEY, SECRET, Stub, TwoKeys};

pub struct Server {
    pub address: SocketAddr,
    pub stub: Arc<Stub>,
    pub s3: S3Store,
    pub logs: Arc<Logs>,
    pub access: Arc<AccessKeys>,
    pub dir: tempfile::TempDir,
    pub shutdown: CancellationToken,
    pub task: JoinHandle<()>,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    pub async fn start_with(tls: Option<TlsAcceptor>) -> Self {
        Self::start_throttled(tls, None).await
    }

    pub async fn start_throttled(tls: Option<TlsAcceptor>, throttle: Option<edge::Throttle>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (store, access) = access_keys(dir.path()).await;
        let shutdown = CancellationToken::new();
        let keys = Arc::new(TwoKeys(access.clone()));
        let s3 = S3Store::new(&dir.path().join("s3"), keys.clone(), &S3Store::BASE_DOMAINS, "aws").unwrap();
        let stub = Stub::new();
        let logs = Logs::new(dir.path().join("logs"), vec![7; 32], 1 << 30).unwrap();
        let edge = Edge {
            keys,
            access: access.clone(),
            operations: Arc::clone(&stub) as _,
            endpoints: Arc::clone(&stub) as _,
            s3: s3.clone(),
            region: "us-east-1".parse().unwrap(),
            logs: Arc::clone(&logs),
            store,
            stop: shutdown.clone(),
            bounds: Default::default(),
            throttle,
        };
        let task = tokio::spawn(edge::serve(listener, tls, Arc::new(edge), shutdown.clone()));
        Server { address, stub, s3, logs, access, dir, shutdown, task }
    }

    pub fn call<'a>(&'a self, method: &'a str, path: &'a str) -> Call<'a> {
        Call {
            address: self.address,
            host: None,
            method,
            path,
            query: "",
            body: b"",
            service: "lambda",
            region: "us-east-1",
            key: KEY,
            secret: SECRET,
            token: None,
            skew: 0,
            headers: Vec::new(),
        }
    }

    /// Sends a typed request.
    pub async fn send<I: api::Input>(&self, input: &I) -> Answer {
        let Encoded { operation, path, query, body } = api::request::encode(input).unwrap();
        self.call(operation.route().method, &path).query(&query).body(&body).send().await
    }
}

/// Keys that take over [`KEY`] from the file of an older hearth.
async fn access_keys(dir: &Path) -> (Store, Arc<AccessKeys>) {
    let file = serde_json::json!({"access_key_id": KEY, "secret_access_key": SECRET, "account": ACCOUNT}).to_string();
    let path = dir.join("credentials.json");
    std::fs::write(&path, file).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let store = Store::open(&dir.join("hearth.db")).await.unwrap();
    let keys = AccessKeys::load(store.clone(), dir, ACCOUNT.parse().unwrap(), "aws").await.unwrap();
    (store, keys)
}

#[derive(Clone)]
pub struct Call<'a> {
    address: SocketAddr,
    host: Option<String>,
    method: &'a str,
    path: &'a str,
    query: &'a str,
    body: &'a [u8],
    service: &'a str,
    region: &'a str,
    key: &'a str,
    secret: &'a str,
    token: Option<&'a str>,
    skew: i64,
    headers: Vec<(String, String)>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn error_type(&self) -> &str {
        self.headers.get("x-amzn-errortype").map_or("", |value| value.to_str().unwrap())
    }

    pub fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }
}

impl<'a> Call<'a> {
    pub fn query(self, query: &'a str) -> Self {
        Call { query, ..self }
    }

    pub fn body(self, body: &'a [u8]) -> Self {
        Call { body, ..self }
    }

    pub fn service(self, service: &'a str) -> Self {
        Call { service, ..self }
    }

    pub fn region(self, region: &'a str) -> Self {
        Call { region, ..self }
    }

    pub fn key(self, key: &'a str, secret: &'a str) -> Self {
        Call { key, secret, ..self }
    }

    pub fn token(self, token: &'a str) -> Self {
        Call { token: Some(token), ..self }
    }

    pub fn skew(self, skew: i64) -> Self {
        Call { skew, ..self }
    }

    pub fn host(self, host: String) -> Self {
        Call { host: Some(host), ..self }
    }

    /// Sends another body than the one that was signed.
    pub async fn send_swapped(self, body: &'a [u8]) -> Answer {
        let host = self.address.to_string();
        let signed = self.signed("http", &host);
        let headers =
            signed.headers().iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        let headers = headers.collect();
        self.body(body).send_with(headers).await
    }

    /// A header that is not signed.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub async fn send(self) -> Answer {
        let secret = Sensitive::new(self.secret.to_owned());
        let signer = Signer {
            access_key_id: self.key,
            secret: &secret,
            session_token: self.token,
            region: self.region,
            service: self.service,
        };
        let host = self.host.clone().unwrap_or_else(|| self.address.to_string());
        let (method, path, query, body) = (self.method, self.path, self.query, self.body);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64 + self.skew;
        let headers = signer.sign(&Unsigned { method, host: &host, path, query, body }, now);
        self.send_with(headers).await
    }

    pub async fn send_unsigned(self) -> Answer {
        self.send_with(Vec::new()).await
    }

    /// The request with its signature, for another transport.
    pub fn signed(&self, scheme: &str, host: &str) -> Request<Full<Bytes>> {
        let secret = Sensitive::new(self.secret.to_owned());
        let (region, service) = (self.region, self.service);
        let signer = Signer { access_key_id: self.key, secret: &secret, session_token: None, region, service };
        let (method, path, query, body) = (self.method, self.path, self.query, self.body);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
        let mut request = Request::builder().method(method).uri(format!("{scheme}://{host}{path}"));
        for (name, value) in signer.sign(&Unsigned { method, host, path, query, body }, now) {
            request = request.header(name, value);
        }
        request.body(Full::new(Bytes::copy_from_slice(body))).unwrap()
    }

    async fn send_with(self, headers: Vec<(String, String)>) -> Answer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let query = if self.query.is_empty() { String::new() } else { format!("?{}", self.query) };
        let mut request = Request::builder().method(self.method).uri(format!("{}{query}", self.path));
        request = request.header("host", self.host.unwrap_or_else(|| self.address.to_string()));
        for (name, value) in headers.iter().chain(&self.headers) {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(self.body))).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        drop(sender);
        connection.abort();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }
}
