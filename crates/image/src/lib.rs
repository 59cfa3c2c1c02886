//! From an artifact (a zip with a `Dockerfile`, spec 4.1) to a root disk that a machine can boot.
//!
//! ```text
//! artifact.zip ──archive──> context/ ──buildah, in a sandbox──> container image ──mke2fs──> rootfs.ext4
//! ```
//!
//! [`Buildah`] is the real [`Builder`]: buildah runs the Dockerfile inside a builder root file system, in namespaces of its
//! own (see `sandbox`), so the host needs no container tools and a build sees nothing of the host. [`FakeBuilder`] does the
//! same checks of the artifact and builds nothing; it needs no tools and takes milliseconds.
//!
//! What comes after the root disk (boot, hooks, snapshot) is the server's business.

mod archive;
mod base;
mod buildah;
mod cache;
mod config;
mod disk;
mod error;
mod failure;
mod fake;
mod froms;
mod mounts;
mod output;
mod sandbox;
mod settings;
mod sys;
mod trust;

use std::path::PathBuf;

use async_trait::async_trait;

pub use archive::Limits;
pub use buildah::Buildah;
pub use error::{BuildError, FailureCode};
pub use fake::FakeBuilder;
pub use settings::{Alias, BuildahSettings, HostEnv, Network};

/// Name of the root disk in [`BuildRequest::image_dir`].
pub const ROOT_DISK: &str = "rootfs.ext4";

/// Turns artifacts into root disks.
#[async_trait]
pub trait Builder: Send + Sync {
    /// Zip, then container root file system, then the ext4 root disk `request.image_dir/rootfs.ext4`, which appears whole
    /// or not at all. `request.work_dir` is gone afterwards whatever the outcome. Dropping the future ends the build: its
    /// processes are killed at once and its files removed soon after, by a thread that the runtime waits for.
    async fn build(&self, request: &BuildRequest, log: &dyn BuildLog) -> Result<Built, BuildError>;
}

/// One build.
#[derive(Clone)]
pub struct BuildRequest {
    /// The zip.
    pub artifact: PathBuf,
    /// A directory for this build alone, created when missing and removed in every outcome.
    pub work_dir: PathBuf,
    /// An existing directory that receives [`ROOT_DISK`].
    pub image_dir: PathBuf,
    /// Size of the root disk in MiB, 64..=1048576. The file is sparse.
    pub disk_mib: u64,
    /// `environmentVariables` of the API plus the service's own (spec 4.6): they go over the image's ENV in
    /// [`Built::container`]. Not visible to the Dockerfile. Values are secrets.
    pub env: Vec<(String, String)>,
    /// `additionalOsCapabilities: ["ALL"]`, handed through to [`Built::container`].
    pub additional_capabilities_all: bool,
}

impl std::fmt::Debug for BuildRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("BuildRequest")
            .field("artifact", &self.artifact)
            .field("work_dir", &self.work_dir)
            .field("image_dir", &self.image_dir)
            .field("disk_mib", &self.disk_mib)
            .field("env", &format_args!("{names:?} = [redacted]"))
            .field("additional_capabilities_all", &self.additional_capabilities_all)
            .finish()
    }
}

/// Receives the build log.
pub trait BuildLog: Send + Sync {
    /// One line without its end, as soon as it is there: at most 4 KiB, no control characters.
    fn line(&self, text: &str);
}

/// A root disk and what to run on it.
#[derive(Clone, PartialEq, Eq)]
pub struct Built {
    /// The image's configuration with [`BuildRequest::env`] merged in. `hostname` is empty: the caller sets it.
    pub container: wire::Container,
    /// EXPOSE, TCP only, ascending.
    pub exposed_ports: Vec<u16>,
    /// Size of the installed container file system in bytes, as allocated on disk (`codeInstallSizeInBytes`, spec 4.5).
    pub code_bytes: u64,
}

impl std::fmt::Debug for Built {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Built")
            .field("argv", &self.container.argv)
            .field("workdir", &self.container.workdir)
            .field("user", &self.container.user)
            .field("exposed_ports", &self.exposed_ports)
            .field("code_bytes", &self.code_bytes)
            .finish_non_exhaustive()
    }
}
