//! Versions of an image, and their builds.

use serde::{Deserialize, Serialize};

use super::{Architecture, Chipset, ImageConfiguration, Tags};
use crate::{
    Timestamp,
    arns::ImageArn,
    ids::{BuildId, ImageVersion},
    text::enumeration,
};

enumeration! {
    /// State of an image version (spec 4.2).
    ImageVersionState {
        /// Waiting for its build.
        Pending = "PENDING",
        /// Being built.
        InProgress = "IN_PROGRESS",
        /// Built.
        Successful = "SUCCESSFUL",
        /// Not built.
        Failed = "FAILED",
        /// Going away.
        Deleting = "DELETING",
        /// Gone.
        Deleted = "DELETED",
        /// Could not be deleted.
        DeleteFailed = "DELETE_FAILED",
    }
}

enumeration! {
    /// May a version be launched?
    ImageVersionStatus {
        /// Yes.
        Active = "ACTIVE",
        /// No.
        Inactive = "INACTIVE",
    }
}

enumeration! {
    /// State of a build (spec 4.2).
    BuildState {
        /// Waiting.
        Pending = "PENDING",
        /// Being made.
        InProgress = "IN_PROGRESS",
        /// Made.
        Successful = "SUCCESSFUL",
        /// Not made.
        Failed = "FAILED",
    }
}

/// `GetMicrovmImageVersion`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetMicrovmImageVersionInput {
    /// The image.
    pub image_identifier: ImageArn,
    /// The version.
    pub image_version: ImageVersion,
}

/// A version with its whole build configuration; the answer of `GetMicrovmImageVersion` and the item of its list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MicrovmImageVersion {
    /// The image.
    pub image_arn: ImageArn,
    /// The version.
    pub image_version: ImageVersion,
    /// How far its build is.
    pub state: ImageVersionState,
    /// May it be launched?
    pub status: ImageVersionStatus,
    /// `null`: the reason is on the build (spec 4.4).
    pub state_reason: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Option<Timestamp>,
    /// How it is built.
    #[serde(flatten)]
    pub configuration: ImageConfiguration,
    /// The base version, as `<n>.0`.
    pub base_image_version: Option<ImageVersion>,
    /// Tags of the image.
    pub tags: Option<Tags>,
}

/// Answer of `GetMicrovmImageVersion`.
pub type GetMicrovmImageVersionOutput = MicrovmImageVersion;

/// `UpdateMicrovmImageVersion`: may it be launched?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateMicrovmImageVersionInput {
    /// The image.
    pub image_identifier: ImageArn,
    /// The version.
    pub image_version: ImageVersion,
    /// The status it gets.
    pub status: ImageVersionStatus,
}

/// Answer of `UpdateMicrovmImageVersion`.
pub type UpdateMicrovmImageVersionOutput = MicrovmImageVersion;

/// `DeleteMicrovmImageVersion`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteMicrovmImageVersionInput {
    /// The image.
    pub image_identifier: ImageArn,
    /// The version.
    pub image_version: ImageVersion,
}

/// Answer of `DeleteMicrovmImageVersion`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteMicrovmImageVersionOutput {
    /// The image.
    pub image_identifier: ImageArn,
    /// The version.
    pub image_version: ImageVersion,
    /// `DELETING`.
    pub state: ImageVersionState,
}

/// `ListMicrovmImageVersions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListMicrovmImageVersionsInput {
    /// The image.
    pub image_identifier: ImageArn,
    /// Items per page, 1..=50.
    pub max_results: Option<u32>,
    /// Cursor of the page before.
    pub next_token: Option<String>,
}

/// Answer of `ListMicrovmImageVersions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListMicrovmImageVersionsOutput {
    /// One page.
    pub items: Vec<MicrovmImageVersion>,
    /// `null` at the end.
    pub next_token: Option<String>,
}

/// `GetMicrovmImageBuild`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetMicrovmImageBuildInput {
    /// The image.
    pub image_identifier: ImageArn,
    /// The version.
    pub image_version: ImageVersion,
    /// The build.
    pub build_id: BuildId,
}

/// A build in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildSummary {
    /// The image.
    pub image_arn: ImageArn,
    /// The version.
    pub image_version: ImageVersion,
    /// The build.
    pub build_id: BuildId,
    /// How far it is.
    pub build_state: BuildState,
    /// What it is for.
    pub architecture: Architecture,
    /// What it is for.
    pub chipset: Chipset,
    /// What it is for, such as `4`.
    pub chipset_generation: String,
    /// Why it failed (spec 4.4).
    pub state_reason: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
}

/// Answer of `GetMicrovmImageBuild`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetMicrovmImageBuildOutput {
    /// As in the list.
    #[serde(flatten)]
    pub build: BuildSummary,
    /// Sizes, once it succeeded.
    pub snapshot_build: Option<SnapshotBuild>,
}

/// Sizes of a snapshot, bytes (spec 4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotBuild {
    /// Memory.
    pub memory_snapshot_size_in_bytes: Option<u64>,
    /// What the application installed.
    pub code_install_size_in_bytes: Option<u64>,
    /// Disk.
    pub disk_snapshot_size_in_bytes: Option<u64>,
}

/// `ListMicrovmImageBuilds`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListMicrovmImageBuildsInput {
    /// The image.
    pub image_identifier: ImageArn,
    /// The version.
    pub image_version: ImageVersion,
    /// Items per page, 1..=50.
    pub max_results: Option<u32>,
    /// Cursor of the page before.
    pub next_token: Option<String>,
    /// Only these.
    pub architecture: Option<Architecture>,
    /// Only these.
    pub chipset: Option<Chipset>,
    /// Only these.
    pub chipset_generation: Option<String>,
}

/// Answer of `ListMicrovmImageBuilds`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListMicrovmImageBuildsOutput {
    /// One page.
    pub items: Vec<BuildSummary>,
    /// `null` at the end.
    pub next_token: Option<String>,
}
