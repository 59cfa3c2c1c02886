//! The server as a process of ours.

use std::{
    fs::OpenOptions,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::process;

/// A running `hearth serve`. Dropping it leaves it running: [`super::Scene`] ends it.
pub struct Server(Child);

impl Server {
    /// Starts it; what it logs goes to the end of a file. It is a process group of its own: Ctrl-C reaches the demo only,
    /// which has microVMs to terminate before the server ends.
    pub fn start(mut command: Command, log: &Path) -> Result<Server> {
        let file = OpenOptions::new().create(true).append(true).open(log);
        let file = file.with_context(|| format!("open {}", log.display()))?;
        let twin = file.try_clone().context("open the log twice")?;
        let child = command.stdin(Stdio::null()).stdout(twin).stderr(file).process_group(0).spawn();
        Ok(Server(child.with_context(|| format!("start {}", process::shown(&command)))?))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(mut self) -> Result<()> {
        self.0.kill().context("kill the server")?;
        self.0.wait().context("wait for the server")?;
        Ok(())
    }

    /// SIGTERM; it must end by itself, with success.
    pub fn stop(mut self, patience: Duration) -> Result<()> {
        if let Ok(Some(status)) = self.0.try_wait() {
            bail!("it had ended before ({status})");
        }
        match process::stop(&mut self.0, patience) {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("it ended with {status}"),
            None => bail!("it cannot be waited for"),
        }
    }

    /// Lets it run on when we end.
    pub fn detach(self) {
        drop(self.0);
    }
}
