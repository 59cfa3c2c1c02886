//! Quotas, counted inside the transaction that adds what is counted: however many requests come at once, an account never has
//! more than it may. What a client token replays adds nothing, and is not counted.

use api::{AccountId, ApiError};
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::StoreError;
use crate::config::Limits;

/// A quota that is used up, and how much it allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// Memory of microVMs.
    Memory,
    /// MicroVMs that are not over.
    Microvms(u32),
    /// Images.
    Images(u32),
    /// Versions of one image.
    Versions(u32),
    /// Images that are being built.
    Builds(u32),
}

impl From<Quota> for ApiError {
    fn from(quota: Quota) -> Self {
        match quota {
            Quota::Memory => ApiError::memory_quota(),
            Quota::Microvms(limit) => ApiError::quota_reached(limit, "MicroVMs"),
            Quota::Images(limit) => ApiError::quota_reached(limit, "MicroVM images"),
            Quota::Versions(limit) => ApiError::quota_reached(limit, "versions of a MicroVM image"),
            Quota::Builds(limit) => ApiError::quota_reached(limit, "concurrent MicroVM image builds"),
        }
    }
}

impl Limits {
    /// After a microVM was added: is that too much? All that are not over count, with their baseline (spec 10.2).
    pub(super) async fn over_microvms(
        &self,
        connection: &mut SqliteConnection,
        account: &AccountId,
    ) -> Result<Option<Quota>, StoreError> {
        let (count, baseline): (i64, i64) = sqlx::query_as(
            "SELECT COUNT(*), COALESCE(SUM(doc ->> '$.memory_mib'), 0) FROM microvms
             WHERE account = ? AND state <> 'TERMINATED'",
        )
        .bind(account.as_str())
        .fetch_one(connection)
        .await?;
        if let Some(limit) = self.microvms
            && count > i64::from(limit)
        {
            return Ok(Some(Quota::Microvms(limit)));
        }
        let allocated = baseline.unsigned_abs().saturating_mul(self.memory_factor.into());
        Ok((allocated > self.memory_mib).then_some(Quota::Memory))
    }

    /// After an image was added: is that too much?
    pub(super) async fn over_images(
        &self,
        connection: &mut SqliteConnection,
        account: &AccountId,
    ) -> Result<Option<Quota>, StoreError> {
        let (count,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM images WHERE account = ?")
            .bind(account.as_str())
            .fetch_one(connection)
            .await?;
        Ok((count > i64::from(self.images)).then_some(Quota::Images(self.images)))
    }

    /// After a version was added: is that too much?
    pub(super) async fn over_versions(
        &self,
        connection: &mut SqliteConnection,
        image: Uuid,
    ) -> Result<Option<Quota>, StoreError> {
        let (count,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM versions WHERE image = ?")
            .bind(image.to_string())
            .fetch_one(connection)
            .await?;
        Ok((count > i64::from(self.versions)).then_some(Quota::Versions(self.versions)))
    }

    /// After a build was added: is that too much? An image has one build at a time. Those that wait for their turn on this
    /// host count too.
    pub(super) async fn over_builds(
        &self,
        connection: &mut SqliteConnection,
        account: &AccountId,
    ) -> Result<Option<Quota>, StoreError> {
        let (count,): (i64,) = sqlx::query_as(
            "SELECT COUNT(*) FROM images WHERE account = ? AND doc ->> '$.state' IN ('Creating', 'Updating')",
        )
        .bind(account.as_str())
        .fetch_one(connection)
        .await?;
        Ok((count > i64::from(self.builds)).then_some(Quota::Builds(self.builds)))
    }
}

#[cfg(test)]
mod tests {
    use crate::store::Store;

    use super::*;

    const LIMITS: Limits =
        Limits { memory_mib: 4096, memory_factor: 1, microvms: Some(4), images: 2, versions: 2, builds: 1 };

    async fn microvm(store: &Store, account: &str, state: &str, memory: &str) {
        let id = Uuid::new_v4().to_string();
        sqlx::query("INSERT INTO microvms VALUES (?1, ?2, ?1, 'image', 1, ?3, 0, 0, ?4)")
            .bind(id)
            .bind(account)
            .bind(state)
            .bind(format!("{{{memory}}}"))
            .execute(&store.pool)
            .await
            .expect("inserted");
    }

    async fn image(store: &Store, id: Uuid, state: &str, versions: u32) {
        let sql = "INSERT INTO images VALUES (?1, ?2, '111122223333', 0, json_object('state', ?3))";
        let arn = format!("image-{id}");
        sqlx::query(sql).bind(id.to_string()).bind(arn).bind(state).execute(&store.pool).await.expect("inserted");
        for number in 1..=versions {
            let doc = r#"{"configuration": {"resources": [{"minimumMemoryInMiB": 512}]}}"#;
            let sql = "INSERT INTO versions VALUES (?, ?, ?)";
            let version = sqlx::query(sql).bind(id.to_string()).bind(number).bind(doc);
            version.execute(&store.pool).await.expect("inserted");
        }
    }

    async fn opened() -> (tempfile::TempDir, Store, AccountId) {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(&dir.path().join("hearth.db")).await.expect("opens");
        (dir, store, "111122223333".parse().expect("an account"))
    }

    #[tokio::test]
    async fn what_is_over_and_what_is_others_does_not_count() {
        let (_dir, store, account) = opened().await;
        let over = |limits: Limits| {
            let (store, account) = (&store, &account);
            async move {
                let mut connection = store.pool.acquire().await.expect("a connection");
                limits.over_microvms(&mut connection, account).await.expect("counted")
            }
        };
        for (account, state) in [
            ("111122223333", "RUNNING"),
            ("111122223333", "SUSPENDED"),
            ("111122223333", "TERMINATED"),
            ("444455556666", "RUNNING"),
        ] {
            microvm(&store, account, state, "\"memory_mib\": 2048").await;
        }
        assert_eq!(over(LIMITS).await, None);
        assert_eq!(over(Limits { memory_mib: 4095, ..LIMITS }).await, Some(Quota::Memory));
        assert_eq!(over(Limits { memory_factor: 2, ..LIMITS }).await, Some(Quota::Memory));
        assert_eq!(over(Limits { microvms: Some(1), ..LIMITS }).await, Some(Quota::Microvms(1)));
        microvm(&store, "111122223333", "TERMINATING", "\"memory_mib\": 512").await;
        assert_eq!(over(LIMITS).await, Some(Quota::Memory));
    }

    #[tokio::test]
    async fn images_versions_and_builds_are_counted() {
        let (_dir, store, account) = opened().await;
        let (one, two) = (Uuid::new_v4(), Uuid::new_v4());
        image(&store, one, "Creating", 3).await;
        image(&store, two, "Created", 2).await;
        let mut connection = store.pool.acquire().await.expect("a connection");
        assert_eq!(LIMITS.over_images(&mut connection, &account).await.expect("counted"), None);
        assert_eq!(LIMITS.over_builds(&mut connection, &account).await.expect("counted"), None);
        assert_eq!(LIMITS.over_versions(&mut connection, one).await.expect("counted"), Some(Quota::Versions(2)));
        assert_eq!(LIMITS.over_versions(&mut connection, two).await.expect("counted"), None);
        image(&store, Uuid::new_v4(), "Updating", 1).await;
        assert_eq!(LIMITS.over_images(&mut connection, &account).await.expect("counted"), Some(Quota::Images(2)));
        assert_eq!(LIMITS.over_builds(&mut connection, &account).await.expect("counted"), Some(Quota::Builds(1)));
    }

    /// The states that the count names are those in which an image is being built.
    #[test]
    fn building_is_spelled_as_the_records_spell_it() {
        use lifecycle::images::State::*;
        for state in [Creating, Created, CreateFailed, Updating, Updated, UpdateFailed, Pruning, Deleting] {
            let spelled = serde_json::to_value(state).expect("serializes");
            assert_eq!(state.building(), spelled == "Creating" || spelled == "Updating", "{spelled}");
        }
    }

    #[tokio::test]
    async fn records_of_an_older_hearth_get_their_size_when_the_store_is_opened() {
        let (dir, store, _) = opened().await;
        let id = Uuid::new_v4();
        image(&store, id, "Created", 1).await;
        microvm(&store, "111122223333", "RUNNING", "\"known\": 1.5").await;
        let sql = "UPDATE microvms SET image_arn = ?";
        sqlx::query(sql).bind(format!("image-{id}")).execute(&store.pool).await.expect("updated");
        microvm(&store, "111122223333", "SUSPENDED", "\"memory_mib\": 8192").await;
        store.close().await;
        let store = Store::open(&dir.path().join("hearth.db")).await.expect("opens again");
        let sql = "SELECT doc FROM microvms ORDER BY doc ->> '$.memory_mib'";
        let docs: Vec<(String,)> = sqlx::query_as(sql).fetch_all(&store.pool).await.expect("read");
        assert_eq!(docs[0].0, r#"{"known":1.5,"memory_mib":512}"#);
        assert_eq!(docs[1].0, r#"{"memory_mib": 8192}"#);
    }
}
