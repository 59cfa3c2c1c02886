//! TERMINATING: `/terminate` if the application is awake, then nothing of it is left on the host.

use lifecycle::microvms::Input;

use super::driver::{Driver, Live};
use crate::{
    hooks::{self, Hook, Target},
    shared::remove_dir,
    store::MicrovmRecord,
};

impl Driver {
    /// Ends the microVM. The hook has its time and no veto.
    pub(super) async fn terminate(&mut self) {
        let record = self.cell.record();
        self.cell.close_gate();
        let held = self.live.take();
        let ended_here = held.is_some();
        if let Some(live) = held {
            if record.life.farewell {
                farewell(self, &record, &live).await;
                crash::point("terminate: hook answered");
            }
            let Live { machine, guest } = live;
            drop(guest);
            if let Err(error) = machine.kill().await {
                tracing::error!(microvm = %record.id, %error, "its machine could not be ended");
                return;
            }
        }
        let dir = self.shared.microvm_dir(record.id);
        let reclaimed = if ended_here { Ok(()) } else { self.shared.engine.reclaim(&dir).await };
        crash::point("terminate: machine ended");
        let cleared = match reclaimed {
            Ok(()) => remove_dir(dir).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match cleared {
            Ok(()) => {
                crash::point("terminate: files removed");
                self.apply(Input::Ended, |record| {
                    record.machine = None;
                    record.saved_dir = None;
                    record.run_hook_payload = None;
                })
                .await;
            }
            Err(error) => tracing::error!(microvm = %record.id, %error, "what is left of it cannot be removed"),
        }
    }
}

async fn farewell(driver: &Driver, record: &MicrovmRecord, live: &Live) {
    let (true, Some(port)) = (record.hooks.terminate(), record.hooks.port) else { return };
    let within = driver.hook_time(record.hooks.microvm_hooks.and_then(|hooks| hooks.terminate_timeout_in_seconds));
    let call = hooks::call(Target { agent: &live.guest.agent, port }, Hook::Terminate, None, within);
    let outcome = tokio::select! {
        outcome = call => outcome,
        _ = live.guest.exited() => return,
        _ = live.machine.wait() => return,
    };
    if let Err(error) = outcome {
        tracing::info!(microvm = %record.id, %error, "the terminate hook did not end well");
    }
}
