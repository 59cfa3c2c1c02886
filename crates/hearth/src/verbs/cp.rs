//! `hearth cp`

use std::{
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use api::GetMicrovmInput;
use clap::Args;
use files::FilesError;
use serde::Serialize;
use tokio::sync::mpsc;
use wire::session::MAX_DATA_BYTES;

use super::exec::{Ended, Ends, Errors, How, Out, PATH, Stdin, converse, leave};
use crate::{
    cli::Server,
    client::{Endpoint, Session},
    output::{one_line, printable},
};

/// As `cp -r`: into a directory that is there, or under the new name. Modes and times are kept, owners are not: in a microVM
/// everything becomes root's. Needs a microVM that was run with the connector SHELL_INGRESS or ALL_INGRESS.
#[derive(Debug, Args)]
pub struct Cp {
    #[command(flatten)]
    server: Server,
    /// A file or directory here, or MICROVM:/PATH
    #[arg(value_name = "FROM")]
    from: Side,
    /// Where to, here or MICROVM:/PATH; one of the two is in a microVM
    #[arg(value_name = "TO")]
    to: Side,
}

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Side {
    Here(PathBuf),
    There { microvm: String, path: String },
}

impl std::str::FromStr for Side {
    type Err = std::convert::Infallible;

    /// A microVM is what stands before the first `:/`, if an id can look so; any other text is a path here.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let there = text.split_once(":/").filter(|(microvm, _)| {
            !microvm.is_empty() && microvm.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        });
        Ok(match there {
            Some((microvm, path)) => Side::There { microvm: microvm.to_owned(), path: format!("/{path}") },
            None => Side::Here(text.into()),
        })
    }
}

/// The first message; the server's own words for it are in `ingress`.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Start<'a> {
    Get { path: &'a str },
    Put { path: &'a str, name: Option<&'a str> },
}

impl Cp {
    /// Copies.
    pub async fn run(self) -> Result<ExitCode> {
        match (&self.from, &self.to) {
            (Side::Here(from), Side::There { microvm, path }) => self.put(from, microvm, path).await?,
            (Side::There { microvm, path }, Side::Here(to)) => self.get(microvm, path, to).await?,
            _ => bail!("one side must be in a microVM, as MICROVM:/PATH, and the other here"),
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn open(&self, microvm: &str, start: &Start<'_>) -> Result<Session> {
        let client = self.server.client().await?;
        let id = client.microvm(microvm).await?;
        let microvm = client.call(&GetMicrovmInput { microvm_identifier: id }).await?;
        let mut session = Session::open(&Endpoint::open_shell(&client, &microvm).await?, PATH).await?;
        session.send_text(serde_json::to_string(start).context("write the request")?).await?;
        Ok(session)
    }

    async fn put(&self, from: &Path, microvm: &str, path: &str) -> Result<()> {
        // Before anything is asked of the server.
        let whole = from.canonicalize().with_context(|| format!("read {}", from.display()))?;
        let name = from.file_name().or(whole.file_name()).and_then(|name| name.to_str());
        let mut session = self.open(microvm, &Start::Put { path, name }).await?;
        let (pieces, packed) = mpsc::channel(1);
        let packing = tokio::task::spawn_blocking(move || {
            files::pack(&whole, &mut BufWriter::with_capacity(MAX_DATA_BYTES, Pieces(pieces)))
        });
        let mut ends = Ends { out: Out::Dropped, err: Errors::Kept(Vec::new()) };
        let code = code(converse(&mut session, Stdin::of(packed), HOW, &mut ends).await);
        match packing.await.context("pack")? {
            // That the other side takes no more is its affair to explain.
            Ok(()) | Err(FilesError::Stream(_)) => told(microvm, code, &ends),
            Err(error) => bail!("{error}"), // it names its source itself
        }
    }

    async fn get(&self, microvm: &str, path: &str, to: &Path) -> Result<()> {
        let target = files::place(to, Path::new(path).file_name().and_then(|name| name.to_str()))?;
        let mut session = self.open(microvm, &Start::Get { path }).await?;
        let (out, pieces) = mpsc::channel(1);
        let unpacking = tokio::task::spawn_blocking(move || {
            let pieces = Arrived { pieces, piece: Vec::new(), read: 0 };
            files::unpack(&target, &mut BufReader::new(pieces))
        });
        let mut ends = Ends { out: Out::Taken(out), err: Errors::Kept(Vec::new()) };
        let code = code(converse(&mut session, Stdin::new(false), HOW, &mut ends).await);
        ends.out = Out::Dropped;
        let unpacked = unpacking.await.context("unpack")?;
        // Where the guest had no cause to complain, what went wrong went wrong here.
        match (&unpacked, code) {
            (Err(FilesError::Stream(_)), Err(error)) => return Err(error),
            (Err(error), Ok(0) | Err(_)) => bail!("{error}"),
            (_, code) => told(microvm, code, &ends)?,
        }
        for name in unpacked? {
            eprintln!("note: left out {}, which is neither file, directory nor link", printable(&name));
        }
        Ok(())
    }
}

/// Any signal ends a copy.
const HOW: How = How { patient: false, sized: false };

/// The exit code of the guest's side.
fn code(ended: Result<Ended>) -> Result<i32> {
    match ended? {
        Ended::Exited(exit) => Ok(exit.code),
        Ended::Interrupted(signal) => leave(signal),
    }
}

/// What the guest said, as an error if it was one.
fn told(microvm: &str, code: Result<i32>, ends: &Ends) -> Result<()> {
    let said = match &ends.err {
        Errors::Kept(said) => one_line(&String::from_utf8_lossy(said)),
        Errors::Shown(_) => String::new(),
    };
    match code? {
        0 if said.is_empty() => Ok(()),
        0 => {
            eprintln!("note: {microvm}: {said}");
            Ok(())
        }
        code if said.is_empty() => bail!("{microvm}: the copy ended with code {code}"),
        _ => bail!("{microvm}: {said}"),
    }
}

/// Packed bytes on their way to the session.
struct Pieces(mpsc::Sender<Vec<u8>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(MAX_DATA_BYTES)];
        self.0.blocking_send(piece.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What arrives from the session.
struct Arrived {
    pieces: mpsc::Receiver<Vec<u8>>,
    piece: Vec<u8>,
    /// Bytes of the piece that were read.
    read: usize,
}

impl Read for Arrived {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.read == self.piece.len() {
            let Some(piece) = self.pieces.blocking_recv() else { return Ok(0) };
            (self.piece, self.read) = (piece, 0);
        }
        let count = into.len().min(self.piece.len() - self.read);
        into[..count].copy_from_slice(&self.piece[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides() {
        let side = |text: &str| text.parse::<Side>().unwrap();
        let there = |microvm: &str, path: &str| Side::There { microvm: microvm.into(), path: path.into() };
        assert_eq!(side("abc:/etc/x"), there("abc", "/etc/x"));
        assert_eq!(side("microvm-1-2:/"), there("microvm-1-2", "/"));
        for here in ["a", "./a:/b", "a:b", ":/x", "/a:/b", "dir/"] {
            assert_eq!(side(here), Side::Here(here.into()), "{here}");
        }
    }

    #[test]
    fn the_first_message() {
        let text = |start: &Start<'_>| serde_json::to_string(start).unwrap();
        assert_eq!(text(&Start::Get { path: "/a" }), r#"{"get":{"path":"/a"}}"#);
        assert_eq!(text(&Start::Put { path: "/a", name: Some("b") }), r#"{"put":{"path":"/a","name":"b"}}"#);
    }

    #[tokio::test]
    async fn bytes_pass_between_the_two_worlds() {
        let (sender, receiver) = mpsc::channel(1);
        let data: Vec<u8> = (0..100_000).map(|n| n as u8).collect();
        let sent = data.clone();
        let writing = tokio::task::spawn_blocking(move || Pieces(sender).write_all(&sent));
        let reading = tokio::task::spawn_blocking(move || {
            let mut all = Vec::new();
            Arrived { pieces: receiver, piece: Vec::new(), read: 0 }.read_to_end(&mut all).map(|_| all)
        });
        writing.await.unwrap().unwrap();
        assert_eq!(reading.await.unwrap().unwrap(), data);
    }
}
