//! Network connectors (spec 9.2), the part of the service `lambda-core` that MicroVMs need.

use serde::{Deserialize, Serialize};

use super::Tags;
use crate::{
    IsoTimestamp,
    arns::ConnectorArn,
    connectors::{ConnectorId, ConnectorIdentifier, ConnectorName, OperatorRole},
    text::enumeration,
};

enumeration! {
    /// State of a connector, or of one of its versions.
    ConnectorState {
        /// Being made.
        Pending = "PENDING",
        /// Can be used.
        Active = "ACTIVE",
        /// Was not used for long; AWS took its interfaces back.
        Inactive = "INACTIVE",
        /// Could not be made.
        Failed = "FAILED",
        /// Going away.
        Deleting = "DELETING",
        /// Could not be deleted.
        DeleteFailed = "DELETE_FAILED",
    }
}

enumeration! {
    /// Why a connector failed.
    ConnectorReasonCode {
        /// The VPC encrypts and the interfaces do not.
        DisallowedByVpcEncryptionControl = "DisallowedByVpcEncryptionControl",
        /// EC2 throttled.
        Ec2RequestLimitExceeded = "Ec2RequestLimitExceeded",
        /// The operator role may not.
        InsufficientRolePermissions = "InsufficientRolePermissions",
        /// The service's fault.
        InternalError = "InternalError",
        /// An address needs one.
        InternetGatewayNotAttached = "InternetGatewayNotAttached",
        /// No such security group.
        InvalidSecurityGroup = "InvalidSecurityGroup",
        /// No such subnet.
        InvalidSubnet = "InvalidSubnet",
        /// Too many security groups.
        SecurityGroupsPerInterfaceLimitExceeded = "SecurityGroupsPerInterfaceLimitExceeded",
        /// The subnet is full.
        SubnetOutOfIPAddresses = "SubnetOutOfIPAddresses",
    }
}

enumeration! {
    /// How far the last update of a connector is.
    LastUpdateStatus {
        /// Done.
        Successful = "Successful",
        /// Not done; what was before is in effect.
        Failed = "Failed",
        /// Being done.
        InProgress = "InProgress",
    }
}

enumeration! {
    /// The kind of a connector; only lists show it.
    ConnectorType {
        /// Out of the guest, through a VPC.
        VpcEgress = "VPC_EGRESS",
    }
}

enumeration! {
    /// Addresses of a connector.
    NetworkProtocol {
        /// IPv4 only.
        Ipv4 = "IPv4",
        /// Both.
        DualStack = "DualStack",
    }
}

enumeration! {
    /// What a connector is for.
    ComputeResourceType {
        /// MicroVMs.
        MicroVm = "MicroVm",
        /// Another kind of Lambda's.
        WebFunction = "WebFunction",
    }
}

enumeration! {
    /// Does each interface have a public address?
    ElasticIpType {
        /// No.
        None = "None",
        /// One that the service owns.
        ServiceManaged = "ServiceManaged",
    }
}

/// Configuration of a connector; the one kind there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConnectorConfiguration {
    /// Through a VPC.
    VpcEgressConfiguration(VpcEgress),
}

/// Where traffic leaves. Nothing here is looked up: hearth has no EC2.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct VpcEgress {
    /// 1..=16 `subnet-...`.
    pub subnet_ids: Option<Vec<String>>,
    /// At most 16 `sg-...`.
    pub security_group_ids: Option<Vec<String>>,
    /// Its addresses.
    pub network_protocol: Option<NetworkProtocol>,
    /// Exactly one.
    pub associated_compute_resource_types: Option<Vec<ComputeResourceType>>,
    /// Public addresses.
    pub elastic_ip_configuration: Option<ElasticIpConfiguration>,
}

/// Public addresses of a connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ElasticIpConfiguration {
    /// Which.
    #[serde(rename = "Type")]
    pub kind: ElasticIpType,
}

impl ConnectorConfiguration {
    /// The VPC side.
    pub fn vpc_egress(&self) -> &VpcEgress {
        let ConnectorConfiguration::VpcEgressConfiguration(vpc) = self;
        vpc
    }

    /// This configuration as an update changes it: what the update does not name stays as it is.
    pub fn updated(&self, update: &ConnectorConfiguration) -> Self {
        let (before, new) = (self.vpc_egress(), update.vpc_egress().clone());
        ConnectorConfiguration::VpcEgressConfiguration(VpcEgress {
            subnet_ids: new.subnet_ids.or_else(|| before.subnet_ids.clone()),
            security_group_ids: new.security_group_ids.or_else(|| before.security_group_ids.clone()),
            network_protocol: new.network_protocol.or(before.network_protocol),
            associated_compute_resource_types: new
                .associated_compute_resource_types
                .or_else(|| before.associated_compute_resource_types.clone()),
            elastic_ip_configuration: new.elastic_ip_configuration.or(before.elastic_ip_configuration),
        })
    }

    /// May that kind of thing use the connector?
    pub fn serves(&self, kind: ComputeResourceType) -> bool {
        self.vpc_egress().associated_compute_resource_types.as_ref().is_some_and(|kinds| kinds.contains(&kind))
    }
}

/// `CreateNetworkConnector`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateNetworkConnectorInput {
    /// Its name.
    pub name: ConnectorName,
    /// How it is made.
    pub configuration: ConnectorConfiguration,
    /// What it is made with; required, though the model does not say so.
    pub operator_role: Option<OperatorRole>,
    /// Makes a repeat safe; required, though the model does not say so. 1..=64 characters.
    pub client_token: Option<String>,
    /// Its tags.
    pub tags: Option<Tags>,
}

/// Answer of `CreateNetworkConnector`, and of `DeleteNetworkConnector`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateNetworkConnectorOutput {
    /// The connector.
    pub arn: ConnectorArn,
    /// Its name.
    pub name: ConnectorName,
    /// Its id.
    pub id: ConnectorId,
    /// The version.
    pub version_arn: Option<ConnectorArn>,
    /// The version's number, from 1.
    pub version: Option<u64>,
    /// How it is made.
    pub configuration: Option<ConnectorConfiguration>,
    /// What it is made with.
    pub operator_role: Option<OperatorRole>,
    /// Its state.
    pub state: Option<ConnectorState>,
}

/// `GetNetworkConnector`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetNetworkConnectorInput {
    /// Which; a version-qualified ARN reads that version.
    pub identifier: ConnectorIdentifier,
}

/// Answer of `GetNetworkConnector`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetNetworkConnectorOutput {
    /// As in the answer of create.
    #[serde(flatten)]
    pub connector: CreateNetworkConnectorOutput,
    /// The newest version.
    pub latest_version_arn: Option<ConnectorArn>,
    /// The newest version's number.
    pub latest_version: Option<u64>,
    /// Why it is in its state.
    pub state_reason: Option<String>,
    /// Why it failed.
    pub state_reason_code: Option<ConnectorReasonCode>,
    /// How far the last update is; `null` when there was none.
    pub last_update_status: Option<LastUpdateStatus>,
    /// Why.
    pub last_update_status_reason: Option<String>,
    /// Why it failed.
    pub last_update_status_reason_code: Option<ConnectorReasonCode>,
    /// When it changed last.
    pub last_modified: Option<IsoTimestamp>,
}

/// `ListNetworkConnectors`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListNetworkConnectorsInput {
    /// Only these.
    pub state: Option<ConnectorState>,
    /// Cursor of the page before.
    pub marker: Option<String>,
    /// Items per page, 1..=100; no page has more than [`crate::schema::bounds::CONNECTORS_PAGE`].
    pub max_items: Option<u32>,
}

/// A connector in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ConnectorSummary {
    /// The connector.
    pub arn: ConnectorArn,
    /// Its name.
    pub name: ConnectorName,
    /// Its id.
    pub id: ConnectorId,
    /// Its kind.
    #[serde(rename = "Type")]
    pub kind: ConnectorType,
    /// Its state.
    pub state: Option<ConnectorState>,
    /// When it changed last.
    pub last_modified: Option<IsoTimestamp>,
    /// The newest version.
    pub latest_version_arn: Option<ConnectorArn>,
    /// The newest version's number.
    pub latest_version: Option<u64>,
}

/// Answer of `ListNetworkConnectors`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListNetworkConnectorsOutput {
    /// One page.
    pub network_connectors: Vec<ConnectorSummary>,
    /// `null` at the end.
    pub next_marker: Option<String>,
}

/// `ListNetworkConnectorVersions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListNetworkConnectorVersionsInput {
    /// Whose.
    pub identifier: ConnectorIdentifier,
    /// Only these.
    pub state: Option<ConnectorState>,
    /// Cursor of the page before.
    pub marker: Option<String>,
    /// Items per page, 1..=100.
    pub max_items: Option<u32>,
}

/// A version in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ConnectorVersionSummary {
    /// The connector.
    pub arn: ConnectorArn,
    /// The version.
    pub version_arn: ConnectorArn,
    /// The connector's name.
    pub name: ConnectorName,
    /// The connector's id.
    pub id: ConnectorId,
    /// The version's number.
    pub version: u64,
    /// The version's state.
    pub state: ConnectorState,
    /// Why it is in its state.
    pub state_reason: Option<String>,
    /// Why it failed.
    pub state_reason_code: Option<ConnectorReasonCode>,
    /// When it changed last.
    pub last_modified: Option<IsoTimestamp>,
}

/// Answer of `ListNetworkConnectorVersions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListNetworkConnectorVersionsOutput {
    /// One page.
    pub network_connector_versions: Vec<ConnectorVersionSummary>,
    /// `null` at the end.
    pub next_marker: Option<String>,
}

/// `UpdateNetworkConnector`: what is absent stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateNetworkConnectorInput {
    /// Which.
    pub identifier: ConnectorIdentifier,
    /// How it is made.
    pub configuration: Option<ConnectorConfiguration>,
    /// What it is made with.
    pub operator_role: Option<OperatorRole>,
    /// Makes a repeat safe. 1..=64 characters.
    pub client_token: Option<String>,
}

/// Answer of `UpdateNetworkConnector`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateNetworkConnectorOutput {
    /// As in the answer of create.
    #[serde(flatten)]
    pub connector: CreateNetworkConnectorOutput,
    /// How far the update is.
    pub last_update_status: Option<LastUpdateStatus>,
    /// Why.
    pub last_update_status_reason: Option<String>,
    /// When it changed last.
    pub last_modified: Option<IsoTimestamp>,
}

/// `DeleteNetworkConnector`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteNetworkConnectorInput {
    /// Which; a version-qualified ARN names one version, which must not be the newest.
    pub identifier: ConnectorIdentifier,
}

/// Answer of `DeleteNetworkConnector`.
pub type DeleteNetworkConnectorOutput = CreateNetworkConnectorOutput;
