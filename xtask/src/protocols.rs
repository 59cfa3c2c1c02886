//! `cargo xtask protocols`: what clients of an endpoint speak, case by case, against a running server.
//!
//! The cases are in `tests/protocols`, a file for each suite. Behind the endpoint are servers of ours: on this host, which the
//! fake engine leads to, or in a real microVM.

use std::{fmt, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::{
    build,
    demo::{Report, Scene},
    process, setup,
    venv::Venv,
    workspace,
};

/// Longest time for all of them.
const LIMIT: Duration = Duration::from_secs(30 * 60);
/// Fewer means that some were not found.
const LEAST_CASES: usize = 560;

/// Prints the cases with their verdicts; exits non-zero when one failed.
#[derive(Debug, Args)]
pub struct Protocols {
    /// Only cases with one of these words in their suite or name; a suite's name is its first word
    #[arg(long, value_name = "WORD")]
    only: Vec<String>,
    /// What makes the microVMs: the servers behind the endpoint run on this host, or in real machines (root)
    #[arg(long, value_enum, default_value_t = Engine::Fake)]
    engine: Engine,
    /// Write the verdicts as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Run the cases against servers that are wrong on purpose: each must find that out
    #[arg(long)]
    self_check: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Engine {
    Fake,
    Qemu,
}

impl Engine {
    fn name(self) -> &'static str {
        match self {
            Engine::Fake => "fake",
            Engine::Qemu => "qemu",
        }
    }
}

/// What came of one case.
#[derive(Debug, Deserialize)]
struct Case {
    suite: String,
    name: String,
    verdict: Verdict,
    detail: String,
    seconds: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Known,
    Skipped,
    #[serde(rename = "FAIL")]
    Failed,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Ok => "ok",
            Verdict::Known => "known",
            Verdict::Skipped => "skipped",
            Verdict::Failed => "FAIL",
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { suite, name, verdict, detail, seconds } = self;
        write!(f, "{verdict:>7}  {suite} {name} ({seconds:.1} s)")?;
        if detail.is_empty() { Ok(()) } else { write!(f, ": {detail}") }
    }
}

impl Protocols {
    /// Checks.
    pub fn run(self) -> Result<()> {
        setup::run()?;
        setup::protocols()?;
        let venv = Venv::ready()?;
        venv.require(&workspace::root().join("tests/protocols/requirements.txt"))?;
        let hearth = build::hearth(&build::agent()?, false)?;
        let mut scene = Scene::open(hearth, venv, Report::default())?;
        // For the browser's case: a link is the one way in that a page needs no header for.
        std::fs::create_dir_all(&scene.data_dir).context("make the data directory")?;
        std::fs::write(scene.data_dir.join("hearth.toml"), "[endpoint]\nbrowser = true\n")
            .context("write hearth.toml")?;
        let mut said = String::new();
        let start = |scene: &mut Scene| match self.engine {
            Engine::Fake => scene.start_fake(),
            Engine::Qemu => scene.start(),
        };
        if scene.part("start", start) {
            scene.part("check", |scene| {
                said = self.check(scene)?;
                Ok(())
            });
        }
        scene.leave();
        let report = scene.into_report();
        let cases = read(&said)?;
        println!();
        cases.iter().for_each(|case| println!("{case}"));
        if let Some(path) = &self.json {
            std::fs::write(path, &said).with_context(|| format!("write {}", path.display()))?;
        }
        let count = |verdict| cases.iter().filter(|case| case.verdict == verdict).count();
        let (failed, known) = (count(Verdict::Failed), count(Verdict::Known));
        if known > 0 {
            println!("{known} differ from their standard and are known: tests/protocols/known.py says why");
        }
        println!("protocols: {} passed, {failed} failed, {} skipped", count(Verdict::Ok), count(Verdict::Skipped));
        if failed > 0 || report.failures() > 0 {
            bail!("{failed} cases failed, and {} expectations of the server's start and end", report.failures());
        }
        if self.only.is_empty() && !self.self_check && cases.len() < LEAST_CASES {
            bail!("only {} cases were looked at, of {LEAST_CASES} and more", cases.len());
        }
        Ok(())
    }

    fn check(&self, scene: &mut Scene) -> Result<String> {
        let mut command = scene.user_command(&scene.venv.python_path());
        command.arg(workspace::root().join("tests/protocols/run.py")).args(["--engine", self.engine.name()]);
        self.only.iter().for_each(|word| {
            command.args(["--only", word]);
        });
        if self.self_check {
            command.arg("--self-check");
        }
        let pid = scene.server_pid().context("the server does not run")?;
        command.env("HEARTH_BIN", &scene.hearth).env("HEARTH_SERVER_PID", pid.to_string());
        println!("  $ {}", process::shown(&command));
        process::capture(&mut command, b"", LIMIT)?.success("tests/protocols/run.py")
    }
}

/// By suite, in the order in which they ended.
fn read(said: &str) -> Result<Vec<Case>> {
    let parse = |text: &str| serde_json::from_str(text).with_context(|| format!("no verdict: {text}"));
    let mut cases = said.lines().map(parse).collect::<Result<Vec<Case>>>()?;
    cases.sort_by(|a, b| a.suite.cmp(&b.suite));
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read_and_shown() {
        let line = |verdict: &str| {
            format!(
                "{{\"suite\":\"h2\",\"name\":\"n\",\"verdict\":\"{verdict}\",\"detail\":\"why\",\"seconds\":0.5}}\n"
            )
        };
        let cases = read(&(line("ok") + &line("FAIL"))).unwrap();
        assert_eq!(cases[1].to_string(), "   FAIL  h2 n (0.5 s): why");
        assert!(read(&line("fine")).is_err() && read("Traceback").is_err());
    }
}
