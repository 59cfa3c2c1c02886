//! `hearth suspend`

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use api::{MicrovmState, SuspendMicrovmInput};
use clap::Args;

use crate::{
    cli::Server,
    client::{POLL, wait_for},
};

/// Longest wait for each.
const LIMIT: Duration = Duration::from_secs(120);

/// Waits until they are SUSPENDED.
#[derive(Debug, Args)]
pub struct Suspend {
    #[command(flatten)]
    server: Server,
    /// Ids of microVMs, or their unique beginnings
    #[arg(required = true, value_name = "MICROVM")]
    microvms: Vec<String>,
    /// Do not wait
    #[arg(long)]
    no_wait: bool,
}

impl Suspend {
    /// One after the other; stops at the first that cannot be done.
    pub async fn run(self) -> Result<ExitCode> {
        let client = self.server.client().await?;
        for text in &self.microvms {
            let id = client.microvm(text).await?;
            client.call(&SuspendMicrovmInput { microvm_identifier: id }).await?;
            if !self.no_wait {
                wait_for(&client, id, &[MicrovmState::Suspended], POLL, LIMIT).await?;
            }
            println!("{id}");
        }
        Ok(ExitCode::SUCCESS)
    }
}
