//! `cargo xtask bench`: ratios on one machine, in one run. Absolute times are this machine's; ratios travel.

mod client;
mod microvms;
mod proxy;
mod reads;
mod served;
mod soak;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};

/// Measures reads of the API, then microVMs of the example's image; each on a server of its own. The proxy and the soak only
/// when they are asked for.
#[derive(Debug, Args)]
pub struct Bench {
    /// How many microVMs
    #[arg(long, default_value_t = 10, value_name = "N")]
    repeat: u32,
    /// Cycles of the soak: a suspend and a wake each
    #[arg(long, default_value_t = 500, value_name = "N")]
    cycles: u32,
    /// MicroVMs of the soak
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    microvms: u32,
    /// Of the soak's random choices
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Measure this only
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Measure the reads or the proxy of this hearth, instead of one that is built optimised
    #[arg(long, value_name = "FILE")]
    hearth: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Reads of the API with 10,000 records
    Reads,
    /// MicroVMs (root)
    Microvms,
    /// Endpoints beside nginx as TLS reverse proxy to the same server (installs nginx and h2load)
    Proxy,
    /// MicroVMs that are suspended and woken while they serve (root)
    Soak,
}

/// Of many times.
#[derive(Debug)]
struct Figures {
    median: f64,
    p99: f64,
}

/// There must be one at least.
fn figures(mut times: Vec<f64>) -> Figures {
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize];
    Figures { median: at(0.5), p99: at(0.99) }
}

impl Bench {
    /// Measures.
    pub fn run(self) -> Result<()> {
        if self.only.is_none_or(|only| only == Part::Reads) {
            reads::run(self.hearth.clone())?;
        }
        if self.only.is_none_or(|only| only == Part::Microvms) {
            microvms::run(self.repeat)?;
        }
        if self.only == Some(Part::Proxy) {
            proxy::run(self.hearth)?;
        }
        if self.only == Some(Part::Soak) {
            soak::run(self.microvms, self.cycles, self.seed)?;
        }
        Ok(())
    }
}
