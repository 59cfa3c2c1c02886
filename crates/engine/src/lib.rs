//! All that hearth asks of a virtual machine monitor.
//!
//! An [`Engine`] makes machines; a [`Machine`] is a running (or paused) one. Nothing here names a device, a thread or a
//! feature that only one monitor has. [`qemu`] is real; [`fake`] keeps everything in memory, is deterministic, and can be
//! told to fail. `conformance` is the suite that both pass.
//!
//! # The life of memory
//!
//! ```text
//! boot(BootSpec)            fresh machine, memory backed by image/memory
//!   └─ save(image/sealed)   "seal": device state next to the memory file; all of the image is read-only from here on
//! restore(image, None)      a clone: private copy-on-write view of the sealed memory
//!   └─ save(suspend dir)    device state + the pages that differ from the image
//! restore(image, Some(dir)) the same clone again, where it stood
//! ```
//!
//! A machine outlives the process that made it: [`Machine::record`] is enough for [`Engine::adopt`] to find it again.

pub mod agent;
pub mod conformance;
pub mod fake;
pub mod qemu;
mod sums;
mod sys;
mod underway;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

/// The directory in an image's directory that a seal makes; the image is complete when it exists.
pub const SEALED: &str = "sealed";

/// Makes machines.
///
/// A verb whose future is dropped stops half-way, and not at once: its file work goes on for a while, and a machine that
/// [`Engine::boot`] or [`Engine::restore`] would have returned may run. [`Machine::kill`] and [`Engine::reclaim`] wait for
/// all of it: when they return, nothing is written any more for the machine of that directory.
#[async_trait]
pub trait Engine: Send + Sync {
    /// What this engine can do here, and how well; one line of it is logged at start.
    fn capabilities(&self) -> Capabilities;

    /// Boots a fresh machine, running. Its memory lives in `spec.image_dir/memory`. On failure nothing is left behind.
    async fn boot(&self, spec: BootSpec) -> Result<Box<dyn Machine>, EngineError>;

    /// Brings back a machine from a sealed image, or from a suspend of such a clone. The machine is paused: the caller
    /// commits what must be on record, then calls [`Machine::resume`]. On failure nothing is left behind and the saved
    /// state is untouched.
    async fn restore(&self, spec: RestoreSpec) -> Result<Box<dyn Machine>, EngineError>;

    /// Finds a machine of an earlier process again. `None`: it no longer runs (never: "it cannot be reached", which is an
    /// error), and nothing of it is left.
    async fn adopt(&self, record: &MachineRecord) -> Result<Option<Box<dyn Machine>>, EngineError>;

    /// Ends whatever still runs in that machine directory, on record or not: what a hearth that was killed between starting
    /// a machine and recording it has left, or a verb that was dropped half-way. Files of the caller stay.
    async fn reclaim(&self, machine_dir: &Path) -> Result<(), EngineError>;
}

/// A machine that exists: running or paused. Dropping the handle leaves the machine as it is.
#[async_trait]
pub trait Machine: Send + Sync {
    /// Stops all virtual CPUs and drains the disk. Idempotent.
    async fn pause(&self) -> Result<(), EngineError>;

    /// Lets the virtual CPUs run. Idempotent.
    async fn resume(&self) -> Result<(), EngineError>;

    /// Writes everything needed to [`Engine::restore`] this (paused) machine into `dir`, which must not exist: it appears
    /// whole and durable, or not at all. It ends the channel to the agent. The machine stays paused and usable. A freshly booted machine is sealed: its `dir`
    /// is [`SEALED`] in its image's directory, and it must be killed next, for its memory is the image's memory.
    async fn save(&self, dir: &Path) -> Result<Saved, EngineError>;

    /// Opens the byte channel to the guest agent. One at a time: a new one ends the one before.
    async fn connect(&self) -> Result<Box<dyn Channel>, EngineError>;

    /// Ends the machine at once and waits until no process of it is left and nothing is written for it any more, by a save
    /// that was dropped half-way either. Idempotent.
    async fn kill(&self) -> Result<(), EngineError>;

    /// Waits until the machine is gone, for whatever reason, and says for which.
    async fn wait(&self) -> Ending;

    /// What to store to find this machine again.
    fn record(&self) -> MachineRecord;
}

/// How a machine came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Its guest turned it off.
    PoweredOff,
    /// Its guest's kernel panicked, or restarted it.
    Reset,
    /// Its process was killed, or failed.
    Killed,
}

/// A byte stream to the agent in the guest.
pub trait Channel: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Channel for T {}

/// What an engine can do on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// `qemu` or `fake`.
    pub engine: String,
    /// `kvm`, `tcg` or `none`.
    pub acceleration: String,
    /// True when a suspend writes only the pages that differ from the image.
    pub incremental_save: bool,
    /// Why it is so, in one line for people.
    pub note: String,
}

/// The virtual hardware, the same for every machine of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardware {
    /// Guest memory in MiB, 128..=262144.
    pub memory_mib: u32,
    /// Virtual CPUs, 1..=64.
    pub vcpus: u8,
}

/// A fresh machine.
#[derive(Debug, Clone)]
pub struct BootSpec {
    /// Directory of the image being made: holds `rootfs.ext4`, receives `memory` and `disk.qcow2`.
    pub image_dir: PathBuf,
    /// Directory of this machine alone (sockets, console log); created when missing, and the engine removes what it put there.
    pub machine_dir: PathBuf,
    /// Its hardware.
    pub hardware: Hardware,
    /// The uncompressed guest kernel.
    pub kernel: PathBuf,
    /// The initramfs with the agent.
    pub initrd: PathBuf,
}

/// A machine brought back.
#[derive(Debug, Clone)]
pub struct RestoreSpec {
    /// Directory of the sealed image.
    pub image_dir: PathBuf,
    /// Directory of this machine alone: sockets, console log, and the disk overlay, which is created for a first start
    /// and found again for a resume.
    pub machine_dir: PathBuf,
    /// What [`Machine::save`] wrote for this machine, for a resume; `None` starts a new clone of the image. The guest's
    /// monotonic clock and its timers go on by as much as that directory is old (spec 5.7); the wall clock is the agent's.
    pub saved_dir: Option<PathBuf>,
}

/// Outcome of [`Machine::save`], for records, logs and metering. Sizes are bytes on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Memory written: for an image the part of the memory file that is not a hole, for a suspend the saved pages.
    pub memory_bytes: u64,
    /// Disk written since the root file system was laid down.
    pub disk_bytes: u64,
}

/// How to find a machine again after a restart of hearth. Opaque outside the engine that wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineRecord {
    /// Process id of the monitor.
    pub pid: u32,
    /// Start time of that process in clock ticks since boot (`/proc/<pid>/stat` field 22): a recycled pid differs here.
    pub start_ticks: u64,
    /// `/proc/sys/kernel/random/boot_id` of the host's boot that the two belong to.
    pub boot_id: String,
    /// See [`RestoreSpec::machine_dir`].
    pub machine_dir: PathBuf,
    /// See [`RestoreSpec::image_dir`].
    pub image_dir: PathBuf,
    /// Did the memory come from a fresh boot (so that a save seals an image) or from a sealed image?
    pub fresh: bool,
}

/// Why an engine could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The host lacks something; the text says what and how to mend it.
    #[error("{0}")]
    Host(String),
    /// A file or socket operation failed.
    #[error("{what}: {source}")]
    Io {
        /// The step and the path.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The monitor refused a command or broke the protocol.
    #[error("{what}: {message}")]
    Monitor {
        /// The command.
        what: &'static str,
        /// Its words.
        message: String,
    },
    /// The machine ended while it was needed.
    #[error("the machine ended unexpectedly: {0}")]
    Gone(String),
    /// It took longer than its bound.
    #[error("{what} took longer than {seconds} s")]
    Timeout {
        /// The step.
        what: &'static str,
        /// The bound.
        seconds: u64,
    },
    /// A file of a snapshot is not what it was when it was written; the machine was not run.
    #[error("{path} is damaged: {what}", path = .0.display(), what = .1)]
    Damaged(PathBuf, String),
    /// The disk is full: which file system.
    #[error("no space left on the file system of {0}")]
    DiskFull(PathBuf),
}

impl EngineError {
    /// Wraps an I/O error with the step it happened in; a full disk becomes [`EngineError::DiskFull`].
    pub fn io(what: impl Into<String>, path: &Path, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::StorageFull {
            return EngineError::DiskFull(path.to_owned());
        }
        EngineError::Io { what: format!("{} {}", what.into(), path.display()), source }
    }
}

/// How long ago a save was made; nothing where that cannot be told, or the host's clock was set back since.
fn age(saved_dir: &Path) -> Duration {
    let made = saved_dir.metadata().and_then(|metadata| metadata.modified());
    made.ok().and_then(|made| made.elapsed().ok()).unwrap_or_default()
}

/// Less free space than this, in bytes, is a full disk.
const FULL_BYTES: u64 = 1 << 20;

/// Is the file system of `path` full? Asked after a failure: a machine whose host's disk ran full dies or stands still, and
/// does not say why.
pub fn disk_is_full(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|system| system.f_bavail.saturating_mul(system.f_frsize) < FULL_BYTES)
}
