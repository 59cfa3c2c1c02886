//! May a microVM or an image use these connectors?

use api::{ApiError, ComputeResourceType, Connector, ConnectorArn, ConnectorId, ConnectorState};

use crate::{
    failure::internal,
    store::{Home, Store},
};

/// A customer's connector must be in `home`, ACTIVE, and for MicroVMs; managed ones are not looked at.
///
/// # Errors
/// `ValidationException`, naming the first that cannot be used.
pub async fn check(store: &Store, home: &Home, connectors: &[ConnectorArn]) -> Result<(), ApiError> {
    for arn in connectors {
        let Connector::Custom { id, version, .. } = arn.connector() else { continue };
        let unknown = || ApiError::connector_unrecognized(arn);
        if Home::of(arn).as_ref() != Some(home) {
            return Err(unknown());
        }
        let record = store.connector_of(arn).await.map_err(internal)?.ok_or_else(unknown)?;
        let number = version.unwrap_or(record.latest);
        let found = store.connector_version(ConnectorId::new(*id), number).await.map_err(internal)?;
        let found = found.ok_or_else(unknown)?;
        let state = version.map_or_else(|| record.state(), |_| record.version_state(&found));
        if state != ConnectorState::Active {
            return Err(ApiError::connector_unusable(arn, state));
        }
        if !found.configuration.serves(ComputeResourceType::MicroVm) {
            return Err(ApiError::connector_of_other_compute(arn));
        }
    }
    Ok(())
}
