//! hearth's own route: the history of the caller's microVMs and images. `hearth events` reads it.
//!
//! ```text
//! GET /hearth/v1/events        ?microvm=<id> | ?image=<name or ARN> | everything of the account
//!                              &after=<n> | &before=<n> &limit=<1..=1000> &follow=true
//! GET /hearth/v1/events/usage  ?microvm=<id> | ?image=<name or ARN>
//! ```
//!
//! The former answers newline-delimited JSON ([`Event`]), the newest last: the first ones behind number `after`, else the last
//! ones (before number `before`). `n` is the cursor. With `follow` the answer goes on with each commit.
//!
//! Reading of a microVM asks for `lambda:GetMicrovm` on its image, of an image for `lambda:GetMicrovmImage`, of everything for
//! both on all images.

use std::convert::Infallible;

use api::{AccountId, ApiError, ImageArn, MicrovmId, sigv4::percent};
use bytes::Bytes;
use futures::stream;
use http::{Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Caller, Edge,
    answer::{self, Body, Refusal},
    dispatch::Head,
};
use crate::{
    failure::internal,
    shared::now,
    store::{Event, Scope, Span, Store},
    usage::{self, Usage},
};

/// Where the route lies.
pub(super) const PATH: &str = "/hearth/v1/events";
const USAGE_PATH: &str = "/hearth/v1/events/usage";

/// Rows of an answer when the caller does not say.
const LIMIT: u32 = 100;
/// Most rows of an answer, and of one piece of an answer that goes on.
const LIMIT_MAX: u32 = 1000;

/// Answers one request for events.
pub(super) async fn call(edge: &Edge, head: &Head, caller: Caller) -> Result<Response<Body>, Refusal> {
    let query = Query::read(&head.query)?;
    let desk = Desk { edge, caller };
    match (head.method.as_str(), head.path.as_str()) {
        ("GET", PATH) => desk.events(query).await,
        ("GET", USAGE_PATH) => desk.usage(query).await,
        _ => Err(ApiError::unknown_operation("No operation on events has this method and path").into()),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Query {
    microvm: Option<MicrovmId>,
    image: Option<String>,
    span: Span,
    limit: u32,
    follow: bool,
}

impl Query {
    fn read(text: &str) -> Result<Self, ApiError> {
        let (mut microvm, mut image, mut after, mut before) = (None, None, None, None);
        let (mut limit, mut follow) = (LIMIT, false);
        for (name, value) in percent::query_pairs(text).ok_or_else(ApiError::unparseable)? {
            match name.as_str() {
                "microvm" => microvm = Some(value.parse().map_err(|_| bad(&name, &value, "an id of a microVM"))?),
                "image" => image = Some(value),
                "after" => after = Some(value.parse().map_err(|_| bad(&name, &value, "a whole number"))?),
                "before" => before = Some(value.parse().map_err(|_| bad(&name, &value, "a whole number"))?),
                "limit" => {
                    let bounded = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                    limit = bounded.ok_or_else(|| bad(&name, &value, "1..=1000"))?;
                }
                "follow" => follow = value == "true",
                _ => {}
            }
        }
        if microvm.is_some() && image.is_some() {
            return Err(ApiError::validation("microvm and image are both given; choose one"));
        }
        let span = match (after, before) {
            (Some(_), Some(_)) => return Err(ApiError::validation("after and before are both given; choose one")),
            (None, Some(_)) if follow => {
                return Err(ApiError::validation("before is given with follow, which goes the other way"));
            }
            (Some(after), None) => Span::After(after),
            (None, before) => Span::Before(before.unwrap_or(u64::MAX)),
        };
        Ok(Query { microvm, image, span, limit, follow })
    }
}

fn bad(name: &str, value: &str, bound: &str) -> ApiError {
    let value: String = value.chars().take(64).collect();
    ApiError::validation(format!("{name} is {value:?}, must be {bound}"))
}

/// Serves one caller.
struct Desk<'a> {
    edge: &'a Edge,
    caller: Caller,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Used {
    /// The row until which it is folded.
    n: u64,
    /// The time until which what lasts is counted, milliseconds.
    at: i64,
    usage: Usage,
}

impl Desk<'_> {
    async fn events(self, query: Query) -> Result<Response<Body>, Refusal> {
        let scope = self.scope(&query).await?;
        let (store, account) = (self.edge.store.clone(), self.caller.account);
        // Before the first look, so that nothing is missed between the two.
        let newest = store.newest_event(&account);
        let Query { span, limit, follow, .. } = query;
        let first = store.events(&account, &scope, span, limit).await.map_err(internal)?;
        let reader = Reader { store, account, scope, newest, stop: self.edge.stop.clone(), seen: seen(span, &first) };
        let start = (Some(first), follow.then_some(reader));
        let chunks = stream::unfold(start, |(first, mut reader)| async move {
            let events = match (first, &mut reader) {
                (Some(first), _) => first,
                (None, Some(reader)) => reader.next().await?,
                (None, None) => return None,
            };
            Some((Ok::<_, Infallible>(Frame::data(lines(&events)?)), (None, reader)))
        });
        let body = BodyExt::boxed_unsync(StreamBody::new(chunks).map_err(|never| match never {}));
        let response = Response::builder().header(header::CONTENT_TYPE, "application/x-ndjson");
        response.body(body).map_err(|_| ApiError::internal().into())
    }

    async fn usage(self, query: Query) -> Result<Response<Body>, Refusal> {
        let scope = self.scope(&query).await?;
        let at = now();
        let used = usage::of(&self.edge.store, &self.caller.account, &scope, at).await.map_err(internal)?;
        let words = "usage is of one microVM or image: name it with microvm or image";
        let (usage, n) = used.ok_or_else(|| ApiError::validation(words))?;
        Ok(answer::json(200, serde_json::to_vec(&Used { n, at, usage }).map_err(internal)?))
    }

    /// What is asked for, if the caller may read it and it is or was there.
    async fn scope(&self, query: &Query) -> Result<Scope, ApiError> {
        let (store, caller) = (&self.edge.store, &self.caller);
        let region = &self.edge.region;
        let all = format!("arn:{}:lambda:{region}:{}:microvm-image:*", region.partition(), caller.account);
        if let Some(id) = query.microvm {
            let record = store.microvm(id).await.map_err(internal)?;
            // Who may not see all microVMs is not told that there is no such one.
            let Some(record) = record.filter(|record| record.account == caller.account) else {
                caller.authorize("lambda:GetMicrovm", all)?;
                return Err(ApiError::microvm_not_found(id));
            };
            caller.authorize("lambda:GetMicrovm", &record.image_arn)?;
            return Ok(Scope::Microvm(id));
        }
        let Some(image) = &query.image else {
            caller.authorize("lambda:GetMicrovm", &all)?;
            caller.authorize("lambda:GetMicrovmImage", all)?;
            return Ok(Scope::All);
        };
        let wrong = || bad("image", image, "a name or an ARN of an image");
        let arn = match image.starts_with("arn:") {
            true => image.parse().map_err(|_| wrong())?,
            false => ImageArn::new(region.clone(), caller.account.clone(), image.parse().map_err(|_| wrong())?),
        };
        caller.authorize("lambda:GetMicrovmImage", &arn)?;
        let scope = Scope::Image(arn.clone());
        let one = store.events(&caller.account, &scope, Span::After(0), 1).await.map_err(internal)?;
        if one.is_empty() { Err(ApiError::image_not_found(&arn)) } else { Ok(scope) }
    }
}

/// The number behind which an answer goes on.
fn seen(span: Span, first: &[Event]) -> u64 {
    match (first.last(), span) {
        (Some(last), _) => last.n,
        (None, Span::After(n)) => n,
        (None, Span::Before(_)) => 0,
    }
}

/// Goes on with an answer. Between two pieces it holds nothing but its place: whoever reads slowly holds up nobody.
struct Reader {
    store: Store,
    account: AccountId,
    scope: Scope,
    newest: watch::Receiver<u64>,
    stop: CancellationToken,
    seen: u64,
}

impl Reader {
    /// The next rows, once there are some; `None` when the server ends.
    async fn next(&mut self) -> Option<Vec<Event>> {
        loop {
            let newest = *self.newest.borrow_and_update();
            let events = self.store.events(&self.account, &self.scope, Span::After(self.seen), LIMIT_MAX).await;
            let events = events.inspect_err(|error| tracing::error!(%error, "events cannot be read")).ok()?;
            if let Some(last) = events.last() {
                self.seen = last.n;
                return Some(events);
            }
            tokio::select! {
                more = self.newest.wait_for(|n| *n > newest) => drop(more.ok()?),
                () = self.stop.cancelled() => return None,
            }
        }
    }
}

fn lines(events: &[Event]) -> Option<Bytes> {
    let mut out = Vec::new();
    for event in events {
        serde_json::to_writer(&mut out, event).ok()?;
        out.push(b'\n');
    }
    Some(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_bounded() {
        let read = |text: &str| Query::read(text);
        let query = read("").expect("read");
        assert_eq!((query.span, query.limit, query.follow), (Span::Before(u64::MAX), 100, false));
        let query = read("image=demo&after=7&limit=1000&follow=true&other=1").expect("read");
        assert_eq!((query.image.as_deref(), query.span), (Some("demo"), Span::After(7)));
        assert_eq!((query.limit, query.follow), (1000, true));
        assert_eq!(read("before=9").expect("read").span, Span::Before(9));
        for (wrong, words) in [
            ("limit=0", "limit is \"0\", must be 1..=1000"),
            ("limit=1001", "1..=1000"),
            ("after=-1", "after is \"-1\", must be a whole number"),
            ("before=x", "whole number"),
            ("microvm=demo", "an id of a microVM"),
            ("after=1&before=2", "choose one"),
            ("before=2&follow=true", "the other way"),
            ("image=a&microvm=microvm-00000000-0000-4000-8000-000000000000", "choose one"),
        ] {
            let error = read(wrong).expect_err("refused");
            assert!(error.message().is_some_and(|said| said.contains(words)), "{wrong}: {error:?}");
        }
    }
}
