//! Why a build failed: a code for programs (spec 4.4) and a sentence for people.

use std::{io, path::Path};

/// A failed build. The text says what went wrong and, where it can, how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BuildError {
    /// The code for the build record.
    pub code: FailureCode,
    /// For the build log.
    pub message: String,
}

/// The documented failure codes of a build (spec 4.4). The `S3*` ones are for the caller, which fetches the artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureCode {
    /// The caller may not read the object.
    S3AccessDenied,
    /// No such key.
    S3NoSuchKey,
    /// No such bucket.
    S3NoSuchBucket,
    /// The object is in an archived storage class.
    S3InvalidObject,
    /// The bucket is in another region.
    S3CrossRegionAccessDenied,
    /// No `Dockerfile` at the root of the zip.
    ArchiveDockerfileNotFound,
    /// Not a zip, or one that must not be unpacked.
    ArchiveInvalid,
    /// A step of the Dockerfile failed, or the result cannot run.
    ContainerBuildFailed,
    /// A file system of the host, or the root disk, is full.
    DiskStorageFull,
    /// hearth itself, or the host under it, failed.
    InternalPlatformError,
}

impl FailureCode {
    /// The name used in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            FailureCode::S3AccessDenied => "S3_ACCESS_DENIED",
            FailureCode::S3NoSuchKey => "S3_NO_SUCH_KEY",
            FailureCode::S3NoSuchBucket => "S3_NO_SUCH_BUCKET",
            FailureCode::S3InvalidObject => "S3_INVALID_OBJECT",
            FailureCode::S3CrossRegionAccessDenied => "S3_CROSS_REGION_ACCESS_DENIED",
            FailureCode::ArchiveDockerfileNotFound => "ARCHIVE_DOCKERFILE_NOT_FOUND",
            FailureCode::ArchiveInvalid => "ARCHIVE_INVALID",
            FailureCode::ContainerBuildFailed => "CONTAINER_BUILD_FAILED",
            FailureCode::DiskStorageFull => "DISK_STORAGE_FULL",
            FailureCode::InternalPlatformError => "INTERNAL_PLATFORM_ERROR",
        }
    }
}

impl std::fmt::Display for FailureCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl BuildError {
    pub(crate) fn new(code: FailureCode, message: impl Into<String>) -> Self {
        BuildError { code, message: message.into() }
    }

    /// The archive must not or cannot be unpacked.
    pub(crate) fn archive(message: impl Into<String>) -> Self {
        Self::new(FailureCode::ArchiveInvalid, message)
    }

    /// The Dockerfile's own fault.
    pub(crate) fn container(message: impl Into<String>) -> Self {
        Self::new(FailureCode::ContainerBuildFailed, message)
    }

    /// hearth's or the host's fault.
    pub(crate) fn platform(message: impl Into<String>) -> Self {
        Self::new(FailureCode::InternalPlatformError, message)
    }

    /// A host operation on `path` failed; a full disk is told apart and named.
    pub(crate) fn io(what: &str, path: &Path, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::disk_full(path),
            _ => Self::platform(format!("cannot {what} {}: {error}", path.display())),
        }
    }

    /// No space is left on the file system that holds `path`.
    pub(crate) fn disk_full(path: &Path) -> Self {
        let free = match rustix::fs::statvfs(path) {
            Ok(stat) => format!(" ({} MiB free now)", stat.f_bavail.saturating_mul(stat.f_frsize) >> 20),
            Err(_) => String::new(),
        };
        Self::new(
            FailureCode::DiskStorageFull,
            format!(
                "no space left on the host file system that holds {}{free}; free some and build again",
                path.display()
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_api_s() {
        assert_eq!(FailureCode::ArchiveDockerfileNotFound.as_str(), "ARCHIVE_DOCKERFILE_NOT_FOUND");
        assert_eq!(FailureCode::S3CrossRegionAccessDenied.to_string(), "S3_CROSS_REGION_ACCESS_DENIED");
    }

    #[test]
    fn a_full_disk_is_told_apart_and_named() {
        let full = BuildError::io("write", Path::new("/tmp"), &io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(full.code, FailureCode::DiskStorageFull);
        assert!(full.message.contains("/tmp") && full.message.contains("MiB free"), "{full}");
        let other = BuildError::io("write", Path::new("/x"), &io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(other.code, FailureCode::InternalPlatformError);
        assert!(other.message.starts_with("cannot write /x: "), "{other}");
    }
}
