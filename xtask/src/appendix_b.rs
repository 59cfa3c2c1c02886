//! `cargo xtask appendix-b`: the 30 lines of the specification's conformance checklist, each checked on a real server.
//!
//! The checks are in `tests/appendix_b`, a function per line, named by it. A line that hearth does not hold yet says why and
//! which issue mends it; it counts as neither met nor failed.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    time::{Duration, Instant},
};

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

/// Lines of the checklist.
const LINES: u32 = 30;
/// Longest time for all of them: two wait for more than a minute by their nature, six build an image.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Prints the lines with their verdicts; exits non-zero when one failed or was not checked (root).
#[derive(Debug, Args)]
pub struct AppendixB {
    /// Write the verdicts as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What came of one line.
#[derive(Debug, Deserialize)]
struct Line {
    line: u32,
    name: String,
    verdict: String,
    detail: String,
    seconds: f64,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { line, name, verdict, detail, seconds } = self;
        write!(f, "{verdict:>7}  {line:>2} {name} ({seconds:.1} s)")?;
        if detail.is_empty() { Ok(()) } else { write!(f, ": {detail}") }
    }
}

impl AppendixB {
    /// Checks.
    pub fn run(self) -> Result<()> {
        let start = Instant::now();
        setup::run()?;
        let venv = Venv::ready()?;
        let hearth = build::hearth(&build::agent()?, false)?;
        let mut scene = Scene::open(hearth, venv, Report::default())?;
        let mut said = String::new();
        if scene.part("start", Scene::start) {
            scene.part("check", |scene| {
                said = check(scene)?;
                Ok(())
            });
        }
        scene.leave();
        let report = scene.into_report();
        let lines = read(&said)?;
        println!();
        lines.values().for_each(|line| println!("{line}"));
        let not_yet = lines.values().filter(|line| line.verdict == "not yet").count();
        let met = lines.values().filter(|line| line.verdict == "ok").count();
        println!("appendix B: {met} of {LINES} lines met, {not_yet} not yet, in {} s", start.elapsed().as_secs());
        if let Some(path) = &self.json {
            std::fs::write(path, &said).with_context(|| format!("write {}", path.display()))?;
        }
        if report.failures() > 0 {
            bail!("{} expectations of the server's start and end were not met", report.failures());
        }
        if met + not_yet != LINES as usize {
            bail!("{} lines were not met or not checked", LINES as usize - met - not_yet);
        }
        Ok(())
    }
}

fn check(scene: &mut Scene) -> Result<String> {
    let mut command = scene.user_command(&scene.venv.python_path());
    command.arg(workspace::root().join("tests/appendix_b/run.py"));
    command.env("HEARTH_BIN", &scene.hearth);
    println!("  $ {}", process::shown(&command));
    process::capture(&mut command, b"", LIMIT)?.success("tests/appendix_b/run.py")
}

/// By their numbers: a line counts once.
fn read(said: &str) -> Result<BTreeMap<u32, Line>> {
    let parse = |text: &str| -> Result<(u32, Line)> {
        let line: Line = serde_json::from_str(text).with_context(|| format!("no verdict: {text}"))?;
        Ok((line.line, line))
    };
    said.lines().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_in_order() {
        let line =
            |n: u32| format!("{{\"line\":{n},\"name\":\"n\",\"verdict\":\"ok\",\"detail\":\"\",\"seconds\":0.5}}\n");
        let lines = read(&(line(2) + &line(1))).unwrap();
        assert_eq!(lines.into_keys().collect::<Vec<_>>(), [1, 2]);
        assert!(read("Traceback").is_err());
    }
}
