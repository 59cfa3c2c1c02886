//! `cargo xtask fuzz`

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::{build::cargo, process};

/// Random inputs, well-formed and ill-formed: no panic, no hang, no 5xx, no answer that is not declared, nothing let through
/// that must not pass. A failure shows the input; the seed repeats a run.
#[derive(Debug, Args)]
pub struct Fuzz {
    /// How many inputs; targets that open a connection for each take a part of it
    #[arg(long, default_value_t = 100_000)]
    requests: u64,
    /// Of the run to repeat [default: another one each time]
    #[arg(long)]
    seed: Option<u64>,
    /// Only these
    #[arg(long, value_enum, value_name = "TARGET")]
    target: Vec<Target>,
}

/// What takes the inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// Requests for every operation of the API
    Api,
    /// Endpoint tokens
    Tokens,
    /// Heads of requests at an endpoint: hosts, ports, fields
    Heads,
    /// Shells and programs: a client and a guest that say anything
    Shell,
    /// The host's half of the wire protocol: a guest that says anything
    Wire,
}

impl Target {
    /// Its package, the test binary in it, and the test.
    fn test(self) -> [&'static str; 3] {
        match self {
            Target::Api => ["server", "contract", "fuzz::"],
            Target::Tokens => ["ingress", "dataplane", "fuzz::tokens"],
            Target::Heads => ["ingress", "dataplane", "fuzz::heads"],
            Target::Shell => ["ingress", "dataplane", "fuzz::shell"],
            Target::Wire => ["engine", "hostile", "fuzz_wire"],
        }
    }

    /// How many inputs in place of so many requests of the API, so that none takes much longer than that.
    fn inputs(self, requests: u64) -> u64 {
        match self {
            Target::Api | Target::Tokens => requests,
            Target::Wire => requests / 4,
            Target::Heads => requests / 16,
            Target::Shell => requests / 40,
        }
    }
}

impl Fuzz {
    /// Some seconds' worth, for `cargo xtask check`.
    pub const SHORT: Fuzz = Fuzz { requests: 4000, seed: None, target: Vec::new() };

    /// Fuzzes. Needs nothing but cargo: the servers run in the tests.
    pub fn run(self) -> Result<()> {
        let all = Target::value_variants();
        all.iter().filter(|target| self.target.is_empty() || self.target.contains(target)).try_for_each(|target| {
            let [package, binary, test] = target.test();
            let mut command = cargo();
            command.args(["test", "--package", package, "--test", binary, "--", "--nocapture", test]);
            command.env("HEARTH_FUZZ_REQUESTS", target.inputs(self.requests).max(1).to_string());
            if let Some(seed) = self.seed {
                command.env("HEARTH_FUZZ_SEED", seed.to_string());
            }
            process::run(&mut command)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_a_test_of_its_own() {
        let mut tests: Vec<_> = Target::value_variants().iter().map(|target| target.test()).collect();
        tests.sort_unstable();
        tests.dedup();
        assert_eq!(tests.len(), Target::value_variants().len());
    }
}
