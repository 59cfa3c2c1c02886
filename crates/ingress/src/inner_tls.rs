//! TLS towards an application that wants it, inside the microVM's own channel (spec 6.4). Its certificate is not judged: the
//! connection ends at the guest's loopback, and what is there is the application by definition.

use std::{
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{HeaderValue, uri::Authority};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{error::Elapsed, timeout},
};
use tokio_rustls::TlsConnector;

use crate::{Stream, share::Speech};

/// For a handshake in the guest; it may be emulated, and busy.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// What an HTTP/2 client says first (RFC 9113 section 3.4), and an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Type of a TLS record that carries an alert (RFC 8446 section 5.1).
const ALERT: u8 = 21;

/// What is to be spoken inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alpn {
    /// Whatever the server likes: only the handshake counts.
    Any,
    Http1,
    Http2,
}

/// Shakes hands. `host` is the name that the server is asked for.
pub(crate) async fn open(stream: Box<dyn Stream>, host: &HeaderValue, alpn: Alpn) -> io::Result<Box<dyn Stream>> {
    let mut config = settings();
    config.alpn_protocols = match alpn {
        Alpn::Any => Vec::new(),
        Alpn::Http1 => vec![b"http/1.1".to_vec()],
        Alpn::Http2 => vec![b"h2".to_vec()],
    };
    let name =
        Authority::try_from(host.as_bytes()).ok().and_then(|host| ServerName::try_from(host.host().to_owned()).ok());
    let name = name.unwrap_or_else(|| ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()));
    let opened = timeout(HANDSHAKE, TlsConnector::from(Arc::new(config)).connect(name, stream)).await;
    Ok(Box::new(opened.map_err(|_| io::ErrorKind::TimedOut)??))
}

/// What the first byte tells that comes back for an HTTP/2 preface; nothing when it is of neither.
///
/// # Errors
/// None came in time.
pub(crate) async fn answer_to_preface(
    mut stream: Box<dyn Stream>,
    within: Duration,
) -> Result<Option<Speech>, Elapsed> {
    let first = timeout(within, async {
        stream.write_all(PREFACE).await?;
        stream.flush().await?;
        stream.read_u8().await
    });
    Ok(match first.await? {
        Ok(ALERT) => Some(Speech::Tls),
        // The length of a SETTINGS frame, which must be below 2^16.
        Ok(0) => Some(Speech::Clear),
        _ => None,
    })
}

fn settings() -> ClientConfig {
    static SETTINGS: OnceLock<ClientConfig> = OnceLock::new();
    let make = || {
        let provider = Arc::new(aws_lc_rs::default_provider());
        ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("the provider has the cipher suites of the default versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            .with_no_client_auth()
    };
    SETTINGS.get_or_init(make).clone()
}

/// Takes every certificate whose key the server has.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
