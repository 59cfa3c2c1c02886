//! Custom host names.

use api::{AccountId, MicrovmId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Store, StoreError, commit, decode};

/// Most names of one account.
pub const NAMES: i64 = 1000;

/// A custom host name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRecord {
    /// The name: lower case, no final dot.
    pub host: String,
    /// Whose it is.
    pub account: AccountId,
    /// Where it leads.
    pub microvm: MicrovmId,
    /// The port in place of 8080.
    pub port: u16,
    /// The directory of its certificate and key; `None`: hearth's own CA issues one.
    pub certificate: Option<Uuid>,
}

/// What became of a name that was to be put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is there.
    Done,
    /// Another account has it.
    Taken,
    /// The account has all the names that it may have.
    Full,
}

impl Store {
    /// Adds a name, or changes what its owner has under it.
    pub async fn put_name(&self, record: &NameRecord) -> Result<Put, StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let owner: Option<(String,)> = sqlx::query_as("SELECT account FROM names WHERE host = ?")
            .bind(&record.host)
            .fetch_optional(&mut *transaction)
            .await?;
        match owner {
            Some((owner,)) if owner != record.account.as_str() => return Ok(Put::Taken),
            Some(_) => {}
            None => {
                let (count,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM names WHERE account = ?")
                    .bind(record.account.as_str())
                    .fetch_one(&mut *transaction)
                    .await?;
                if count >= NAMES {
                    return Ok(Put::Full);
                }
            }
        }
        sqlx::query("INSERT OR REPLACE INTO names (host, account, doc) VALUES (?, ?, ?)")
            .bind(&record.host)
            .bind(record.account.as_str())
            .bind(serde_json::to_string(record)?)
            .execute(&mut *transaction)
            .await?;
        commit(transaction, ["store: name put", "store: name durable"]).await?;
        Ok(Put::Done)
    }

    /// Every name, of all accounts.
    pub async fn names(&self) -> Result<Vec<NameRecord>, StoreError> {
        decode(sqlx::query_as("SELECT doc FROM names ORDER BY host").fetch_all(&self.pool).await?)
    }

    /// Forgets a name of that account; false: it has none such.
    pub async fn delete_name(&self, account: &AccountId, host: &str) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM names WHERE host = ? AND account = ?")
            .bind(host)
            .bind(account.as_str())
            .execute(&self.pool)
            .await?;
        crash::point("store: name deleted");
        Ok(done.rows_affected() == 1)
    }
}
