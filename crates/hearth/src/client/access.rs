//! Who may reach a microVM, over hearth's own routes.

use anyhow::Result;
use api::{MicrovmId, Sensitive, sigv4::percent};
use serde::{Deserialize, Serialize};
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

const NAMES: &str = "/hearth/v1/names";

/// A custom host name as the server shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostName {
    /// The name.
    pub host: String,
    /// Where it leads.
    pub microvm_id: MicrovmId,
    /// The port in place of 8080.
    pub port: u16,
    /// `own`, or `hearth` when its CA issues it.
    pub certificate: String,
}

#[derive(Deserialize)]
struct Named {
    names: Vec<HostName>,
}

fn name_path(host: &str) -> String {
    format!("{NAMES}/{}", percent::encode(host))
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

    /// Leads a host name to a microVM. The certificate goes with its key, both in PEM.
    pub async fn put_name(
        &self,
        host: &str,
        id: MicrovmId,
        port: u16,
        pair: Option<(String, Sensitive<String>)>,
    ) -> Result<HostName> {
        let mut body = json!({"microvm": id, "port": port});
        if let Some((certificate, key)) = pair {
            (body["certificate"], body["key"]) = (certificate.into(), key.expose().as_str().into());
        }
        self.own_call("PUT", &name_path(host), body).await
    }

    /// The account's host names.
    pub async fn names(&self) -> Result<Vec<HostName>> {
        Ok(self.own_call::<Named>("GET", NAMES, Value::Null).await?.names)
    }

    /// Forgets a host name.
    pub async fn remove_name(&self, host: &str) -> Result<()> {
        self.own_call::<Value>("DELETE", &name_path(host), Value::Null).await.map(drop)
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
