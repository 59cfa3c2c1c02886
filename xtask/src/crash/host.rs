//! A server that is killed as planned and started again, as often as it takes.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::client::Client;
use crate::{demo::processes, process, sys};

/// Longest time from the start of a server to its readiness.
const START_LIMIT: Duration = Duration::from_secs(60);
/// The same of the first one: it makes root file systems out of Debian packages where there are none.
const FIRST_LIMIT: Duration = Duration::from_secs(1800);
/// Between two looks at a server that starts.
const LOOK: Duration = Duration::from_millis(5);

/// What each start of the server is told.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// `HEARTH_CRASH_AT` of the first start, of the second, ...; later ones are not disturbed.
    pub crashes: Vec<String>,
    /// `HEARTH_CRASH_TRACE`.
    pub trace: Option<PathBuf>,
    /// The machines are killed with the server, as when the host's power is cut.
    pub power: bool,
}

/// Which binary, which engine, where.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The binary.
    pub hearth: PathBuf,
    /// `fake` or `qemu`.
    pub engine: &'static str,
    /// What all servers share.
    pub cache_dir: PathBuf,
}

/// See the module.
pub struct Host {
    /// Which.
    pub setting: Setting,
    /// The server's state.
    pub data_dir: PathBuf,
    /// How often it was killed.
    pub crashes: usize,
    /// MicroVMs that had a whole checkpoint when the server was killed.
    pub checkpointed: BTreeSet<String>,
    plan: Plan,
    starts: usize,
    child: Option<Child>,
}

impl Host {
    /// Nothing runs yet.
    pub fn new(setting: Setting, data_dir: PathBuf, plan: Plan) -> Host {
        Host { setting, data_dir, crashes: 0, checkpointed: BTreeSet::new(), plan, starts: 0, child: None }
    }

    /// Are running microVMs lost with the server?
    pub fn lossy(&self) -> bool {
        self.setting.engine == "fake" || self.plan.power
    }

    /// Is there a planned crash that has not come yet?
    pub fn pending(&self) -> bool {
        self.crashes < self.plan.crashes.len()
    }

    /// A client of the server, which is started (again) if it does not run.
    pub fn client(&mut self) -> Result<Client> {
        let limit = if self.starts == 0 { FIRST_LIMIT } else { START_LIMIT };
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if sys::interrupted() {
                bail!("interrupted");
            }
            let child = match self.child.take() {
                Some(child) => self.child.insert(child),
                None => {
                    let child = self.start()?;
                    self.child.insert(child)
                }
            };
            if let Some(status) = child.try_wait().context("wait for the server")? {
                self.child = None;
                self.ended(status)?;
            } else if let Some(client) = Client::of(&self.data_dir, child.id()) {
                return Ok(client);
            } else {
                thread::sleep(LOOK);
            }
        }
        bail!("the server was not ready within {} s", limit.as_secs())
    }

    fn start(&mut self) -> Result<Child> {
        let path = self.log();
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("open {}", path.display()))?;
        let mut command = self.hearth("serve");
        command.args(["--api", "127.0.0.1:0", "--ingress", "127.0.0.1:0", "--engine", self.setting.engine]);
        command.arg("--cache-dir").arg(&self.setting.cache_dir).env("RUST_LOG", "info");
        if let Some(at) = self.plan.crashes.get(self.starts) {
            command.env("HEARTH_CRASH_AT", at);
        }
        if let Some(trace) = &self.plan.trace {
            command.env("HEARTH_CRASH_TRACE", trace);
        }
        self.starts += 1;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("open the log twice")?)
            .stderr(log)
            .process_group(0);
        command.spawn().context("start hearth serve")
    }

    /// The server is gone: that must be the planned crash.
    fn ended(&mut self, status: std::process::ExitStatus) -> Result<()> {
        if status.signal() != Some(sys::SIGKILL) || !self.pending() {
            bail!("the server ended with {status}");
        }
        self.crashes += 1;
        self.checkpointed.extend(checkpointed(&self.data_dir));
        if self.plan.power {
            processes::end_all(&self.data_dir, &[]);
        }
        Ok(())
    }

    /// The server's log.
    pub fn log(&self) -> PathBuf {
        self.data_dir.with_extension("log")
    }

    /// `hearth <verb>` for this data directory.
    pub fn hearth(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.setting.hearth);
        command.arg(verb).arg("--data-dir").arg(&self.data_dir);
        command
    }

    /// SIGTERM: it must end in order, or at the planned point.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        match process::stop(&mut child, Duration::from_secs(30)) {
            Some(status) if status.success() => Ok(()),
            Some(status) => self.ended(status),
            None => bail!("the server cannot be waited for"),
        }
    }

    /// Nothing of it runs any more, however far it came.
    pub fn end_all(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        processes::end_all(&self.data_dir, &[]);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.end_all();
    }
}

/// MicroVMs with a directory `saved-<n>`, which appears when it is whole.
fn checkpointed(data_dir: &Path) -> Vec<String> {
    let names = |dir: &Path| -> Vec<String> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let microvms = data_dir.join("microvms");
    let whole = |name: &String| name.starts_with("saved-") && !name.contains('.');
    names(&microvms).into_iter().filter(|id| names(&microvms.join(id)).iter().any(whole)).collect()
}

/// A data directory like another one. No links: which machine is whose is told by the files it has open.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new("cp");
    command.args(["-a", "--sparse=always"]).arg(from).arg(to);
    process::capture(&mut command, b"", Duration::from_secs(120))?.success("cp").map(drop)
}
