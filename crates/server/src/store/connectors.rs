//! Network connectors and their versions.

use api::{
    AccountId, Connector as Named, ConnectorArn, ConnectorConfiguration, ConnectorId, ConnectorName, ConnectorState,
    OperatorRole, Region, Tags, Timestamp,
};
use lifecycle::connectors::{Connector, State};
use serde::{Deserialize, Serialize};

use super::{Accepted, Claim, Page, Store, StoreError, decode};

/// Where names of connectors are unique: an account in a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// The account.
    pub account: AccountId,
    /// The region.
    pub region: Region,
}

/// All that is known of a connector, but for its versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConnectorRecord {
    /// Its id.
    pub id: ConnectorId,
    /// Its ARN, without a version.
    pub arn: ConnectorArn,
    /// Its name.
    pub name: ConnectorName,
    /// Its state.
    pub life: Connector,
    /// Why it is in its state.
    pub reason: Option<String>,
    /// Why the last update is where it is.
    pub update_reason: Option<String>,
    /// The newest version's number; that version cannot be deleted.
    pub latest: u32,
    /// Its tags.
    pub tags: Tags,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it changed last, its tags aside.
    pub modified_at: Timestamp,
}

/// A version of a connector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConnectorVersionRecord {
    /// Its number, from 1.
    pub number: u32,
    /// How the connector is made.
    pub configuration: ConnectorConfiguration,
    /// What it is made with.
    pub operator_role: OperatorRole,
    /// `Pending`, `Active` or `Failed`; of a connector that goes away, all versions do.
    pub state: State,
    /// Why it is in its state.
    pub reason: Option<String>,
    /// When it changed last.
    pub modified_at: Timestamp,
}

impl ConnectorRecord {
    /// Is that its account and region?
    pub fn lives_in(&self, home: &Home) -> bool {
        Home::of(&self.arn).as_ref() == Some(home)
    }
}

impl Home {
    /// Where the connector of that ARN belongs; `None` for a managed one.
    pub fn of(arn: &ConnectorArn) -> Option<Home> {
        match arn.connector() {
            Named::Custom { account, .. } => Some(Home { account: account.clone(), region: arn.region().clone() }),
            Named::Managed(_) => None,
        }
    }
}

impl Store {
    /// Adds a connector with its first version. Refused: its name is taken.
    pub async fn insert_connector(
        &self,
        home: &Home,
        record: &ConnectorRecord,
        version: &ConnectorVersionRecord,
        claim: Option<&Claim>,
    ) -> Result<Accepted, StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        if let Some(known) = Claim::stake(claim, &mut transaction, &record.id.to_string()).await? {
            return Ok(known);
        }
        let done = sqlx::query(
            "INSERT INTO connectors (id, account, region, name, state, created_at, doc) VALUES (?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (account, region, name) DO NOTHING",
        )
        .bind(record.id.to_string())
        .bind(home.account.as_str())
        .bind(home.region.as_str())
        .bind(record.name.as_str())
        .bind(record.state().as_str())
        .bind(record.created_at.as_millis())
        .bind(serde_json::to_string(record)?)
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(Accepted::Refused);
        }
        put_version(&mut transaction, record.id, version).await?;
        transaction.commit().await?;
        Ok(Accepted::New)
    }

    /// Writes a connector and, if given, one of its versions, and claims the token for that update.
    pub async fn put_connector(
        &self,
        record: &ConnectorRecord,
        version: Option<&ConnectorVersionRecord>,
        claim: Option<&Claim>,
    ) -> Result<Accepted, StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let resource = record.arn.with_version(record.latest).to_string();
        if let Some(known) = Claim::stake(claim, &mut transaction, &resource).await? {
            return Ok(known);
        }
        let done = sqlx::query("UPDATE connectors SET state = ?, doc = ? WHERE id = ?")
            .bind(record.state().as_str())
            .bind(serde_json::to_string(record)?)
            .bind(record.id.to_string())
            .execute(&mut *transaction)
            .await?;
        if done.rows_affected() != 1 {
            return Err(StoreError::Stale(record.arn.to_string()));
        }
        if let Some(version) = version {
            put_version(&mut transaction, record.id, version).await?;
        }
        transaction.commit().await?;
        Ok(Accepted::New)
    }

    /// Forgets a connector and its versions.
    pub async fn delete_connector(&self, id: ConnectorId) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM connectors WHERE id = ?").bind(id.to_string()).execute(&self.pool).await?;
        Ok(())
    }

    /// Forgets one version of a connector.
    pub async fn delete_connector_version(&self, id: ConnectorId, number: u32) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM connector_versions WHERE connector = ? AND number = ?")
            .bind(id.to_string())
            .bind(number)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The connector of that id, whoever's it is.
    pub async fn connector(&self, id: ConnectorId) -> Result<Option<ConnectorRecord>, StoreError> {
        let row: Option<(String,)> = sqlx::query_as("SELECT doc FROM connectors WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|(doc,)| serde_json::from_str(&doc)).transpose()?)
    }

    /// The connector of that ARN, whichever version it names.
    pub async fn connector_of(&self, arn: &ConnectorArn) -> Result<Option<ConnectorRecord>, StoreError> {
        let Named::Custom { id, version, .. } = arn.connector() else { return Ok(None) };
        let found = self.connector(ConnectorId::new(*id)).await?;
        Ok(found.filter(|record| version.map_or(record.arn == *arn, |number| record.arn.with_version(number) == *arn)))
    }

    /// The connector of that name.
    pub async fn connector_named(
        &self,
        home: &Home,
        name: &ConnectorName,
    ) -> Result<Option<ConnectorRecord>, StoreError> {
        let row: Option<(String,)> =
            sqlx::query_as("SELECT doc FROM connectors WHERE account = ? AND region = ? AND name = ?")
                .bind(home.account.as_str())
                .bind(home.region.as_str())
                .bind(name.as_str())
                .fetch_optional(&self.pool)
                .await?;
        Ok(row.map(|(doc,)| serde_json::from_str(&doc)).transpose()?)
    }

    /// How many connectors there are.
    pub async fn count_connectors(&self, home: &Home) -> Result<usize, StoreError> {
        let (count,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM connectors WHERE account = ? AND region = ?")
            .bind(home.account.as_str())
            .bind(home.region.as_str())
            .fetch_one(&self.pool)
            .await?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// Every connector, for start-up.
    pub async fn all_connectors(&self) -> Result<Vec<ConnectorRecord>, StoreError> {
        decode(sqlx::query_as("SELECT doc FROM connectors ORDER BY created_at, id").fetch_all(&self.pool).await?)
    }

    /// A page of connectors, newest first, optionally of one state.
    pub async fn connectors(
        &self,
        home: &Home,
        state: Option<ConnectorState>,
        page: &Page,
    ) -> Result<Vec<ConnectorRecord>, StoreError> {
        let (at, id) = page.start();
        decode(
            sqlx::query_as(
                "SELECT doc FROM connectors WHERE account = ?1 AND region = ?2 AND (created_at, id) < (?3, ?4)
                 AND (?5 IS NULL OR state = ?5) ORDER BY created_at DESC, id DESC LIMIT ?6",
            )
            .bind(home.account.as_str())
            .bind(home.region.as_str())
            .bind(at)
            .bind(id)
            .bind(state.map(ConnectorState::as_str))
            .bind(page.limit)
            .fetch_all(&self.pool)
            .await?,
        )
    }

    /// One version.
    pub async fn connector_version(
        &self,
        id: ConnectorId,
        number: u32,
    ) -> Result<Option<ConnectorVersionRecord>, StoreError> {
        let row: Option<(String,)> =
            sqlx::query_as("SELECT doc FROM connector_versions WHERE connector = ? AND number = ?")
                .bind(id.to_string())
                .bind(number)
                .fetch_optional(&self.pool)
                .await?;
        Ok(row.map(|(doc,)| serde_json::from_str(&doc)).transpose()?)
    }

    /// Versions with a number below `before`, newest first, at most `limit`, optionally of one state.
    pub async fn connector_versions(
        &self,
        id: ConnectorId,
        before: i64,
        state: Option<ConnectorState>,
        limit: u32,
    ) -> Result<Vec<ConnectorVersionRecord>, StoreError> {
        decode(
            sqlx::query_as(
                "SELECT doc FROM connector_versions WHERE connector = ?1 AND number < ?2
                 AND (?3 IS NULL OR state = ?3) ORDER BY number DESC LIMIT ?4",
            )
            .bind(id.to_string())
            .bind(before)
            .bind(state.map(ConnectorState::as_str))
            .bind(limit)
            .fetch_all(&self.pool)
            .await?,
        )
    }
}

async fn put_version(
    connection: &mut sqlx::SqliteConnection,
    id: ConnectorId,
    version: &ConnectorVersionRecord,
) -> Result<(), StoreError> {
    sqlx::query("INSERT OR REPLACE INTO connector_versions (connector, number, state, doc) VALUES (?, ?, ?, ?)")
        .bind(id.to_string())
        .bind(version.number)
        .bind(crate::connectors::spelled(version.state).as_str())
        .bind(serde_json::to_string(version)?)
        .execute(connection)
        .await?;
    Ok(())
}
