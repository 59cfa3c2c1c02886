//! The local certificate authority, made on first start, and the bundle that clients trust.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};

use crate::files::{self, FileError};

const DAY: Duration = Duration::from_secs(24 * 3600);
const CA_LIFETIME: Duration = Duration::from_secs(3650 * 24 * 3600);
/// Browsers and Apple's libraries refuse server certificates of more than 398 days.
const SERVER_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// Where the distributions keep the CAs that a host trusts.
const HOST_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why the local CA cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file.
    #[error("certificate authority: {0}")]
    File(#[from] FileError),
    /// Certificate and key do not make one CA.
    #[error("certificate authority: {reason} in {dir}; move ca.pem and ca.key away to get a new one", dir = dir.display())]
    Content {
        /// What is wrong.
        reason: &'static str,
        /// The directory.
        dir: PathBuf,
    },
    /// The host's CAs are no PEM certificates.
    #[error("{} holds no PEM certificates; name the host's CA bundle", .0.display())]
    HostBundle(PathBuf),
    /// A certificate could not be made, for instance for a name that is no host name.
    #[error("cannot issue a certificate for {names}: {source}")]
    Issue {
        /// For what.
        names: String,
        /// Why not.
        source: rcgen::Error,
    },
}

/// A server certificate with its key, good until `expires`.
pub struct Issued {
    /// The certificate, then the CA's.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
    /// End of its validity.
    pub expires: SystemTime,
}

/// hearth's own certificate authority.
pub struct LocalCa {
    path: PathBuf,
    pem: String,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for LocalCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCa").field("path", &self.path).field("key", &"[redacted]").finish()
    }
}

impl LocalCa {
    /// Reads `dir/ca.pem` and `dir/ca.key` (mode 0600), or makes both (ten years, ECDSA P-256) where neither is there. The
    /// directory is created when missing. Blocks on small files: call it at start.
    pub fn load_or_create(dir: &Path) -> Result<Self, CaError> {
        let content = |reason| CaError::Content { reason, dir: dir.to_owned() };
        fs::create_dir_all(dir).map_err(FileError::io("create", dir))?;
        let (path, key_path) = (dir.join("ca.pem"), dir.join("ca.key"));
        let key = match files::read_private(&key_path)? {
            Some(pem) => KeyPair::from_pem(&pem).map_err(|_| content("ca.key is not a private key"))?,
            None if path.exists() => return Err(content("ca.pem is there but ca.key is not")),
            None => {
                let key = KeyPair::generate().map_err(issue_error("the local CA"))?;
                files::write_whole(&key_path, key.serialize_pem().as_bytes(), 0o600)?;
                key
            }
        };
        let params = ca_params(&key, SystemTime::now());
        // A key without its certificate is what a power cut during the first start leaves: the certificate is made again.
        if !path.exists() {
            let certificate = params.self_signed(&key).map_err(issue_error("the local CA"))?;
            files::write_whole(&path, certificate.pem().as_bytes(), 0o644)?;
            tracing::info!(path = %path.display(), "certificate authority created");
        }
        let pem = fs::read_to_string(&path).map_err(FileError::io("read", &path))?;
        let certificate =
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| content("ca.pem is not a certificate"))?;
        let belongs = |part: &[u8]| certificate.windows(part.len()).any(|window| window == part);
        if !belongs(key.public_key_raw()) || !belongs(ca_name(&key).as_bytes()) {
            return Err(content("ca.pem is not the certificate of ca.key"));
        }
        Ok(LocalCa { path, pem, certificate, issuer: Issuer::new(params, key) })
    }

    /// Where the CA's certificate lies, for people and their browsers.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The CA's certificate.
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    /// Issues a server certificate for these DNS names (a wildcard as `*.example.test`), good for a year from now.
    pub fn issue(&self, names: &[String]) -> Result<Issued, CaError> {
        let listed = names.join(", ");
        let error = || issue_error(&listed);
        let now = SystemTime::now();
        let key = KeyPair::generate().map_err(error())?;
        let mut params = CertificateParams::new(names).map_err(error())?;
        params.distinguished_name = distinguished_name("hearth endpoints");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let expires = validity(&mut params, now, SERVER_LIFETIME);
        let certificate = params.signed_by(&key, &self.issuer).map_err(error())?;
        Ok(Issued {
            chain: vec![certificate.der().clone(), self.certificate.clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            expires,
        })
    }

    /// Writes one PEM bundle of the host's CAs and hearth's own to `out`, for `SSL_CERT_FILE` and its kin.
    ///
    /// `host` is the operator's choice and must be readable; without it (or when it is an earlier `out`, as it is for a
    /// server started from `hearth env`) the distribution's bundle is taken, and a host that has none is no error.
    pub fn bundle(&self, host: Option<&Path>, out: &Path) -> Result<(), CaError> {
        let chosen = host.filter(|host| !same_file(host, out));
        let found = || HOST_BUNDLES.iter().map(Path::new).find(|path| path.exists() && !same_file(path, out));
        let mut bundle = String::new();
        if let Some(host) = chosen.or_else(found) {
            let bytes = fs::read(host).map_err(FileError::io("read", host))?;
            // Comments of a bundle may be in any encoding; what counts is ASCII.
            bundle.push_str(&String::from_utf8_lossy(&bytes));
            if !bundle.contains("-----BEGIN CERTIFICATE-----") {
                return Err(CaError::HostBundle(host.to_owned()));
            }
            bundle.push('\n');
        }
        bundle.push_str(&self.pem);
        // Nothing to do is done even on a full disk: a restart must serve what runs.
        if fs::read(out).is_ok_and(|present| present == bundle.as_bytes()) {
            return Ok(());
        }
        Ok(files::write_whole(out, bundle.as_bytes(), 0o644)?)
    }
}

fn same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

fn issue_error(names: &str) -> impl FnOnce(rcgen::Error) -> CaError {
    move |source| CaError::Issue { names: names.to_owned(), source }
}

/// The CA's own certificate. Name and key identifier are functions of the key, so that the issuer can be built again
/// from the key alone; the part of the key in the name tells the CAs of several installations apart.
fn ca_params(key: &KeyPair, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(&ca_name(key));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    validity(&mut params, now, CA_LIFETIME);
    params
}

fn ca_name(key: &KeyPair) -> String {
    let identifier = CertificateParams::default().key_identifier(key);
    let short: String = identifier.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("hearth local CA {short}")
}

fn distinguished_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "hearth");
    name.push(DnType::CommonName, common_name);
    name
}

/// From a day before `now`, for clocks that are behind, to `lifetime` after it.
fn validity(params: &mut CertificateParams, now: SystemTime, lifetime: Duration) -> SystemTime {
    let at = |time: SystemTime| {
        date_time_ymd(1970, 1, 1) + time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO)
    };
    params.not_before = at(now - DAY);
    params.not_after = at(now + lifetime);
    now + lifetime
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, process::Command};

    use super::*;

    fn names() -> Vec<String> {
        vec!["*.lambda-microvm.us-east-1.localhost".to_owned(), "localhost".to_owned()]
    }

    #[test]
    fn made_once_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("tls");
        let first = LocalCa::load_or_create(&data).unwrap();
        let again = LocalCa::load_or_create(&data).unwrap();
        assert_eq!(first.certificate, again.certificate);
        assert_eq!(fs::metadata(data.join("ca.key")).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!format!("{first:?}").contains("BEGIN"));
    }

    #[test]
    fn mixed_up_files_are_refused() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        LocalCa::load_or_create(one.path()).unwrap();
        LocalCa::load_or_create(two.path()).unwrap();
        fs::copy(two.path().join("ca.pem"), one.path().join("ca.pem")).unwrap();
        assert!(LocalCa::load_or_create(one.path()).unwrap_err().to_string().contains("not the certificate of"));
        fs::remove_file(one.path().join("ca.key")).unwrap();
        assert!(LocalCa::load_or_create(one.path()).unwrap_err().to_string().contains("ca.key is not"));
        // A first start cut short after the key.
        fs::remove_file(two.path().join("ca.pem")).unwrap();
        LocalCa::load_or_create(two.path()).unwrap();
    }

    #[test]
    fn bad_names_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let ca = LocalCa::load_or_create(dir.path()).unwrap();
        assert!(ca.issue(&["ü".to_owned()]).err().unwrap().to_string().contains('ü'));
    }

    #[test]
    fn bundle_holds_both_and_does_not_grow() {
        let dir = tempfile::tempdir().unwrap();
        let ca = LocalCa::load_or_create(&dir.path().join("tls")).unwrap();
        let other = LocalCa::load_or_create(&dir.path().join("host")).unwrap();
        let out = dir.path().join("bundle.pem");
        ca.bundle(Some(other.path()), &out).unwrap();
        let text = fs::read_to_string(&out).unwrap();
        assert!(text.contains(ca.pem.trim()) && text.contains(other.pem.trim()));
        ca.bundle(Some(&out), &out).unwrap();
        let text = fs::read_to_string(&out).unwrap();
        assert_eq!(text.matches(ca.pem.trim()).count(), 1, "an earlier bundle is not taken for the host's");
        assert!(ca.bundle(Some(Path::new("/no/such")), &out).unwrap_err().to_string().contains("/no/such"));
        let empty = dir.path().join("empty");
        fs::write(&empty, "").unwrap();
        assert!(matches!(ca.bundle(Some(&empty), &out), Err(CaError::HostBundle(_))));
    }

    /// OpenSSL is what curl, Python and the AWS CLI check with; skipped where it is not installed.
    #[test]
    fn openssl_accepts_the_chain_strictly() {
        let dir = tempfile::tempdir().unwrap();
        let ca = LocalCa::load_or_create(dir.path()).unwrap();
        let issued = ca.issue(&names()).unwrap();
        let leaf = dir.path().join("leaf.der");
        fs::write(&leaf, &issued.chain[0]).unwrap();
        let verify = Command::new("openssl")
            .args(["verify", "-x509_strict", "-purpose", "sslserver"])
            .args(["-verify_hostname", "abc.lambda-microvm.us-east-1.localhost"])
            .arg("-CAfile")
            .arg(ca.path())
            .arg(&leaf)
            .output();
        let Ok(verify) = verify else { return };
        assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stderr));
    }
}
