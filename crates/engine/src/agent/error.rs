//! Why the agent could not do what was asked.

use std::io;

use wire::{Fault, FrameError};

/// What is kept of a text that the guest wrote, in characters.
const MAX_GUEST_TEXT: usize = 512;

/// Why a request to the agent failed.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The connection is over: closed by us, by the guest, or because the machine ended.
    #[error("the connection to the guest agent has ended: {0}")]
    Ended(String),
    /// Nothing, or nothing in time, came back.
    #[error("the guest agent did not answer {what} within {millis} ms; see the machine's console log")]
    Timeout {
        /// The request.
        what: &'static str,
        /// The bound that has passed.
        millis: u64,
    },
    /// The guest sent what the protocol does not allow. The connection is of no use any more.
    #[error("the guest agent broke the protocol: {0}")]
    Protocol(String),
    /// A message is too long to send, or what came is not a message.
    #[error("message {what}: {source}")]
    Frame {
        /// Which message.
        what: &'static str,
        /// What is wrong with it.
        source: FrameError,
    },
    /// Reading or writing the channel or one of its streams failed.
    #[error("channel to the guest agent, {what}: {source}")]
    Io {
        /// The step.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// Nothing in the guest listens on the port.
    #[error("nothing listens on port {port} in the guest")]
    Refused {
        /// The port.
        port: u16,
    },
    /// The application container runs, or has run.
    #[error("the application was started before")]
    AlreadyStarted,
    /// The agent in this image is too old for the request.
    #[error("the guest agent of this image does not know {what}; build a new image version to get a newer agent")]
    Unsupported {
        /// The request.
        what: &'static str,
    },
    /// Something that must not happen twice was asked for, and what came of it is not known. Not to be asked again.
    #[error("no answer to {what}, which may have begun: {cause}")]
    Unsure {
        /// The request.
        what: &'static str,
        /// What came instead of the answer.
        cause: Box<AgentError>,
    },
    /// A step in the guest failed.
    #[error("{what} failed in the guest: {message}")]
    Guest {
        /// The request.
        what: &'static str,
        /// The guest's words, cut to a bounded length, without control characters.
        message: String,
    },
}

impl AgentError {
    /// A [`Fault`] as the answer to the request `what`.
    pub(super) fn fault(what: &'static str, fault: Fault) -> Self {
        match fault {
            Fault::Refused => AgentError::Protocol(format!("\"refused\" is no answer to {what}")),
            Fault::AlreadyStarted => AgentError::AlreadyStarted,
            Fault::Unsupported => AgentError::Unsupported { what },
            Fault::Failed(message) => AgentError::Guest { what, message: guest_text(&message) },
        }
    }
}

/// A guest's text made fit for logs and errors: bounded, one line, nothing a terminal would obey.
pub(super) fn guest_text(text: &str) -> String {
    let mut clean: String =
        text.chars().take(MAX_GUEST_TEXT).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(MAX_GUEST_TEXT).is_some() {
        clean.push_str("...");
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_words_are_bounded_and_tame() {
        let message = format!("\x1b[2J{}", "x".repeat(10_000));
        let AgentError::Guest { message, .. } = AgentError::fault("start", Fault::Failed(message)) else {
            panic!("not a guest error");
        };
        assert!(message.starts_with("\u{fffd}[2Jxxx"), "{message}");
        assert!(message.ends_with("..."));
        assert_eq!(message.chars().count(), MAX_GUEST_TEXT + 3);
    }
}
