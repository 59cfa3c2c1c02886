//! ARNs of images and network connectors (spec 2.2).

mod connectors;

use std::{fmt, str::FromStr};

use uuid::Uuid;

use crate::{
    ids::{AccountId, ImageName, ParseError, Region},
    text::{enumeration, serde_as_text},
};

/// Longest image ARN that a request may carry, in characters (model `MicrovmImageIdentifier`).
pub const IMAGE_IDENTIFIER_MAX: usize = 256;

/// The first five fields of an ARN and the rest.
struct Fields<'a> {
    partition: &'a str,
    service: &'a str,
    region: &'a str,
    account: &'a str,
    resource: &'a str,
}

/// `None` unless there are six fields and a partition of `[a-z0-9-]+`.
fn fields(text: &str) -> Option<Fields<'_>> {
    let mut parts = text.splitn(6, ':');
    if parts.next()? != "arn" {
        return None;
    }
    let fields = Fields {
        partition: parts.next()?,
        service: parts.next()?,
        region: parts.next()?,
        account: parts.next()?,
        resource: parts.next()?,
    };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (!fields.partition.is_empty() && fields.partition.bytes().all(plain)).then_some(fields)
}

/// Does the text have the outer form of an ARN at all? `RunMicrovm` words its refusal by this (spec 2.2).
pub fn starts_like_an_arn(text: &str) -> bool {
    text.starts_with("arn:")
}

/// An image of a customer: `arn:<partition>:lambda:<region>:<account>:microvm-image:<name>`, a colon before the name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageArn {
    partition: String,
    region: Region,
    account: AccountId,
    name: ImageName,
}

impl ImageArn {
    /// The ARN of that image.
    pub fn new(region: Region, account: AccountId, name: ImageName) -> Self {
        ImageArn { partition: region.partition().to_owned(), region, account, name }
    }

    /// Where it lives.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Who owns it.
    pub fn account(&self) -> &AccountId {
        &self.account
    }

    /// Its name.
    pub fn name(&self) -> &ImageName {
        &self.name
    }
}

impl fmt::Display for ImageArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "arn:{}:lambda:{}:{}:microvm-image:{}", self.partition, self.region, self.account, self.name)
    }
}

impl FromStr for ImageArn {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || {
            ParseError::new(text, "an image ARN has the form arn:aws:lambda:<region>:<account>:microvm-image:<name>")
        };
        let fields = fields(text).ok_or_else(wrong)?;
        let name = fields.resource.strip_prefix("microvm-image:").ok_or_else(wrong)?;
        if fields.service != "lambda" {
            return Err(wrong());
        }
        Ok(ImageArn {
            partition: fields.partition.to_owned(),
            region: fields.region.parse().map_err(|_| wrong())?,
            account: fields.account.parse().map_err(|_| wrong())?,
            name: name.parse().map_err(|_| wrong())?,
        })
    }
}

/// A managed (base) image: as [`ImageArn`] with the literal account `aws`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ManagedImageArn {
    partition: String,
    region: Region,
    name: ImageName,
}

impl ManagedImageArn {
    /// The ARN of that managed image.
    pub fn new(region: Region, name: ImageName) -> Self {
        ManagedImageArn { partition: region.partition().to_owned(), region, name }
    }

    /// Where it is offered.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Its name, such as `al2023-1`.
    pub fn name(&self) -> &ImageName {
        &self.name
    }
}

impl fmt::Display for ManagedImageArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "arn:{}:lambda:{}:aws:microvm-image:{}", self.partition, self.region, self.name)
    }
}

impl FromStr for ManagedImageArn {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || {
            ParseError::new(text, "a managed image ARN has the form arn:aws:lambda:<region>:aws:microvm-image:<name>")
        };
        let fields = fields(text).ok_or_else(wrong)?;
        let name = fields.resource.strip_prefix("microvm-image:").ok_or_else(wrong)?;
        if fields.service != "lambda" || fields.account != "aws" {
            return Err(wrong());
        }
        Ok(ManagedImageArn {
            partition: fields.partition.to_owned(),
            region: fields.region.parse().map_err(|_| wrong())?,
            name: name.parse().map_err(|_| wrong())?,
        })
    }
}

enumeration! {
    /// The connectors that AWS itself offers (spec 7, 9.1).
    ManagedConnector {
        /// Application traffic from the internet; the default ingress.
        HttpIngress = "HTTP_INGRESS",
        /// Shell tokens may be made.
        ShellIngress = "SHELL_INGRESS",
        /// Both; may not be combined with another ingress connector.
        AllIngress = "ALL_INGRESS",
        /// No traffic at all.
        NoIngress = "NO_INGRESS",
        /// Any public address; the default egress.
        InternetEgress = "INTERNET_EGRESS",
    }
}

/// Which way traffic flows through a connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Towards the application.
    Ingress,
    /// Out of the guest.
    Egress,
}

impl ManagedConnector {
    /// Which list of a request it belongs into.
    pub const fn direction(self) -> Direction {
        match self {
            ManagedConnector::InternetEgress => Direction::Egress,
            _ => Direction::Ingress,
        }
    }

    /// Its ARN in that region.
    pub fn arn(self, region: &Region) -> ConnectorArn {
        ConnectorArn {
            partition: region.partition().to_owned(),
            region: region.clone(),
            connector: Connector::Managed(self),
        }
    }
}

/// What a connector ARN names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Connector {
    /// One of AWS's own.
    Managed(ManagedConnector),
    /// A customer's: `nc-<uuid>`, optionally one version of it. Always egress.
    Custom {
        /// The owner.
        account: AccountId,
        /// The UUID after `nc-`.
        id: Uuid,
        /// The version in a version-qualified ARN.
        version: Option<u32>,
    },
}

/// The ARN of a network connector.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectorArn {
    partition: String,
    region: Region,
    connector: Connector,
}

impl ConnectorArn {
    /// What it names.
    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// The managed connector that it names, if it does.
    pub fn managed(&self) -> Option<ManagedConnector> {
        match self.connector {
            Connector::Managed(managed) => Some(managed),
            Connector::Custom { .. } => None,
        }
    }

    /// Which way its traffic flows.
    pub fn direction(&self) -> Direction {
        self.managed().map_or(Direction::Egress, ManagedConnector::direction)
    }
}

/// Why a text is no connector ARN; the messages are the service's own (spec 3.2, `RunMicrovm`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectorArnError {
    /// Not the form of a connector ARN.
    #[error("Malformed network connector ARN")]
    Malformed,
    /// The form of a managed one, with a name that AWS does not have.
    #[error("Unrecognized managed network connector ARN: {0}")]
    Unrecognized(String),
}

const MANAGED_PREFIX: &str = "network-connector:aws-network-connector:";
const CUSTOM_PREFIX: &str = "network-connector:nc-";

impl fmt::Display for ConnectorArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConnectorArn { partition, region, connector } = self;
        match connector {
            Connector::Managed(name) => write!(f, "arn:{partition}:lambda:{region}:aws:{MANAGED_PREFIX}{name}"),
            Connector::Custom { account, id, version } => {
                write!(f, "arn:{partition}:lambda:{region}:{account}:{CUSTOM_PREFIX}{id}")?;
                version.map_or(Ok(()), |version| write!(f, ":{version}"))
            }
        }
    }
}

impl FromStr for ConnectorArn {
    type Err = ConnectorArnError;

    fn from_str(text: &str) -> Result<Self, ConnectorArnError> {
        let malformed = || ConnectorArnError::Malformed;
        let fields = fields(text).filter(|fields| fields.service == "lambda").ok_or_else(malformed)?;
        let region = fields.region.parse().map_err(|_| malformed())?;
        let connector = if fields.account == "aws" {
            let name = fields.resource.strip_prefix(MANAGED_PREFIX).ok_or_else(malformed)?;
            let unrecognized = |_| ConnectorArnError::Unrecognized(text.chars().take(256).collect());
            Connector::Managed(name.parse().map_err(unrecognized)?)
        } else {
            custom(fields.account, fields.resource).ok_or_else(malformed)?
        };
        Ok(ConnectorArn { partition: fields.partition.to_owned(), region, connector })
    }
}

fn custom(account: &str, resource: &str) -> Option<Connector> {
    let rest = resource.strip_prefix(CUSTOM_PREFIX)?;
    let (id, version) = match rest.split_once(':') {
        Some((id, version)) => {
            let number = version.parse::<crate::ids::BaseImageVersion>().ok()?.0;
            (id, Some((number > 0).then_some(number)?))
        }
        None => (rest, None),
    };
    let uuid = Uuid::try_parse(id).ok().filter(|uuid| uuid.to_string() == id)?;
    Some(Connector::Custom { account: account.parse().ok()?, id: uuid, version })
}

/// What the tag operations take: an image or a customer's network connector.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaggableArn {
    /// An image.
    Image(ImageArn),
    /// A network connector, without a version.
    Connector(ConnectorArn),
}

impl TaggableArn {
    /// The pattern of the service model, for messages. It has more kinds of resources than this service.
    pub const PATTERN: &'static str = r"arn:(aws[a-zA-Z-]*):lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:(function:[a-zA-Z0-9-_]+(:(\$LATEST|[a-zA-Z0-9-_]+))?|layer:([a-zA-Z0-9-_]+)|code-signing-config:csc-[a-z0-9]{17}|event-source-mapping:[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|(capacity-provider|network-connector|microvm-image):[a-zA-Z0-9-_]+)";

    /// Does the text match [`TaggableArn::PATTERN`]? Lambda's other resources are held to their outer form only.
    pub fn matches(text: &str) -> bool {
        let Some(fields) = fields(text).filter(|fields| fields.service == "lambda") else { return false };
        let Some((kind, name)) = fields.resource.split_once(':') else { return false };
        let plain = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        let named = match kind {
            "function" => name.splitn(2, ':').all(|part| part == "$LATEST" || plain(part)),
            "layer" | "code-signing-config" | "event-source-mapping" => plain(name),
            "capacity-provider" | "network-connector" | "microvm-image" => plain(name),
            _ => false,
        };
        named
            && fields.partition.starts_with("aws")
            && fields.region.parse::<Region>().is_ok()
            && fields.account.parse::<AccountId>().is_ok()
    }
}

impl fmt::Display for TaggableArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaggableArn::Image(arn) => arn.fmt(f),
            TaggableArn::Connector(arn) => arn.fmt(f),
        }
    }
}

impl FromStr for TaggableArn {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if let Ok(image) = text.parse() {
            return Ok(TaggableArn::Image(image));
        }
        let connector: Option<ConnectorArn> = text.parse().ok();
        connector
            .filter(|arn| matches!(arn.connector, Connector::Custom { version: None, .. }))
            .map(TaggableArn::Connector)
            .ok_or_else(|| ParseError::new(text, "images and network connectors have tags, and nothing else"))
    }
}

/// The ARN of an IAM role: `arn:aws*:iam::<account>:role/<path and name>`, 20..=2048 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleArn(String);

impl RoleArn {
    /// Shortest, in characters.
    pub const MIN: usize = 20;
    /// Longest, in characters.
    pub const MAX: usize = 2048;
    /// The pattern of the service model, for messages.
    pub const PATTERN: &'static str = r"arn:aws[a-z\-]*:iam::[0-9]{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+";

    /// The whole ARN.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Does the text match [`RoleArn::PATTERN`]? The length is a separate rule.
    pub fn matches(text: &str) -> bool {
        let Some(fields) = fields(text) else { return false };
        let partition = fields.partition.strip_prefix("aws");
        let name = fields.resource.strip_prefix("role").map(|rest| rest.strip_prefix('/').unwrap_or(rest));
        partition.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'))
            && fields.service == "iam"
            && fields.region.is_empty()
            && fields.account.parse::<AccountId>().is_ok()
            && name.is_some_and(|name| {
                !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+=,.@-/".contains(&byte))
            })
    }
}

impl fmt::Display for RoleArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RoleArn {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if (Self::MIN..=Self::MAX).contains(&text.len()) && Self::matches(text) {
            return Ok(RoleArn(text.to_owned()));
        }
        Err(ParseError::new(text, "a role ARN has the form arn:aws:iam::<account>:role/<name>, 20 to 2048 characters"))
    }
}

serde_as_text!(ImageArn);
serde_as_text!(ManagedImageArn);
serde_as_text!(ConnectorArn);
serde_as_text!(RoleArn);
serde_as_text!(TaggableArn);

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: &str = "arn:aws:lambda:us-east-1:111122223333:microvm-image:demo";
    const BASE: &str = "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1";

    #[test]
    fn image_arns_round_trip() {
        let arn: ImageArn = IMAGE.parse().unwrap();
        assert_eq!(arn.to_string(), IMAGE);
        assert_eq!(
            (arn.region().as_str(), arn.account().as_str(), arn.name().as_str()),
            ("us-east-1", "111122223333", "demo")
        );
        let base: ManagedImageArn = BASE.parse().unwrap();
        assert_eq!(base.to_string(), BASE);
    }

    #[test]
    fn neither_kind_of_image_arn_passes_for_the_other() {
        assert!(BASE.parse::<ImageArn>().is_err());
        assert!(IMAGE.parse::<ManagedImageArn>().is_err());
    }

    #[test]
    fn wrong_image_arns_are_refused() {
        for wrong in [
            "demo",
            "arn:aws:lambda:us-east-1:111122223333:microvm-image/demo",
            "arn:aws:lambda:us-east-1:111122223333:microvm-image:",
            "arn:aws:lambda:us-east-1:111122223333:microvm-image:a:b",
            "arn:aws:lambda:us-east-1:111122223333:microvm-image:../x",
            "arn:aws:s3:us-east-1:111122223333:microvm-image:demo",
            "arn::lambda:us-east-1:111122223333:microvm-image:demo",
            "arn:aws:lambda::111122223333:microvm-image:demo",
        ] {
            assert!(wrong.parse::<ImageArn>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn connectors_round_trip_and_say_what_is_wrong() {
        let region: Region = "us-east-1".parse().unwrap();
        let managed = ManagedConnector::HttpIngress.arn(&region);
        assert_eq!(
            managed.to_string(),
            "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:HTTP_INGRESS"
        );
        assert_eq!(managed.to_string().parse::<ConnectorArn>().unwrap(), managed);
        let custom = "arn:aws:lambda:us-east-1:111122223333:network-connector:nc-11111111-2222-3333-4444-555555555555";
        for text in [custom.to_owned(), format!("{custom}:3")] {
            let arn: ConnectorArn = text.parse().unwrap();
            assert_eq!(arn.to_string(), text);
            assert_eq!(arn.direction(), Direction::Egress);
        }
        let wrong = |text: &str| text.parse::<ConnectorArn>().unwrap_err().to_string();
        assert_eq!(wrong("HTTP_INGRESS"), "Malformed network connector ARN");
        let unknown = "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:NO_EGRESS";
        assert_eq!(wrong(unknown), format!("Unrecognized managed network connector ARN: {unknown}"));
    }

    #[test]
    fn role_arns_follow_the_pattern() {
        for right in [
            "arn:aws:iam::111122223333:role/build",
            "arn:aws-us-gov:iam::111122223333:role/service-role/a.b+c=d,e@f_g",
            "arn:aws:iam::111122223333:rolex",
        ] {
            assert!(right.parse::<RoleArn>().is_ok(), "{right}");
        }
        for wrong in [
            "arn:aws:iam::111122223333:role/",
            "arn:aws:iam::111122223333:user/a",
            "arn:aws:iam:us-east-1:111122223333:role/a",
            "arn:gcp:iam::111122223333:role/a",
            "arn:aws:iam::1111:role/abcdefghijk",
        ] {
            assert!(wrong.parse::<RoleArn>().is_err(), "{wrong}");
        }
    }
}
