//! The answers that the proxy makes itself (spec 6.6), all of them.
//!
//! Bodies are plain text or empty, never JSON. An answer of ours is told from the application's by its
//! `x-aws-proxy-error` header, which applications cannot send; only the 502 for a microVM that is not running now has none.

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};

use crate::ConnectError;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// Every body towards a client.
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

const PROXY_ERROR: HeaderName = HeaderName::from_static("x-aws-proxy-error");

/// Why a request does not reach the application, or its answer not the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No token, or nothing that can be opened as one.
    MissingAuthentication,
    /// An authentic token that does not open this endpoint now: another microVM's, expired, unknown host.
    AuthenticationFailed,
    /// The port is not in the token's scope, or the microVM takes no application traffic at all (spec 16, items 25, 26).
    PortDenied,
    /// Target port that is none.
    MalformedPort,
    /// A request that HTTP allows and the proxy does not: `CONNECT`.
    Unsupported,
    /// A body in a transfer coding that is not `chunked` alone.
    ForeignCoding,
    /// Nothing listens.
    AppConnectFailed,
    /// The microVM is gone.
    MicrovmConnectFailed,
    /// Not running, no HTTP from the application, shell token on plain HTTPS.
    BadGateway,
    /// A shell of an image whose agent has none.
    AgentTooOld,
    /// The guest could not begin a shell.
    ShellFailed,
    /// A shell or program too many.
    TooManySessions,
    /// A request too many, at a time or in a second (spec 6.9).
    TooManyRequests,
    /// A request that a cookie alone would let in, made by another site.
    ForeignOrigin,
    /// A browser's link that was used or has expired, or never was one.
    LinkOver,
    /// One over plain HTTP.
    LinkWithoutTls,
    /// One that is not opened but looked at: it is not used up by that.
    LinkMethod,
    /// One that a browser fetches before its user asks for it: it will come again.
    LinkAhead,
}

impl Refusal {
    fn parts(self) -> (StatusCode, &'static str, Option<&'static str>) {
        match self {
            Refusal::MissingAuthentication => {
                (StatusCode::FORBIDDEN, "Request missing authentication", Some("UNAUTHORIZED"))
            }
            Refusal::AuthenticationFailed => {
                (StatusCode::FORBIDDEN, "Token authentication failed", Some("UNAUTHORIZED"))
            }
            Refusal::PortDenied => (StatusCode::FORBIDDEN, "Access to port denied", Some("PORT_DENIED")),
            Refusal::MalformedPort | Refusal::Unsupported => (StatusCode::BAD_REQUEST, "", Some("BAD_REQUEST")),
            Refusal::ForeignCoding => (StatusCode::NOT_IMPLEMENTED, "", Some("BAD_REQUEST")),
            Refusal::AppConnectFailed => (StatusCode::BAD_GATEWAY, "", Some("APP_CONNECT_FAILED")),
            Refusal::MicrovmConnectFailed => (StatusCode::BAD_GATEWAY, "", Some("MICROVM_CONNECT_FAILED")),
            Refusal::BadGateway => (StatusCode::BAD_GATEWAY, "", None),
            Refusal::AgentTooOld => (
                StatusCode::BAD_GATEWAY,
                "The guest agent of this image is too old for a shell: build a new version of the image",
                Some("AGENT_TOO_OLD"),
            ),
            Refusal::ShellFailed => (
                StatusCode::BAD_GATEWAY,
                "The shell could not begin; the server's log says why, and so does a program at /.hearth/exec",
                Some("SHELL_FAILED"),
            ),
            Refusal::TooManySessions => (
                StatusCode::TOO_MANY_REQUESTS,
                "Too many sessions of this microVM: 64 at a time",
                Some("TOO_MANY_SESSIONS"),
            ),
            Refusal::TooManyRequests => {
                (StatusCode::TOO_MANY_REQUESTS, "Too many requests of this microVM", Some("TOO_MANY_REQUESTS"))
            }
            Refusal::ForeignOrigin => {
                (StatusCode::FORBIDDEN, "The Origin of this request is not this endpoint", Some("ORIGIN_DENIED"))
            }
            Refusal::LinkOver => (
                StatusCode::FORBIDDEN,
                "This link has been used or has expired: make a new one with hearth open",
                Some("LINK_OVER"),
            ),
            Refusal::LinkWithoutTls => (
                StatusCode::FORBIDDEN,
                "This link works over https only, because its cookie does: open it at the TLS endpoint",
                Some("LINK_WITHOUT_TLS"),
            ),
            Refusal::LinkMethod => (StatusCode::METHOD_NOT_ALLOWED, "", Some("LINK_METHOD")),
            Refusal::LinkAhead => (StatusCode::SERVICE_UNAVAILABLE, "", Some("LINK_AHEAD")),
        }
    }

    /// The response for the client.
    pub(crate) fn response(self) -> Response<Body> {
        let (status, text, code) = self.parts();
        let body =
            if text.is_empty() { empty() } else { Full::new(Bytes::from(text)).map_err(|e| match e {}).boxed_unsync() };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        if !text.is_empty() {
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        }
        if self == Refusal::ForeignCoding {
            // Where its body ends is in doubt, and so what comes behind it.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(code) = code {
            response.headers_mut().insert(PROXY_ERROR, HeaderValue::from_static(code));
        }
        response
    }
}

impl From<ConnectError> for Refusal {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Refused => Refusal::AppConnectFailed,
            ConnectError::Gone => Refusal::MicrovmConnectFailed,
            ConnectError::Unavailable | ConnectError::Timeout => Refusal::BadGateway,
        }
    }
}

/// A body without bytes.
pub(crate) fn empty() -> Body {
    Empty::new().map_err(|e| match e {}).boxed_unsync()
}
