//! The TLS side of the listener: which certificate, renewed without a restart.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::{
    ca::{CaError, Issued, LocalCa},
    names::Certificates,
};

/// How long a certificate is used before the source is looked at again.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// An own certificate is replaced when it has less than this left.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Where the endpoints' certificate comes from.
#[derive(Debug, Clone)]
pub enum TlsSettings {
    /// Issued by hearth's own CA for these names, in memory only: made at start, renewed in time.
    Local {
        /// The CA.
        ca: Arc<LocalCa>,
        /// DNS names, wildcards included.
        names: Vec<String>,
    },
    /// The operator's PEM files; replaced files are picked up within seconds, and kept out while they do not fit together.
    Files {
        /// Certificate chain, the server's first.
        certificate: PathBuf,
        /// Its private key: PKCS#8, SEC1 or PKCS#1.
        key: PathBuf,
    },
}

/// Why there is no certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The local CA.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// A file of the operator.
    #[error("cannot use {} as {what}: {reason}", path.display())]
    File {
        /// `certificate` or `key`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// rustls refuses the pair.
    #[error("certificate and key do not work together: {0}")]
    Pair(rustls::Error),
    /// rustls refuses the settings.
    #[error("tls settings: {0}")]
    Settings(rustls::Error),
}

impl TlsSettings {
    /// Settings for [`Ingress`](crate::Ingress): TLS 1.2 and 1.3, HTTP/2 preferred over HTTP/1.1 (spec 6.1). Gets the first
    /// certificate at once, so that a wrong one is an error at start.
    pub fn server_config(self) -> Result<Arc<ServerConfig>, TlsError> {
        self.server_config_with(None)
    }

    /// The same, with certificates of their own for custom host names.
    pub fn server_config_with(self, named: Option<Arc<Certificates>>) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let resolver = Resolver { named, ..Resolver::new(self, provider.clone())? };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Settings)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// What tells whether the source has something newer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stamp {
    Expires(SystemTime),
    Modified(Option<SystemTime>, Option<SystemTime>),
}

struct Current {
    key: Arc<CertifiedKey>,
    stamp: Stamp,
    looked: Instant,
}

struct Resolver {
    settings: TlsSettings,
    provider: Arc<CryptoProvider>,
    current: Mutex<Current>,
    named: Option<Arc<Certificates>>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = self.named.as_ref().zip(hello.server_name()).and_then(|(named, host)| named.find(host));
        named.or_else(|| Some(self.current_key(Instant::now())))
    }
}

impl Resolver {
    fn new(settings: TlsSettings, provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let (key, stamp) = load(&settings, &provider)?;
        let current = Mutex::new(Current { key: Arc::new(key), stamp, looked: Instant::now() });
        Ok(Resolver { settings, provider, current, named: None })
    }

    /// The certificate to use now. Looks at the source at most every ten seconds; two `stat` calls are all that costs.
    fn current_key(&self, now: Instant) -> Arc<CertifiedKey> {
        let mut current = self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if now.saturating_duration_since(current.looked) < LOOK_AGAIN_AFTER {
            return current.key.clone();
        }
        current.looked = now;
        if stale(&self.settings, current.stamp) {
            match load(&self.settings, &self.provider) {
                Ok((key, stamp)) => {
                    (current.key, current.stamp) = (Arc::new(key), stamp);
                    tracing::info!("endpoint certificate renewed");
                }
                Err(error) => tracing::warn!(%error, "endpoint certificate not renewed, the old one stays"),
            }
        }
        current.key.clone()
    }
}

fn stale(settings: &TlsSettings, stamp: Stamp) -> bool {
    match (settings, stamp) {
        (TlsSettings::Local { .. }, Stamp::Expires(expires)) => SystemTime::now() + RENEW_BEFORE > expires,
        _ => modified(settings) != stamp,
    }
}

fn modified(settings: &TlsSettings) -> Stamp {
    let time = |path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    match settings {
        TlsSettings::Files { certificate, key } => Stamp::Modified(time(certificate), time(key)),
        TlsSettings::Local { .. } => Stamp::Modified(None, None),
    }
}

fn load(settings: &TlsSettings, provider: &CryptoProvider) -> Result<(CertifiedKey, Stamp), TlsError> {
    let (chain, key, stamp) = match settings {
        TlsSettings::Local { ca, names } => {
            let Issued { chain, key, expires } = ca.issue(names)?;
            (chain, key, Stamp::Expires(expires))
        }
        TlsSettings::Files { certificate, key } => {
            // Taken first: what is written while we read is seen as newer the next time.
            let stamp = modified(settings);
            let file = |what, path: &PathBuf| {
                let path = path.clone();
                move |error: rustls_pki_types::pem::Error| TlsError::File { what, path, reason: error.to_string() }
            };
            let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
                .and_then(Iterator::collect)
                .map_err(file("certificate", certificate))?;
            if chain.is_empty() {
                return Err(file("certificate", certificate)(rustls_pki_types::pem::Error::NoItemsFound));
            }
            (chain, PrivateKeyDer::from_pem_file(key).map_err(file("key", key))?, stamp)
        }
    };
    Ok((CertifiedKey::from_der(chain, key, provider).map_err(TlsError::Pair)?, stamp))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{fs, path::Path};

    use rcgen::generate_simple_self_signed;

    use super::*;

    fn write_pair(dir: &Path, name: &str, modified: SystemTime) -> TlsSettings {
        let made = generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let settings = TlsSettings::Files { certificate: dir.join("cert.pem"), key: dir.join("key.pem") };
        for (file, text) in [("cert.pem", made.cert.pem()), ("key.pem", made.signing_key.serialize_pem())] {
            fs::write(dir.join(file), text).unwrap();
            fs::File::options().write(true).open(dir.join(file)).unwrap().set_modified(modified).unwrap();
        }
        settings
    }

    fn resolver(settings: TlsSettings) -> Result<Resolver, TlsError> {
        Resolver::new(settings, Arc::new(aws_lc_rs::default_provider()))
    }

    #[test]
    fn replaced_files_are_picked_up_and_broken_ones_kept_out() {
        let dir = tempfile::tempdir().unwrap();
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let resolver = resolver(write_pair(dir.path(), "one.test", start)).unwrap();
        let now = Instant::now();
        let first = resolver.current_key(now);
        write_pair(dir.path(), "two.test", start + Duration::from_secs(1));
        assert_eq!(resolver.current_key(now).cert, first.cert, "not looked at again yet");
        let second = resolver.current_key(now + LOOK_AGAIN_AFTER * 2);
        assert_ne!(second.cert, first.cert);
        fs::write(dir.path().join("key.pem"), "half a k").unwrap();
        assert_eq!(resolver.current_key(now + LOOK_AGAIN_AFTER * 4).cert, second.cert);
    }

    #[test]
    fn own_certificates_are_renewed_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Arc::new(LocalCa::load_or_create(dir.path()).unwrap());
        let resolver = resolver(TlsSettings::Local { ca, names: vec!["*.x.test".to_owned()] }).unwrap();
        let (now, first) = (Instant::now(), resolver.current_key(Instant::now()));
        assert_eq!(resolver.current_key(now + LOOK_AGAIN_AFTER * 2).cert, first.cert);
        resolver.current.lock().unwrap().stamp = Stamp::Expires(SystemTime::now() + RENEW_BEFORE / 2);
        assert_ne!(resolver.current_key(now + LOOK_AGAIN_AFTER * 4).cert, first.cert);
    }

    #[test]
    fn errors_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let settings = write_pair(dir.path(), "one.test", SystemTime::now());
        fs::remove_file(dir.path().join("key.pem")).unwrap();
        assert!(resolver(settings.clone()).err().unwrap().to_string().contains("key.pem"));
        fs::write(dir.path().join("cert.pem"), "").unwrap();
        assert!(resolver(settings).err().unwrap().to_string().contains("cert.pem"));
        // A key of another certificate.
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let settings = write_pair(one.path(), "one.test", SystemTime::now());
        write_pair(two.path(), "one.test", SystemTime::now());
        fs::copy(two.path().join("key.pem"), one.path().join("key.pem")).unwrap();
        assert!(matches!(resolver(settings), Err(TlsError::Pair(_))));
    }
}
