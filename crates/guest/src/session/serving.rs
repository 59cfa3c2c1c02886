//! A program's input, output, signals and end, over the host's stream.

use std::{
    io,
    os::fd::AsFd,
    pin::pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process_group},
    termios::{Winsize, tcsetwinsize},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadHalf, WriteHalf},
    sync::{Notify, OwnedSemaphorePermit, oneshot, watch},
    time::timeout,
};
use wire::{
    TerminalSize,
    session::{Deframer, Exit, Input, MAX_DATA_BYTES, Output, SessionError, WINDOW_BYTES, frame},
};

use super::{End, Ends};

/// Between SIGTERM and SIGKILL of a program whose time is over.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// How long output may come after the program ended: what it left running may hold the pipes for ever.
const OUTPUT_GRACE: Duration = Duration::from_millis(100);
/// How long the host may take to take the reason of a failure.
const FAREWELL_BOUND: Duration = Duration::from_secs(1);
/// End of input, as a terminal's user types it.
const END_OF_INPUT: u8 = 4;
/// Bytes read from the host at a time.
const READ_BYTES: usize = 32 * 1024;
/// More than a terminal holds of what was written to it, and the size of a pipe that nobody has resized.
const HELD_BYTES: usize = 64 * 1024;

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

/// Why a session ends before its program does.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    /// The host said what it may not.
    #[error("the client broke the protocol: {0}")]
    Protocol(#[from] SessionError),
    #[error("more input than the {WINDOW_BYTES} bytes that may be on their way")]
    Credit,
    #[error("{step}: {source}")]
    Io { step: &'static str, source: io::Error },
    /// There is nobody to tell.
    #[error("the host has left: {0}")]
    Gone(io::Error),
}

impl Running {
    /// A program that leads the process group `group`. `exit` gets its exit code; it is ended after `timeout_ms`, if not 0.
    pub(super) fn new(
        group: Pid,
        exit: oneshot::Receiver<i32>,
        ends: Ends,
        timeout_ms: u32,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let process = Process { group, over: AtomicBool::new(false) };
        Self { process, exit, ends, timeout_ms, _place: place }
    }

    /// Serves the host's stream until the program, or the stream, is over. A host that is still there hears why, if it is
    /// neither.
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S) -> io::Result<()> {
        let Running { process, exit, ends, timeout_ms, _place } = self;
        let Ends { input, output, error } = ends;
        let terminal = error.is_none().then(|| output.clone());
        let (reader, writer) = tokio::io::split(stream);
        let host = Host::new(writer);
        let inbox = Inbox::default();
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
            let ((), exit) = tokio::try_join!(pumps.map(|done| done.map(drop)), program.map(Ok))?;
            host.say(Output::Exited(exit)).await
        };
        let served = tokio::select! {
            worked = work => worked.map(|()| true),
            end = listen(reader, &inbox, terminal.as_ref(), &process) => end.map(|()| false),
            end = feed(input, &inbox, terminal.is_some(), &host) => end.map(|()| false),
        };
        match served {
            Ok(true) => host.leave().await,
            Ok(false) => Ok(()),
            Err(ServeError::Gone(error)) => Err(error),
            Err(error) => {
                drop(process); // first of all: the host may not listen
                timeout(FAREWELL_BOUND, host.fail(&error.to_string())).await.unwrap_or(Ok(()))
            }
        }
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
    way: tokio::sync::Mutex<Way<S>>,
}

struct Way<S> {
    writer: WriteHalf<S>,
    /// What was said last was said to its end.
    whole: bool,
}

impl<S: AsyncWrite + Unpin> Host<S> {
    fn new(writer: WriteHalf<S>) -> Self {
        Host { way: tokio::sync::Mutex::new(Way { writer, whole: true }) }
    }

    async fn say(&self, output: Output<'_>) -> Result<(), ServeError> {
        self.way.lock().await.say(output).await.map_err(ServeError::Gone)
    }

    /// That was the last word.
    async fn leave(self) -> io::Result<()> {
        self.way.into_inner().writer.shutdown().await
    }

    /// Says why this is the end; nothing, if somebody was stopped in the middle of a message.
    async fn fail(self, why: &str) -> io::Result<()> {
        let mut way = self.way.into_inner();
        if way.whole {
            way.say(Output::Failed(why)).await?;
        }
        way.writer.shutdown().await
    }
}

impl<S: AsyncWrite + Unpin> Way<S> {
    async fn say(&mut self, output: Output<'_>) -> io::Result<()> {
        self.whole = false;
        self.writer.write_all(&frame(&output.write())).await?;
        self.writer.flush().await?;
        self.whole = true;
        Ok(())
    }
}

/// What waits for the program to take it: at most [`WINDOW_BYTES`], with the piece that is being taken.
#[derive(Default)]
struct Inbox {
    held: Mutex<Held>,
    changed: Notify,
}

#[derive(Default)]
struct Held {
    data: Vec<u8>,
    /// Of `data`, and of what was handed out of it and is not taken yet.
    bytes: usize,
    end: bool,
}

impl Inbox {
    /// False: that is more than may wait.
    fn put(&self, data: &[u8]) -> bool {
        let mut held = self.held();
        if held.bytes + data.len() > WINDOW_BYTES {
            return false;
        }
        held.bytes += data.len();
        held.data.extend_from_slice(data);
        self.changed.notify_one();
        true
    }

    fn end(&self) {
        self.held().end = true;
        self.changed.notify_one();
    }

    /// All that is there, and whether it is the last of it. Waits while there is neither.
    async fn get(&self) -> (Vec<u8>, bool) {
        loop {
            {
                let mut held = self.held();
                if held.end || !held.data.is_empty() {
                    return (std::mem::take(&mut held.data), std::mem::take(&mut held.end));
                }
            }
            self.changed.notified().await;
        }
    }

    /// So many bytes wait no more.
    fn taken(&self, bytes: usize) {
        self.held().bytes -= bytes;
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads what the host says until it has left.
async fn listen<S: AsyncRead>(
    mut reader: ReadHalf<S>,
    inbox: &Inbox,
    terminal: Option<&End>,
    process: &Process,
) -> Result<(), ServeError> {
    let (mut deframer, mut bytes) = (Deframer::default(), vec![0; READ_BYTES]);
    loop {
        let count = reader.read(&mut bytes).await.map_err(ServeError::Gone)?;
        if count == 0 {
            return Ok(());
        }
        deframer.push(&bytes[..count]);
        while let Some(message) = deframer.take()? {
            match Input::read(message)? {
                Input::Data(data) => {
                    if !inbox.put(data) {
                        return Err(ServeError::Credit);
                    }
                }
                Input::End => inbox.end(),
                Input::Resize(TerminalSize { cols, rows }) => {
                    if let Some(terminal) = terminal {
                        // A terminal whose program is gone has no size, which is no reason to end.
                        let _ =
                            tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 });
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
    input: End,
    inbox: &Inbox,
    terminal: bool,
    host: &Host<S>,
) -> Result<(), ServeError> {
    let (mut input, mut line_open) = (Some(input), false);
    loop {
        let (data, end) = inbox.get().await;
        for piece in data.chunks(MAX_DATA_BYTES) {
            if let Some(end) = &input
                && write_all(end, piece).await.is_err()
            {
                input = None;
            }
            inbox.taken(piece.len());
            host.say(Output::Taken(piece.len() as u32)).await?;
        }
        if let Some(&last) = data.last() {
            line_open = !matches!(last, b'\n' | b'\r' | END_OF_INPUT);
        }
        if end && terminal {
            // The first one only ends a line that has begun.
            let ends = [END_OF_INPUT; 2];
            if let Some(input) = &input {
                let _ = write_all(input, &ends[usize::from(!line_open)..]).await; // one that is gone needs no end
            }
            line_open = false;
        } else if end {
            input = None;
        }
    }
}

async fn write_all(end: &End, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        let written = end.async_io(Interest::WRITABLE, |end| Ok(rustix::io::write(end, data)?)).await?;
        data = &data[written..];
    }
    Ok(())
}

/// Sends output until nobody can write any more of it, or the program has ended and all that it wrote is sent. What it left
/// running may go on writing; nobody hears that.
async fn pump<S: AsyncWrite + Unpin>(
    end: &End,
    say: fn(&[u8]) -> Output<'_>,
    host: &Host<S>,
    mut ended: watch::Receiver<bool>,
) -> Result<(), ServeError> {
    let mut bytes = vec![0; MAX_DATA_BYTES];
    let mut over = pin!(async {
        let _ = ended.wait_for(|ended| *ended).await; // the sender outlives the pumps
        tokio::time::sleep(OUTPUT_GRACE).await;
    });
    loop {
        let read = tokio::select! {
            biased;
            () = &mut over => break,
            read = end.async_io(Interest::READABLE, |end| Ok(rustix::io::read(end.as_fd(), &mut bytes[..])?)) => read,
        };
        match output(read)? {
            0 => return Ok(()),
            count => host.say(say(&bytes[..count])).await?,
        }
    }
    // The program's own last words are among what is held now.
    let mut left = rustix::pipe::fcntl_getpipe_size(end.as_fd()).unwrap_or(HELD_BYTES);
    while left > 0 {
        let most = left.min(bytes.len());
        let read = rustix::io::read(end.as_fd(), &mut bytes[..most]).map_err(io::Error::from);
        if matches!(&read, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            break;
        }
        match output(read)? {
            0 => break,
            count => {
                left -= count;
                host.say(say(&bytes[..count])).await?;
            }
        }
    }
    Ok(())
}

/// How many bytes were read; 0: there will be no more.
fn output(read: io::Result<usize>) -> Result<usize, ServeError> {
    match read {
        // So says a terminal that nobody has open any more.
        Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Ok(0),
        read => read.map_err(|source| ServeError::Io { step: "read the program's output", source }),
    }
}

#[cfg(test)]
mod tests;
