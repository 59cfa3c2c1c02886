//! The multiplexed connection under an [`Agent`](super::Agent): one task drives it, any number of handles open streams.
//!
//! A stream is opened without asking the driving task: yamux opens lazily, so that the first write carries the stream's
//! birth and the request in one frame. Only then is the driver woken to send it.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::task::AtomicWaker;
use tokio::{io::BufStream, sync::Semaphore, task::JoinHandle};
use tokio_util::{
    compat::{Compat, TokioAsyncReadCompatExt},
    sync::CancellationToken,
};
use yamux::{Config, ConnectionError, Mode};

use super::{AgentError, AgentStream};
use crate::Channel;

/// Largest payload of one multiplexer frame, and of the buffers around the channel: the guest's virtio-console driver
/// hands its port's bytes over in pieces of at most 32 KiB.
pub(super) const PIECE_BYTES: usize = 32 << 10;

/// Streams open at once on one connection; one more waits for one to end.
pub(super) const MAX_STREAMS: usize = 1024;

/// The multiplexer ends the whole connection at its own bound. Streams that were dropped count until the driver has
/// taken note, and at most 256 can be unanswered (yamux's acknowledgement backlog), so this is never reached.
const MAX_STREAMS_WITH_DROPPED: usize = 4 * MAX_STREAMS;

/// What all receive windows together may grow by, above the 256 KiB that each stream starts with.
const WINDOW_GROWTH_BYTES: usize = 64 << 20;

/// How long [`Link::close`] waits for a guest that does not take our last bytes. After that the channel is just dropped.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// A buffered channel; [`BufStream`] makes one write, and so one virtio notification, of a frame's header and body.
pub(super) type Buffered = BufStream<Box<dyn Channel>>;

type Connection = yamux::Connection<Compat<Buffered>>;

/// A handle on the connection and the owner of its driving task, which ends with it.
pub(super) struct Link {
    shared: Arc<Shared>,
    driver: JoinHandle<()>,
}

/// What the handles and the driver share.
struct Shared {
    /// `None` once it is closing or over.
    connection: Mutex<Option<Connection>>,
    /// Wakes the driver.
    driver: AtomicWaker,
    /// Only one at a time opens a stream, and may have to wait until the guest has acknowledged earlier ones.
    opening: tokio::sync::Mutex<()>,
    /// Wakes that one. Yamux would wake it for an acknowledgement only, not for a stream that was given up.
    opener: AtomicWaker,
    streams: Arc<Semaphore>,
    /// Asks the driver to close.
    closing: CancellationToken,
    /// Fires when the channel is closed and nothing more will happen.
    ended: CancellationToken,
    /// Why it ended.
    reason: OnceLock<String>,
}

impl Link {
    /// Starts to multiplex over a channel that is past its handshake.
    pub(super) fn start(channel: Buffered) -> Self {
        let connection = yamux::Connection::new(channel.compat(), config(), Mode::Client);
        let shared = Arc::new(Shared {
            connection: Mutex::new(Some(connection)),
            driver: AtomicWaker::new(),
            opening: tokio::sync::Mutex::new(()),
            opener: AtomicWaker::new(),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            closing: CancellationToken::new(),
            ended: CancellationToken::new(),
            reason: OnceLock::new(),
        });
        let driver = tokio::spawn(drive(shared.clone()));
        Link { shared, driver }
    }

    /// Opens a stream. Nothing is sent before the first write.
    pub(super) async fn open(self: &Arc<Self>) -> Result<AgentStream, AgentError> {
        let shared = &self.shared;
        let open = async {
            // The semaphore is never closed, and a missing permit would only mean a higher bound.
            let permit = shared.streams.clone().acquire_owned().await.ok();
            let _turn = shared.opening.lock().await;
            poll_fn(|cx| shared.poll_open(cx)).await.map(|stream| (stream, permit))
        };
        let opened = tokio::select! {
            opened = open => opened,
            () = shared.ended.cancelled() => return Err(self.end()),
        };
        let (stream, permit) = opened.map_err(|cause| match cause {
            ConnectionError::Closed => self.end(),
            other => AgentError::Ended(other.to_string()),
        })?;
        Ok(AgentStream::new(stream, self.clone(), permit))
    }

    /// Has the driver look at streams it does not know yet.
    pub(super) fn nudge(&self) {
        self.shared.driver.wake();
    }

    /// Sends what is queued, ends the connection and closes the channel. Resolves when that is done, or after
    /// [`CLOSE_WITHIN`] when the guest does not read. Idempotent.
    pub(super) async fn close(&self) {
        self.shared.closing.cancel();
        self.closed().await;
    }

    /// Resolves when the channel is closed, for whatever reason.
    pub(super) async fn closed(&self) {
        self.shared.ended.cancelled().await;
    }

    /// Fires with [`Link::closed`].
    pub(super) fn ended(&self) -> &CancellationToken {
        &self.shared.ended
    }

    /// The error that says why nothing more can be asked.
    pub(super) fn end(&self) -> AgentError {
        let closing = if self.shared.closing.is_cancelled() { "closed by hearth" } else { "it is being closed" };
        AgentError::Ended(self.shared.reason.get().map_or(closing, String::as_str).to_owned())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Shared {
    fn connection(&self) -> MutexGuard<'_, Option<Connection>> {
        // Nothing panics while it holds the lock; were it so, the next poll would say what state the connection is in.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_open(&self, cx: &mut Context<'_>) -> Poll<Result<yamux::Stream, ConnectionError>> {
        self.opener.register(cx.waker());
        match self.connection().as_mut() {
            // A failure here ends the connection, which the driver would not hear of otherwise.
            Some(connection) => connection.poll_new_outbound(cx).map_err(|cause| {
                self.driver.wake();
                cause
            }),
            None => Poll::Ready(Err(ConnectionError::Closed)),
        }
    }

    /// Moves frames both ways; ready with the reason when the connection is over.
    fn poll_frames(&self, cx: &mut Context<'_>) -> Poll<String> {
        self.driver.register(cx.waker());
        let mut connection = self.connection();
        let Some(connection) = connection.as_mut() else {
            return Poll::Ready("it is being closed".into());
        };
        let event = connection.poll_next_inbound(cx);
        self.opener.wake();
        event.map(|event| match event {
            None => "the guest closed it".into(),
            Some(Ok(_)) => "the guest broke the protocol: it opened a stream".into(),
            Some(Err(cause)) => describe(&cause),
        })
    }
}

/// Drives the connection until it ends or shall be closed; then nothing of it is left.
async fn drive(shared: Arc<Shared>) {
    // Also when the runtime drops this task half-way.
    let _ended = shared.ended.clone().drop_guard();
    let reason = tokio::select! {
        reason = poll_fn(|cx| shared.poll_frames(cx)) => reason,
        () = shared.closing.cancelled() => "closed by hearth".into(),
    };
    tracing::debug!(reason, "connection to a guest agent ends");
    shared.reason.get_or_init(|| reason);
    let connection = shared.connection().take();
    if let Some(mut connection) = connection
        && shared.closing.is_cancelled()
    {
        let flushed = tokio::time::timeout(CLOSE_WITHIN, poll_fn(|cx| connection.poll_close(cx))).await;
        tracing::debug!(?flushed, "closed the connection to a guest agent");
    }
}

/// The connection's end in words; yamux's own say little.
fn describe(cause: &ConnectionError) -> String {
    match cause {
        ConnectionError::Io(source) => format!("the channel failed: {source}"),
        ConnectionError::Decode(source) => format!("the guest broke the protocol: {source}"),
        other => other.to_string(),
    }
}

/// The multiplexer's settings: windows grow with the measured round trip from 256 KiB, within a bound for all streams,
/// so that a guest cannot make us hold more than that of what nobody reads.
fn config() -> Config {
    let mut config = Config::default();
    config.set_max_connection_receive_window(None);
    config.set_max_num_streams(MAX_STREAMS_WITH_DROPPED);
    let least = MAX_STREAMS_WITH_DROPPED * yamux::DEFAULT_CREDIT as usize;
    config.set_max_connection_receive_window(Some(least + WINDOW_GROWTH_BYTES));
    config.set_split_send_size(PIECE_BYTES);
    config
}
