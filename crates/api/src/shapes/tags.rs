//! Tags of images and network connectors.

use serde::{Deserialize, Serialize};

use super::{Tags, Unit};
use crate::arns::TaggableArn;

/// `TagResource`: adds tags, and replaces the values of those that are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TagResourceInput {
    /// What gets them.
    pub resource: TaggableArn,
    /// Key to value.
    pub tags: Tags,
}

/// `UntagResource`: takes tags away; keys that are not there are no error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UntagResourceInput {
    /// What loses them.
    #[serde(rename = "Resource")]
    pub resource: TaggableArn,
    /// The keys.
    #[serde(rename = "tagKeys")]
    pub tag_keys: Vec<String>,
}

/// `ListTags`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListTagsInput {
    /// Whose.
    pub resource: TaggableArn,
}

/// Answer of `ListTags`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListTagsOutput {
    /// `{}` when there are none.
    pub tags: Option<Tags>,
}

/// Answer of `TagResource`: no body.
pub type TagResourceOutput = Unit;
/// Answer of `UntagResource`: no body.
pub type UntagResourceOutput = Unit;
