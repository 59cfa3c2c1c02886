//! Structures that several operations share (spec 3.3).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Sensitive, text::enumeration};

enumeration! {
    /// Is a hook called?
    HookState {
        /// No.
        Disabled = "DISABLED",
        /// Yes.
        Enabled = "ENABLED",
    }
}

enumeration! {
    /// Instruction set of a build.
    Architecture {
        /// AArch64.
        Arm64 = "ARM_64",
        /// x86-64.
        X86_64 = "X86_64",
    }
}

enumeration! {
    /// Processor family of a build.
    Chipset {
        /// AWS Graviton.
        Graviton = "GRAVITON",
        /// Intel.
        Intel = "INTEL",
    }
}

enumeration! {
    /// Additional operating system capabilities of the application.
    Capability {
        /// Every capability.
        All = "ALL",
    }
}

/// An empty structure, `{}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Unit {}

/// Tags, key to value.
pub type Tags = BTreeMap<String, String>;

/// Environment variables; the values are secrets.
pub type Environment = BTreeMap<String, Sensitive<String>>;

/// Where the build finds its zip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CodeArtifact {
    /// In S3.
    Uri(S3Uri),
}

impl CodeArtifact {
    /// The object in S3.
    pub fn s3(&self) -> &S3Uri {
        match self {
            CodeArtifact::Uri(uri) => uri,
        }
    }
}

/// `s3://<bucket>/<key>`, neither part empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct S3Uri {
    bucket: String,
    key: String,
}

impl S3Uri {
    /// The bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The key, as S3 knows it (not percent-decoded).
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl std::fmt::Display for S3Uri {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

/// The text is no [`S3Uri`]; the message is the service's own (spec 3.2, `CreateMicrovmImage`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("CodeArtifact URI must be a valid S3 URI in the format: s3://<bucket>/<key>")]
pub struct S3UriError;

impl std::str::FromStr for S3Uri {
    type Err = S3UriError;

    fn from_str(text: &str) -> Result<Self, S3UriError> {
        let (bucket, key) = text.strip_prefix("s3://").and_then(|rest| rest.split_once('/')).ok_or(S3UriError)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let bucket_fits = (3..=63).contains(&bucket.len()) && bucket.bytes().all(plain);
        let key_fits = (1..=1024).contains(&key.len()) && !key.chars().any(char::is_control);
        if !bucket_fits || !key_fits {
            return Err(S3UriError);
        }
        Ok(S3Uri { bucket: bucket.to_owned(), key: key.to_owned() })
    }
}

crate::text::serde_as_text!(S3Uri);

/// Where logs go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Logging {
    /// Nowhere.
    Disabled(Unit),
    /// To a log group.
    CloudWatch(CloudWatchLogging),
}

/// A place in CloudWatch Logs; what is absent, the service chooses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloudWatchLogging {
    /// 1..=512 of `[a-zA-Z0-9_\-/.#]`.
    pub log_group: Option<String>,
    /// 1..=512 without `:` and `*`.
    pub log_stream: Option<String>,
}

/// Size of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// One of [`crate::schema::bounds::MEMORY_SIZES_MIB`].
    #[serde(rename = "minimumMemoryInMiB")]
    pub minimum_memory_in_mib: u32,
}

/// An instruction set to build for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CpuConfiguration {
    /// The instruction set.
    pub architecture: Architecture,
}

/// Which hooks are called, and on which port of the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hooks {
    /// 1..=65535; present when any hook is enabled.
    pub port: Option<u16>,
    /// Hooks of a microVM's life.
    pub microvm_hooks: Option<MicrovmHooks>,
    /// Hooks of an image's build.
    pub microvm_image_hooks: Option<MicrovmImageHooks>,
}

/// Hooks of an image's build; time-outs are seconds, 1..=3600.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MicrovmImageHooks {
    /// Called until 200 before the snapshot is taken.
    pub ready: Option<HookState>,
    /// Bound of all `/ready` calls together.
    pub ready_timeout_in_seconds: Option<u32>,
    /// Called on a throw-away copy of the snapshot.
    pub validate: Option<HookState>,
    /// Bound of all `/validate` calls together.
    pub validate_timeout_in_seconds: Option<u32>,
}

/// Hooks of a microVM's life; time-outs are seconds, 1..=60.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MicrovmHooks {
    /// Called once after start.
    pub run: Option<HookState>,
    /// Bound of `/run`.
    pub run_timeout_in_seconds: Option<u32>,
    /// Called after each resume.
    pub resume: Option<HookState>,
    /// Bound of `/resume`.
    pub resume_timeout_in_seconds: Option<u32>,
    /// Called before each suspend.
    pub suspend: Option<HookState>,
    /// Bound of `/suspend`.
    pub suspend_timeout_in_seconds: Option<u32>,
    /// Called before the end.
    pub terminate: Option<HookState>,
    /// Bound of `/terminate`.
    pub terminate_timeout_in_seconds: Option<u32>,
}

fn on(state: Option<HookState>) -> bool {
    state == Some(HookState::Enabled)
}

impl Hooks {
    /// Is `/ready` called?
    pub fn ready(&self) -> bool {
        on(self.microvm_image_hooks.and_then(|hooks| hooks.ready))
    }

    /// Is `/validate` called?
    pub fn validate(&self) -> bool {
        on(self.microvm_image_hooks.and_then(|hooks| hooks.validate))
    }

    /// Is `/run` called?
    pub fn run(&self) -> bool {
        on(self.microvm_hooks.and_then(|hooks| hooks.run))
    }

    /// Is `/resume` called?
    pub fn resume(&self) -> bool {
        on(self.microvm_hooks.and_then(|hooks| hooks.resume))
    }

    /// Is `/suspend` called?
    pub fn suspend(&self) -> bool {
        on(self.microvm_hooks.and_then(|hooks| hooks.suspend))
    }

    /// Is `/terminate` called?
    pub fn terminate(&self) -> bool {
        on(self.microvm_hooks.and_then(|hooks| hooks.terminate))
    }

    /// Is any hook of a microVM's life called?
    pub fn any_of_microvm(&self) -> bool {
        self.run() || self.resume() || self.suspend() || self.terminate()
    }

    /// Is any hook called at all?
    pub fn any(&self) -> bool {
        self.ready() || self.validate() || self.any_of_microvm()
    }
}

/// When a microVM is suspended and woken by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdlePolicy {
    /// Seconds without traffic until it is suspended, 60..=28800 unless the server allows more.
    pub max_idle_duration_seconds: u32,
    /// Seconds suspended until it is terminated, 0 or more.
    pub suspended_duration_seconds: u32,
    /// Does a request wake it?
    pub auto_resume_enabled: bool,
}
