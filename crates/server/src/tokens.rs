//! Small opaque things that the API hands out: list cursors, and the fingerprints behind client tokens.

use api::{AccountId, ApiError, Operation};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

/// Items of a page when the caller does not say; AWS publishes none.
pub const PAGE: u32 = 50;
/// Bytes of the authentication code of a cursor.
const MAC_BYTES: usize = 16;

/// Makes and reads the cursors of lists. A cursor says where its list goes on, authenticated together with whose list it is
/// and what it is filtered by: one that was altered, or belongs to another list, is refused.
pub struct Cursors {
    key: Vec<u8>,
}

/// Which list.
pub struct List<'a, F> {
    /// Whose.
    pub account: &'a AccountId,
    /// The operation, or whatever else names it.
    pub operation: &'a str,
    /// Its filters.
    pub filter: F,
}

impl<'a, F: Serialize> List<'a, F> {
    /// The list of an operation.
    pub fn of(account: &'a AccountId, operation: Operation, filter: F) -> Self {
        List { account, operation: operation.as_str(), filter }
    }
}

impl Cursors {
    /// Cursors of that key.
    pub fn new(key: Vec<u8>) -> Self {
        Cursors { key }
    }

    fn mac(&self, list: &List<'_, impl Serialize>, position: &[u8]) -> Result<Hmac<Sha256>, ApiError> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).map_err(crate::failure::internal)?;
        let scope = serde_json::to_vec(&(list.account, list.operation, &list.filter));
        let scope = scope.map_err(crate::failure::internal)?;
        mac.update(&(scope.len() as u64).to_le_bytes());
        mac.update(&scope);
        mac.update(position);
        Ok(mac)
    }

    /// A cursor that continues the list behind that position.
    pub fn seal(&self, list: &List<'_, impl Serialize>, position: &impl Serialize) -> Result<String, ApiError> {
        let mut bytes = serde_json::to_vec(position).map_err(crate::failure::internal)?;
        let mac = self.mac(list, &bytes)?.finalize().into_bytes();
        bytes.extend_from_slice(&mac[..MAC_BYTES]);
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads a cursor of [`Cursors::seal`] of the same list.
    pub fn open<P: DeserializeOwned>(
        &self,
        list: &List<'_, impl Serialize>,
        token: Option<&str>,
    ) -> Result<Option<P>, ApiError> {
        let Some(token) = token else { return Ok(None) };
        let wrong = || ApiError::validation("nextToken is not a token that this list returned");
        // Some clients bring the padding that other services have.
        let bytes = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).map_err(|_| wrong())?;
        let at = bytes.len().checked_sub(MAC_BYTES).ok_or_else(wrong)?;
        let (position, code) = bytes.split_at(at);
        self.mac(list, position)?.verify_truncated_left(code).map_err(|_| wrong())?;
        serde_json::from_slice(position).map(Some).map_err(|_| wrong())
    }
}

/// For lists that always fit on their first page: there is no token to go on with.
pub fn single_page(token: Option<&str>) -> Result<(), ApiError> {
    token.map_or(Ok(()), |_| Err(ApiError::validation("nextToken is not a token that this list returned")))
}

/// Cuts a page that was read with one item more than asked for; the last item of it when there is another page.
pub fn cut<T>(items: &mut Vec<T>, limit: u32) -> Option<&T> {
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    items.last().filter(|_| more)
}

/// A digest of a request's parameters, to tell a repeat from a different request with the same client token.
pub fn fingerprint(input: &impl Serialize) -> Result<String, serde_json::Error> {
    Ok(URL_SAFE_NO_PAD.encode(Sha256::digest(serde_json::to_vec(input)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_good_for_its_list_only() {
        let cursors = Cursors::new(vec![7; 32]);
        let (mine, other) = ("111122223333".parse().expect("account"), "444455556666".parse().expect("account"));
        let list = |account, filter| List { account, operation: "ListMicrovms", filter };
        let position = (1_790_000_000_123_i64, "microvm-1".to_owned());
        let token = cursors.seal(&list(&mine, Some("a")), &position).expect("sealed");
        fn open(
            cursors: &Cursors,
            list: &List<'_, Option<&str>>,
            token: Option<&str>,
        ) -> Result<Option<(i64, String)>, ApiError> {
            cursors.open(list, token)
        }
        assert_eq!(open(&cursors, &list(&mine, Some("a")), Some(&token)).expect("opens"), Some(position.clone()));
        assert_eq!(
            open(&cursors, &list(&mine, Some("a")), Some(&format!("{token}=="))).expect("opens"),
            Some(position)
        );
        assert_eq!(open(&cursors, &list(&mine, None), None).expect("none"), None);
        for list in [list(&other, Some("a")), list(&mine, Some("b")), list(&mine, None)] {
            assert_eq!(open(&cursors, &list, Some(&token)).expect_err("refused").status(), 400);
        }
        let elsewhere = Cursors::new(vec![8; 32]);
        assert!(elsewhere.open::<(i64, String)>(&list(&mine, Some("a")), Some(&token)).is_err());
        for at in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'Q' } else { b'A' };
            let forged = String::from_utf8(forged).expect("ASCII");
            assert!(open(&cursors, &list(&mine, Some("a")), Some(&forged)).is_err(), "{at}");
        }
        for wrong in ["", "x", "AAAA", &token[1..], "=="] {
            assert!(open(&cursors, &list(&mine, Some("a")), Some(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_page_that_is_not_full_is_the_last() {
        let mut items = vec![1, 2, 3];
        assert_eq!(cut(&mut items, 2), Some(&2));
        assert_eq!(items, [1, 2]);
        assert_eq!(cut(&mut items, 2), None);
    }
}
