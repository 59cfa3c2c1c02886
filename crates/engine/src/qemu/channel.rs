//! The way to the agent: a Unix socket that QEMU serves one client at a time.
//!
//! Two of QEMU's habits (10.0) matter here. It handles the end of a channel, and bytes in flight, in its main loop, stopped
//! machine or not, by writing to the guest's queues: a save must not begin before that is done. And a guest that speaks
//! just when the host hangs up leaves its port throttled with what it said, deaf to the next caller, until one more
//! connection has come and gone. The wire's farewell keeps that from happening when all is well; [`AgentChannel::open`]
//! mends it when it was not (a server was killed).

use std::{
    io,
    net::Shutdown,
    os::unix::net::UnixStream as StdUnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use tokio::{net::UnixStream, sync::Mutex, time::Instant};

use super::{process, qmp::Qmp};
use crate::{Channel, EngineError};

/// How long QEMU may take to see that a channel came or went.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(5);

/// See the module.
pub struct AgentChannel {
    machine_dir: PathBuf,
    previous: Mutex<Previous>,
}

/// What is known of the channel before the next one.
enum Previous {
    /// There was none since the process was started.
    None,
    /// There was one, and it has ended: an earlier hearth's, or ours.
    Over,
    /// A second handle to it.
    Ours(StdUnixStream),
}

impl Previous {
    fn end(&mut self) {
        if let Previous::Ours(stream) = self {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
            *self = Previous::Over;
        }
    }
}

impl AgentChannel {
    /// Of a process that was just started.
    pub fn fresh(machine_dir: &Path) -> Self {
        AgentChannel { machine_dir: machine_dir.to_owned(), previous: Mutex::new(Previous::None) }
    }

    /// Of a process that an earlier hearth may have talked to.
    pub fn found(machine_dir: &Path) -> Self {
        AgentChannel { machine_dir: machine_dir.to_owned(), previous: Mutex::new(Previous::Over) }
    }

    /// Opens a channel; ends the one before.
    pub async fn open(&self, qmp: &Qmp) -> Result<Box<dyn Channel>, EngineError> {
        let failed = |e| EngineError::io("connect to the agent of", &self.machine_dir, e);
        let mut previous = self.previous.lock().await;
        previous.end();
        if !matches!(*previous, Previous::None) {
            self.clear(qmp).await?;
        }
        let stream = self.connect().map_err(failed)?;
        *previous = Previous::Ours(stream.try_clone().map_err(failed)?);
        stream.set_nonblocking(true).map_err(failed)?;
        Ok(Box::new(UnixStream::from_std(stream).map_err(failed)?))
    }

    /// Ends the channel and waits until QEMU has seen it.
    pub async fn close(&self, qmp: &Qmp) -> Result<(), EngineError> {
        self.previous.lock().await.end();
        self.noticed(qmp, false).await
    }

    /// A connection that comes and goes, so that the port hears the next one.
    async fn clear(&self, qmp: &Qmp) -> Result<(), EngineError> {
        self.noticed(qmp, false).await?;
        let nobody = self.connect().map_err(|e| EngineError::io("connect to the agent of", &self.machine_dir, e))?;
        self.noticed(qmp, true).await?;
        drop(nobody);
        self.noticed(qmp, false).await
    }

    fn connect(&self) -> io::Result<StdUnixStream> {
        process::connect(&self.machine_dir, process::AGENT_SOCKET)
    }

    /// Waits until QEMU sees the channel connected, or not.
    async fn noticed(&self, qmp: &Qmp, connected: bool) -> Result<(), EngineError> {
        let deadline = Instant::now() + NOTICE_TIMEOUT;
        loop {
            let devices = qmp.execute("query-chardev", Value::Null).await?;
            let agent = devices.as_array().into_iter().flatten().find(|device| device["label"] == "agent");
            let state = agent.and_then(|device| device["filename"].as_str()).unwrap_or_default();
            if state.starts_with("disconnected:") != connected {
                return Ok(());
            }
            if Instant::now() > deadline {
                let what = if connected { "a new channel to the agent" } else { "the end of the channel to the agent" };
                return Err(EngineError::Timeout { what, seconds: NOTICE_TIMEOUT.as_secs() });
            }
            // QEMU has no event for it, and is about to handle it.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
