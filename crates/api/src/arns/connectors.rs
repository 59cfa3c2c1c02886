//! ARNs of a customer's network connectors and of their versions.

use uuid::Uuid;

use super::{Connector, ConnectorArn, fields};
use crate::ids::{AccountId, Region};

impl ConnectorArn {
    /// The ARN of a customer's connector.
    pub fn custom(region: Region, account: AccountId, id: Uuid) -> Self {
        let connector = Connector::Custom { account, id, version: None };
        ConnectorArn { partition: region.partition().to_owned(), region, connector }
    }

    /// The ARN of that version of a customer's connector; a managed one has none and stays as it is.
    pub fn with_version(&self, number: u32) -> Self {
        let mut arn = self.clone();
        if let Connector::Custom { version, .. } = &mut arn.connector {
            *version = Some(number);
        }
        arn
    }

    /// Where it lives.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The version that it names, if it names one.
    pub fn version(&self) -> Option<u32> {
        match self.connector {
            Connector::Custom { version, .. } => version,
            Connector::Managed(_) => None,
        }
    }

    /// Does the text have the form that the service model gives the ARNs of connectors?
    pub fn matches(text: &str) -> bool {
        let Some(fields) = fields(text).filter(|fields| fields.service == "lambda") else { return false };
        let Some(rest) = fields.resource.strip_prefix("network-connector:") else { return false };
        let (id, version) = rest.split_once(':').map_or((rest, None), |(id, version)| (id, Some(version)));
        let number = |text: &str| !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
        fields.partition.starts_with("aws")
            && fields.region.parse::<Region>().is_ok()
            && fields.account.parse::<AccountId>().is_ok()
            && !id.is_empty()
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && version.is_none_or(|version| !version.is_empty() && number(version))
    }
}
