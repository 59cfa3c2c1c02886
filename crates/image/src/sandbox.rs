//! Where everything that comes from a user runs: a process tree in mount, pid, ipc, uts, cgroup and user namespaces of its
//! own, with the builder root file system as `/`.
//!
//! Root in there is an unprivileged id of the host (a user namespace), sees no file of the host but the directories bound
//! below `/build`, and no process but its own. Its pid 1 dies with the thread that started it, and with pid 1 all else,
//! mounts included; so nothing is left behind whatever happens.
//!
//! ```text
//! /                 overlay: the builder root, writes go to a tmpfs and are lost
//! /build/context    the unpacked artifact (ro)       /build/storage  images and layers, shared by all builds
//! /build/conf       configuration (ro)               /build/out      small results for the host
//! /var/tmp          scratch of this build            /run, /tmp, /root, /dev, /sys: tmpfs
//! ```

use std::{
    fs,
    io::Read,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Resource, Signal, getrlimit, pidfd_send_signal},
};

use crate::{
    archive::owned_directory,
    error::BuildError,
    mounts::{Mounts, c},
    output::Lines,
    settings::{BuildahSettings, Network},
    sys::{self, Plan, Step},
    trust,
};

/// Host id of root in every sandbox: above what distributions give to users, containers and systemd.
pub(crate) const FIRST_ID: u32 = 0x7000_0000;
/// How many ids a sandbox has.
const IDS: u32 = 1 << 24;

/// The directories of one build, ready to run commands in.
pub(crate) struct Sandbox<'a> {
    settings: &'a BuildahSettings,
    work: &'a Path,
    switch: &'a Switch,
    secrets: Vec<String>,
    deadline: Instant,
}

/// A command for the sandbox.
#[derive(Default)]
pub(crate) struct Command {
    /// Absolute path first.
    pub argv: Vec<String>,
    /// More host files or directories to show: where from, where to (absolute), writable.
    pub binds: Vec<(PathBuf, &'static str, bool)>,
    /// A bound shorter than the build's.
    pub limit: Option<Duration>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub how: How,
    /// Its last lines.
    pub tail: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Success,
    /// It exited with this code, or died by a signal.
    Failed(Option<i32>),
    /// Killed at its own [`Command::limit`].
    OverLimit,
}

/// Ends a build from another thread.
#[derive(Default)]
pub(crate) struct Switch(Mutex<SwitchState>);

/// Between two looks at a lock that another build holds.
const GIVE_WAY: Duration = Duration::from_millis(50);

#[derive(Default)]
struct SwitchState {
    off: bool,
    current: Option<OwnedFd>,
}

impl Switch {
    /// Kills what runs and lets nothing more start.
    pub(crate) fn turn_off(&self) {
        let mut state = self.0.lock().unwrap_or_else(|poison| poison.into_inner());
        state.off = true;
        if let Some(pidfd) = &state.current {
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
        }
    }

    pub(crate) fn is_off(&self) -> bool {
        self.0.lock().unwrap_or_else(|poison| poison.into_inner()).off
    }

    fn set(&self, current: Option<OwnedFd>) {
        let mut state = self.0.lock().unwrap_or_else(|poison| poison.into_inner());
        if let (true, Some(pidfd)) = (state.off, &current) {
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
        }
        state.current = current;
    }
}

impl<'a> Sandbox<'a> {
    /// Lays out `work`, which exists and is empty.
    pub(crate) fn new(
        settings: &'a BuildahSettings,
        work: &'a Path,
        switch: &'a Switch,
        deadline: Instant,
    ) -> Result<Self, BuildError> {
        for name in ["namespace", "conf"] {
            owned_directory(&work.join(name), 0)?;
        }
        // The cache of `RUN --mount=type=cache` is where buildah looks for it: in the scratch directory.
        for path in [work.join("context"), work.join("out"), work.join("scratch"), work.join("scratch/buildah-cache-0")]
        {
            owned_directory(&path, FIRST_ID)?;
        }
        for name in ["storage", "mounts"] {
            owned_directory(&settings.cache_dir.join(name), FIRST_ID)?;
        }
        trust::write(&work.join("conf"), settings)?;
        Ok(Sandbox { settings, work, switch, secrets: trust::secrets(&settings.host_env), deadline })
    }

    /// A directory of the build, by its name in the module's picture.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }

    /// Reads a small result that a command left in `/build/out`. It is hostile: bounded, and no symlink is followed.
    pub(crate) fn result(&self, name: &str, max_bytes: u64) -> Result<String, BuildError> {
        use rustix::fs::{Mode, OFlags, open};
        let path = self.work.join("out").join(name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = open(&path, flags, Mode::empty()).map_err(|error| BuildError::io("read", &path, &error.into()))?;
        let mut text = String::new();
        fs::File::from(file)
            .take(max_bytes)
            .read_to_string(&mut text)
            .map_err(|error| BuildError::io("read", &path, &error))?;
        Ok(text)
    }

    /// Runs a command to its end, handing on its output line by line. Must stay on one thread.
    pub(crate) fn run(&self, command: &Command, line: &mut dyn FnMut(&str)) -> Result<Ended, BuildError> {
        if self.switch.is_off() {
            return Err(cancelled());
        }
        let plan = self.plan(command)?;
        let mut process = sys::spawn(&plan).map_err(|reason| {
            let hint = if rustix::process::geteuid().is_root() { "" } else { "; building images needs root" };
            BuildError::platform(format!("cannot start the build sandbox: {reason}{hint}"))
        })?;
        let watched = process.pidfd.try_clone().map_err(|error| BuildError::io("watch", self.work, &error))?;
        self.switch.set(Some(watched));
        crash::point("dockerfile: sandbox runs");
        let limit = command.limit.map(|limit| Instant::now() + limit);
        let due = limit.map_or(self.deadline, |limit| limit.min(self.deadline));
        let mut lines = Lines::new(&self.secrets, line);
        let overdue = follow(&mut process, due, &mut lines);
        if overdue.is_err() {
            let _ = pidfd_send_signal(&process.pidfd, Signal::KILL);
        }
        let status = sys::wait(&process.pidfd);
        self.switch.set(None);
        let tail = lines.finish();
        if self.switch.is_off() {
            return Err(cancelled());
        }
        let overdue = overdue.map_err(|error| BuildError::platform(format!("cannot follow the build: {error}")))?;
        let how = match status.map_err(|error| BuildError::platform(format!("cannot wait for the build: {error}")))? {
            Some(0) => How::Success,
            _ if overdue && due == self.deadline => return Err(self.too_long()),
            _ if overdue => How::OverLimit,
            code => How::Failed(code),
        };
        Ok(Ended { how, tail })
    }

    /// A moment's pause while another build is in the way; said once. An error when this build is called off or out of time.
    pub(crate) fn give_way(&self, told: &mut bool, line: &mut dyn FnMut(&str)) -> Result<(), BuildError> {
        if self.switch.is_off() {
            return Err(cancelled());
        }
        if Instant::now() > self.deadline {
            return Err(self.too_long());
        }
        if !std::mem::replace(told, true) {
            line("waiting for another build to tidy the cache");
        }
        std::thread::sleep(GIVE_WAY);
        Ok(())
    }

    fn too_long(&self) -> BuildError {
        let seconds = self.settings.build_timeout.as_secs();
        BuildError::container(format!("the build took longer than {seconds} s and was stopped"))
    }

    fn plan(&self, command: &Command) -> Result<Plan, BuildError> {
        let mut mounts = Mounts::default();
        mounts.root(&self.work.join("namespace"), &self.settings.builder_root)?;
        mounts.file_systems();
        let writable = [
            (self.work.join("out"), "/build/out"),
            (self.work.join("scratch"), "/var/tmp"),
            (self.settings.cache_dir.join("storage"), "/build/storage"),
            (self.settings.cache_dir.join("mounts"), "/var/tmp/buildah-cache-0"),
        ];
        for (source, target) in &writable {
            mounts.bind(source, target, true)?;
        }
        for name in ["context", "conf"] {
            mounts.bind(&self.work.join(name), &format!("/build/{name}"), false)?;
        }
        for name in ["resolv.conf", "hosts"] {
            mounts.bind(&self.work.join("conf").join(name), &format!("/etc/{name}"), false)?;
        }
        for (source, target, write) in &command.binds {
            mounts.bind(source, target, *write)?;
        }
        enter_network(&self.settings.network, &mut mounts.steps)?;
        mounts.steps.push(Step::Pivot(c"root".to_owned()));
        let strings = |texts: &[String]| texts.iter().map(|text| c(text.as_bytes())).collect::<Result<Vec<_>, _>>();
        let program = command.argv.first().map_or("", String::as_str);
        Ok(Plan {
            steps: mounts.steps,
            program: c(program.as_bytes())?,
            argv: strings(&command.argv)?,
            envp: strings(&self.environment())?,
            first_id: FIRST_ID,
            ids: IDS,
        })
    }

    /// What buildah itself sees; RUN steps get other variables.
    fn environment(&self) -> Vec<String> {
        let mut env: Vec<String> = [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME=/root",
            "LANG=C.UTF-8",
            "TMPDIR=/var/tmp",
            "CONTAINERS_CONF=/build/conf/containers.conf",
            "CONTAINERS_STORAGE_CONF=/build/conf/storage.conf",
            "CONTAINERS_REGISTRIES_CONF=/build/conf/registries.conf",
        ]
        .map(str::to_owned)
        .into();
        if self.settings.ca_bundle.is_some() {
            env.push("SSL_CERT_FILE=/build/conf/run/ca.pem".to_owned());
        }
        env.extend(self.settings.host_env.proxies().map(|(name, value)| format!("{name}={value}")));
        env
    }
}

/// The one place that decides what network a sandbox has.
fn enter_network(network: &Network, steps: &mut Vec<Step>) -> Result<(), BuildError> {
    match network {
        Network::Host => {}
        Network::Namespace(path) => {
            let file =
                fs::File::open(path).map_err(|error| BuildError::io("open the network namespace", path, &error))?;
            steps.push(Step::Network(file.into()));
        }
    }
    Ok(())
}

/// `--ulimit` values that root without CAP_SYS_RESOURCE may set: the limits it has.
pub(crate) fn ulimits() -> [String; 2] {
    [("nofile", Resource::Nofile), ("nproc", Resource::Nproc)].map(|(name, resource)| {
        let limit = getrlimit(resource);
        let number = |bound: Option<u64>| bound.map_or("-1".to_owned(), |bound| bound.to_string());
        format!("{name}={}:{}", number(limit.current), number(limit.maximum))
    })
}

fn cancelled() -> BuildError {
    BuildError::platform("the build was cancelled")
}

/// Reads until the end of output; true when the process had to be killed at `due`.
fn follow(process: &mut sys::Process, due: Instant, lines: &mut Lines<'_>) -> std::io::Result<bool> {
    let mut overdue = false;
    let mut piece = vec![0; 32 << 10];
    loop {
        if !overdue {
            let left = due.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            let mut ready = [PollFd::new(&process.output, PollFlags::IN)];
            match poll(&mut ready, Some(&timeout)) {
                Ok(0) => {
                    overdue = true;
                    pidfd_send_signal(&process.pidfd, Signal::KILL)?;
                }
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if ready[0].revents().is_empty() {
                continue;
            }
        }
        match process.output.read(&mut piece) {
            Ok(0) => return Ok(overdue),
            Ok(count) => lines.feed(&piece[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
