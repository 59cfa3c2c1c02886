//! Running commands.

use std::{
    ffi::OsStr,
    io::{Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::sys;

/// Pause between two looks at a child: std can wait for ever or not at all.
const POLL: Duration = Duration::from_millis(5);

/// What a command said.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Its standard output, if it succeeded.
    pub fn success(self, what: &str) -> Result<String> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        let said = [self.stderr.trim(), self.stdout.trim()].into_iter().find(|text| !text.is_empty());
        bail!("{what} failed ({}): {}", self.status, said.unwrap_or("it said nothing"));
    }
}

/// The command as one could type it, for people.
pub fn shown(command: &Command) -> String {
    let word = |text: &OsStr| text.to_string_lossy().into_owned();
    let words = std::iter::once(word(command.get_program())).chain(command.get_args().map(word));
    words.collect::<Vec<_>>().join(" ")
}

/// Runs it with our own input and output, after showing it.
pub fn run(command: &mut Command) -> Result<()> {
    run_bounded(command, None)
}

/// The same, bounded.
pub fn run_within(command: &mut Command, limit: Duration) -> Result<()> {
    run_bounded(command, Some(limit))
}

fn run_bounded(command: &mut Command, limit: Option<Duration>) -> Result<()> {
    let line = shown(command);
    eprintln!("+ {line}");
    let mut child = command.spawn().with_context(|| format!("start {line}"))?;
    match (wait(&mut child, limit)?, limit) {
        (Some(status), _) if status.success() => Ok(()),
        (Some(status), _) => bail!("{line} failed ({status})"),
        (None, Some(limit)) if !sys::interrupted() => bail!("{line} took longer than {} s", limit.as_secs()),
        (None, _) => bail!("{line} was interrupted"),
    }
}

/// Runs it, bounded, with `input` as its standard input, and collects what it says.
pub fn capture(command: &mut Command, input: &[u8], limit: Duration) -> Result<Output> {
    let line = shown(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("start {line}"))?;
    let stdout = reader(child.stdout.take());
    let stderr = reader(child.stderr.take());
    if let Some(mut stdin) = child.stdin.take() {
        // A command that ends without reading is told by its exit code.
        let _ = stdin.write_all(input);
    }
    let ended = wait(&mut child, Some(limit))?;
    let collect = |reader: thread::JoinHandle<Vec<u8>>| {
        let bytes = reader.join().unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    match ended {
        Some(status) => Ok(Output { status, stdout: collect(stdout), stderr: collect(stderr) }),
        None if sys::interrupted() => bail!("{line} was interrupted"),
        None => bail!("{line} took longer than {} s", limit.as_secs()),
    }
}

fn reader(source: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut source) = source {
            // What was read before an error is what there is.
            let _ = source.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// How it ended; `None` when it was killed because the limit was reached or we were interrupted.
fn wait(child: &mut Child, limit: Option<Duration>) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().context("wait for a child")? {
            return Ok(Some(status));
        }
        if sys::interrupted() || limit.is_some_and(|limit| start.elapsed() >= limit) {
            stop(child, Duration::from_secs(5));
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

/// SIGTERM, and SIGKILL when that has not ended it after `patience`. Returns how it ended.
pub fn stop(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let _ = sys::kill(child.id(), sys::SIGTERM);
    let start = Instant::now();
    while start.elapsed() < patience {
        match child.try_wait() {
            Ok(None) => thread::sleep(POLL),
            Ok(Some(status)) => return Some(status),
            Err(_) => break,
        }
    }
    let _ = child.kill();
    child.wait().ok()
}

/// Looks every `pause` until there is something, at most `limit`.
pub fn until<T>(
    what: &str,
    pause: Duration,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if sys::interrupted() {
            bail!("interrupted while waiting for {what}");
        }
        if start.elapsed() >= limit {
            bail!("{what}: not within {} s", limit.as_secs());
        }
        thread::sleep(pause);
    }
}
