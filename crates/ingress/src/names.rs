//! Certificates of custom host names, chosen by the server name of the TLS handshake.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use rustls::{
    CertificateError, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier, verify_server_name},
    crypto::{CryptoProvider, aws_lc_rs},
    server::ParsedCertificate,
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};

use crate::ca::{CaError, LocalCa};

/// An own certificate is replaced when it has less than this left.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Why a certificate and its key are no good for a name. Never says what is in the key.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// No certificates in PEM.
    #[error("the certificate is no PEM chain: {0}")]
    Chain(String),
    /// No key in PEM.
    #[error("the key is no PEM private key: PKCS#8, SEC1 or PKCS#1")]
    Key,
    /// They do not belong together.
    #[error("certificate and key do not belong together: {0}")]
    Pair(rustls::Error),
    /// It is another host's.
    #[error("the certificate is not for {0}")]
    Host(String),
    /// Its time is over or has not come.
    #[error("the certificate has expired or is not valid yet")]
    Time,
    /// It is not one for servers.
    #[error("the certificate cannot be a server's: {0}")]
    Kind(String),
    /// There is no way to check it.
    #[error("certificates cannot be checked: {0}")]
    Checker(String),
}

/// A certificate with its key that was found good for a name.
#[derive(Clone)]
pub struct Checked(Arc<CertifiedKey>);

impl fmt::Debug for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Checked([redacted])")
    }
}

/// The certificates of all names.
pub struct Certificates {
    ca: Arc<LocalCa>,
    provider: Arc<CryptoProvider>,
    names: RwLock<HashMap<String, Arc<Entry>>>,
}

enum Entry {
    /// The owner's.
    Given(Checked),
    /// hearth's own, made when it is first asked for.
    Own(Mutex<Option<(Arc<CertifiedKey>, SystemTime)>>),
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}

impl Certificates {
    /// None yet.
    pub fn new(ca: Arc<LocalCa>) -> Self {
        Certificates { ca, provider: Arc::new(aws_lc_rs::default_provider()), names: RwLock::default() }
    }

    /// Looks at a chain, the server's certificate first, and its key, both in PEM. Who issued it is not asked: clients do.
    pub fn check(&self, host: &str, chain: &str, key: &str) -> Result<Checked, NameError> {
        let checked = self.restore(chain, key)?;
        let (first, others) = checked.0.cert.split_first().ok_or_else(no_chain)?;
        let wrong_host = || NameError::Host(host.to_owned());
        let name = ServerName::try_from(host).map_err(|_| wrong_host())?;
        let parsed = ParsedCertificate::try_from(first).map_err(|error| NameError::Chain(error.to_string()))?;
        verify_server_name(&parsed, &name).map_err(|_| wrong_host())?;
        self.in_time(first, others, &name)?;
        Ok(checked)
    }

    /// The same of what has been checked before: its time may be over meanwhile, which is for clients to mind.
    pub fn restore(&self, chain: &str, key: &str) -> Result<Checked, NameError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| NameError::Chain(error.to_string()))?;
        if chain.is_empty() {
            return Err(no_chain());
        }
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| NameError::Key)?;
        let pair = CertifiedKey::from_der(chain, key, &self.provider).map_err(NameError::Pair)?;
        Ok(Checked(Arc::new(pair)))
    }

    /// What a client finds wrong with it before it asks for its issuer.
    fn in_time(
        &self,
        first: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
    ) -> Result<(), NameError> {
        let checker = |error: &dyn fmt::Display| NameError::Checker(error.to_string());
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.certificate()).map_err(|error| checker(&error))?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone()).build();
        let verifier = verifier.map_err(|error| checker(&error))?;
        use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext, UnknownIssuer};
        match verifier.verify_server_cert(first, others, name, &[], UnixTime::now()) {
            Ok(_) | Err(rustls::Error::InvalidCertificate(UnknownIssuer)) => Ok(()),
            Err(rustls::Error::InvalidCertificate(
                Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. },
            )) => Err(NameError::Time),
            Err(error) => Err(NameError::Kind(error.to_string())),
        }
    }

    /// Uses the owner's for that name from now on, or hearth's own.
    pub fn put(&self, host: &str, given: Option<Checked>) {
        let entry = given.map_or_else(|| Entry::Own(Mutex::default()), Entry::Given);
        self.names.write().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned(), Arc::new(entry));
    }

    /// Forgets the name.
    pub fn remove(&self, host: &str) {
        self.names.write().unwrap_or_else(PoisonError::into_inner).remove(host);
    }

    /// The certificate for a server name, if it is one of these names.
    pub(crate) fn find(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        let host = host.to_ascii_lowercase();
        let entry = self.names.read().unwrap_or_else(PoisonError::into_inner).get(&host).cloned()?;
        match &*entry {
            Entry::Given(Checked(pair)) => Some(pair.clone()),
            Entry::Own(made) => {
                let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
                if made.as_ref().is_none_or(|(_, expires)| SystemTime::now() + RENEW_BEFORE > *expires) {
                    match self.issue(&host) {
                        Ok(new) => *made = Some(new),
                        Err(error) => tracing::warn!(host, error, "no certificate for a custom host name"),
                    }
                }
                made.as_ref().map(|(pair, _)| pair.clone())
            }
        }
    }

    fn issue(&self, host: &str) -> Result<(Arc<CertifiedKey>, SystemTime), String> {
        let issued = self.ca.issue(&[host.to_owned()]).map_err(|error: CaError| error.to_string())?;
        let pair = CertifiedKey::from_der(issued.chain, issued.key, &self.provider);
        Ok((Arc::new(pair.map_err(|error| error.to_string())?), issued.expires))
    }
}

fn no_chain() -> NameError {
    NameError::Chain("it holds no certificate".to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn made(names: &[&str], from: i32, to: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn certificates() -> (Certificates, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (Certificates::new(Arc::new(LocalCa::load_or_create(dir.path()).unwrap())), dir)
    }

    #[test]
    fn what_is_no_good_is_said() {
        let (certificates, _dir) = certificates();
        let (chain, key) = made(&["app.test", "*.wild.test"], 2020, 2090);
        let (_, other_key) = made(&["app.test"], 2020, 2090);
        let said = |host: &str, chain: &str, key: &str| certificates.check(host, chain, key).map_err(|e| e.to_string());
        assert!(said("app.test", &chain, &key).is_ok() && said("a.wild.test", &chain, &key).is_ok());
        let over = made(&["app.test"], 2020, 2021);
        let early = made(&["app.test"], 2080, 2090);
        let two = made(&["app.test"], 2020, 2090);
        for (host, chain, key, words) in [
            ("other.test", &chain[..], &key[..], "the certificate is not for other.test"),
            ("a.b.wild.test", &chain, &key, "not for a.b.wild.test"),
            ("app.test", &chain, &other_key, "do not belong together"),
            ("app.test", &over.0, &over.1, "has expired or is not valid yet"),
            ("app.test", &early.0, &early.1, "has expired or is not valid yet"),
            ("app.test", "nonsense", &key, "no PEM chain: it holds no certificate"),
            ("app.test", &key, &key, "no PEM chain"),
            ("app.test", &two.0, "nonsense", "no PEM private key"),
        ] {
            let error = said(host, chain, key).unwrap_err();
            assert!(error.contains(words), "{host}: {error}");
        }
    }

    #[test]
    fn given_own_and_none() {
        let (certificates, _dir) = certificates();
        assert!(certificates.find("app.test").is_none());
        certificates.put("app.test", None);
        let own = certificates.find("APP.test").unwrap();
        assert_eq!(own.cert, certificates.find("app.test").unwrap().cert, "made once");
        let (chain, key) = made(&["app.test"], 2020, 2090);
        certificates.put("app.test", Some(certificates.check("app.test", &chain, &key).unwrap()));
        let given = certificates.find("app.test").unwrap();
        assert_ne!(own.cert, given.cert);
        assert_eq!(given.cert[..], [CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()]);
        certificates.remove("app.test");
        assert!(certificates.find("app.test").is_none());
    }
}
