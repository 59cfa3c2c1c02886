//! The shapes of the operations: what requests and answers hold (spec 3.2, 3.3).
//!
//! A request becomes one of these only through [`crate::request::decode`], which has checked it against [`crate::schema`]
//! first. Answers are written with every optional member present as `null` (spec 2.5).

mod common;
mod connectors;
mod images;
mod microvms;
mod tags;
mod versions;

pub use common::*;
pub use connectors::*;
pub use images::*;
pub use microvms::*;
pub use tags::*;
pub use versions::*;
