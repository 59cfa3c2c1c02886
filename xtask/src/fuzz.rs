//! `cargo xtask fuzz`

use anyhow::Result;
use clap::Args;

use crate::{build::cargo, process};

/// Random requests, well-formed and ill-formed, for every operation: no 5xx, no panic, no answer that its operation does not
/// declare. A failure shows the request; the seed repeats a run.
#[derive(Debug, Args)]
pub struct Fuzz {
    /// How many requests
    #[arg(long, default_value_t = 100_000)]
    requests: u64,
    /// Of the run to repeat [default: another one each time]
    #[arg(long)]
    seed: Option<u64>,
}

impl Fuzz {
    /// Some seconds' worth, for `cargo xtask check`.
    pub const SHORT: Fuzz = Fuzz { requests: 4000, seed: None };

    /// Fuzzes. Needs nothing but cargo: the server runs in the test.
    pub fn run(self) -> Result<()> {
        let mut command = cargo();
        command.args(["test", "--package", "server", "--test", "contract", "--", "--nocapture", "fuzz::"]);
        command.env("HEARTH_FUZZ_REQUESTS", self.requests.to_string());
        if let Some(seed) = self.seed {
            command.env("HEARTH_FUZZ_SEED", seed.to_string());
        }
        process::run(&mut command)
    }
}
