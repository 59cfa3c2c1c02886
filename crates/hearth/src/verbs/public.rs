//! `hearth public`

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::cli::Server;

/// Without --port and --off, tells which port is public. Needs endpoint.public = true in the server's hearth.toml.
/// Whoever reaches the server then reaches that port, wakes the microVM and keeps it awake.
#[derive(Debug, Args)]
pub struct Public {
    #[command(flatten)]
    server: Server,
    /// Id of the microVM, or its unique beginning
    microvm: String,
    /// The port that anybody may reach without a token, in place of the one before
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "off")]
    port: Option<u16>,
    /// Let nobody in without a token any more
    #[arg(long)]
    off: bool,
}

impl Public {
    /// Changes or tells it.
    pub async fn run(self) -> Result<ExitCode> {
        let client = self.server.client().await?;
        let id = client.microvm(&self.microvm).await?;
        if self.off || self.port.is_some() {
            client.set_public_port(id, self.port).await?;
            println!("{id}");
            return Ok(ExitCode::SUCCESS);
        }
        match client.public_port(id).await? {
            Some(port) => println!("{port}"),
            None => println!("none"),
        }
        Ok(ExitCode::SUCCESS)
    }
}
