//! Who may reach a microVM, over hearth's own routes.

use anyhow::Result;
use api::{MicrovmId, Sensitive};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Client;

#[derive(Deserialize)]
struct Made {
    url: Sensitive<String>,
}

#[derive(Deserialize)]
struct Public {
    port: Option<u16>,
}

impl Client {
    /// No token of that microVM minted so far opens anything afterwards.
    pub async fn revoke_tokens(&self, id: MicrovmId) -> Result<()> {
        self.microvm_call::<Value>("POST", id, "tokens/revoke", Value::Null).await.map(drop)
    }

    /// The address of a one-time link for a browser.
    pub async fn browser_link(&self, id: MicrovmId, port: u16, minutes: u32) -> Result<Sensitive<String>> {
        let body = json!({"port": port, "minutes": minutes});
        let made: Made = self.microvm_call("POST", id, "browser-link", body).await?;
        Ok(made.url)
    }

    /// The port that anybody may reach without a token.
    pub async fn public_port(&self, id: MicrovmId) -> Result<Option<u16>> {
        Ok(self.microvm_call::<Public>("GET", id, "public-port", Value::Null).await?.port)
    }

    /// Another, or none.
    pub async fn set_public_port(&self, id: MicrovmId, port: Option<u16>) -> Result<()> {
        let (method, body) = match port {
            Some(port) => ("PUT", json!({ "port": port })),
            None => ("DELETE", Value::Null),
        };
        self.microvm_call::<Public>(method, id, "public-port", body).await.map(drop)
    }

    async fn microvm_call<T: serde::de::DeserializeOwned>(
        &self,
        method: &'static str,
        id: MicrovmId,
        rest: &str,
        body: Value,
    ) -> Result<T> {
        self.own_call(method, &format!("/hearth/v1/microvms/{id}/{rest}"), body).await
    }
}
