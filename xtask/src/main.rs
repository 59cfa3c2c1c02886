//! `cargo xtask`: everything that builds, checks, tests and shows this project, so that people and CI run the same.

mod appendix_b;
mod bench;
mod build;
mod check;
mod crash;
mod demo;
mod fuzz;
mod node;
mod process;
mod protocols;
mod setup;
mod shell;
mod sys;
mod test;
mod venv;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks of the hearth workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// The walkthrough, end to end, on real microVMs, with the AWS CLI
    Demo(demo::Demo),
    /// Kill the server at every crash point, and see that nothing is lost or left over
    Crash(crash::Crash),
    /// Every test
    Test(test::Test),
    /// Formatting, lints, documentation, with warnings as errors; a short fuzz of everything
    Check,
    /// Random inputs: requests of the API, tokens, heads, sessions, a guest's words
    Fuzz(fuzz::Fuzz),
    /// Build hearth with its guest agent
    Build(build::Build),
    /// The specification's conformance checklist, line by line, on a real server
    AppendixB(appendix_b::AppendixB),
    /// Shell, programs and files, on a real microVM
    Shell(shell::Shell),
    /// HTTP/1.1, HTTP/2, gRPC, WebSocket and their real clients, case by case, against a running server
    Protocols(protocols::Protocols),
    /// Measure ratios on this machine, in one run
    Bench(bench::Bench),
    /// Install what the other tasks need from Debian (as root)
    Setup,
}

fn main() -> ExitCode {
    if let Err(error) = sys::watch_signals() {
        eprintln!("xtask: cannot watch for signals: {error}");
        return ExitCode::FAILURE;
    }
    let outcome = match Cli::parse().task {
        Task::Demo(demo) => demo.run(),
        Task::Crash(crash) => crash.run(),
        Task::Test(test) => test.run(),
        Task::Check => check::run(),
        Task::Fuzz(fuzz) => fuzz.run(),
        Task::Build(build) => build.run(),
        Task::AppendixB(appendix_b) => appendix_b.run(),
        Task::Shell(shell) => shell.run(),
        Task::Protocols(protocols) => protocols.run(),
        Task::Bench(bench) => bench.run(),
        Task::Setup => setup::run(),
    };
    match outcome {
        Ok(()) if sys::was_interrupted() => ExitCode::from(130),
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(if sys::was_interrupted() { 130 } else { 1 })
        }
    }
}
