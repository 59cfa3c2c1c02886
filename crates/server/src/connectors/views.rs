//! Records as the API shows them.

use api::{ConnectorState, ConnectorType, IsoTimestamp, LastUpdateStatus};
use lifecycle::connectors::{State, Update};

use crate::store::{ConnectorRecord, ConnectorVersionRecord};

/// A state as the API spells it.
pub const fn spelled(state: State) -> ConnectorState {
    match state {
        State::Pending => ConnectorState::Pending,
        State::Active => ConnectorState::Active,
        State::Inactive => ConnectorState::Inactive,
        State::Failed => ConnectorState::Failed,
        State::Deleting => ConnectorState::Deleting,
        State::DeleteFailed => ConnectorState::DeleteFailed,
    }
}

impl ConnectorRecord {
    /// The state as the API spells it.
    pub fn state(&self) -> ConnectorState {
        spelled(self.life.state)
    }

    /// The state of a connector that goes away, which is its versions' too.
    pub fn parting(&self) -> Option<ConnectorState> {
        matches!(self.life.state, State::Deleting | State::DeleteFailed).then(|| self.state())
    }

    /// The state of one of its versions.
    pub fn version_state(&self, version: &ConnectorVersionRecord) -> ConnectorState {
        self.parting().unwrap_or_else(|| spelled(version.state))
    }

    /// Answer of `CreateNetworkConnector` and `DeleteNetworkConnector`.
    pub fn created(&self, version: &ConnectorVersionRecord) -> api::CreateNetworkConnectorOutput {
        api::CreateNetworkConnectorOutput {
            arn: self.arn.clone(),
            name: self.name.clone(),
            id: self.id,
            version_arn: Some(self.arn.with_version(version.number)),
            version: Some(version.number.into()),
            configuration: Some(version.configuration.clone()),
            operator_role: Some(version.operator_role.clone()),
            state: Some(self.state()),
        }
    }

    /// Answer of `UpdateNetworkConnector`.
    pub fn updated(&self, version: &ConnectorVersionRecord) -> api::UpdateNetworkConnectorOutput {
        api::UpdateNetworkConnectorOutput {
            connector: self.created(version),
            last_update_status: self.last_update(),
            last_update_status_reason: self.update_reason.clone(),
            last_modified: Some(IsoTimestamp(self.modified_at)),
        }
    }

    /// Answer of `GetNetworkConnector`; `version` is the newest.
    pub fn view(&self, version: &ConnectorVersionRecord) -> api::GetNetworkConnectorOutput {
        api::GetNetworkConnectorOutput {
            connector: self.created(version),
            latest_version_arn: Some(self.arn.with_version(self.latest)),
            latest_version: Some(self.latest.into()),
            state_reason: self.reason.clone(),
            state_reason_code: None,
            last_update_status: self.last_update(),
            last_update_status_reason: self.update_reason.clone(),
            last_update_status_reason_code: None,
            last_modified: Some(IsoTimestamp(self.modified_at)),
        }
    }

    /// Answer of `GetNetworkConnector` to the ARN of one version. Updates are the connector's, not a version's.
    pub fn version_view(&self, version: &ConnectorVersionRecord) -> api::GetNetworkConnectorOutput {
        let state = Some(self.version_state(version));
        api::GetNetworkConnectorOutput {
            connector: api::CreateNetworkConnectorOutput { state, ..self.created(version) },
            latest_version_arn: Some(self.arn.with_version(self.latest)),
            latest_version: Some(self.latest.into()),
            state_reason: version.reason.clone(),
            state_reason_code: None,
            last_update_status: None,
            last_update_status_reason: None,
            last_update_status_reason_code: None,
            last_modified: Some(IsoTimestamp(version.modified_at)),
        }
    }

    /// The item of `ListNetworkConnectors`.
    pub fn summary(&self) -> api::ConnectorSummary {
        api::ConnectorSummary {
            arn: self.arn.clone(),
            name: self.name.clone(),
            id: self.id,
            kind: ConnectorType::VpcEgress,
            state: Some(self.state()),
            last_modified: Some(IsoTimestamp(self.modified_at)),
            latest_version_arn: Some(self.arn.with_version(self.latest)),
            latest_version: Some(self.latest.into()),
        }
    }

    /// The item of `ListNetworkConnectorVersions`.
    pub fn version_summary(&self, version: &ConnectorVersionRecord) -> api::ConnectorVersionSummary {
        api::ConnectorVersionSummary {
            arn: self.arn.clone(),
            version_arn: self.arn.with_version(version.number),
            name: self.name.clone(),
            id: self.id,
            version: version.number.into(),
            state: self.version_state(version),
            state_reason: version.reason.clone(),
            state_reason_code: None,
            last_modified: Some(IsoTimestamp(version.modified_at)),
        }
    }

    fn last_update(&self) -> Option<LastUpdateStatus> {
        self.life.update.map(|update| match update {
            Update::InProgress => LastUpdateStatus::InProgress,
            Update::Successful => LastUpdateStatus::Successful,
            Update::Failed => LastUpdateStatus::Failed,
        })
    }
}
