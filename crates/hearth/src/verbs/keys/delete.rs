//! `hearth keys delete`

use anyhow::Result;
use clap::Args;

use crate::cli::Server;

/// The user goes with its last key. The last usable root key of the configured account is not deleted.
#[derive(Debug, Args)]
pub struct Delete {
    #[command(flatten)]
    server: Server,
    /// Access key ids
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

impl Delete {
    pub async fn run(self) -> Result<()> {
        let client = self.server.client().await?;
        for id in &self.ids {
            client.delete_key(id).await?;
            println!("{id}");
        }
        Ok(())
    }
}
