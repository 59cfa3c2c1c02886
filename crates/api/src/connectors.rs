//! What a customer's network connector is called (spec 2.2, 9.2).

use std::{fmt, str::FromStr};

use uuid::Uuid;

use crate::{
    arns::{Connector, ConnectorArn, RoleArn},
    ids::{ParseError, canonical_uuid},
    text::serde_as_text,
};

/// A connector: `nc-<uuid>`, lower-case hyphenated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectorId(Uuid);

impl ConnectorId {
    /// What every id starts with.
    pub const PREFIX: &'static str = "nc-";

    /// The id of that UUID; the caller makes it unique.
    pub const fn new(uuid: Uuid) -> Self {
        ConnectorId(uuid)
    }

    /// The part after the prefix.
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for ConnectorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, self.0)
    }
}

impl FromStr for ConnectorId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let uuid = text.strip_prefix(Self::PREFIX).and_then(canonical_uuid);
        uuid.map(ConnectorId).ok_or_else(|| ParseError::new(text, "a network connector id has the form nc-<uuid>"))
    }
}

/// The name of a connector: 1..=64 of `[a-zA-Z0-9_-]`, unique per account and region, and never of the form of an id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectorName(String);

impl ConnectorName {
    /// Longest name, in characters.
    pub const MAX: usize = 64;
    /// The pattern of the service model, for messages.
    pub const PATTERN: &'static str = r"(arn:aws[a-zA-Z-]*:lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:network-connector:[a-zA-Z0-9-_]+(:[1-9][0-9]*)?)|[a-zA-Z0-9_-]{1,64}";

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Does the text match [`ConnectorName::PATTERN`]? It lets ARNs pass, which are names of connectors that are there.
    pub fn matches(text: &str) -> bool {
        plain(text) || ConnectorArn::matches(text)
    }
}

fn plain(text: &str) -> bool {
    (1..=ConnectorName::MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

impl fmt::Display for ConnectorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ConnectorName {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if plain(text) && text.parse::<ConnectorId>().is_err() {
            return Ok(ConnectorName(text.to_owned()));
        }
        let rule = "a network connector name has 1 to 64 characters of a-z, A-Z, 0-9, '-' and '_', \
                    and is neither an id nor an ARN";
        Err(ParseError::new(text, rule))
    }
}

/// What names a connector in a path: its id, its name, or its ARN, which may name one version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ConnectorIdentifier {
    /// Its id.
    Id(ConnectorId),
    /// Its name.
    Name(ConnectorName),
    /// The ARN of a customer's connector.
    Arn(ConnectorArn),
}

impl ConnectorIdentifier {
    /// Longest, in characters.
    pub const MAX: usize = 140;

    /// The version that a version-qualified ARN names.
    pub fn version(&self) -> Option<u32> {
        match self {
            ConnectorIdentifier::Arn(arn) => arn.version(),
            _ => None,
        }
    }
}

impl fmt::Display for ConnectorIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectorIdentifier::Id(id) => id.fmt(f),
            ConnectorIdentifier::Name(name) => name.fmt(f),
            ConnectorIdentifier::Arn(arn) => arn.fmt(f),
        }
    }
}

impl FromStr for ConnectorIdentifier {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if let Ok(id) = text.parse() {
            return Ok(ConnectorIdentifier::Id(id));
        }
        if let Ok(name) = text.parse() {
            return Ok(ConnectorIdentifier::Name(name));
        }
        let arn = text.parse::<ConnectorArn>().ok();
        arn.filter(|arn| matches!(arn.connector(), Connector::Custom { .. }))
            .map(ConnectorIdentifier::Arn)
            .ok_or_else(|| ParseError::new(text, "a network connector is named by its id, its name or its ARN"))
    }
}

/// The role that a connector's interfaces are made with: as [`RoleArn`], with the model's wider bounds for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperatorRole(String);

impl OperatorRole {
    /// Longest, in characters.
    pub const MAX: usize = 10_000;
    /// The pattern of the service model, for messages.
    pub const PATTERN: &'static str = r"arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+";

    /// The whole ARN.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Does the text match [`OperatorRole::PATTERN`]? The length is a separate rule.
    pub fn matches(text: &str) -> bool {
        let Some((partition, rest)) = text.strip_prefix("arn:").and_then(|text| text.split_once(':')) else {
            return false;
        };
        let letters = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-');
        (partition.is_empty() || partition.strip_prefix("aws").is_some_and(letters))
            && RoleArn::matches(&format!("arn:aws:{rest}"))
    }
}

impl fmt::Display for OperatorRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for OperatorRole {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.len() <= Self::MAX && Self::matches(text) {
            return Ok(OperatorRole(text.to_owned()));
        }
        Err(ParseError::new(text, "an operator role has the form arn:aws:iam::<account>:role/<name>"))
    }
}

serde_as_text!(ConnectorId);
serde_as_text!(ConnectorName);
serde_as_text!(ConnectorIdentifier);
serde_as_text!(OperatorRole);

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "nc-11111111-2222-3333-4444-555555555555";
    const ARN: &str = "arn:aws:lambda:us-east-1:111122223333:network-connector:nc-11111111-2222-3333-4444-555555555555";

    #[test]
    fn an_identifier_is_an_id_a_name_or_an_arn() {
        let read = |text: &str| text.parse::<ConnectorIdentifier>();
        assert!(matches!(read(ID), Ok(ConnectorIdentifier::Id(_))));
        assert!(matches!(read("nc-1"), Ok(ConnectorIdentifier::Name(_))));
        assert_eq!(read(ARN).unwrap().version(), None);
        let qualified = format!("{ARN}:12");
        assert_eq!(read(&qualified).unwrap().version(), Some(12));
        for text in [ID, "name_-9", ARN, &qualified] {
            assert_eq!(read(text).unwrap().to_string(), text);
        }
        let managed = "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:INTERNET_EGRESS";
        for wrong in
            ["", "a b", "../x", managed, &"n".repeat(65), &format!("{ARN}:0"), &format!("{ARN}:01"), &format!("{ID}:1")]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_not_ids() {
        assert!("n".repeat(64).parse::<ConnectorName>().is_ok());
        assert!(ID.parse::<ConnectorName>().is_err());
        assert!(ARN.parse::<ConnectorName>().is_err());
        assert!(
            ConnectorName::matches(ARN) && ConnectorName::matches(&format!("{ARN}:7")) && ConnectorName::matches(ID)
        );
        for wrong in ["", "a.b", &format!("{ARN}:0"), &format!("{ARN}:x"), &ARN.replace("nc-", "n/c-"), &"n".repeat(65)]
        {
            assert!(!ConnectorName::matches(wrong), "{wrong}");
        }
    }

    #[test]
    fn operator_roles_follow_the_pattern() {
        for right in [
            "arn:aws:iam::111122223333:role/a",
            "arn::iam::111122223333:role/a/b",
            "arn:aws-US-Gov:iam::111122223333:rolex",
        ] {
            assert!(right.parse::<OperatorRole>().is_ok(), "{right}");
        }
        for wrong in
            ["", "arn:gcp:iam::111122223333:role/a", "arn:aws:iam::1:role/a", "arn:aws:iam::111122223333:user/a"]
        {
            assert!(wrong.parse::<OperatorRole>().is_err(), "{wrong}");
        }
    }
}
