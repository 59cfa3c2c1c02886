//! Client tokens: what makes a repeated request safe (spec 3.1). A token is claimed in the transaction that does what it is
//! for, so that neither exists without the other.

use api::{AccountId, Operation};
use serde::Serialize;
use sqlx::SqliteConnection;

use super::{Quota, Store, StoreError};
use crate::{shared::now, tokens::fingerprint};

/// How long a token is remembered, milliseconds: 7 days. AWS remembers forever, and says so nowhere.
pub(super) const REMEMBERED: i64 = 7 * 24 * 3600 * 1000;

/// A client token, and what it was presented with.
#[derive(Debug, Clone)]
pub struct Claim {
    account: AccountId,
    operation: Operation,
    token: String,
    fingerprint: String,
}

/// What became of a request that carries a client token, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// It is done.
    New,
    /// It was done before with the same parameters: for this resource.
    Replay(String),
    /// The token was used with other parameters.
    Reused,
    /// It cannot be done: the name is taken, or what it is made from has gone.
    Refused,
    /// The account has as much as it may; the token was not used.
    OverQuota(Quota),
}

impl Claim {
    /// The claim of a request, if it carries a token.
    pub fn of(
        account: &AccountId,
        operation: Operation,
        token: Option<&String>,
        input: &impl Serialize,
    ) -> Result<Option<Claim>, StoreError> {
        let Some(token) = token else { return Ok(None) };
        let fingerprint = fingerprint(input)?;
        Ok(Some(Claim { account: account.clone(), operation, token: token.clone(), fingerprint }))
    }

    /// Claims the token for `resource`; `None` when it is now this request's.
    pub(super) async fn stake(
        claim: Option<&Claim>,
        connection: &mut SqliteConnection,
        resource: &str,
    ) -> Result<Option<Accepted>, StoreError> {
        let Some(claim) = claim else { return Ok(None) };
        let known = claim.known(connection).await?;
        if known.is_none() {
            sqlx::query("DELETE FROM client_tokens WHERE at <= ?")
                .bind(now() - REMEMBERED)
                .execute(&mut *connection)
                .await?;
            sqlx::query("INSERT INTO client_tokens VALUES (?, ?, ?, ?, ?, ?)")
                .bind(claim.account.as_str())
                .bind(claim.operation.as_str())
                .bind(&claim.token)
                .bind(&claim.fingerprint)
                .bind(resource)
                .bind(now())
                .execute(connection)
                .await?;
        }
        Ok(known)
    }

    async fn known(&self, connection: &mut SqliteConnection) -> Result<Option<Accepted>, StoreError> {
        let known: Option<(String, String)> = sqlx::query_as(
            "SELECT fingerprint, resource FROM client_tokens
             WHERE account = ? AND operation = ? AND token = ? AND at > ?",
        )
        .bind(self.account.as_str())
        .bind(self.operation.as_str())
        .bind(&self.token)
        .bind(now() - REMEMBERED)
        .fetch_optional(connection)
        .await?;
        Ok(known.map(
            |(before, resource)| {
                if before == self.fingerprint { Accepted::Replay(resource) } else { Accepted::Reused }
            },
        ))
    }
}

impl Store {
    /// What a token was used for before, if it was.
    pub async fn recall(&self, claim: Option<&Claim>) -> Result<Option<Accepted>, StoreError> {
        let Some(claim) = claim else { return Ok(None) };
        let mut connection = self.pool.acquire().await?;
        claim.known(&mut connection).await
    }

    /// Gives a token back: what it was claimed for is gone.
    pub async fn forget_token(&self, claim: &Claim) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM client_tokens WHERE account = ? AND operation = ? AND token = ?")
            .bind(claim.account.as_str())
            .bind(claim.operation.as_str())
            .bind(&claim.token)
            .execute(&self.pool)
            .await?;
        crash::point("store: client token given back");
        Ok(())
    }
}
