//! MicroVMs of the example's image: times, and bytes on disk.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    build,
    demo::{Report, Scene, bench_parts},
    setup,
    venv::Venv,
};

/// Builds the example's image on a server of its own and measures `repeat` microVMs of it.
pub fn run(repeat: u32) -> Result<()> {
    setup::run()?;
    let venv = Venv::ready()?;
    let hearth = build::hearth(&build::agent()?, false)?;
    let mut scene = Scene::open(hearth, venv, Report::default())?;
    let mut figures = None;
    let told = scene.part("start", Scene::start) && bench_parts::image(&mut scene);
    if told {
        scene.part("measure", |scene| {
            figures = Some((bench_parts::measure(scene, repeat)?, sizes(scene)?));
            Ok(())
        });
    }
    scene.leave();
    let report = scene.into_report();
    let Some((times, sizes)) = figures else {
        bail!("nothing was measured: {} expectations not met", report.failures())
    };
    print(&report, &times, sizes);
    if report.failures() > 0 {
        bail!("{} expectations were not met", report.failures());
    }
    Ok(())
}

/// Bytes on disk of one suspended microVM, and of the image's memory file.
fn sizes(scene: &mut Scene) -> Result<(u64, u64)> {
    let vm = bench_parts::suspended(scene)?;
    let id = vm.trim_start_matches("microvm-");
    let own = bench_parts::named(&scene.data_dir, id);
    let suspended: u64 = own.iter().map(|path| allocated(path)).sum();
    let memory = bench_parts::named(&scene.data_dir, "memory");
    let image = memory.iter().map(|path| allocated(path)).max().context("the image has no memory file")?;
    Ok((suspended, image))
}

/// Bytes that a file or a tree takes, holes not counted.
fn allocated(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    let below =
        || fs::read_dir(path).into_iter().flatten().flatten().map(|entry| allocated(&entry.path())).sum::<u64>();
    metadata.blocks() * 512 + if metadata.is_dir() { below() } else { 0 }
}

fn print(report: &Report, times: &Value, (suspended, image): (u64, u64)) {
    let median = |name: &str| times["medians_ms"][name].as_f64().unwrap_or(f64::NAN);
    let build = report.timed("image_build").unwrap_or(f64::NAN);
    println!("\nrun to first answer            {:10.1} ms", median("run_to_first_byte"));
    println!("  image build, of it           {:10.0} x", build / median("run_to_first_byte"));
    println!("wake by a request              {:10.1} ms", median("wake_on_request"));
    println!("  warm request, of it          {:10.3} x", median("warm_request") / median("wake_on_request"));
    println!("suspended microVM on disk      {:10.1} MiB", suspended as f64 / 1_048_576.0);
    println!("  its image's memory           {:10.1} x", image as f64 / suspended.max(1) as f64);
}
