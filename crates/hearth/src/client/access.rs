//! Who may reach a microVM, over hearth's own routes.

use anyhow::Result;
use api::MicrovmId;
use serde_json::Value;

use super::Client;

impl Client {
    /// No token of that microVM minted so far opens anything afterwards.
    pub async fn revoke_tokens(&self, id: MicrovmId) -> Result<()> {
        self.microvm_call::<Value>("POST", id, "tokens/revoke", Value::Null).await.map(drop)
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
