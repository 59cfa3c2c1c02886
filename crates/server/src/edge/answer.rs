//! Answers and errors become HTTP here, and nowhere else.

use api::{ApiError, ErrorKind, sigv4::SignatureError};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use uuid::Uuid;

/// The body of every answer.
pub(super) type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const JSON_1_1: &str = "application/x-amz-json-1.1";
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// How a service spells its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// `lambda`: the error's name in a header.
    RestJson,
    /// `logs`: the error's name in the body.
    Json,
    /// `sts`: XML.
    Query,
}

/// Why a request is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Signature(#[from] SignatureError),
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("Could not find operation {0} for version 2011-06-15")]
    UnknownAction(String),
}

impl Refusal {
    fn status(&self) -> u16 {
        match self {
            Refusal::Signature(error) => error.status(),
            Refusal::Api(error) => error.status(),
            Refusal::UnknownAction(_) => 400,
        }
    }

    fn error_type(&self) -> &'static str {
        match self {
            Refusal::Signature(error) => error.error_type(),
            Refusal::Api(error) => error.error_type(),
            Refusal::UnknownAction(_) => "InvalidAction",
        }
    }

    /// The names of the query protocol are older.
    fn query_code(&self) -> &'static str {
        match self {
            Refusal::Signature(SignatureError::Missing) => "MissingAuthenticationToken",
            Refusal::Signature(SignatureError::Incomplete(_)) => "IncompleteSignature",
            Refusal::Signature(SignatureError::UnknownKey) => "InvalidClientTokenId",
            Refusal::Signature(SignatureError::Expired) => "ExpiredToken",
            Refusal::Signature(SignatureError::Invalid(_)) => "SignatureDoesNotMatch",
            Refusal::Api(error) if error.kind() == ErrorKind::InternalServer => "InternalFailure",
            Refusal::Api(error) if error.kind() == ErrorKind::UnknownOperation => "InvalidAction",
            Refusal::Api(error) if error.kind() == ErrorKind::AccessDenied => "AccessDenied",
            Refusal::Api(_) => "ValidationError",
            Refusal::UnknownAction(_) => "InvalidAction",
        }
    }

    fn message(&self) -> Option<String> {
        match self {
            Refusal::Api(error) => error.message().map(str::to_owned),
            other => Some(other.to_string()),
        }
    }
}

/// Success with a JSON body; 204 has none.
pub(super) fn json(status: u16, body: Vec<u8>) -> Response<Body> {
    if status == 204 {
        let mut answer = response(status, "application/json", Vec::new());
        answer.headers_mut().remove(header::CONTENT_TYPE);
        return answer;
    }
    response(status, "application/json", body)
}

/// Success with a JSON body, as `logs` spells it.
pub(super) fn json_1_1(body: Vec<u8>) -> Response<Body> {
    response(200, JSON_1_1, body)
}

/// An XML body.
pub(super) fn xml(status: u16, body: String) -> Response<Body> {
    response(status, "text/xml", body.into_bytes())
}

/// A refusal, as the service spells it.
pub(super) fn refusal(protocol: Protocol, id: Uuid, refusal: &Refusal) -> Response<Body> {
    let mut answer = match protocol {
        Protocol::RestJson => rest_json(refusal),
        Protocol::Json => {
            let body = serde_json::json!({"__type": refusal.error_type(), "message": refusal.message()});
            // This protocol answers every fault of the caller with 400.
            let status = if refusal.status() < 500 { 400 } else { refusal.status() };
            response(status, JSON_1_1, body.to_string().into_bytes())
        }
        Protocol::Query => query(id, refusal),
    };
    if let Refusal::Api(error) = refusal
        && let Some(seconds) = error.retry_after_seconds()
    {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

fn rest_json(refusal: &Refusal) -> Response<Body> {
    let body = match refusal {
        Refusal::Api(error) => error.body(),
        other => serde_json::json!({"message": other.message()}),
    };
    let mut answer = response(refusal.status(), "application/json", body.to_string().into_bytes());
    answer.headers_mut().insert(ERROR_TYPE, HeaderValue::from_static(refusal.error_type()));
    answer
}

fn query(id: Uuid, refusal: &Refusal) -> Response<Body> {
    let fault = if refusal.status() < 500 { "Sender" } else { "Receiver" };
    let (code, message) = (refusal.query_code(), escape(&refusal.message().unwrap_or_default()));
    xml(
        refusal.status(),
        format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>{fault}</Type>\
             <Code>{code}</Code><Message>{message}</Message></Error><RequestId>{id}</RequestId></ErrorResponse>"
        ),
    )
}

/// Text for XML; control characters, which XML cannot hold, become spaces.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Boxes a body of another kind.
pub(super) fn boxed<B>(response: Response<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    response.map(|body| body.map_err(Into::into).boxed_unsync())
}

/// Adds the id of the request.
pub(super) fn with_request_id(mut response: Response<Body>, id: Uuid) -> Response<Body> {
    let value = HeaderValue::from_str(&id.to_string()).expect("a UUID is a header value");
    response.headers_mut().insert(REQUEST_ID, value);
    response
}

fn response(status: u16, content_type: &'static str, body: Vec<u8>) -> Response<Body> {
    let mut answer = boxed(Response::new(Full::new(Bytes::from(body))));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_spells_a_refusal_its_own_way() {
        let unknown = Refusal::Signature(SignatureError::UnknownKey);
        let id = Uuid::nil();
        let rest = refusal(Protocol::RestJson, id, &unknown);
        assert_eq!(
            (rest.status().as_u16(), &rest.headers()["x-amzn-errortype"]),
            (403, &HeaderValue::from_static("UnrecognizedClientException"))
        );
        let json = refusal(Protocol::Json, id, &unknown);
        assert_eq!(json.status(), 400);
        let query = refusal(Protocol::Query, id, &unknown);
        assert_eq!(
            (query.status().as_u16(), &query.headers()["content-type"]),
            (403, &HeaderValue::from_static("text/xml"))
        );
        let slow = refusal(Protocol::RestJson, id, &ApiError::throttled(api::operations::Family::Microvms, 2).into());
        assert_eq!((slow.status().as_u16(), &slow.headers()["retry-after"]), (429, &HeaderValue::from_static("2")));
    }

    #[test]
    fn xml_is_escaped() {
        assert_eq!(escape("<a b=\"&\">\n"), "&lt;a b=&quot;&amp;&quot;&gt; ");
    }
}
