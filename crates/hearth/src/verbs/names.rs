//! `hearth names`

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use api::Sensitive;
use clap::{Args, Subcommand};

use crate::{cli::Server, client::HostName, output::Table};

/// A custom host name answers as the endpoint of its microVM does, by the same tokens. Leading its DNS here is up to you.
#[derive(Debug, Args)]
pub struct Names {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lead a host name to a microVM, or to another one
    Add(Add),
    /// List the account's host names
    List(List),
    /// Forget a host name
    Remove(Remove),
}

#[derive(Debug, Args)]
struct Add {
    #[command(flatten)]
    server: Server,
    /// The name, such as app.example.com
    host: String,
    /// Id of the microVM, or its unique beginning
    microvm: String,
    /// Port of the application for requests that name none
    #[arg(long, default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// PEM chain for the name, the server's certificate first [default: one of hearth's own CA]
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// PEM key of the certificate
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    server: Server,
    /// Print the names as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Remove {
    #[command(flatten)]
    server: Server,
    /// The name
    host: String,
}

impl Names {
    /// Does it.
    pub async fn run(self) -> Result<ExitCode> {
        match self.verb {
            Verb::Add(add) => add.run().await?,
            Verb::List(List { server, json }) => {
                let names = server.client().await?.names().await?;
                match json {
                    true => println!("{}", serde_json::to_string_pretty(&names).context("write JSON")?),
                    false => print!("{}", table(&names)),
                }
            }
            Verb::Remove(Remove { server, host }) => {
                server.client().await?.remove_name(&host).await?;
                println!("{host}");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Add {
    async fn run(self) -> Result<()> {
        let read = |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
        let pair = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Some((read(certificate)?, Sensitive::new(read(key)?))),
            _ => None,
        };
        let client = self.server.client().await?;
        let id = client.microvm(&self.microvm).await?;
        println!("{}", client.put_name(&self.host, id, self.port, pair).await?.host);
        Ok(())
    }
}

fn table(names: &[HostName]) -> String {
    let mut table = Table::new(&["HOST", "MICROVM", "PORT", "CERTIFICATE"]);
    for name in names {
        table.row([name.host.clone(), name.microvm_id.to_string(), name.port.to_string(), name.certificate.clone()]);
    }
    table.to_string()
}
