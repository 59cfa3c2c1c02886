//! `hearth terminate`

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use api::{MicrovmId, MicrovmState, TerminateMicrovmInput};
use clap::Args;

use crate::{
    cli::Server,
    client::{Client, POLL, wait_for},
};

/// Longest wait for each: a /terminate hook may take 60 s.
const LIMIT: Duration = Duration::from_secs(120);

/// Waits until they are TERMINATED.
#[derive(Debug, Args)]
pub struct Terminate {
    #[command(flatten)]
    server: Server,
    /// Ids of microVMs, or their unique beginnings
    #[arg(required_unless_present = "all", value_name = "MICROVM")]
    microvms: Vec<String>,
    /// End every microVM of this server
    #[arg(long, conflicts_with = "microvms")]
    all: bool,
    /// Do not wait
    #[arg(long)]
    no_wait: bool,
}

impl Terminate {
    /// Asks for all, then waits for all: their ends overlap.
    pub async fn run(self) -> Result<ExitCode> {
        let client = self.server.client().await?;
        let ids = self.ids(&client).await?;
        for id in &ids {
            client.call(&TerminateMicrovmInput { microvm_identifier: *id }).await?;
        }
        for id in ids {
            if !self.no_wait {
                wait_for(&client, id, &[MicrovmState::Terminated], POLL, LIMIT).await?;
            }
            println!("{id}");
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn ids(&self, client: &Client) -> Result<Vec<MicrovmId>> {
        if self.all {
            let all = client.microvms(None).await?;
            let living = all.iter().filter(|microvm| microvm.state != MicrovmState::Terminated);
            return Ok(living.map(|microvm| microvm.microvm_id).collect());
        }
        let mut ids = Vec::new();
        for text in &self.microvms {
            ids.push(client.microvm(text).await?);
        }
        Ok(ids)
    }
}
