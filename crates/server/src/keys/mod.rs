//! Access keys: many, in the store, their secrets encrypted; a copy in memory answers each request.
//!
//! One of them, a root key of the configured account, also lies in `credentials.json` for hearth's own verbs. The rule, held
//! at start and by every change: the key in that file may be used.

mod change;
mod file;
mod sealing;
mod session;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use api::{AccountId, Sensitive, sigv4::SignatureError};
use async_trait::async_trait;
use iam::Policy;

pub use self::{
    change::{KeyError, NewKey},
    session::Session,
};
use self::{
    file::{Credentials, CredentialsError},
    sealing::{Sealer, SealingError, random},
};
use crate::{
    edge::{Credential, Identity, Keys, User},
    shared::now,
    store::{KeyRecord, Store, StoreError},
};

/// Most keys of a server: all of them are kept in memory.
pub const MAX_KEYS: usize = 1000;

/// The keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file of the encryption key.
    #[error(transparent)]
    Sealing(#[from] SealingError),
    /// `credentials.json`.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A record does not say what it should.
    #[error("access key {id} in hearth.db cannot be used: {reason}")]
    Record {
        /// The key's id.
        id: String,
        /// What is wrong.
        reason: String,
    },
}

/// All keys of a server.
#[derive(Debug)]
pub struct AccessKeys {
    store: Store,
    sealer: Sealer,
    partition: &'static str,
    first: AccountId,
    credentials: PathBuf,
    table: RwLock<HashMap<String, Arc<Key>>>,
    /// One change at a time; inside, the id of the key in `credentials.json`.
    writer: tokio::sync::Mutex<String>,
}

/// A key as it is kept in memory.
#[derive(Debug, Clone)]
pub struct Key {
    /// Access key id.
    pub id: String,
    /// May it be used?
    pub active: bool,
    /// Milliseconds since the epoch.
    pub created_at: i64,
    /// Whose it is, and what it may do.
    pub identity: Arc<Identity>,
    /// The policy, as it was given.
    pub policy: Option<String>,
    secret: Sensitive<String>,
}

/// The two halves of a new key.
struct Secret {
    id: String,
    secret: Sensitive<String>,
}

impl Secret {
    /// Of the usual form: the prefix and 16 of A-Z2-7, 40 of the base64 alphabet.
    fn generate(prefix: &str) -> Self {
        let pick = |bytes: &[u8], alphabet: &[u8]| -> String {
            bytes.iter().map(|byte| alphabet[usize::from(*byte) % alphabet.len()] as char).collect()
        };
        let id = pick(&random::<16>(), b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567");
        let secret = pick(&random::<40>(), b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
        Secret { id: format!("{prefix}{id}"), secret: secret.into() }
    }
}

impl AccessKeys {
    /// Reads all keys. A store without any takes over the `credentials.json` of an older hearth, and makes a root key for the
    /// configured account if that leaves it without; then `credentials.json` is written if the key in it may not be used.
    /// Blocks on small files: call it at start.
    pub async fn load(
        store: Store,
        data_dir: &Path,
        first: AccountId,
        partition: &'static str,
    ) -> Result<Arc<Self>, KeysError> {
        let records = store.keys().await?;
        let sealer = Sealer::load(&data_dir.join("secrets-key.json"), !records.is_empty())?;
        let credentials = data_dir.join("credentials.json");
        let keys = AccessKeys {
            store,
            sealer,
            partition,
            first,
            credentials,
            table: RwLock::default(),
            writer: tokio::sync::Mutex::default(),
        };
        let known = !records.is_empty();
        for record in records {
            let key = keys.read(record)?;
            keys.put(key);
        }
        let file = Credentials::read(&keys.credentials)?;
        if let Some(old) = file.as_ref().filter(|_| !known) {
            let secret = Secret { id: old.access_key_id.clone(), secret: old.secret_access_key.clone() };
            keys.add(secret, old.account.clone(), User::Root, None).await?;
            tracing::info!(
                key = old.access_key_id,
                "the access key of credentials.json is kept in hearth.db from now on"
            );
        }
        if keys.root_but(None).is_none() {
            let key = keys.add(Secret::generate("AKIA"), keys.first.clone(), User::Root, None).await?;
            tracing::info!(key = key.id, account = %keys.first, "root's access key made");
        }
        let same = |file: &Credentials, key: Arc<Key>| key.secret == file.secret_access_key;
        let usable = file.filter(|file| {
            keys.is_usable_root(&file.access_key_id)
                && keys.find(&file.access_key_id).is_some_and(|key| same(file, key))
        });
        *keys.writer.lock().await = match (usable, keys.root_but(None)) {
            (Some(file), _) => file.access_key_id,
            (None, Some(key)) => keys.publish(&key).await?,
            (None, None) => String::new(),
        };
        Ok(Arc::new(keys))
    }

    /// Every key, oldest first.
    pub fn list(&self) -> Vec<Arc<Key>> {
        let mut keys: Vec<_> = self.table.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        keys.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        keys
    }

    /// The key of that id, usable or not.
    pub fn find(&self, id: &str) -> Option<Arc<Key>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// The account whose root manages all keys.
    pub fn first_account(&self) -> &AccountId {
        &self.first
    }

    /// The partition of ARNs.
    pub fn partition(&self) -> &'static str {
        self.partition
    }

    /// A temporary key of that long-term key, until `expires_at` (seconds since the epoch); `None` when there is no such key or
    /// it may not be used.
    pub fn issue(&self, issuer: &str, expires_at: i64) -> Option<Session> {
        let issuer = self.find(issuer).filter(|key| key.active)?;
        Some(session::issue(&self.sealer, &issuer.id, expires_at))
    }

    fn put(&self, key: Key) {
        self.table.write().unwrap_or_else(PoisonError::into_inner).insert(key.id.clone(), Arc::new(key));
    }

    fn take(&self, id: &str) {
        self.table.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// A usable root key of the first account, the newest, but not that one.
    fn root_but(&self, id: Option<&str>) -> Option<Arc<Key>> {
        let fits = |key: &Arc<Key>| Some(key.id.as_str()) != id && self.is_usable_root(&key.id);
        self.list().into_iter().rev().find(fits)
    }

    fn is_usable_root(&self, id: &str) -> bool {
        let root = |key: &Key| *key.identity.user() == User::Root && *key.identity.account() == self.first;
        self.find(id).is_some_and(|key| key.active && root(&key))
    }

    /// Stores a new key.
    async fn add(
        &self,
        Secret { id, secret }: Secret,
        account: AccountId,
        user: User,
        policy: Option<String>,
    ) -> Result<Arc<Key>, KeysError> {
        let record = KeyRecord {
            sealed: self.sealer.seal(&context(&id, account.as_str()), secret.expose().as_bytes()),
            id,
            account: account.to_string(),
            user: user.to_string(),
            active: true,
            created_at: now(),
            policy,
        };
        let key = self.read(record.clone())?;
        self.store.insert_key(&record).await?;
        self.put(key.clone());
        Ok(Arc::new(key))
    }

    fn read(&self, record: KeyRecord) -> Result<Key, KeysError> {
        let wrong = |reason: String| KeysError::Record { id: record.id.clone(), reason };
        let account: AccountId = record.account.parse().map_err(|error| wrong(format!("account {error}")))?;
        let user: User = record.user.parse().map_err(|error| wrong(format!("{error}")))?;
        let secret = self.sealer.open(&context(&record.id, &record.account), &record.sealed);
        let secret = secret.and_then(|secret| String::from_utf8(secret.into_inner()).ok());
        let secret = secret.ok_or_else(|| wrong("its secret was not sealed with secrets-key.json".into()))?;
        let policy = record.policy.as_deref().map(Policy::parse).transpose();
        let policy = policy.map_err(|error| wrong(error.to_string()))?;
        let identity = Arc::new(Identity::new(self.partition, account, user, policy.into_iter().collect()));
        Ok(Key {
            id: record.id,
            active: record.active,
            created_at: record.created_at,
            identity,
            policy: record.policy,
            secret: secret.into(),
        })
    }

    /// Writes `credentials.json`; the id of its key.
    async fn publish(&self, key: &Key) -> Result<String, CredentialsError> {
        let content = Credentials {
            access_key_id: key.id.clone(),
            secret_access_key: key.secret.clone(),
            account: key.identity.account().clone(),
        };
        let path = self.credentials.clone();
        let written = tokio::task::spawn_blocking(move || content.write(&path)).await;
        written.unwrap_or_else(|_| Err(CredentialsError::Damaged(self.credentials.clone())))?;
        Ok(key.id.clone())
    }
}

/// A sealed secret opens for its own key and account only.
fn context(id: &str, account: &str) -> String {
    format!("access key\0{id}\0{account}")
}

#[async_trait]
impl Keys for AccessKeys {
    async fn secret(&self, access_key_id: &str) -> Option<Credential> {
        let key = self.find(access_key_id).filter(|key| key.active)?;
        Some(credential(&key, key.secret.clone(), false))
    }

    async fn temporary(&self, access_key_id: &str, token: &str, now: i64) -> Result<Credential, SignatureError> {
        let claims = session::open(&self.sealer, access_key_id, token, now)?;
        let issuer = self.find(&claims.issuer).filter(|key| key.active).ok_or(SignatureError::UnknownKey)?;
        Ok(credential(&issuer, claims.secret, true))
    }
}

fn credential(key: &Key, secret: Sensitive<String>, temporary: bool) -> Credential {
    Credential { secret, account: key.identity.account().clone(), identity: key.identity.clone(), temporary }
}

#[cfg(test)]
mod tests;
