//! hearth's own route for access keys, `/hearth/v1/keys`, signed for `lambda`. `hearth keys` speaks it.
//!
//! ```text
//! POST   /hearth/v1/keys              {"user", "account"?, "policy"?}     hearth:CreateKey
//! GET    /hearth/v1/keys                                                  hearth:ListKeys
//! DELETE /hearth/v1/keys/<id>                                             hearth:DeleteKey
//! POST   /hearth/v1/keys/<id>/enable                                      hearth:EnableKey
//! POST   /hearth/v1/keys/<id>/disable                                     hearth:DisableKey
//! POST   /hearth/v1/keys/<id>/rotate  {"keepOld"?}                        hearth:RotateKey
//! PUT    /hearth/v1/keys/<id>/policy  {"policy"}                          hearth:PutKeyPolicy
//! ```
//!
//! Root of the configured account may do all of it, to the keys of every account. A user may do to keys of its own account
//! what its policy allows, on the ARN of the user that the key is of. Nobody may with a temporary key.

use std::sync::Arc;

use api::{AccountId, ApiError, ErrorKind, Sensitive, Timestamp, sigv4::percent};
use bytes::Bytes;
use http::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::task::TaskTracker;

use super::{
    Caller, Edge, User,
    answer::{self, Body, Refusal},
    dispatch::Head,
    endpoints::parse,
    identity::arn,
};
use crate::{
    failure::internal,
    keys::{AccessKeys, Key, KeyError, NewKey},
};

/// Where the route lies.
pub(super) const PATH: &str = "/hearth/v1/keys";

/// Answers one request about keys.
pub(super) async fn call(
    edge: &Edge,
    tasks: &TaskTracker,
    head: &Head,
    caller: Caller,
    body: Bytes,
) -> Result<Response<Body>, Refusal> {
    let verb = Verb::find(&head.method, &head.path)?;
    let desk = Desk { access: edge.access.clone(), caller };
    // In a task of its own: a change of the store must reach the copy in memory even if the client goes away.
    match tasks.spawn(async move { desk.perform(verb, &body).await }).await {
        Ok(outcome) => Ok(answer::json(200, outcome?)),
        Err(error) => Err(internal(error).into()),
    }
}

/// What is asked; the text is the key's id.
#[derive(Debug, PartialEq, Eq)]
enum Verb {
    Create,
    List,
    Delete(String),
    Enable(String),
    Disable(String),
    Rotate(String),
    Policy(String),
}

impl Verb {
    fn find(method: &str, path: &str) -> Result<Self, ApiError> {
        let rest = path.strip_prefix(PATH).filter(|rest| rest.is_empty() || rest.starts_with('/')).unwrap_or("/");
        let mut parts = rest.split('/').skip(1).map(|part| percent::decode(part).unwrap_or_default());
        let verb = match (method, parts.next(), parts.next().as_deref()) {
            ("POST", None, None) => Some(Verb::Create),
            ("GET", None, None) => Some(Verb::List),
            ("DELETE", Some(id), None) => Some(Verb::Delete(id)),
            ("POST", Some(id), Some("enable")) => Some(Verb::Enable(id)),
            ("POST", Some(id), Some("disable")) => Some(Verb::Disable(id)),
            ("POST", Some(id), Some("rotate")) => Some(Verb::Rotate(id)),
            ("PUT", Some(id), Some("policy")) => Some(Verb::Policy(id)),
            _ => None,
        };
        let words = || ApiError::unknown_operation("No operation on access keys has this method and path");
        verb.filter(|_| parts.next().is_none()).ok_or_else(words)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    user: String,
    account: Option<String>,
    policy: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Rotate {
    #[serde(default)]
    keep_old: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    policy: String,
}

/// A key as it is shown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    access_key_id: &'a str,
    account: &'a AccountId,
    user: String,
    arn: &'a str,
    status: &'static str,
    created_at: Timestamp,
    /// As it was given, not as text in text.
    policy: Option<Value>,
    /// Only when the key is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_access_key: Option<&'a Sensitive<String>>,
}

/// Serves one caller.
struct Desk {
    access: Arc<AccessKeys>,
    caller: Caller,
}

impl Desk {
    async fn perform(&self, verb: Verb, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let access = &self.access;
        let key = match verb {
            Verb::Create => return self.create(parse(body)?).await,
            Verb::List => return self.list(),
            Verb::Delete(id) => {
                self.authorize_for("hearth:DeleteKey", &id)?;
                access.delete(&id).await.map_err(outside)?;
                return Ok(b"{}".to_vec());
            }
            Verb::Rotate(id) => {
                self.authorize_for("hearth:RotateKey", &id)?;
                let Rotate { keep_old } = if body.is_empty() { Rotate::default() } else { parse(body)? };
                let NewKey { key, secret } = access.rotate(&id, keep_old).await.map_err(outside)?;
                return encode(&shown(&key, Some(&secret)));
            }
            Verb::Enable(id) => {
                self.authorize_for("hearth:EnableKey", &id)?;
                access.enable(&id).await
            }
            Verb::Disable(id) => {
                self.authorize_for("hearth:DisableKey", &id)?;
                access.disable(&id).await
            }
            Verb::Policy(id) => {
                self.authorize_for("hearth:PutKeyPolicy", &id)?;
                let Policy { policy } = parse(body)?;
                access.set_policy(&id, policy).await
            }
        };
        encode(&shown(&*key.map_err(outside)?, None))
    }

    async fn create(&self, Create { user, account, policy }: Create) -> Result<Vec<u8>, ApiError> {
        let account = match account {
            Some(text) => text.parse().map_err(|error| ApiError::validation(format!("account {error}")))?,
            None => self.caller.account.clone(),
        };
        let user: User = user.parse().map_err(|error| ApiError::validation(format!("{error}")))?;
        self.authorize("hearth:CreateKey", &account, &arn(self.access.partition(), &account, &user))?;
        let NewKey { key, secret } = self.access.create(account, user, policy).await.map_err(outside)?;
        encode(&shown(&key, Some(&secret)))
    }

    fn list(&self) -> Result<Vec<u8>, ApiError> {
        self.authorize("hearth:ListKeys", &self.caller.account, "*")?;
        let mut keys = self.access.list();
        keys.retain(|key| self.is_head() || *key.identity.account() == self.caller.account);
        let items: Vec<Shown<'_>> = keys.iter().map(|key| shown(key, None)).collect();
        encode(&serde_json::json!({"keys": serde_json::to_value(items).map_err(internal)?}))
    }

    /// For a key that is there, on its user; for any other on everything in the account, before it is told that there is none.
    fn authorize_for(&self, action: &str, id: &str) -> Result<(), ApiError> {
        let visible = |key: &Arc<Key>| self.is_head() || *key.identity.account() == self.caller.account;
        match self.access.find(id).filter(visible) {
            Some(key) => self.authorize(action, key.identity.account(), key.identity.arn()),
            None => {
                let account = &self.caller.account;
                self.authorize(action, account, &format!("arn:{}:iam::{account}:*", self.access.partition()))?;
                Err(outside(KeyError::NotFound(id.chars().take(64).collect())))
            }
        }
    }

    fn authorize(&self, action: &str, account: &AccountId, resource: &str) -> Result<(), ApiError> {
        let identity = &self.caller.identity;
        if self.caller.temporary {
            return Err(identity.refuse(
                action,
                resource,
                "because access keys cannot be managed with a session token",
            ));
        }
        match identity.user() {
            _ if self.is_head() => Ok(()),
            User::Named(_) if *account == self.caller.account => self.caller.authorize(action, resource),
            _ => {
                let why = format!("because no identity-based policy allows the {action} action");
                Err(identity.refuse(action, resource, &why))
            }
        }
    }

    /// Root of the configured account?
    fn is_head(&self) -> bool {
        *self.caller.identity.user() == User::Root && self.caller.account == *self.access.first_account()
    }
}

fn shown<'a>(key: &'a Key, secret: Option<&'a Sensitive<String>>) -> Shown<'a> {
    Shown {
        access_key_id: &key.id,
        account: key.identity.account(),
        user: key.identity.user().to_string(),
        arn: key.identity.arn(),
        status: if key.active { "Active" } else { "Inactive" },
        created_at: Timestamp::from_millis(key.created_at),
        policy: key.policy.as_deref().and_then(|text| serde_json::from_str(text.trim()).ok()),
        secret_access_key: secret,
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(value).map_err(internal)
}

/// What the caller may know of it.
fn outside(error: KeyError) -> ApiError {
    let kind = match error {
        KeyError::NotFound(_) => ErrorKind::ResourceNotFound,
        KeyError::Policy(_) | KeyError::RootPolicy => ErrorKind::Validation,
        KeyError::UserExists(_) | KeyError::LastRoot(..) => ErrorKind::Conflict,
        KeyError::Full => ErrorKind::ServiceQuotaExceeded,
        KeyError::Inside(error) => return internal(error),
    };
    ApiError::new(kind, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes() {
        for (method, path, expected) in [
            ("POST", "/hearth/v1/keys", Some(Verb::Create)),
            ("GET", "/hearth/v1/keys", Some(Verb::List)),
            ("DELETE", "/hearth/v1/keys/AKIA", Some(Verb::Delete("AKIA".into()))),
            ("POST", "/hearth/v1/keys/AKIA/rotate", Some(Verb::Rotate("AKIA".into()))),
            ("PUT", "/hearth/v1/keys/AK%49A/policy", Some(Verb::Policy("AKIA".into()))),
            ("PUT", "/hearth/v1/keys", None),
            ("GET", "/hearth/v1/keys/AKIA", None),
            ("POST", "/hearth/v1/keys/AKIA/rotate/x", None),
            ("POST", "/hearth/v1/keysx", None),
        ] {
            assert_eq!(Verb::find(method, path).ok(), expected, "{method} {path}");
        }
    }
}
