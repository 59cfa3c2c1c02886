//! A running (or paused) QEMU process as a [`Machine`].

use std::{
    fs::{self, File},
    io,
    os::unix::net::UnixStream as StdUnixStream,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::{
    sync::{
        Mutex, Notify,
        broadcast::{Receiver, error::RecvError},
        watch,
    },
    task::{AbortHandle, JoinSet},
};

use super::{
    channel::AgentChannel,
    image::{self, Sheet},
    pages::{self, Mapping},
    process::{self, Process},
    qmp::Qmp,
};
use crate::{
    Channel, Ending, EngineError, Machine, MachineRecord, SEALED, Saved,
    sums::{self, Known, Sum, Sums},
    underway::{self, blocking},
};

/// See the trait for what each verb promises.
pub struct QemuMachine {
    record: MachineRecord,
    sheet: Sheet,
    process: Process,
    qmp: Arc<Qmp>,
    /// Is it meant to run? Held while that changes.
    running: Arc<Mutex<bool>>,
    keeper: AbortHandle,
    /// What its monitor said of its end.
    ending: watch::Receiver<Option<Ending>>,
    channel: AgentChannel,
    known: Arc<Known>,
}

impl QemuMachine {
    /// Takes hold of a process that was just started and negotiates with its monitor. On failure the process is gone.
    pub async fn attach_new(
        started: process::Started,
        machine_dir: &Path,
        image_dir: &Path,
        sheet: Sheet,
        fresh: bool,
        known: Arc<Known>,
    ) -> Result<Self, EngineError> {
        let held = Process::hold(started.pid).map_err(|e| EngineError::io("hold", machine_dir, e))?;
        let process = held.ok_or_else(|| EngineError::Gone(process::last_words(machine_dir)))?;
        match Self::negotiate(started.qmp).await {
            Ok(qmp) => {
                let channel = AgentChannel::fresh(machine_dir);
                Self::new(process, qmp, channel, machine_dir, image_dir, sheet, fresh, known)
            }
            Err(e) => {
                process.kill().await.map_err(|e| EngineError::io("kill", machine_dir, e))?;
                Err(match e {
                    EngineError::Gone(_) => EngineError::Gone(process::last_words(machine_dir)),
                    other => other,
                })
            }
        }
    }

    /// Takes hold of a live process of an earlier hearth. On failure the process is as it was.
    pub async fn attach_found(
        process: Process,
        record: &MachineRecord,
        sheet: Sheet,
        known: Arc<Known>,
    ) -> Result<Self, EngineError> {
        let dir = &record.machine_dir;
        let stream = process::connect(dir, process::QMP_SOCKET)
            .map_err(|e| EngineError::io("connect to the monitor of", dir, e))?;
        let qmp = Self::negotiate(stream).await?;
        let channel = AgentChannel::found(dir);
        Self::new(process, qmp, channel, dir, &record.image_dir, sheet, record.fresh, known)
    }

    async fn negotiate(stream: StdUnixStream) -> Result<Qmp, EngineError> {
        let qmp = Qmp::negotiate(stream).await?;
        let wanted = json!({ "capabilities": [
            { "capability": "events", "state": true },
            { "capability": "x-ignore-shared", "state": true },
        ] });
        qmp.execute("migrate-set-capabilities", wanted).await?;
        Ok(qmp)
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one thing, from two places")]
    fn new(
        process: Process,
        qmp: Qmp,
        channel: AgentChannel,
        machine_dir: &Path,
        image_dir: &Path,
        sheet: Sheet,
        fresh: bool,
        known: Arc<Known>,
    ) -> Result<Self, EngineError> {
        let record = MachineRecord {
            pid: process.pid,
            start_ticks: process.start_ticks,
            boot_id: process::boot_id().map_err(|e| EngineError::io("read", Path::new("boot_id"), e))?,
            machine_dir: machine_dir.to_owned(),
            image_dir: image_dir.to_owned(),
            fresh,
        };
        // A boot begins by running.
        let (qmp, running) = (Arc::new(qmp), Arc::new(Mutex::new(fresh)));
        let (told, ending) = watch::channel(None);
        let events = qmp.events();
        let (machine_dir, kept) = (machine_dir.to_owned(), running.clone());
        let keeper = Keeper { qmp: qmp.clone(), running: kept, machine_dir, ending: told };
        let keeper = tokio::spawn(keeper.keep(events)).abort_handle();
        Ok(QemuMachine { record, sheet, process, qmp, running, keeper, ending, channel, known })
    }

    /// Loads device state (a path inside the jail) into a process that waits for it, after the saved pages if there are any.
    pub async fn load(&self, device_state: &str, saved_pages: Option<(PathBuf, Sum)>) -> Result<(), EngineError> {
        if let Some((path, expected)) = saved_pages {
            let (pid, image_dir) = (self.record.pid, self.record.image_dir.clone());
            blocking(&self.record.machine_dir, move || {
                let memory = process::open_memory(&image_dir)?;
                let inject = || pages::inject(pid, Mapping::find(pid, &memory)?, &path);
                let found = inject().map_err(|e| match e.kind() {
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                        EngineError::Damaged(path.clone(), e.to_string())
                    }
                    _ => EngineError::io("load saved pages from", &path, e),
                })?;
                sums::compare(&path, expected, found)
            })
            .await?;
        }
        self.qmp.migrate("migrate-incoming", json!({ "uri": format!("file:{device_state}") })).await
    }

    async fn seal(&self, dir: &Path) -> Result<Saved, EngineError> {
        self.qmp.migrate("migrate", json!({ "uri": "file:/vm/device-state" })).await?;
        let (image_dir, machine_dir) = (self.record.image_dir.clone(), self.record.machine_dir.clone());
        let (sheet, dir, known) = (self.sheet.clone(), dir.to_owned(), self.known.clone());
        blocking(&self.record.machine_dir, move || {
            let mut sums = Sums::default();
            for name in image::FILES {
                let path = image_dir.join(name);
                let sealed = image::seal(&path).and_then(|()| known.take(&path));
                sums.0.insert(name.to_owned(), sealed.map_err(|e| EngineError::io("seal", &path, e))?);
            }
            whole(&dir, |partial| {
                let state = partial.join(process::STATE);
                move_in(&machine_dir, partial)?;
                image::seal(&state)?;
                sums.0.insert(process::STATE.to_owned(), known.take(&state)?);
                sums.write(partial)?;
                sheet.write(partial)
            })?;
            Ok(Saved {
                memory_bytes: image::bytes_on_disk(&image_dir.join(image::MEMORY)),
                disk_bytes: image::bytes_on_disk(&image_dir.join(image::DISK)),
            })
        })
        .await
    }

    async fn suspend(&self, dir: &Path) -> Result<Saved, EngineError> {
        // "live": false keeps the block layer active, so that the machine stays usable.
        let arguments = json!({ "filename": "/vm/device-state", "live": false });
        self.qmp.execute("xen-save-devices-state", arguments).await?;
        let (record, dir, known) = (self.record.clone(), dir.to_owned(), self.known.clone());
        blocking(&self.record.machine_dir, move || {
            let memory = process::open_memory(&record.image_dir)?;
            let disk = record.machine_dir.join(process::DISK);
            let mut memory_bytes = 0;
            whole(&dir, |partial| {
                let mapping = Mapping::find(record.pid, &memory)?;
                let (bytes, pages) = pages::save(record.pid, mapping, &partial.join(PAGES))?;
                memory_bytes = bytes;
                move_in(&record.machine_dir, partial)?;
                File::open(&disk)?.sync_all()?;
                let state = known.take(&partial.join(process::STATE))?;
                let sums = [(PAGES, pages), (process::STATE, state), (process::DISK, known.take(&disk)?)];
                Sums(sums.map(|(name, sum)| (name.to_owned(), sum)).into()).write(partial)
            })?;
            Ok(Saved { memory_bytes, disk_bytes: image::bytes_on_disk(&disk) })
        })
        .await
    }
}

/// Between two looks whether there is room again: the host has no event for it.
const ROOM: Duration = Duration::from_secs(1);

/// How long the monitor's last words may take to be read once its process is gone.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Listens to what a machine's monitor says by itself, to its end.
#[derive(Clone)]
struct Keeper {
    qmp: Arc<Qmp>,
    running: Arc<Mutex<bool>>,
    machine_dir: PathBuf,
    ending: watch::Sender<Option<Ending>>,
}

impl Keeper {
    async fn keep(self, mut events: Receiver<Value>) {
        // Waits for room once, however many requests of the guest's failed meanwhile; ends with this task.
        let (stopped, mut waiting) = (Arc::new(Notify::new()), JoinSet::new());
        waiting.spawn(self.clone().go_on(stopped.clone()));
        loop {
            let event = match events.recv().await {
                Ok(event) => event,
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            };
            match event["event"].as_str() {
                Some("SHUTDOWN") => drop(self.ending.send_replace(ending(&event["data"]))),
                Some("BLOCK_IO_ERROR") if event["data"]["action"] == "stop" => stopped.notify_one(),
                _ => {}
            }
        }
    }

    /// Lets a machine run on that QEMU has stopped because its disk could not grow (`werror=enospc`), as soon as the host
    /// has room again. The guest does not notice but by the time that has passed.
    async fn go_on(self, stopped: Arc<Notify>) {
        let machine = self.machine_dir.display();
        loop {
            stopped.notified().await;
            tracing::error!(%machine, "the host's disk is full: the guest waits for room");
            while crate::disk_is_full(&self.machine_dir) {
                tokio::time::sleep(ROOM).await;
            }
            let running = self.running.lock().await;
            if *running && let Err(error) = self.qmp.execute("cont", Value::Null).await {
                tracing::error!(%machine, %error, "the guest cannot go on");
            }
        }
    }
}

/// What a `SHUTDOWN` event says; `None` where the host asked for it.
fn ending(data: &Value) -> Option<Ending> {
    match data["reason"].as_str() {
        Some("guest-shutdown") => Some(Ending::PoweredOff),
        Some("guest-reset" | "guest-panic") => Some(Ending::Reset),
        _ => None,
    }
}

impl Drop for QemuMachine {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// The file of saved pages in a suspend directory.
pub const PAGES: &str = "pages";

/// Moves the device state that QEMU wrote into the directory being filled; root's from here on.
fn move_in(machine_dir: &Path, partial: &Path) -> io::Result<()> {
    let from = machine_dir.join(process::STATE);
    let to = partial.join(process::STATE);
    fs::copy(&from, &to)?;
    fs::remove_file(&from)?;
    File::open(to)?.sync_all()
}

/// Fills a directory beside `dir` and renames it in place, so that `dir` appears whole and durable or not at all.
fn whole(dir: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), EngineError> {
    let failed = |e| EngineError::io("save into", dir, e);
    let partial = dir.with_extension("partial");
    let make = || {
        match fs::remove_dir_all(&partial) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        fs::create_dir_all(&partial)?;
        crash::point("save: begun");
        fill(&partial)?;
        File::open(&partial)?.sync_all()?;
        crash::point("save: filled beside");
        fs::rename(&partial, dir)?;
        crash::point("save: renamed");
        File::open(dir.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    make().map_err(|e| {
        let _ = fs::remove_dir_all(&partial);
        failed(e)
    })
}

#[async_trait]
impl Machine for QemuMachine {
    async fn pause(&self) -> Result<(), EngineError> {
        let mut running = self.running.lock().await;
        *running = false;
        self.qmp.execute("stop", Value::Null).await.map(drop)
    }

    async fn resume(&self) -> Result<(), EngineError> {
        let mut running = self.running.lock().await;
        self.qmp.execute("cont", Value::Null).await?;
        *running = true;
        Ok(())
    }

    async fn save(&self, dir: &Path) -> Result<Saved, EngineError> {
        if dir.exists() {
            return Err(EngineError::io("save into", dir, io::Error::from(io::ErrorKind::AlreadyExists)));
        }
        self.channel.close(&self.qmp).await?;
        if self.record.fresh {
            if dir != self.record.image_dir.join(SEALED) {
                let message = format!("a fresh machine is sealed into its image's `{SEALED}` directory only");
                return Err(EngineError::Host(message));
            }
            self.seal(dir).await
        } else {
            self.suspend(dir).await
        }
    }

    async fn connect(&self) -> Result<Box<dyn Channel>, EngineError> {
        self.channel.open(&self.qmp).await
    }

    async fn kill(&self) -> Result<(), EngineError> {
        self.process.kill().await.map_err(|e| EngineError::io("kill", &self.record.machine_dir, e))?;
        underway::ended(&self.record.machine_dir).await;
        process::sweep(&self.record.machine_dir);
        Ok(())
    }

    async fn wait(&self) -> Ending {
        while let Err(error) = self.process.ended().await {
            tracing::error!(pid = self.record.pid, %error, "cannot watch the machine's process");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        // What its monitor said before is told by the end of the keeper at the latest.
        let mut ending = self.ending.clone();
        let told = tokio::time::timeout(LAST_WORD, ending.wait_for(Option::is_some)).await;
        told.ok().and_then(|told| *told.ok()?).unwrap_or(Ending::Killed)
    }

    fn record(&self) -> MachineRecord {
        self.record.clone()
    }
}
