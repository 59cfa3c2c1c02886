//! Filter patterns: what the message of an event must hold.
//!
//! - `ERROR disk`: both texts, anywhere in the message; letters as they are written
//! - `"exact phrase"`: needed for whatever is not a letter, a digit or `_`
//! - `?ERROR ?WARN`: one of them; besides terms of another kind the service ignores these, and so does this
//! - `-DEBUG`: not that one
//! - `{ $.level = "error" && $.code >= 500 }`: see [`super::json`]
//!
//! `[...]` and `%regex%` are refused: a pattern that is not understood must not match everything.

use super::{invalid, json::Condition};
use crate::ApiError;

/// A pattern that was understood.
#[derive(Debug, Clone, PartialEq)]
pub enum FilterPattern {
    /// Every message.
    All,
    /// Terms.
    Terms(Terms),
    /// A condition on messages that are JSON.
    Json(Condition),
}

/// Terms of a pattern.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    required: Vec<String>,
    excluded: Vec<String>,
    optional: Vec<String>,
}

impl FilterPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// `InvalidParameterException` with what is wrong or not supported.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let text = text.trim();
        match text.chars().next() {
            None => Ok(FilterPattern::All),
            Some('{') => Condition::parse(text).map(FilterPattern::Json),
            Some('[') => Err(refused("patterns of space-delimited fields ([...]) are not supported here")),
            Some(_) => Terms::parse(text).map(FilterPattern::Terms),
        }
    }

    /// Does the message hold what it must?
    pub fn matches(&self, message: &str) -> bool {
        match self {
            FilterPattern::All => true,
            FilterPattern::Terms(terms) => terms.match_text(message),
            FilterPattern::Json(condition) => condition.matches(message),
        }
    }
}

/// A pattern that is not understood.
pub(super) fn refused(reason: impl std::fmt::Display) -> ApiError {
    invalid(format!("Invalid filter pattern: {reason}"))
}

impl Terms {
    fn parse(text: &str) -> Result<Self, ApiError> {
        let mut terms = Terms::default();
        let mut rest = text;
        while !rest.is_empty() {
            let list = match rest.as_bytes()[0] {
                b'?' => &mut terms.optional,
                b'-' => &mut terms.excluded,
                _ => &mut terms.required,
            };
            let body = rest.strip_prefix(['?', '-']).unwrap_or(rest);
            let (term, after) = if body.starts_with('"') { quoted(body)? } else { bare(body)? };
            if !after.is_empty() && !after.starts_with(char::is_whitespace) {
                return Err(bad_term(rest.split_whitespace().next().unwrap_or(rest)));
            }
            list.push(term);
            rest = after.trim_start();
        }
        Ok(terms)
    }

    fn match_text(&self, message: &str) -> bool {
        let holds = |term: &String| message.contains(term.as_str());
        if self.required.is_empty() && self.excluded.is_empty() {
            return self.optional.iter().any(holds);
        }
        self.required.iter().all(holds) && !self.excluded.iter().any(holds)
    }
}

fn bare(text: &str) -> Result<(String, &str), ApiError> {
    let (term, rest) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
    if term.starts_with('%') {
        return Err(refused("regular expressions (%...%) are not supported here"));
    }
    if term.is_empty() || !term.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return Err(bad_term(term));
    }
    Ok((term.to_owned(), rest))
}

/// The text between double quotes, in which `\"` and `\\` stand for themselves, and what comes after.
pub(super) fn quoted(text: &str) -> Result<(String, &str), ApiError> {
    let mut term = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' if term.is_empty() => return Err(bad_term("\"\"")),
            '"' => return Ok((term, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, escaped @ ('"' | '\\'))) => term.push(escaped),
                Some((_, other)) => term.extend(['\\', other]),
                None => break,
            },
            c => term.push(c),
        }
    }
    Err(refused("a quotation mark is not closed"))
}

fn bad_term(term: &str) -> ApiError {
    refused(format_args!("Invalid character(s) in term '{term}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, message: &str) -> bool {
        FilterPattern::parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}")).matches(message)
    }

    #[test]
    fn terms() {
        let message = "[ERROR 401] UNAUTHORIZED request \"GET /a-b\" from 10.0.0.1 é_x";
        for pattern in [
            "",
            "  ",
            "ERROR",
            "AUTHORIZED",
            "ERROR 401",
            "401 ERROR",
            "\"ERROR 401\"",
            "\"[ERROR 401]\" request",
            "\"\\\"GET /a-b\\\"\"",
            "ERROR -SUCCESS",
            "-SUCCESS",
            "?SUCCESS ?ERROR",
            "?\"10.0.0.1\" ?NONE",
            "é_x",
            "ERROR ?NONE",
            "-\"10.0.0.2\"\tERROR",
        ] {
            assert!(matches(pattern, message), "{pattern}");
        }
        for pattern in [
            "error",
            "ERROR 402",
            "\"401 ERROR\"",
            "ERROR -401",
            "-ERROR",
            "?SUCCESS ?error",
            "NONE ?ERROR",
            "-\"10.0.0.1\"",
            "\" ERROR\"",
        ] {
            assert!(!matches(pattern, message), "{pattern}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_in_words() {
        for (pattern, words) in [
            ("[ip, user]", "space-delimited"),
            ("%ERR.*%", "regular expressions"),
            ("a %b%", "regular expressions"),
            ("foo-bar", "Invalid character(s) in term 'foo-bar'"),
            ("a.b", "'a.b'"),
            ("*", "'*'"),
            ("? a", "''"),
            ("-", "''"),
            ("\"\"", "'\"\"'"),
            ("\"open", "not closed"),
            ("\"open\\", "not closed"),
            ("\"a\"b", "'\"a\"b'"),
            ("a:b", "'a:b'"),
        ] {
            let error = FilterPattern::parse(pattern).unwrap_err();
            assert!(error.message().unwrap().contains(words), "{pattern}: {error}");
            assert_eq!(error.error_type(), "InvalidParameterException");
        }
    }
}
