//! hearth's own route: log lines of the caller's account, streamed while they come. `hearth logs` reads it.
//!
//! `GET /hearth/v1/logs?group=<group>&stream=<prefix>&after=<n>&follow=true` answers newline-delimited JSON
//! `{"n":<number>,"t":<epoch ms>,"m":"<line>","s":"<stream>"}`: by stream, then number. `after` applies to every stream.

use std::{convert::Infallible, sync::Arc};

use api::{AccountId, ApiError, sigv4::percent};
use bytes::Bytes;
use futures::stream;
use http::{Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{
    Caller, Edge,
    answer::{Body, Refusal},
    dispatch::Head,
    logs,
};
use crate::logs::{Cursor, Logs};

/// Where the route lies.
pub(super) const PATH: &str = "/hearth/v1/logs";

/// Answers one request for log lines.
pub(super) async fn call(edge: &Edge, head: &Head, caller: Caller) -> Result<Response<Body>, Refusal> {
    let query = Query::read(&head.query)?;
    logs::authorize(&caller, &edge.region, "logs:FilterLogEvents", &query.group, "")?;
    let (logs, stop) = (edge.logs.clone(), edge.stop.clone());
    let reader = Reader { logs, account: caller.account, query, cursor: Cursor::default(), stop };
    let lines = stream::unfold(reader, |mut reader| async move {
        let chunk = reader.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(chunk)), reader))
    });
    let body = BodyExt::boxed_unsync(StreamBody::new(lines).map_err(|never| match never {}));
    Response::builder()
        .header(header::CONTENT_TYPE, "application/x-ndjson")
        .body(body)
        .map_err(|_| ApiError::internal().into())
}

struct Query {
    group: String,
    prefix: String,
    after: u64,
    follow: bool,
}

impl Query {
    fn read(text: &str) -> Result<Self, ApiError> {
        let mut query = Query { group: String::new(), prefix: String::new(), after: 0, follow: false };
        for (name, value) in percent::query_pairs(text).ok_or_else(ApiError::unparseable)? {
            match name.as_str() {
                "group" => query.group = value,
                "stream" => query.prefix = value,
                "after" => {
                    let bad = || ApiError::validation(format!("after is {value:?}, must be a whole number"));
                    query.after = value.parse().map_err(|_| bad())?;
                }
                "follow" => query.follow = value == "true",
                _ => {}
            }
        }
        if query.group.is_empty() {
            return Err(ApiError::validation(
                "group is missing: name a log group such as /aws/lambda-microvms/<image>",
            ));
        }
        Ok(query)
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    n: u64,
    t: i64,
    m: &'a str,
    s: &'a str,
}

struct Reader {
    logs: Arc<Logs>,
    account: AccountId,
    query: Query,
    cursor: Cursor,
    stop: CancellationToken,
}

impl Reader {
    /// The next lines as bytes; waits for them when following, ends otherwise.
    async fn next(&mut self) -> Option<Bytes> {
        let mut changes = self.logs.changes();
        loop {
            changes.mark_unchanged();
            let (logs, account) = (self.logs.clone(), self.account.clone());
            let (group, prefix) = (self.query.group.clone(), self.query.prefix.clone());
            let mut cursor = std::mem::take(&mut self.cursor);
            let read = move || logs.read(&account, &group, &prefix, &mut cursor).map(|lines| (lines, cursor));
            let lines = match tokio::task::spawn_blocking(read).await.ok()? {
                Ok((lines, cursor)) => {
                    self.cursor = cursor;
                    lines
                }
                Err(error) => {
                    tracing::error!(%error, "a log cannot be read");
                    return None;
                }
            };
            let mut out = Vec::new();
            for (stream, line) in &lines {
                if line.n > self.query.after {
                    serde_json::to_writer(&mut out, &Shown { n: line.n, t: line.t, m: &line.m, s: stream }).ok()?;
                    out.push(b'\n');
                }
            }
            if !out.is_empty() {
                return Some(out.into());
            }
            // All that came was before `after`: there may be more behind it.
            if !lines.is_empty() {
                continue;
            }
            if !self.query.follow {
                return None;
            }
            tokio::select! {
                changed = changes.changed() => changed.ok()?,
                () = self.stop.cancelled() => return None,
            }
        }
    }
}
