//! `hearth exec`

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail};
use api::{GetMicrovmInput, Sensitive};
use clap::Args;
use serde::Serialize;
use tokio::{
    io::AsyncWriteExt,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
};
use wire::{
    TerminalSize,
    session::{Exit, Input, Output, WINDOW_BYTES},
};

use crate::{
    cli::Server,
    client::{Ear, Endpoint, Heard, Mouth, Session},
    output::one_line,
    terminal,
};

/// hearth's own path of an endpoint, see docs/guide/shell.md.
pub const PATH: &str = "/.hearth/exec";
/// Exit code when the time is over, as of timeout(1).
const TIMED_OUT: u8 = 124;

/// In the application's container, as the application's user. Exits as the program does: with its code, 128 + n after a
/// death by signal n, 124 when the time is over, 126 and 127 when it cannot be executed or is not there. INT, TERM, HUP and
/// QUIT go to the program; the second INT or TERM ends this command, and the program gets HUP. Needs a microVM that was run
/// with the connector SHELL_INGRESS or ALL_INGRESS.
#[derive(Debug, Args)]
pub struct Exec {
    #[command(flatten)]
    server: Server,
    /// Send standard input; without it the program has none
    #[arg(short, long)]
    interactive: bool,
    /// Give the program a terminal
    #[arg(short, long)]
    terminal: bool,
    /// End the program after so many seconds, by SIGTERM and 2 s later SIGKILL
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    timeout: Option<u32>,
    /// Run as: name, uid, name:group or uid:gid [default: the application's]
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
    /// Run in that directory [default: the image's WORKDIR]
    #[arg(long, short, value_name = "DIRECTORY")]
    workdir: Option<String>,
    /// Set a variable; may be repeated
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, Sensitive<String>)>,
    /// Id of the microVM, or its unique beginning
    microvm: String,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// The first message; the server's own words for it are in `ingress`.
#[derive(Debug, Serialize)]
struct Start<'a> {
    argv: &'a [String],
    env: BTreeMap<&'a str, &'a str>,
    user: Option<&'a str>,
    workdir: Option<&'a str>,
    terminal: Option<Size>,
    timeout_ms: u32,
}

#[derive(Debug, Serialize)]
struct Size {
    cols: u16,
    rows: u16,
}

impl Exec {
    /// Runs it.
    pub async fn run(self) -> Result<ExitCode> {
        let client = self.server.client().await?;
        let id = client.microvm(&self.microvm).await?;
        let microvm = client.call(&GetMicrovmInput { microvm_identifier: id }).await?;
        let endpoint = Endpoint::open_shell(&client, &microvm).await?;
        let mut session = Session::open(&endpoint, PATH).await?;
        session.send_text(serde_json::to_string(&self.start()).context("write the request")?).await?;
        let input = Stdin::new(self.interactive);
        let ended = {
            let _raw = if self.terminal && self.interactive { terminal::Raw::enter()? } else { None };
            let mut ends = Ends { out: Out::Shown(tokio::io::stdout()), err: Errors::Shown(tokio::io::stderr()) };
            let how = How { patient: true, sized: self.terminal };
            converse(&mut session, input, how, &mut ends).await?
        };
        let exit = match ended {
            Ended::Exited(exit) => exit,
            Ended::Interrupted(signal) => leave(signal),
        };
        if exit.timed_out {
            let limit = Duration::from_secs(self.timeout.unwrap_or_default().into());
            eprintln!("note: {id}: ended after {} s", limit.as_secs());
            return Ok(ExitCode::from(TIMED_OUT));
        }
        Ok(ExitCode::from(u8::try_from(exit.code & 0xff).unwrap_or(u8::MAX)))
    }

    fn start(&self) -> Start<'_> {
        let size = || terminal::size().unwrap_or_default();
        Start {
            argv: &self.command,
            env: self.env.iter().map(|(name, value)| (name.as_str(), value.expose().as_str())).collect(),
            user: self.user.as_deref(),
            workdir: self.workdir.as_deref(),
            terminal: self.terminal.then(size).map(|(cols, rows)| Size { cols, rows }),
            timeout_ms: self.timeout.unwrap_or_default() * 1000,
        }
    }
}

/// Standard input, on credit.
pub struct Stdin {
    pieces: Option<mpsc::Receiver<Vec<u8>>>,
    /// Its end is still to be told.
    open: bool,
}

impl Stdin {
    /// Ours, or none at all.
    pub fn new(ours: bool) -> Self {
        Stdin { pieces: ours.then(terminal::keystrokes), open: true }
    }

    /// What somebody else makes.
    pub fn of(pieces: mpsc::Receiver<Vec<u8>>) -> Self {
        Stdin { pieces: Some(pieces), open: true }
    }

    /// The next message for the program; never when there is none for want of credit, or after the end.
    async fn next(&mut self, credit: &watch::Sender<usize>) -> Vec<u8> {
        // What is read at a time must fit.
        let roomy = async { credit.subscribe().wait_for(|credit| *credit >= WINDOW_BYTES / 2).await.is_ok() };
        if !self.open || !roomy.await {
            return std::future::pending().await;
        }
        let piece = match &mut self.pieces {
            Some(pieces) => pieces.recv().await,
            None => None,
        };
        match piece {
            Some(piece) => {
                credit.send_modify(|credit| *credit -= piece.len());
                Input::Data(&piece).write()
            }
            None => {
                self.open = false;
                Input::End.write()
            }
        }
    }
}

/// INT and TERM: what people send to what shall end.
const ENDING: [i32; 2] = [SignalKind::interrupt().as_raw_value(), SignalKind::terminate().as_raw_value()];

/// The signals that go to the program.
struct Signals([(Signal, u8); 4]);

impl Signals {
    fn catch() -> Result<Self> {
        let catch = |kind: SignalKind| {
            let number = u8::try_from(kind.as_raw_value()).unwrap_or_default();
            Ok::<_, anyhow::Error>((signal(kind).context("catch signals")?, number))
        };
        Ok(Signals([
            catch(SignalKind::interrupt())?,
            catch(SignalKind::terminate())?,
            catch(SignalKind::hangup())?,
            catch(SignalKind::quit())?,
        ]))
    }

    async fn next(&mut self) -> u8 {
        let Signals([(one, a), (two, b), (three, c), (four, d)]) = self;
        tokio::select! {
            _ = one.recv() => *a,
            _ = two.recv() => *b,
            _ = three.recv() => *c,
            _ = four.recv() => *d,
        }
    }

    /// Sends them on, up to the one that is meant for us: the second INT or TERM, or if there is no patience any.
    async fn ours(&mut self, patient: bool, program: mpsc::UnboundedSender<u8>) -> u8 {
        let mut insisted = !patient;
        loop {
            let number = self.next().await;
            let insists = ENDING.contains(&i32::from(number));
            if !patient || (insists && insisted) {
                return number;
            }
            insisted |= insists;
            let _ = program.send(number); // who would send it on is gone, and all this soon
        }
    }
}

/// Where a program's output goes.
pub struct Ends {
    /// Its standard output.
    pub out: Out,
    /// Its standard error.
    pub err: Errors,
}

/// Where standard output goes.
pub enum Out {
    /// To ours.
    Shown(tokio::io::Stdout),
    /// To somebody in this process, piece by piece.
    Taken(mpsc::Sender<Vec<u8>>),
    /// Nowhere: none is expected.
    Dropped,
}

impl Out {
    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Out::Shown(out) => {
                out.write_all(bytes).await.context("write")?;
                out.flush().await.context("write")
            }
            Out::Taken(pieces) => {
                pieces.send(bytes.to_vec()).await.ok().context("nobody takes what the program says any more")
            }
            Out::Dropped => Ok(()),
        }
    }
}

/// Where standard error goes.
pub enum Errors {
    /// To ours.
    Shown(tokio::io::Stderr),
    /// Kept, the first [`MAX_KEPT_BYTES`] of it.
    Kept(Vec<u8>),
}

/// See [`Errors::Kept`].
const MAX_KEPT_BYTES: usize = 4096;

impl Errors {
    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Errors::Shown(err) => {
                err.write_all(bytes).await.context("write")?;
                err.flush().await.context("write")
            }
            Errors::Kept(kept) => {
                kept.extend_from_slice(&bytes[..bytes.len().min(MAX_KEPT_BYTES.saturating_sub(kept.len()))]);
                Ok(())
            }
        }
    }
}

/// How [`converse`] behaves.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// The first INT or TERM is the program's; else any signal is ours.
    pub patient: bool,
    /// The size of the terminal is told.
    pub sized: bool,
}

/// How [`converse`] ended.
pub enum Ended {
    /// The program did.
    Exited(Exit),
    /// We were told to, by that signal.
    Interrupted(u8),
}

/// Ends this process as a shell shows a death by that signal. Not by a return: a write that nobody takes would be waited for.
pub fn leave(signal: u8) -> ! {
    std::process::exit(128 + i32::from(signal))
}

/// Moves messages both ways until the program has ended, or a signal is meant for us. The two ways, and signals, wait for one
/// another nowhere.
pub async fn converse(session: &mut Session, input: Stdin, how: How, ends: &mut Ends) -> Result<Ended> {
    let mut signals = Signals::catch()?;
    let (mouth, ear) = session.split();
    let (to_program, of_program) = mpsc::unbounded_channel();
    let credit = watch::Sender::new(WINDOW_BYTES);
    tokio::select! {
        biased;
        signal = signals.ours(how.patient, to_program) => Ok(Ended::Interrupted(signal)),
        exit = hear(ear, ends, &credit) => exit.map(Ended::Exited),
        Err(error) = speak(mouth, input, of_program, how.sized, &credit) => Err(error),
    }
}

/// Brings what the program says where it belongs, until it has ended.
async fn hear(mut ear: Ear<'_>, ends: &mut Ends, credit: &watch::Sender<usize>) -> Result<Exit> {
    loop {
        match ear.hear().await? {
            Heard::Bytes(message) => match Output::read(&message).context("the server broke the protocol")? {
                Output::Stdout(bytes) => ends.out.write(bytes).await?,
                Output::Stderr(bytes) => ends.err.write(bytes).await?,
                Output::Taken(bytes) => {
                    credit.send_modify(|credit| *credit = WINDOW_BYTES.min(credit.saturating_add(bytes as usize)));
                }
                Output::Exited(exit) => return Ok(exit),
                Output::Failed(why) => bail!("{}", one_line(why)),
            },
            Heard::Text => bail!("the server broke the protocol"),
            Heard::Closed(reason) => bail!("the connection ended before the program did: {}", one_line(&reason)),
        }
    }
}

/// Sends signals, sizes and input; for ever.
async fn speak(
    mut mouth: Mouth<'_>,
    mut input: Stdin,
    mut signals: mpsc::UnboundedReceiver<u8>,
    sized: bool,
    credit: &watch::Sender<usize>,
) -> Result<()> {
    let mut resized = signal(SignalKind::window_change()).context("follow the terminal's size")?;
    loop {
        let message = tokio::select! {
            biased;
            Some(number) = signals.recv() => Input::Signal(number).write(),
            Some(()) = resized.recv(), if sized => match terminal::size() {
                Some((cols, rows)) => Input::Resize(TerminalSize { cols, rows }).write(),
                None => continue,
            },
            message = input.next(credit) => message,
        };
        mouth.send(message).await?;
    }
}

fn variable(text: &str) -> Result<(String, Sensitive<String>), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), Sensitive::new(value.to_owned()))),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn start(line: &[&str]) -> serde_json::Value {
        let Command::Exec(exec) = Cli::try_parse_from(line).unwrap().command else { panic!("{line:?}") };
        serde_json::to_value(exec.start()).unwrap()
    }

    #[test]
    fn the_first_message() {
        let plain = start(&["hearth", "exec", "m", "--", "ls", "-l", "--user"]);
        assert_eq!(plain["argv"], serde_json::json!(["ls", "-l", "--user"]));
        assert_eq!((&plain["terminal"], &plain["timeout_ms"]), (&serde_json::Value::Null, &0.into()));
        let all = start(&["hearth", "exec", "-u", "app", "-w", "/x", "-e", "A=b=c", "--timeout", "3", "m", "id", "-u"]);
        assert_eq!(all["argv"], serde_json::json!(["id", "-u"]));
        assert_eq!((&all["user"], &all["env"]["A"], &all["timeout_ms"]), (&"app".into(), &"b=c".into(), &3000.into()));
    }

    #[test]
    fn wrong_usage() {
        for line in [&["hearth", "exec", "m"][..], &["hearth", "exec", "-e", "=x", "m", "a"], &["hearth", "exec"]] {
            assert_eq!(Cli::try_parse_from(line).unwrap_err().exit_code(), 2, "{line:?}");
        }
    }

    #[tokio::test]
    async fn input_waits_for_credit_and_ends_once() {
        let (keys, pieces) = mpsc::channel(8);
        let mut input = Stdin { pieces: Some(pieces), open: true };
        let credit = watch::Sender::new(WINDOW_BYTES / 2);
        keys.send(vec![b'x'; 3]).await.unwrap();
        keys.send(vec![b'y'; 3]).await.unwrap();
        drop(keys);
        assert_eq!(input.next(&credit).await, Input::Data(b"xxx").write());
        assert!(futures::poll!(std::pin::pin!(input.next(&credit))).is_pending(), "no credit");
        credit.send_modify(|credit| *credit += 3);
        assert_eq!(input.next(&credit).await, Input::Data(b"yyy").write());
        credit.send_modify(|credit| *credit += 3);
        assert_eq!(input.next(&credit).await, Input::End.write());
        assert!(futures::poll!(std::pin::pin!(input.next(&credit))).is_pending(), "only once");
    }

    #[tokio::test]
    async fn the_second_signal_that_asks_for_an_end_is_ours() {
        let (int, term, hup) = (2, 15, 1);
        for (patient, sent, last, forwarded) in [
            (true, &[int, hup, hup, int][..], int, &[int, hup, hup][..]),
            (true, &[term, int], int, &[term]),
            (false, &[hup], hup, &[]),
        ] {
            let mut signals = Signals::catch().unwrap();
            let (to_program, mut of_program) = mpsc::unbounded_channel();
            let mut ours = std::pin::pin!(signals.ours(patient, to_program));
            for (at, &number) in sent.iter().enumerate() {
                assert!(futures::poll!(ours.as_mut()).is_pending(), "{sent:?}");
                rustix::process::kill_process(
                    rustix::process::getpid(),
                    rustix::process::Signal::from_named_raw(number).unwrap(),
                )
                .unwrap();
                if at + 1 < sent.len() {
                    let next = tokio::select! { _ = ours.as_mut() => panic!("too early: {sent:?}"), next = of_program.recv() => next };
                    assert_eq!(next.map(i32::from), Some(forwarded[at]));
                }
            }
            assert_eq!(i32::from(ours.await), last);
        }
    }
}
