//! The application's life as the agent sees it: started once, its output collected, its end told.
//!
//! ```text
//! NotStarted ──start──▶ Running ──the main process ends, its output was read──▶ Exited
//!      ▲                   │
//!      └──setup failed─────┘
//! ```

use std::{
    io,
    os::fd::OwnedFd,
    os::unix::net::UnixStream as StdUnixStream,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::{
    mount::{MountFlags, mount},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
    system::{sethostname, uname},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixStream, unix::pipe},
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};
use wire::{Application as State, Container, Fault, Happening, Stream};

use crate::{
    boot,
    container::{ROOT_DISK_MOUNT, VERB},
    events::EventLog,
    lines::Splitter,
    log,
    memory::KernelLog,
    names::Names,
    reaper::Reaper,
};

/// The root disk: the first (and only) virtio disk.
const ROOT_DISK: &str = "/dev/vda";
/// How long preparing a container may take before it is given up.
const SETUP_BOUND: Duration = Duration::from_secs(60);
/// How long output may come after the main process ended. Its PID namespace dies with it, so this is for the last bytes.
const OUTPUT_GRACE: Duration = Duration::from_secs(2);
/// How long a killed application may take to be gone.
pub const KILL_BOUND: Duration = Duration::from_secs(5);
/// Bytes of a report from the supervisor that are read at most.
pub const MAX_REPORT_BYTES: u64 = 16 * 1024;
/// Bytes read from an output pipe at a time: the size of a pipe.
const READ_BYTES: usize = 64 * 1024;

/// The one application of this guest.
pub struct Application {
    events: Arc<EventLog>,
    reaper: Arc<Reaper>,
    /// `None`: a kernel without one.
    kernel_log: Option<KernelLog>,
    state: watch::Sender<State>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Somebody starts it, or has.
    claimed: bool,
    /// The container's pid 1.
    main_process: Option<OwnedFd>,
    /// Its pid out here, kept when it has ended.
    main_pid: Option<Pid>,
    /// What it was started as.
    container: Option<Container>,
    /// Collects its output and its end.
    follower: Option<JoinHandle<()>>,
}

impl Application {
    /// Nothing runs yet.
    pub fn new(events: Arc<EventLog>, reaper: Arc<Reaper>, kernel_log: Option<KernelLog>) -> Self {
        Self { events, reaper, kernel_log, state: watch::Sender::new(State::NotStarted), inner: Mutex::default() }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        *self.state.borrow()
    }

    /// Starts it; returns when the container is ready and the program executes (or turned out not to be executable, which
    /// is an end of the application, not a failure of this). Once only; after a failure it may be tried again.
    ///
    /// Runs in a task of its own so that a host that goes away in the middle does not leave it half-done.
    pub async fn start(self: Arc<Self>, container: Container) -> Result<(), Fault> {
        if std::mem::replace(&mut self.inner().claimed, true) {
            return Err(Fault::AlreadyStarted);
        }
        match self.launch(&container).await {
            Ok(running) => {
                self.state.send_replace(State::Running);
                log::info(format_args!("application started"));
                let follower = tokio::spawn(self.clone().follow(running));
                self.inner().follower = Some(follower);
                Ok(())
            }
            Err(fault) => {
                self.inner().claimed = false;
                Err(fault)
            }
        }
    }

    /// What it was started as, and its main process, while it runs.
    pub fn running(&self) -> Option<(Container, OwnedFd)> {
        let inner = self.inner();
        // Without one to hand out there is no way in, which is as good as none.
        let main = inner.main_process.as_ref()?.try_clone().ok()?;
        Some((inner.container.clone()?, main))
    }

    /// Sends SIGTERM, waits up to `grace`, sends SIGKILL, waits until it is gone. At once done when it does not run.
    pub async fn stop(&self, grace: Duration) {
        let mut state = self.state.subscribe();
        for (signal, bound) in [(Signal::TERM, grace), (Signal::KILL, KILL_BOUND)] {
            if self.state() != State::Running {
                return;
            }
            if let Some(process) = &self.inner().main_process
                && let Err(error) = pidfd_send_signal(process, signal)
            {
                log::warn(format_args!("cannot signal the application: {error}"));
            }
            let _ = timeout(bound, state.wait_for(|state| *state != State::Running)).await;
        }
    }

    /// Tells of processes that died for want of memory, whenever that happens; for ever.
    pub async fn watch_memory(&self) {
        if let Some(log) = &self.kernel_log {
            while log.changed().await.is_ok() {
                self.tell_killed();
            }
        }
        std::future::pending().await
    }

    fn tell_killed(&self) {
        for killed in self.kernel_log.iter().flat_map(KernelLog::killed) {
            let main = self.inner().main_pid.is_some_and(|pid| pid.as_raw_nonzero().get() == killed.pid);
            self.events.push(Happening::OutOfMemory { name: killed.name, main });
        }
    }

    async fn launch(&self, container: &Container) -> Result<Running, Fault> {
        validate(container)?;
        mount_root_disk().map_err(|error| failed(format_args!("mount {ROOT_DISK}"), &error))?;
        if container.all_capabilities {
            boot::delegate_controllers();
        }
        sethostname(container.hostname.as_bytes())
            .map_err(|error| failed(format_args!("set the host name"), &error.into()))?;
        Names::of_container()
            .create(&container.hostname)
            .map_err(|error| failed(format_args!("make name files"), &error))?;
        let frame = wire::encode(container).map_err(|error| Fault::Failed(error.to_string()))?;
        let (running, control) = self.spawn().map_err(|error| failed(format_args!("start the supervisor"), &error))?;
        let report = match timeout(SETUP_BOUND, exchange(control, &frame)).await {
            Ok(Ok(report)) => report,
            Ok(Err(error)) => Report { failure: Some(format!("talk to the supervisor: {error}")), pid: None },
            Err(_) => Report { failure: Some(format!("no container within {} s", SETUP_BOUND.as_secs())), pid: None },
        };
        if let Some(failure) = report.failure {
            self.abandon(running, report.pid).await;
            return Err(Fault::Failed(failure));
        }
        let mut inner = self.inner();
        inner.main_pid = report.pid;
        inner.container = Some(container.clone());
        // None when it has ended already: then there is nothing to signal.
        inner.main_process = report.pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        Ok(running)
    }

    fn spawn(&self) -> io::Result<(Running, UnixStream)> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut command = own_command(VERB);
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (mut child, exit) = self.reaper.spawn(&mut command)?;
        let pipe = |end: Option<OwnedFd>| {
            pipe::Receiver::from_owned_fd(end.ok_or_else(|| io::Error::other("the supervisor has no output pipe"))?)
        };
        let stdout = pipe(child.stdout.take().map(OwnedFd::from))?;
        let stderr = pipe(child.stderr.take().map(OwnedFd::from))?;
        let supervisor = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok((Running { supervisor, exit, stdout, stderr }, UnixStream::from_std(ours)?))
    }

    /// Ends what a failed start left behind, so that the next one meets nothing of it.
    async fn abandon(&self, running: Running, main_process: Option<Pid>) {
        for pid in [main_process, running.supervisor].into_iter().flatten() {
            let _ = rustix::process::kill_process(pid, Signal::KILL); // it may be gone by itself
        }
        let _ = timeout(KILL_BOUND, running.exit).await;
    }

    /// Collects output until it ends, then tells the end.
    async fn follow(self: Arc<Self>, running: Running) {
        let mut stdout = tokio::spawn(collect(self.events.clone(), running.stdout, Stream::Stdout));
        let mut stderr = tokio::spawn(collect(self.events.clone(), running.stderr, Stream::Stderr));
        let code = running.exit.await.unwrap_or(-1);
        let both = async { tokio::join!(&mut stdout, &mut stderr) };
        if timeout(OUTPUT_GRACE, both).await.is_err() {
            log::warn(format_args!("something still holds the application's output"));
            stdout.abort();
            stderr.abort();
        }
        self.inner().main_process = None;
        self.tell_killed();
        self.events.push(Happening::Exited { code });
        self.state.send_replace(State::Exited(code));
        log::info(format_args!("application exited with code {code}"));
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The supervisor and the ends of its pipes.
struct Running {
    supervisor: Option<Pid>,
    exit: oneshot::Receiver<i32>,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
}

/// What the supervisor said, see [`crate::container`].
#[derive(Debug, Default, PartialEq)]
pub struct Report {
    /// The process in the container, as the agent sees it.
    pub pid: Option<Pid>,
    /// Why it could not be.
    pub failure: Option<String>,
}

impl Report {
    /// Reads what supervisor and child wrote, all of it.
    pub fn parse(text: &str) -> Self {
        let mut report = Self::default();
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("pid", pid)) => report.pid = pid.parse().ok().and_then(Pid::from_raw),
                Some(("failed", why)) => report.failure = Some(why.to_owned()),
                _ => {}
            }
        }
        if report.pid.is_none() && report.failure.is_none() {
            report.failure = Some("the supervisor ended without a word".to_owned());
        }
        report
    }
}

/// This very program, to do something in the container.
pub fn own_command(verb: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg(verb).env_clear();
    command
}

async fn exchange(mut control: UnixStream, frame: &[u8]) -> io::Result<Report> {
    control.write_all(frame).await?;
    let mut text = Vec::new();
    control.take(MAX_REPORT_BYTES).read_to_end(&mut text).await?;
    Ok(Report::parse(&String::from_utf8_lossy(&text)))
}

/// Reads one output pipe to its end, line by line into the events. Never waits for anybody who reads those.
async fn collect(events: Arc<EventLog>, mut pipe: pipe::Receiver, stream: Stream) {
    let mut splitter = Splitter::default();
    let mut emit = |text| events.push(Happening::Line { stream, text });
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match pipe.read(&mut buffer).await {
            Ok(0) => break,
            Ok(count) => splitter.push(&buffer[..count], &mut emit),
            Err(error) => {
                log::warn(format_args!("cannot read the application's output: {error}"));
                break;
            }
        }
    }
    splitter.finish(&mut emit);
}

fn validate(container: &Container) -> Result<(), Fault> {
    let fault = |text: &str| Err(Fault::Failed(text.to_owned()));
    if container.argv.is_empty() {
        return fault("the container has no command: set CMD or ENTRYPOINT in the Dockerfile");
    }
    if !container.workdir.starts_with('/') {
        return fault("the working directory is not absolute");
    }
    if container.hostname.is_empty() || container.hostname.len() > 64 {
        return fault("the host name is not 1 to 64 bytes long");
    }
    Ok(())
}

/// Mounts the root disk where the container's view is made from; a repeat finds it mounted. In the agent's view neither
/// device nodes nor set-uid bits of the image mean anything.
fn mount_root_disk() -> io::Result<()> {
    let flags = MountFlags::RELATIME | MountFlags::NODEV | MountFlags::NOSUID;
    match mount(ROOT_DISK, Path::new(ROOT_DISK_MOUNT), "ext4", flags, c"") {
        Ok(()) | Err(rustix::io::Errno::BUSY) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn failed(step: std::fmt::Arguments<'_>, error: &io::Error) -> Fault {
    Fault::Failed(format!("{step}: {error}"))
}

/// The host name the guest has now.
pub fn hostname() -> String {
    uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_understood() {
        let pid = Pid::from_raw(42);
        assert_eq!(Report::parse("pid 42\n"), Report { pid, failure: None });
        let failure = Some("mount proc at /proc: no".to_owned());
        assert_eq!(Report::parse("failed mount proc at /proc: no\npid 42\n"), Report { pid, failure });
        assert!(Report::parse("").failure.is_some());
        assert!(Report::parse("pid x\n").failure.is_some());
    }

    #[test]
    fn a_container_that_cannot_run_is_refused() {
        let good = Container {
            argv: vec!["a".into()],
            env: vec![],
            workdir: "/".into(),
            user: String::new(),
            all_capabilities: false,
            hostname: "h".into(),
        };
        assert_eq!(validate(&good), Ok(()));
        assert!(validate(&Container { argv: vec![], ..good.clone() }).is_err());
        assert!(validate(&Container { workdir: "x".into(), ..good.clone() }).is_err());
        assert!(validate(&Container { hostname: "h".repeat(65), ..good }).is_err());
    }

    #[tokio::test]
    async fn output_becomes_events_without_a_reader() {
        let events = Arc::new(EventLog::new());
        let (mut sender, receiver) = pipe::pipe().expect("pipe");
        let collecting = tokio::spawn(collect(events.clone(), receiver, Stream::Stderr));
        sender.write_all(b"one\ntwo").await.expect("write");
        drop(sender);
        collecting.await.expect("collects");
        let lines: Vec<_> = events.after(0, 1 << 20).into_iter().map(|event| event.what).collect();
        let line = |text: &str| Happening::Line { stream: Stream::Stderr, text: text.into() };
        assert_eq!(lines, [line("one"), line("two")]);
    }
}
