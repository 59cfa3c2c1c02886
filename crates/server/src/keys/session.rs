//! Temporary keys of `GetSessionToken`: nothing of them is stored. The token holds the key, sealed, and opens with the
//! temporary key's id only.

use api::{Sensitive, sigv4::SignatureError};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use super::{Secret, sealing::Sealer};

/// What every temporary key's id begins with.
const PREFIX: &str = "ASIA";
/// Longest token that is looked at, bytes; ours have some 250.
const TOKEN_MAX: usize = 2048;

/// A temporary key, as its caller is told it.
#[derive(Debug, Clone)]
pub struct Session {
    /// `ASIA…`
    pub access_key_id: String,
    /// Secret part.
    pub secret: Sensitive<String>,
    /// Goes along with each request.
    pub token: Sensitive<String>,
    /// Seconds since the epoch; from this second on it is refused.
    pub expires_at: i64,
}

/// What a token holds. Account and user are the issuer's, and looked up with it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// The long-term key that asked for it.
    #[serde(rename = "k")]
    pub issuer: String,
    /// The temporary secret.
    #[serde(rename = "s")]
    pub secret: Sensitive<String>,
    /// Seconds since the epoch.
    #[serde(rename = "x")]
    pub expires_at: i64,
}

/// A new temporary key of that issuer.
pub fn issue(sealer: &Sealer, issuer: &str, expires_at: i64) -> Session {
    let Secret { id, secret } = Secret::generate(PREFIX);
    let claims = Claims { issuer: issuer.to_owned(), secret: secret.clone(), expires_at };
    let text = serde_json::to_vec(&claims).expect("claims are plain strings and numbers");
    let token = STANDARD.encode(sealer.seal(&context(&id), &text));
    Session { access_key_id: id, secret, token: token.into(), expires_at }
}

/// Opens the token of that temporary key; whether its issuer may still be used is for the caller to see.
pub fn open(sealer: &Sealer, id: &str, token: &str, now: i64) -> Result<Claims, SignatureError> {
    let open = || -> Option<Claims> {
        if !id.starts_with(PREFIX) || token.len() > TOKEN_MAX {
            return None;
        }
        let text = sealer.open(&context(id), &STANDARD.decode(token).ok()?)?;
        serde_json::from_slice(text.expose()).ok()
    };
    let claims = open().ok_or(SignatureError::UnknownKey)?;
    if now >= claims.expires_at { Err(SignatureError::Expired) } else { Ok(claims) }
}

fn context(id: &str) -> String {
    format!("session token\0{id}")
}
