//! Access keys. One is made at first start; `credentials.json` in the data directory holds it, for its owner's eyes only.

use std::{fs, io, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use api::{AccountId, Sensitive};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::edge::{Credential, Keys};

/// The file's content.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AccessKey {
    /// Public part.
    pub access_key_id: String,
    /// Secret part.
    pub secret_access_key: Sensitive<String>,
    /// Whose it is.
    pub account: AccountId,
}

/// The keys of this server.
#[derive(Debug)]
pub struct LocalKeys {
    key: AccessKey,
}

impl LocalKeys {
    /// Reads the key, or makes one for that account.
    pub fn load_or_create(path: &Path, account: &AccountId) -> io::Result<Self> {
        match fs::read(path) {
            Ok(text) => {
                let key = serde_json::from_slice(&text).map_err(|e| {
                    io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged: {e}", path.display()))
                })?;
                Ok(LocalKeys { key })
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let key = AccessKey::generate(account.clone())?;
                let partial = path.with_extension("partial");
                let mut file =
                    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
                file.write_all(&serde_json::to_vec_pretty(&key)?)?;
                file.sync_all()?;
                fs::rename(&partial, path)?;
                Ok(LocalKeys { key })
            }
            Err(e) => Err(e),
        }
    }
}

impl AccessKey {
    /// A new key of the usual form: `AKIA` and 16 of A-Z2-7, 40 of the base64 alphabet.
    fn generate(account: AccountId) -> io::Result<Self> {
        let mut random = [0; 56];
        getrandom::fill(&mut random).map_err(|e| io::Error::other(e.to_string()))?;
        let pick = |bytes: &[u8], alphabet: &[u8]| -> String {
            bytes.iter().map(|byte| alphabet[usize::from(*byte) % alphabet.len()] as char).collect()
        };
        let id = pick(&random[..16], b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567");
        let secret = pick(&random[16..], b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
        Ok(AccessKey { access_key_id: format!("AKIA{id}"), secret_access_key: Sensitive::new(secret), account })
    }
}

#[async_trait]
impl Keys for LocalKeys {
    async fn secret(&self, access_key_id: &str) -> Option<Credential> {
        let key = &self.key;
        (key.access_key_id == access_key_id)
            .then(|| Credential { secret: key.secret_access_key.clone(), account: key.account.clone() })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn the_key_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("credentials.json");
        let account: AccountId = "000000000000".parse().expect("account");
        let made = LocalKeys::load_or_create(&path, &account).expect("made");
        let again = LocalKeys::load_or_create(&path, &account).expect("read");
        assert_eq!(made.key.access_key_id, again.key.access_key_id);
        assert_eq!(fs::metadata(&path).expect("metadata").permissions().mode() & 0o777, 0o600);
        assert!(!format!("{made:?}").contains(made.key.secret_access_key.expose()));
        assert!(made.secret("AKIANOBODY").await.is_none());
        assert!(made.secret(&made.key.access_key_id).await.is_some());
    }
}
