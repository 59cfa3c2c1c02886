//! Lifecycle hooks: HTTP POSTs to the application, made over the agent's channel so that they come from `127.0.0.1` in the
//! guest (spec 4.3, 5.5).

use std::time::Duration;

use bytes::Bytes;
use engine::agent::{Agent, AgentError};
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;

/// How long an application that does not listen yet, or says 503, is left alone.
const AGAIN: Duration = Duration::from_millis(50);
/// And at most, when it goes on like that.
const AGAIN_AT_MOST: Duration = Duration::from_millis(500);
/// Bytes of a hook's answer that are read; nobody looks at them.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// One of the six hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before the snapshot.
    Ready,
    /// On a throw-away copy of the snapshot.
    Validate,
    /// Once after the start.
    Run,
    /// Before each suspend.
    Suspend,
    /// After each resume.
    Resume,
    /// Before the end.
    Terminate,
}

impl Hook {
    /// As in the path.
    pub fn name(self) -> &'static str {
        match self {
            Hook::Ready => "ready",
            Hook::Validate => "validate",
            Hook::Run => "run",
            Hook::Suspend => "suspend",
            Hook::Resume => "resume",
            Hook::Terminate => "terminate",
        }
    }

    /// As in a sentence.
    pub fn title(self) -> &'static str {
        match self {
            Hook::Ready => "Ready",
            Hook::Validate => "Validate",
            Hook::Run => "Run",
            Hook::Suspend => "Suspend",
            Hook::Resume => "Resume",
            Hook::Terminate => "Terminate",
        }
    }
}

/// Where hooks of an image are called.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The guest.
    pub agent: &'a Agent,
    /// `hooks.port`.
    pub port: u16,
}

/// Why a hook did not end well.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// Nothing listens on the port.
    #[error("nothing listens on port {0}")]
    Refused(u16),
    /// It did not answer 200.
    #[error("it answered HTTP status {0}")]
    Status(u16),
    /// It did not answer in time.
    #[error("it did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// Calls a hook once; `Ok` is a 200 within the time.
pub async fn call(target: Target<'_>, hook: Hook, body: Option<String>, within: Duration) -> Result<(), HookError> {
    match tokio::time::timeout(within, post(target, hook, body)).await {
        Err(_) => Err(HookError::Timeout(within)),
        Ok(Err(e)) => Err(e),
        Ok(Ok(200)) => Ok(()),
        Ok(Ok(status)) => Err(HookError::Status(status)),
    }
}

/// Calls a build hook until it answers 200; an application that does not listen yet or answers 503 is asked again, any
/// other answer is final (spec 4.3).
pub async fn poll(target: Target<'_>, hook: Hook, within: Duration) -> Result<(), HookError> {
    let attempts = async {
        let mut pause = AGAIN;
        loop {
            match post(target, hook, None).await {
                Ok(200) => return Ok(()),
                Ok(503) | Err(HookError::Refused(_) | HookError::Broken(_)) => {}
                Ok(status) => return Err(HookError::Status(status)),
                Err(other) => return Err(other),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN_AT_MOST);
        }
    };
    tokio::time::timeout(within, attempts).await.unwrap_or(Err(HookError::Timeout(within)))
}

async fn post(target: Target<'_>, hook: Hook, body: Option<String>) -> Result<u16, HookError> {
    let Target { agent, port } = target;
    let stream = agent.dial(port).await.map_err(|e| match e {
        AgentError::Refused { .. } => HookError::Refused(port),
        other => HookError::Broken(other.to_string()),
    })?;
    let broken = |e: hyper::Error| HookError::Broken(e.to_string());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.map_err(broken)?;
    let mut request = Request::post(format!("/aws/lambda-microvms/runtime/v1/{}", hook.name()))
        .header(header::HOST, format!("localhost:{port}"))
        .header(header::CONNECTION, "close");
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let request = request
        .body(Full::from(body.unwrap_or_default()))
        .map_err(|e| HookError::Broken(format!("the request cannot be made: {e}")))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status().as_u16();
        // Read the (bounded) answer, so that the application sees its connection end as it should.
        let _ = http_body_util::Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        Ok(status)
    };
    tokio::select! {
        answer = exchange => answer,
        never = async { let _ = connection.await; std::future::pending().await } => never,
    }
}

/// A duration as ISO 8601 writes it, as the service's messages do: `PT5M`, `PT30S`, `PT1M30S`.
pub fn iso8601(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let part = |value: u64, unit: char| if value == 0 { String::new() } else { format!("{value}{unit}") };
    match (part(hours, 'H'), part(minutes, 'M'), part(rest, 'S')) {
        (h, m, s) if h.is_empty() && m.is_empty() && s.is_empty() => "PT0S".into(),
        (h, m, s) => format!("PT{h}{m}{s}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_the_service_writes_them() {
        for (seconds, text) in [(300, "PT5M"), (30, "PT30S"), (90, "PT1M30S"), (3600, "PT1H"), (0, "PT0S")] {
            assert_eq!(iso8601(Duration::from_secs(seconds)), text);
        }
    }
}
