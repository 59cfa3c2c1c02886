//! Images and managed images.

use serde::{Deserialize, Serialize};

use super::{Architecture, Capability, CodeArtifact, CpuConfiguration, Environment, Hooks, Logging, Resources, Tags};
use crate::{
    Timestamp,
    arns::{ConnectorArn, ImageArn, ManagedConnector, ManagedImageArn, RoleArn},
    ids::{BaseImageVersion, ImageName, ImageVersion, Region},
    schema::bounds,
    text::enumeration,
};

enumeration! {
    /// State of an image (spec 4.2).
    ImageState {
        /// The first version is being built.
        Creating = "CREATING",
        /// The first version succeeded.
        Created = "CREATED",
        /// The first version failed.
        CreateFailed = "CREATE_FAILED",
        /// A later version is being built, or a version deleted.
        Updating = "UPDATING",
        /// The later version succeeded.
        Updated = "UPDATED",
        /// The later version failed.
        UpdateFailed = "UPDATE_FAILED",
        /// Going away; the name stays taken.
        Deleting = "DELETING",
        /// Could not be deleted.
        DeleteFailed = "DELETE_FAILED",
        /// Gone.
        Deleted = "DELETED",
    }
}

enumeration! {
    /// State of a managed image's version.
    ManagedImageVersionStatus {
        /// To be used.
        Available = "AVAILABLE",
        /// Still usable.
        Deprecated = "DEPRECATED",
        /// No longer usable.
        Recalled = "RECALLED",
    }
}

/// How a version is built and run; what create, update and every view of a version share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageConfiguration {
    /// The managed image beneath.
    pub base_image_arn: ManagedImageArn,
    /// The role of the build.
    pub build_role_arn: RoleArn,
    /// Free text.
    pub description: Option<String>,
    /// The zip.
    pub code_artifact: CodeArtifact,
    /// Where logs go; absent: the service chooses.
    pub logging: Option<Logging>,
    /// At most one; absent: see [`ImageConfiguration::with_defaults`].
    pub egress_network_connectors: Option<Vec<ConnectorArn>>,
    /// What to build for; absent: the host's own.
    pub cpu_configurations: Option<Vec<CpuConfiguration>>,
    /// At most one; absent: see [`ImageConfiguration::with_defaults`].
    pub resources: Option<Vec<Resources>>,
    /// Additional capabilities of the application.
    pub additional_os_capabilities: Option<Vec<Capability>>,
    /// Absent: no hook is called.
    pub hooks: Option<Hooks>,
    /// Environment of the application, on top of the Dockerfile's.
    pub environment_variables: Option<Environment>,
}

impl ImageConfiguration {
    /// Fills in what the service echoes for omitted members: internet egress and 2048 MiB (spec 3.2). Others stay `null`.
    pub fn with_defaults(mut self, region: &Region) -> Self {
        if self.egress_network_connectors.as_ref().is_none_or(Vec::is_empty) {
            self.egress_network_connectors = Some(vec![ManagedConnector::InternetEgress.arn(region)]);
        }
        if self.resources.as_ref().is_none_or(Vec::is_empty) {
            self.resources = Some(vec![Resources { minimum_memory_in_mib: bounds::MEMORY_DEFAULT_MIB }]);
        }
        self
    }

    /// The size, MiB.
    pub fn memory_mib(&self) -> u32 {
        let chosen = self.resources.as_ref().and_then(|list| list.first());
        chosen.map_or(bounds::MEMORY_DEFAULT_MIB, |resources| resources.minimum_memory_in_mib)
    }

    /// The architecture asked for, if any.
    pub fn architecture(&self) -> Option<Architecture> {
        self.cpu_configurations.as_ref().and_then(|list| list.first()).map(|cpu| cpu.architecture)
    }
}

/// `CreateMicrovmImage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateMicrovmImageInput {
    /// The name of the new image.
    pub name: ImageName,
    /// How version 1.0 is built.
    #[serde(flatten)]
    pub configuration: ImageConfiguration,
    /// The base version; absent: the newest.
    pub base_image_version: Option<BaseImageVersion>,
    /// Tags of the image.
    pub tags: Option<Tags>,
    /// Makes repeats safe.
    pub client_token: Option<String>,
}

/// Answer of `CreateMicrovmImage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateMicrovmImageOutput {
    /// The new image.
    pub image_arn: ImageArn,
    /// Its name.
    pub name: ImageName,
    /// `CREATING`.
    pub state: ImageState,
    /// `1.0`.
    pub image_version: ImageVersion,
    /// The version that is launched when none is named.
    pub latest_active_image_version: Option<ImageVersion>,
    /// The version that failed last.
    pub latest_failed_image_version: Option<ImageVersion>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Option<Timestamp>,
    /// The echo, defaults filled in.
    #[serde(flatten)]
    pub configuration: ImageConfiguration,
    /// The base version chosen, as `<n>.0`.
    pub base_image_version: Option<ImageVersion>,
    /// Tags of the image.
    pub tags: Option<Tags>,
}

/// `UpdateMicrovmImage`: a new version. A full replacement: what is absent falls back to the service's default, not to the
/// version before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateMicrovmImageInput {
    /// The image.
    pub image_identifier: ImageArn,
    /// How the new version is built.
    #[serde(flatten)]
    pub configuration: ImageConfiguration,
    /// The base version; absent: the newest.
    pub base_image_version: Option<BaseImageVersion>,
    /// Makes repeats safe.
    pub client_token: Option<String>,
}

/// Answer of `UpdateMicrovmImage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateMicrovmImageOutput {
    /// The image.
    pub image_arn: ImageArn,
    /// Its name.
    pub name: ImageName,
    /// `UPDATING`.
    pub state: ImageState,
    /// The new version.
    pub image_version: ImageVersion,
    /// The version that is launched when none is named; still the one before.
    pub latest_active_image_version: Option<ImageVersion>,
    /// The version that failed last.
    pub latest_failed_image_version: Option<ImageVersion>,
    /// When the image was made.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
    /// The echo, defaults filled in.
    #[serde(flatten)]
    pub configuration: ImageConfiguration,
    /// The base version chosen, as `<n>.0`.
    pub base_image_version: Option<ImageVersion>,
}

/// `GetMicrovmImage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetMicrovmImageInput {
    /// The image.
    pub image_identifier: ImageArn,
}

/// Answer of `GetMicrovmImage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetMicrovmImageOutput {
    /// The image.
    pub image_arn: ImageArn,
    /// Its name.
    pub name: ImageName,
    /// Its state.
    pub state: ImageState,
    /// The version that is launched when none is named.
    pub latest_active_image_version: Option<ImageVersion>,
    /// The version that failed last.
    pub latest_failed_image_version: Option<ImageVersion>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Option<Timestamp>,
    /// Its tags, `{}` when none.
    pub tags: Option<Tags>,
}

/// `ListMicrovmImages`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListMicrovmImagesInput {
    /// Items per page, 1..=50.
    pub max_results: Option<u32>,
    /// Cursor of the page before.
    pub next_token: Option<String>,
    /// Part of the name.
    pub name_filter: Option<String>,
}

/// Answer of `ListMicrovmImages`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListMicrovmImagesOutput {
    /// One page.
    pub items: Vec<ImageSummary>,
    /// `null` at the end.
    pub next_token: Option<String>,
}

/// An image in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageSummary {
    /// The image.
    pub image_arn: ImageArn,
    /// Its name.
    pub name: ImageName,
    /// Its state.
    pub state: ImageState,
    /// The version that is launched when none is named.
    pub latest_active_image_version: Option<ImageVersion>,
    /// The version that failed last.
    pub latest_failed_image_version: Option<ImageVersion>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// `DeleteMicrovmImage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteMicrovmImageInput {
    /// The image.
    pub image_identifier: ImageArn,
}

/// Answer of `DeleteMicrovmImage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteMicrovmImageOutput {
    /// The image.
    pub image_identifier: ImageArn,
    /// `DELETING`.
    pub state: ImageState,
}

/// `ListManagedMicrovmImages`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListManagedMicrovmImagesInput {
    /// Items per page, 1..=50.
    pub max_results: Option<u32>,
    /// Cursor of the page before.
    pub next_token: Option<String>,
}

/// Answer of `ListManagedMicrovmImages`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListManagedMicrovmImagesOutput {
    /// One page.
    pub items: Vec<ManagedImageSummary>,
    /// `null` at the end.
    pub next_token: Option<String>,
}

/// A managed image in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagedImageSummary {
    /// The image.
    pub image_arn: ManagedImageArn,
    /// When it appeared.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Option<Timestamp>,
}

/// `ListManagedMicrovmImageVersions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListManagedMicrovmImageVersionsInput {
    /// The managed image.
    pub image_identifier: ManagedImageArn,
    /// Items per page, 1..=50.
    pub max_results: Option<u32>,
    /// Cursor of the page before.
    pub next_token: Option<String>,
}

/// Answer of `ListManagedMicrovmImageVersions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListManagedMicrovmImageVersionsOutput {
    /// One page, newest first.
    pub items: Vec<ManagedImageVersion>,
    /// `null` at the end.
    pub next_token: Option<String>,
}

/// A version of a managed image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagedImageVersion {
    /// The managed image.
    pub image_arn: ManagedImageArn,
    /// A bare integer (spec 2.3).
    pub image_version: BaseImageVersion,
    /// May it be used?
    pub status: Option<ManagedImageVersionStatus>,
    /// What it can be built for.
    pub supported_cpu_configurations: Option<Vec<CpuConfiguration>>,
    /// When it appeared.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Option<Timestamp>,
}
