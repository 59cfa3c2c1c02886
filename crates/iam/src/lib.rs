//! Identity policies of AWS IAM, as far as hearth evaluates them. Pure: no I/O, no async, no clock.
//!
//! - [`policy`]: a document becomes a [`Policy`], or an error that names its statement
//! - [`decide`]: what a set of policies says to an action on a resource
//!
//! `Version`, `Id`, `Statement`, `Sid`, `Effect`, `Action`, `NotAction`, `Resource` and `NotResource` are understood. All
//! else (`Condition`, `Principal`, policy variables, any other member) is refused: a policy that is read without a part of
//! it says something else than its author meant.

mod document;
mod pattern;
pub mod policy;

pub use policy::{Decision, MAX_CHARACTERS, MAX_STATEMENTS, Policy, PolicyError, decide};
