//! A request's body, and what becomes of the rest when the answer is complete before it.
//!
//! Dropping the rest of an HTTP/2 body resets the stream (RFC 9113 section 8.1 allows it), and curl 7.88 for one then takes a
//! complete answer for none. So the rest is read and thrown away for a moment, in which clients see the answer and stop.
//! HTTP/1.1 has the same need one layer below: [`crate::linger`].

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

const AT_MOST: Duration = Duration::from_secs(2);

/// The body of a client's request.
pub(crate) struct Inbound {
    /// Here until it is dropped.
    body: Option<Incoming>,
    /// Owns the task that drains; none on HTTP/1.1.
    drain: Option<TaskTracker>,
}

impl Inbound {
    pub(crate) fn new(body: Incoming, version: Version, tasks: &TaskTracker) -> Self {
        let drain = (version == Version::HTTP_2 && !body.is_end_stream()).then(|| tasks.clone());
        Inbound { body: Some(body), drain }
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.drain = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        if let (Some(tasks), Some(mut rest)) = (self.drain.take(), self.body.take())
            && !rest.is_end_stream()
        {
            tasks.spawn(timeout(AT_MOST, async move { while let Some(Ok(_)) = rest.frame().await {} }));
        }
    }
}
