//! Lists: connectors, and versions of one; newest first, with the filter applied before a page is cut.

use api::{ApiError, Operation, schema::bounds};
use serde::{Serialize, de::DeserializeOwned};

use super::Connectors;
use crate::{
    edge::Caller,
    failure::internal,
    store::{ConnectorRecord, Page},
    tokens::{self, List},
};

impl Connectors {
    /// `ListNetworkConnectors`.
    pub async fn list(
        &self,
        caller: &Caller,
        input: api::ListNetworkConnectorsInput,
    ) -> Result<api::ListNetworkConnectorsOutput, ApiError> {
        caller.authorize("lambda:ListNetworkConnectors", "*")?;
        let home = self.home(caller);
        let list = List::of(&caller.account, Operation::ListNetworkConnectors, (&home.region, input.state));
        let after = self.open(&list, input.marker.as_deref())?;
        let limit = input.max_items.unwrap_or(bounds::CONNECTORS_PAGE).min(bounds::CONNECTORS_PAGE);
        let page = Page { after, limit: limit + 1 };
        let mut records = self.store.connectors(&home, input.state, &page).await.map_err(internal)?;
        let next = tokens::cut(&mut records, limit).map(|last| (last.created_at.as_millis(), last.id.to_string()));
        let next_marker = next.map(|next| self.cursors.seal(&list, &next)).transpose()?;
        let network_connectors = records.iter().map(ConnectorRecord::summary).collect();
        Ok(api::ListNetworkConnectorsOutput { network_connectors, next_marker })
    }

    /// `ListNetworkConnectorVersions`.
    pub async fn versions(
        &self,
        caller: &Caller,
        input: api::ListNetworkConnectorVersionsInput,
    ) -> Result<api::ListNetworkConnectorVersionsOutput, ApiError> {
        if input.identifier.version().is_some() {
            return Err(ApiError::connector_qualified(&input.identifier));
        }
        let record = self.find(caller, "lambda:ListNetworkConnectorVersions", &input.identifier).await?;
        let filter = (record.id, input.state);
        let list = List::of(&caller.account, Operation::ListNetworkConnectorVersions, filter);
        let before = self.open(&list, input.marker.as_deref())?.unwrap_or(i64::MAX);
        let limit = input.max_items.unwrap_or(bounds::CONNECTORS_PAGE);
        // The versions of a connector that goes away go with it, whatever their records say.
        let stored = match record.parting() {
            Some(state) if input.state.is_some_and(|wanted| wanted != state) => {
                return Ok(api::ListNetworkConnectorVersionsOutput {
                    network_connector_versions: Vec::new(),
                    next_marker: None,
                });
            }
            Some(_) => None,
            None => input.state,
        };
        let versions = self.store.connector_versions(record.id, before, stored, limit + 1).await;
        let mut versions = versions.map_err(internal)?;
        let next = tokens::cut(&mut versions, limit).map(|last| last.number);
        let next_marker = next.map(|next| self.cursors.seal(&list, &next)).transpose()?;
        let network_connector_versions = versions.iter().map(|version| record.version_summary(version)).collect();
        Ok(api::ListNetworkConnectorVersionsOutput { network_connector_versions, next_marker })
    }

    /// Reads a marker; one that is not this list's is refused as this service refuses parameters.
    fn open<P: DeserializeOwned>(
        &self,
        list: &List<'_, impl Serialize>,
        marker: Option<&str>,
    ) -> Result<Option<P>, ApiError> {
        self.cursors.open(list, marker).map_err(|error| match error.status() {
            400 => ApiError::invalid_parameter("Marker is not a marker that this list returned"),
            _ => error,
        })
    }
}
