//! One byte stream to a port in the guest.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
};
use tokio_util::{
    compat::{Compat, FuturesAsyncReadCompatExt},
    sync::WaitForCancellationFutureOwned,
};

use super::link::Link;

/// A connection to a port in the guest, as raw bytes, with backpressure both ways.
///
/// - `shutdown` ends our direction and keeps the other, like TCP's half-close. The end is sent as soon as somebody reads
///   on (a reader that waits is woken for that).
/// - A drop without reading on resets the stream after what was written: the guest learns that nobody wants the rest of
///   an endless answer. That is why the end is not sent by `shutdown` itself: the multiplexer cannot reset a stream
///   that was ended, and the guest would wait for room in its window for ever.
/// - A reset by the guest, and the end of the connection, are [`io::ErrorKind::ConnectionReset`], never an end of file.
///
/// It keeps the connection to the agent alive.
pub struct AgentStream {
    inner: Compat<yamux::Stream>,
    ending: Ending,
    /// The guest has ended its direction.
    eof: bool,
    /// Who waits in `poll_read`.
    reader: Option<Waker>,
    /// Two, because a stream can be split between two tasks and each waits with a waker of its own.
    read_end: Pin<Box<WaitForCancellationFutureOwned>>,
    write_end: Pin<Box<WaitForCancellationFutureOwned>>,
    link: Arc<Link>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// How far our direction is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Open,
    Wanted,
    Sent,
}

impl AgentStream {
    pub(super) fn new(stream: yamux::Stream, link: Arc<Link>, permit: Option<OwnedSemaphorePermit>) -> Self {
        AgentStream {
            inner: stream.compat(),
            ending: Ending::Open,
            eof: false,
            reader: None,
            read_end: Box::pin(link.ended().clone().cancelled_owned()),
            write_end: Box::pin(link.ended().clone().cancelled_owned()),
            link,
            _permit: permit,
        }
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// Sends our end if it is wanted and there is room in the stream's queue.
    fn poll_send_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ending == Ending::Wanted {
            // An error means that the connection is over, which reading will tell.
            let _ = ready!(Pin::new(&mut self.inner).poll_shutdown(cx));
            self.ending = Ending::Sent;
        }
        Poll::Ready(())
    }

    /// What an end of file of the multiplexer means: it reports a reset as one.
    fn end_of_file(&mut self) -> io::Result<()> {
        let torn = match self.ending {
            Ending::Open | Ending::Wanted => self.inner.get_ref().is_closed(),
            // Both directions ended and a reset look alike; the end of the connection is what still can be told.
            Ending::Sent => self.link.ended().is_cancelled(),
        };
        if torn && !self.eof {
            return Err(reset());
        }
        self.eof = true;
        Ok(())
    }
}

impl AsyncRead for AgentStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        // When pending, room in the queue wakes this reader.
        let _ = this.poll_send_end(cx);
        let before = buf.filled().len();
        match Pin::new(&mut this.inner).poll_read(cx, buf) {
            Poll::Ready(Ok(())) if buf.filled().len() == before => Poll::Ready(this.end_of_file()),
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(_)) => Poll::Ready(Err(reset())),
            Poll::Pending => {
                ready_or_ended(&mut this.read_end, cx)?;
                match &mut this.reader {
                    Some(reader) => reader.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for AgentStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.ending != Ending::Open {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, "written after its end")));
        }
        match Pin::new(&mut this.inner).poll_write(cx, buf) {
            Poll::Ready(written) => Poll::Ready(written.map_err(|_| reset())),
            Poll::Pending => {
                ready_or_ended(&mut this.write_end, cx)?;
                Poll::Pending
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.inner).poll_flush(cx) {
            Poll::Ready(flushed) => Poll::Ready(flushed.map_err(|_| reset())),
            Poll::Pending => {
                ready_or_ended(&mut this.write_end, cx)?;
                Poll::Pending
            }
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ending == Ending::Open {
            this.ending = Ending::Wanted;
        }
        if this.eof {
            // Nobody will read on, so it cannot wait for a reader; and nothing is left that a reset would stop.
            return this.poll_send_end(cx).map(Ok);
        }
        if let Some(reader) = this.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for AgentStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentStream").field("id", &self.inner.get_ref().id()).field("ending", &self.ending).finish()
    }
}

/// An error when the connection is over; else the task is woken when it will be. The multiplexer itself forgets to wake
/// the streams that are open when it is closed.
fn ready_or_ended(ended: &mut Pin<Box<WaitForCancellationFutureOwned>>, cx: &mut Context<'_>) -> io::Result<()> {
    match ended.as_mut().poll(cx) {
        Poll::Ready(()) => Err(reset()),
        Poll::Pending => Ok(()),
    }
}

fn reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the guest ended the connection")
}
