//! PENDING: restore a private copy of the image, make it its own, `/run`.

use engine::{EngineError, RestoreSpec};
use lifecycle::microvms::Input;

use super::{
    driver::{Driver, Live, Unwell},
    guest::GuestError,
};
use crate::{
    hooks::Hook,
    shared::{outside, remove_dir},
    store::MicrovmRecord,
};

impl Driver {
    /// Starts the microVM. One that was interrupted starts again from nothing: nobody has seen it yet.
    pub(super) async fn run(&mut self) {
        let record = self.cell.record();
        self.live = None;
        match self.start(&record).await {
            Ok(live) => {
                let agent = live.guest.agent.clone();
                let verdict = tokio::select! {
                    verdict = self.run_hook(&record, &live) => verdict,
                    () = self.superseded(&record) => { self.live = Some(live); return }
                };
                self.live = Some(live);
                crash::point("run: hook answered");
                match verdict {
                    Ok(()) => {
                        self.apply(Input::Started, |record| record.run_hook_payload = None).await;
                        self.cell.touch();
                        self.cell.open_gate(agent);
                    }
                    Err(input) => self.apply(input, |record| record.run_hook_payload = None).await,
                }
            }
            Err(error) => {
                tracing::error!(microvm = %record.id, %error, "a microVM could not be started");
                let why = match &error {
                    GuestError::Engine(error) => outside(error),
                    GuestError::Agent(_) => "its guest did not answer".into(),
                };
                self.apply(Input::StartFailed(format!("The MicroVM could not be started: {why}.")), |_| {}).await;
            }
        }
    }

    async fn start(&self, record: &MicrovmRecord) -> Result<Live, GuestError> {
        let machine_dir = self.shared.microvm_dir(record.id);
        if record.machine.is_some() || machine_dir.exists() {
            self.shared.engine.reclaim(&machine_dir).await?;
            crash::point("run: earlier machine ended");
            remove_dir(machine_dir.clone()).await.map_err(|e| EngineError::io("clear", &machine_dir, e))?;
            crash::point("run: earlier files removed");
        }
        let spec = RestoreSpec { image_dir: record.image_dir.clone(), machine_dir, saved_dir: None };
        let machine = self.shared.engine.restore(spec).await?;
        crash::point("run: machine restored");
        let found = machine.record();
        let (brought_up, stored) = tokio::join!(
            self.bring_up(machine.as_ref(), record),
            self.cell.amend(&self.shared.store, |record| record.machine = Some(found)),
        );
        if let Err(error) = stored {
            tracing::error!(microvm = %record.id, %error, "its machine could not be recorded");
        }
        crash::point("run: guest up and machine recorded");
        match brought_up {
            Ok(guest) => Ok(Live { machine, guest }),
            Err(e) => {
                machine.kill().await?;
                Err(e)
            }
        }
    }

    async fn run_hook(&self, record: &MicrovmRecord, live: &Live) -> Result<(), Input> {
        let (true, Some(port)) = (record.hooks.run(), record.hooks.port) else { return Ok(()) };
        let mut body = serde_json::json!({ "microvmId": record.id });
        if let Some(payload) = &record.run_hook_payload {
            body["runHookPayload"] = payload.expose().as_str().into();
        }
        let within = self.hook_time(record.hooks.microvm_hooks.and_then(|hooks| hooks.run_timeout_in_seconds));
        live.hook(port, Hook::Run, Some(body.to_string()), within).await.map_err(|unwell| match unwell {
            Unwell::Failed(reason) => Input::StartFailed(reason),
            Unwell::Exited(exit) => exit.into(),
        })
    }
}
