//! What every engine must do, checked from outside: the suite that [`fake`](super::fake) and [`qemu`](super::qemu) pass.
//!
//! [`run`] boots one machine, seals it to an image, and then puts clones of that image through their lives. An engine
//! says through [`Harness`] how its images are laid out and what answers in its guests; the suite knows nothing else of
//! it. The checks are a story, each builds on the one before, because a boot under emulation takes seconds.

mod checks;
mod steps;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use wire::Container;

use self::steps::{Files, Outcome};
use super::{BootSpec, Engine, Machine, MachineRecord, RestoreSpec, agent::Agent};

/// What the suite must know of an engine.
#[async_trait]
pub trait Harness: Send + Sync {
    /// A new engine each time, as after a restart of hearth: it knows nothing but what is on disk.
    fn engine(&self) -> Arc<dyn Engine>;

    /// An empty directory for images and machines.
    fn scratch(&self) -> &Path;

    /// Makes a bootable image in `image_dir`, which exists and is empty, and says how to boot it.
    async fn image(&self, image_dir: &Path, machine_dir: &Path) -> BootSpec;

    /// An application that answers each `GET /` on [`Harness::port`] with JSON that holds `"requests_served": n`, one
    /// more each time, and `"uptime_seconds"` by its monotonic clock, and writes at least one line when it starts.
    fn container(&self) -> Container;

    /// Where the application listens.
    fn port(&self) -> u16 {
        8080
    }

    /// A port where nothing listens.
    fn closed_port(&self) -> u16;

    /// Bounds every single step.
    fn patience(&self) -> Duration;

    /// What the host still has of a machine that is gone (processes, mounts, sockets); empty is good.
    fn leftovers(&self, record: &MachineRecord) -> Vec<String> {
        let _ = record;
        Vec::new()
    }
}

/// A check that an engine does not pass.
#[derive(Debug, thiserror::Error)]
#[error("{check}: {what}")]
pub struct Failure {
    /// Which.
    pub check: &'static str,
    /// What was seen.
    pub what: String,
}

/// The checks that were passed, in order, each with the time it took.
pub type Passed = Vec<(&'static str, Duration)>;

/// Runs the whole suite; stops at the first failure. Machines of a failed run may be left behind: the harness owns the
/// scratch directory and its processes.
pub async fn run(harness: &dyn Harness) -> Result<Passed, Failure> {
    let mut passed = Passed::new();
    let mut suite = Suite { harness, engine: harness.engine(), number: AtomicU64::new(0), wakes: AtomicUsize::new(0) };
    let suite = &mut suite;

    macro_rules! check {
        ($name:literal, $check:expr) => {{
            let began = Instant::now();
            let outcome: Outcome<_> = $check.await;
            let outcome = outcome.map_err(|what| Failure { check: $name, what: what.0 })?;
            passed.push(($name, began.elapsed()));
            outcome
        }};
    }

    let fresh = check!("a fresh machine boots and serves", suite.boots_and_serves());
    let image = check!("a save seals an image, whole, and never over another", suite.seals(fresh));
    let [first, second] = check!("two clones go on from the image and then diverge", suite.clones_diverge(&image));
    let saved = check!("a suspend leaves files only", suite.suspends(first));
    let woken =
        check!("a suspended machine goes on where it stood, its clock as far on as it slept", suite.wakes(&saved));
    let again = check!("a second suspend replaces the first", suite.suspends_again(woken));
    check!("a new engine adopts what runs", suite.adopts(second));
    check!("a dead machine is noticed, and killing is idempotent", suite.kills(&image));
    check!("a save that is dropped half-way writes nothing after a kill", suite.drops_half_way(&image));
    check!("one connection at a time, and a machine outlives them", suite.reconnects(&image));
    check!("what is missing or broken is refused and leaves nothing", suite.refuses_broken(&image, again));
    check!("the image is as it was", suite.image_unchanged(&image));
    check!("a guest powers off when asked", suite.powers_off(&image));
    Ok(passed)
}

/// A sealed image, and what is known of it.
struct Image {
    dir: PathBuf,
    /// The application's count when it was sealed.
    count: u64,
    /// Its files, to find out whether somebody wrote to them.
    files: Files,
}

/// A machine with an application in it.
struct Live {
    machine: Box<dyn Machine>,
    agent: Agent,
    machine_dir: PathBuf,
    image_dir: PathBuf,
    count: u64,
    /// What its clock said last.
    clock: Clock,
}

/// A machine that is only files.
struct Asleep {
    spec: RestoreSpec,
    saved_dir: PathBuf,
    count: u64,
    clock: Clock,
}

/// The application's clock, and the time here when it was read.
#[derive(Clone, Copy)]
struct Clock {
    uptime: Duration,
    read: Instant,
}

impl Clock {
    fn unread() -> Self {
        Clock { uptime: Duration::ZERO, read: Instant::now() }
    }
}

struct Suite<'a> {
    harness: &'a dyn Harness,
    engine: Arc<dyn Engine>,
    number: AtomicU64,
    wakes: AtomicUsize,
}
