//! Tokens: where a list goes on, bound to what it is a list of.

use api::{ApiError, logs::invalid_token};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use crate::tokens;

/// What a token continues: the operation, the account, and what else must not change between two pages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a>(pub &'a [&'a str]);

impl Scope<'_> {
    /// A token that goes on at that place.
    pub(super) fn seal(self, at: i64, place: &str) -> String {
        tokens::cursor(at, &format!("{}:{place}", self.digest(at, place)))
    }

    /// Reads a token of [`Scope::seal`] with the same scope.
    ///
    /// # Errors
    /// `InvalidParameterException` for any other.
    pub(super) fn open(self, token: &str) -> Result<(i64, String), ApiError> {
        let (at, text) = tokens::read_cursor(Some(token)).ok().flatten().ok_or_else(invalid_token)?;
        let (digest, place) = text.split_once(':').ok_or_else(invalid_token)?;
        if digest != self.digest(at, place) {
            return Err(invalid_token());
        }
        Ok((at, place.to_owned()))
    }

    fn digest(self, at: i64, place: &str) -> String {
        let mut digest = Sha256::new();
        for part in self.0.iter().chain(&[place]) {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.update(at.to_be_bytes());
        URL_SAFE_NO_PAD.encode(&digest.finalize()[..12])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_good_for_what_they_were_made_for() {
        let scope = Scope(&["op", "111122223333", "/aws/x"]);
        let token = scope.seal(7, "f:a:b");
        assert_eq!(scope.open(&token).expect("opens"), (7, "f:a:b".into()));
        for other in
            [&["op", "111122223333", "/aws/y"][..], &["op", "111122223333/aws/x"], &["op2", "111122223333", "/aws/x"]]
        {
            assert!(Scope(other).open(&token).is_err(), "{other:?}");
        }
        let changed: Vec<String> = (0..token.len())
            .map(|at| {
                let other = if &token[at..=at] == "A" { "B" } else { "A" };
                format!("{}{other}{}", &token[..at], &token[at + 1..])
            })
            .collect();
        for wrong in changed.iter().map(String::as_str).chain(["", "x", &token[1..], "f/1", "é"]) {
            assert_eq!(scope.open(wrong).expect_err("refused"), invalid_token(), "{wrong}");
        }
    }
}
