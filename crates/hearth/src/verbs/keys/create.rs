//! `hearth keys create`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::{document, show_new};
use crate::cli::Server;

/// The output can be evaluated by a shell, and is the only time that the secret is shown.
#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    server: Server,
    /// Name of the user: 1 to 64 of A-Z a-z 0-9 + = , . @ _ -; root may do everything in its account
    #[arg(long, value_name = "NAME")]
    user: String,
    /// Account of the user, 12 digits; a new one is made by its first key [default: the configured account]
    #[arg(long, value_name = "ID")]
    account: Option<String>,
    /// IAM policy document in JSON that says what the user may do; - reads standard input. Without one: nothing
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Print the key as JSON
    #[arg(long)]
    json: bool,
}

impl Create {
    pub async fn run(self) -> Result<()> {
        let policy = self.policy.as_deref().map(document).transpose()?;
        let client = self.server.client().await?;
        let key = client.create_key(&self.user, self.account.as_deref(), policy).await?;
        show_new(&key, self.json)?;
        if key.policy.is_none() && key.user != "root" {
            eprintln!(
                "{} may do nothing yet; give it a policy: hearth keys policy {} FILE",
                key.user, key.access_key_id
            );
        }
        Ok(())
    }
}
