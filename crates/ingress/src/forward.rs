//! Step five: an ordinary request to the application, its answer to the client. Bodies stream both ways with
//! backpressure, trailers included; when either side goes away the other learns it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version, header::TRANSFER_ENCODING, uri::PathAndQuery};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;

use crate::{
    Stream,
    answers::{Body, BoxError, Refusal},
    headers,
    inbound::Inbound,
    record::{Metered, Way},
    request::Exchange,
    serve::Owned,
    upstream::{self, Answer, UpstreamError},
};

/// Sends the request on and gives the application's answer.
pub(crate) async fn forward(
    exchange: &Exchange,
    request: Request<Inbound>,
    stream: Box<dyn Stream>,
) -> Result<Response<Body>, Refusal> {
    let (mut parts, body) = request.into_parts();
    let http2 = exchange.force_h2;
    headers::towards_application(&mut parts.headers, parts.version, http2, &exchange.host, &exchange.id);
    let body = Metered::new(body, exchange.meter.clone(), Way::Received).map_err(BoxError::from).boxed_unsync();
    let mut outbound = Request::new(body);
    *outbound.method_mut() = parts.method;
    *outbound.headers_mut() = parts.headers;
    *outbound.uri_mut() = target(&parts.uri, http2.then_some(exchange)).ok_or(Refusal::BadGateway)?;
    if !http2 && has_unknown_length(outbound.body()) {
        // hyper takes a body of unknown length for none with methods that rarely have one.
        outbound.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let answer = if http2 {
        *outbound.version_mut() = Version::HTTP_2;
        upstream::http2(stream, outbound, &exchange.limits, Owned(exchange.tasks.clone())).await
    } else {
        upstream::http1(stream, outbound, &exchange.limits).await
    };
    Ok(towards_client(exchange, answer.map_err(|error| no_answer(exchange, &error))?))
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

/// The application's answer as the client gets it.
pub(crate) fn towards_client(exchange: &Exchange, answer: Answer) -> Response<Body> {
    let (mut parts, body) = answer.response.into_parts();
    headers::towards_client(&mut parts.headers);
    let body = Metered::new(body, exchange.meter.clone(), Way::Sent).map_err(BoxError::from).boxed_unsync();
    let mut response = Response::new(Held::new(body, answer.connection));
    // A new head: the version is the client connection's own affair, and a bare 101 is for `websocket` alone.
    *response.status_mut() = match parts.status {
        StatusCode::SWITCHING_PROTOCOLS => StatusCode::BAD_GATEWAY,
        status => status,
    };
    *response.headers_mut() = parts.headers;
    response
}

/// A body that keeps something alive until it has ended or is dropped.
pub(crate) struct Held<T> {
    body: Body,
    _held: T,
}

impl<T: Send + Unpin + 'static> Held<T> {
    #[allow(clippy::new_ret_no_self)] // a body is all that anybody wants of it
    pub(crate) fn new(body: Body, held: T) -> Body {
        Held { body, _held: held }.boxed_unsync()
    }
}

impl<T: Unpin> http_body::Body for Held<T> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
