//! The application's container: namespaces, file system view, account, limits; then the application itself.
//!
//! The agent executes itself as `guest container`, with a socket as standard input and the application's output pipes as
//! the other two. That process, the *supervisor*, makes the namespaces and forks; the child is pid 1 of the container,
//! prepares it from within and becomes the application. The supervisor waits for it and exits as it did.
//!
//! ```text
//! agent (pid 1 of the VM)
//!   └─ supervisor            reads the container from the socket, reports "pid <n>"
//!        └─ pid 1 inside     reports "failed <why>", or closes the socket by becoming the application
//! ```
//!
//! The application shares the VM's network (so that the agent's dialer reaches its loopback) and its UTS namespace, and
//! nothing else: the control channel's device node is in no file system it has, the agent in no process list.

mod caps;
mod program;
pub mod session;
mod setup;
mod user;

use std::{
    env, fmt,
    io::{self, Read, Write},
    os::fd::BorrowedFd,
    os::unix::net::UnixStream,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, exit},
};

use rustix::{
    fs::{Access, AtFlags, CWD, Gid, Mode, Uid, accessat, fchown},
    process::{Pid, Signal, WaitOptions, WaitStatus, set_parent_process_death_signal, setsid, umask, waitpid},
};
use serde::de::DeserializeOwned;
use wire::Container;

use crate::{names, sys};
use program::Candidate;
pub use setup::ROOT_DISK_MOUNT;
use user::Account;

/// First argument of the supervisor.
pub const VERB: &str = "container";
/// Exit code of a supervisor that could not do its work; the reason went through the socket.
const EXIT_FAILED: i32 = 125;
/// More than any `/etc/passwd` needs (1 MiB).
const MAX_ACCOUNT_BYTES: u64 = 1 << 20;

/// A step of preparing the container failed.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub struct SetupError {
    /// What was being done.
    pub step: String,
    /// The system's answer.
    pub source: io::Error,
}

/// Names the step of an error.
trait Step<T> {
    fn step(self, step: impl Into<String>) -> Result<T, SetupError>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: impl Into<String>) -> Result<T, SetupError> {
        self.map_err(|source| SetupError { step: step.into(), source: source.into() })
    }
}

/// The supervisor's whole life.
pub fn supervise() -> ! {
    let Ok(mut control) = take_control() else { exit(EXIT_FAILED) };
    let child = match start(&mut control) {
        Ok(child) => child,
        Err(error) => fail(&control, &error),
    };
    // From here on the child alone holds the socket and the pipes: their ends tell the agent how it fares.
    drop(control);
    exit(release_output().and_then(|()| wait_for(child)).unwrap_or(EXIT_FAILED))
}

/// Reports the error to the agent. Nobody is left to tell when even that fails: the agent sees the exit code.
fn fail(control: &UnixStream, error: &SetupError) -> ! {
    let _ = report(control, format_args!("failed {error}"));
    exit(EXIT_FAILED)
}

/// Says one line in one write: parent and child share the socket, and their words must not mix.
fn report(mut control: &UnixStream, line: fmt::Arguments<'_>) -> io::Result<()> {
    control.write_all(format!("{line}\n").as_bytes())
}

/// The socket that came as standard input, under a number that the application will not inherit.
fn take_control() -> io::Result<UnixStream> {
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(control.into())
}

/// Makes the namespaces and forks; returns in the supervisor only.
fn start(control: &mut UnixStream) -> Result<Pid, SetupError> {
    let container: Container = read_plan(control).step("read the container")?;
    setup::join_cgroup().step("join the application's cgroup")?;
    sys::unshare_for_container().step("make namespaces")?;
    match sys::fork().step("fork")? {
        sys::Fork::Child => match become_application(&container) {
            Ok(code) => exit(code),
            Err(error) => fail(control, &error),
        },
        sys::Fork::Parent(child) => {
            report(control, format_args!("pid {}", child.as_raw_nonzero())).step("report the pid")?;
            Ok(child)
        }
    }
}

/// Lets go of the pipes, whose end tells the agent that the application's output is over.
fn release_output() -> io::Result<()> {
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

/// What the agent sent.
fn read_plan<T: DeserializeOwned>(control: &mut UnixStream) -> io::Result<T> {
    let mut prefix = [0; wire::LENGTH_BYTES];
    control.read_exact(&mut prefix)?;
    let mut body = vec![0; wire::decode_length(prefix).map_err(io::Error::other)?];
    control.read_exact(&mut body)?;
    wire::decode_body(&body).map_err(io::Error::other)
}

fn wait_for(child: Pid) -> io::Result<i32> {
    loop {
        match waitpid(Some(child), WaitOptions::empty()) {
            Ok(Some((_, status))) => {
                if let Some(code) = exit_code(status) {
                    return Ok(code);
                }
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A shell's view of how a process ended; `None` while it only stopped.
pub fn exit_code(status: WaitStatus) -> Option<i32> {
    status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal))
}

/// Prepares the container from within and becomes the application. Returns the exit code when there is nothing to execute,
/// which has then been said on the application's standard error.
fn become_application(container: &Container) -> Result<i32, SetupError> {
    set_parent_process_death_signal(Some(Signal::KILL)).step("follow the supervisor's death")?;
    setsid().step("make a session")?;
    umask(Mode::from_raw_mode(0o022));
    std::fs::write("/proc/self/oom_score_adj", "0").step("set the out-of-memory score")?;
    setup::enter_root(container.all_capabilities)?;

    let account = account(&container.user)?;
    // The pipes were made by root; the application may open /dev/stdout by name.
    for output in [rustix::stdio::stdout(), rustix::stdio::stderr()] {
        hand_over(output, &account)?;
    }
    std::fs::create_dir_all(&container.workdir).step(format!("make the working directory {}", container.workdir))?;
    env::set_current_dir(&container.workdir).step(format!("enter the working directory {}", container.workdir))?;
    let null = std::fs::File::open("/dev/null").step("open /dev/null")?;
    rustix::stdio::dup2_stdin(&null).step("set standard input")?;
    drop(null);
    caps::limit_files(container.all_capabilities).step("set limits")?;
    caps::become_account(&account, container.all_capabilities).step("become the user")?;
    // The kernel forgets this when the user id changes.
    set_parent_process_death_signal(Some(Signal::KILL)).step("follow the supervisor's death")?;
    Ok(execute(container, &account.home))
}

/// The account of a USER, by the files of the container that this process is in.
fn account(user: &str) -> Result<Account, SetupError> {
    let text = |path: &str| {
        names::read_bounded(Path::new(path), MAX_ACCOUNT_BYTES)
            .map(Option::unwrap_or_default)
            .step(format!("read {path}"))
    };
    let (passwd, group) = (text("/etc/passwd")?, text("/etc/group")?);
    user::resolve(user, &passwd, &group).map_err(io::Error::other).step("resolve USER")
}

/// Makes an end of a pipe the account's own, so that it may open it by name.
fn hand_over(end: BorrowedFd<'_>, account: &Account) -> Result<(), SetupError> {
    fchown(end, Some(Uid::from_raw(account.uid)), Some(Gid::from_raw(account.gid))).step("hand over the output")
}

/// Replaces this process by the application. Comes back with an exit code when that is not possible.
fn execute(container: &Container, home: &str) -> i32 {
    let path = path(container);
    let name = container.argv.first().map_or("", String::as_str);
    let file = match program::find(name, path, probe) {
        Ok(file) => file,
        Err(error) => {
            eprintln!("hearth: {error}");
            return error.exit_code();
        }
    };
    let mut command = Command::new(&file);
    command.arg0(name).args(container.argv.iter().skip(1)).env_clear();
    command.env("PATH", path).env("HOME", home);
    command.envs(container.env.iter().map(|(name, value)| (name, value)));
    // The standard library resets the signal mask and SIGPIPE; nothing else was changed since boot.
    let error = command.exec();
    eprintln!("hearth: {}: {error}", file.display());
    if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
}

/// Where programs are found.
fn path(container: &Container) -> &str {
    let set = container.env.iter().find(|(name, _)| name == "PATH");
    set.map_or(program::DEFAULT_PATH, |(_, value)| value.as_str())
}

fn probe(path: &Path) -> Candidate {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => {
            let may = accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).is_ok();
            if may { Candidate::Program } else { Candidate::Forbidden }
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Candidate::Forbidden,
        _ => Candidate::Absent,
    }
}
