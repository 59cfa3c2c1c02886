//! A client of a running server over its public API: what any AWS client does, plus finding the server by its data
//! directory.

mod access;
mod connection;
mod endpoint;
pub mod events;
mod keys;
pub mod log;
mod names;
mod ndjson;
mod ready;
mod session;
mod wait;

use std::{
    fmt,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use api::{
    AccountId, Input, Region, Sensitive,
    request::encode,
    sigv4::{Signer, Unsigned},
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use access::HostName;
pub use connection::{Connection, trust};
pub use endpoint::{Call, Endpoint};
pub use keys::AccessKey;
pub use ready::{Key, Ready};
pub use session::{Ear, Heard, Mouth, Session};
pub use wait::{POLL, wait_for};

/// Longest wait for the head of an answer of the API; no operation blocks that long.
const CALL_LIMIT: Duration = Duration::from_secs(60);
/// Longest answer of the API, bytes: a page of 50 items is far below.
const MAX_ANSWER: usize = 16 << 20;

/// A server and the key to it.
#[derive(Debug, Clone)]
pub struct Client {
    ready: Ready,
    access_key_id: String,
    secret: Sensitive<String>,
    region: Region,
    account: AccountId,
}

/// The service said no.
#[derive(Debug)]
pub struct Refusal {
    /// HTTP status.
    pub status: StatusCode,
    /// Such as `ResourceNotFoundException`; empty when the answer does not say.
    pub error_type: String,
    /// The service's words.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.message.is_empty(), self.error_type.is_empty()) {
            (false, _) => f.write_str(self.message.trim_end_matches('.')),
            (true, false) => f.write_str(&self.error_type),
            (true, true) => write!(f, "the server answered {}", self.status),
        }
    }
}

impl std::error::Error for Refusal {}

/// What is sent beside method and target of a request.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// The service in the signature's scope: `lambda`, `s3`.
    pub service: &'static str,
    /// `GET`, `POST`, ...
    pub method: &'static str,
    /// Percent-encoded path.
    pub path: &'a str,
    /// Percent-encoded query without `?`.
    pub query: &'a str,
}

/// An answer whose body may still be read. Dropping it closes the connection.
pub struct Answer {
    /// Head and body.
    pub response: Response<Incoming>,
    connection: Connection,
}

impl Client {
    /// The client of the server that runs with this data directory.
    ///
    /// # Errors
    /// When none runs, or its key cannot be read; the message says how to mend it.
    pub async fn open(data_dir: &Path) -> Result<Client> {
        let shown = data_dir.display();
        let Some(ready) = Ready::live(data_dir).await? else {
            bail!("no server runs with the data directory {shown}; start one with `hearth serve --data-dir {shown}`");
        };
        let key = ready::Key::read(data_dir)?;
        let region = ready.region.parse().with_context(|| format!("region in {shown}/run/ready.json"))?;
        let account = ready.account.parse().with_context(|| format!("account in {shown}/run/ready.json"))?;
        Ok(Client { ready, access_key_id: key.access_key_id, secret: key.secret, region, account })
    }

    /// What the server told about itself.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The server's only region.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The account of the key.
    pub fn account(&self) -> &AccountId {
        &self.account
    }

    /// One operation of `lambda-microvms`, on a connection of its own.
    ///
    /// # Errors
    /// [`Refusal`] when the service refuses, checked on this side first; others when there is no answer.
    pub async fn call<I: Input>(&self, input: &I) -> Result<I::Output> {
        let operation = I::OPERATION;
        if let Err(error) = input.check() {
            let message = error.message().unwrap_or_default().to_owned();
            let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
            return Err(Refusal { status, error_type: error.error_type().to_owned(), message }.into());
        }
        let encoded = encode(input).with_context(|| format!("write {operation}"))?;
        let route = operation.route();
        let signed = Signed { service: "lambda", method: route.method, path: &encoded.path, query: &encoded.query };
        let answer = self.send(signed, encoded.body.into()).await?;
        let body = answer.success().await?;
        serde_json::from_slice(&body).with_context(|| format!("the answer of {operation} is not what its model says"))
    }

    /// One call of a route of hearth's own; `null` is no body.
    async fn own_call<T: DeserializeOwned>(&self, method: &'static str, path: &str, body: Value) -> Result<T> {
        let signed = Signed { service: "lambda", method, path, query: "" };
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let answer = self.send(signed, body).await?.success().await?;
        serde_json::from_slice(&answer)
            .with_context(|| format!("the server's answer to {method} {path} cannot be read"))
    }

    /// Any signed request. The status of the answer is not looked at, but that one which is too fast is sent again when the
    /// server says so, for a minute at most.
    pub async fn send(&self, signed: Signed<'_>, body: Bytes) -> Result<Answer> {
        let start = Instant::now();
        loop {
            let answer = self.send_once(signed, body.clone()).await?;
            match answer.retry_after() {
                Some(pause) if start.elapsed() + pause < CALL_LIMIT => tokio::time::sleep(pause).await,
                _ => return Ok(answer),
            }
        }
    }

    async fn send_once(&self, signed: Signed<'_>, body: Bytes) -> Result<Answer> {
        let host = self.ready.api.authority();
        let unsigned =
            Unsigned { method: signed.method, host: &host, path: signed.path, query: signed.query, body: &body };
        let signer = Signer {
            access_key_id: &self.access_key_id,
            secret: &self.secret,
            session_token: None,
            region: self.region.as_str(),
            service: signed.service,
        };
        let now = jiff::Timestamp::now().as_second();
        let target =
            if signed.query.is_empty() { signed.path.to_owned() } else { format!("{}?{}", signed.path, signed.query) };
        let mut request = Request::builder().method(signed.method).uri(target).header("host", &host);
        if !body.is_empty() && signed.service == "lambda" {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in signer.sign(&unsigned, now) {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body)).context("write the request")?;
        let mut connection = self.connect().await?;
        let sent = tokio::time::timeout(CALL_LIMIT, connection.send(request)).await;
        let response = sent.map_err(|_| anyhow::anyhow!("no answer from {host} in {} s", CALL_LIMIT.as_secs()))??;
        Ok(Answer { response, connection })
    }

    async fn connect(&self) -> Result<Connection> {
        let api = &self.ready.api;
        let tls = match api.tls {
            true => Some((trust(&self.ready.ca_bundle)?, api.host.clone())),
            false => None,
        };
        Connection::open(&api.host, api.port, tls).await
    }
}

impl Answer {
    /// How long to wait before the same request is sent again, when that was all that was wrong with it.
    fn retry_after(&self) -> Option<Duration> {
        let head = &self.response;
        let seconds = head.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        (head.status() == StatusCode::TOO_MANY_REQUESTS).then_some(Duration::from_secs(seconds.unwrap_or(1)))
    }

    /// The whole body of a 2xx answer; any other is a [`Refusal`].
    pub async fn success(self) -> Result<Bytes> {
        let Answer { response, connection: _connection } = self;
        let (head, body) = response.into_parts();
        let limited = tokio::time::timeout(CALL_LIMIT, Limited::new(body, MAX_ANSWER).collect()).await;
        let collected = limited.context("the answer did not end in time")?;
        let body = collected.map_err(|error| anyhow::anyhow!("read the answer: {error}"))?.to_bytes();
        if head.status.is_success() {
            return Ok(body);
        }
        let header = head.headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
        let (mut error_type, message) = reason(&body);
        if let Some(header) = header {
            error_type = header.split(':').next().unwrap_or_default().to_owned();
        }
        Err(Refusal { status: head.status, error_type, message }.into())
    }
}

/// Error type and message of an error's body: JSON of the Lambda services, XML of S3.
fn reason(body: &[u8]) -> (String, String) {
    if let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) {
        let text = |name: &str| json[name].as_str().map(str::to_owned);
        return (String::new(), text("message").or_else(|| text("Message")).unwrap_or_default());
    }
    let xml = String::from_utf8_lossy(body);
    let element = |name: &str| {
        let (_, rest) = xml.split_once(&format!("<{name}>"))?;
        Some(rest.split_once("</")?.0.to_owned())
    };
    (element("Code").unwrap_or_default(), element("Message").unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_both_protocols() {
        assert_eq!(reason(br#"{"message":"no such thing"}"#).1, "no such thing");
        assert_eq!(reason(br#"{"Message":"Expected null"}"#).1, "Expected null");
        assert_eq!(reason(br#"{"message":null}"#), (String::new(), String::new()));
        let xml = b"<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>gone</Message></Error>";
        assert_eq!(reason(xml), ("NoSuchBucket".to_owned(), "gone".to_owned()));
        assert_eq!(reason(b"\xff<html>"), (String::new(), String::new()));
    }

    #[test]
    fn a_refusal_always_says_something() {
        let refusal = |error_type: &str, message: &str| Refusal {
            status: StatusCode::BAD_GATEWAY,
            error_type: error_type.into(),
            message: message.into(),
        };
        assert_eq!(refusal("T", "Words.").to_string(), "Words");
        assert_eq!(refusal("T", "").to_string(), "T");
        assert_eq!(refusal("", "").to_string(), "the server answered 502 Bad Gateway");
    }
}
