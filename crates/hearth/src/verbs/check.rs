//! `hearth check`

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use crate::cli::Server;

/// One line for each thing that is left over, missing or at odds; exits with 1 when there is any. The server may run, but
/// must be at rest: what is being built, started, suspended or removed looks unfinished. Nothing is changed.
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    server: Server,
}

impl Check {
    /// Looks.
    pub async fn run(self) -> Result<ExitCode> {
        let data_dir = &self.server.data_dir;
        let found = server::check::check(data_dir).await.with_context(|| format!("check {}", data_dir.display()))?;
        for finding in &found {
            println!("{finding}");
        }
        Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
