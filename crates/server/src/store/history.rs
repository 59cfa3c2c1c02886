//! What happened to microVMs and images: one row for each transition, written in the transaction that makes it. `hearth
//! events` shows the rows and usage is folded from them (`lifecycle::usage`), so they hold what metering needs.
//!
//! Numbers are an account's own, grow by one and never come back: they are the order of commits, and a cursor. A row never
//! holds a payload, a token or an environment variable.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use api::{AccountId, ImageArn, ImageVersion, MicrovmId};
use lifecycle::{Millis, usage::Snapshot};
use serde::Serialize;
use sqlx::{Connection as _, Sqlite, SqliteConnection, Transaction};
use tokio::sync::watch;

use super::{ImageRecord, MicrovmRecord, Store, StoreError, VersionRecord, commit};

/// What an acceptance of `RunMicrovm` is called; every other row of a microVM has the name of its input.
pub const ACCEPTED: &str = "Accepted";
/// `state` of an image that is gone.
const GONE: &str = "DELETED";

/// What is kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A microVM.
    Microvm,
    /// An image, with its versions and builds.
    Image,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Microvm => "microvm",
            Kind::Image => "image",
        }
    }
}

/// What happens to an image, in the words of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageEvent {
    /// With version 1.0.
    Created,
    /// A new version was asked for.
    Updated,
    /// The version is being built; again after a restart in the midst of it.
    BuildBegan,
    /// The version is there.
    BuildSucceeded,
    /// The version is not.
    BuildFailed,
    /// The version may be launched.
    Activated,
    /// The version may not be launched any more.
    Deactivated,
    /// The end of the version was asked for.
    VersionDeleting,
    /// The version is gone.
    VersionDeleted,
    /// The end of the image was asked for.
    Deleting,
    /// The image is gone.
    Deleted,
}

impl ImageEvent {
    /// As the rows spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            ImageEvent::Created => "Created",
            ImageEvent::Updated => "Updated",
            ImageEvent::BuildBegan => "BuildBegan",
            ImageEvent::BuildSucceeded => "BuildSucceeded",
            ImageEvent::BuildFailed => "BuildFailed",
            ImageEvent::Activated => "Activated",
            ImageEvent::Deactivated => "Deactivated",
            ImageEvent::VersionDeleting => "VersionDeleting",
            ImageEvent::VersionDeleted => "VersionDeleted",
            ImageEvent::Deleting => "Deleting",
            ImageEvent::Deleted => "Deleted",
        }
    }
}

/// A row. It stays readable whatever becomes of what it is about, so it is text where records have types.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Its number among the account's.
    pub n: u64,
    /// When, milliseconds.
    pub at: Millis,
    /// Of what.
    pub kind: String,
    /// The microVM's id or the image's ARN.
    pub resource: String,
    /// The image, for a microVM the one it was started from.
    pub image_arn: String,
    /// The version that it is about; absent: the image as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Name of an input of `lifecycle::microvms`, [`ACCEPTED`], or an [`ImageEvent`].
    pub what: String,
    /// What it led to, as the API spells it.
    pub state: String,
    /// `minimumMemoryInMiB` of the version; 0: not known.
    pub memory_mib: u32,
    /// The snapshot that was written (a suspend, a build) or restored from (a start, a resume).
    #[serde(flatten)]
    pub snapshot: Option<Snapshot>,
    /// Why, as the API shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A row that is to be written.
pub(super) struct Entry<'a> {
    account: &'a AccountId,
    kind: Kind,
    resource: String,
    generation: Option<u64>,
    at: Millis,
    image: &'a ImageArn,
    version: Option<ImageVersion>,
    what: String,
    state: &'static str,
    memory_mib: u32,
    snapshot: Option<Snapshot>,
    reason: Option<&'a str>,
}

impl<'a> Entry<'a> {
    /// Of a microVM that has just become what `record` says.
    pub(super) fn of_microvm(record: &'a MicrovmRecord, what: String, at: Millis, snapshot: Option<Snapshot>) -> Self {
        Entry {
            account: &record.account,
            kind: Kind::Microvm,
            resource: record.id.to_string(),
            generation: Some(record.life.generation),
            at,
            image: &record.image_arn,
            version: Some(record.version),
            what,
            state: record.state().as_str(),
            memory_mib: record.memory_mib,
            snapshot,
            reason: record.life.reason.as_deref(),
        }
    }

    /// Of an image that has just become what `image` and `version` say.
    pub(super) fn of_image(
        image: &'a ImageRecord,
        version: Option<&'a VersionRecord>,
        what: ImageEvent,
        at: Millis,
    ) -> Self {
        let build = version.map(|version| &version.build);
        let made = build.and_then(|build| build.snapshot).filter(|_| what == ImageEvent::BuildSucceeded);
        let failed = build.filter(|_| what == ImageEvent::BuildFailed);
        Entry {
            account: &image.account,
            kind: Kind::Image,
            resource: image.arn.to_string(),
            generation: None,
            at,
            image: &image.arn,
            version: version.map(|version| version.version),
            what: what.as_str().to_owned(),
            state: if what == ImageEvent::Deleted { GONE } else { image.state().as_str() },
            memory_mib: version.map_or(0, |version| version.configuration.memory_mib()),
            snapshot: made.map(snapshot_of),
            reason: failed.and_then(|build| build.reason.as_deref()),
        }
    }

    /// Writes it; its number.
    async fn write(&self, connection: &mut SqliteConnection) -> Result<u64, StoreError> {
        let (n,): (i64,) = sqlx::query_as(
            "INSERT INTO history_numbers VALUES (?, 1) ON CONFLICT (account) DO UPDATE SET last = last + 1 RETURNING last",
        )
        .bind(self.account.as_str())
        .fetch_one(&mut *connection)
        .await?;
        sqlx::query("INSERT INTO history VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
            .bind(self.account.as_str())
            .bind(n)
            .bind(self.at)
            .bind(self.kind.as_str())
            .bind(&self.resource)
            .bind(self.generation.map(|generation| generation as i64))
            .bind(self.image.to_string())
            .bind(self.version.map(|version| version.to_string()))
            .bind(&self.what)
            .bind(self.state)
            .bind(self.memory_mib)
            .bind(self.snapshot.map(|snapshot| snapshot.memory_bytes as i64))
            .bind(self.snapshot.map(|snapshot| snapshot.disk_bytes as i64))
            .bind(self.reason)
            .execute(connection)
            .await?;
        Ok(n.unsigned_abs())
    }
}

/// Sizes of a build as metering takes them.
pub fn snapshot_of(build: api::SnapshotBuild) -> Snapshot {
    Snapshot {
        memory_bytes: build.memory_snapshot_size_in_bytes.unwrap_or_default(),
        disk_bytes: build.disk_snapshot_size_in_bytes.unwrap_or_default(),
    }
}

/// Tells readers that wait which number is the newest, by account.
#[derive(Debug, Default)]
pub(super) struct News(Mutex<HashMap<AccountId, watch::Sender<u64>>>);

impl News {
    /// Row `n` is committed. Commits may be told in another order than they were made.
    pub(super) fn tell(&self, account: &AccountId, n: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(newest) = all.get(account) {
            newest.send_if_modified(|newest| n > std::mem::replace(newest, n.max(*newest)));
            if newest.receiver_count() == 0 {
                all.remove(account);
            }
        }
    }

    fn follow(&self, account: &AccountId) -> watch::Receiver<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(account.clone()).or_default().subscribe()
    }
}

/// Whose rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Of that microVM.
    Microvm(MicrovmId),
    /// Of that image.
    Image(ImageArn),
    /// Of everything in the account.
    All,
}

impl Scope {
    fn resource(&self) -> Option<String> {
        match self {
            Scope::Microvm(id) => Some(id.to_string()),
            Scope::Image(arn) => Some(arn.to_string()),
            Scope::All => None,
        }
    }
}

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// The first ones behind that number.
    After(u64),
    /// The last ones before that number.
    Before(u64),
}

type Row =
    (i64, i64, String, String, String, Option<String>, String, String, u32, Option<i64>, Option<i64>, Option<String>);

fn event(row: Row) -> Event {
    let (n, at, kind, resource, image_arn, version, what, state, memory_mib, memory, disk, reason) = row;
    let moved =
        |memory: i64, disk: i64| Snapshot { memory_bytes: memory.unsigned_abs(), disk_bytes: disk.unsigned_abs() };
    let snapshot = memory.zip(disk).map(|(memory, disk)| moved(memory, disk));
    Event { n: n.unsigned_abs(), at, kind, resource, image_arn, version, what, state, memory_mib, snapshot, reason }
}

/// `?1` account, `?2` resource, `?3` a number, `?4` how many.
const COLUMNS: &str = "SELECT n, at, kind, resource, image, version, what, state, memory_mib, memory_bytes, disk_bytes, reason FROM history";

fn select(scope: &Scope, span: Span) -> String {
    let whose = match scope {
        Scope::All => "account = ?1 AND ?2 IS NULL",
        // The plus keeps SQLite from walking through all rows of the account.
        _ => "+account = ?1 AND resource = ?2",
    };
    let which = match span {
        Span::After(_) => "n > ?3 ORDER BY n",
        Span::Before(_) => "n < ?3 ORDER BY n DESC",
    };
    format!("{COLUMNS} WHERE {whose} AND {which} LIMIT ?4")
}

impl Store {
    /// At most `limit` rows of an account, the newest last.
    pub async fn events(
        &self,
        account: &AccountId,
        scope: &Scope,
        span: Span,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let (Span::After(at) | Span::Before(at)) = span;
        let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(select(scope, span)))
            .bind(account.as_str())
            .bind(scope.resource())
            .bind(i64::try_from(at).unwrap_or(i64::MAX))
            .bind(limit)
            .fetch_all(&self.pool)
            .await?;
        let mut events: Vec<Event> = rows.into_iter().map(event).collect();
        if matches!(span, Span::Before(_)) {
            events.reverse();
        }
        Ok(events)
    }

    /// Commits what a transaction has changed with its row, and tells those who wait for it. `points` are before and after the
    /// commit.
    pub(super) async fn conclude(
        &self,
        mut transaction: Transaction<'_, Sqlite>,
        entry: &Entry<'_>,
        points: [&'static str; 2],
    ) -> Result<(), StoreError> {
        let n = entry.write(&mut transaction).await?;
        commit(transaction, points).await?;
        self.news.tell(entry.account, n);
        Ok(())
    }

    /// Follows the number of an account's newest row. It is 0 until one is written.
    pub fn newest_event(&self, account: &AccountId) -> watch::Receiver<u64> {
        self.news.follow(account)
    }
}

/// Moves the rows of an older hearth, which knew events of microVMs only, into the history, and makes rows of what its
/// records still tell. All or nothing.
pub(super) async fn take_over(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let sql = "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = 'events'";
    let (older,): (i64,) = sqlx::query_as(sql).fetch_one(&mut *transaction).await?;
    if older == 1 {
        sqlx::raw_sql(include_str!("take_over.sql")).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(())
}

#[cfg(test)]
#[path = "history_tests.rs"]
pub mod tests;
