//! Images, their versions and builds. One build per version: it lives in the version's record.

use api::{
    AccountId, BaseImageVersion, BuildId, ImageArn, ImageConfiguration, ImageState, ImageVersion, ImageVersionState,
    ImageVersionStatus, SnapshotBuild, Tags, Timestamp,
};
use lifecycle::images::{Progress, State};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Accepted, Claim, ImageEvent, Page, Store, StoreError, decode, history::Entry};
use crate::{config::Limits, shared::now};

/// All that is known of an image, but for its versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Names its directory; an ARN may come back after a deletion, this never does.
    pub id: Uuid,
    /// Its ARN.
    pub arn: ImageArn,
    /// Whose it is.
    pub account: AccountId,
    /// Its state.
    pub state: State,
    /// The newest version's number.
    pub newest: ImageVersion,
    /// The version that is launched when none is named.
    pub latest_active: Option<ImageVersion>,
    /// The version that failed last.
    pub latest_failed: Option<ImageVersion>,
    /// Its tags.
    pub tags: Tags,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
}

/// A version and its build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// The version.
    pub version: ImageVersion,
    /// How it is built, defaults filled in.
    pub configuration: ImageConfiguration,
    /// The base it is built on.
    pub base_image_version: BaseImageVersion,
    /// May it be launched?
    pub status: ImageVersionStatus,
    /// Is it going away?
    #[serde(default)]
    pub deleting: bool,
    /// Its build.
    pub build: Build,
    /// The last guest event before the snapshot; a microVM's own events come after it.
    pub events: u64,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
}

/// The build of a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Build {
    /// Its id.
    pub id: BuildId,
    /// How far it is.
    pub progress: Progress,
    /// Why it failed (spec 4.4).
    pub reason: Option<String>,
    /// Sizes, as far as it got.
    pub snapshot: Option<SnapshotBuild>,
}

impl ImageRecord {
    /// The state as the API spells it.
    pub fn state(&self) -> ImageState {
        match self.state {
            State::Creating => ImageState::Creating,
            State::Created => ImageState::Created,
            State::CreateFailed => ImageState::CreateFailed,
            State::Updating | State::Pruning => ImageState::Updating,
            State::Updated => ImageState::Updated,
            State::UpdateFailed => ImageState::UpdateFailed,
            State::Deleting => ImageState::Deleting,
        }
    }
}

impl VersionRecord {
    /// The state as the API spells it.
    pub fn state(&self) -> ImageVersionState {
        match self.build.progress {
            _ if self.deleting => ImageVersionState::Deleting,
            Progress::Pending => ImageVersionState::Pending,
            Progress::InProgress => ImageVersionState::InProgress,
            Progress::Successful => ImageVersionState::Successful,
            Progress::Failed => ImageVersionState::Failed,
        }
    }
}

impl Store {
    /// Adds an image with its first version. Refused: its ARN is taken.
    pub async fn insert_image(
        &self,
        image: &ImageRecord,
        version: &VersionRecord,
        claim: Option<&Claim>,
        limits: Option<&Limits>,
    ) -> Result<Accepted, StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        if let Some(known) = Claim::stake(claim, &mut transaction, &image.arn.to_string()).await? {
            return Ok(known);
        }
        let done =
            sqlx::query("INSERT OR IGNORE INTO images (id, arn, account, created_at, doc) VALUES (?, ?, ?, ?, ?)")
                .bind(image.id.to_string())
                .bind(image.arn.to_string())
                .bind(image.account.as_str())
                .bind(image.created_at.as_millis())
                .bind(serde_json::to_string(image)?)
                .execute(&mut *transaction)
                .await?;
        if done.rows_affected() == 0 {
            return Ok(Accepted::Refused);
        }
        put_version(&mut transaction, image.id, version).await?;
        if let Some(limits) = limits {
            let over = match limits.over_images(&mut transaction, &image.account).await? {
                None => limits.over_builds(&mut transaction, &image.account).await?,
                over => over,
            };
            if let Some(quota) = over {
                return Ok(Accepted::OverQuota(quota));
            }
        }
        let entry = Entry::of_image(image, Some(version), ImageEvent::Created, image.created_at.as_millis());
        self.conclude(transaction, &entry, ["store: image inserted", "store: image inserted, durable"]).await?;
        Ok(Accepted::New)
    }

    /// Adds a version to an image.
    pub async fn insert_version(
        &self,
        image: &ImageRecord,
        version: &VersionRecord,
        claim: Option<&Claim>,
        limits: Option<&Limits>,
    ) -> Result<Accepted, StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        if let Some(known) = Claim::stake(claim, &mut transaction, &version.version.to_string()).await? {
            return Ok(known);
        }
        put_image(&mut transaction, image).await?;
        put_version(&mut transaction, image.id, version).await?;
        if let Some(limits) = limits {
            let over = match limits.over_versions(&mut transaction, image.id).await? {
                None => limits.over_builds(&mut transaction, &image.account).await?,
                over => over,
            };
            if let Some(quota) = over {
                return Ok(Accepted::OverQuota(quota));
            }
        }
        let entry = Entry::of_image(image, Some(version), ImageEvent::Updated, version.created_at.as_millis());
        self.conclude(transaction, &entry, ["store: version inserted", "store: version inserted, durable"]).await?;
        Ok(Accepted::New)
    }

    /// Writes an image and one of its versions together, and what happened to them.
    pub async fn update_image(
        &self,
        image: &ImageRecord,
        version: &VersionRecord,
        event: ImageEvent,
    ) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        put_image(&mut transaction, image).await?;
        put_version(&mut transaction, image.id, version).await?;
        let entry = Entry::of_image(image, Some(version), event, version.updated_at.as_millis());
        self.conclude(transaction, &entry, ["store: image changed", "store: image changed, durable"]).await
    }

    /// Writes an image alone, for what is no transition: its tags.
    pub async fn put_image(&self, image: &ImageRecord) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await?;
        put_image(&mut connection, image).await?;
        crash::point("store: image written");
        Ok(())
    }

    /// Writes an image that is to go away, or one of its versions that is, unless a microVM of it lives. `false`: one does.
    pub async fn retire(&self, image: &ImageRecord, version: Option<&VersionRecord>) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let (live,): (i64,) = sqlx::query_as(
            "SELECT COUNT(*) FROM microvms
             WHERE image_arn = ?1 AND state <> 'TERMINATED' AND (?2 IS NULL OR version = ?2)",
        )
        .bind(image.arn.to_string())
        .bind(version.map(|version| i64::from(version.version.major())))
        .fetch_one(&mut *transaction)
        .await?;
        if live > 0 {
            return Ok(false);
        }
        put_image(&mut transaction, image).await?;
        if let Some(version) = version {
            put_version(&mut transaction, image.id, version).await?;
        }
        let event = version.map_or(ImageEvent::Deleting, |_| ImageEvent::VersionDeleting);
        let entry = Entry::of_image(image, version, event, image.updated_at.as_millis());
        self.conclude(transaction, &entry, ["store: image retired", "store: image retired, durable"]).await?;
        Ok(true)
    }

    /// Writes an image and forgets one of its versions.
    pub async fn delete_version(&self, image: &ImageRecord, version: &VersionRecord) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        put_image(&mut transaction, image).await?;
        sqlx::query("DELETE FROM versions WHERE image = ? AND number = ?")
            .bind(image.id.to_string())
            .bind(i64::from(version.version.major()))
            .execute(&mut *transaction)
            .await?;
        let entry = Entry::of_image(image, Some(version), ImageEvent::VersionDeleted, image.updated_at.as_millis());
        self.conclude(transaction, &entry, ["store: version deleted", "store: version deleted, durable"]).await
    }

    /// Forgets an image and its versions.
    pub async fn delete_image(&self, image: &ImageRecord) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let sql = "DELETE FROM images WHERE id = ?";
        let done = sqlx::query(sql).bind(image.id.to_string()).execute(&mut *transaction).await?;
        if done.rows_affected() == 0 {
            return Ok(());
        }
        let entry = Entry::of_image(image, None, ImageEvent::Deleted, now());
        self.conclude(transaction, &entry, ["store: image being forgotten", "store: image forgotten"]).await
    }

    /// The image of that ARN.
    pub async fn image(&self, arn: &ImageArn) -> Result<Option<ImageRecord>, StoreError> {
        let row: Option<(String,)> = sqlx::query_as("SELECT doc FROM images WHERE arn = ?")
            .bind(arn.to_string())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|(doc,)| serde_json::from_str(&doc)).transpose()?)
    }

    /// Every image, for start-up.
    pub async fn all_images(&self) -> Result<Vec<ImageRecord>, StoreError> {
        decode(sqlx::query_as("SELECT doc FROM images ORDER BY created_at").fetch_all(&self.pool).await?)
    }

    /// A page of an account's images, newest first.
    pub async fn images(&self, account: &AccountId, page: &Page) -> Result<Vec<ImageRecord>, StoreError> {
        let (at, id) = page.start();
        decode(
            sqlx::query_as(
                "SELECT doc FROM images WHERE account = ? AND (created_at, id) < (?, ?)
                 ORDER BY created_at DESC, id DESC LIMIT ?",
            )
            .bind(account.as_str())
            .bind(at)
            .bind(id)
            .bind(page.limit)
            .fetch_all(&self.pool)
            .await?,
        )
    }

    /// One version.
    pub async fn version(&self, image: Uuid, version: ImageVersion) -> Result<Option<VersionRecord>, StoreError> {
        let row: Option<(String,)> = sqlx::query_as("SELECT doc FROM versions WHERE image = ? AND number = ?")
            .bind(image.to_string())
            .bind(i64::from(version.major()))
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|(doc,)| serde_json::from_str(&doc)).transpose()?)
    }

    /// Versions of an image with a number below `before`, newest first, at most `limit`.
    pub async fn versions(&self, image: Uuid, before: i64, limit: u32) -> Result<Vec<VersionRecord>, StoreError> {
        decode(
            sqlx::query_as("SELECT doc FROM versions WHERE image = ? AND number < ? ORDER BY number DESC LIMIT ?")
                .bind(image.to_string())
                .bind(before)
                .bind(limit)
                .fetch_all(&self.pool)
                .await?,
        )
    }

    /// All versions of an image, newest first.
    pub async fn all_versions(&self, image: Uuid) -> Result<Vec<VersionRecord>, StoreError> {
        self.versions(image, i64::MAX, u32::MAX).await
    }
}

async fn put_image(connection: &mut sqlx::SqliteConnection, image: &ImageRecord) -> Result<(), StoreError> {
    let done = sqlx::query("UPDATE images SET doc = ? WHERE id = ?")
        .bind(serde_json::to_string(image)?)
        .bind(image.id.to_string())
        .execute(connection)
        .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Stale(image.arn.to_string())) }
}

async fn put_version(
    connection: &mut sqlx::SqliteConnection,
    image: Uuid,
    version: &VersionRecord,
) -> Result<(), StoreError> {
    sqlx::query("INSERT OR REPLACE INTO versions (image, number, doc) VALUES (?, ?, ?)")
        .bind(image.to_string())
        .bind(i64::from(version.version.major()))
        .bind(serde_json::to_string(version)?)
        .execute(connection)
        .await?;
    Ok(())
}
