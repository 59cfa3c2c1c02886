//! The wordings of `lambda-core` about network connectors (spec 3.4, 9.2).

use std::fmt;

use super::{ApiError, ErrorKind, Form};
use crate::{ConnectorArn, ConnectorName, ConnectorState, schema::bounds};

impl ApiError {
    /// A parameter that the older services of Lambda refuse, in words of one's own.
    pub fn invalid_parameter(message: impl Into<String>) -> Self {
        ApiError::new(ErrorKind::InvalidParameterValue, message)
    }

    /// No such network connector, or no such version. Takes text, for ill-formed identifiers are not found either. The
    /// service's words are not known, but for the spelling of the member (spec 9.2).
    pub fn connector_not_found(identifier: impl fmt::Display) -> Self {
        ApiError::new(ErrorKind::ResourceNotFound, format!("Network connector not found: {identifier}")).of_core()
    }

    /// A member that the model calls optional and the service requires. The service's words for one of them (spec 9.2).
    pub fn connector_needs(member: &str) -> Self {
        ApiError::invalid_parameter(format!("{member} is required for VPC_EGRESS connector type"))
    }

    /// An operation on connectors got the ARN of a version. The service's words are not known.
    pub fn connector_qualified(identifier: impl fmt::Display) -> Self {
        ApiError::invalid_parameter(format!("{identifier} names a version; this operation takes a network connector"))
    }

    /// The name is taken. The service's words are not known; modelled on [`ApiError::image_name_taken`].
    pub fn connector_name_taken(name: &ConnectorName) -> Self {
        let message = format!("A network connector with the name '{name}' already exists in this account");
        ApiError::new(ErrorKind::ResourceConflict, message)
    }

    /// The connector cannot do that in its state. The service's words are not known.
    pub fn connector_in_state(arn: &ConnectorArn, state: ConnectorState) -> Self {
        ApiError::new(ErrorKind::ResourceConflict, format!("The network connector {arn} is in state: {state}"))
    }

    /// An update is under way. The service's words are not known.
    pub fn connector_updating(arn: &ConnectorArn) -> Self {
        let message = format!("An update of the network connector {arn} is in progress");
        ApiError::new(ErrorKind::ResourceConflict, message)
    }

    /// The newest version goes with its connector only. The service's words are not known.
    pub fn connector_latest_version(arn: &ConnectorArn) -> Self {
        let message =
            format!("Cannot delete {arn}, the latest version of its network connector; delete the connector instead");
        ApiError::new(ErrorKind::ResourceConflict, message)
    }

    /// As [`ApiError::client_token_reused`], of the operations on connectors.
    pub fn connector_token_reused() -> Self {
        ApiError { kind: ErrorKind::ResourceConflict, ..ApiError::client_token_reused() }
    }

    /// The account has [`bounds::CONNECTORS`] connectors.
    pub fn too_many_connectors() -> Self {
        let message = format!("An account can have {} network connectors at most", bounds::CONNECTORS);
        ApiError::new(ErrorKind::NetworkConnectorLimitExceeded, message)
    }

    /// The connector has [`bounds::CONNECTOR_VERSIONS`] versions.
    pub fn too_many_connector_versions() -> Self {
        let message = format!(
            "A network connector can have {} versions at most; delete older versions first",
            bounds::CONNECTOR_VERSIONS
        );
        ApiError::new(ErrorKind::NetworkConnectorLimitExceeded, message)
    }

    /// A launch or an image names a connector that the account does not have. The service's words are not known; modelled
    /// on those for a managed connector.
    pub fn connector_unrecognized(arn: &ConnectorArn) -> Self {
        ApiError::validation(format!("Unrecognized network connector ARN: {arn}"))
    }

    /// A launch or an image names a connector that is there, but cannot be used. The service's words are not known.
    pub fn connector_unusable(arn: &ConnectorArn, state: ConnectorState) -> Self {
        ApiError::validation(format!("Network connector {arn} must be ACTIVE; it is in state: {state}"))
    }

    /// A launch or an image names a connector for something else. The service's words are not known.
    pub fn connector_of_other_compute(arn: &ConnectorArn) -> Self {
        ApiError::validation(format!("Network connector {arn} is not associated with compute resource type MicroVm"))
    }

    /// The same error as `lambda-core` names it, with the members that it has there: that service has neither
    /// `InternalServerException` nor `ThrottlingException`.
    pub fn of_core(self) -> Self {
        let kind = match self.kind {
            ErrorKind::InternalServer => ErrorKind::Service,
            ErrorKind::Throttling => ErrorKind::TooManyRequests,
            kind => kind,
        };
        let form = if self.form == Form::Union { Form::Union } else { Form::Core };
        ApiError { kind, form, ..self }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lambda_core_has_its_own_names_and_members() {
        let broken = ApiError::internal().of_core();
        assert_eq!(
            (broken.status(), broken.error_type(), broken.retry_after_seconds()),
            (500, "ServiceException", None)
        );
        assert_eq!(broken.body(), json!({"Type": "Service", "Message": ApiError::internal().message()}));
        let fast = ApiError::throttled(crate::operations::Family::Lambda, 3).of_core();
        assert_eq!(
            (fast.status(), fast.error_type(), fast.retry_after_seconds()),
            (429, "TooManyRequestsException", Some(3))
        );
        assert_eq!(
            fast.body(),
            json!({"Type": "User", "message": "Rate exceeded", "Reason": "CallerRateLimitExceeded"})
        );
        assert_eq!(ApiError::expected_null().of_core(), ApiError::expected_null());
        let absent = ApiError::connector_not_found("x").of_core();
        assert_eq!(absent.body(), json!({"Type": "User", "Message": "Network connector not found: x"}));
        let full = ApiError::too_many_connectors();
        assert_eq!((full.status(), full.error_type()), (400, "NetworkConnectorLimitExceededException"));
        assert_eq!(
            full.body(),
            json!({"Type": "User", "message": "An account can have 100 network connectors at most"})
        );
    }
}
