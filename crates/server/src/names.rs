//! Custom host names: which there are, where they lead, and the files of their certificates.
//!
//! `names/<uuid>/{certificate.pem,key.pem}` is written before the record that names it, and removed after. What no record names
//! is removed at the next start.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use api::{AccountId, MicrovmId, Sensitive};
use ingress::{Certificates, FileError, NameError, files};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::store::{NameRecord, Put, Store, StoreError};

/// Longest host name, characters (RFC 1035).
const HOST_MAX: usize = 253;
/// Longest label of one.
const LABEL_MAX: usize = 63;

const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

/// Why a name is not put.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// It cannot be a host's.
    #[error("host is {0:?}, must be a DNS name of letters, digits, hyphens and dots")]
    NoHost(String),
    /// It is hearth's.
    #[error("{0} is a name of this server's own; choose one outside of its domains")]
    Own(String),
    /// Somebody else has it.
    #[error("{0} is not available")]
    Taken(String),
    /// The bound.
    #[error("an account may have {} host names; remove one first", crate::store::NAMES)]
    Full,
    /// Its certificate.
    #[error(transparent)]
    Certificate(#[from] NameError),
    /// On our side.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// On our side.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A certificate chain and its key, in PEM, as somebody gave them.
#[derive(Debug)]
pub struct Given {
    /// The chain.
    pub certificate: String,
    /// The key.
    pub key: Sensitive<String>,
}

/// All names of a server.
pub struct Names {
    dir: PathBuf,
    store: Store,
    certificates: Arc<Certificates>,
    /// Names below these, and they themselves, are hearth's.
    domains: Vec<String>,
    api_name: String,
    hosts: RwLock<BTreeMap<String, Arc<NameRecord>>>,
    /// One change at a time, so that memory has what the store has.
    writer: Mutex<()>,
}

impl Names {
    /// Takes up every name of the store.
    pub async fn load(
        dir: PathBuf,
        store: Store,
        certificates: Arc<Certificates>,
        domains: Vec<String>,
        api_name: String,
    ) -> Result<Arc<Self>, StoreError> {
        let records = store.names().await?;
        let names =
            Names { dir, store, certificates, domains, api_name, hosts: RwLock::default(), writer: Mutex::default() };
        let known: HashSet<String> =
            records.iter().filter_map(|record| Some(record.certificate?.to_string())).collect();
        names.tidy(&known);
        for record in records {
            let given = record.certificate.map(|id| names.read(&record.host, id));
            // A name with hearth's certificate is better than none.
            let given = given.transpose().inspect_err(|error| {
                tracing::error!(host = record.host, %error, "the certificate of a host name cannot be used");
            });
            names.certificates.put(&record.host, given.unwrap_or_default());
            names.hosts_mut().insert(record.host.clone(), Arc::new(record));
        }
        Ok(Arc::new(names))
    }

    /// Removes what a change that was cut short left behind.
    fn tidy(&self, known: &HashSet<String>) {
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if !known.contains(&*entry.file_name().to_string_lossy()) {
                let removed = std::fs::remove_dir_all(entry.path());
                tracing::info!(path = %entry.path().display(), ?removed, "files of no host name");
            }
        }
    }

    fn read(&self, host: &str, id: Uuid) -> Result<ingress::Checked, String> {
        let dir = self.dir.join(id.to_string());
        let text = |name: &str| std::fs::read_to_string(dir.join(name)).map_err(|error| format!("{name}: {error}"));
        let (chain, key) = (text(CERTIFICATE)?, text(KEY)?);
        self.certificates.restore(&chain, &key).map_err(|error| format!("{host}: {error}"))
    }

    /// Where a host leads.
    pub fn find(&self, host: &str) -> Option<Arc<NameRecord>> {
        self.hosts.read().unwrap_or_else(PoisonError::into_inner).get(host).cloned()
    }

    /// The names of an account, sorted.
    pub fn of(&self, account: &AccountId) -> Vec<Arc<NameRecord>> {
        let hosts = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        hosts.values().filter(|record| record.account == *account).cloned().collect()
    }

    /// Leads a name to a microVM from now on, whether it was there before or not.
    pub async fn put(
        &self,
        account: &AccountId,
        host: &str,
        microvm: MicrovmId,
        port: u16,
        given: Option<Given>,
    ) -> Result<Arc<NameRecord>, PutError> {
        let host = self.fit(host)?;
        let checked = match &given {
            Some(given) => Some(self.certificates.check(&host, &given.certificate, given.key.expose())?),
            None => None,
        };
        let _writer = self.writer.lock().await;
        let before = self.find(&host);
        let certificate = given.as_ref().map(|_| Uuid::new_v4());
        let dir = certificate.map(|id| self.dir.join(id.to_string()));
        if let (Some(dir), Some(given)) = (&dir, &given) {
            write(dir, given).inspect_err(|_| remove(dir))?;
        }
        let record = NameRecord { host: host.clone(), account: account.clone(), microvm, port, certificate };
        let outcome = self.store.put_name(&record).await;
        if !matches!(outcome, Ok(Put::Done))
            && let Some(dir) = &dir
        {
            remove(dir);
        }
        match outcome? {
            Put::Done => {}
            Put::Taken => return Err(PutError::Taken(host)),
            Put::Full => return Err(PutError::Full),
        }
        let record = Arc::new(record);
        self.certificates.put(&host, checked);
        self.hosts_mut().insert(host, record.clone());
        self.drop_files(before.as_deref());
        Ok(record)
    }

    /// Forgets a name of that account; false: it has none such.
    pub async fn delete(&self, account: &AccountId, host: &str) -> Result<bool, StoreError> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let _writer = self.writer.lock().await;
        if !self.store.delete_name(account, &host).await? {
            return Ok(false);
        }
        let before = self.hosts_mut().remove(&host);
        self.certificates.remove(&host);
        self.drop_files(before.as_deref());
        Ok(true)
    }

    fn drop_files(&self, before: Option<&NameRecord>) {
        if let Some(id) = before.and_then(|before| before.certificate) {
            remove(&self.dir.join(id.to_string()));
            crash::point("names: files removed");
        }
    }

    fn hosts_mut(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Arc<NameRecord>>> {
        self.hosts.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name as it is kept, if it may be one.
    fn fit(&self, host: &str) -> Result<String, PutError> {
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let label = |label: &str| {
            (1..=LABEL_MAX).contains(&label.len())
                && label.bytes().all(plain)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // Nothing that ends in digits: it would be an address (RFC 1123 section 2.1).
        let last = name.rsplit('.').next().unwrap_or_default();
        let number = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
        if name.len() > HOST_MAX || !name.split('.').all(label) || number {
            return Err(PutError::NoHost(host.chars().take(64).collect()));
        }
        let below = |domain: &String| name == *domain || name.ends_with(&format!(".{domain}"));
        if name == self.api_name || self.domains.iter().any(below) {
            return Err(PutError::Own(name));
        }
        Ok(name)
    }
}

fn write(dir: &Path, given: &Given) -> Result<(), FileError> {
    std::fs::create_dir_all(dir).map_err(FileError::io("create", dir))?;
    crash::point("names: directory there");
    files::write_whole(&dir.join(KEY), given.key.expose().as_bytes(), 0o600)?;
    files::write_whole(&dir.join(CERTIFICATE), given.certificate.as_bytes(), 0o644)?;
    crash::point("names: files there");
    Ok(())
}

/// What stays is removed by the next start.
fn remove(dir: &Path) {
    if let Err(error) = std::fs::remove_dir_all(dir) {
        tracing::warn!(path = %dir.display(), %error, "files of a host name stay behind");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn names(dir: &Path) -> (Arc<Names>, Store) {
        let ca = ingress::LocalCa::load_or_create(&dir.join("ca")).expect("authority");
        let store = Store::open(&dir.join("hearth.db")).await.expect("store");
        let certificates = Arc::new(Certificates::new(Arc::new(ca)));
        let domains = vec!["lambda-microvm.us-east-1.localhost".to_owned()];
        let names = Names::load(dir.join("names"), store.clone(), certificates, domains, "localhost".to_owned());
        (names.await.expect("names"), store)
    }

    fn account(text: &str) -> AccountId {
        text.parse().expect("account")
    }

    const VM: &str = "microvm-00000000-0000-4000-8000-000000000000";

    #[tokio::test]
    async fn names_that_are_none_or_hearth_s_own_are_refused() {
        let dir = tempfile::tempdir().expect("scratch");
        let (names, _) = names(dir.path()).await;
        for (host, fits) in [
            ("App.Example.com.", Ok("app.example.com")),
            ("intranet", Ok("intranet")),
            ("a.localhost", Ok("a.localhost")),
            ("", Err("must be a DNS name")),
            ("a..b", Err("must be a DNS name")),
            ("-a.test", Err("must be a DNS name")),
            ("a_b.test", Err("must be a DNS name")),
            ("*.test", Err("must be a DNS name")),
            ("a.test:8443", Err("must be a DNS name")),
            ("127.0.0.1", Err("must be a DNS name")),
            ("ä.test", Err("must be a DNS name")),
            (&"a.".repeat(128), Err("must be a DNS name")),
            ("localhost", Err("this server's own")),
            ("lambda-microvm.us-east-1.localhost", Err("this server's own")),
            ("x.Lambda-microvm.us-east-1.localhost", Err("this server's own")),
        ] {
            match (names.fit(host).map_err(|error| error.to_string()), fits) {
                (Ok(name), Ok(expected)) => assert_eq!(name, expected),
                (Err(error), Err(words)) => assert!(error.contains(words), "{host}: {error}"),
                (found, _) => panic!("{host}: {found:?}"),
            }
        }
    }

    #[tokio::test]
    async fn they_are_one_account_s_bounded_and_durable() {
        let dir = tempfile::tempdir().expect("scratch");
        let (all, store) = names(dir.path()).await;
        let (mine, other) = (account("111122223333"), account("444455556666"));
        let vm = VM.parse().expect("id");
        let made = rcgen::generate_simple_self_signed(vec!["app.test".to_owned()]).expect("certificate");
        let given = || {
            let key = Sensitive::new(made.signing_key.serialize_pem());
            Some(Given { certificate: made.cert.pem(), key })
        };
        let first = all.put(&mine, "app.test", vm, 8080, given()).await.expect("put");
        let dir_of =
            |record: &NameRecord| dir.path().join("names").join(record.certificate.expect("given").to_string());
        let taken = all.put(&other, "APP.test", vm, 8080, None).await.expect_err("taken");
        assert_eq!(taken.to_string(), "app.test is not available");
        assert!(!all.delete(&other, "app.test").await.expect("asked"));
        let second = all.put(&mine, "app.test", vm, 3000, given()).await.expect("put again");
        assert!(!dir_of(&first).exists() && dir_of(&second).join(KEY).exists());
        std::fs::create_dir(dir.path().join("names/left")).expect("left behind");

        let (again, _) = names(dir.path()).await;
        assert_eq!(again.find("app.test").as_deref(), Some(&*second));
        assert!(!dir.path().join("names/left").exists(), "what no record names is removed");
        assert_eq!(again.of(&mine).len(), 1);
        assert_eq!(again.of(&other).len(), 0);
        for n in 1..crate::store::NAMES {
            let record = NameRecord { host: format!("n{n}.test"), certificate: None, ..(*second).clone() };
            assert_eq!(store.put_name(&record).await.expect("put"), Put::Done);
        }
        assert!(matches!(again.put(&mine, "more.test", vm, 1, None).await, Err(PutError::Full)));
        again.put(&mine, "app.test", vm, 1, None).await.expect("one that is there can be changed");
        assert!(!dir_of(&second).exists());
        assert!(again.delete(&mine, "app.test.").await.expect("deleted"));
        assert_eq!(again.find("app.test"), None);
    }
}
