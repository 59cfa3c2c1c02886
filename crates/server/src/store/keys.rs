//! Access keys. The secrets come here encrypted.

use api::AccountId;

use super::{Store, StoreError};

/// A key as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// Access key id.
    pub id: String,
    /// Whose account.
    pub account: String,
    /// Name of the user, or `root`.
    pub user: String,
    /// May it be used?
    pub active: bool,
    /// Milliseconds since the epoch.
    pub created_at: i64,
    /// The secret, encrypted.
    pub sealed: Vec<u8>,
    /// The user's policy, as it was given.
    pub policy: Option<String>,
}

type Row = (String, String, String, bool, i64, Vec<u8>, Option<String>);

impl Store {
    /// Every key, oldest first.
    pub async fn keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, account, user, active, created_at, sealed, policy FROM keys ORDER BY created_at, id",
        )
        .fetch_all(&self.pool)
        .await?;
        let record = |(id, account, user, active, created_at, sealed, policy): Row| KeyRecord {
            id,
            account,
            user,
            active,
            created_at,
            sealed,
            policy,
        };
        Ok(rows.into_iter().map(record).collect())
    }

    /// Adds a key.
    pub async fn insert_key(&self, key: &KeyRecord) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO keys (id, account, user, active, created_at, sealed, policy) VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&key.id)
        .bind(&key.account)
        .bind(&key.user)
        .bind(key.active)
        .bind(key.created_at)
        .bind(&key.sealed)
        .bind(&key.policy)
        .execute(&self.pool)
        .await?;
        crash::point("store: access key there");
        Ok(())
    }

    /// Lets a key be used, or not.
    pub async fn set_key_active(&self, id: &str, active: bool) -> Result<(), StoreError> {
        sqlx::query("UPDATE keys SET active = ? WHERE id = ?").bind(active).bind(id).execute(&self.pool).await?;
        Ok(())
    }

    /// Gives a user a policy, in all of the user's keys.
    pub async fn set_key_policy(&self, account: &AccountId, user: &str, policy: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE keys SET policy = ? WHERE account = ? AND user = ?")
            .bind(policy)
            .bind(account.as_str())
            .bind(user)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Forgets a key.
    pub async fn delete_key(&self, id: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM keys WHERE id = ?").bind(id).execute(&self.pool).await?;
        Ok(())
    }
}
