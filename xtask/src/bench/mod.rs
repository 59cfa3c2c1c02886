//! `cargo xtask bench`: ratios on one machine, in one run. Absolute times are this machine's; ratios travel.

mod client;
mod microvms;
mod reads;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};

/// Measures reads of the API, then microVMs of the example's image; each on a server of its own.
#[derive(Debug, Args)]
pub struct Bench {
    /// How many microVMs
    #[arg(long, default_value_t = 10, value_name = "N")]
    repeat: u32,
    /// Measure this only
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Measure the reads of this hearth, instead of one that is built optimised
    #[arg(long, value_name = "FILE")]
    hearth: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Reads of the API with 10,000 records
    Reads,
    /// MicroVMs (root)
    Microvms,
}

impl Bench {
    /// Measures.
    pub fn run(self) -> Result<()> {
        if self.only != Some(Part::Microvms) {
            reads::run(self.hearth)?;
        }
        if self.only != Some(Part::Reads) {
            microvms::run(self.repeat)?;
        }
        Ok(())
    }
}
