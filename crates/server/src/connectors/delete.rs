//! `DeleteNetworkConnector`: 202; the whole connector, or one old version of it.

use std::sync::Arc;

use api::{ApiError, ConnectorState, Timestamp};
use lifecycle::connectors::{Input, State};

use super::{Connectors, refused};
use crate::{
    edge::Caller,
    failure::internal,
    shared::now,
    store::{ConnectorRecord, ConnectorVersionRecord},
};

impl Connectors {
    /// See the module.
    pub async fn delete(
        self: &Arc<Self>,
        caller: &Caller,
        input: api::DeleteNetworkConnectorInput,
    ) -> Result<api::DeleteNetworkConnectorOutput, ApiError> {
        let _writer = self.writer.lock().await;
        let (mut record, version) =
            self.find_version(caller, "lambda:DeleteNetworkConnector", &input.identifier).await?;
        if input.identifier.version().is_some() {
            return self.delete_version(&record, &version).await;
        }
        let before = record.life;
        record.life = before.step(Input::Delete).map_err(|refusal| refused(&record, refusal))?;
        if before.state != State::Deleting {
            (record.reason, record.modified_at) = (None, Timestamp::from_millis(now()));
            self.store.put_connector(&record, None, None).await.map_err(internal)?;
            self.start_work(record.id);
        }
        Ok(record.created(&version))
    }

    /// An old version goes at once: nothing but its record is left to remove.
    async fn delete_version(
        &self,
        record: &ConnectorRecord,
        version: &ConnectorVersionRecord,
    ) -> Result<api::DeleteNetworkConnectorOutput, ApiError> {
        if record.life.state == State::Deleting {
            return Err(ApiError::connector_in_state(&record.arn, record.state()));
        }
        if version.number == record.latest {
            return Err(ApiError::connector_latest_version(&record.arn.with_version(version.number)));
        }
        self.store.delete_connector_version(record.id, version.number).await.map_err(internal)?;
        Ok(api::DeleteNetworkConnectorOutput { state: Some(ConnectorState::Deleting), ..record.created(version) })
    }
}
