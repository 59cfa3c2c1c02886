//! Encryption of secrets with a key that never leaves its file: AES-256-GCM (NIST SP 800-38D).
//!
//! Every text is sealed with a key of its own, the HMAC-SHA-256 of a random salt under the file's key, so that no number of
//! session tokens wears a key out: `version (1) . salt (16) . nonce (12) . ciphertext . tag (16)`, in bytes.

use std::path::{Path, PathBuf};

use aes_gcm::{Aes256Gcm, Nonce, aead::AeadInOut};
use api::Sensitive;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use ingress::{FileError, files};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

const VERSION: u8 = 1;
const SALT: usize = 16;
const NONCE: usize = 12;
const TAG: usize = 16;

/// Why the file's key could not be used. Never says what is in it.
#[derive(Debug, thiserror::Error)]
pub enum SealingError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its content.
    #[error("{0} is damaged; bring it back from a backup: the secrets of all access keys are sealed with it")]
    Damaged(PathBuf),
    /// It is gone, and with it what it sealed.
    #[error("{0} is missing; bring it back from a backup: the secrets of all access keys are sealed with it")]
    Missing(PathBuf),
}

#[derive(Serialize, Deserialize)]
struct Content {
    secret: Sensitive<String>,
}

/// Seals and opens.
#[derive(Debug)]
pub struct Sealer {
    key: Sensitive<[u8; 32]>,
}

impl Sealer {
    /// Reads the key's file (mode 0600); makes one where there is none, unless something was sealed before. Blocks on a small
    /// file: call it at start.
    pub fn load(path: &Path, sealed_before: bool) -> Result<Self, SealingError> {
        let damaged = || SealingError::Damaged(path.to_owned());
        let Some(text) = files::read_private(path)? else {
            if sealed_before {
                return Err(SealingError::Missing(path.to_owned()));
            }
            let key: [u8; 32] = random();
            let content = Content { secret: STANDARD.encode(key).into() };
            let text = serde_json::to_vec_pretty(&content).map_err(|_| damaged())?;
            files::write_whole(path, &text, 0o600)?;
            return Ok(Sealer { key: key.into() });
        };
        let content: Content = serde_json::from_str(&text).map_err(|_| damaged())?;
        let key = STANDARD.decode(content.secret.expose()).map_err(|_| damaged())?;
        Ok(Sealer { key: <[u8; 32]>::try_from(key).map_err(|_| damaged())?.into() })
    }

    /// Seals `text` for the purpose that `context` names; it opens with the same context only.
    pub fn seal(&self, context: &str, text: &[u8]) -> Vec<u8> {
        let (salt, nonce): ([u8; SALT], [u8; NONCE]) = (random(), random());
        let mut body = text.to_vec();
        self.cipher(&salt)
            .encrypt_in_place(&Nonce::from(nonce), context.as_bytes(), &mut body)
            .expect("texts are far below the 64 GiB that one nonce can seal");
        [&[VERSION][..], &salt, &nonce, &body].concat()
    }

    /// Opens what [`Sealer::seal`] made; `None` for anything else.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Option<Sensitive<Vec<u8>>> {
        let (&[VERSION], rest) = sealed.split_first_chunk()? else { return None };
        let (salt, rest) = rest.split_first_chunk::<SALT>()?;
        let (nonce, body) = rest.split_first_chunk::<NONCE>()?;
        if body.len() < TAG {
            return None;
        }
        let mut body = body.to_vec();
        self.cipher(salt).decrypt_in_place(&Nonce::from(*nonce), context.as_bytes(), &mut body).ok()?;
        Some(body.into())
    }

    fn cipher(&self, salt: &[u8; SALT]) -> Aes256Gcm {
        let mut mac =
            <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(self.key.expose()).expect("HMAC takes keys of any length");
        mac.update(salt);
        let key: [u8; 32] = mac.finalize().into_bytes().into();
        <Aes256Gcm as aes_gcm::KeyInit>::new(&key.into())
    }
}

/// Random bytes.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel's random numbers cannot fail once it has booted");
    bytes
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn opens_with_its_own_key_and_context_and_unchanged_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets-key.json");
        let sealer = Sealer::load(&path, false).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let sealed = sealer.seal("a", b"hunter2");
        assert!(!String::from_utf8_lossy(&sealed).contains("hunter2"));
        assert_ne!(sealed, sealer.seal("a", b"hunter2"));
        let again = Sealer::load(&path, true).unwrap();
        assert_eq!(again.open("a", &sealed).unwrap().expose(), b"hunter2");
        assert!(again.open("b", &sealed).is_none());
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut altered = sealed.clone();
                altered[at] ^= 1 << bit;
                assert!(again.open("a", &altered).is_none(), "byte {at} bit {bit}");
            }
            assert!(again.open("a", &sealed[..at]).is_none(), "{at}");
        }
        let other = Sealer::load(&dir.path().join("other"), false).unwrap();
        assert!(other.open("a", &sealed).is_none());
    }

    #[test]
    fn a_lost_key_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets-key.json");
        assert!(matches!(Sealer::load(&path, true), Err(SealingError::Missing(_))));
        for bad in ["", "{}", r#"{"secret":"AAAA"}"#, r#"{"secret":"?"}"#] {
            files::write_whole(&path, bad.as_bytes(), 0o600).unwrap();
            assert!(matches!(Sealer::load(&path, false), Err(SealingError::Damaged(_))), "{bad}");
        }
        files::write_whole(&path, b"{}", 0o644).unwrap();
        assert!(Sealer::load(&path, false).unwrap_err().to_string().contains("chmod 600"));
    }
}
