//! Why a build fails, in the service's words (spec 4.4).

use api::SnapshotBuild;
use engine::{EngineError, agent::AgentError};
use image::FailureCode;
use lifecycle::microvms::exit_reason;

use crate::{
    hooks::{Hook, HookError, iso8601},
    microvms::guest::{Exit, GuestError},
    shared::outside,
};

/// Why a build failed: what its record says, with the details in the log.
pub struct Failure {
    /// `stateReason` of the build.
    pub reason: String,
    /// Sizes, as far as it got.
    pub snapshot: Option<SnapshotBuild>,
    /// The server ends: no outcome, and nothing to publish.
    pub stopped: bool,
}

impl Failure {
    /// In words.
    pub fn new(reason: impl Into<String>) -> Self {
        Failure { reason: reason.into(), snapshot: None, stopped: false }
    }

    /// One of the documented codes (spec 4.4), and a sentence.
    pub fn coded(code: FailureCode, sentence: impl std::fmt::Display) -> Self {
        Failure::new(format!("{}: {sentence}", code.as_str()))
    }

    /// The application ended before it could be frozen, or under `/validate`: the sentence of spec 5.6; of a build AWS's is
    /// not known.
    pub fn exited(exit: Exit) -> Self {
        Failure::coded(FailureCode::ContainerBuildFailed, exit_reason(exit.code, exit.out_of_memory))
    }

    /// This failure, or the full disk that is behind it: of the file system that holds `dir`.
    pub fn or_disk_full(self, dir: &std::path::Path) -> Self {
        if self.stopped || !engine::disk_is_full(dir) {
            return self;
        }
        tracing::warn!(reason = self.reason, dir = %dir.display(), "a build failed for want of disk space");
        Failure { snapshot: self.snapshot, ..EngineError::DiskFull(dir.to_owned()).into() }
    }

    /// Our fault: the inside half into the log, the outside half onto the record.
    pub fn platform(error: &dyn std::fmt::Display, outside: &str) -> Self {
        tracing::error!(%error, "a build failed on our side");
        Failure::coded(FailureCode::InternalPlatformError, outside)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match &error {
            EngineError::DiskFull(path) => {
                let sentence = format!("no space left on the host's file system of {}", path.display());
                Failure::coded(FailureCode::DiskStorageFull, sentence)
            }
            _ => Failure::platform(&error, &outside(&error)),
        }
    }
}

impl From<GuestError> for Failure {
    fn from(error: GuestError) -> Self {
        match error {
            GuestError::Engine(error) => error.into(),
            // What a guest refuses is what the image asks of it: a USER that does not exist, a WORKDIR that cannot be.
            GuestError::Agent(AgentError::Guest { what: "start", message }) => Failure::coded(
                FailureCode::ContainerBuildFailed,
                format!("The container could not be started: {message}"),
            ),
            GuestError::Agent(AgentError::Guest { what, message }) => {
                Failure::coded(FailureCode::InternalPlatformError, format!("{what} failed in the guest: {message}"))
            }
            GuestError::Agent(error) => Failure::platform(&error, "the guest did not answer"),
        }
    }
}

impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        GuestError::Agent(error).into()
    }
}

/// A failed build hook in the service's words (spec 4.4).
pub fn build_hook_reason(hook: Hook, error: &HookError) -> String {
    let title = hook.title();
    match error {
        HookError::Timeout(within) => format!("{title} hook invocation timed out after {}", iso8601(*within)),
        HookError::Status(400..=499) => {
            format!("{title} hook check failed: the application returned a client error (HTTP 4xx) response")
        }
        HookError::Status(500..=599) => {
            format!("{title} hook check failed: the application returned a server error (HTTP 5xx) response")
        }
        other => format!("{title} hook check failed: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn failed_hooks_read_as_the_service_writes_them() {
        let text = |error| build_hook_reason(Hook::Ready, &error);
        assert_eq!(text(HookError::Timeout(Duration::from_secs(300))), "Ready hook invocation timed out after PT5M");
        assert_eq!(
            text(HookError::Status(500)),
            "Ready hook check failed: the application returned a server error (HTTP 5xx) response"
        );
        assert_eq!(
            text(HookError::Status(404)),
            "Ready hook check failed: the application returned a client error (HTTP 4xx) response"
        );
    }
}
