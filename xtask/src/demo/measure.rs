//! The timings: real microVMs, measured by hearth's own client, so that no interpreter's start-up is part of them.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Scene, image};
use crate::process;

/// What `hearth bench` measures.
const NAMES: [&str; 8] = [
    "run_api",
    "run_to_running",
    "run_to_first_byte",
    "first_request",
    "warm_request",
    "suspend",
    "resume_to_first_byte",
    "wake_on_request",
];

/// Measures, and holds the medians against the promises.
pub fn play(scene: &mut Scene, repeat: u32) -> Result<()> {
    let figures = bench(scene, repeat)?;
    for name in NAMES {
        let millis =
            figures["medians_ms"][name].as_f64().with_context(|| format!("hearth bench did not measure {name}"))?;
        scene.report.timing(name, millis);
    }
    scene.report.expect("timings are medians", true, format!("of {repeat} microVMs each"));
    scene.report.keep_promises();
    Ok(())
}

/// What `hearth bench` prints.
pub fn bench(scene: &Scene, repeat: u32) -> Result<Value> {
    let mut command = scene.hearth_command("bench");
    command.args([image::NAME, "--json", "--repeat", &repeat.to_string()]);
    println!("  $ {}", process::shown(&command));
    let limit = Duration::from_secs(60) * repeat.max(1);
    let text = process::capture(&mut command, b"", limit)?.success("hearth bench")?;
    serde_json::from_str(&text).context("hearth bench printed no JSON")
}
