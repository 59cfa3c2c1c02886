//! SUSPENDED and wanted back: restore the checkpoint, make it current, `/resume`.

use engine::RestoreSpec;
use lifecycle::{microvms::Input, usage::Snapshot};

use super::{
    driver::{Driver, ENDED, Live, Unwell},
    guest::GuestError,
};
use crate::{
    hooks::Hook,
    shared::{outside, remove_dir},
    store::MicrovmRecord,
};

impl Driver {
    /// Wakes the microVM. When it cannot be woken it sleeps on, and may be tried again (spec 16, item 10).
    pub(super) async fn resume(&mut self) {
        let record = self.cell.record();
        let live = match self.live.take() {
            Some(live) => live,
            None => match self.reawaken(&record).await {
                Ok(Some(live)) => live,
                Ok(None) => return,
                Err(why) => {
                    let reason = format!("The MicroVM could not be resumed: {why}.");
                    self.apply(Input::ResumeFailed(reason), |_| {}).await;
                    return;
                }
            },
        };
        let verdict = tokio::select! {
            verdict = self.resume_hook(&record, &live) => verdict,
            () = self.superseded(&record) => { self.live = Some(live); return }
        };
        crash::point("resume: hook answered");
        match verdict {
            Ok(()) => {
                let agent = live.guest.agent.clone();
                self.live = Some(live);
                self.cell.touch();
                self.apply(Input::Resumed, |_| {}).await;
                self.cell.open_gate(agent);
            }
            Err(Unwell::Exited(exit)) => {
                self.live = Some(live);
                self.apply(exit.into(), |_| {}).await;
            }
            Err(Unwell::Failed(reason)) => self.back_to_sleep(&record, live, reason).await,
        }
    }

    /// The machine again, running. `Ok(None)`: it ended the hard way and that is on record.
    async fn reawaken(&self, record: &MicrovmRecord) -> Result<Option<Live>, String> {
        let Some(saved_dir) = record.saved_dir.clone() else {
            self.apply(Input::Lost(ENDED.into()), |_| {}).await;
            return Ok(None);
        };
        let machine_dir = self.shared.microvm_dir(record.id);
        let told = |error: &dyn std::fmt::Display| tracing::error!(microvm = %record.id, %error, "a resume failed");
        let spec = RestoreSpec { image_dir: record.image_dir.clone(), machine_dir, saved_dir: Some(saved_dir.clone()) };
        let machine = self.shared.engine.restore(spec).await.map_err(|error| {
            told(&error);
            outside(&error)
        })?;
        crash::point("resume: machine restored");
        // Once the machine runs its disk moves on and the checkpoint is worth nothing: that must be on record first.
        let found = machine.record();
        let consumed = self.cell.amend(&self.shared.store, |record| {
            record.machine = Some(found);
            record.saved_dir = None;
        });
        if let Err(error) = consumed.await {
            told(&error);
            let _ = machine.kill().await;
            return Err("an internal error occurred".into());
        }
        crash::point("resume: checkpoint consumed");
        let brought_up = self.bring_up(machine.as_ref(), record).await;
        crash::point("resume: guest up");
        if let Err(error) = remove_dir(saved_dir).await {
            tracing::warn!(microvm = %record.id, %error, "a consumed checkpoint cannot be removed");
        }
        crash::point("resume: consumed checkpoint removed");
        match brought_up {
            Ok(guest) => Ok(Some(Live { machine, guest })),
            Err(error) => {
                told(&error);
                let why = match error {
                    GuestError::Engine(error) => outside(&error),
                    GuestError::Agent(_) => "its guest did not answer".into(),
                };
                // Its disk has moved on, so it is frozen anew; only a machine that is gone is lost.
                let frozen = self.freeze(record, machine.as_ref()).await.ok();
                self.asleep_again(record, frozen, format!("The MicroVM could not be resumed: {why}.")).await;
                if frozen.is_none() {
                    let _ = machine.kill().await;
                }
                Ok(None)
            }
        }
    }

    async fn resume_hook(&self, record: &MicrovmRecord, live: &Live) -> Result<(), Unwell> {
        let (true, Some(port)) = (record.hooks.resume(), record.hooks.port) else { return Ok(()) };
        let within = self.hook_time(record.hooks.microvm_hooks.and_then(|hooks| hooks.resume_timeout_in_seconds));
        live.hook(port, Hook::Resume, None, within).await
    }

    async fn back_to_sleep(&mut self, record: &MicrovmRecord, live: Live, reason: String) {
        let frozen = self.checkpoint(record, live).await.ok();
        self.asleep_again(record, frozen, reason).await;
    }

    /// It sleeps on, from its new checkpoint; without one it is lost.
    async fn asleep_again(&self, record: &MicrovmRecord, frozen: Option<Snapshot>, reason: String) {
        match frozen {
            Some(snapshot) => {
                let dir = self.checkpoint_dir(record);
                self.apply(Input::ResumeFailed(reason), |record| record.lie_down(dir, snapshot)).await;
            }
            None => self.apply(Input::Lost(reason), |_| {}).await,
        }
    }
}
