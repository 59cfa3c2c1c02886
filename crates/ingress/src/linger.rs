//! Closing a connection on a client that is still sending.
//!
//! An HTTP/1.1 answer can be complete while the request's body is not: a refusal, or an application's early answer. The
//! kernel answers bytes for a closed socket with a reset, and a reset takes from the client what it has not read yet: the
//! answer. So after the last byte we only say that no more comes, and throw away what arrives until the client is done.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// A client that has been silent for this long has stopped sending.
const QUIET: Duration = Duration::from_millis(500);
/// One that never stops is cut off.
const AT_MOST: Duration = Duration::from_secs(5);

/// A stream whose shutdown waits for the peer to stop.
pub(crate) struct Lingering<T> {
    inner: T,
    quiet: Duration,
    at_most: Duration,
    closing: Option<Closing>,
}

struct Closing {
    quiet: Pin<Box<Sleep>>,
    end: Instant,
}

impl<T> Lingering<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self::with_bounds(inner, QUIET, AT_MOST)
    }

    fn with_bounds(inner: T, quiet: Duration, at_most: Duration) -> Self {
        Lingering { inner, quiet, at_most, closing: None }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Lingering<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.closing.is_none() {
            ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
        }
        let (quiet, at_most) = (this.quiet, this.at_most);
        let closing = this
            .closing
            .get_or_insert_with(|| Closing { quiet: Box::pin(sleep(quiet)), end: Instant::now() + at_most });
        let mut sink = [0; 8192];
        loop {
            if closing.quiet.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buf = ReadBuf::new(&mut sink);
            let read = ready!(Pin::new(&mut this.inner).poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            closing.quiet.as_mut().reset((Instant::now() + quiet).min(closing.end));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const SHORT: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn waits_while_the_peer_sends() {
        let (mut peer, ours) = duplex(64);
        let began = Instant::now();
        let ours = tokio::spawn(async move {
            Lingering::with_bounds(ours, SHORT, AT_MOST).shutdown().await.map(|()| began.elapsed())
        });
        for _ in 0..3 {
            sleep(SHORT / 2).await;
            peer.write_all(&[0; 64]).await.unwrap();
        }
        assert_eq!(peer.read(&mut [0; 1]).await.unwrap(), 0, "it knows at once that no more comes");
        let lasted = ours.await.unwrap().unwrap();
        assert!(lasted >= SHORT / 2 * 5 && lasted < AT_MOST, "{lasted:?}");
    }

    #[tokio::test]
    async fn not_for_ever_and_not_for_nothing() {
        let (mut peer, ours) = duplex(64);
        let sending = tokio::spawn(async move { while peer.write_all(&[0; 64]).await.is_ok() {} });
        let began = Instant::now();
        Lingering::with_bounds(ours, QUIET, SHORT).shutdown().await.unwrap();
        assert!(began.elapsed() >= SHORT, "{:?}", began.elapsed());
        sending.abort();

        let (peer, ours) = duplex(64);
        drop(peer);
        let began = Instant::now();
        Lingering::new(ours).shutdown().await.unwrap();
        assert!(began.elapsed() < QUIET);
    }
}
