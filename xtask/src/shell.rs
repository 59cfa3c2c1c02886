//! `cargo xtask shell`: shell, programs and files on a real microVM, as users and strangers of the endpoint see them.
//!
//! The checks are in `tests/shell`, a function each, named by it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Deserialize;

use crate::{
    build,
    demo::{Report, Scene},
    process, setup,
    venv::Venv,
    workspace,
};

/// Longest time for all of them, the image's build included.
const LIMIT: Duration = Duration::from_secs(15 * 60);
/// Fewer means that some were not found.
const LEAST_CHECKS: usize = 21;

/// Prints the checks with their verdicts; exits non-zero when one failed (root).
#[derive(Debug, Args)]
pub struct Shell {
    /// Only the checks with one of these words in their names
    only: Vec<String>,
}

/// What came of one check.
#[derive(Debug, Deserialize)]
struct Check {
    name: String,
    verdict: String,
    detail: String,
    seconds: f64,
}

impl Shell {
    /// Checks.
    pub fn run(self) -> Result<()> {
        setup::run()?;
        let venv = Venv::ready()?;
        let hearth = build::hearth(&build::agent()?, false)?;
        let mut scene = Scene::open(hearth, venv, Report::default())?;
        let mut said = String::new();
        if scene.part("start", Scene::start) {
            scene.part("check", |scene| {
                said = check(scene, &self.only)?;
                Ok(())
            });
        }
        scene.leave();
        let report = scene.into_report();
        let read = |text: &str| serde_json::from_str(text).with_context(|| format!("no verdict: {text}"));
        let checks = said.lines().map(read).collect::<Result<Vec<Check>>>()?;
        println!();
        for Check { name, verdict, detail, seconds } in &checks {
            println!("{verdict:>5}  {name} ({seconds:.1} s) {detail}");
        }
        let failed = checks.iter().filter(|check| check.verdict != "ok").count();
        println!("shell: {} of {} checks met", checks.len() - failed, checks.len());
        if report.failures() > 0 || failed > 0 || (self.only.is_empty() && checks.len() < LEAST_CHECKS) {
            bail!("not all was met, or not all was checked");
        }
        Ok(())
    }
}

fn check(scene: &mut Scene, only: &[String]) -> Result<String> {
    let mut command = scene.user_command(&scene.venv.python_path());
    command.arg(workspace::root().join("tests/shell/run.py")).args(only);
    command.env("HEARTH_BIN", &scene.hearth).env("HEARTH_DATA_DIR", &scene.data_dir);
    println!("  $ {}", process::shown(&command));
    process::capture(&mut command, b"", LIMIT)?.success("tests/shell/run.py")
}
