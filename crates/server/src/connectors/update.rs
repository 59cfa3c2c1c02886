//! `UpdateNetworkConnector`: 202; every change is a new version, and the connector stays ACTIVE.

use std::sync::Arc;

use api::{ApiError, ConnectorArn, Operation, Timestamp, UpdateNetworkConnectorInput, schema::bounds};
use lifecycle::connectors::{Input, State};

use super::{Connectors, refused};
use crate::{
    edge::Caller,
    failure::internal,
    shared::now,
    store::{Accepted, Claim, ConnectorRecord, ConnectorVersionRecord},
};

/// What AWS says to an update that changes nothing (spec 9.2).
const NO_CHANGES: &str = "No configuration changes detected";

impl Connectors {
    /// See the module.
    pub async fn update(
        self: &Arc<Self>,
        caller: &Caller,
        input: UpdateNetworkConnectorInput,
    ) -> Result<api::UpdateNetworkConnectorOutput, ApiError> {
        if input.identifier.version().is_some() {
            return Err(ApiError::connector_qualified(&input.identifier));
        }
        let claim = Claim::of(&caller.account, Operation::UpdateNetworkConnector, input.client_token.as_ref(), &input);
        let claim = claim.map_err(internal)?;
        let _writer = self.writer.lock().await;
        let (mut record, latest) =
            self.find_version(caller, "lambda:UpdateNetworkConnector", &input.identifier).await?;
        if let Some(role) = &input.operator_role {
            caller.authorize("iam:PassRole", role)?;
        }
        if let Some(known) = self.repeated(claim.as_ref(), &record, &latest).await? {
            return Ok(known);
        }
        record.life = record.life.step(Input::Update).map_err(|refusal| refused(&record, refusal))?;
        let at = Timestamp::from_millis(now());
        let version = changed(&latest, &input, at);
        match &version {
            None => {
                record.life = record.life.step(Input::Provisioned).map_err(|refusal| refused(&record, refusal))?;
                record.update_reason = Some(NO_CHANGES.to_owned());
            }
            Some(version) => {
                self.check_room(&record).await?;
                (record.latest, record.update_reason, record.modified_at) = (version.number, None, at);
            }
        }
        match self.store.put_connector(&record, version.as_ref(), claim.as_ref()).await.map_err(internal)? {
            Accepted::New => {}
            _ => return Err(ApiError::connector_token_reused()),
        }
        if version.is_some() {
            self.start_work(record.id);
        }
        Ok(record.updated(version.as_ref().unwrap_or(&latest)))
    }

    async fn check_room(&self, record: &ConnectorRecord) -> Result<(), ApiError> {
        let limit = bounds::CONNECTOR_VERSIONS;
        let versions = self.store.connector_versions(record.id, i64::MAX, None, limit as u32).await;
        if versions.map_err(internal)?.len() < limit { Ok(()) } else { Err(ApiError::too_many_connector_versions()) }
    }

    /// The answer to a token that was used before for this connector. One that was used for another of the same name, which
    /// has gone, is given back.
    async fn repeated(
        &self,
        claim: Option<&Claim>,
        record: &ConnectorRecord,
        latest: &ConnectorVersionRecord,
    ) -> Result<Option<api::UpdateNetworkConnectorOutput>, ApiError> {
        let made: ConnectorArn = match self.store.recall(claim).await.map_err(internal)? {
            None => return Ok(None),
            Some(Accepted::Replay(arn)) => arn.parse().map_err(internal)?,
            Some(_) => return Err(ApiError::connector_token_reused()),
        };
        let number = made.version().unwrap_or(latest.number);
        if record.arn.with_version(number) != made {
            if let Some(claim) = claim {
                self.store.forget_token(claim).await.map_err(internal)?;
            }
            return Ok(None);
        }
        let version = self.store.connector_version(record.id, number).await.map_err(internal)?;
        Ok(Some(record.updated(version.as_ref().unwrap_or(latest))))
    }
}

/// The version that the update makes; `None` when it changes nothing.
fn changed(
    latest: &ConnectorVersionRecord,
    input: &UpdateNetworkConnectorInput,
    at: Timestamp,
) -> Option<ConnectorVersionRecord> {
    let configuration = match &input.configuration {
        Some(update) => latest.configuration.updated(update),
        None => latest.configuration.clone(),
    };
    let operator_role = input.operator_role.clone().unwrap_or_else(|| latest.operator_role.clone());
    let same = configuration == latest.configuration && operator_role == latest.operator_role;
    let number = latest.number + 1;
    let version = ConnectorVersionRecord {
        number,
        configuration,
        operator_role,
        state: State::Pending,
        reason: None,
        modified_at: at,
    };
    (!same).then_some(version)
}
