//! What must survive: SQLite with a write-ahead log, one file, every commit durable.
//!
//! Nothing here decides anything: a microVM changes only by a transition of `lifecycle`, by compare-and-set on its
//! generation, with its event in the same transaction; so do images.

mod audit;
mod connectors;
mod history;
mod images;
mod keys;
mod microvms;
mod names;
mod quotas;
mod retention;
mod tokens;

use std::{path::Path, sync::Arc, time::Duration};

use sqlx::{
    Connection as _, Sqlite, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous},
};

pub use connectors::{ConnectorRecord, ConnectorVersionRecord, Home};
#[cfg(test)]
pub use history::tests as fixture;
pub use history::{ACCEPTED, Event, ImageEvent, Scope, Span, snapshot_of};
pub use images::{Build, ImageRecord, VersionRecord};
pub use keys::KeyRecord;
pub use microvms::{Ingress, MicrovmRecord, Transition};
pub use names::{NAMES, NameRecord, Put};
pub use quotas::Quota;
pub use tokens::{Accepted, Claim};

/// How long the pool may take to close.
const CLOSE: Duration = Duration::from_secs(5);

/// The store of one server.
#[derive(Debug, Clone)]
pub struct Store {
    pool: SqlitePool,
    news: Arc<history::News>,
}

/// Commits; `points` are before and after.
async fn commit(transaction: Transaction<'_, Sqlite>, [before, after]: [&'static str; 2]) -> Result<(), StoreError> {
    crash::point(before);
    transaction.commit().await?;
    crash::point(after);
    Ok(())
}

/// The store failed, or holds what it should not.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database.
    #[error("store: {0}")]
    Database(#[from] sqlx::Error),
    /// A document.
    #[error("store: a record cannot be read or written: {0}")]
    Document(#[from] serde_json::Error),
    /// Somebody else changed the record first.
    #[error("store: {0} was changed by somebody else")]
    Stale(String),
}

/// A page of a list: records older than (or at) the cursor, newest first.
#[derive(Debug, Clone)]
pub struct Page {
    /// `(created or started at, id)` of the last item of the page before.
    pub after: Option<(i64, String)>,
    /// How many, at most.
    pub limit: u32,
}

impl Page {
    fn start(&self) -> (i64, &str) {
        self.after.as_ref().map_or((i64::MAX, ""), |(at, id)| (*at, id.as_str()))
    }
}

impl Store {
    /// Opens or creates the database, readable by its owner only.
    pub async fn open(path: &Path) -> Result<Store, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10));
        // A commit that fails for want of space leaves its connection inside the transaction: such a one is replaced.
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
            .connect_with(options)
            .await?;
        sqlx::raw_sql(include_str!("schema.sql")).execute(&pool).await?;
        history::take_over(&mut *pool.acquire().await?).await?;
        Ok(Store { pool, news: Arc::default() })
    }

    /// The key that authenticates list cursors; it is as old as the database.
    pub async fn cursor_key(&self) -> Result<Vec<u8>, StoreError> {
        let (key,): (Vec<u8>,) =
            sqlx::query_as("SELECT value FROM secrets WHERE name = 'cursors'").fetch_one(&self.pool).await?;
        Ok(key)
    }

    /// Waits for writers and closes. Bounded: every commit is durable already, and once in some thousand times the pool was
    /// seen not to come back from closing.
    pub async fn close(&self) {
        if tokio::time::timeout(CLOSE, self.pool.close()).await.is_err() {
            tracing::warn!("the store did not close within {} s", CLOSE.as_secs());
        }
    }
}

fn decode<T: serde::de::DeserializeOwned>(rows: Vec<(String,)>) -> Result<Vec<T>, StoreError> {
    rows.into_iter().map(|(doc,)| Ok(serde_json::from_str(&doc)?)).collect()
}
