//! A machine of the fake: a task that is the guest, and a switch that freezes it.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use async_trait::async_trait;
use futures::{FutureExt, future::BoxFuture, task::AtomicWaker};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex},
    sync::mpsc,
    task::AbortHandle,
};
use tokio_util::sync::CancellationToken;

use super::{
    Faults, Operation,
    guest::{Guest, Memory},
    serve::serve,
    store,
};
use crate::{Channel, Ending, EngineError, Machine, MachineRecord, SEALED, Saved, underway};

/// What the in-memory channel holds each way.
const CHANNEL_BYTES: usize = 64 << 10;

/// All machines of this process, by serial number: they outlive the engine and its handles, as real ones do.
static MACHINES: LazyLock<Mutex<HashMap<u64, Arc<Core>>>> = LazyLock::new(Mutex::default);

/// Stands for the host's boot in a record: other processes have another one.
static BOOT_ID: LazyLock<String> = LazyLock::new(|| format!("fake-{}", store::unique(0)));

fn machines() -> MutexGuard<'static, HashMap<u64, Arc<Core>>> {
    MACHINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number that no other machine of this process has, from 1.
pub(super) fn next_serial() -> u64 {
    static SERIAL: AtomicU64 = AtomicU64::new(1);
    SERIAL.fetch_add(1, Ordering::Relaxed)
}

/// How a machine is put together.
pub(super) struct Parts {
    pub(super) serial: u64,
    pub(super) guest: Guest,
    pub(super) machine_dir: PathBuf,
    pub(super) image_dir: PathBuf,
    /// [`store::ImageFile::image`].
    pub(super) image: String,
    /// [`store::DiskFile::disk`]; `None` for a fresh machine.
    pub(super) disk: Option<String>,
    pub(super) faults: Arc<Faults>,
}

/// The machine itself; handles share it.
pub(super) struct Core {
    parts: Parts,
    guest: Arc<Guest>,
    switch: Arc<Switch>,
    /// Where the guest finds a new connection.
    connections: mpsc::UnboundedSender<Line>,
    /// The guest's end of the connection, to end it when a new one comes.
    line: Mutex<Option<Line>>,
    gone: CancellationToken,
    task: Mutex<Option<AbortHandle>>,
    /// An image was made of it.
    sealed: AtomicBool,
}

/// A handle, as [`crate::Machine`] describes it.
pub(super) struct FakeMachine(Arc<Core>);

impl FakeMachine {
    /// Switches a machine on, paused. Refused when its directory belongs to a machine that still lives.
    pub(super) fn start(mut parts: Parts) -> Result<Self, EngineError> {
        let guest = Arc::new(std::mem::replace(&mut parts.guest, Guest::new(Default::default())));
        let (connections, inbox) = mpsc::unbounded_channel();
        let core = Arc::new(Core {
            guest: guest.clone(),
            switch: Arc::default(),
            connections,
            line: Mutex::default(),
            gone: CancellationToken::new(),
            task: Mutex::default(),
            sealed: AtomicBool::new(false),
            parts,
        });
        let serial = core.parts.serial;
        {
            let mut machines = machines();
            if machines.values().any(|other| other.parts.machine_dir == core.parts.machine_dir) {
                let what = format!("{} belongs to a machine that still runs", core.parts.machine_dir.display());
                return Err(EngineError::Host(what));
            }
            machines.insert(serial, core.clone());
        }
        let life = Frozen { switch: core.switch.clone(), inner: live(guest, inbox).boxed() };
        let owner = core.clone();
        let task = tokio::spawn(async move {
            life.await;
            owner.end();
        });
        *core.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.abort_handle());
        Ok(FakeMachine(core))
    }

    /// The machine of a record, if it is of this process and lives.
    pub(super) fn find(record: &MachineRecord) -> Option<Self> {
        let same = record.boot_id == *BOOT_ID;
        same.then(|| machines().get(&record.start_ticks).cloned()).flatten().map(FakeMachine)
    }

    /// Ends the machine that lives in this directory as a crash would; false when there is none.
    pub(super) fn crash(machine_dir: &Path) -> bool {
        let core = machines().values().find(|core| core.parts.machine_dir == machine_dir).cloned();
        core.map(|core| core.end()).is_some()
    }

    /// How many machines live whose directory is below `dir`.
    pub(super) fn count_below(dir: &Path) -> usize {
        machines().values().filter(|core| core.parts.machine_dir.starts_with(dir)).count()
    }
}

impl Core {
    /// Nothing is left of the machine. Idempotent.
    fn end(&self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
        self.hang_up(None);
        machines().remove(&self.parts.serial);
        self.gone.cancel();
    }

    /// Ends the connection there is; `next` takes its place.
    fn hang_up(&self, next: Option<Line>) {
        let before = std::mem::replace(&mut *self.line.lock().unwrap_or_else(PoisonError::into_inner), next);
        if let Some(line) = before {
            line.cut();
        }
    }

    fn ready(&self, operation: Operation) -> Result<(), EngineError> {
        self.parts.faults.check(operation)?;
        if self.gone.is_cancelled() {
            return Err(EngineError::Gone(format!("fake machine {}", self.parts.serial)));
        }
        Ok(())
    }

    fn save(&self, dir: &Path) -> Result<Saved, EngineError> {
        if self.switch.is_on() {
            return Err(EngineError::Monitor { what: "save", message: "the machine runs; pause it first".into() });
        }
        if let Some(error) = self.guest.script().save_error.clone() {
            return Err(EngineError::Monitor { what: "save", message: error });
        }
        let (image, memory) = (self.parts.image.clone(), self.guest.memory());
        let memory_bytes = match &self.parts.disk {
            Some(disk) => {
                let file = store::MachineFile { image, disk: Some(disk.clone()), memory: Some(memory) };
                store::write_save(dir, &file)?
            }
            None => self.seal(dir, image, memory)?,
        };
        Ok(Saved { memory_bytes, disk_bytes: 0 })
    }

    /// Makes an image of a fresh machine, which must not run again.
    fn seal(&self, dir: &Path, image: String, memory: Memory) -> Result<u64, EngineError> {
        let image_dir = &self.parts.image_dir;
        if dir != image_dir.join(SEALED) {
            let message = format!("a fresh machine is sealed into its image's `{SEALED}` directory only");
            return Err(EngineError::Monitor { what: "save", message });
        }
        store::refuse_existing(dir)?;
        let bytes = store::write(&image_dir.join(store::MEMORY), &store::ImageFile { image: image.clone(), memory })?;
        store::write_save(dir, &store::MachineFile { image, disk: None, memory: None })?;
        self.sealed.store(true, Ordering::Relaxed);
        Ok(bytes)
    }
}

#[async_trait]
impl Machine for FakeMachine {
    async fn pause(&self) -> Result<(), EngineError> {
        self.0.ready(Operation::Pause)?;
        self.0.switch.turn(false, || self.0.guest.set_running(false));
        Ok(())
    }

    async fn resume(&self) -> Result<(), EngineError> {
        self.0.ready(Operation::Resume)?;
        if self.0.sealed.load(Ordering::Relaxed) {
            let message = "the machine is sealed: its memory is the image's".into();
            return Err(EngineError::Monitor { what: "resume", message });
        }
        self.0.switch.turn(true, || self.0.guest.set_running(true));
        Ok(())
    }

    async fn save(&self, dir: &Path) -> Result<Saved, EngineError> {
        self.0.ready(Operation::Save)?;
        let (core, dir) = (self.0.clone(), dir.to_owned());
        underway::blocking(&self.0.parts.machine_dir, move || core.save(&dir)).await
    }

    async fn connect(&self) -> Result<Box<dyn Channel>, EngineError> {
        self.0.ready(Operation::Connect)?;
        let (host, guest) = duplex(CHANNEL_BYTES);
        let line = Line::new(guest);
        self.0.hang_up(Some(line.clone()));
        self.0.connections.send(line).map_err(|_| EngineError::Gone("the guest ended".into()))?;
        Ok(Box::new(host))
    }

    async fn kill(&self) -> Result<(), EngineError> {
        self.0.end();
        underway::ended(&self.0.parts.machine_dir).await;
        Ok(())
    }

    async fn wait(&self) -> Ending {
        self.0.gone.cancelled().await;
        if self.0.guest.power_off.is_cancelled() { Ending::PoweredOff } else { Ending::Killed }
    }

    fn record(&self) -> MachineRecord {
        MachineRecord {
            pid: 0,
            start_ticks: self.0.parts.serial,
            boot_id: BOOT_ID.clone(),
            machine_dir: self.0.parts.machine_dir.clone(),
            image_dir: self.0.parts.image_dir.clone(),
            fresh: self.0.parts.disk.is_none(),
        }
    }
}

/// A guest's life: its script, and one connection after the other. Resolves when the machine is off.
async fn live(guest: Arc<Guest>, mut inbox: mpsc::UnboundedReceiver<Line>) {
    let script = guest.follow_script();
    tokio::pin!(script);
    let mut connection: Option<BoxFuture<'static, io::Result<()>>> = None;
    loop {
        tokio::select! {
            biased;
            Some(line) = inbox.recv() => connection = Some(serve(guest.clone(), line).boxed()),
            Some(ended) = async { Some(connection.as_mut()?.await) } => {
                tracing::trace!(?ended, "a connection of the fake guest ends");
                connection = None;
                if guest.power_off.is_cancelled() {
                    return;
                }
            }
            () = &mut script => return,
        }
    }
}

/// Whether the virtual CPUs run.
#[derive(Default)]
struct Switch {
    on: Mutex<bool>,
    waker: AtomicWaker,
}

impl Switch {
    fn is_on(&self) -> bool {
        *self.lock()
    }

    /// Turns it, with `then` when that is a change; waits for what the guest does at this instant.
    fn turn(&self, on: bool, then: impl FnOnce()) {
        let mut switch = self.lock();
        if *switch != on {
            then();
            *switch = on;
        }
        drop(switch);
        self.waker.wake();
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.on.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All that a guest does is in one future, so that a machine whose switch is off does nothing at all.
struct Frozen {
    switch: Arc<Switch>,
    inner: BoxFuture<'static, ()>,
}

impl Future for Frozen {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Frozen { switch, inner } = self.get_mut();
        switch.waker.register(cx.waker());
        let on = switch.lock();
        if *on { inner.as_mut().poll(cx) } else { Poll::Pending }
    }
}

/// The guest's end of a channel; it can be cut from outside, even while the guest is frozen.
#[derive(Clone)]
struct Line(Arc<Mutex<Option<DuplexStream>>>);

impl Line {
    fn new(stream: DuplexStream) -> Self {
        Line(Arc::new(Mutex::new(Some(stream))))
    }

    fn cut(&self) {
        self.lock().take();
    }

    fn lock(&self) -> MutexGuard<'_, Option<DuplexStream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` with the stream; a line that was cut is an error.
    fn with<T>(&self, work: impl FnOnce(Pin<&mut DuplexStream>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match self.lock().as_mut() {
            Some(stream) => work(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_shutdown(cx))
    }
}
