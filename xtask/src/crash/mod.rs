//! `cargo xtask crash`: the server is killed at every crash point of two stories, started again, and must come to the same
//! end with nothing left over.
//!
//! A story is played once undisturbed to learn its points, then once for each of them in a data directory of its own. From
//! the seed some get a second crash, in the midst of recovery, and on real machines some lose those too, as by a power cut.

mod client;
mod host;
mod story;
mod world;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use self::{
    host::{Host, Plan, Setting},
    story::Story,
    world::World,
};
use crate::{
    build,
    demo::footprint::{Footprint, remove_tree},
    setup, sys, workspace,
};

/// Exits non-zero when one point does not come to the right end; its data directory and log are then kept.
#[derive(Debug, Args)]
pub struct Crash {
    /// What makes machines
    #[arg(long, value_enum, default_value_t = EngineName::Fake)]
    engine: EngineName,
    /// Decides the sample, and which points get a second crash
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// How many points, chosen by the seed; 0 is all [default: all on fake, 12 on qemu]
    #[arg(long, value_name = "N")]
    sample: Option<usize>,
    /// Only this point, as it is printed: `microvm/checkpoint: written#2`
    #[arg(long, value_name = "POINT")]
    only: Option<String>,
    /// How many at a time
    #[arg(long, default_value_t = 2, value_name = "N")]
    jobs: usize,
    /// The binary, instead of building it
    #[arg(long, value_name = "FILE")]
    hearth: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EngineName {
    Fake,
    Qemu,
}

/// A point of a story, and what else happens to it.
#[derive(Debug, Clone)]
struct Case {
    story: Story,
    /// `<name>#<k>`.
    point: String,
    second: Option<u64>,
    power: bool,
}

impl Case {
    fn name(&self) -> String {
        format!("{}/{}", self.story.name(), self.point)
    }

    fn plan(&self) -> Plan {
        let crashes = [Some(self.point.clone()), self.second.map(|k| k.to_string())].into_iter().flatten().collect();
        Plan { crashes, trace: None, power: self.power }
    }
}

/// Where it all happens.
struct Stage {
    setting: Setting,
    work: PathBuf,
    template: PathBuf,
}

impl Crash {
    /// Plays it.
    pub fn run(self) -> Result<()> {
        let start = Instant::now();
        let engine = if self.engine == EngineName::Fake { "fake" } else { "qemu" };
        let hearth = match &self.hearth {
            Some(hearth) => std::path::absolute(hearth).context("find the binary")?,
            None => {
                if self.engine == EngineName::Qemu {
                    setup::run()?;
                }
                build::hearth(&build::agent()?, false)?
            }
        };
        let work = workspace::target().join("crash").join(format!("run-{}", std::process::id()));
        fs::create_dir_all(&work).with_context(|| format!("make {}", work.display()))?;
        let before = Footprint::take();
        let setting = Setting { hearth, engine, cache_dir: workspace::hearth_cache() };
        let stage = Stage { setting, template: work.join("template"), work };
        let cases = self.cases(&stage)?;
        println!("{} points, seed {}, {engine} engine", cases.len(), self.seed);
        let failed = self.play_all(&stage, &cases);
        let left = Footprint::take().since(&before, &[&stage.work, &stage.setting.cache_dir]);
        for what in &left {
            println!("left: {what}");
        }
        println!("{} points, {failed} failed, {:.0} s", cases.len(), start.elapsed().as_secs_f64());
        if sys::was_interrupted() {
            bail!("interrupted");
        }
        if failed > 0 || !left.is_empty() {
            bail!("not every crash came to a good end; data directories and logs are in {}", stage.work.display());
        }
        remove_tree(&stage.work)
    }

    /// All points, or those that were chosen.
    fn cases(&self, stage: &Stage) -> Result<Vec<Case>> {
        let mut world = stage.world("template", Plan::default());
        story::template(&mut world).context("the template")?;
        drop(world);
        let mut cases = Vec::new();
        for story in [Story::Image, Story::Microvm] {
            let points = stage.points(story).with_context(|| format!("the undisturbed {} story", story.name()))?;
            cases.extend(points.into_iter().map(|point| self.case(story, point)));
        }
        if let Some(only) = &self.only {
            cases.retain(|case| case.name() == *only);
            if cases.is_empty() {
                bail!("no story passes {only}");
            }
            return Ok(cases);
        }
        let size = self.sample.unwrap_or(if self.engine == EngineName::Fake { 0 } else { 12 });
        if size > 0 && size < cases.len() {
            let mut order: Vec<usize> = (0..cases.len()).collect();
            order.sort_by_key(|at| hash(self.seed, &cases[*at].name()));
            order.truncate(size);
            order.sort_unstable();
            cases = order.into_iter().map(|at| cases[at].clone()).collect();
        }
        Ok(cases)
    }

    fn case(&self, story: Story, point: String) -> Case {
        let random = hash(self.seed, &format!("{}/{point}", story.name()));
        let second = random.is_multiple_of(2).then_some(1 + (random >> 8) % 24);
        let power = self.engine == EngineName::Qemu && (random >> 32).is_multiple_of(4);
        Case { story, point, second, power }
    }

    /// Several at a time; how many failed.
    fn play_all(&self, stage: &Stage, cases: &[Case]) -> usize {
        let (next, failed, out) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(()));
        let work = || {
            while let Some((at, case)) =
                Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, cases.get(at)?)))
            {
                if sys::interrupted() {
                    return;
                }
                let start = Instant::now();
                let outcome = stage.play(at, case);
                let _line = out.lock().unwrap_or_else(PoisonError::into_inner);
                tell(at + 1, cases.len(), case, &outcome, start.elapsed());
                if let Err(error) = outcome {
                    failed.fetch_add(1, Ordering::Relaxed);
                    println!("     {error:#}");
                    println!("     kept: {}", stage.dir(at).display());
                    println!("     again: {}", self.again(case));
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(work);
            }
        });
        failed.into_inner()
    }

    fn again(&self, case: &Case) -> String {
        let engine = if self.engine == EngineName::Fake { "fake" } else { "qemu" };
        format!("cargo xtask crash --engine {engine} --seed {} --only '{}'", self.seed, case.name())
    }
}

fn tell(at: usize, of: usize, case: &Case, outcome: &Result<usize>, elapsed: Duration) {
    let verdict = match outcome {
        Ok(_) => "ok  ",
        Err(_) => "FAIL",
    };
    let crashes = outcome.as_ref().map_or(0, |crashes| *crashes);
    let mut more = String::new();
    if let Some(k) = case.second.filter(|_| crashes > 1) {
        more.push_str(&format!(", again at point {k} of the restart"));
    }
    if case.power {
        more.push_str(", machines die too");
    }
    println!("{verdict} {at:>3}/{of} {}{more}  {:.1} s", case.name(), elapsed.as_secs_f64());
}

impl Stage {
    fn world(&self, name: &str, plan: Plan) -> World {
        World::new(Host::new(self.setting.clone(), self.work.join(name), plan))
    }

    fn dir(&self, at: usize) -> PathBuf {
        self.work.join(format!("point-{}", at + 1))
    }

    /// The points of an undisturbed story, in order.
    fn points(&self, story: Story) -> Result<Vec<String>> {
        let trace = self.work.join(format!("{}.trace", story.name()));
        let plan = Plan { trace: Some(trace.clone()), ..Plan::default() };
        let name = format!("{}-undisturbed", story.name());
        self.prepare(story, &self.work.join(&name))?;
        let mut world = self.world(&name, plan);
        story.play(&mut world)?;
        drop(world);
        let text = fs::read_to_string(&trace).with_context(|| format!("read {}", trace.display()))?;
        remove_tree(&self.work.join(&name))?;
        let mut counts = std::collections::HashMap::new();
        let number = |name: &str| {
            let k = counts.entry(name.to_owned()).and_modify(|k| *k += 1).or_insert(1);
            format!("{name}#{k}")
        };
        Ok(text.lines().map(number).collect())
    }

    fn prepare(&self, story: Story, dir: &Path) -> Result<()> {
        match story {
            Story::Image => story::older(dir),
            Story::Microvm => host::copy(&self.template, dir),
        }
    }

    /// How many crashes there were.
    fn play(&self, at: usize, case: &Case) -> Result<usize> {
        let dir = self.dir(at);
        self.prepare(case.story, &dir)?;
        let mut world = World::new(Host::new(self.setting.clone(), dir.clone(), case.plan()));
        let played = case.story.play(&mut world);
        let crashes = world.host.crashes;
        drop(world);
        played.with_context(|| format!("after {crashes} crashes"))?;
        if crashes == 0 {
            bail!("the point was not reached");
        }
        remove_tree(&dir)?;
        // Only a failure's log is of use.
        let _ = fs::remove_file(dir.with_extension("log"));
        Ok(crashes)
    }
}

/// FNV-1a of seed and text, mixed: the same everywhere.
fn hash(seed: u64, text: &str) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut hash = text.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    hash ^= hash >> 29;
    hash = hash.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash ^ (hash >> 32)
}
