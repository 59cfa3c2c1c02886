//! `hearth keys policy`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::document;
use crate::cli::Server;

/// It replaces the one before, for all keys of the user, at once.
#[derive(Debug, Args)]
pub struct Policy {
    #[command(flatten)]
    server: Server,
    /// Access key id of any of the user's keys
    #[arg(value_name = "ID")]
    id: String,
    /// IAM policy document in JSON; - reads standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Policy {
    pub async fn run(self) -> Result<()> {
        let policy = document(&self.file)?;
        let key = self.server.client().await?.put_key_policy(&self.id, policy).await?;
        println!("{}", key.arn);
        Ok(())
    }
}
