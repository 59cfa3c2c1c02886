//! `hearth tokens`

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::cli::Server;

/// Tokens are minted by create-microvm-auth-token and create-microvm-shell-auth-token of the AWS CLI and SDKs.
#[derive(Debug, Args)]
pub struct Tokens {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Refuse every token of these microVMs that was minted so far
    Revoke(Revoke),
}

/// At once and for ever: endpoint tokens, shell tokens and browsers' cookies. WebSockets and shells opened with them are
/// closed; an answer that is under way is not. Tokens minted later work.
#[derive(Debug, Args)]
struct Revoke {
    #[command(flatten)]
    server: Server,
    /// Ids of microVMs, or their unique beginnings
    #[arg(required = true, value_name = "MICROVM")]
    microvms: Vec<String>,
}

impl Tokens {
    /// Does it.
    pub async fn run(self) -> Result<ExitCode> {
        let Verb::Revoke(Revoke { server, microvms }) = self.verb;
        let client = server.client().await?;
        for text in &microvms {
            let id = client.microvm(text).await?;
            client.revoke_tokens(id).await?;
            println!("{id}");
        }
        Ok(ExitCode::SUCCESS)
    }
}
