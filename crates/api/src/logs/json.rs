//! Filter patterns on messages that are JSON.
//!
//! ```text
//! { ($.level = "err*" || $.code >= 500) && $.user[0].name != "x" && $.gone NOT EXISTS && $.done IS TRUE }
//! ```
//!
//! `*` in a text stands for any characters. `&&` binds closer than `||`. A message that is not a JSON object or array matches
//! nothing, and a comparison with a member that is not there does not hold, `!=` included.

use std::{cmp::Ordering, str::FromStr};

use serde_json::Value;

use super::pattern::{quoted, refused};
use crate::ApiError;

/// Deepest nesting of parentheses.
const MAX_DEPTH: usize = 32;

/// What must hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// One of them.
    Any(Vec<Condition>),
    /// All of them.
    All(Vec<Condition>),
    /// Something about one member.
    Member(Vec<Step>, Test),
}

/// One step on the way to a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Into an object.
    Name(String),
    /// Into an array.
    Index(usize),
}

/// What must hold of a member.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// It is there and its text equals, or not. `*` is any text; a number is compared as one when both are numbers.
    Equals(Text, bool),
    /// It is a number, in one of these orders to the other.
    Compares(f64, &'static [Ordering]),
    /// It is there and is this.
    Is(Value),
    /// It is not there.
    NotExists,
}

/// What a member is compared with.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    /// What stands between the `*`; one part is no wildcard.
    parts: Vec<String>,
    number: Option<f64>,
}

impl Condition {
    /// Reads `{ ... }`.
    pub(super) fn parse(text: &str) -> Result<Self, ApiError> {
        let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        let inner = inner.ok_or_else(|| refused("If a filter pattern starts with '{' it must end with '}'"))?;
        let mut parser = Parser { rest: inner.trim(), depth: 0 };
        let condition = parser.any()?;
        match parser.rest {
            "" => Ok(condition),
            rest => Err(unexpected(rest)),
        }
    }

    /// Does it hold for the message?
    pub(super) fn matches(&self, message: &str) -> bool {
        let json = message.trim_start();
        json.starts_with(['{', '[']) && serde_json::from_str(json).is_ok_and(|value| self.holds(&value))
    }

    fn holds(&self, value: &Value) -> bool {
        match self {
            Condition::Any(conditions) => conditions.iter().any(|condition| condition.holds(value)),
            Condition::All(conditions) => conditions.iter().all(|condition| condition.holds(value)),
            Condition::Member(steps, test) => test.holds(steps.iter().try_fold(value, |value, step| match step {
                Step::Name(name) => value.get(name),
                Step::Index(index) => value.get(index),
            })),
        }
    }
}

impl Test {
    fn holds(&self, member: Option<&Value>) -> bool {
        match (self, member) {
            (Test::NotExists, member) => member.is_none(),
            (_, None) => false,
            (Test::Equals(text, equal), Some(value)) => text.equals(value).is_some_and(|same| same == *equal),
            (Test::Compares(number, orders), Some(value)) => {
                let order = value.as_f64().and_then(|value| value.partial_cmp(number));
                order.is_some_and(|order| orders.contains(&order))
            }
            (Test::Is(wanted), Some(value)) => value == wanted,
        }
    }
}

impl Text {
    fn new(text: &str, may_be_number: bool) -> Self {
        let number = if may_be_number { f64::from_str(text).ok().filter(|number| number.is_finite()) } else { None };
        Text { parts: text.split('*').map(str::to_owned).collect(), number }
    }

    /// `None` for what has no text to compare: `null`, objects and arrays.
    fn equals(&self, value: &Value) -> Option<bool> {
        match value {
            Value::String(text) => Some(self.covers(text)),
            Value::Bool(flag) => Some(self.covers(if *flag { "true" } else { "false" })),
            Value::Number(number) => {
                let same = self.number.zip(number.as_f64()).is_some_and(|(ours, theirs)| ours == theirs);
                Some(same || self.covers(&number.to_string()))
            }
            Value::Null | Value::Object(_) | Value::Array(_) => None,
        }
    }

    fn covers(&self, text: &str) -> bool {
        let [first, middle @ .., last] = &self.parts[..] else {
            return self.parts.first().is_some_and(|only| only == text);
        };
        let Some(mut rest) = text.strip_prefix(first.as_str()) else { return false };
        for part in middle {
            let Some(at) = rest.find(part.as_str()) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last.as_str())
    }
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn any(&mut self) -> Result<Condition, ApiError> {
        let mut conditions = vec![self.all()?];
        while self.take("||") {
            conditions.push(self.all()?);
        }
        Ok(if conditions.len() == 1 { conditions.remove(0) } else { Condition::Any(conditions) })
    }

    fn all(&mut self) -> Result<Condition, ApiError> {
        let mut conditions = vec![self.one()?];
        while self.take("&&") {
            conditions.push(self.one()?);
        }
        Ok(if conditions.len() == 1 { conditions.remove(0) } else { Condition::All(conditions) })
    }

    fn one(&mut self) -> Result<Condition, ApiError> {
        if !self.take("(") {
            let member = self.member()?;
            return Ok(Condition::Member(member, self.test()?));
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(refused(format_args!("parentheses are nested more than {MAX_DEPTH} deep")));
        }
        let condition = self.any()?;
        self.depth -= 1;
        if self.take(")") { Ok(condition) } else { Err(unexpected(self.rest)) }
    }

    fn member(&mut self) -> Result<Vec<Step>, ApiError> {
        let from = self.rest;
        self.rest = self.rest.strip_prefix('$').ok_or_else(|| unexpected(from))?;
        let mut steps = Vec::new();
        loop {
            if let Some(rest) = self.rest.strip_prefix('.') {
                self.rest = rest;
                let name = self.while_in(|c| c.is_alphanumeric() || c == '_' || c == '-');
                if name.is_empty() {
                    return Err(unexpected(from));
                }
                steps.push(Step::Name(name.to_owned()));
            } else if let Some(rest) = self.rest.strip_prefix('[') {
                self.rest = rest;
                steps.push(self.bracket().ok_or_else(|| unexpected(from))?);
            } else {
                break;
            }
        }
        self.rest = self.rest.trim_start();
        if steps.is_empty() { Err(unexpected(from)) } else { Ok(steps) }
    }

    /// What stands in brackets: an index, or a name in either kind of quotes.
    fn bracket(&mut self) -> Option<Step> {
        let (inner, rest) = self.rest.split_once(']')?;
        self.rest = rest;
        let name = |quote| inner.strip_prefix(quote)?.strip_suffix(quote);
        match name('"').or_else(|| name('\'')) {
            Some(name) => Some(Step::Name(name.to_owned())),
            None => inner.parse().ok().map(Step::Index),
        }
    }

    fn test(&mut self) -> Result<Test, ApiError> {
        for (words, test) in [
            (["NOT", "EXISTS"], Test::NotExists),
            (["IS", "NULL"], Test::Is(Value::Null)),
            (["IS", "TRUE"], Test::Is(Value::Bool(true))),
            (["IS", "FALSE"], Test::Is(Value::Bool(false))),
        ] {
            let before = self.rest;
            if words.iter().all(|word| self.take(word)) {
                return Ok(test);
            }
            self.rest = before;
        }
        // Longer ones first.
        for (sign, orders) in [
            ("<=", &[Ordering::Less, Ordering::Equal][..]),
            (">=", &[Ordering::Greater, Ordering::Equal]),
            ("<", &[Ordering::Less]),
            (">", &[Ordering::Greater]),
        ] {
            if self.take(sign) {
                let from = self.rest;
                let number = self.text()?.number.ok_or_else(|| unexpected(from))?;
                return Ok(Test::Compares(number, orders));
            }
        }
        let equal = if self.take("!=") {
            false
        } else if self.take("=") {
            true
        } else {
            return Err(unexpected(self.rest));
        };
        Ok(Test::Equals(self.text()?, equal))
    }

    fn text(&mut self) -> Result<Text, ApiError> {
        if self.rest.starts_with('"') {
            let (text, rest) = quoted(self.rest)?;
            self.rest = rest.trim_start();
            return Ok(Text::new(&text, false));
        }
        if self.rest.starts_with('%') {
            return Err(refused("regular expressions (%...%) are not supported here"));
        }
        let from = self.rest;
        let text = self.while_in(|c| c.is_alphanumeric() || "_-.+*:/@".contains(c));
        self.rest = self.rest.trim_start();
        if text.is_empty() { Err(unexpected(from)) } else { Ok(Text::new(text, true)) }
    }

    fn while_in(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let (taken, rest) = self.rest.split_at(self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// Takes that word and the spaces after it, if it comes next.
    fn take(&mut self, word: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(word) else { return false };
        self.rest = rest.trim_start();
        true
    }
}

fn unexpected(rest: &str) -> ApiError {
    let shown: String = rest.chars().take(32).collect();
    refused(format_args!("cannot read '{shown}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, message: &str) -> bool {
        Condition::parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}")).matches(message)
    }

    const MESSAGE: &str = r#" {"level":"error","code":503,"ok":true,"none":null,"user":{"id":1,"na-me":"é"},
        "list":[{"x":"a"},2.5],"odd name":"y","ip":"10.0.0.1"}"#;

    #[test]
    fn conditions() {
        for pattern in [
            r#"{ $.level = "error" }"#,
            r#"{$.level="err*"}"#,
            r#"{ $.level = "*rr*r" }"#,
            "{ $.level = error }",
            "{ $.level = * }",
            r#"{ $.level != "warn" }"#,
            "{ $.code = 503 }",
            "{ $.code = 503.0 }",
            "{ $.code = 5* }",
            r#"{ $.code = "503" }"#,
            "{ $.code >= 503 && $.code <= 503 }",
            "{ $.code > 499 && $.code < 600 }",
            "{ $.code < 1 || $.user.id = 1 }",
            "{ ($.code < 1 || $.user.id = 1) && ($.ok IS TRUE) }",
            "{ $.code < 1 && $.code > 1 || $.ok IS TRUE }",
            "{ $.none IS NULL }",
            "{ $.gone NOT EXISTS }",
            "{ $.user.gone NOT EXISTS }",
            r#"{ $.user.na-me = "é" }"#,
            r#"{ $.list[0].x = "a" && $.list[1] = 2.5 && $.list[2] NOT EXISTS }"#,
            r#"{ $["odd name"] = "y" && $['odd name'] = y }"#,
            "{ $.ip = 10.0.* }",
        ] {
            assert!(matches(pattern, MESSAGE), "{pattern}");
        }
        for pattern in [
            r#"{ $.level = "ERROR" }"#,
            r#"{ $.level = "err" }"#,
            r#"{ $.level = "*errorr*r" }"#,
            r#"{ $.level != "error" }"#,
            r#"{ $.gone != "x" }"#,
            r#"{ $.user = "x" }"#,
            r#"{ $.user != "x" }"#,
            "{ $.level > 1 }",
            "{ $.code > 503 }",
            "{ $.code < 1 || $.code > 600 }",
            "{ $.ok IS FALSE }",
            "{ $.code NOT EXISTS }",
            "{ $.none NOT EXISTS }",
        ] {
            assert!(!matches(pattern, MESSAGE), "{pattern}");
        }
        for message in ["", "error", "\"error\"", "{", "5", r#"{"level":"error"} x"#] {
            assert!(!matches(r#"{ $.gone NOT EXISTS }"#, message), "{message}");
        }
        assert!(matches("{ $[1] = 2 }", "[1,2]"));
    }

    #[test]
    fn a_wildcard_does_not_use_a_character_twice() {
        assert!(!matches(r#"{ $.a = "ab*ba" }"#, r#"{"a":"aba"}"#));
        assert!(matches(r#"{ $.a = "ab*ba" }"#, r#"{"a":"abba"}"#));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let deep = format!("{{{} $.a = 1 {}}}", "(".repeat(33), ")".repeat(33));
        for pattern in [
            "{",
            "{}",
            "{ $.a = 1",
            "{ $ = 1 }",
            "{ $.a }",
            "{ $.a = }",
            "{ $.a == 1 }",
            "{ $.a > x }",
            "{ $.a = 1 & $.b = 1 }",
            "{ $.a = 1 && }",
            "{ ($.a = 1 }",
            "{ $.a = 1) }",
            "{ $.a = %x% }",
            "{ $.a[*] = 1 }",
            "{ $.* = 1 }",
            "{ $.a IS MAYBE }",
            "{ a = 1 }",
            "{ $.a = \"x }",
            &deep,
        ] {
            let error = Condition::parse(pattern).unwrap_err();
            assert_eq!(error.error_type(), "InvalidParameterException", "{pattern}");
        }
    }
}
