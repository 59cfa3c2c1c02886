//! Client tokens: what makes a repeated request safe (spec 3.1).

use api::AccountId;

use super::{Store, StoreError};

/// What is known of a client token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remembered {
    /// It was not used before, and now belongs to the resource.
    New,
    /// It was used with the same parameters: for this resource.
    Same(String),
    /// It was used with other parameters.
    Different,
}

impl Store {
    /// Claims a token for a resource that is about to be made, unless it was used before.
    pub async fn remember_token(
        &self,
        account: &AccountId,
        operation: &str,
        token: &str,
        fingerprint: &str,
        resource: &str,
        now: i64,
    ) -> Result<Remembered, StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let known: Option<(String, String)> = sqlx::query_as(
            "SELECT fingerprint, resource FROM client_tokens WHERE account = ? AND operation = ? AND token = ?",
        )
        .bind(account.as_str())
        .bind(operation)
        .bind(token)
        .fetch_optional(&mut *transaction)
        .await?;
        if let Some((before, resource)) = known {
            return Ok(if before == fingerprint { Remembered::Same(resource) } else { Remembered::Different });
        }
        sqlx::query("INSERT INTO client_tokens VALUES (?, ?, ?, ?, ?, ?)")
            .bind(account.as_str())
            .bind(operation)
            .bind(token)
            .bind(fingerprint)
            .bind(resource)
            .bind(now)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Remembered::New)
    }

    /// Gives a token back: what it was claimed for did not come to be.
    pub async fn forget_token(&self, account: &AccountId, operation: &str, token: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM client_tokens WHERE account = ? AND operation = ? AND token = ?")
            .bind(account.as_str())
            .bind(operation)
            .bind(token)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}
