//! Access keys over hearth's own route for them.

use anyhow::Result;
use api::{Sensitive, Timestamp, sigv4::percent};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Client;

/// Path of the route. Its requests are signed for `lambda`.
const PATH: &str = "/hearth/v1/keys";

/// A key as the server shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessKey {
    /// Its id.
    pub access_key_id: String,
    /// Whose account.
    pub account: String,
    /// Name of the user, or `root`.
    pub user: String,
    /// The user's ARN.
    pub arn: String,
    /// `Active` or `Inactive`.
    pub status: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The user's policy.
    pub policy: Option<Value>,
    /// Only of a key that was just made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<Sensitive<String>>,
}

#[derive(Deserialize)]
struct Listed {
    keys: Vec<AccessKey>,
}

impl Client {
    /// A new key; the account is this client's unless given.
    pub async fn create_key(&self, user: &str, account: Option<&str>, policy: Option<String>) -> Result<AccessKey> {
        let mut body = json!({"user": user});
        for (name, value) in [("account", account.map(str::to_owned)), ("policy", policy)] {
            if let Some(value) = value {
                body[name] = value.into();
            }
        }
        self.key_call("POST", "", body).await
    }

    /// Every key that this client may see.
    pub async fn keys(&self) -> Result<Vec<AccessKey>> {
        Ok(self.key_call::<Listed>("GET", "", Value::Null).await?.keys)
    }

    /// Lets a key be used, or not.
    pub async fn enable_key(&self, id: &str, enabled: bool) -> Result<AccessKey> {
        let verb = if enabled { "enable" } else { "disable" };
        self.key_call("POST", &format!("/{}/{verb}", percent::encode(id)), Value::Null).await
    }

    /// Another key of the same user.
    pub async fn rotate_key(&self, id: &str, keep_old: bool) -> Result<AccessKey> {
        self.key_call("POST", &format!("/{}/rotate", percent::encode(id)), json!({"keepOld": keep_old})).await
    }

    /// Another policy for the key's user.
    pub async fn put_key_policy(&self, id: &str, policy: String) -> Result<AccessKey> {
        self.key_call("PUT", &format!("/{}/policy", percent::encode(id)), json!({"policy": policy})).await
    }

    /// Forgets a key.
    pub async fn delete_key(&self, id: &str) -> Result<()> {
        self.key_call::<Value>("DELETE", &format!("/{}", percent::encode(id)), Value::Null).await.map(drop)
    }

    async fn key_call<T: serde::de::DeserializeOwned>(
        &self,
        method: &'static str,
        rest: &str,
        body: Value,
    ) -> Result<T> {
        self.own_call(method, &format!("{PATH}{rest}"), body).await
    }
}
