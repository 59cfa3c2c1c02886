//! The control plane: the API edge, the store, one driver task per microVM, the image builds, and start-up.
//!
//! ```text
//! edge        HTTP, signatures, S3; every operation typed and validated before it gets here
//! operations  each operation handed to
//!   images      what builds images
//!   microvms    what drives microVMs: one file a verb
//!   connectors  network connectors, as records
//! keys        access keys and sessions
//! names       custom host names and their certificates
//! retention   forgets what has been over for long
//! usage       what was used, by the rows of the history
//! store       SQLite: the only thing that must survive, beside files named by it
//! logs        output of builds and applications: writing, following, and CloudWatch Logs' questions
//! ```

mod by_account;
pub mod check;
pub mod config;
mod connectors;
pub mod edge;
mod failure;
mod hooks;
mod images;
pub mod keys;
pub mod logs;
mod microvms;
mod names;
mod operations;
mod retention;
mod shared;
mod start;
mod store;
mod tokens;
mod usage;

pub use config::{Config, ConfigError, EngineKind, Overrides};
pub use start::{ServeError, serve};
pub use store::{NameRecord, Store};
