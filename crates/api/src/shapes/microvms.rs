//! MicroVMs and their tokens.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{IdlePolicy, Logging, Unit};
use crate::{
    Sensitive, Timestamp,
    arns::{ConnectorArn, ImageArn, RoleArn},
    ids::{ImageVersion, MicrovmId},
    text::enumeration,
};

enumeration! {
    /// State of a microVM (spec 5.1).
    MicrovmState {
        /// Being started.
        Pending = "PENDING",
        /// Serving.
        Running = "RUNNING",
        /// Being put to sleep.
        Suspending = "SUSPENDING",
        /// Asleep: no process, only files.
        Suspended = "SUSPENDED",
        /// Being ended.
        Terminating = "TERMINATING",
        /// Gone, still readable.
        Terminated = "TERMINATED",
    }
}

/// `RunMicrovm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunMicrovmInput {
    /// The image.
    pub image_identifier: ImageArn,
    /// The version; absent: the latest active one.
    pub image_version: Option<ImageVersion>,
    /// The role whose credentials the guest sees.
    pub execution_role_arn: Option<RoleArn>,
    /// Absent: `HTTP_INGRESS`.
    pub ingress_network_connectors: Option<Vec<ConnectorArn>>,
    /// Absent or empty: the image version's.
    pub egress_network_connectors: Option<Vec<ConnectorArn>>,
    /// Absent: never suspended by itself.
    pub idle_policy: Option<IdlePolicy>,
    /// Where logs go.
    pub logging: Option<Logging>,
    /// Body of the `/run` hook, at most 4096 characters.
    pub run_hook_payload: Option<Sensitive<String>>,
    /// Life in seconds, suspended time included, 1..=28800 unless the server allows more; absent: the most.
    pub maximum_duration_in_seconds: Option<u32>,
    /// Makes repeats safe.
    pub client_token: Option<String>,
}

/// A microVM; the answer of `RunMicrovm` and `GetMicrovm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Microvm {
    /// Its id.
    pub microvm_id: MicrovmId,
    /// Its state.
    pub state: MicrovmState,
    /// A bare host name, no scheme.
    pub endpoint: String,
    /// What it was started from.
    pub image_arn: ImageArn,
    /// What it was started from, resolved.
    pub image_version: ImageVersion,
    /// The role whose credentials the guest sees.
    pub execution_role_arn: Option<RoleArn>,
    /// As asked for.
    pub idle_policy: Option<IdlePolicy>,
    /// Life in seconds, resolved; 2147483647 when it has no end of its own.
    pub maximum_duration_in_seconds: u32,
    /// When the launch was accepted.
    pub started_at: Timestamp,
    /// When it ended.
    pub terminated_at: Option<Timestamp>,
    /// Why it ended (spec 5.6); `null` while healthy.
    pub state_reason: Option<String>,
    /// Not in the model, always `null` (spec 2.5).
    #[serde(default)]
    pub termination_reason_code: Option<String>,
    /// Resolved.
    pub ingress_network_connectors: Option<Vec<ConnectorArn>>,
    /// Resolved.
    pub egress_network_connectors: Option<Vec<ConnectorArn>>,
}

/// Answer of `RunMicrovm`.
pub type RunMicrovmOutput = Microvm;
/// Answer of `GetMicrovm`.
pub type GetMicrovmOutput = Microvm;

/// `GetMicrovm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetMicrovmInput {
    /// The microVM.
    pub microvm_identifier: MicrovmId,
}

/// `ListMicrovms`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListMicrovmsInput {
    /// Only those of this image.
    pub image_identifier: Option<ImageArn>,
    /// Only those of this version; free text, for a filter that matches nothing is no error.
    pub image_version: Option<String>,
    /// Items per page, 1..=50.
    pub max_results: Option<u32>,
    /// Cursor of the page before.
    pub next_token: Option<String>,
}

/// Answer of `ListMicrovms`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListMicrovmsOutput {
    /// One page.
    pub items: Vec<MicrovmSummary>,
    /// `null` at the end.
    pub next_token: Option<String>,
}

/// A microVM in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MicrovmSummary {
    /// Its id.
    pub microvm_id: MicrovmId,
    /// Its state.
    pub state: MicrovmState,
    /// What it was started from.
    pub image_arn: ImageArn,
    /// What it was started from.
    pub image_version: ImageVersion,
    /// When the launch was accepted.
    pub started_at: Timestamp,
}

/// `SuspendMicrovm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SuspendMicrovmInput {
    /// The microVM.
    pub microvm_identifier: MicrovmId,
}

/// `ResumeMicrovm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResumeMicrovmInput {
    /// The microVM.
    pub microvm_identifier: MicrovmId,
}

/// `TerminateMicrovm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TerminateMicrovmInput {
    /// The microVM.
    pub microvm_identifier: MicrovmId,
}

/// Answer of `SuspendMicrovm`: `{}`.
pub type SuspendMicrovmOutput = Unit;
/// Answer of `ResumeMicrovm`: `{}`.
pub type ResumeMicrovmOutput = Unit;
/// Answer of `TerminateMicrovm`: `{}`.
pub type TerminateMicrovmOutput = Unit;

/// Which ports of the application a token opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PortSpecification {
    /// One, 1..=65535.
    Port(u16),
    /// Some.
    Range(PortRange),
    /// Every one.
    AllPorts(Unit),
}

impl PortSpecification {
    /// Does it open that port?
    pub fn allows(&self, port: u16) -> bool {
        match self {
            PortSpecification::Port(only) => *only == port,
            PortSpecification::Range(range) => (range.start_port..=range.end_port).contains(&port),
            PortSpecification::AllPorts(Unit {}) => port != 0,
        }
    }
}

/// Ports from..=to, each 1..=65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortRange {
    /// The first.
    pub start_port: u16,
    /// The last.
    pub end_port: u16,
}

/// `CreateMicrovmAuthToken`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateMicrovmAuthTokenInput {
    /// The microVM.
    pub microvm_identifier: MicrovmId,
    /// Minutes, 1..=60.
    pub expiration_in_minutes: u32,
    /// At least one.
    pub allowed_ports: Vec<PortSpecification>,
}

/// Answer of `CreateMicrovmAuthToken`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateMicrovmAuthTokenOutput {
    /// Header name to value; one entry, [`AUTH_TOKEN_HEADER`].
    pub auth_token: BTreeMap<String, Sensitive<String>>,
}

/// `CreateMicrovmShellAuthToken`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateMicrovmShellAuthTokenInput {
    /// The microVM.
    pub microvm_identifier: MicrovmId,
    /// Minutes, 1..=60.
    pub expiration_in_minutes: u32,
}

/// Answer of `CreateMicrovmShellAuthToken`.
pub type CreateMicrovmShellAuthTokenOutput = CreateMicrovmAuthTokenOutput;

/// The header that carries a token to the endpoint, as the answer spells it.
pub const AUTH_TOKEN_HEADER: &str = "X-aws-proxy-auth";

impl CreateMicrovmAuthTokenOutput {
    /// The answer with that token.
    pub fn new(token: String) -> Self {
        CreateMicrovmAuthTokenOutput {
            auth_token: BTreeMap::from([(AUTH_TOKEN_HEADER.to_owned(), Sensitive::new(token))]),
        }
    }
}
