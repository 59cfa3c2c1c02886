//! The regular expressions of the model, each with the code that decides it.

use super::Pattern;
use crate::{
    arns::{RoleArn, TaggableArn},
    connectors::{ConnectorName, OperatorRole},
};

/// Java's `\s`.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\u{b}' | '\u{c}' | '\r')
}

pub(super) const NON_BLANK: Pattern =
    Pattern { text: r"[^\s]+", matches: |text| !text.is_empty() && !text.contains(is_space) };

pub(super) const IMAGE_NAME: Pattern = Pattern {
    text: "[a-zA-Z0-9-_]+",
    matches: |text| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    },
};

pub(super) const LOG_GROUP: Pattern =
    Pattern { text: r"[a-zA-Z0-9_\-/.#]+", matches: |text| !text.is_empty() && is_group_text(text) };

/// Could it be part of the name of a log group?
pub(super) fn is_group_text(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-/.#".contains(&byte))
}

pub(super) const LOG_STREAM: Pattern = Pattern { text: "[^:*]*", matches: |text| !text.contains([':', '*']) };

pub(super) const ROLE: Pattern = Pattern { text: RoleArn::PATTERN, matches: RoleArn::matches };

pub(super) const TAGGABLE: Pattern = Pattern { text: TaggableArn::PATTERN, matches: TaggableArn::matches };

pub(super) const CONNECTOR_NAME: Pattern = Pattern { text: ConnectorName::PATTERN, matches: ConnectorName::matches };

pub(super) const OPERATOR_ROLE: Pattern = Pattern { text: OperatorRole::PATTERN, matches: OperatorRole::matches };

pub(super) const SUBNET: Pattern = Pattern {
    text: "subnet-[0-9a-z]*",
    matches: |text| {
        let plain = |id: &str| id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        text.strip_prefix("subnet-").is_some_and(plain)
    },
};

pub(super) const SECURITY_GROUP: Pattern = Pattern {
    text: "sg-[0-9a-zA-Z]*",
    matches: |text| text.strip_prefix("sg-").is_some_and(|id| id.bytes().all(|byte| byte.is_ascii_alphanumeric())),
};

/// Letters, numbers and separators by Rust's notion of Unicode, which is slightly wider than the expression's.
pub(super) const TAG: Pattern = Pattern {
    text: r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)",
    matches: |text| {
        text.chars().all(|c| {
            c.is_alphanumeric()
                || (c.is_whitespace() && !c.is_control())
                || matches!(c, '_' | '.' | ':' | '/' | '=' | '+' | '-' | '@')
        })
    },
};
