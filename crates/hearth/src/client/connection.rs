//! One HTTP/1.1 connection, plain or TLS.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_rustls::TlsConnector;

/// Longest wait for a connection with its TLS handshake.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Trust in the certificates of a bundle. Reading some 150 of them takes milliseconds, so the last bundle is kept.
pub fn trust(bundle: &Path) -> Result<Arc<ClientConfig>> {
    static LAST: Mutex<Option<(PathBuf, Arc<ClientConfig>)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((path, config)) = last.as_ref().filter(|(path, _)| path == bundle) {
        let _ = path;
        return Ok(config.clone());
    }
    let config = read_trust(bundle)?;
    *last = Some((bundle.to_owned(), config.clone()));
    Ok(config)
}

fn read_trust(bundle: &Path) -> Result<Arc<ClientConfig>> {
    let shown = bundle.display();
    let certificates = CertificateDer::pem_file_iter(bundle).with_context(|| format!("read {shown}"))?;
    let mut roots = RootCertStore::empty();
    // Host bundles may hold certificates that rustls does not take; those are of no use here anyway.
    roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    if roots.is_empty() {
        bail!("{shown} holds no certificate");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(Arc::new(builder.context("set up TLS")?.with_root_certificates(roots).with_no_client_auth()))
}

/// An open connection. Dropping it closes it, even under an answer that is still being read.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    /// Connects to `host:port`; with `tls`, verifies the certificate for the name given with it.
    pub async fn open(host: &str, port: u16, tls: Option<(Arc<ClientConfig>, String)>) -> Result<Self> {
        let connecting = async {
            let stream = TcpStream::connect((host, port)).await.with_context(|| format!("connect to {host}:{port}"))?;
            stream.set_nodelay(true).context("set TCP_NODELAY")?;
            let Some((config, name)) = tls else { return Self::over(stream).await };
            let shown = name.clone();
            let name = ServerName::try_from(name).with_context(|| format!("{shown:?} is no host name"))?;
            let stream = TlsConnector::from(config).connect(name, stream).await;
            Self::over(stream.with_context(|| format!("TLS with {shown} at {host}:{port}"))?).await
        };
        let limited = tokio::time::timeout(CONNECT_LIMIT, connecting).await;
        limited.with_context(|| format!("no connection to {host}:{port} in {} s", CONNECT_LIMIT.as_secs()))?
    }

    async fn over<S>(stream: S) -> Result<Self>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.context("HTTP handshake")?;
        // An error of the connection also reaches whoever waits for the answer.
        let driver = tokio::spawn(async move { drop(connection.with_upgrades().await) });
        Ok(Connection { sender, driver })
    }

    /// Sends a request and waits for the head of its answer, without bound.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        self.sender.ready().await.context("the connection was closed")?;
        self.sender.send_request(request).await.context("no answer")
    }
}
