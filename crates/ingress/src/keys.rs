//! The token keyring on disk: one private JSON file, renewed by itself.

use std::{path::Path, time::SystemTime};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    files::{self, FileError},
    token::TokenKeys,
};

/// A key seals for this long. 90 days at the minting limit of 50 a second is 2^28.5 random IVs, well below the 2^32 that
/// NIST SP 800-38D allows one key.
const ROTATE_AFTER_SECONDS: u64 = 90 * 24 * 3600;
/// So long a key that has been replaced opens what it sealed: no token lives longer (`endpoint.token_minutes`).
const KEEP_SECONDS: u64 = 366 * 24 * 3600;

/// Why the keyring could not be used. Never says what is in it.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The file.
    #[error("token keys: {0}")]
    File(#[from] FileError),
    /// Its content.
    #[error("token keys: {0} is not a keyring; move it away to get a new one (tokens minted so far then stop working)")]
    Content(std::path::PathBuf),
}

/// Newest key first; it seals, all open.
#[derive(Serialize, Deserialize)]
struct Keyring {
    keys: Vec<Key>,
}

#[derive(Serialize, Deserialize)]
struct Key {
    kid: String,
    created_at: u64,
    secret: String,
}

impl Keyring {
    /// Leaves out the keys whose last token has expired: each sealed until the one before it in the list was made.
    fn forget(&mut self, now: u64) {
        let kept = self.keys.windows(2).take_while(|pair| now.saturating_sub(pair[0].created_at) <= KEEP_SECONDS);
        let kept = kept.count() + 1;
        self.keys.truncate(kept);
    }
}

impl Key {
    fn generate(now: u64) -> Self {
        let mut secret = [0u8; 32];
        getrandom::fill(&mut secret).expect("the kernel's random numbers cannot fail once it has booted");
        Key { kid: Uuid::new_v4().to_string(), created_at: now, secret: STANDARD.encode(secret) }
    }
}

impl TokenKeys {
    /// Reads the keyring, or makes one (mode 0600) where there is none. A key older than 90 days is replaced and stays
    /// another year to open what it sealed. Blocks on small files: call it at start.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyringError> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        load_at(path, now)
    }
}

fn load_at(path: &Path, now: u64) -> Result<TokenKeys, KeyringError> {
    let content = || KeyringError::Content(path.to_owned());
    let mut ring = match files::read_private(path)? {
        Some(text) => serde_json::from_str(&text).map_err(|_| content())?,
        None => Keyring { keys: Vec::new() },
    };
    if ring.keys.first().is_none_or(|newest| now.saturating_sub(newest.created_at) > ROTATE_AFTER_SECONDS) {
        ring.keys.insert(0, Key::generate(now));
        ring.forget(now);
        let text = serde_json::to_vec_pretty(&ring).map_err(|_| content())?;
        files::write_whole(path, &text, 0o600)?;
        tracing::info!(path = %path.display(), kid = ring.keys[0].kid, "token key created");
    }
    let current = ring.keys[0].kid.clone();
    let keys = ring.keys.iter().map(|key| {
        let secret = STANDARD.decode(&key.secret).ok()?.try_into().ok()?;
        Uuid::parse_str(&key.kid).ok()?; // the id goes into the token's JSON header as it is
        Some((key.kid.clone(), secret))
    });
    let keys: Option<Vec<_>> = keys.collect();
    keys.and_then(|keys| TokenKeys::new(current, keys)).ok_or_else(content)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::token::{Claims, Kind, TokenError};

    fn claims() -> Claims {
        Claims { microvm: "m".to_owned(), kind: Kind::Shell, ports: vec![], expires_at: u64::MAX, revocation: 0 }
    }

    #[test]
    fn survives_a_restart_and_rotates() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token-keys.json");
        let token = load_at(&path, 1000).unwrap().mint(&claims());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = load_at(&path, 1000 + ROTATE_AFTER_SECONDS).unwrap();
        assert_eq!(again.open(token.expose(), 1).unwrap(), claims());

        let later = load_at(&path, 1001 + ROTATE_AFTER_SECONDS).unwrap();
        assert_eq!(later.open(token.expose(), 1).unwrap(), claims(), "the old key still opens");
        let newer = later.mint(&claims());
        assert_eq!(again.open(newer.expose(), 1), Err(TokenError::UnknownKey), "a new key seals");
        for n in 2..=5 {
            let year = load_at(&path, 1000 + n * (1 + ROTATE_AFTER_SECONDS)).unwrap();
            assert_eq!(year.open(token.expose(), 1).unwrap(), claims(), "as long as a token may live");
        }
        let last = load_at(&path, 1000 + 6 * (1 + ROTATE_AFTER_SECONDS)).unwrap();
        assert_eq!(last.open(token.expose(), 1), Err(TokenError::UnknownKey), "the oldest key is gone");
        assert_eq!(last.open(newer.expose(), 1).unwrap(), claims(), "and the next one is not");
    }

    #[test]
    fn refuses_nonsense_and_exposed_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        for bad in ["", "{}", r#"{"keys":[{"kid":"x","created_at":9,"secret":"AA=="}]}"#] {
            files::write_whole(&path, bad.as_bytes(), 0o600).unwrap();
            assert!(matches!(load_at(&path, 9), Err(KeyringError::Content(_))), "{bad}");
        }
        files::write_whole(&path, b"{}", 0o644).unwrap();
        assert!(load_at(&path, 9).unwrap_err().to_string().contains("chmod 600"));
    }
}
