//! What the checks are made of.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::Future,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::{Application, Identity};

use super::{
    super::{
        EngineError, Machine, RestoreSpec,
        agent::{Agent, AgentError},
    },
    Clock, Image, Live, Suite,
};

/// A problem in words; any error becomes one.
#[derive(Debug)]
pub(super) struct Problem(pub(super) String);

pub(super) type Outcome<T = ()> = Result<T, Problem>;

impl<E: fmt::Display> From<E> for Problem {
    fn from(cause: E) -> Self {
        Problem(cause.to_string())
    }
}

/// A [`Problem`] unless `holds`.
pub(super) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(Problem(what())) }
}

impl Suite<'_> {
    /// A new path below the scratch directory.
    pub(super) fn directory(&self, kind: &str) -> PathBuf {
        self.harness.scratch().join(format!("{kind}-{}", self.number.fetch_add(1, Ordering::Relaxed)))
    }

    pub(super) async fn bounded<T>(&self, what: &str, work: impl Future<Output = T>) -> Outcome<T> {
        let patience = self.harness.patience();
        let late = |_| Problem(format!("{what} took longer than {} s", patience.as_secs_f64()));
        tokio::time::timeout(patience, work).await.map_err(late)
    }

    pub(super) async fn agent(&self, machine: &dyn Machine) -> Outcome<Agent> {
        let channel = self.bounded("connect", machine.connect()).await??;
        Ok(Agent::open(channel, self.harness.patience()).await?)
    }

    pub(super) async fn cloned(&self, image: &Image) -> Outcome<Live> {
        let (image_dir, machine_dir) = (image.dir.clone(), self.directory("machine"));
        let spec = RestoreSpec { image_dir, machine_dir, saved_dir: None };
        self.restored(spec, image.count).await
    }

    pub(super) async fn restored(&self, spec: RestoreSpec, count: u64) -> Outcome<Live> {
        let RestoreSpec { image_dir, machine_dir, .. } = spec.clone();
        let machine = self.bounded("restore", self.engine.restore(spec)).await??;
        self.bounded("resume", machine.resume()).await??;
        let agent = self.agent(machine.as_ref()).await?;
        ensure(agent.hello().application == Application::Running, || format!("{:?} after a restore", agent.hello()))?;
        let identity = Identity {
            unix_time_ns: u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?,
            entropy: [7; 32],
            hostname: "clone".into(),
            machine_id: String::new(),
        };
        self.bounded("renew", agent.renew(identity)).await??;
        Ok(Live { machine, agent, machine_dir, image_dir, count, clock: Clock::unread() })
    }

    /// Waits until the application listens: it was started a moment ago.
    pub(super) async fn listening(&self, live: &Live) -> Outcome {
        self.bounded("the application's start", async {
            while let Err(cause) = live.agent.dial(self.harness.port()).await {
                if !matches!(cause, AgentError::Refused { .. }) {
                    return Err(Problem::from(cause));
                }
                // A port has no event that tells when somebody listens.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        })
        .await?
    }

    /// So many requests, each of which must count one further.
    pub(super) async fn serves(&self, live: &mut Live, requests: u64) -> Outcome {
        for _ in 0..requests {
            let (count, clock) = self.bounded("a request", ask(&live.agent, self.harness.port())).await??;
            live.clock = clock;
            live.count += 1;
            ensure(count == live.count, || format!("request {} was counted as {count}", live.count))?;
        }
        Ok(())
    }

    /// What comes before a pause that a save follows.
    pub(super) async fn quieten(&self, agent: &Agent) -> Outcome {
        self.bounded("quiesce", agent.quiesce()).await??;
        self.bounded("close", agent.close()).await
    }

    /// Kills the machine, twice, and finds nothing of it.
    pub(super) async fn ends(&self, machine: &dyn Machine) -> Outcome {
        self.bounded("kill", machine.kill()).await??;
        self.bounded("kill", machine.kill()).await??;
        self.bounded("wait", machine.wait()).await?;
        let record = machine.record();
        let found = self.bounded("adopt", self.engine.adopt(&record)).await??;
        ensure(found.is_none(), || "a killed machine can be adopted".into())?;
        let leftovers = self.harness.leftovers(&record);
        ensure(leftovers.is_empty(), || format!("a killed machine left {leftovers:?}"))
    }

    /// A restore that must fail because that file is damaged.
    pub(super) async fn refused_as_damaged(&self, name: &str, spec: RestoreSpec) -> Outcome {
        let outcome: Result<_, EngineError> = self.bounded("restore", self.engine.restore(spec)).await?;
        match outcome {
            Err(EngineError::Damaged(path, _)) if path.ends_with(name) => Ok(()),
            Err(error) => Err(Problem(format!("a flipped bit in {name}: {error}"))),
            Ok(machine) => {
                machine.kill().await?;
                Err(Problem(format!("a flipped bit in {name}: it was restored")))
            }
        }
    }

    /// A restore that must fail, and leave the places it was given as they were.
    pub(super) async fn refused(&self, what: &str, spec: RestoreSpec) -> Outcome {
        let before = names(&spec.machine_dir).unwrap_or_default();
        let outcome: Result<_, EngineError> = self.bounded(what, self.engine.restore(spec.clone())).await?;
        if let Ok(machine) = outcome {
            machine.kill().await?;
            return Err(Problem(format!("{what}: it was restored")));
        }
        let after = names(&spec.machine_dir).unwrap_or_default();
        ensure(before == after, || format!("{what}: the machine's directory held {before:?}, now {after:?}"))
    }
}

/// Flips a bit in the middle of what the file holds.
pub(super) fn flip_a_bit(path: &Path) -> Outcome {
    use std::os::unix::fs::FileExt;
    let bytes = std::fs::read(path)?;
    let middle = bytes.len() / 2;
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(middle);
    let at = bytes.iter().skip(middle).position(|byte| *byte != 0).map_or(last, |offset| middle + offset);
    let file = std::fs::File::options().write(true).open(path)?;
    file.write_all_at(&[bytes[at] ^ 4], at as u64)?;
    Ok(())
}

/// One `GET /` on a connection of its own: the count and the clock in the answer.
async fn ask(agent: &Agent, port: u16) -> Outcome<(u64, Clock)> {
    let mut stream = agent.dial(port).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("no HTTP answer: {answer:?}"))?;
    ensure(head.split(' ').nth(1) == Some("200"), || format!("no 200: {head:?}"))?;
    let json: serde_json::Value = serde_json::from_str(body)?;
    let (count, uptime) = (json["requests_served"].as_u64(), json["uptime_seconds"].as_f64());
    let (count, uptime) = count.zip(uptime).ok_or_else(|| format!("no count or clock in {body:?}"))?;
    Ok((count, Clock { uptime: Duration::try_from_secs_f64(uptime)?, read: Instant::now() }))
}

/// The files below a directory: length, time of last change and inode of each.
pub(super) struct Files(BTreeMap<PathBuf, (u64, SystemTime, u64)>);

impl Files {
    pub(super) fn of(dir: &Path) -> Outcome<Self> {
        use std::os::unix::fs::MetadataExt;
        let mut files = BTreeMap::new();
        let mut open = vec![dir.to_owned()];
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(dir)? {
                let entry = entry?;
                let metadata = entry.metadata()?;
                if metadata.is_dir() {
                    open.push(entry.path());
                } else {
                    files.insert(entry.path(), (metadata.len(), metadata.modified()?, metadata.ino()));
                }
            }
        }
        Ok(Files(files))
    }

    pub(super) fn unchanged(&self, dir: &Path) -> Outcome {
        let now = Files::of(dir)?.0;
        let all: BTreeSet<_> = self.0.keys().chain(now.keys()).collect();
        let changed: Vec<_> = all.into_iter().filter(|file| self.0.get(*file) != now.get(*file)).collect();
        ensure(changed.is_empty(), || format!("changed: {changed:?}"))
    }
}

/// The names in a directory, sorted; none when there is no directory.
pub(super) fn names(dir: &Path) -> Outcome<Vec<String>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

pub(super) fn copy_dir(from: &Path, to: &Path) -> Outcome {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &to.join(entry.file_name()))?;
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
