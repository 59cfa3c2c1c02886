//! The contract on the wire: every operation on a whole server of the fake engine, over HTTP, signed.
//!
//! - `rows/`: what each operation answers, one table per operation
//! - `bounds.rs`: each bound of the member tables just inside and just outside
//! - `fuzz/`: random requests; `HEARTH_FUZZ_SEED` and `HEARTH_FUZZ_REQUESTS` steer them

#![allow(clippy::unwrap_used, reason = "tests")]

mod answers;
mod bounds;
mod client;
mod fuzz;
mod request;
mod rows;
mod serving;
mod world;
