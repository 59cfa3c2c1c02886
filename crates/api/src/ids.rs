//! Identifiers of the contract (spec 2.2, 2.3), each a type that cannot hold a wrong value.

use std::{fmt, str::FromStr};

use uuid::Uuid;

use crate::text::serde_as_text;

/// Why a text is not the identifier it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}': {reason}")]
pub struct ParseError {
    text: String,
    reason: String,
}

impl ParseError {
    /// Names the text (cut to 256 characters, for it comes from a client) and what is wrong with it.
    pub fn new(text: &str, reason: impl Into<String>) -> Self {
        ParseError { text: text.chars().take(256).collect(), reason: reason.into() }
    }
}

/// A microVM: `microvm-<uuid>`, lower-case hyphenated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MicrovmId(Uuid);

impl MicrovmId {
    /// What every id starts with.
    pub const PREFIX: &'static str = "microvm-";

    /// The id of that UUID; the caller makes it unique.
    pub const fn new(uuid: Uuid) -> Self {
        MicrovmId(uuid)
    }

    /// The part after the prefix.
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for MicrovmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, self.0)
    }
}

impl FromStr for MicrovmId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let uuid = text.strip_prefix(Self::PREFIX).and_then(canonical_uuid);
        uuid.map(MicrovmId).ok_or_else(|| ParseError::new(text, "a microVM id has the form microvm-<uuid>"))
    }
}

/// A build of an image version: a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BuildId(Uuid);

impl BuildId {
    /// The id of that UUID; the caller makes it unique.
    pub const fn new(uuid: Uuid) -> Self {
        BuildId(uuid)
    }

    /// The UUID.
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for BuildId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        canonical_uuid(text).map(BuildId).ok_or_else(|| ParseError::new(text, "a build id is a UUID"))
    }
}

/// Only the lower-case hyphenated form, so that one thing has one name.
pub(crate) fn canonical_uuid(text: &str) -> Option<Uuid> {
    let uuid = Uuid::try_parse(text).ok()?;
    (uuid.to_string() == text).then_some(uuid)
}

/// An AWS account: exactly 12 digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(String);

impl AccountId {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AccountId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(AccountId(text.to_owned()));
        }
        Err(ParseError::new(text, "an account id has exactly 12 digits"))
    }
}

/// A region such as `us-east-1`: lower-case letters, digits and hyphens, 1..=32 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region(String);

impl Region {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The partition that AWS keeps this region in: `aws`, `aws-cn` or `aws-us-gov`.
    pub fn partition(&self) -> &'static str {
        if self.0.starts_with("cn-") {
            "aws-cn"
        } else if self.0.starts_with("us-gov-") {
            "aws-us-gov"
        } else {
            "aws"
        }
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Region {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let fits = (1..=32).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if fits {
            return Ok(Region(text.to_owned()));
        }
        Err(ParseError::new(text, "a region has 1 to 32 characters of a-z, 0-9 and '-', such as us-east-1"))
    }
}

/// The name of an image: 1..=64 of `[a-zA-Z0-9-_]`, unique per account and region.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName(String);

impl ImageName {
    /// Longest name, in characters.
    pub const MAX: usize = 64;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ImageName {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let fits = (1..=Self::MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if fits {
            return Ok(ImageName(text.to_owned()));
        }
        Err(ParseError::new(text, "an image name has 1 to 64 characters of a-z, A-Z, 0-9, '-' and '_'"))
    }
}

/// The version of an image: `<major>.0` (spec 2.3), majors count from 1; the echo of a base image's version starts at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageVersion(u32);

impl ImageVersion {
    /// What `CreateMicrovmImage` makes.
    pub const FIRST: ImageVersion = ImageVersion(1);

    /// The version `<major>.0`.
    pub const fn new(major: u32) -> Self {
        ImageVersion(major)
    }

    /// The number before `.0`.
    pub const fn major(self) -> u32 {
        self.0
    }

    /// The version that the next update mints; `None` after 2^32 - 1 of them.
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(major) => Some(ImageVersion(major)),
            None => None,
        }
    }
}

impl fmt::Display for ImageVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.0", self.0)
    }
}

impl FromStr for ImageVersion {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let major = text.strip_suffix(".0").and_then(plain_number);
        major.map(ImageVersion).ok_or_else(|| ParseError::new(text, "an image version has the form <n>.0"))
    }
}

/// The version of a managed (base) image: a bare integer such as `1`. Requests take this form; echoes show it as
/// [`ImageVersion`] (spec 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BaseImageVersion(pub u32);

impl BaseImageVersion {
    /// The form in which image and version records echo it: `<n>.0`.
    pub const fn echoed(self) -> ImageVersion {
        ImageVersion(self.0)
    }
}

impl fmt::Display for BaseImageVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for BaseImageVersion {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        plain_number(text)
            .map(BaseImageVersion)
            .ok_or_else(|| ParseError::new(text, "a base image version is a whole number, without '.0'"))
    }
}

/// Decimal digits without sign and without leading zeros.
fn plain_number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { text.parse::<u32>().ok() } else { None };
    number.filter(|number| number.to_string() == text)
}

serde_as_text!(MicrovmId);
serde_as_text!(BuildId);
serde_as_text!(AccountId);
serde_as_text!(Region);
serde_as_text!(ImageName);
serde_as_text!(ImageVersion);
serde_as_text!(BaseImageVersion);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microvm_ids_round_trip_and_have_one_spelling() {
        let text = "microvm-11111111-2222-3333-4444-5555aaaa5555";
        assert_eq!(text.parse::<MicrovmId>().unwrap().to_string(), text);
        for wrong in [
            "",
            "microvm-",
            "11111111-2222-3333-4444-555555555555",
            "mvm-11111111-2222-3333-4444-555555555555",
            "microvm-11111111-2222-3333-4444-5555AAAA5555",
            "microvm-11111111222233334444555555555555",
            "microvm-{11111111-2222-3333-4444-555555555555}",
            "microvm-../../etc/passwd",
        ] {
            assert!(wrong.parse::<MicrovmId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn versions_have_one_spelling() {
        assert_eq!("12.0".parse::<ImageVersion>().unwrap(), ImageVersion::new(12));
        assert_eq!(ImageVersion::FIRST.next().unwrap().to_string(), "2.0");
        assert_eq!(BaseImageVersion(1).echoed().to_string(), "1.0");
        for wrong in ["", "1", "01.0", "1.1", "+1.0", ".0", "1.0 ", "4294967296.0"] {
            assert!(wrong.parse::<ImageVersion>().is_err(), "{wrong}");
        }
        for wrong in ["1.0", "-1", "", "one"] {
            assert!(wrong.parse::<BaseImageVersion>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn accounts_regions_and_names_are_bounded() {
        assert!("111122223333".parse::<AccountId>().is_ok());
        assert!("11112222333".parse::<AccountId>().is_err());
        assert!("aws".parse::<AccountId>().is_err());
        assert_eq!("eu-west-1".parse::<Region>().unwrap().partition(), "aws");
        assert_eq!("cn-north-1".parse::<Region>().unwrap().partition(), "aws-cn");
        assert!("EU".parse::<Region>().is_err());
        assert!("a".repeat(64).parse::<ImageName>().is_ok());
        assert!("a".repeat(65).parse::<ImageName>().is_err());
        assert!("a b".parse::<ImageName>().is_err());
    }

    #[test]
    fn errors_cut_what_the_client_sent() {
        let error = "x".repeat(100_000).parse::<BuildId>().unwrap_err().to_string();
        assert!(error.len() < 400, "{}", error.len());
    }
}
