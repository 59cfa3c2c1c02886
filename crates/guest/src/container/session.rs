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
//!        └─ the session      sends its ends with "ready", then "failed <why>" or closes the socket by becoming the program
//! ```

use std::{
    env,
    io::{self, BufReader, BufWriter, IoSlice},
    mem::MaybeUninit,
    net::Shutdown,
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
    process::{Pid, PidfdFlags, Signal, ioctl_tiocsctty, pidfd_open, set_parent_process_death_signal, setsid, umask},
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

/// What the attendant is told: the container's main process, what it was started as, what to do.
pub type Plan = (i32, Container, Session);

/// The attendant's whole life.
pub fn attend() -> ! {
    let Ok(mut control) = take_control() else { exit(EXIT_FAILED) };
    let child = match start(&mut control) {
        Ok(child) => child,
        Err(error) => fail(&control, &error),
    };
    drop(control);
    exit(wait_for(child).unwrap_or(EXIT_FAILED))
}

/// Joins the container as far as this process can and forks; returns in the attendant only.
fn start(control: &mut UnixStream) -> Result<Pid, SetupError> {
    let (main, container, session): Plan = read_plan(control).step("read the session")?;
    let main = Pid::from_raw(main).ok_or_else(|| io::Error::other("no pid")).step("find the application")?;
    let main = pidfd_open(main, PidfdFlags::empty()).step("find the application")?;
    setup::join_cgroup().step("join the application's cgroup")?;
    let namespaces = ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION | ThreadNameSpaceType::PROCESS_ID;
    move_into_thread_name_spaces(main.as_fd(), namespaces).step("enter the container")?;
    match sys::fork().step("fork")? {
        sys::Fork::Child => match become_program(control, main, container, &session) {
            Ok(code) => exit(code),
            Err(error) => fail(control, &error),
        },
        sys::Fork::Parent(child) => {
            report(control, format_args!("pid {}", child.as_raw_nonzero())).step("report the pid")?;
            Ok(child)
        }
    }
}

/// Enters the container for good and becomes the program. Returns the exit code when there is nothing to execute, which has
/// then been said on the program's standard error.
fn become_program(
    control: &UnixStream,
    main: OwnedFd,
    container: Container,
    session: &Session,
) -> Result<i32, SetupError> {
    set_parent_process_death_signal(Some(Signal::KILL)).step("follow the attendant's death")?;
    setsid().step("make a session")?;
    umask(Mode::from_raw_mode(0o022));
    std::fs::write("/proc/self/oom_score_adj", "0").step("set the out-of-memory score")?;
    move_into_thread_name_spaces(main.as_fd(), ThreadNameSpaceType::MOUNT).step("enter the container's file system")?;
    drop(main);

    let account = account(user_of(session, &container))?;
    match session.terminal {
        Some(size) => open_terminal(control, size, &account)?,
        None => open_pipes(control, &account)?,
    }
    let workdir = match (&session.job, &session.workdir) {
        (Job::Get(_) | Job::Put { .. }, _) => "/",
        (_, Some(workdir)) => workdir,
        (_, None) => &container.workdir,
    };
    env::set_current_dir(workdir).step(format!("enter the working directory {workdir}"))?;
    caps::limit_files(container.all_capabilities).step("set limits")?;
    caps::become_account(&account, container.all_capabilities).step("become the user")?;
    set_parent_process_death_signal(Some(Signal::KILL)).step("follow the attendant's death")?;
    match &session.job {
        Job::Get(from) => finish_with(control, || get(from)),
        Job::Put { path, name } => finish_with(control, || put(path, name.as_deref())),
        Job::Shell | Job::Exec(_) => Ok(execute(&program_of(session, container), &account.home)),
    }
}

/// Tells the agent that all is ready, as becoming a program would; then does the work. Its exit code.
fn finish_with(control: &UnixStream, work: impl FnOnce() -> Result<(), FilesError>) -> Result<i32, SetupError> {
    control.shutdown(Shutdown::Both).step("let go of the agent")?;
    if let Err(error) = work() {
        eprintln!("{error}");
        return Ok(1);
    }
    Ok(0)
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

/// A shell is root's (spec 8); a program is the application's own user's, if nobody else is named.
fn user_of<'a>(session: &'a Session, container: &'a Container) -> &'a str {
    match (&session.user, &session.job) {
        (Some(user), _) => user,
        (None, Job::Shell | Job::Get(_) | Job::Put { .. }) => ROOT,
        (None, Job::Exec(_)) => &container.user,
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
        assert_eq!(program_of(&shell, container.clone()).argv, ["sh"], "no bash in that PATH");
        assert_eq!(program_of(&exec, container).argv, ["id"]);
    }
}
