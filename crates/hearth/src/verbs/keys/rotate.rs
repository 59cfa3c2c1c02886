//! `hearth keys rotate`

use anyhow::Result;
use clap::Args;

use super::show_new;
use crate::cli::Server;

/// User, account and policy stay. When it is the key of this command line, credentials.json holds the new one afterwards.
#[derive(Debug, Args)]
pub struct Rotate {
    #[command(flatten)]
    server: Server,
    /// Access key id
    #[arg(value_name = "ID")]
    id: String,
    /// Leave the old key usable
    #[arg(long)]
    keep_old: bool,
    /// Print the new key as JSON
    #[arg(long)]
    json: bool,
}

impl Rotate {
    pub async fn run(self) -> Result<()> {
        let client = self.server.client().await?;
        show_new(&client.rotate_key(&self.id, self.keep_old).await?, self.json)
    }
}
