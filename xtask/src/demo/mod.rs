//! `cargo xtask demo`: the story a first user of AWS Lambda MicroVMs tells, on this machine, with the unmodified AWS CLI.
//!
//! Steps 1 to 7 are one file each; a step that breaks ends the story, an expectation that is not met only counts. Whatever
//! happens, what was started is stopped and what was made is removed ([`Scene`]'s end), unless `--keep` is given.

mod clones;
mod end;
pub mod footprint;
mod image;
mod launch;
mod measure;
pub mod processes;
mod report;
mod requests;
pub mod scene;
mod server;
mod settings;
mod sleep;
mod store;

use std::{path::PathBuf, time::Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

pub use report::Report;
pub use scene::Scene;

use crate::{build, setup, sys, venv::Venv};

/// Exits non-zero when any step or expectation failed. A second run reuses what is cached under `target`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Leave the server running, with what it holds
    #[arg(long)]
    keep: bool,
    /// Write the outcome as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How often each timing is taken
    #[arg(long, default_value_t = 10, value_name = "N")]
    repeat: u32,
}

/// What `cargo xtask bench` takes from the story.
pub mod bench_parts {
    use std::path::{Path, PathBuf};

    use anyhow::Result;
    use serde_json::Value;

    use super::{Scene, footprint, image, launch, measure, store};

    /// Steps 1 and 2.
    pub fn image(scene: &mut Scene) -> bool {
        scene.part("store", store::play) && scene.part("image", image::play)
    }

    /// What `hearth bench` prints.
    pub fn measure(scene: &mut Scene, repeat: u32) -> Result<Value> {
        measure::bench(scene, repeat)
    }

    /// Id of a microVM that has served a request and sleeps.
    pub fn suspended(scene: &mut Scene) -> Result<String> {
        let vm = launch::run(scene)?;
        scene.wait_for(&vm.id, "RUNNING")?;
        let token = super::requests::token(scene, &vm, 8080)?;
        super::requests::get(scene, &vm, &token, "/")?;
        scene.microvms(&["suspend-microvm", "--microvm-identifier", &vm.id])?;
        scene.wait_for(&vm.id, "SUSPENDED")?;
        Ok(vm.id)
    }

    /// Paths below a directory whose name holds the word.
    pub fn named(dir: &Path, word: &str) -> Vec<PathBuf> {
        footprint::named(dir, &[word])
    }
}

/// One part of the story.
type Part = (&'static str, fn(&mut Scene) -> Result<()>);

const STORY: [Part; 7] = [
    ("1 store", store::play),
    ("2 image", image::play),
    ("3 run", launch::play),
    ("4 requests", requests::play),
    ("5 sleep", sleep::play),
    ("6 clones", clones::play),
    ("7 end", end::play),
];

impl Demo {
    /// Plays it.
    pub fn run(self) -> Result<()> {
        let start = Instant::now();
        let mut report = Report::default();
        let played = self.play(&mut report);
        if let Err(error) = played {
            report.fail("story", format!("{error:#}"));
        }
        report.print(start.elapsed());
        if let Some(path) = &self.json {
            std::fs::write(path, report.json()).with_context(|| format!("write {}", path.display()))?;
        }
        match report.failures() {
            0 => Ok(()),
            1 => bail!("1 expectation of the demo was not met"),
            failures => bail!("{failures} expectations of the demo were not met"),
        }
    }

    fn play(&self, report: &mut Report) -> Result<()> {
        setup::run()?;
        let venv = Venv::ready()?;
        let hearth = build::hearth(&build::agent()?, false)?;
        let mut scene = Scene::open(hearth, venv, std::mem::take(report))?;
        self.story(&mut scene);
        if self.keep && !sys::interrupted() {
            scene.keep();
        } else {
            scene.leave();
        }
        *report = scene.into_report();
        Ok(())
    }

    fn story(&self, scene: &mut Scene) {
        let repeat = self.repeat;
        let mut told = scene.part("0 start", Scene::start);
        for (title, play) in STORY {
            told = told && scene.part(title, play);
        }
        if told {
            scene.part("timings", |scene| measure::play(scene, repeat));
        }
    }
}
