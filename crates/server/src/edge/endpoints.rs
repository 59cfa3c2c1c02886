//! hearth's own routes about who may reach a microVM, signed for `lambda`.
//!
//! ```text
//! POST   /hearth/v1/microvms/<id>/tokens/revoke                           hearth:RevokeMicrovmTokens
//! POST   /hearth/v1/microvms/<id>/browser-link  {"port"?, "minutes"?}     lambda:CreateMicrovmAuthToken
//! GET    /hearth/v1/microvms/<id>/public-port                             hearth:GetMicrovmPublicPort
//! PUT    /hearth/v1/microvms/<id>/public-port   {"port"}                  hearth:PutMicrovmPublicPort
//! DELETE /hearth/v1/microvms/<id>/public-port                             hearth:DeleteMicrovmPublicPort
//! ```
//!
//! The actions are asked for on the microVM's image, as those of the API's operations on microVMs are.

use std::{num::NonZeroU16, sync::Arc};

use api::{ApiError, MicrovmId, Sensitive, sigv4::percent};
use async_trait::async_trait;
use bytes::Bytes;
use http::Response;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use super::{
    Caller, Edge,
    answer::{self, Body, Refusal},
    dispatch::Head,
    names::Target,
};
use crate::{failure::internal, store::NameRecord};

/// Where the routes lie.
pub(super) const PATH: &str = "/hearth/v1/microvms/";

/// Does the work of these routes, and of those in `names.rs`. A method asks for the caller's permission first, unless it says
/// otherwise.
#[async_trait]
pub trait Endpoints: Send + Sync {
    /// No token of that microVM minted so far opens anything when this returns, nor ever again.
    async fn revoke_tokens(&self, caller: &Caller, id: MicrovmId) -> Result<(), ApiError>;

    /// The address of a one-time link; a secret.
    async fn browser_link(&self, caller: &Caller, id: MicrovmId, link: Link) -> Result<Sensitive<String>, ApiError>;

    /// The port that anybody may reach.
    async fn public_port(&self, caller: &Caller, id: MicrovmId) -> Result<Option<u16>, ApiError>;

    /// Lets anybody reach that port, and no other, until the microVM ends.
    async fn open_port(&self, caller: &Caller, id: MicrovmId, port: NonZeroU16) -> Result<(), ApiError>;

    /// Lets nobody in without a token any more.
    async fn close_port(&self, caller: &Caller, id: MicrovmId) -> Result<(), ApiError>;

    /// Leads a custom host name to a microVM. That the caller may have the name has been seen to; whether it may do so to the
    /// microVM has not.
    async fn put_name(&self, caller: &Caller, host: &str, target: Target) -> Result<Arc<NameRecord>, ApiError>;

    /// The names of the caller's account, sorted; that it may see them has been seen to.
    fn names(&self, caller: &Caller) -> Vec<Arc<NameRecord>>;

    /// Forgets a name; that the caller may has been seen to.
    async fn delete_name(&self, caller: &Caller, host: &str) -> Result<(), ApiError>;
}

/// What a browser's link is to lead to.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Link {
    /// The port of the application; 8080 unless given.
    pub port: NonZeroU16,
    /// Life of the cookie, minutes; 60 unless given.
    pub minutes: u32,
}

impl Default for Link {
    fn default() -> Self {
        Link { port: NonZeroU16::new(8080).expect("8080 is not 0"), minutes: 60 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicPort {
    port: NonZeroU16,
}

/// Answers one request.
pub(super) async fn call(
    edge: &Edge,
    tasks: &TaskTracker,
    head: &Head,
    caller: Caller,
    body: Bytes,
) -> Result<Response<Body>, Refusal> {
    let (id, verb) = Verb::find(&head.method, &head.path)?;
    let endpoints = edge.endpoints.clone();
    let work = async move {
        let answer: Value = match verb {
            Verb::Revoke => endpoints.revoke_tokens(&caller, id).await.map(|()| json!({}))?,
            Verb::Link => {
                let link = if body.is_empty() { Link::default() } else { parse(&body)? };
                json!({ "url": endpoints.browser_link(&caller, id, link).await? })
            }
            Verb::PublicPort => json!({ "port": endpoints.public_port(&caller, id).await? }),
            Verb::OpenPort => {
                let PublicPort { port } = parse(&body)?;
                endpoints.open_port(&caller, id, port).await?;
                json!({ "port": port })
            }
            Verb::ClosePort => {
                endpoints.close_port(&caller, id).await?;
                json!({ "port": null })
            }
        };
        serde_json::to_vec(&answer).map_err(internal)
    };
    // In a task of its own: a change of the store must reach the copy in memory even if the client goes away.
    match tasks.spawn(work).await {
        Ok(outcome) => Ok(answer::json(200, outcome?)),
        Err(error) => Err(internal(error).into()),
    }
}

/// What is asked of a microVM.
#[derive(Debug, PartialEq, Eq)]
enum Verb {
    Revoke,
    Link,
    PublicPort,
    OpenPort,
    ClosePort,
}

impl Verb {
    fn find(method: &str, path: &str) -> Result<(MicrovmId, Self), ApiError> {
        let unknown = || ApiError::unknown_operation("No operation on endpoints has this method and path");
        let (id, rest) = path.strip_prefix(PATH).and_then(|rest| rest.split_once('/')).ok_or_else(unknown)?;
        let verb = match (method, rest) {
            ("POST", "tokens/revoke") => Verb::Revoke,
            ("POST", "browser-link") => Verb::Link,
            ("GET", "public-port") => Verb::PublicPort,
            ("PUT", "public-port") => Verb::OpenPort,
            ("DELETE", "public-port") => Verb::ClosePort,
            _ => return Err(unknown()),
        };
        let id = percent::decode(id).unwrap_or_default();
        let wrong = |_| {
            let shown: String = id.chars().take(64).collect();
            ApiError::validation(format!("microVM is {shown:?}, must be an id such as microvm-<uuid>"))
        };
        Ok((id.parse().map_err(wrong)?, verb))
    }
}

/// The body of a request of hearth's own routes.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::validation(format!("the request's body: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "microvm-00000000-0000-4000-8000-000000000000";

    #[test]
    fn routes() {
        let find = |method: &str, rest: &str| Verb::find(method, &format!("{PATH}{ID}{rest}"));
        assert_eq!(find("POST", "/tokens/revoke").expect("found"), (ID.parse().expect("id"), Verb::Revoke));
        for (method, rest) in
            [("GET", "/tokens/revoke"), ("POST", "/tokens"), ("POST", ""), ("POST", "/tokens/revoke/")]
        {
            assert_eq!(find(method, rest).expect_err("unknown").status(), 404, "{method} {rest}");
        }
        let error = Verb::find("POST", &format!("{PATH}x%2Fy/tokens/revoke")).expect_err("no id");
        assert_eq!(
            (error.status(), error.message()),
            (400, Some("microVM is \"x/y\", must be an id such as microvm-<uuid>"))
        );
    }
}
