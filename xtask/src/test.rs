//! `cargo xtask test`

use std::{
    fs,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{build, node::Node, process, setup, venv::Venv, workspace};

/// Unit tests, the engines' conformance, and the black-box tests of the built binary with the AWS CLI and the AWS SDKs for
/// Python and JavaScript.
#[derive(Debug, Args)]
pub struct Test {
    /// Arguments of the test runner, such as a filter
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

impl Test {
    /// Tests.
    pub fn run(self) -> Result<()> {
        let start = Instant::now();
        setup::run()?;
        let venv = Venv::ready()?;
        let node = Node::ready(&venv)?;
        let agent = build::agent()?;
        let hearth = build::hearth(&agent, false)?;
        process::run(Command::new(&hearth).args(["doctor", "--fix"]))?;
        let cache = workspace::hearth_cache();
        fs::create_dir_all(&cache).with_context(|| format!("make {}", cache.display()))?;
        let mut command = build::cargo();
        let nextest = has_nextest();
        if nextest {
            command.args(["nextest", "run"]);
        } else {
            eprintln!("xtask: cargo-nextest is not installed; running cargo test");
            command.args(["test", "--lib", "--bins", "--tests"]);
        }
        let some_packages = self.arguments.iter().any(|argument| ["-p", "--package"].contains(&argument.as_str()));
        if !some_packages {
            command.arg("--workspace");
        }
        // What plain `cargo test` leaves out for want of what is prepared here: real machines, and the service's own model.
        command.args(if nextest { ["--run-ignored", "all"] } else { ["--", "--include-ignored"] });
        command
            .args(&self.arguments)
            .env("HEARTH_TEST_CACHE", &cache)
            .env("HEARTH_BOTOCORE_PYTHON", venv.python_path())
            .env("HEARTH_GUEST_AGENT", &agent)
            .env("HEARTH_BIN", &hearth)
            .env("HEARTH_TEST_PYTHON", venv.python_path())
            .env("HEARTH_TEST_AWS", venv.aws_path())
            .env("HEARTH_TEST_NODE", node.program())
            .env("HEARTH_TEST_NODE_MODULES", node.modules());
        process::run(&mut command)?;
        println!("cargo xtask test: passed in {} s", start.elapsed().as_secs());
        Ok(())
    }
}

fn has_nextest() -> bool {
    let probe = Command::new("cargo-nextest").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    probe.is_ok_and(|status| status.success())
}
