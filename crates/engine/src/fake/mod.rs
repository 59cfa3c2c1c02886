//! An engine without virtual machines: everything happens in memory, in milliseconds, and as scripted.
//!
//! A machine is a small guest in this process. It speaks [`wire`] like the real agent, so that all above an engine runs
//! unchanged; its application answers every request with `{"requests_served": n, "uptime_seconds": s, "pid": 1}` and
//! every hook with 200. Its memory is saved to real files and clones start from them, so a counter goes on after a
//! suspend and siblings count for themselves. A paused machine does nothing at all. Machines live as long as the
//! process: [`Engine::adopt`] finds them again in the same process only.
//!
//! # Scripting a guest
//!
//! Through the container's environment, or through arguments of the form `NAME=VALUE` (which win): so a test, or a user's
//! CI, can provoke every failure through the API alone. Names and values that are not in this table make the start fail.
//!
//! | name | value | effect |
//! |---|---|---|
//! | `HEARTH_FAKE_<HOOK>_STATUS`, `<HOOK>` one of `READY` `VALIDATE` `RUN` `SUSPEND` `RESUME` `TERMINATE` | HTTP statuses, `never` or `close`, separated by commas | how the hook's first, second, ... call is answered; the last one stays. `never` leaves the call open, `close` ends the connection. Default `200` |
//! | `HEARTH_FAKE_HOOK_DELAY_MS` | milliseconds | before every hook's answer |
//! | `HEARTH_FAKE_APP_STATUS` | HTTP status | of the application's answers. Default `200` |
//! | `HEARTH_FAKE_DELAY_MS` | milliseconds | before every answer of the application |
//! | `HEARTH_FAKE_LISTEN_AFTER_MS` | milliseconds since the start | until then every port refuses |
//! | `HEARTH_FAKE_CLOSED_PORTS` | ports and ranges (`22,8000-8010`) or `all` | they always refuse |
//! | `HEARTH_FAKE_HOST_PORTS` | likewise | behind them is what listens on the same port of the host's 127.0.0.1, in place of the application: for clients, servers and measurements that speak more than it does |
//! | `HEARTH_FAKE_EXIT_AFTER_MS` | milliseconds since the start | the application ends; every port refuses from then on |
//! | `HEARTH_FAKE_EXIT_CODE` | exit code | of that end. Default `0` |
//! | `HEARTH_FAKE_CRASH_AFTER_MS` | milliseconds since the start | the machine ends, as if its monitor had died |
//! | `HEARTH_FAKE_START_ERROR` | text | the container cannot be started |
//! | `HEARTH_FAKE_QUIESCE_ERROR` | text | the guest cannot be made ready for a snapshot |
//! | `HEARTH_FAKE_RENEW_ERROR` | text | a restored guest cannot be renewed |
//! | `HEARTH_FAKE_SAVE_ERROR` | text | the engine cannot save the machine |
//! | `HEARTH_FAKE_RESTORE_ERROR` | text | the engine cannot restore the image or the machine |
//!
//! The programs `true` and `false` and a shell's `-c "exit N"` end at once with that code. Times are of the guest's clock:
//! it stands while the machine is paused. Hooks are answered on every port that listens; port 7 sends back what it gets.
//! The application writes a line when it starts and one per hook call.
//!
//! # Scripting the engine
//!
//! Unit tests hold the [`FakeEngine`]: [`FakeEngine::fail_next`], [`FakeEngine::crash`], [`FakeEngine::count_below`].

mod app;
mod guest;
mod machine;
mod script;
mod serve;
mod session;
mod store;

use std::{
    collections::{HashMap, VecDeque},
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;

use self::{
    guest::{Guest, Memory},
    machine::{FakeMachine, Parts, next_serial},
    script::Script,
    store::{DISK, DiskFile, ImageFile, MACHINE, MEMORY, MachineFile},
};
use crate::{
    BootSpec, Capabilities, Engine, EngineError, Machine, MachineRecord, RestoreSpec, SEALED,
    underway::{self, blocking},
};

/// The engine; clones share their scripted failures. See the [module](self).
#[derive(Clone, Default)]
pub struct FakeEngine {
    faults: Arc<Faults>,
}

/// What an engine is asked to do, for [`FakeEngine::fail_next`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`Engine::boot`].
    Boot,
    /// [`Engine::restore`].
    Restore,
    /// [`Engine::adopt`].
    Adopt,
    /// [`Machine::pause`].
    Pause,
    /// [`Machine::resume`].
    Resume,
    /// [`Machine::save`].
    Save,
    /// [`Machine::connect`].
    Connect,
}

/// Failures that wait for their operation.
#[derive(Default)]
struct Faults(Mutex<HashMap<Operation, VecDeque<EngineError>>>);

impl FakeEngine {
    /// An engine that does all it is asked to.
    pub fn new() -> Self {
        FakeEngine::default()
    }

    /// The next operation of this kind, of the engine or of a machine that it made, fails with `error` and does nothing.
    /// Several queue up.
    pub fn fail_next(&self, operation: Operation, error: EngineError) {
        let mut faults = self.faults.0.lock().unwrap_or_else(PoisonError::into_inner);
        faults.entry(operation).or_default().push_back(error);
    }

    /// Ends the machine that lives in `machine_dir` as a crash of its monitor would; false when there is none.
    pub fn crash(&self, machine_dir: &Path) -> bool {
        FakeMachine::crash(machine_dir)
    }

    /// How many machines of this process live in directories below `dir`.
    pub fn count_below(&self, dir: &Path) -> usize {
        FakeMachine::count_below(dir)
    }

    fn start(&self, serial: u64, made: Made, spec: Places) -> Result<FakeMachine, EngineError> {
        FakeMachine::start(Parts {
            serial,
            guest: Guest::new(made.memory),
            machine_dir: spec.machine_dir.to_owned(),
            image_dir: spec.image_dir.to_owned(),
            image: made.image,
            disk: made.disk,
            faults: self.faults.clone(),
        })
    }
}

impl Faults {
    fn check(&self, operation: Operation) -> Result<(), EngineError> {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        faults.get_mut(&operation).and_then(VecDeque::pop_front).map_or(Ok(()), Err)
    }
}

/// The directories of a machine.
#[derive(Clone, Copy)]
struct Places<'a> {
    image_dir: &'a Path,
    machine_dir: &'a Path,
}

/// What the files of a machine say.
struct Made {
    image: String,
    disk: Option<String>,
    memory: Memory,
}

#[async_trait]
impl Engine for FakeEngine {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            engine: "fake".into(),
            acceleration: "none".into(),
            incremental_save: true,
            note: "machines are simulated in memory: for tests and CI, nothing is executed".into(),
        }
    }

    async fn boot(&self, spec: BootSpec) -> Result<Box<dyn Machine>, EngineError> {
        self.faults.check(Operation::Boot)?;
        let serial = next_serial();
        let engine = self.clone();
        // The task of the guest is spawned by the caller's runtime, whichever thread does the files.
        let machine_dir = spec.machine_dir.clone();
        let machine = blocking(&machine_dir, move || {
            let places = Places { image_dir: &spec.image_dir, machine_dir: &spec.machine_dir };
            prepared(places.machine_dir, || {
                let made = lay_down(serial, places.image_dir)?;
                engine.start(serial, made, places).inspect_err(|_| {
                    let _ = store::remove(&places.image_dir.join(MEMORY)); // the first error is the one to tell
                })
            })
        })
        .await?;
        machine.resume().await?;
        Ok(Box::new(machine))
    }

    async fn restore(&self, spec: RestoreSpec) -> Result<Box<dyn Machine>, EngineError> {
        self.faults.check(Operation::Restore)?;
        let serial = next_serial();
        let engine = self.clone();
        let machine_dir = spec.machine_dir.clone();
        let machine = blocking(&machine_dir, move || {
            let places = Places { image_dir: &spec.image_dir, machine_dir: &spec.machine_dir };
            match &spec.saved_dir {
                Some(saved_dir) => engine.start(serial, wake(places, saved_dir)?, places),
                None => prepared(places.machine_dir, || {
                    let made = clone(serial, places)?;
                    engine.start(serial, made, places).inspect_err(|_| {
                        let _ = store::remove(&places.machine_dir.join(DISK)); // the first error is the one to tell
                    })
                }),
            }
        })
        .await?;
        Ok(Box::new(machine))
    }

    async fn adopt(&self, record: &MachineRecord) -> Result<Option<Box<dyn Machine>>, EngineError> {
        self.faults.check(Operation::Adopt)?;
        Ok(FakeMachine::find(record).map(|machine| Box::new(machine) as Box<dyn Machine>))
    }

    async fn reclaim(&self, machine_dir: &Path) -> Result<(), EngineError> {
        // A machine that is about to be made is there afterwards.
        underway::ended(machine_dir).await;
        self.crash(machine_dir);
        Ok(())
    }
}

/// Does `work` with the machine's directory there; when it fails, a directory that was made for it is removed again.
fn prepared<T>(machine_dir: &Path, work: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    let existed = machine_dir.is_dir();
    std::fs::create_dir_all(machine_dir).map_err(|source| EngineError::io("creating", machine_dir, source))?;
    work().inspect_err(|_| {
        if !existed {
            let _ = std::fs::remove_dir(machine_dir); // only when empty; the first error is the one to tell
        }
    })
}

/// A fresh machine's memory.
fn lay_down(serial: u64, image_dir: &Path) -> Result<Made, EngineError> {
    let sealed = image_dir.join(SEALED);
    if sealed.exists() {
        return Err(EngineError::io("booting over", &sealed, io::ErrorKind::AlreadyExists.into()));
    }
    let file = ImageFile { image: store::unique(serial), memory: Memory::default() };
    store::write(&image_dir.join(MEMORY), &file)?;
    Ok(Made { image: file.image, disk: None, memory: file.memory })
}

/// The sealed image in a directory.
fn sealed(image_dir: &Path) -> Result<ImageFile, EngineError> {
    let dir = image_dir.join(SEALED);
    let device: MachineFile = store::read(&dir.join(MACHINE))?;
    let image: ImageFile = store::read(&image_dir.join(MEMORY))?;
    same(&dir, &device.image, &image.image)?;
    scripted(&image.memory)?;
    Ok(image)
}

/// A new clone of a sealed image, with a disk of its own.
fn clone(serial: u64, places: Places<'_>) -> Result<Made, EngineError> {
    let image = sealed(places.image_dir)?;
    let disk = store::unique(serial);
    store::write(&places.machine_dir.join(DISK), &DiskFile { disk: disk.clone() })?;
    Ok(Made { image: image.image, disk: Some(disk), memory: image.memory })
}

/// A suspended clone again: its save, its disk and its image must belong together.
fn wake(places: Places<'_>, saved_dir: &Path) -> Result<Made, EngineError> {
    let image = sealed(places.image_dir)?;
    let saved: MachineFile = store::read(&saved_dir.join(MACHINE))?;
    same(saved_dir, &saved.image, &image.image)?;
    let disk: DiskFile = store::read(&places.machine_dir.join(DISK))?;
    same(places.machine_dir, &disk.disk, saved.disk.as_deref().unwrap_or_default())?;
    let mut memory = saved.memory.unwrap_or_default();
    memory.slept(crate::age(saved_dir));
    scripted(&memory)?;
    Ok(Made { image: saved.image, disk: saved.disk, memory })
}

fn same(place: &Path, found: &str, wanted: &str) -> Result<(), EngineError> {
    if found == wanted {
        return Ok(());
    }
    let mismatch = io::Error::new(io::ErrorKind::InvalidData, "it belongs to another image or machine");
    Err(EngineError::io("restoring", place, mismatch))
}

/// `HEARTH_FAKE_RESTORE_ERROR` of the container in this memory.
fn scripted(memory: &Memory) -> Result<(), EngineError> {
    let script = memory.container().and_then(|container| Script::of(container).ok());
    match script.and_then(|script| script.restore_error) {
        Some(message) => Err(EngineError::Monitor { what: "restore", message }),
        None => Ok(()),
    }
}
