//! The public contract of AWS Lambda MicroVMs (API version 2025-09-09) and of its network connectors (`lambda-core`,
//! 2026-04-30), pure: no I/O, no async, no clock.
//!
//! - [`ids`], [`arns`], [`connectors`]: names of things, as types that cannot be wrong
//! - [`shapes`]: what requests and answers hold
//! - [`schema`]: the table that requests are validated against, and its numbers in [`schema::bounds`]
//! - [`operations`]: method and path of each operation; [`request`]: HTTP to typed request and back
//! - [`error`]: the error catalogue; [`contract`]: which errors and which answer an operation declares
//! - [`logs`]: the reading side of CloudWatch Logs
//! - [`sigv4`]: AWS Signature Version 4, both sides
//!
//! To add an operation: its shapes in `shapes/`, its members in `schema/inputs.rs` (connectors: `schema/connectors.rs`), its
//! name and route in `operations.rs`, its rules (if any) in `rules.rs`, its errors and input in `contract.rs`; then the
//! compiler asks for it in `server::edge`.

pub mod arns;
pub mod connectors;
pub mod contract;
pub mod error;
pub mod ids;
pub mod logs;
pub mod operations;
pub mod request;
mod rules;
pub mod schema;
mod secret;
pub mod shapes;
pub mod sigv4;
mod text;
mod time;

pub use arns::{Connector, ConnectorArn, Direction, ImageArn, ManagedConnector, ManagedImageArn, RoleArn, TaggableArn};
pub use connectors::{ConnectorId, ConnectorIdentifier, ConnectorName, OperatorRole};
pub use error::{ApiError, ErrorKind};
pub use ids::{AccountId, BaseImageVersion, BuildId, ImageName, ImageVersion, MicrovmId, ParseError, Region};
pub use operations::{Input, Operation, Route, Service};
pub use secret::Sensitive;
pub use shapes::*;
pub use time::{IsoTimestamp, Timestamp};
