//! The host's half of [`wire`]: requests to the agent in a guest, over any [`Channel`].
//!
//! ```text
//! Agent ──┐                                          ┌── handshake   stale bytes, preamble, echo
//! Agent ──┼── Link ── driving task ── yamux ── Channel
//! AgentStream, EventStream ──┘                       └── then one stream per request
//! ```
//!
//! Nothing the guest sends is trusted: frames, windows, texts, the number of streams and the time for an answer are all
//! bounded, and what the protocol does not allow ends the connection.

mod error;
mod events;
mod handshake;
mod link;
mod stream;

use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufStream},
    time::timeout,
};
use wire::{AgentHello, Container, GENERATION, Hello, Identity, LENGTH_BYTES, Request, Response};

pub use self::{error::AgentError, events::EventStream, stream::AgentStream};
use self::{
    error::guest_text,
    link::{Link, PIECE_BYTES},
};
use crate::Channel;

/// How long the agent may take for one answer, not counting a grace period that was asked for. Starting a container
/// under emulation is the slowest, and takes about a second.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A connection to the agent in a guest. Clones share it; it ends when the last of them and of their streams is dropped
/// (at once, without a farewell), by [`Agent::close`], or when the channel ends.
#[derive(Clone)]
pub struct Agent {
    link: Arc<Link>,
    hello: Arc<AgentHello>,
}

impl Agent {
    /// Finds the agent at the other end of the channel and introduces itself. `within` bounds all of it; a guest that
    /// still boots is waited for. On failure the channel is closed.
    pub async fn open(channel: Box<dyn Channel>, within: Duration) -> Result<Agent, AgentError> {
        bounded("the first word", within, async {
            let mut channel = BufStream::with_capacity(PIECE_BYTES, PIECE_BYTES + FRAME_HEADER_BYTES, channel);
            handshake::synchronise(&mut channel).await?;
            let link = Arc::new(Link::start(channel));
            let hello = greet(&link).await?;
            Ok(Agent { link, hello: Arc::new(hello) })
        })
        .await
    }

    /// What the agent said of itself when the connection was opened. `version` is cut and tamed, fit for a log.
    pub fn hello(&self) -> &AgentHello {
        &self.hello
    }

    /// The generation that both sides speak.
    pub fn generation(&self) -> u16 {
        self.hello.generation.min(GENERATION)
    }

    /// Starts the application container. Once in the life of a guest: then [`AgentError::AlreadyStarted`].
    pub async fn start(&self, container: Container) -> Result<(), AgentError> {
        self.done("start", Request::Start(container), ANSWER_WITHIN).await
    }

    /// Connects to a port on the guest's loopback: one round trip. [`AgentError::Refused`] when nothing listens there.
    pub async fn dial(&self, port: u16) -> Result<AgentStream, AgentError> {
        bounded("dial", ANSWER_WITHIN, async {
            let mut stream = self.link.open().await?;
            match ask(&mut stream, "dial", &Request::Dial { port }).await? {
                Response::Dialed => Ok(stream),
                Response::Failed(wire::Fault::Refused) => Err(AgentError::Refused { port }),
                other => Err(unexpected("dial", other)),
            }
        })
        .await
    }

    /// Runs a program in the application's container: one round trip. The stream then carries the messages of
    /// [`wire::session`], unchecked: what comes from it is the guest's. [`AgentError::Unsupported`] when the image's agent is
    /// older than [`wire::SESSION_GENERATION`]; [`AgentError::Unsure`] when it was asked and its answer is none: a program is
    /// not to be started twice.
    pub async fn session(&self, session: wire::Session) -> Result<AgentStream, AgentError> {
        if self.generation() < wire::SESSION_GENERATION {
            return Err(AgentError::Unsupported { what: "sessions" });
        }
        let mut stream = bounded("session", ANSWER_WITHIN, self.link.open()).await?;
        let asked = bounded("session", ANSWER_WITHIN, async {
            match ask(&mut stream, "session", &Request::Session(session)).await? {
                Response::Done => Ok(()),
                other => Err(unexpected("session", other)),
            }
        });
        match asked.await {
            Ok(()) => Ok(stream),
            Err(answer @ (AgentError::Guest { .. } | AgentError::Unsupported { .. })) => Err(answer),
            Err(cause) => Err(AgentError::Unsure { what: "session", cause: Box::new(cause) }),
        }
    }

    /// Makes a restored guest its own: clock, randomness, names. Before hooks and traffic; may be repeated.
    pub async fn renew(&self, identity: Identity) -> Result<(), AgentError> {
        self.done("renew", Request::Renew(identity), ANSWER_WITHIN).await
    }

    /// Makes the guest ready for a snapshot: file systems flushed, outbound connections closed, and the agent silent: it has
    /// ended this connection, and nothing of it is in flight. A guest that cannot do it stays connected.
    pub async fn quiesce(&self) -> Result<(), AgentError> {
        self.done("quiesce", Request::Quiesce, ANSWER_WITHIN).await?;
        bounded("the farewell", ANSWER_WITHIN, async {
            self.closed().await;
            Ok(())
        })
        .await
    }

    /// Ends the application, by force after `grace` (at most about 49 days), then the guest powers off. Resolves with the
    /// agent's answer, which may come before the application has ended.
    pub async fn shutdown(&self, grace: Duration) -> Result<(), AgentError> {
        let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        self.done("shutdown", Request::Shutdown { grace_ms }, grace.saturating_add(ANSWER_WITHIN)).await
    }

    /// Follows what happens in the guest, from the event after number `after` on; 0 for all that the agent still holds.
    pub async fn events(&self, after: u64) -> Result<EventStream, AgentError> {
        bounded("events", ANSWER_WITHIN, async {
            let mut stream = self.link.open().await?;
            match ask(&mut stream, "events", &Request::Events { after }).await? {
                Response::Done => Ok(EventStream::new(stream, after)),
                other => Err(unexpected("events", other)),
            }
        })
        .await
    }

    /// Ends the connection for all its handles: sends what is queued, says farewell, closes the channel. Resolves when
    /// all that is done and a snapshot may follow; a guest that reads nothing is given 2 s. Idempotent.
    pub async fn close(&self) {
        self.link.close().await;
    }

    /// Resolves when the connection has ended, for whatever reason, and the channel is closed.
    pub async fn closed(&self) {
        self.link.closed().await;
    }

    /// A request whose answer is only that it is done.
    async fn done(&self, what: &'static str, request: Request, within: Duration) -> Result<(), AgentError> {
        bounded(what, within, async {
            let mut stream = self.link.open().await?;
            match ask(&mut stream, what, &request).await? {
                Response::Done => Ok(()),
                other => Err(unexpected(what, other)),
            }
        })
        .await
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").field("hello", &self.hello).finish_non_exhaustive()
    }
}

/// Bytes of a yamux frame header: with room for it, a whole frame leaves in one write.
const FRAME_HEADER_BYTES: usize = 12;

/// The first request of a connection.
async fn greet(link: &Arc<Link>) -> Result<AgentHello, AgentError> {
    let mut stream = link.open().await?;
    let mut hello = match ask(&mut stream, "hello", &Request::Hello(Hello { generation: GENERATION })).await? {
        Response::Hello(hello) => hello,
        other => return Err(unexpected("hello", other)),
    };
    if hello.generation == 0 {
        return Err(AgentError::Protocol("it speaks generation 0; generations start at 1".into()));
    }
    hello.version = guest_text(&hello.version);
    Ok(hello)
}

/// Sends a request on a new stream and reads the answer, not a byte further.
async fn ask(stream: &mut AgentStream, what: &'static str, request: &Request) -> Result<Response, AgentError> {
    let frame = wire::encode(request).map_err(|source| AgentError::Frame { what, source })?;
    let talk = async {
        stream.write_all(&frame[..frame.len().min(PIECE_BYTES)]).await?;
        stream.link().nudge();
        stream.write_all(&frame[frame.len().min(PIECE_BYTES)..]).await?;
        let mut prefix = [0; LENGTH_BYTES];
        stream.read_exact(&mut prefix).await?;
        let length = match wire::decode_length(prefix) {
            Ok(length) => length,
            Err(bad) => return Ok(Err(bad)),
        };
        // Grows with what comes, not with what the guest announces.
        let mut body = Vec::new();
        (&mut *stream).take(length as u64).read_to_end(&mut body).await?;
        if body.len() < length {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(wire::decode_body(&body))
    };
    match talk.await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(source)) => Err(AgentError::Frame { what, source }),
        Err(_) if stream.link().ended().is_cancelled() => Err(stream.link().end()),
        Err(source) => Err(AgentError::Io { what, source }),
    }
}

/// The error for an answer that is not the one hoped for.
fn unexpected(what: &'static str, response: Response) -> AgentError {
    match response {
        Response::Failed(fault) => AgentError::fault(what, fault),
        Response::Hello(_) | Response::Done | Response::Dialed => {
            AgentError::Protocol(format!("the answer to {what} is that of another request"))
        }
    }
}

async fn bounded<T>(
    what: &'static str,
    within: Duration,
    work: impl Future<Output = Result<T, AgentError>>,
) -> Result<T, AgentError> {
    let millis = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
    timeout(within, work).await.unwrap_or(Err(AgentError::Timeout { what, millis }))
}
