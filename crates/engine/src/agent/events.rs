//! What happens in the guest, one event after the other.

use bytes::{Buf, BytesMut};
use tokio::io::AsyncReadExt;
use wire::{Event, LENGTH_BYTES, MAX_FRAME_BYTES};

use super::{AgentError, AgentStream};

/// Follows the guest's events; see [`Agent::events`](super::Agent::events).
#[derive(Debug)]
pub struct EventStream {
    stream: AgentStream,
    /// What has been read and is not yet an event: less than one frame, plus what came with it.
    pending: BytesMut,
    /// Sequence number of the last event.
    last: u64,
}

impl EventStream {
    pub(super) fn new(stream: AgentStream, after: u64) -> Self {
        EventStream { stream, pending: BytesMut::new(), last: after }
    }

    /// The next event; `None` when the guest ended the stream. Sequence numbers only grow. Safe to drop and call again:
    /// no event is lost.
    pub async fn next(&mut self) -> Result<Option<Event>, AgentError> {
        loop {
            if let Some(event) = self.take()? {
                if event.sequence <= self.last {
                    let (last, next) = (self.last, event.sequence);
                    return Err(AgentError::Protocol(format!("event {next} came after event {last}")));
                }
                self.last = event.sequence;
                return Ok(Some(event));
            }
            match self.stream.read_buf(&mut self.pending).await {
                Ok(0) if self.pending.is_empty() => return Ok(None),
                Ok(0) => return Err(AgentError::Protocol("the events ended inside a frame".into())),
                Ok(_) => {}
                Err(_) if self.stream.link().ended().is_cancelled() => return Err(self.stream.link().end()),
                Err(source) => return Err(AgentError::Io { what: "reading events", source }),
            }
        }
    }

    /// A whole event from what is pending.
    fn take(&mut self) -> Result<Option<Event>, AgentError> {
        let Some(prefix) = self.pending.first_chunk::<LENGTH_BYTES>() else {
            self.pending.reserve(LENGTH_BYTES);
            return Ok(None);
        };
        let frame = |source| AgentError::Frame { what: "event", source };
        let length = wire::decode_length(*prefix).map_err(frame)?;
        debug_assert!(length <= MAX_FRAME_BYTES);
        let whole = LENGTH_BYTES + length;
        if self.pending.len() < whole {
            // Grows with what comes, not with what the guest announces.
            self.pending.reserve((whole - self.pending.len()).min(8 << 10));
            return Ok(None);
        }
        let event = wire::decode_body(&self.pending[LENGTH_BYTES..whole]).map_err(frame)?;
        self.pending.advance(whole);
        Ok(Some(event))
    }
}
