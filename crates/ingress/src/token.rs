//! Endpoint tokens (spec section 7): compact JWE, `dir` + `A256GCM`, opaque to clients.
//!
//! `BASE64URL(header) . (empty: no wrapped key) . BASE64URL(96-bit IV) . BASE64URL(ciphertext) . BASE64URL(128-bit tag)`.
//! The header is the additional authenticated data, exactly as it was sent.

use std::{collections::HashMap, fmt};

use aes_gcm::{
    Aes256Gcm, Nonce,
    aead::{AeadInOut, KeyInit, consts::U12},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

/// The longest token that is looked at, in bytes (the API's bound on token values).
pub const MAX_TOKEN_BYTES: usize = 8000;

const IV_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// What a token says: who may reach which ports of which microVM until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// The one microVM it opens.
    #[serde(rename = "m")]
    pub microvm: String,
    /// What for.
    #[serde(rename = "k")]
    pub kind: Kind,
    /// Ports in scope; none for a shell token.
    #[serde(rename = "p")]
    pub ports: Vec<PortRange>,
    /// Unix seconds; at this second and later the token is expired.
    #[serde(rename = "x")]
    pub expires_at: u64,
    /// How often the tokens of the microVM had been revoked when this one was minted: [`crate::Route::revocation`]. Tokens of
    /// an older hearth do not say.
    #[serde(rename = "r", default, skip_serializing_if = "never_revoked")]
    pub revocation: u64,
}

fn never_revoked(revocation: &u64) -> bool {
    *revocation == 0
}

impl Claims {
    /// Is this port in scope?
    pub fn allows(&self, port: u16) -> bool {
        self.ports.iter().any(|range| (range.start..=range.end).contains(&port))
    }
}

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Application traffic (`CreateMicrovmAuthToken`).
    Auth,
    /// A shell session (`CreateMicrovmShellAuthToken`).
    Shell,
}

/// Inclusive range of ports; nothing is in scope when `start > end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u16, u16)", into = "(u16, u16)")]
pub struct PortRange {
    /// First port.
    pub start: u16,
    /// Last port.
    pub end: u16,
}

impl PortRange {
    /// `allPorts`.
    pub const ALL: PortRange = PortRange { start: 1, end: u16::MAX };

    /// One port.
    pub const fn single(port: u16) -> Self {
        PortRange { start: port, end: port }
    }
}

impl From<(u16, u16)> for PortRange {
    fn from((start, end): (u16, u16)) -> Self {
        PortRange { start, end }
    }
}

impl From<PortRange> for (u16, u16) {
    fn from(range: PortRange) -> Self {
        (range.start, range.end)
    }
}

/// A minted token. A secret: it prints as `[redacted]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The value for `X-aws-proxy-auth`.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The same, owned.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token([redacted])")
    }
}

/// Why a token opens nothing. Never says what was in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token of the only form we make.
    #[error("the token is malformed")]
    Malformed,
    /// Sealed with a key that this installation does not have (any more).
    #[error("the token names an unknown key")]
    UnknownKey,
    /// Altered, or not sealed with the key it names.
    #[error("the token is not authentic")]
    Forged,
    /// It was good until its expiry.
    #[error("the token has expired")]
    Expired,
}

/// The protected header: these three members and no others (`zip`, `crit` and the like are refused).
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    kid: String,
    alg: String,
    enc: String,
}

/// The keys that seal and open tokens, by key id.
pub struct TokenKeys {
    ciphers: HashMap<String, Aes256Gcm>,
    /// The key that seals, with its encoded header.
    current: String,
    header: String,
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKeys").field("current", &self.current).field("keys", &self.ciphers.len()).finish()
    }
}

impl TokenKeys {
    /// A keyring; `current` must be among `keys`.
    pub(crate) fn new(current: String, keys: impl IntoIterator<Item = (String, [u8; 32])>) -> Option<Self> {
        let ciphers: HashMap<_, _> = keys.into_iter().map(|(kid, key)| (kid, Aes256Gcm::new(&key.into()))).collect();
        ciphers.contains_key(&current).then(|| {
            let header = format!(r#"{{"kid":"{current}","alg":"dir","enc":"A256GCM"}}"#);
            TokenKeys { ciphers, current, header: URL_SAFE_NO_PAD.encode(header) }
        })
    }

    /// Seals claims into a new token; two calls never give the same one.
    pub fn mint(&self, claims: &Claims) -> Token {
        let mut iv = [0u8; IV_BYTES];
        getrandom::fill(&mut iv).expect("the kernel's random numbers cannot fail once it has booted");
        let mut sealed = serde_json::to_vec(claims).expect("claims are plain strings and numbers");
        self.ciphers[&self.current]
            .encrypt_in_place(&Nonce::from(iv), self.header.as_bytes(), &mut sealed)
            .expect("claims are far below the 64 GiB that one IV can seal");
        let (ciphertext, tag) = sealed.split_at(sealed.len() - TAG_BYTES);
        let (iv, ciphertext, tag) =
            (URL_SAFE_NO_PAD.encode(iv), URL_SAFE_NO_PAD.encode(ciphertext), URL_SAFE_NO_PAD.encode(tag));
        Token(format!("{}..{iv}.{ciphertext}.{tag}", self.header))
    }

    /// Opens a token at `now` (unix seconds). What it does not check: that the claims fit the request.
    pub fn open(&self, token: &str, now: u64) -> Result<Claims, TokenError> {
        let [header, iv, ciphertext, tag] = split(token)?;
        let named: Header = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Malformed)?;
        if named.alg != "dir" || named.enc != "A256GCM" {
            return Err(TokenError::Malformed);
        }
        let iv: [u8; IV_BYTES] = decode(iv)?.try_into().map_err(|_| TokenError::Malformed)?;
        let tag: [u8; TAG_BYTES] = decode(tag)?.try_into().map_err(|_| TokenError::Malformed)?;
        let mut sealed = decode(ciphertext)?;
        sealed.extend_from_slice(&tag);
        let cipher = self.ciphers.get(&named.kid).ok_or(TokenError::UnknownKey)?;
        let iv: Nonce<U12> = iv.into();
        cipher.decrypt_in_place(&iv, header.as_bytes(), &mut sealed).map_err(|_| TokenError::Forged)?;
        let claims: Claims = serde_json::from_slice(&sealed).map_err(|_| TokenError::Malformed)?;
        if now >= claims.expires_at { Err(TokenError::Expired) } else { Ok(claims) }
    }
}

/// Exactly five parts, the second one empty; gives the other four.
fn split(token: &str) -> Result<[&str; 4], TokenError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::Malformed);
    }
    let mut parts = token.split('.');
    let mut next = || parts.next().ok_or(TokenError::Malformed);
    let (header, wrapped_key, iv, ciphertext, tag) = (next()?, next()?, next()?, next()?, next()?);
    if parts.next().is_some() || !wrapped_key.is_empty() {
        return Err(TokenError::Malformed);
    }
    Ok([header, iv, ciphertext, tag])
}

/// Base64url without padding, canonical only.
fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn keys(kid: &str, byte: u8) -> TokenKeys {
        TokenKeys::new(kid.to_owned(), [(kid.to_owned(), [byte; 32])]).unwrap()
    }

    fn claims() -> Claims {
        Claims {
            microvm: "microvm-11111111-2222-3333-4444-555555555555".to_owned(),
            kind: Kind::Auth,
            ports: vec![PortRange::single(8080), PortRange { start: 3000, end: 3010 }],
            expires_at: NOW + 60,
            revocation: 0,
        }
    }

    #[test]
    fn round_trip_and_shape() {
        let keys = keys("11111111-2222-4333-8444-555555555555", 7);
        let token = keys.mint(&claims());
        assert_eq!(keys.open(token.expose(), NOW).unwrap(), claims());
        let parts: Vec<&str> = token.expose().split('.').collect();
        assert_eq!(parts.len(), 5);
        assert_eq!((parts[1].len(), parts[2].len(), parts[4].len()), (0, 16, 22));
        let header = URL_SAFE_NO_PAD.decode(parts[0]).unwrap();
        assert_eq!(
            String::from_utf8(header).unwrap(),
            r#"{"kid":"11111111-2222-4333-8444-555555555555","alg":"dir","enc":"A256GCM"}"#
        );
        assert_ne!(token, keys.mint(&claims()), "a fresh IV each time");
        assert_eq!(format!("{token:?}"), "Token([redacted])");
        assert!(!format!("{keys:?}").contains("[7"));
    }

    #[test]
    fn tokens_from_before_a_revocation_say_nothing_of_it() {
        assert_eq!(
            serde_json::to_value(claims()).unwrap().as_object().unwrap().len(),
            4,
            "as an older hearth reads them"
        );
        let later = Claims { revocation: 7, ..claims() };
        let keys = keys("k", 7);
        assert_eq!(keys.open(keys.mint(&later).expose(), NOW).unwrap(), later);
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let keys = keys("k", 7);
        let token = keys.mint(&claims()).into_string().into_bytes();
        for at in 0..token.len() {
            for bit in 0..8 {
                let mut altered = token.clone();
                altered[at] ^= 1 << bit;
                if let Ok(altered) = String::from_utf8(altered) {
                    assert!(keys.open(&altered, NOW).is_err(), "byte {at} bit {bit}");
                }
            }
        }
    }

    #[test]
    fn flips_inside_each_decoded_part() {
        let keys = keys("k", 7);
        let token = keys.mint(&claims()).into_string();
        let parts: Vec<&str> = token.split('.').collect();
        for (part, expected) in [(2, TokenError::Forged), (3, TokenError::Forged), (4, TokenError::Forged)] {
            let mut bytes = URL_SAFE_NO_PAD.decode(parts[part]).unwrap();
            bytes[0] ^= 1;
            let altered = URL_SAFE_NO_PAD.encode(bytes);
            let mut all = parts.clone();
            all[part] = &altered;
            assert_eq!(keys.open(&all.join("."), NOW), Err(expected), "part {part}");
        }
        // A header that says the same in other words is authentic to nobody.
        let spaced = URL_SAFE_NO_PAD.encode(r#"{"kid":"k", "alg":"dir","enc":"A256GCM"}"#);
        assert_eq!(keys.open(&token.replacen(parts[0], &spaced, 1), NOW), Err(TokenError::Forged));
    }

    #[test]
    fn strict_header() {
        let keys = keys("k", 7);
        let token = keys.mint(&claims()).into_string();
        let rest = &token[token.find('.').unwrap()..];
        for (header, expected) in [
            (r#"{"kid":"other","alg":"dir","enc":"A256GCM"}"#, TokenError::UnknownKey),
            (r#"{"kid":"k","alg":"none","enc":"A256GCM"}"#, TokenError::Malformed),
            (r#"{"kid":"k","alg":"A256KW","enc":"A256GCM"}"#, TokenError::Malformed),
            (r#"{"kid":"k","alg":"dir","enc":"A128GCM"}"#, TokenError::Malformed),
            (r#"{"kid":"k","alg":"DIR","enc":"A256GCM"}"#, TokenError::Malformed),
            (r#"{"kid":"k","alg":"dir","enc":"A256GCM","zip":"DEF"}"#, TokenError::Malformed),
            (r#"{"kid":"k","alg":"dir","enc":"A256GCM","crit":[]}"#, TokenError::Malformed),
            (r#"{"kid":"k","kid":"k","alg":"dir","enc":"A256GCM"}"#, TokenError::Malformed),
            (r#"{"alg":"dir","enc":"A256GCM"}"#, TokenError::Malformed),
            ("[]", TokenError::Malformed),
            ("", TokenError::Malformed),
        ] {
            assert_eq!(keys.open(&format!("{}{rest}", URL_SAFE_NO_PAD.encode(header)), NOW), Err(expected), "{header}");
        }
    }

    #[test]
    fn shape_and_length_are_bounded() {
        let keys = keys("k", 7);
        let token = keys.mint(&claims()).into_string();
        for bad in ["", ".", "....", "a.b.c", "not a token", "ü....", &token.replacen("..", ".AA.", 1)] {
            assert_eq!(keys.open(bad, NOW), Err(TokenError::Malformed), "{bad:?}");
        }
        assert_eq!(keys.open(&format!("{token}."), NOW), Err(TokenError::Malformed));
        assert_eq!(keys.open(&format!("{token}="), NOW), Err(TokenError::Malformed));
        assert_eq!(keys.open(&format!("{token}{}", "A".repeat(MAX_TOKEN_BYTES)), NOW), Err(TokenError::Malformed));
        let all = Claims { ports: vec![PortRange { start: 10000, end: 10001 }; 50], ..claims() };
        assert!(keys.mint(&all).expose().len() < MAX_TOKEN_BYTES / 4, "fifty ranges fit well");
    }

    #[test]
    fn expiry_is_the_first_refused_second() {
        let keys = keys("k", 7);
        let token = keys.mint(&claims());
        assert!(keys.open(token.expose(), NOW + 59).is_ok());
        assert_eq!(keys.open(token.expose(), NOW + 60), Err(TokenError::Expired));
    }

    #[test]
    fn same_key_id_other_key() {
        let token = keys("k", 7).mint(&claims());
        assert_eq!(keys("k", 8).open(token.expose(), NOW), Err(TokenError::Forged));
        assert!(TokenKeys::new("k".to_owned(), []).is_none());
    }

    #[test]
    fn port_scope() {
        let claims = claims();
        for (port, expected) in [(8080, true), (8081, false), (2999, false), (3000, true), (3010, true), (3011, false)]
        {
            assert_eq!(claims.allows(port), expected, "{port}");
        }
        let all = Claims { ports: vec![PortRange::ALL], ..claims.clone() };
        assert!(all.allows(1) && all.allows(65535) && !all.allows(0));
        assert!(!Claims { ports: vec![], ..claims }.allows(8080));
    }
}
