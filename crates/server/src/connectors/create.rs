//! `CreateNetworkConnector`: 202, PENDING; idempotent by its client token.

use std::sync::Arc;

use api::{ApiError, ConnectorArn, ConnectorId, Operation, Timestamp, schema::bounds};
use lifecycle::connectors::Connector;
use uuid::Uuid;

use super::Connectors;
use crate::{
    edge::Caller,
    failure::internal,
    shared::now,
    store::{Accepted, Claim, ConnectorRecord, ConnectorVersionRecord},
};

impl Connectors {
    /// See the module.
    pub async fn create(
        self: &Arc<Self>,
        caller: &Caller,
        input: api::CreateNetworkConnectorInput,
    ) -> Result<api::CreateNetworkConnectorOutput, ApiError> {
        let (store, home) = (&self.store, self.home(caller));
        caller.authorize("lambda:CreateNetworkConnector", self.all(caller))?;
        let role = input.operator_role.clone();
        let role = role.ok_or_else(|| ApiError::connector_needs("NetworkConnectorOperatorRole"))?;
        caller.authorize("iam:PassRole", &role)?;
        let claim = Claim::of(&caller.account, Operation::CreateNetworkConnector, input.client_token.as_ref(), &input);
        let claim = claim.map_err(internal)?;
        let _writer = self.writer.lock().await;
        if let Some(known) = self.replayed(claim.as_ref()).await? {
            return Ok(known);
        }
        if store.connector_named(&home, &input.name).await.map_err(internal)?.is_some() {
            return Err(ApiError::connector_name_taken(&input.name));
        }
        if store.count_connectors(&home).await.map_err(internal)? >= bounds::CONNECTORS {
            return Err(ApiError::too_many_connectors());
        }
        let at = Timestamp::from_millis(now());
        let id = ConnectorId::new(Uuid::new_v4());
        let record = ConnectorRecord {
            id,
            arn: ConnectorArn::custom(home.region.clone(), home.account.clone(), id.uuid()),
            name: input.name,
            life: Connector::CREATED,
            reason: None,
            update_reason: None,
            latest: 1,
            tags: input.tags.unwrap_or_default(),
            created_at: at,
            modified_at: at,
        };
        let version = ConnectorVersionRecord {
            number: record.latest,
            configuration: input.configuration,
            operator_role: role,
            state: record.life.state,
            reason: None,
            modified_at: at,
        };
        match store.insert_connector(&home, &record, &version, claim.as_ref()).await.map_err(internal)? {
            Accepted::New => {}
            Accepted::Refused => return Err(ApiError::connector_name_taken(&record.name)),
            // No quota is asked: the bound is in the model's own error, above.
            Accepted::OverQuota(quota) => return Err(quota.into()),
            Accepted::Replay(_) | Accepted::Reused => return Err(ApiError::connector_token_reused()),
        }
        self.start_work(id);
        Ok(record.created(&version))
    }

    /// The connector that this token made, as it is now. A token that outlived its connector is given back: the creation is
    /// done again (spec 3.1).
    async fn replayed(&self, claim: Option<&Claim>) -> Result<Option<api::CreateNetworkConnectorOutput>, ApiError> {
        let id: ConnectorId = match self.store.recall(claim).await.map_err(internal)? {
            None => return Ok(None),
            Some(Accepted::Replay(id)) => id.parse().map_err(internal)?,
            Some(_) => return Err(ApiError::connector_token_reused()),
        };
        if let Some(record) = self.store.connector(id).await.map_err(internal)? {
            let version = self.store.connector_version(id, record.latest).await.map_err(internal)?;
            return Ok(version.map(|version| record.created(&version)));
        }
        if let Some(claim) = claim {
            self.store.forget_token(claim).await.map_err(internal)?;
        }
        Ok(None)
    }
}
