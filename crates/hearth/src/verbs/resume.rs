//! `hearth resume`

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use api::{MicrovmState, ResumeMicrovmInput};
use clap::Args;

use crate::{
    cli::Server,
    client::{POLL, wait_for},
};

/// Longest wait for each.
const LIMIT: Duration = Duration::from_secs(120);

/// Waits until they are RUNNING.
#[derive(Debug, Args)]
pub struct Resume {
    #[command(flatten)]
    server: Server,
    /// Ids of microVMs, or their unique beginnings
    #[arg(required = true, value_name = "MICROVM")]
    microvms: Vec<String>,
    /// Do not wait
    #[arg(long)]
    no_wait: bool,
}

impl Resume {
    /// One after the other; stops at the first that cannot be done.
    pub async fn run(self) -> Result<ExitCode> {
        let client = self.server.client().await?;
        for text in &self.microvms {
            let id = client.microvm(text).await?;
            client.call(&ResumeMicrovmInput { microvm_identifier: id }).await?;
            if !self.no_wait {
                wait_for(&client, id, &[MicrovmState::Running], POLL, LIMIT).await?;
            }
            println!("{id}");
        }
        Ok(ExitCode::SUCCESS)
    }
}
