//! Step five: an ordinary request to the application, its answer to the client. Bodies stream both ways with
//! backpressure, trailers included; when either side goes away the other learns it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header::TRANSFER_ENCODING,
    uri::PathAndQuery,
};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    answers::{Body, BoxError, Refusal, empty},
    headers,
    inbound::Inbound,
    reach::Reach,
    record::{Metered, Way},
    request::Exchange,
    serve::{InFlight, Owned},
    upstream::{self, Answer, Line, UpstreamError},
};

/// Sends the request on and gives the application's answer.
pub(crate) async fn forward(
    exchange: &Exchange,
    request: Request<Inbound>,
    reach: Reach<'_>,
) -> Result<Response<Body>, Refusal> {
    let (mut parts, body) = request.into_parts();
    let http2 = exchange.force_h2;
    headers::towards_application(&mut parts.headers, parts.version, http2, &exchange.host, &exchange.id);
    exchange.manner.towards_application(&mut parts.headers, &exchange.host);
    let body = Metered::new(body, exchange.meter.clone(), Way::Received).map_err(BoxError::from).boxed_unsync();
    let mut outbound = Request::new(body);
    *outbound.method_mut() = parts.method;
    *outbound.headers_mut() = parts.headers;
    *outbound.uri_mut() = target(&parts.uri, http2.then_some(exchange)).ok_or(Refusal::BadGateway)?;
    if !http2 && has_unknown_length(outbound.body()) {
        // hyper takes a body of unknown length for none with methods that rarely have one.
        outbound.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if !http2 {
        return http1(exchange, outbound, reach).await;
    }
    *outbound.version_mut() = Version::HTTP_2;
    reach.learns_by_preface().await?;
    let stream = reach.connect().await?;
    let answer = upstream::http2(stream, outbound, &exchange.limits, Owned(exchange.tasks.clone())).await;
    let Answer { response, connection } = answer.map_err(|error| no_answer(exchange, &error))?;
    Ok(towards_client(exchange, response, connection))
}

/// On a connection that the client's last request has left, or else on a new one.
async fn http1(exchange: &Exchange, request: Request<Body>, reach: Reach<'_>) -> Result<Response<Body>, Refusal> {
    let door = reach.door();
    let again = Again::of(&request);
    let mut request = request;
    while let Some(mut line) = reach.kept(&exchange.in_flight, &door, again.is_some()) {
        let outcome = tokio::select! {
            outcome = line.send(request) => outcome,
            refusal = reach.lost() => return Err(refusal),
        };
        match outcome {
            Ok(response) => return Ok(towards_client(exchange, response, Returned::new(line, &exchange.in_flight))),
            Err(mut error) => {
                // It ended just now: nothing was sent, or it does no harm to send it again.
                let unsent = error.take_message().or_else(|| again.as_ref().map(Again::request));
                request = unsent.ok_or_else(|| no_answer(exchange, &error.into_error().into()))?;
            }
        }
    }
    loop {
        let stream = reach.connect().await?;
        let line = Line::open(stream, door.clone(), &exchange.limits).await;
        let mut line = line.map_err(|error| no_answer(exchange, &error))?;
        let outcome = line.send(request).await;
        let doubtful = outcome.as_ref().map_or(true, |response| reach.is_doubtful(response.status()));
        let twice = if doubtful && reach.finds_tls().await { again.as_ref().map(Again::request) } else { None };
        match (twice, outcome) {
            (Some(again), _) => request = again,
            (None, Ok(response)) => {
                return Ok(towards_client(exchange, response, Returned::new(line, &exchange.in_flight)));
            }
            (None, Err(error)) => return Err(no_answer(exchange, &error.into_error().into())),
        }
    }
}

/// The head of a request that may be sent twice: without a body, and by its method without harm (RFC 9110 section 9.2.2).
pub(crate) struct Again {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Again {
    pub(crate) fn of(request: &Request<Body>) -> Option<Self> {
        let harmless = request.method().is_idempotent() && request.body().is_end_stream();
        harmless.then(|| Again {
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers: request.headers().clone(),
        })
    }

    pub(crate) fn request(&self) -> Request<Body> {
        let mut request = Request::new(empty());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// Is there a body whose length nobody knows yet?
fn has_unknown_length(body: &Body) -> bool {
    !http_body::Body::is_end_stream(body) && http_body::Body::size_hint(body).exact().is_none()
}

/// The path as the client wrote it; for HTTP/2 with scheme and authority, which are pseudo-headers there.
pub(crate) fn target(uri: &Uri, http2: Option<&Exchange>) -> Option<Uri> {
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    match http2 {
        None => Some(Uri::from(path)),
        Some(exchange) => {
            Uri::builder().scheme("http").authority(exchange.host.as_bytes()).path_and_query(path).build().ok()
        }
    }
}

/// Logs why the application gave no answer. The client gets a plain 502, whatever it was.
pub(crate) fn no_answer(exchange: &Exchange, error: &UpstreamError) -> Refusal {
    tracing::debug!(request = exchange.id.to_str().unwrap_or_default(), %error, "no answer");
    Refusal::BadGateway
}

/// The application's answer as the client gets it. `held` lives as long as the body; it hears whether that came to its end.
pub(crate) fn towards_client(
    exchange: &Exchange,
    response: Response<Incoming>,
    held: impl Ends + Send + Unpin + 'static,
) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    headers::towards_client(&mut parts.headers);
    exchange.manner.towards_client(&mut parts.headers);
    let body = Metered::new(body, exchange.meter.clone(), Way::Sent).map_err(BoxError::from).boxed_unsync();
    let mut response = Response::new(Held::new(body, held));
    // A new head: the version is the client connection's own affair, and a bare 101 is for `websocket` alone.
    *response.status_mut() = match parts.status {
        StatusCode::SWITCHING_PROTOCOLS => StatusCode::BAD_GATEWAY,
        status => status,
    };
    *response.headers_mut() = parts.headers;
    response
}

/// What a body keeps alive.
pub(crate) trait Ends {
    /// The body was read to its end.
    fn complete(&mut self) {}
}

impl Ends for AbortOnDropHandle<()> {}
impl Ends for Arc<InFlight> {}

/// A connection that goes back to its client with the end of the answer.
struct Returned {
    line: Option<Line>,
    client: Arc<InFlight>,
}

impl Returned {
    fn new(line: Line, client: &Arc<InFlight>) -> Self {
        Returned { line: Some(line), client: client.clone() }
    }
}

impl Ends for Returned {
    fn complete(&mut self) {
        if let Some(line) = self.line.take() {
            self.client.kept().put(line);
        }
    }
}

/// A body that keeps something alive until it has ended or is dropped.
pub(crate) struct Held<T: Ends> {
    body: Body,
    held: T,
    complete: bool,
}

impl<T: Ends + Send + Unpin + 'static> Held<T> {
    #[allow(clippy::new_ret_no_self)] // a body is all that anybody wants of it
    pub(crate) fn new(body: Body, held: T) -> Body {
        Held { body, held, complete: false }.boxed_unsync()
    }
}

impl<T: Ends + Unpin> http_body::Body for Held<T> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.complete |= matches!(frame, Poll::Ready(None));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<T: Ends> Drop for Held<T> {
    fn drop(&mut self) {
        // Who reads a body of known length may stop without asking for more.
        if self.complete || self.body.is_end_stream() {
            self.held.complete();
        }
    }
}
