//! The contract: our operations, types and errors against the service models that `botocore` ships. The models are read where
//! they are installed and never copied here: set `HEARTH_BOTOCORE_PYTHON` to a Python that has `botocore`, then
//! `cargo nextest run -p api --run-ignored all model`. A drift fails with the difference in words.

#![allow(clippy::unwrap_used, reason = "tests")]

mod enums;
mod errors;
mod inputs;
mod known;
mod model;
mod outputs;
mod samples;
