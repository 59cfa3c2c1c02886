//! The command line.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::{client::Client, verbs};

/// AWS Lambda MicroVMs on your own machines.
#[derive(Debug, Parser)]
#[command(name = "hearth", version, propagate_version = true, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server
    Serve(verbs::serve::Serve),
    /// Tell what this host lacks, and install it
    Doctor(verbs::doctor::Doctor),
    /// Compare a server's records with its files
    Check(verbs::check::Check),
    /// Print the exports that point the AWS CLI and SDKs here
    Env(verbs::env::Env),
    /// Make an image of a directory or zip with a Dockerfile
    Build(verbs::build::Build),
    /// Start a microVM
    Run(verbs::run::Run),
    /// List microVMs or images
    Ls(verbs::ls::Ls),
    /// Send a request to a microVM's endpoint
    Curl(verbs::curl::Curl),
    /// Lead host names of your own to microVMs
    Names(verbs::names::Names),
    /// Open a microVM in a browser
    Open(verbs::open::Open),
    /// Let anybody reach a port of a microVM, or nobody any more
    Public(verbs::public::Public),
    /// Open a shell in a microVM
    Shell(verbs::shell::Shell),
    /// Run a program in a microVM
    Exec(verbs::exec::Exec),
    /// Copy files and directories into a microVM, or out of it
    Cp(verbs::cp::Cp),
    /// Put microVMs to sleep
    Suspend(verbs::suspend::Suspend),
    /// Wake microVMs
    Resume(verbs::resume::Resume),
    /// End microVMs
    Terminate(verbs::terminate::Terminate),
    /// Show the log of an image's build or of a microVM
    Logs(verbs::logs::Logs),
    /// Show what happened to microVMs and images, and what they used
    Events(verbs::events::Events),
    /// Manage access keys: who may call the API, and what they may do
    Keys(verbs::keys::Keys),
    /// Revoke the tokens of a microVM
    Tokens(verbs::tokens::Tokens),
    /// Measure this server: start, requests, suspend and wake of microVMs of one image
    Bench(verbs::bench::Bench),
}

impl Command {
    /// Does it, on a runtime of its own. The exit code tells what an error does not: a finding of `doctor`, a failed build.
    pub fn run(self) -> Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start threads")?;
        runtime.block_on(async {
            match self {
                Command::Serve(verb) => verb.run().await,
                Command::Doctor(verb) => verb.run().await,
                Command::Check(verb) => verb.run().await,
                Command::Env(verb) => verb.run().await,
                Command::Build(verb) => verb.run().await,
                Command::Run(verb) => verb.run().await,
                Command::Ls(verb) => verb.run().await,
                Command::Curl(verb) => verb.run().await,
                Command::Names(verb) => verb.run().await,
                Command::Open(verb) => verb.run().await,
                Command::Public(verb) => verb.run().await,
                Command::Shell(verb) => verb.run().await,
                Command::Exec(verb) => verb.run().await,
                Command::Cp(verb) => verb.run().await,
                Command::Suspend(verb) => verb.run().await,
                Command::Resume(verb) => verb.run().await,
                Command::Terminate(verb) => verb.run().await,
                Command::Logs(verb) => verb.run().await,
                Command::Events(verb) => verb.run().await,
                Command::Keys(verb) => verb.run().await,
                Command::Tokens(verb) => verb.run().await,
                Command::Bench(verb) => verb.run().await,
            }
        })
    }
}

/// Which server.
#[derive(Debug, Clone, Args)]
pub struct Server {
    /// Directory with all of the server's state
    #[arg(long, env = "HEARTH_DATA_DIR", default_value = "/var/lib/hearth", value_name = "DIR")]
    pub data_dir: PathBuf,
}

impl Server {
    /// A client of the running server.
    pub async fn client(&self) -> Result<Client> {
        Client::open(&self.data_dir).await
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn fixed_names() {
        let serve = "hearth serve --data-dir D --api 127.0.0.1:0 --ingress [::1]:0 --engine fake --cache-dir C";
        assert!(Cli::try_parse_from(serve.split(' ')).is_ok());
        for line in [
            "hearth doctor --fix",
            "hearth check --data-dir D",
            "hearth env --data-dir D --wait 5",
            "hearth run hello --idle 300",
            "hearth ls --json",
            "hearth curl abc /x -X POST -d body -H a:b --port 3000",
            "hearth curl abc",
            "hearth run hello --shell",
            "hearth shell abc",
            "hearth exec -i -t --timeout 5 --user app --workdir / --env A=b abc -- sh -c x",
            "hearth cp a abc:/b",
            "hearth suspend a b",
            "hearth resume a",
            "hearth terminate --all",
            "hearth logs -f hello",
            "hearth events",
            "hearth events -f hello -n 5 --json",
            "hearth build . --name hello",
            "hearth bench hello --repeat 3 --json",
            "hearth names add app.test abc --port 3000 --certificate c.pem --key k.pem",
            "hearth names list --json",
            "hearth names remove app.test",
            "hearth open abc --port 3000 --minutes 5 --print",
            "hearth public abc",
            "hearth public abc --port 80",
            "hearth public abc --off",
            "hearth tokens revoke a b",
            "hearth keys create --user ci --account 222222222222 --policy - --json",
            "hearth keys list --json",
            "hearth keys disable A B",
            "hearth keys rotate A --keep-old",
            "hearth keys policy A policy.json",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
    }

    #[test]
    fn wrong_usage_is_told_apart() {
        for line in
            ["hearth", "hearth serve --engine xen", "hearth serve --api nowhere", "hearth terminate", "hearth run"]
        {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
