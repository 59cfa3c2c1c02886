//! The terminal that this process runs in.

use std::{
    io::{IsTerminal, Read},
    thread,
};

use anyhow::{Context, Result};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;

/// Bytes read of standard input at a time.
const READ_BYTES: usize = 16 << 10;

/// Standard input as raw keystrokes; as it was before when this is dropped.
pub struct Raw {
    before: Termios,
}

impl Raw {
    /// `None` when standard input is no terminal.
    pub fn enter() -> Result<Option<Self>> {
        let input = std::io::stdin();
        if !input.is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(&input).context("read the terminal's settings")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&input, OptionalActions::Now, &raw).context("set the terminal")?;
        Ok(Some(Raw { before }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nothing is left to do with a terminal that does not take it.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// Columns and rows of the terminal that standard output is, or else standard input; `None` when neither is one.
pub fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(std::io::stdout()).or_else(|_| tcgetwinsize(std::io::stdin())).ok()?;
    Some((size.ws_col, size.ws_row))
}

/// Reads standard input, piece by piece, as long as somebody takes them; the end of it ends the channel.
///
/// A thread of its own and not one of the runtime's: a read of a terminal cannot be stopped, the runtime would wait for it
/// when all else is done, and a process that ends waits for no thread.
pub fn keystrokes() -> mpsc::Receiver<Vec<u8>> {
    let (keys, read) = mpsc::channel(1);
    thread::spawn(move || {
        let mut bytes = vec![0; READ_BYTES];
        // An error is as good as an end: nothing more can be read.
        while let Ok(count @ 1..) = std::io::stdin().read(&mut bytes) {
            if keys.blocking_send(bytes[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    read
}
