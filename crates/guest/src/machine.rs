//! The end of the machine, ordered or not.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::system::{RebootCommand, reboot};
use tokio::task::JoinHandle;

use crate::{application::Application, log};

/// Between the application's end and the machine's: followers of the events hear of it, if they still listen.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Ends the machine once the application has ended.
pub struct Machine {
    application: Arc<Application>,
    ending: Mutex<Option<JoinHandle<()>>>,
}

impl Machine {
    /// The machine of this application.
    pub fn new(application: Arc<Application>) -> Self {
        Self { application, ending: Mutex::default() }
    }

    /// Begins to end the machine: the application gets SIGTERM, after `grace` SIGKILL; then the machine is off. Returns at
    /// once; a repeat changes nothing.
    pub fn shut_down(&self, grace: Duration) {
        let mut ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        if ending.is_none() {
            let application = self.application.clone();
            *ending = Some(tokio::spawn(async move {
                application.stop(grace).await;
                tokio::time::sleep(LAST_WORDS).await;
                power_off()
            }));
        }
    }
}

/// Ends the machine because the agent cannot go on. The reason is on the console.
pub fn give_up(reason: std::fmt::Arguments<'_>) -> ! {
    log::error(format_args!("giving up: {reason}"));
    power_off()
}

/// Writes file systems to their disks and turns the machine off; where the kernel says it cannot, a restart ends the monitor
/// as well (`-no-reboot`).
fn power_off() -> ! {
    rustix::fs::sync();
    let _ = reboot(RebootCommand::PowerOff);
    let _ = reboot(RebootCommand::Restart);
    // Pid 1 must not end; the kernel would panic, which is the host's last chance to notice.
    std::process::abort()
}
