//! What may happen to a microVM, an image and its versions, a network connector. Pure: no I/O, no clock; time comes in as an argument.
//!
//! - [`microvms`]: the states, every transition, the work a state owes, and the one deadline that is next
//! - [`images`]: an image, its versions and builds
//! - [`throttle`]: how fast a caller may go
//! - [`connectors`]: a network connector and its updates
//! - [`usage`]: what was used, by the rows of a history
//!
//! The store accepts nothing but a transition from here, by compare-and-set on the generation number.

pub mod connectors;
pub mod images;
pub mod microvms;
pub mod throttle;
pub mod usage;

/// Milliseconds since the Unix epoch.
pub type Millis = i64;
