//! What every part of the server needs.

use std::{path::PathBuf, sync::Arc, time::Duration};

use engine::{Engine, EngineError};
use image::Builder;
use lifecycle::Millis;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{
    config::Config,
    edge::s3::S3Store,
    logs::Logs,
    names::Names,
    store::{Home, Store},
    tokens::Cursors,
};

/// One of these per server.
pub struct Shared {
    /// The configuration.
    pub config: Config,
    /// The port that the ingress really listens on.
    pub ingress_port: u16,
    /// Records.
    pub store: Store,
    /// Makes machines.
    pub engine: Arc<dyn Engine>,
    /// Builds Dockerfiles.
    pub builder: Arc<dyn Builder>,
    /// Holds artifacts.
    pub s3: S3Store,
    /// Output of builds and applications.
    pub logs: Arc<Logs>,
    /// What a guest boots; `None` for an engine that boots nothing.
    pub boot: Option<Boot>,
    /// Builds at a time.
    pub builds: Semaphore,
    /// Cursors of lists.
    pub cursors: Arc<Cursors>,
    /// Custom host names.
    pub names: Arc<Names>,
    /// Links for browsers, if there are any.
    pub tickets: Option<Arc<ingress::Tickets>>,
}

/// What a guest boots.
#[derive(Debug, Clone)]
pub struct Boot {
    /// Uncompressed kernel.
    pub kernel: PathBuf,
    /// Initramfs with the agent.
    pub initrd: PathBuf,
}

impl Shared {
    /// Everything of one microVM on this host lies here.
    pub fn microvm_dir(&self, id: api::MicrovmId) -> PathBuf {
        self.config.data_dir.join("microvms").join(id.to_string())
    }

    /// Everything of one image lies here.
    pub fn image_dir(&self, image: Uuid) -> PathBuf {
        self.config.data_dir.join("images").join(image.to_string())
    }

    /// Work in progress of one build; gone when it ends, however it ends.
    pub fn build_dir(&self, build: api::BuildId) -> PathBuf {
        self.config.data_dir.join("builds").join(build.to_string())
    }

    /// Where an account's connectors are.
    pub fn home(&self, account: &api::AccountId) -> Home {
        Home { account: account.clone(), region: self.config.file.region.0.clone() }
    }

    /// How long `hook` may take when its image does not say.
    pub fn hook_default(&self) -> Duration {
        Duration::from_secs(self.config.microvm_hook_seconds().into())
    }
}

/// Now, as records count time.
pub fn now() -> Millis {
    jiff::Timestamp::now().as_millisecond()
}

/// Removes a directory and all in it; one that is not there is fine.
pub async fn remove_dir(path: PathBuf) -> std::io::Result<()> {
    match tokio::fs::remove_dir_all(&path).await {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The outside half of an engine's error: what the owner of a microVM may know. The inside half belongs into the log.
pub fn outside(error: &EngineError) -> String {
    match error {
        EngineError::Damaged(path, _) => {
            format!("its snapshot file {} is damaged", path.file_name().unwrap_or_default().to_string_lossy())
        }
        EngineError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            "a file of its snapshot is missing".into()
        }
        EngineError::Gone(_) => "its machine ended unexpectedly".into(),
        EngineError::DiskFull(_) => "the host's disk is full".into(),
        EngineError::Timeout { what, seconds } => format!("{what} took longer than {seconds} s"),
        _ => "an internal error occurred".into(),
    }
}
