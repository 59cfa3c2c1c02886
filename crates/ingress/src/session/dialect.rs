//! How a client speaks: as to AWS's shell (spec 8), or in the messages of [`wire::session`] themselves.

use serde::{Deserialize, Serialize};
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;
use wire::{
    TerminalSize,
    session::{Input, MAX_DATA_BYTES, Output},
};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Shell,
    Exec,
}

/// What a client's message becomes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Up {
    /// Messages for the guest.
    Messages(Vec<Vec<u8>>),
    /// The WebSocket's own affair.
    Nothing,
    /// What the dialect does not have; the reason fits a close frame.
    Wrong(&'static str),
}

/// What a guest's message becomes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Down<'a> {
    /// A binary message for the client.
    Message(&'a [u8]),
    Nothing,
    /// What a guest must not say.
    Wrong,
}

/// The text frames of AWS's shell that mean something.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Control {
    SessionInit { session_id: Uuid },
    Resize { cols: u16, rows: u16 },
}

/// The first frame of a shell.
pub(super) fn session_init() -> String {
    let init = Control::SessionInit { session_id: Uuid::new_v4() };
    serde_json::to_string(&init).expect("a tag and an id are plain strings")
}

impl Dialect {
    pub(super) fn up(self, message: &Message) -> Up {
        match (self, message) {
            (_, Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_)) => Up::Nothing,
            (Dialect::Shell, Message::Binary(keys)) => typed(keys),
            (Dialect::Shell, Message::Text(text)) => match serde_json::from_str(text.as_str()) {
                Ok(Control::Resize { cols, rows }) => {
                    Up::Messages(vec![Input::Resize(TerminalSize { cols, rows }).write()])
                }
                // Also what looks like a control frame of another kind (spec 8).
                _ => typed(text.as_bytes()),
            },
            (Dialect::Exec, Message::Binary(bytes)) => match Input::read(bytes) {
                Ok(_) => Up::Messages(vec![bytes.to_vec()]),
                Err(_) => Up::Wrong("malformed message"),
            },
            (Dialect::Exec, Message::Text(_)) => Up::Wrong("only the first message is text"),
        }
    }

    /// The credit that a message needs. Who speaks the guest's own language keeps count of it, too.
    pub(super) fn cost(self, message: &[u8]) -> usize {
        match (self, Input::read(message)) {
            (Dialect::Shell, Ok(Input::Data(data))) => data.len(),
            _ => 0,
        }
    }

    pub(super) fn down<'a>(self, output: &Output<'a>, message: &'a [u8]) -> Down<'a> {
        match (self, output) {
            (Dialect::Exec, _) => Down::Message(message),
            (Dialect::Shell, Output::Stdout(shown)) => Down::Message(shown),
            (Dialect::Shell, Output::Taken(_) | Output::Exited(_) | Output::Failed(_)) => Down::Nothing,
            (Dialect::Shell, Output::Stderr(_)) => Down::Wrong,
        }
    }

    /// Why the connection is closed when the program is over.
    pub(super) fn over(self) -> &'static str {
        match self {
            Dialect::Shell => "shell exited",
            Dialect::Exec => "exited",
        }
    }
}

fn typed(keys: &[u8]) -> Up {
    Up::Messages(keys.chunks(MAX_DATA_BYTES).map(|keys| Input::Data(keys).write()).collect())
}

#[cfg(test)]
mod tests {
    use wire::session::Exit;

    use super::*;

    fn data(bytes: &[u8]) -> Up {
        Up::Messages(vec![Input::Data(bytes).write()])
    }

    #[test]
    fn the_shells_frames() {
        let text = |text: &str| Dialect::Shell.up(&Message::text(text));
        let size = TerminalSize { cols: 80, rows: 24 };
        assert_eq!(text(r#"{"type":"resize","cols":80,"rows":24}"#), Up::Messages(vec![Input::Resize(size).write()]));
        for typed in [
            "ls\n",
            "{}",
            r#"{"type":"resize","cols":-1,"rows":24}"#,
            r#"{"type":"resize","cols":70000,"rows":24}"#,
            r#"{"type":"resize"}"#,
            r#"{"type":"signal","name":"INT"}"#,
        ] {
            assert_eq!(text(typed), data(typed.as_bytes()), "{typed}");
        }
        assert_eq!(Dialect::Shell.up(&Message::binary(&b"\x03"[..])), data(b"\x03"));
        assert_eq!(Dialect::Shell.up(&Message::Ping(Default::default())), Up::Nothing);
        let Up::Messages(pasted) = Dialect::Shell.up(&Message::binary(vec![b'x'; 2 * MAX_DATA_BYTES + 1])) else {
            panic!("not typed");
        };
        assert_eq!(pasted.len(), 3);
        assert_eq!(Dialect::Shell.cost(&pasted[0]), MAX_DATA_BYTES);
    }

    #[test]
    fn a_program_is_spoken_to_in_messages() {
        let signal = Input::Signal(2).write();
        assert_eq!(Dialect::Exec.up(&Message::binary(signal.clone())), Up::Messages(vec![signal.clone()]));
        assert_eq!(Dialect::Exec.cost(&signal), 0);
        assert!(matches!(Dialect::Exec.up(&Message::binary(&b"\xff"[..])), Up::Wrong(_)));
        assert!(matches!(Dialect::Exec.up(&Message::text("ls")), Up::Wrong(_)));
    }

    #[test]
    fn what_comes_back() {
        let exited = Output::Exited(Exit { code: 3, timed_out: false });
        let message = exited.write();
        assert_eq!(Dialect::Shell.down(&exited, &message), Down::Nothing);
        assert_eq!(Dialect::Exec.down(&exited, &message), Down::Message(&message));
        assert_eq!(Dialect::Shell.down(&Output::Stdout(b"x"), b"?"), Down::Message(b"x"));
        assert_eq!(Dialect::Shell.down(&Output::Stderr(b"x"), b"?"), Down::Wrong);
        assert!(session_init().starts_with(r#"{"type":"session_init","session_id":""#));
    }
}
