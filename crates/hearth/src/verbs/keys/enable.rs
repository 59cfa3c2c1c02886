//! `hearth keys enable`

use anyhow::Result;
use clap::Args;

use crate::cli::Server;

/// A repeat is safe.
#[derive(Debug, Args)]
pub struct Enable {
    #[command(flatten)]
    server: Server,
    /// Access key ids
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

impl Enable {
    pub async fn run(self) -> Result<()> {
        let client = self.server.client().await?;
        for id in &self.ids {
            let key = client.enable_key(id, true).await?;
            println!("{}", key.access_key_id);
        }
        Ok(())
    }
}
