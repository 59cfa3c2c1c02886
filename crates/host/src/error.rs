//! Why something could not be had from this host.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why an asset could not be made or a host could not be mended. Nothing half-made is ever visible under an asset's name.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A command that hearth needs is not installed.
    #[error(
        "the command {command} is not installed; install the Debian package {package}, or run `hearth doctor --fix`"
    )]
    MissingCommand {
        /// The command.
        command: String,
        /// The Debian package that has it.
        package: String,
    },
    /// A command ran and failed.
    #[error("{command} failed ({status}); its last words:\n{tail}")]
    Command {
        /// The command and what it was for.
        command: String,
        /// How it ended.
        status: String,
        /// The last lines of its standard error, credentials in URLs redacted.
        tail: String,
    },
    /// A command took longer than its bound and was ended.
    #[error("{command} took longer than {seconds} s and was ended; its last words:\n{tail}")]
    Timeout {
        /// The command and what it was for.
        command: String,
        /// The bound in seconds.
        seconds: u64,
        /// The last lines of its standard error.
        tail: String,
    },
    /// The package archive could not be reached.
    #[error(
        "{command} cannot reach the package archive at {mirror}; check the network, set a nearer mirror (apt_mirror) or apt's \
         proxy in /etc/apt/apt.conf.d; its last words:\n{tail}"
    )]
    NoNetwork {
        /// The command and what it was for.
        command: String,
        /// The archive that was asked.
        mirror: String,
        /// The last lines of its standard error.
        tail: String,
    },
    /// The disk is full: which file system.
    #[error("no space left on the file system of {0}; free at least 4 GiB there, or choose another data directory")]
    DiskFull(PathBuf),
    /// A file operation failed.
    #[error("{what}: {source}")]
    Io {
        /// The step and the path.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A setting cannot be right.
    #[error("the setting {name} is not usable: {reason}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// What is wrong with it and what it should look like.
        reason: String,
    },
    /// The downloaded kernel package is not what this build of hearth can use.
    #[error("the guest kernel {release} is not usable: {reason}")]
    Kernel {
        /// The kernel release.
        release: String,
        /// What is wrong.
        reason: String,
    },
    /// `doctor --fix` knows only Debian's package manager.
    #[error("this host is not Debian (no apt-get), so nothing was installed; install by your own means: {packages}")]
    NotDebian {
        /// Debian's names of the packages that are missing.
        packages: String,
    },
    /// apt-get succeeded and yet something is not there.
    #[error(
        "apt-get found nothing to do, yet these packages are incomplete; run `apt-get install --reinstall {packages}`"
    )]
    Incomplete {
        /// Debian's names of the packages.
        packages: String,
    },
    /// Installing packages needs root.
    #[error("installing packages needs root; run `apt-get install {packages}` as root")]
    NotRoot {
        /// Debian's names of the packages that are missing.
        packages: String,
    },
}

impl HostError {
    /// Wraps an I/O error with the step it happened in; a full disk becomes [`HostError::DiskFull`].
    pub(crate) fn io(what: &str, path: &Path, source: io::Error) -> Self {
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return HostError::DiskFull(path.to_owned());
        }
        HostError::Io { what: format!("{what} {}", path.display()), source }
    }
}
