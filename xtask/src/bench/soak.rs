//! MicroVMs that are suspended and woken for a long time while they serve. The application counts its requests in memory and
//! on disk; by its counters nothing that was answered may be lost, and no state may go back.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::figures;
use crate::{
    build,
    demo::{Report, Scene},
    process, setup,
    venv::Venv,
    workspace,
};

/// Name of the image.
const IMAGE: &str = "soak";
/// Longest time for the image.
const BUILD_LIMIT: Duration = Duration::from_secs(40 * 60);
/// Longest time for a cycle, on average, on a slow host.
const CYCLE_LIMIT: Duration = Duration::from_secs(10);

/// What the clients have seen.
#[derive(Debug, Deserialize)]
struct Told {
    /// A suspend and a wake each.
    cycles: u32,
    kinds: BTreeMap<String, u32>,
    requests: u64,
    answered: u64,
    /// Without an answer because they were in flight when their microVM was frozen.
    cut: u64,
    seconds: f64,
    times_ms: BTreeMap<String, Vec<f64>>,
    violations: Vec<String>,
}

/// So many microVMs and cycles on a server of its own; fails on any violation.
pub fn run(microvms: u32, cycles: u32, seed: u64) -> Result<()> {
    setup::run()?;
    let venv = Venv::ready()?;
    let hearth = build::hearth(&build::agent()?, false)?;
    let mut scene = Scene::open(hearth, venv, Report::default())?;
    let mut told = None;
    if scene.part("start", Scene::start) && scene.part("image", image) {
        scene.part("soak", |scene| {
            told = Some(soak(scene, microvms, cycles, seed)?);
            Ok(())
        });
    }
    scene.leave();
    let failures = scene.into_report().failures();
    let told = told.context("there are no figures")?;
    print(&told, microvms, seed);
    if !told.violations.is_empty() || told.cycles != cycles {
        bail!("{} of {cycles} cycles, {} violations", told.cycles, told.violations.len());
    }
    if failures > 0 {
        bail!("{failures} expectations of the server's start and end were not met");
    }
    Ok(())
}

fn image(scene: &mut Scene) -> Result<()> {
    let mut command = scene.hearth_command("build");
    command.arg(workspace::root().join("tests/soak/app")).args(["--name", IMAGE, "--memory", "512"]);
    command.args(["--hooks", "ready,run,suspend,resume", "--hooks-port", "9000"]);
    println!("  $ {}", process::shown(&command));
    process::capture(&mut command, b"", BUILD_LIMIT)?.success("hearth build").map(drop)
}

fn soak(scene: &mut Scene, microvms: u32, cycles: u32, seed: u64) -> Result<Told> {
    let out = scene.work.join("soak.json");
    let file = std::fs::File::create(&out).with_context(|| format!("make {}", out.display()))?;
    let mut command = scene.user_command(&scene.venv.python_path());
    let arn = format!("arn:aws:lambda:{}:000000000000:microvm-image:{IMAGE}", scene.variable("AWS_REGION"));
    command.arg(workspace::root().join("tests/soak/run.py")).arg(arn);
    command.args([u64::from(microvms), cycles.into(), seed].map(|number| number.to_string())).stdout(file);
    process::run_within(&mut command, BUILD_LIMIT + CYCLE_LIMIT * cycles)?;
    let check = process::capture(&mut scene.hearth_command("check"), b"", CYCLE_LIMIT)?;
    scene.report.expect("records and files belong together", check.status.success(), check.stdout);
    let text = std::fs::read(&out).with_context(|| format!("read {}", out.display()))?;
    serde_json::from_slice(&text).context("the clients' figures are no JSON")
}

fn print(told: &Told, microvms: u32, seed: u64) {
    println!("\n{} cycles over {microvms} microVMs in {:.0} s, seed {seed}", told.cycles, told.seconds);
    for (kind, count) in &told.kinds {
        println!("  {kind:<24}{count:>8}");
    }
    println!("{:<26}{:>8}", "requests", told.requests);
    println!("  {:<24}{:>8}", "answered", told.answered);
    println!("  {:<24}{:>8}", "cut off by a suspend", told.cut);
    println!("{:<26}{:>8}{:>10}{:>10}", "ms", "times", "median", "p99");
    for (name, times) in told.times_ms.iter().filter(|(_, times)| !times.is_empty()) {
        let figures = figures(times.clone());
        println!("  {name:<24}{:>8}{:>10.1}{:>10.1}", times.len(), figures.median, figures.p99);
    }
    println!("violations {}", told.violations.len());
    told.violations.iter().for_each(|violation| println!("  {violation}"));
}
