//! `hearth`: the server, and a client for people. One verb, one file in [`verbs`].
//!
//! `serve` and `doctor` work on this host. All other verbs talk to a running server over its public API, as any AWS client
//! does: they find it by its data directory ([`client`]).

mod cli;
mod client;
mod output;
mod terminal;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let command = cli::Cli::parse().command;
    match command.run() {
        Ok(code) => code,
        Err(error) => {
            // The one place where an error is printed: its chain in one line.
            eprintln!("error: {}", output::one_line(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}
