//! `hearth keys disable`

use anyhow::Result;
use clap::Args;

use crate::cli::Server;

/// The last usable root key of the configured account is not disabled. A repeat is safe.
#[derive(Debug, Args)]
pub struct Disable {
    #[command(flatten)]
    server: Server,
    /// Access key ids
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

impl Disable {
    pub async fn run(self) -> Result<()> {
        let client = self.server.client().await?;
        for id in &self.ids {
            let key = client.enable_key(id, false).await?;
            println!("{}", key.access_key_id);
        }
        Ok(())
    }
}
