//! Programs beside the application, for somebody outside: the agent's side of them. What they are inside the container is
//! [`crate::container::session`].
//!
//! ```text
//! host's stream ──▶ listen ──credit──▶ feed ──▶ standard input, or the terminal
//!               ◀── pump ◀── standard output     ◀── pump ◀── standard error
//! ```
//!
//! A session ends with its program, or with the host's stream; then the program gets SIGHUP.

mod serving;

use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixStream as StdUnixStream},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use rustix::{
    io::ioctl_fionbio,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::{
    io::{AsyncWriteExt, Interest, unix::AsyncFd},
    net::UnixStream,
    sync::{Semaphore, oneshot},
    time::timeout,
};
use wire::{Fault, Session};

pub use self::serving::Running;
use crate::{
    application::{Application, KILL_BOUND, MAX_REPORT_BYTES, Report, own_command},
    container::session::{Plan, VERB},
    reaper::Reaper,
    sys,
};

/// Sessions at a time: more than the host lets in, so that one of which it has just heard the end does not count here.
const MAX_SESSIONS: usize = 128;
/// How long entering the container may take: well below what the host waits for an answer, so that it hears the reason.
const SETUP_BOUND: Duration = Duration::from_secs(20);

type End = Arc<AsyncFd<OwnedFd>>;

/// Starts sessions.
pub struct Sessions {
    application: Arc<Application>,
    reaper: Arc<Reaper>,
    places: Arc<Semaphore>,
}

impl Sessions {
    /// In the container of that application.
    pub fn new(application: Arc<Application>, reaper: Arc<Reaper>) -> Self {
        Self { application, reaper, places: Arc::new(Semaphore::new(MAX_SESSIONS)) }
    }

    /// Starts the program; returns when it executes. What it lacks to do so it says itself, on its standard error. Nothing of
    /// it is left when this fails or is dropped.
    pub async fn begin(&self, session: &Session) -> Result<Running, Fault> {
        let fault = |text: &str| Err(Fault::Failed(text.to_owned()));
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return fault("too many sessions; end one");
        };
        let Some((container, main)) = self.application.running() else {
            return fault("the application does not run, and without it there is no container");
        };
        let plan: Plan = (container, session.clone());
        let plan = wire::encode(&plan).map_err(|error| Fault::Failed(error.to_string()))?;
        let (attendant, exit, control) =
            self.attend(main).map_err(|error| Fault::Failed(format!("start a session: {error}")))?;
        let failure = match timeout(SETUP_BOUND, exchange(control, &plan)).await {
            Ok(Ok((Report { pid: Some(pid), failure: None }, ends))) => match Ends::of(ends) {
                Ok(ends) => {
                    attendant.release();
                    return Ok(Running::new(pid, exit, ends, session.timeout_ms, place));
                }
                Err(error) => format!("start a session: {error}"),
            },
            Ok(Ok((report, _))) => report.failure.unwrap_or_else(|| "the session ended without a word".to_owned()),
            Ok(Err(error)) => format!("talk to the session: {error}"),
            Err(_) => format!("no session within {} s", SETUP_BOUND.as_secs()),
        };
        drop(attendant);
        let _ = timeout(KILL_BOUND, exit).await;
        Err(Fault::Failed(failure))
    }

    /// Starts the attendant for the container of that main process; the receiver gets its exit code, which is the program's.
    fn attend(&self, main: OwnedFd) -> io::Result<(Attendant, oneshot::Receiver<i32>, UnixStream)> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let ours = UnixStream::from_std(ours)?;
        let mut command = own_command(VERB);
        command.stdin(OwnedFd::from(theirs)).stdout(main).stderr(Stdio::null());
        let (child, exit) = self.reaper.spawn(&mut command)?;
        // The reaper runs on this thread: the pid is still the child's.
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
        Ok((Attendant::of(pid)?, exit, ours))
    }
}

/// An attendant that the agent has not seen through yet: killed when this is dropped, and its child with it.
struct Attendant(Option<OwnedFd>);

impl Attendant {
    fn of(pid: Pid) -> io::Result<Self> {
        Ok(Attendant(Some(pidfd_open(pid, PidfdFlags::empty())?)))
    }

    /// From here on somebody else cares for what it started.
    fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for Attendant {
    fn drop(&mut self) {
        if let Some(process) = &self.0 {
            let _ = pidfd_send_signal(process, Signal::KILL); // it may be gone by itself
        }
    }
}

/// Sends the plan; what the session said until it executed, and what it sent.
async fn exchange(mut control: UnixStream, plan: &[u8]) -> io::Result<(Report, Vec<OwnedFd>)> {
    control.write_all(plan).await?;
    let (mut text, mut ends) = (Vec::new(), Vec::new());
    let mut bytes = [0; 1024];
    loop {
        let count = control
            .async_io(Interest::READABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
                let mut rights = RecvAncillaryBuffer::new(&mut space);
                let mut into = [IoSliceMut::new(&mut bytes)];
                let received = recvmsg(&control, &mut into, &mut rights, RecvFlags::CMSG_CLOEXEC)?;
                for message in rights.drain() {
                    if let RecvAncillaryMessage::ScmRights(found) = message {
                        ends.extend(found);
                    }
                }
                Ok(received.bytes)
            })
            .await?;
        text.extend_from_slice(&bytes[..count]);
        if count == 0 || text.len() as u64 > MAX_REPORT_BYTES {
            return Ok((Report::parse(&String::from_utf8_lossy(&text)), ends));
        }
    }
}

/// The agent's ends of what a program reads and writes.
struct Ends {
    input: End,
    output: End,
    /// `None`: it is a terminal, one for all.
    error: Option<End>,
}

impl Ends {
    /// Those of a terminal, or of three pipes.
    fn of(ends: Vec<OwnedFd>) -> io::Result<Self> {
        let watch = |end: OwnedFd, interest| {
            ioctl_fionbio(&end, true)?;
            sys::watch(end, interest).map(Arc::new)
        };
        let mut ends = ends.into_iter();
        match (ends.next(), ends.next(), ends.next()) {
            (Some(terminal), None, None) => {
                let terminal = watch(terminal, Interest::READABLE | Interest::WRITABLE)?;
                Ok(Ends { input: terminal.clone(), output: terminal, error: None })
            }
            (Some(input), Some(output), Some(error)) => Ok(Ends {
                input: watch(input, Interest::WRITABLE)?,
                output: watch(output, Interest::READABLE)?,
                error: Some(watch(error, Interest::READABLE)?),
            }),
            _ => Err(io::Error::other("the session sent neither a terminal nor pipes")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_attendant_that_nobody_saw_through_is_killed() {
        let reaper = Reaper::default();
        let children = crate::reaper::listen().expect("signal");
        let start = || {
            let mut command = std::process::Command::new("sleep");
            let (child, exit) = reaper.spawn(command.arg("1000")).expect("spawn");
            let pid = Pid::from_raw(child.id().cast_signed()).expect("pid");
            (pid, Attendant::of(pid).expect("pidfd"), exit)
        };
        let (dropped, released) = (start(), start());
        drop(dropped.1);
        released.1.release();
        tokio::select! {
            () = reaper.run(children) => unreachable!("runs for ever"),
            code = dropped.2 => assert_eq!(code, Ok(128 + 9)),
        }
        rustix::process::test_kill_process(released.0).expect("it lives");
        rustix::process::kill_process(released.0, Signal::KILL).expect("kill");
    }
}
