//! What one authorized request moved and when it ended: the idle clock's news, and one line in the log.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
    time::{Sleep, sleep},
};

use crate::{Admission, Backend, Route, answers::Refusal, share::Share};

/// The backend hears of one request at most this often.
const THROTTLE: Duration = Duration::from_secs(1);

/// Shared by everything that belongs to one request; the request ends when the last holder drops it.
pub(crate) struct Meter {
    backend: Arc<dyn Backend>,
    microvm: String,
    share: Arc<Share>,
    _place: OwnedSemaphorePermit,
    port: u16,
    request: String,
    began: Instant,
    /// Milliseconds after `began`.
    told: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    status: AtomicU16,
}

/// Which way bytes move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the client.
    Received,
    /// To the client.
    Sent,
}

impl Meter {
    /// The request begins, if there is room for it.
    pub(crate) fn begin(
        backend: Arc<dyn Backend>,
        route: &Route,
        port: u16,
        request: String,
    ) -> Result<Arc<Self>, Refusal> {
        let place = route.share.admit()?;
        backend.activity(&route.microvm);
        Ok(Arc::new(Meter {
            backend,
            microvm: route.microvm.clone(),
            share: route.share.clone(),
            _place: place,
            port,
            request,
            began: Instant::now(),
            told: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            status: AtomicU16::new(0),
        }))
    }

    /// The status that the client gets.
    pub(crate) fn answered(&self, status: http::StatusCode) {
        self.status.store(status.as_u16(), Relaxed);
    }

    /// Returns once what let the request in does so no more.
    pub(crate) async fn withdrawn(&self, admission: Admission) {
        self.backend.withdrawn(&self.microvm, admission).await;
    }

    /// Takes note of bytes; for how long no more should move.
    fn moved(&self, way: Way, bytes: usize) -> Option<Duration> {
        if bytes == 0 {
            return None;
        }
        let counter = match way {
            Way::Received => &self.received,
            Way::Sent => &self.sent,
        };
        counter.fetch_add(bytes as u64, Relaxed);
        let now = self.began.elapsed().as_millis() as u64;
        let told = self.told.load(Relaxed);
        let due = now.saturating_sub(told) >= THROTTLE.as_millis() as u64;
        if due && self.told.compare_exchange(told, now, Relaxed, Relaxed).is_ok() {
            self.backend.activity(&self.microvm);
        }
        self.share.passed(bytes)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.backend.activity(&self.microvm);
        tracing::debug!(
            request = self.request,
            microvm = self.microvm,
            port = self.port,
            status = *self.status.get_mut(), // 0: the client left before there was one
            received_bytes = *self.received.get_mut(),
            sent_bytes = *self.sent.get_mut(),
            elapsed_ms = self.began.elapsed().as_millis() as u64,
            "request ended"
        );
    }
}

/// A body or a byte stream whose bytes are counted, and held back while the microVM has moved more than it may.
pub(crate) struct Metered<T> {
    inner: T,
    meter: Arc<Meter>,
    way: Way,
    reading: Pause,
    writing: Pause,
}

/// A time to wait. Each half of a stream has its own, for it remembers one waiter.
#[derive(Default)]
struct Pause(Option<Pin<Box<Sleep>>>);

impl Pause {
    fn begin(&mut self, pause: Option<Duration>) {
        if let Some(pause) = pause {
            self.0 = Some(Box::pin(sleep(pause)));
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(pause) = &mut self.0 {
            ready!(pause.as_mut().poll(cx));
            self.0 = None;
        }
        Poll::Ready(())
    }
}

impl<T> Metered<T> {
    /// For a body the way its bytes go; for a stream the way of the bytes that are read from it.
    pub(crate) fn new(inner: T, meter: Arc<Meter>, way: Way) -> Self {
        Metered { inner, meter, way, reading: Pause::default(), writing: Pause::default() }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Metered<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        ready!(self.reading.poll(cx));
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            let pause = self.meter.moved(self.way, frame.data_ref().map_or(0, Buf::remaining));
            self.reading.begin(pause);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        ready!(self.reading.poll(cx));
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let pause = self.meter.moved(self.way, buf.filled().len() - before);
        self.reading.begin(pause);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        ready!(self.writing.poll(cx));
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        let other = if self.way == Way::Received { Way::Sent } else { Way::Received };
        let pause = self.meter.moved(other, written);
        self.writing.begin(pause);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
