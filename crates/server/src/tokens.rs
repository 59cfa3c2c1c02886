//! Small opaque things that the API hands out: list cursors, and the fingerprints behind client tokens.

use api::ApiError;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::failure::internal;

/// Items of a page when the caller does not say; AWS publishes none.
pub const PAGE: u32 = 50;

/// A cursor that continues after that item.
pub fn cursor(at: i64, id: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("1:{at}:{id}"))
}

/// Reads a cursor of [`cursor`]; anything else is refused.
pub fn read_cursor(token: Option<&str>) -> Result<Option<(i64, String)>, ApiError> {
    let Some(token) = token else { return Ok(None) };
    let read = || {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let (at, id) = text.strip_prefix("1:")?.split_once(':')?;
        Some((at.parse().ok()?, id.to_owned()))
    };
    match read() {
        Some(cursor) => Ok(Some(cursor)),
        None => Err(ApiError::validation("nextToken is not a token that this service returned")),
    }
}

/// A digest of a request's parameters, to tell a repeat from a different request with the same client token.
pub fn fingerprint(input: &impl Serialize) -> Result<String, ApiError> {
    let text = serde_json::to_vec(input).map_err(internal)?;
    Ok(URL_SAFE_NO_PAD.encode(Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_round_trip_and_others_are_refused() {
        let token = cursor(1_790_000_000_123, "microvm-1");
        assert_eq!(read_cursor(Some(&token)).expect("read"), Some((1_790_000_000_123, "microvm-1".into())));
        assert_eq!(read_cursor(None).expect("read"), None);
        for wrong in ["", "x", "AAAA", &cursor(1, "a")[1..]] {
            assert!(read_cursor(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
