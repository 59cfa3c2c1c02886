//! What the two sides of a [`Session`](crate::Session) say once it stands.
//!
//! A message is one byte that says what it is, and its content. On the agent's channel a little-endian `u32` with the
//! message's length precedes it; a WebSocket brings the length itself, so that both carry the same messages.
//!
//! Standard input is sent on credit: at most [`WINDOW_BYTES`] that the program has not taken yet. So signals and sizes never
//! wait behind input that nobody reads, and no more than that waits for a program in the agent.

use crate::{LENGTH_BYTES, TerminalSize};

/// Bytes of content at most (32 KiB): what the agent's channel takes in one piece, with room for the heads.
pub const MAX_DATA_BYTES: usize = 32 * 1024 - 64;
/// The longest message.
pub const MAX_MESSAGE_BYTES: usize = MAX_DATA_BYTES + 1;
/// Standard input that may be on its way to the program.
pub const WINDOW_BYTES: usize = 256 * 1024;

const INPUT: u8 = 0;
const END: u8 = 1;
const RESIZE: u8 = 2;
const SIGNAL: u8 = 3;
const STDOUT: u8 = 16;
const STDERR: u8 = 17;
const TAKEN: u8 = 18;
const EXITED: u8 = 19;
const FAILED: u8 = 20;

/// A message that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Longer than [`MAX_MESSAGE_BYTES`], or empty.
    #[error("session message of {bytes} bytes; 1 to {MAX_MESSAGE_BYTES} are allowed")]
    Length {
        /// The length that was announced.
        bytes: usize,
    },
    /// No message of this direction, or not as long as it must be.
    #[error("malformed session message of kind {kind}")]
    Malformed {
        /// Its first byte.
        kind: u8,
    },
}

/// From the client to the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input<'a> {
    /// Standard input, or keystrokes.
    Data(&'a [u8]),
    /// Standard input ends.
    End,
    /// The terminal has another size. Means nothing without a terminal.
    Resize(TerminalSize),
    /// A signal for the program's process group, by its number on Linux: 1..=31, those that have names.
    Signal(u8),
}

impl<'a> Input<'a> {
    /// The message in these bytes.
    pub fn read(message: &'a [u8]) -> Result<Self, SessionError> {
        let (kind, content) = open(message)?;
        let input = match (kind, content) {
            (INPUT, data) => Some(Input::Data(data)),
            (END, []) => Some(Input::End),
            (RESIZE, &[a, b, c, d]) => {
                Some(Input::Resize(TerminalSize { cols: u16::from_le_bytes([a, b]), rows: u16::from_le_bytes([c, d]) }))
            }
            (SIGNAL, &[number @ 1..=31]) => Some(Input::Signal(number)),
            _ => None,
        };
        input.ok_or(SessionError::Malformed { kind })
    }

    /// Its bytes. Data longer than [`MAX_DATA_BYTES`] is the caller's to cut: the other side refuses it.
    pub fn write(&self) -> Vec<u8> {
        match self {
            Input::Data(data) => message(INPUT, data),
            Input::End => message(END, &[]),
            Input::Resize(TerminalSize { cols, rows }) => {
                message(RESIZE, &[cols.to_le_bytes(), rows.to_le_bytes()].concat())
            }
            Input::Signal(number) => message(SIGNAL, &[*number]),
        }
    }
}

/// From the program to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output<'a> {
    /// Standard output, or all that a terminal shows.
    Stdout(&'a [u8]),
    /// Standard error; never with a terminal.
    Stderr(&'a [u8]),
    /// The program took so many bytes of its input, or never will: credit for as many more.
    Taken(u32),
    /// It ended, and all of its output was sent: the last message.
    Exited(Exit),
    /// It could not begin, or its session broke off, and why: the last message.
    Failed(&'a str),
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code; 128 + n for a death by signal n.
    pub code: i32,
    /// It had to be ended because its time was over.
    pub timed_out: bool,
}

impl<'a> Output<'a> {
    /// The message in these bytes.
    pub fn read(message: &'a [u8]) -> Result<Self, SessionError> {
        let (kind, content) = open(message)?;
        let output = match (kind, content) {
            (STDOUT, data) => Some(Output::Stdout(data)),
            (STDERR, data) => Some(Output::Stderr(data)),
            (TAKEN, &[a, b, c, d]) => Some(Output::Taken(u32::from_le_bytes([a, b, c, d]))),
            (EXITED, &[a, b, c, d, timed_out @ 0..=1]) => {
                Some(Output::Exited(Exit { code: i32::from_le_bytes([a, b, c, d]), timed_out: timed_out == 1 }))
            }
            (FAILED, text) => std::str::from_utf8(text).ok().map(Output::Failed),
            _ => None,
        };
        output.ok_or(SessionError::Malformed { kind })
    }

    /// Its bytes. Data longer than [`MAX_DATA_BYTES`] is the caller's to cut; a text is cut here.
    pub fn write(&self) -> Vec<u8> {
        match self {
            Output::Stdout(data) => message(STDOUT, data),
            Output::Stderr(data) => message(STDERR, data),
            Output::Taken(bytes) => message(TAKEN, &bytes.to_le_bytes()),
            Output::Exited(Exit { code, timed_out }) => {
                message(EXITED, &[&code.to_le_bytes()[..], &[u8::from(*timed_out)]].concat())
            }
            Output::Failed(text) => message(FAILED, &text.as_bytes()[..text.floor_char_boundary(MAX_DATA_BYTES)]),
        }
    }
}

fn message(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(1 + content.len());
    message.push(kind);
    message.extend_from_slice(content);
    message
}

fn open(message: &[u8]) -> Result<(u8, &[u8]), SessionError> {
    match message {
        [kind, content @ ..] if message.len() <= MAX_MESSAGE_BYTES => Ok((*kind, content)),
        _ => Err(SessionError::Length { bytes: message.len() }),
    }
}

/// A message as it travels on the agent's channel: with its length before it.
pub fn frame(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u32).to_le_bytes()[..], message].concat()
}

/// Finds the messages in the bytes of the agent's channel, however they arrive.
#[derive(Debug, Default)]
pub struct Deframer {
    pending: Vec<u8>,
    /// Bytes of `pending` that were handed out already.
    done: usize,
}

impl Deframer {
    /// Takes bytes as they came. The caller takes all whole messages before it brings more; then this holds less than one
    /// message and what came with it.
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.drain(..self.done);
        self.done = 0;
        self.pending.extend_from_slice(bytes);
    }

    /// The next whole message. An error is the end: nothing after it can be understood.
    pub fn take(&mut self) -> Result<Option<&[u8]>, SessionError> {
        let Some(prefix) = self.pending[self.done..].first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let bytes = u32::from_le_bytes(*prefix) as usize;
        if !(1..=MAX_MESSAGE_BYTES).contains(&bytes) {
            return Err(SessionError::Length { bytes });
        }
        let start = self.done + LENGTH_BYTES;
        let Some(message) = self.pending.get(start..start + bytes) else { return Ok(None) };
        self.done = start + bytes;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: TerminalSize = TerminalSize { cols: 300, rows: 24 };

    #[test]
    fn messages_survive_the_round_trip() {
        for input in [Input::Data(b"ls\n"), Input::Data(b""), Input::End, Input::Resize(SIZE), Input::Signal(15)] {
            assert_eq!(Input::read(&input.write()), Ok(input));
        }
        let exit = Exit { code: -7, timed_out: true };
        for output in [
            Output::Stdout(b"\0\xff"),
            Output::Stderr(b""),
            Output::Taken(u32::MAX),
            Output::Exited(exit),
            Output::Failed("no such user"),
        ] {
            assert_eq!(Output::read(&output.write()), Ok(output));
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bad in [&[END, 1][..], &[RESIZE, 1, 2, 3], &[SIGNAL, 0], &[SIGNAL, 32], &[SIGNAL], &[STDOUT, 1], &[99]] {
            assert_eq!(Input::read(bad), Err(SessionError::Malformed { kind: bad[0] }));
        }
        for bad in [&[INPUT][..], &[TAKEN, 1], &[EXITED, 0, 0, 0, 0, 2], &[FAILED, 0xff]] {
            assert_eq!(Output::read(bad), Err(SessionError::Malformed { kind: bad[0] }));
        }
        assert_eq!(Input::read(&[]), Err(SessionError::Length { bytes: 0 }));
        let long = vec![INPUT; MAX_MESSAGE_BYTES + 1];
        assert_eq!(Input::read(&long), Err(SessionError::Length { bytes: MAX_MESSAGE_BYTES + 1 }));
        assert!(Input::read(&long[1..]).is_ok());
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = "é".repeat(MAX_DATA_BYTES);
        let message = Output::Failed(&text).write();
        assert!(matches!(Output::read(&message), Ok(Output::Failed(cut)) if cut.len() == MAX_DATA_BYTES));
    }

    #[test]
    fn a_length_past_the_bound_is_refused_at_once() {
        for bytes in [0, MAX_MESSAGE_BYTES + 1, u32::MAX as usize] {
            let mut deframer = Deframer::default();
            deframer.push(&(bytes as u32).to_le_bytes());
            assert_eq!(deframer.take(), Err(SessionError::Length { bytes }));
        }
    }

    proptest! {
        #[test]
        fn messages_are_whole_however_they_arrive(
            contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
            cuts in prop::collection::vec(1usize..50, 1..40),
        ) {
            let messages: Vec<_> = contents.iter().map(|data| Output::Stdout(data).write()).collect();
            let bytes: Vec<u8> = messages.iter().flat_map(|message| frame(message)).collect();
            let (mut deframer, mut found, mut rest) = (Deframer::default(), Vec::new(), &bytes[..]);
            for cut in cuts.iter().cycle() {
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                deframer.push(piece);
                while let Some(message) = deframer.take().expect("in bounds") {
                    found.push(message.to_vec());
                }
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(found, messages);
        }

        #[test]
        fn rubbish_is_an_error_not_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(input) = Input::read(&bytes) {
                prop_assert_eq!(input.write(), bytes.clone());
            }
            if let Ok(output) = Output::read(&bytes) {
                prop_assert_eq!(output.write(), bytes.clone());
            }
            let mut deframer = Deframer::default();
            deframer.push(&bytes);
            while let Ok(Some(message)) = deframer.take() {
                prop_assert!(message.len() <= MAX_MESSAGE_BYTES);
            }
        }
    }
}
