//! SUSPENDING: `/suspend`, let go of the guest, checkpoint, no process.

use std::{os::unix::fs::MetadataExt, path::Path};

use engine::{EngineError, Machine};
use lifecycle::{microvms::Input, usage::Snapshot};

use super::driver::{Driver, ENDED, Live, Unwell};
use crate::{
    hooks::Hook,
    shared::{outside, remove_dir},
    store::MicrovmRecord,
};

/// The disk of a microVM in its directory.
const DISK: &str = "disk.qcow2";

impl Driver {
    /// Puts the microVM to sleep. A failed hook leaves it awake, with the reason on record (spec 16, item 9).
    pub(super) async fn suspend(&mut self) {
        let record = self.cell.record();
        let dir = self.checkpoint_dir(&record);
        if dir.is_dir() {
            // An earlier server wrote the checkpoint and was killed before it could say so.
            self.live = None;
            if let Err(error) = self.shared.engine.reclaim(&self.shared.microvm_dir(record.id)).await {
                tracing::error!(microvm = %record.id, %error, "what is left of its machine cannot be ended");
                return;
            }
            crash::point("suspend: earlier machine ended");
            let snapshot = measured(&dir).await;
            self.asleep(&record, snapshot).await;
            return;
        }
        let Some(live) = self.live.take() else {
            self.apply(Input::Lost(ENDED.into()), |_| {}).await;
            return;
        };
        let verdict = tokio::select! {
            verdict = self.suspend_hook(&record, &live) => verdict,
            () = self.superseded(&record) => { self.live = Some(live); return }
        };
        crash::point("suspend: hook answered");
        if let Err(input) = verdict {
            self.live = Some(live);
            self.apply(input, |_| {}).await;
            return;
        }
        match self.checkpoint(&record, live).await {
            Ok(snapshot) => self.asleep(&record, snapshot).await,
            Err(why) => {
                self.apply(Input::SuspendRefused(format!("The MicroVM could not be suspended: {why}.")), |_| {}).await
            }
        }
    }

    async fn suspend_hook(&self, record: &MicrovmRecord, live: &Live) -> Result<(), Input> {
        let (true, Some(port)) = (record.hooks.suspend(), record.hooks.port) else { return Ok(()) };
        let within = self.hook_time(record.hooks.microvm_hooks.and_then(|hooks| hooks.suspend_timeout_in_seconds));
        let fatal = self.shared.config.file.compat.profile.suspend_is_final();
        live.hook(port, Hook::Suspend, None, within).await.map_err(|unwell| match unwell {
            Unwell::Failed(reason) if fatal => Input::Lost(reason),
            Unwell::Failed(reason) => Input::SuspendRefused(reason),
            Unwell::Exited(exit) => exit.into(),
        })
    }

    /// Freezes the machine into its checkpoint directory and ends it. On failure the machine runs on, and `live` is back.
    pub(super) async fn checkpoint(&mut self, record: &MicrovmRecord, live: Live) -> Result<Snapshot, String> {
        self.cell.close_gate();
        let Live { machine, guest } = live;
        if let Err(error) = guest.agent.quiesce().await {
            tracing::warn!(microvm = %record.id, %error, "the guest could not flush before its checkpoint");
        }
        guest.release().await;
        crash::point("checkpoint: guest released");
        match self.freeze(record, machine.as_ref()).await {
            Ok(snapshot) => Ok(snapshot),
            Err(error) => {
                self.wake_up_again(record, machine, &self.checkpoint_dir(record)).await;
                Err(outside(&error))
            }
        }
    }

    /// Stops the machine where it stands, writes its checkpoint and ends it. On failure it is still there.
    pub(super) async fn freeze(&self, record: &MicrovmRecord, machine: &dyn Machine) -> Result<Snapshot, EngineError> {
        let saved = async {
            machine.pause().await?;
            crash::point("checkpoint: machine paused");
            machine.save(&self.checkpoint_dir(record)).await
        };
        let saved = saved.await.inspect_err(|error| {
            tracing::error!(microvm = %record.id, %error, "a checkpoint could not be written");
        })?;
        tracing::debug!(microvm = %record.id, ?saved, "checkpoint written");
        crash::point("checkpoint: written");
        // The checkpoint is whole and durable: nothing of the process is needed any more.
        if let Err(error) = machine.kill().await {
            tracing::error!(microvm = %record.id, %error, "its machine could not be ended");
        }
        crash::point("checkpoint: machine ended");
        Ok(Snapshot { memory_bytes: saved.memory_bytes, disk_bytes: saved.disk_bytes })
    }

    async fn wake_up_again(&mut self, record: &MicrovmRecord, machine: Box<dyn Machine>, dir: &std::path::Path) {
        let _ = remove_dir(dir.to_owned()).await;
        match self.bring_up(machine.as_ref(), record).await {
            Ok(guest) => {
                self.cell.open_gate(guest.agent.clone());
                self.live = Some(Live { machine, guest });
            }
            Err(error) => {
                tracing::error!(microvm = %record.id, %error, "its guest does not answer any more");
                let _ = machine.kill().await;
                self.apply(Input::Lost(ENDED.into()), |_| {}).await;
            }
        }
    }

    async fn asleep(&self, record: &MicrovmRecord, snapshot: Snapshot) {
        let dir = self.checkpoint_dir(record);
        self.apply(Input::Suspended, |record| record.lie_down(dir, snapshot)).await;
    }
}

/// The size of a checkpoint whose server was killed before it could say: what its files take on the disk, device state
/// included, and the disk beside it. What cannot be read counts for nothing.
pub(super) async fn measured(dir: &Path) -> Snapshot {
    let (dir, disk) = (dir.to_owned(), dir.with_file_name(DISK));
    let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.blocks() * 512);
    let measure = move || {
        let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        let memory_bytes = entries.map(|entry| bytes(&entry.path())).sum();
        Snapshot { memory_bytes, disk_bytes: bytes(&disk) }
    };
    tokio::task::spawn_blocking(measure).await.unwrap_or_default()
}
