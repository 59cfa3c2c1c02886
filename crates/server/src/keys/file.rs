//! `credentials.json` in the data directory: the key with which hearth's own verbs and `hearth env` call.

use std::path::{Path, PathBuf};

use api::{AccountId, Sensitive};
use ingress::{FileError, files};
use serde::{Deserialize, Serialize};

/// The file's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// Public part.
    pub access_key_id: String,
    /// Secret part.
    pub secret_access_key: Sensitive<String>,
    /// Whose it is.
    pub account: AccountId,
}

/// Why the file could not be used. Never says what is in it.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The system said no, or others can read it.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its content.
    #[error("{0} is damaged; remove it, and the server writes it anew")]
    Damaged(PathBuf),
}

impl Credentials {
    /// Reads the file; `None` when there is none.
    pub fn read(path: &Path) -> Result<Option<Self>, CredentialsError> {
        let Some(text) = files::read_private(path)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|_| CredentialsError::Damaged(path.to_owned()))
    }

    /// Writes the file, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), CredentialsError> {
        let text = serde_json::to_vec_pretty(self).map_err(|_| CredentialsError::Damaged(path.to_owned()))?;
        Ok(files::write_whole(path, &text, 0o600)?)
    }
}
