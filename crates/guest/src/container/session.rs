//! A further process in the application's container: for the shell and for programs that somebody outside asks for.
//!
//! The agent executes itself as `guest session`, as it does for the application (see the parent module). The *attendant*
//! enters the container's PID and IPC namespaces and forks; the child enters its mount namespace, opens a terminal there or
//! makes pipes, sends the agent's ends of them through the socket, and becomes the program. The attendant waits for it and
//! exits as it did.
//!
//! ```text
//! agent (pid 1 of the VM)
//!   └─ attendant             reads the plan from the socket, reports "pid <n>"
//!        └─ the session      sends its ends with "ready", then "failed <why>" or closes the socket and becomes the program
//! ```
//!
//! The socket is the attendant's standard input, a pidfd of the container's main process its standard output. When both have
//! let go of the socket, the program executes.

use std::{
    env,
    io::{self, BufReader, BufWriter, IoSlice},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::net::UnixStream,
    path::Path,
    process::exit,
};

use files::FilesError;
use rustix::{
    fs::{Mode, OFlags, open},
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
    pipe::{PipeFlags, pipe_with},
    process::{Pid, Signal, getppid, ioctl_tiocsctty, set_parent_process_death_signal, setsid, umask},
    pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt},
    termios::{Winsize, tcsetwinsize},
    thread::{ThreadNameSpaceType, move_into_thread_name_spaces},
};
use wire::{Container, Job, Session, TerminalSize};

use super::{
    EXIT_FAILED, SetupError, Step, account, caps, execute, fail, hand_over, path, probe, program, read_plan, report,
    setup, take_control, user::Account, wait_for,
};
use crate::sys;

/// First argument of the attendant.
pub const VERB: &str = "session";
/// The terminals of the container. By this name, and not `/dev/ptmx`, it is the container's own mount.
const TERMINALS: &str = "/dev/pts/ptmx";
/// What the terminal is said to be (spec 8).
const TERM: &str = "xterm";
/// Who a shell runs as (spec 8).
const ROOT: &str = "0";
/// The size of a pipe.
const PIPE_BYTES: usize = 64 * 1024;
/// Most ends that are sent: standard input, output and error.
const MAX_ENDS: usize = 3;

/// What the attendant is told: what the container's main process was started as, and what to do beside it.
pub type Plan = (Container, Session);

/// The attendant's whole life.
pub fn attend() -> ! {
    let (Ok(control), Ok(main)) = (take_control(), take_main()) else { exit(EXIT_FAILED) };
    // Which lets go of the socket.
    let child = start(control, main);
    exit(wait_for(child).unwrap_or(EXIT_FAILED))
}

/// The container's main process, that came as standard output, under a number that the program will not inherit.
fn take_main() -> io::Result<OwnedFd> {
    let main = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    rustix::stdio::dup2_stdout(std::fs::OpenOptions::new().write(true).open("/dev/null")?)?;
    Ok(main)
}

/// Joins the container as far as this process can and forks; returns in the attendant only.
fn start(mut control: UnixStream, main: OwnedFd) -> Pid {
    let forked = join(&mut control, &main).unwrap_or_else(|error| fail(&control, &error));
    match forked {
        (sys::Fork::Child, container, session) => {
            let ready = prepare(&control, main, container, session).unwrap_or_else(|error| fail(&control, &error));
            // By a close and not by a shutdown: the attendant may still have to say its word on the same socket.
            drop(control);
            exit(ready.run())
        }
        (sys::Fork::Parent(child), ..) => {
            let told = report(&control, format_args!("pid {}", child.as_raw_nonzero())).step("report the pid");
            told.unwrap_or_else(|error| fail(&control, &error));
            child
        }
    }
}

fn join(control: &mut UnixStream, main: &OwnedFd) -> Result<(sys::Fork, Container, Session), SetupError> {
    let (container, session): Plan = read_plan(control).step("read the session")?;
    setup::join_cgroup().step("join the application's cgroup")?;
    let namespaces = ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION | ThreadNameSpaceType::PROCESS_ID;
    move_into_thread_name_spaces(main.as_fd(), namespaces).step("enter the container")?;
    Ok((sys::fork().step("fork")?, container, session))
}

/// What is left to do in the container.
enum Ready {
    Program(Container, Account),
    Get(String),
    Put { path: String, name: Option<String> },
}

/// Enters the container for good, up to what needs no more than doing it.
fn prepare(control: &UnixStream, main: OwnedFd, container: Container, session: Session) -> Result<Ready, SetupError> {
    follow_the_attendant()?;
    setsid().step("make a session")?;
    umask(Mode::from_raw_mode(0o022));
    std::fs::write("/proc/self/oom_score_adj", "0").step("set the out-of-memory score")?;
    move_into_thread_name_spaces(main.as_fd(), ThreadNameSpaceType::MOUNT).step("enter the container's file system")?;
    drop(main);

    let account = account(user_of(&session, &container))?;
    match session.terminal.filter(|_| is_program(&session.job)) {
        Some(size) => open_terminal(control, size, &account)?,
        None => open_pipes(control, &account)?,
    }
    let workdir = match &session.workdir {
        _ if !is_program(&session.job) => "/",
        Some(workdir) => workdir,
        None => &container.workdir,
    };
    env::set_current_dir(workdir).step(format!("enter the working directory {workdir}"))?;
    caps::limit_files(container.all_capabilities).step("set limits")?;
    caps::become_account(&account, container.all_capabilities).step("become the user")?;
    // The kernel forgets this when the user id changes.
    follow_the_attendant()?;
    Ok(match session.job {
        Job::Get(from) => Ready::Get(from),
        Job::Put { path, name } => Ready::Put { path, name },
        Job::Shell | Job::Exec(_) => Ready::Program(program_of(&session, container), account),
    })
}

/// From here on this process dies when the attendant does.
fn follow_the_attendant() -> Result<(), SetupError> {
    set_parent_process_death_signal(Some(Signal::KILL)).step("follow the attendant's death")?;
    // The attendant is outside of this PID namespace and has no number here; who inherits its children is inside.
    match getppid() {
        None => Ok(()),
        Some(_) => Err(io::Error::other("it is dead already")).step("follow the attendant's death"),
    }
}

impl Ready {
    /// Does it; the exit code, if this process is still there then. What is wrong is said on standard error.
    fn run(self) -> i32 {
        let moved = match self {
            Ready::Program(container, account) => return execute(&container, &account.home),
            Ready::Get(from) => get(&from),
            Ready::Put { path, name } => put(&path, name.as_deref()),
        };
        match moved {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("{error}");
                1
            }
        }
    }
}

fn is_program(job: &Job) -> bool {
    matches!(job, Job::Shell | Job::Exec(_))
}

/// Packs what is at the path into standard output.
fn get(from: &str) -> Result<(), FilesError> {
    files::pack(Path::new(from), &mut BufWriter::with_capacity(PIPE_BYTES, io::stdout().lock()))
}

/// Unpacks standard input.
fn put(path: &str, name: Option<&str>) -> Result<(), FilesError> {
    let target = files::place(Path::new(path), name)?;
    let skipped = files::unpack(&target, &mut BufReader::with_capacity(PIPE_BYTES, io::stdin().lock()))?;
    for name in skipped {
        eprintln!("left out {name:?}, which is neither file, directory nor link");
    }
    Ok(())
}

/// Files are moved as root, whoever is named; a shell is root's (spec 8) and a program the application's own user's, if nobody
/// else is named.
fn user_of<'a>(session: &'a Session, container: &'a Container) -> &'a str {
    match (&session.job, &session.user) {
        (Job::Get(_) | Job::Put { .. }, _) | (Job::Shell, None) => ROOT,
        (Job::Shell | Job::Exec(_), Some(user)) => user,
        (Job::Exec(_), None) => &container.user,
    }
}

/// The program as a container of its own: the image's environment with the session's on top.
fn program_of(session: &Session, mut container: Container) -> Container {
    if session.user.is_some() {
        // The image's HOME is that of its own user.
        container.env.retain(|(name, _)| name != "HOME");
    }
    let term = session.terminal.map(|_| ("TERM".to_owned(), TERM.to_owned()));
    for (name, value) in term.into_iter().chain(session.env.iter().cloned()) {
        container.env.retain(|(other, _)| *other != name);
        container.env.push((name, value));
    }
    container.argv = match &session.job {
        Job::Exec(argv) => argv.clone(),
        _ => {
            let bash = program::find("bash", path(&container), probe);
            vec![if bash.is_ok() { "bash" } else { "sh" }.to_owned()]
        }
    };
    container
}

/// A terminal of the container as this session's own, on all three descriptors; the other end goes to the agent.
fn open_terminal(control: &UnixStream, size: TerminalSize, account: &Account) -> Result<(), SetupError> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let ours = open(TERMINALS, flags, Mode::empty()).step(format!("open {TERMINALS}"))?;
    // What is no terminal, whatever the container put there, does not understand this.
    unlockpt(&ours).step("make a terminal")?;
    let peer = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = ioctl_tiocgptpeer(&ours, peer).step("open the terminal")?;
    let size = Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&ours, size).step("set the terminal's size")?;
    let owner = rustix::fs::Uid::from_raw(account.uid);
    rustix::fs::fchown(&terminal, Some(owner), None).step("hand over the terminal")?;
    ioctl_tiocsctty(&terminal).step("take the terminal")?;
    send_ends(control, &[ours.as_fd()]).step("send the terminal")?;
    connect(&terminal, &terminal, &terminal).step("connect the terminal")
}

/// Three pipes on the three descriptors; the other ends go to the agent.
fn open_pipes(control: &UnixStream, account: &Account) -> Result<(), SetupError> {
    let make = || pipe_with(PipeFlags::CLOEXEC).step("make pipes");
    let ((input, to_input), (from_output, output), (from_error, error)) = (make()?, make()?, make()?);
    for end in [&input, &output, &error] {
        hand_over(end.as_fd(), account)?;
    }
    send_ends(control, &[to_input.as_fd(), from_output.as_fd(), from_error.as_fd()]).step("send the pipes")?;
    connect(&input, &output, &error).step("connect the pipes")
}

fn connect(input: &OwnedFd, output: &OwnedFd, error: &OwnedFd) -> io::Result<()> {
    rustix::stdio::dup2_stdin(input)?;
    rustix::stdio::dup2_stdout(output)?;
    Ok(rustix::stdio::dup2_stderr(error)?)
}

fn send_ends(control: &UnixStream, ends: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_ENDS))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    rights.push(SendAncillaryMessage::ScmRights(ends));
    sendmsg(control, &[IoSlice::new(b"ready\n")], &mut rights, SendFlags::NOSIGNAL)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container() -> Container {
        Container {
            argv: vec!["app".into()],
            env: vec![("PATH".into(), "/none".into()), ("HOME".into(), "/root".into()), ("A".into(), "1".into())],
            workdir: "/".into(),
            user: "app".into(),
            all_capabilities: false,
            hostname: "h".into(),
        }
    }

    fn session(job: Job) -> Session {
        Session { job, user: None, workdir: None, env: Vec::new(), terminal: None, timeout_ms: 0 }
    }

    #[test]
    fn the_environment_is_the_images_with_the_sessions_on_top() {
        let mut wanted = session(Job::Exec(vec!["env".into()]));
        wanted.env = vec![("A".into(), "2".into()), ("B".into(), "3".into())];
        let env = |session: &Session| {
            program_of(session, container()).env.into_iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>()
        };
        assert_eq!(env(&wanted), ["PATH=/none", "HOME=/root", "A=2", "B=3"]);
        wanted.user = Some("other".into());
        wanted.terminal = Some(TerminalSize::default());
        assert_eq!(env(&wanted), ["PATH=/none", "TERM=xterm", "A=2", "B=3"]);
    }

    #[test]
    fn who_and_what() {
        let (shell, exec) = (session(Job::Shell), session(Job::Exec(vec!["id".into()])));
        let container = container();
        assert_eq!((user_of(&shell, &container), user_of(&exec, &container)), ("0", "app"));
        let named = Session { user: Some("x".into()), ..shell.clone() };
        assert_eq!(user_of(&named, &container), "x");
        for job in [Job::Get("/".into()), Job::Put { path: "/".into(), name: None }] {
            assert_eq!(user_of(&Session { job, ..named.clone() }, &container), "0", "files are root's to move");
        }
        assert_eq!(program_of(&shell, container.clone()).argv, ["sh"], "no bash in that PATH");
        assert_eq!(program_of(&exec, container).argv, ["id"]);
    }
}
