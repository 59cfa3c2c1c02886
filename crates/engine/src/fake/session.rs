//! Sessions in the fake guest. A shell shows what is typed, until `exit` and a return. Of programs there are two: `exit N`
//! ends with that code, any other says its arguments in a line and then what it reads, until its input ends. No files.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use wire::{
    Job, Session,
    session::{Deframer, Exit, Input, Output, frame},
};

/// What ends a shell.
const EXIT_LINE: &[u8] = b"exit";
/// Exit code of `exit` with something that is no number.
const BAD_NUMBER: i32 = 2;

/// Plays the session to its end, or until the host leaves.
pub(super) async fn serve(session: &Session, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    let shell = match &session.job {
        Job::Shell => true,
        Job::Get(_) | Job::Put { .. } => {
            say(stream, Output::Stderr(b"the fake guest has no files\n")).await?;
            return exit(stream, 1).await;
        }
        Job::Exec(argv) => match argv.as_slice() {
            [name, code] if name == "exit" => return exit(stream, code.parse().unwrap_or(BAD_NUMBER)).await,
            argv => {
                say(stream, Output::Stdout(format!("{}\n", argv.join(" ")).as_bytes())).await?;
                false
            }
        },
    };
    let (mut deframer, mut bytes, mut line) = (Deframer::default(), vec![0; 32 << 10], Vec::new());
    loop {
        let count = stream.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        deframer.push(&bytes[..count]);
        while let Some(message) = deframer.take().map_err(io::Error::other)? {
            match Input::read(message).map_err(io::Error::other)? {
                Input::Data(data) => {
                    say(stream, Output::Taken(data.len() as u32)).await?;
                    say(stream, Output::Stdout(data)).await?;
                    if shell && typed(&mut line, data) {
                        return exit(stream, 0).await;
                    }
                }
                Input::End => return exit(stream, 0).await,
                Input::Resize(size) if shell => {
                    let told = format!("{}x{}\r\n", size.cols, size.rows);
                    say(stream, Output::Stdout(told.as_bytes())).await?;
                }
                Input::Resize(_) => {}
                Input::Signal(number) => return exit(stream, 128 + i32::from(number)).await,
            }
        }
    }
}

/// Takes keystrokes; true when the line that ends the shell is among them.
fn typed(line: &mut Vec<u8>, data: &[u8]) -> bool {
    for &byte in data {
        match byte {
            b'\r' | b'\n' if line == EXIT_LINE => return true,
            b'\r' | b'\n' => line.clear(),
            // No longer than what it is compared with, whatever is typed.
            _ if line.len() <= EXIT_LINE.len() => line.push(byte),
            _ => {}
        }
    }
    false
}

async fn exit(stream: &mut (impl AsyncWrite + Unpin), code: i32) -> io::Result<()> {
    say(stream, Output::Exited(Exit { code, timed_out: false })).await
}

async fn say(stream: &mut (impl AsyncWrite + Unpin), output: Output<'_>) -> io::Result<()> {
    stream.write_all(&frame(&output.write())).await?;
    stream.flush().await
}
