//! MicroVM records.

use std::{collections::HashMap, path::PathBuf};

use api::{
    AccountId, ConnectorArn, Hooks, IdlePolicy, ImageArn, ImageVersion, Logging, MicrovmId, MicrovmState, RoleArn,
    Sensitive, Timestamp, schema::bounds::Longest,
};
use engine::MachineRecord;
use lifecycle::{
    Millis,
    microvms::{Input, Microvm, State},
    usage::Snapshot,
};
use serde::{Deserialize, Serialize};

use super::{ACCEPTED, Accepted, Claim, Page, Store, StoreError, decode, history::Entry};
use crate::config::Limits;

/// `maximumDurationInSeconds` of a microVM without an end of its own: the member is there in every answer, so that typed clients
/// read it, and it holds the longest life that the model's integer can say (68 years).
const ENDLESS: u32 = Longest::ANY.get();

/// What traffic a microVM takes, decided at launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ingress {
    /// Application traffic.
    pub application: bool,
    /// Shell sessions.
    pub shell: bool,
}

/// All that is known of a microVM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MicrovmRecord {
    /// Its id.
    pub id: MicrovmId,
    /// Whose it is.
    pub account: AccountId,
    /// Endpoint host at the time of its launch, without port.
    pub endpoint: String,
    /// What it was started from.
    pub image_arn: ImageArn,
    /// What it was started from.
    pub version: ImageVersion,
    /// The sealed image.
    pub image_dir: PathBuf,
    /// The last guest event that belongs to the image, not to this microVM.
    pub image_events: u64,
    /// `minimumMemoryInMiB` of the version. What a record of an older hearth has is filled in when the store is opened.
    #[serde(default)]
    pub memory_mib: u32,
    /// Hooks of the version.
    pub hooks: Hooks,
    /// As asked for.
    pub execution_role_arn: Option<RoleArn>,
    /// As asked for.
    pub idle_policy: Option<IdlePolicy>,
    /// Resolved.
    pub ingress_connectors: Vec<ConnectorArn>,
    /// Resolved.
    pub egress_connectors: Vec<ConnectorArn>,
    /// What the connectors mean.
    pub ingress: Ingress,
    /// As asked for.
    pub logging: Option<Logging>,
    /// Kept until `/run` has had it.
    pub run_hook_payload: Option<Sensitive<String>>,
    /// Its state, and what the rules need.
    pub life: Microvm,
    /// Its machine, while there is one.
    pub machine: Option<MachineRecord>,
    /// Its checkpoint, while that is what it would be restored from.
    pub saved_dir: Option<PathBuf>,
    /// Size of what it was last restored from or saved into: the image's, then its newest checkpoint's. Records of an older
    /// hearth do not say.
    #[serde(default)]
    pub snapshot: Option<Snapshot>,
    /// How often its tokens have been revoked.
    #[serde(default)]
    pub revocation: u64,
    /// The port that anybody may reach.
    #[serde(default)]
    pub public_port: Option<u16>,
}

/// A transition that is to be written with its record.
#[derive(Debug, Clone, Copy)]
pub struct Transition<'a> {
    /// What happened.
    pub input: &'a Input,
    /// When.
    pub at: Millis,
    /// The snapshot that it wrote or was restored from.
    pub snapshot: Option<Snapshot>,
}

impl MicrovmRecord {
    /// The state as the API spells it.
    pub fn state(&self) -> MicrovmState {
        match self.life.state {
            State::Pending => MicrovmState::Pending,
            State::Running => MicrovmState::Running,
            State::Suspending => MicrovmState::Suspending,
            State::Suspended => MicrovmState::Suspended,
            State::Terminating => MicrovmState::Terminating,
            State::Terminated => MicrovmState::Terminated,
        }
    }

    /// The first label of its endpoint's host; the rest is the configuration's.
    pub fn endpoint_label(&self) -> &str {
        label(&self.endpoint)
    }

    /// It sleeps on that checkpoint from now on.
    pub fn lie_down(&mut self, dir: PathBuf, snapshot: Snapshot) {
        (self.machine, self.saved_dir, self.snapshot) = (None, Some(dir), Some(snapshot));
    }

    /// As `GetMicrovm` shows it.
    pub fn view(&self, endpoint: String) -> api::Microvm {
        api::Microvm {
            microvm_id: self.id,
            state: self.state(),
            endpoint,
            image_arn: self.image_arn.clone(),
            image_version: self.version,
            execution_role_arn: self.execution_role_arn.clone(),
            idle_policy: self.idle_policy,
            maximum_duration_in_seconds: self.life.policy.lifetime.map_or(ENDLESS, |lifetime| (lifetime / 1000) as u32),
            started_at: Timestamp::from_millis(self.life.started_at),
            terminated_at: self.life.terminated_at.map(Timestamp::from_millis),
            state_reason: self.life.reason.clone(),
            termination_reason_code: None,
            ingress_network_connectors: Some(self.ingress_connectors.clone()),
            egress_network_connectors: Some(self.egress_connectors.clone()),
        }
    }

    /// As `ListMicrovms` shows it.
    pub fn summary(&self) -> api::MicrovmSummary {
        api::MicrovmSummary {
            microvm_id: self.id,
            state: self.state(),
            image_arn: self.image_arn.clone(),
            image_version: self.version,
            started_at: Timestamp::from_millis(self.life.started_at),
        }
    }
}

/// The name of an input, without what it brings: that is the record's `reason`.
fn name(input: &Input) -> Result<String, StoreError> {
    use serde_json::Value;
    Ok(match serde_json::to_value(input)? {
        Value::String(name) => name,
        Value::Object(object) => object.into_iter().next().map(|(name, _)| name).unwrap_or_default(),
        _ => String::new(),
    })
}

/// The first label of an endpoint's host.
fn label(host: &str) -> &str {
    host.split_once('.').map_or(host, |(label, _)| label)
}

impl Store {
    /// Adds a microVM that was just accepted. Refused: its version is not active (any more).
    pub async fn insert_microvm(
        &self,
        record: &MicrovmRecord,
        claim: Option<&Claim>,
        limits: Option<&Limits>,
    ) -> Result<Accepted, StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        if let Some(known) = Claim::stake(claim, &mut transaction, &record.id.to_string()).await? {
            return Ok(known);
        }
        let (launchable,): (i64,) = sqlx::query_as(
            "SELECT COUNT(*) FROM images JOIN versions ON versions.image = images.id
             WHERE arn = ? AND number = ?
             AND images.doc ->> '$.state' <> 'Deleting' AND versions.doc ->> '$.status' = 'ACTIVE'",
        )
        .bind(record.image_arn.to_string())
        .bind(i64::from(record.version.major()))
        .fetch_one(&mut *transaction)
        .await?;
        if launchable == 0 {
            return Ok(Accepted::Refused);
        }
        sqlx::query(
            "INSERT INTO microvms (id, account, endpoint, image_arn, version, state, generation, started_at, doc)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(record.id.to_string())
        .bind(record.account.as_str())
        .bind(&record.endpoint)
        .bind(record.image_arn.to_string())
        .bind(i64::from(record.version.major()))
        .bind(record.state().as_str())
        .bind(record.life.generation as i64)
        .bind(record.life.started_at)
        .bind(serde_json::to_string(record)?)
        .execute(&mut *transaction)
        .await?;
        if let Some(limits) = limits
            && let Some(quota) = limits.over_microvms(&mut transaction, &record.account).await?
        {
            return Ok(Accepted::OverQuota(quota));
        }
        let entry = Entry::of_microvm(record, ACCEPTED.to_owned(), record.life.started_at, None);
        self.conclude(transaction, &entry, ["store: microvm inserted", "store: microvm there"]).await?;
        Ok(Accepted::New)
    }

    /// Writes what a transition made of the microVM, and its row of the history, if nobody else did so since `before`.
    pub async fn advance_microvm(
        &self,
        record: &MicrovmRecord,
        before: u64,
        transition: Option<Transition<'_>>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let done =
            sqlx::query("UPDATE microvms SET state = ?, generation = ?, doc = ? WHERE id = ? AND generation = ?")
                .bind(record.state().as_str())
                .bind(record.life.generation as i64)
                .bind(serde_json::to_string(record)?)
                .bind(record.id.to_string())
                .bind(before as i64)
                .execute(&mut *transaction)
                .await?;
        if done.rows_affected() != 1 {
            return Err(StoreError::Stale(record.id.to_string()));
        }
        let points = ["store: microvm changed", "store: microvm change durable"];
        let Some(Transition { input, at, snapshot }) = transition else {
            return super::commit(transaction, points).await;
        };
        let entry = Entry::of_microvm(record, name(input)?, at, snapshot);
        self.conclude(transaction, &entry, points).await
    }

    /// Notes when traffic of microVMs was last seen, and forgets those that are over.
    pub async fn note_activity(&self, seen: &[(MicrovmId, i64)]) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        for (id, at) in seen {
            sqlx::query("INSERT OR REPLACE INTO activity VALUES (?, ?)")
                .bind(id.to_string())
                .bind(at)
                .execute(&mut *transaction)
                .await?;
        }
        sqlx::query("DELETE FROM activity WHERE microvm IN (SELECT id FROM microvms WHERE state = 'TERMINATED')")
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// When traffic was last noted, by microVM.
    pub async fn activity(&self) -> Result<HashMap<MicrovmId, i64>, StoreError> {
        let rows: Vec<(String, i64)> = sqlx::query_as("SELECT microvm, at FROM activity").fetch_all(&self.pool).await?;
        Ok(rows.into_iter().filter_map(|(id, at)| Some((id.parse().ok()?, at))).collect())
    }

    /// One microVM.
    pub async fn microvm(&self, id: MicrovmId) -> Result<Option<MicrovmRecord>, StoreError> {
        let row: Option<(String,)> = sqlx::query_as("SELECT doc FROM microvms WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|(doc,)| serde_json::from_str(&doc)).transpose()?)
    }

    /// Every microVM that is not over.
    pub async fn live_microvms(&self) -> Result<Vec<MicrovmRecord>, StoreError> {
        decode(
            sqlx::query_as("SELECT doc FROM microvms WHERE state <> 'TERMINATED' ORDER BY started_at")
                .fetch_all(&self.pool)
                .await?,
        )
    }

    /// Labels of the endpoints and ids of the newest microVMs that are over, for the ingress.
    pub async fn past_endpoints(&self, limit: u32) -> Result<Vec<(String, String)>, StoreError> {
        let sql = "SELECT endpoint, id FROM microvms WHERE state = 'TERMINATED' ORDER BY started_at DESC LIMIT ?";
        let past: Vec<(String, String)> = sqlx::query_as(sql).bind(limit).fetch_all(&self.pool).await?;
        Ok(past.into_iter().map(|(host, id)| (label(&host).to_owned(), id)).collect())
    }

    /// A page of an account's microVMs, newest first, optionally of one image and version. Each form has its index, so that a
    /// page costs the same wherever it lies.
    pub async fn microvms(
        &self,
        account: &AccountId,
        image: Option<&ImageArn>,
        version: Option<i64>,
        page: &Page,
    ) -> Result<Vec<MicrovmRecord>, StoreError> {
        let (at, id) = page.start();
        let sql = match image {
            None => {
                "SELECT doc FROM microvms WHERE account = ?1 AND (started_at, id) < (?2, ?3)
                 AND (?5 IS NULL OR version = ?5) ORDER BY started_at DESC, id DESC LIMIT ?6"
            }
            Some(_) => {
                "SELECT doc FROM microvms WHERE account = ?1 AND image_arn = ?4 AND (started_at, id) < (?2, ?3)
                 AND (?5 IS NULL OR version = ?5) ORDER BY started_at DESC, id DESC LIMIT ?6"
            }
        };
        decode(
            sqlx::query_as(sql)
                .bind(account.as_str())
                .bind(at)
                .bind(id)
                .bind(image.map(ToString::to_string))
                .bind(version)
                .bind(page.limit)
                .fetch_all(&self.pool)
                .await?,
        )
    }
}
