//! Programs beside the application, for somebody outside: the agent's side of them. What they are inside the container is
//! [`crate::container::session`].
//!
//! ```text
//! host's stream ──▶ listen ──credit──▶ feed ──▶ standard input, or the terminal
//!               ◀── pump ◀── standard output     ◀── pump ◀── standard error
//! ```
//!
//! A session ends with its program, or with the host's stream; then the program gets SIGHUP.

use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream as StdUnixStream,
    },
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use rustix::{
    io::{Errno, ioctl_fionbio},
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
    process::{Pid, Signal, kill_process, kill_process_group},
    termios::{Winsize, tcsetwinsize},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadHalf, WriteHalf, unix::AsyncFd},
    net::UnixStream,
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    time::timeout,
};
use wire::{
    Fault, Session, TerminalSize,
    session::{Deframer, Exit, Input, MAX_DATA_BYTES, Output, WINDOW_BYTES, frame},
};

use crate::{
    application::{Application, KILL_BOUND, MAX_REPORT_BYTES, Report, own_command},
    container::session::{Plan, VERB},
    reaper::Reaper,
    sys,
};

/// Sessions at a time: more than the host lets in, so that one of which it has just heard the end does not count here.
const MAX_SESSIONS: usize = 128;
/// How long entering the container may take.
const SETUP_BOUND: Duration = Duration::from_secs(30);
/// Between SIGTERM and SIGKILL of a program whose time is over.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// How long output may come after the program ended: what it left running may hold the pipes for ever.
const OUTPUT_GRACE: Duration = Duration::from_millis(100);
/// End of input, as a terminal's user types it.
const END_OF_INPUT: &[u8] = b"\x04";
/// Bytes read from the host at a time.
const READ_BYTES: usize = 32 * 1024;

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

    /// Starts the program; returns when it executes. What it lacks to do so it says itself, on its standard error.
    pub async fn begin(&self, session: &Session) -> Result<Running, Fault> {
        let fault = |text: &str| Err(Fault::Failed(text.to_owned()));
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return fault("too many sessions; end one");
        };
        let Some((container, main)) = self.application.running() else {
            return fault("the application does not run, and without it there is no container");
        };
        let plan: Plan = (main.as_raw_nonzero().get(), container, session.clone());
        let plan = wire::encode(&plan).map_err(|error| Fault::Failed(error.to_string()))?;
        let failed = |error: io::Error| Fault::Failed(format!("start a session: {error}"));
        let (ours, theirs) = StdUnixStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        let ours = UnixStream::from_std(ours).map_err(failed)?;
        let mut command = own_command(VERB);
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        let (child, exit) = self.reaper.spawn(&mut command).map_err(failed)?;
        drop(command); // it holds their end of the socket
        let attendant = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let (report, ends) = match timeout(SETUP_BOUND, exchange(ours, &plan)).await {
            Ok(Ok(said)) => said,
            Ok(Err(error)) => (Report { pid: None, failure: Some(format!("talk to the session: {error}")) }, vec![]),
            Err(_) => {
                let failure = format!("no session within {} s", SETUP_BOUND.as_secs());
                (Report { pid: None, failure: Some(failure) }, vec![])
            }
        };
        match (report, Ends::of(ends)) {
            (Report { pid: Some(pid), failure: None }, Some(Ok(ends))) => {
                let process = Process { group: pid, over: AtomicBool::new(false) };
                Ok(Running { process, exit, ends, timeout_ms: session.timeout_ms, _place: place })
            }
            (report, ends) => {
                for pid in [report.pid, attendant].into_iter().flatten() {
                    let _ = kill_process(pid, Signal::KILL); // it may be gone by itself
                }
                let _ = timeout(KILL_BOUND, exit).await;
                let failure = report.failure.or_else(|| Some(ends?.err()?.to_string()));
                Err(Fault::Failed(failure.unwrap_or_else(|| "the session ended without a word".to_owned())))
            }
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
    /// `None` when they are neither those of a terminal nor of pipes.
    fn of(ends: Vec<OwnedFd>) -> Option<io::Result<Self>> {
        let watch = |end: OwnedFd, interest| {
            ioctl_fionbio(&end, true)?;
            sys::watch(end, interest).map(Arc::new)
        };
        let mut ends = ends.into_iter();
        let made = match (ends.next(), ends.next(), ends.next()) {
            (Some(terminal), None, None) => watch(terminal, Interest::READABLE | Interest::WRITABLE)
                .map(|terminal| Ends { input: terminal.clone(), output: terminal, error: None }),
            (Some(input), Some(output), Some(error)) => (|| {
                let (input, output) = (watch(input, Interest::WRITABLE)?, watch(output, Interest::READABLE)?);
                Ok(Ends { input, output, error: Some(watch(error, Interest::READABLE)?) })
            })(),
            _ => return None,
        };
        Some(made)
    }
}

/// The program's process group. SIGHUP when it is dropped before the program is over.
struct Process {
    group: Pid,
    over: AtomicBool,
}

impl Process {
    fn signal(&self, signal: Signal) {
        if !self.over.load(Ordering::Relaxed) {
            let _ = kill_process_group(self.group, signal); // it may be gone by itself
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::HUP);
        self.signal(Signal::CONT); // a stopped one hears it too
    }
}

/// A program that executes.
pub struct Running {
    process: Process,
    exit: oneshot::Receiver<i32>,
    ends: Ends,
    timeout_ms: u32,
    _place: OwnedSemaphorePermit,
}

impl Running {
    /// Serves the host's stream until the program, or the stream, is over.
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S) -> io::Result<()> {
        let Running { process, exit, ends, timeout_ms, _place } = self;
        let Ends { input, output, error } = ends;
        let terminal = error.is_none().then(|| output.clone());
        let (reader, writer) = tokio::io::split(stream);
        let host = Host { writer: Mutex::new(writer) };
        let (queue, queued) = mpsc::unbounded_channel();
        let credit = watch::Sender::new(WINDOW_BYTES);
        let (over, ended) = watch::channel(false);

        let program = async {
            let outcome = in_time(exit, timeout_ms, &process).await;
            over.send_replace(true);
            outcome
        };
        let pumps = async {
            let errors = async {
                match error {
                    Some(error) => pump(&error, |data| Output::Stderr(data), &host, ended.clone()).await,
                    None => Ok(()),
                }
            };
            tokio::try_join!(pump(&output, |data| Output::Stdout(data), &host, ended.clone()), errors)
        };
        let work = async {
            let (exit, pumped) = tokio::join!(program, pumps);
            pumped?;
            host.say(Output::Exited(exit)).await
        };
        let heard = tokio::select! {
            worked = work => worked.map(|()| true),
            end = listen(reader, &queue, &credit, terminal.as_ref(), &process) => end.map(|()| false),
            end = feed(queued, input, &credit, terminal.is_some(), &host) => end.map(|()| false),
        };
        if heard? {
            host.writer.into_inner().shutdown().await?;
        }
        Ok(())
    }
}

/// Waits for the end, and brings it about when the time is over.
async fn in_time(exit: oneshot::Receiver<i32>, timeout_ms: u32, process: &Process) -> Exit {
    let mut exit = exit.map(|code| {
        process.over.store(true, Ordering::Relaxed);
        code.unwrap_or(-1)
    });
    if timeout_ms == 0 {
        return Exit { code: exit.await, timed_out: false };
    }
    if let Ok(code) = timeout(Duration::from_millis(timeout_ms.into()), &mut exit).await {
        return Exit { code, timed_out: false };
    }
    process.signal(Signal::TERM);
    process.signal(Signal::CONT);
    let code = match timeout(TERM_GRACE, &mut exit).await {
        Ok(code) => code,
        Err(_) => {
            process.signal(Signal::KILL);
            exit.await
        }
    };
    Exit { code, timed_out: true }
}

/// The way to the host: one message at a time.
struct Host<S> {
    writer: Mutex<WriteHalf<S>>,
}

impl<S: AsyncWrite + Unpin> Host<S> {
    async fn say(&self, output: Output<'_>) -> io::Result<()> {
        let mut writer = self.writer.lock().await;
        writer.write_all(&frame(&output.write())).await?;
        writer.flush().await
    }
}

/// What waits for the program to take it.
enum Fed {
    Data(Vec<u8>),
    End,
}

/// Reads what the host says until it has left, or breaks the protocol.
async fn listen<S: AsyncRead>(
    mut reader: ReadHalf<S>,
    queue: &mpsc::UnboundedSender<Fed>,
    credit: &watch::Sender<usize>,
    terminal: Option<&End>,
    process: &Process,
) -> io::Result<()> {
    let (mut deframer, mut bytes) = (Deframer::default(), vec![0; READ_BYTES]);
    loop {
        let count = reader.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        deframer.push(&bytes[..count]);
        while let Some(message) = deframer.take().map_err(io::Error::other)? {
            match Input::read(message).map_err(io::Error::other)? {
                Input::Data(data) => {
                    let left = credit.borrow().checked_sub(data.len());
                    let left = left.ok_or_else(|| io::Error::other("input beyond its credit"))?;
                    credit.send_replace(left);
                    let _ = queue.send(Fed::Data(data.to_vec())); // the feeder lives as long as this
                }
                Input::End => drop(queue.send(Fed::End)),
                Input::Resize(TerminalSize { cols, rows }) => {
                    if let Some(terminal) = terminal {
                        tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 })?;
                    }
                }
                Input::Signal(number) => {
                    if let Some(signal) = Signal::from_named_raw(i32::from(number)) {
                        process.signal(signal);
                    }
                }
            }
        }
    }
}

/// Brings input to the program as it takes it, and tells the host; for ever. What nobody will read any more counts as taken.
async fn feed<S: AsyncWrite + Unpin>(
    mut queued: mpsc::UnboundedReceiver<Fed>,
    input: End,
    credit: &watch::Sender<usize>,
    terminal: bool,
    host: &Host<S>,
) -> io::Result<()> {
    let mut input = Some(input);
    while let Some(fed) = queued.recv().await {
        match fed {
            Fed::Data(data) => {
                if let Some(end) = &input
                    && write_all(end, &data).await.is_err()
                {
                    input = None;
                }
                credit.send_modify(|credit| *credit += data.len());
                host.say(Output::Taken(data.len() as u32)).await?;
            }
            Fed::End => {
                if let Some(end) = input.take().filter(|_| terminal) {
                    let _ = write_all(&end, END_OF_INPUT).await; // a terminal that is gone needs no end
                    input = Some(end);
                }
            }
        }
    }
    std::future::pending().await
}

async fn write_all(end: &End, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        let written = end.async_io(Interest::WRITABLE, |end| Ok(rustix::io::write(end, data)?)).await?;
        data = &data[written..];
    }
    Ok(())
}

/// Sends output until nobody can write any more of it, or the program has ended and no more comes.
async fn pump<S: AsyncWrite + Unpin>(
    end: &End,
    say: fn(&[u8]) -> Output<'_>,
    host: &Host<S>,
    mut ended: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut bytes = vec![0; MAX_DATA_BYTES];
    loop {
        let after = async {
            let _ = ended.wait_for(|ended| *ended).await; // the sender outlives the pumps
            tokio::time::sleep(OUTPUT_GRACE).await;
        };
        let read = tokio::select! {
            biased;
            read = end.async_io(Interest::READABLE, |end| Ok(rustix::io::read(end.as_fd(), &mut bytes[..])?)) => read,
            () = after => return Ok(()),
        };
        match read {
            Ok(0) => return Ok(()),
            Ok(count) => host.say(say(&bytes[..count])).await?,
            // So says a terminal that nobody has open any more.
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
