//! One task per live microVM: it does the work that the state owes, and waits for what comes next.
//!
//! The task is the only one that touches the machine. It starts with [`Driver::recover`], so that a server that was killed
//! at any moment goes on where it stood.

use std::{path::PathBuf, sync::Arc, time::Duration};

use engine::{Ending, Machine};
use lifecycle::microvms::{Input, State, Work};
use tokio::time::Instant;

use super::{
    cell::{ApplyError, Cell},
    guest::{ANSWER_WITHIN, Exit, Guest, GuestError, identity},
};
use crate::{
    hooks::{self, Hook, HookError, Target, iso8601},
    logs::{Stream, group_of},
    shared::{Shared, now, remove_dir},
    store::MicrovmRecord,
};

/// After work that changed nothing (the store failed), before it is tried again.
const BREATH: Duration = Duration::from_secs(1);
/// How often a machine of an earlier server is asked before it is given up.
const ADOPT_TRIES: u32 = 5;
/// How often a channel that broke under a running machine is opened again.
const RELINK_TRIES: u32 = 3;

/// An application that ends in the middle of a hook breaks the connection first; within this time its end is told.
const LAST_WORD: Duration = Duration::from_secs(1);

/// `stateReason` of a microVM whose machine is gone; our own words.
pub const ENDED: &str = "The MicroVM's machine ended unexpectedly.";

/// A machine that came to its end without having been told to. Spec 16, item 34: AWS's words are not known.
fn lost(ending: Ending) -> Input {
    let reason = match ending {
        Ending::PoweredOff => "The MicroVM's guest turned itself off.",
        Ending::Reset => "The MicroVM's kernel panicked or restarted.",
        Ending::Killed => ENDED,
    };
    Input::Lost(reason.into())
}

/// See the module.
pub struct Driver {
    pub(super) shared: Arc<Shared>,
    pub(super) cell: Arc<Cell>,
    pub(super) live: Option<Live>,
}

/// A machine that runs, and the hold on its guest.
pub struct Live {
    /// The machine.
    pub machine: Box<dyn Machine>,
    /// The guest.
    pub guest: Guest,
}

/// How a hook went wrong.
pub enum Unwell {
    /// It failed, in the service's words.
    Failed(String),
    /// The application ended under it.
    Exited(Exit),
}

impl Live {
    /// Calls a hook of the application.
    pub async fn hook(&self, port: u16, hook: Hook, body: Option<String>, within: Duration) -> Result<(), Unwell> {
        let error = tokio::select! {
            outcome = hooks::call(Target { agent: &self.guest.agent, port }, hook, body, within) => match outcome {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
            exit = self.guest.exited() => return Err(Unwell::Exited(exit)),
        };
        if matches!(error, HookError::Broken(_) | HookError::Refused(_))
            && let Ok(exit) = tokio::time::timeout(LAST_WORD, self.guest.exited()).await
        {
            return Err(Unwell::Exited(exit));
        }
        Err(Unwell::Failed(hook_reason(hook, &error)))
    }
}

impl Driver {
    /// A driver for that microVM.
    pub fn new(shared: Arc<Shared>, cell: Arc<Cell>) -> Self {
        Driver { shared, cell, live: None }
    }

    /// Drives the microVM to its end.
    pub async fn drive(mut self) {
        self.recover().await;
        let mut changes = self.cell.changes();
        loop {
            let record = changes.borrow_and_update().clone();
            if record.life.state == State::Terminated {
                return;
            }
            if let Some(work) = record.life.owes() {
                match work {
                    Work::Start => self.run().await,
                    Work::Suspend => self.suspend().await,
                    Work::Resume => self.resume().await,
                    Work::Terminate => self.terminate().await,
                }
                if self.cell.record().life == record.life {
                    tokio::time::sleep(BREATH).await;
                }
                continue;
            }
            let deadline = record.life.deadline(self.cell.last_activity());
            tokio::select! {
                _ = changes.changed() => {}
                () = until(deadline.as_ref().map(|(at, _)| *at)) => self.passed(&record).await,
                trouble = self.trouble() => {
                    // Not inside the select: a machine that is out of hand for a moment must not be dropped half-way.
                    let input = match trouble {
                        Some(input) => Some(input),
                        None => self.relink().await,
                    };
                    if let Some(input) = input {
                        self.apply(input, |_| {}).await;
                    }
                }
            }
        }
    }

    /// A deadline was reached; traffic may have moved it since.
    async fn passed(&self, record: &MicrovmRecord) {
        if let Some((at, input)) = record.life.deadline(self.cell.last_activity())
            && at <= now()
        {
            self.apply(input, |_| {}).await;
        }
    }

    /// Waits for the end of the application or of the machine; `None`: only the channel to the agent broke.
    async fn trouble(&self) -> Option<Input> {
        let Some(live) = &self.live else { return std::future::pending().await };
        tokio::select! {
            exit = live.guest.exited() => Some(exit.into()),
            ending = live.machine.wait() => Some(lost(ending)),
            () = live.guest.agent.closed() => None,
        }
    }

    /// Opens the channel to the agent again. `None`: it is open.
    async fn relink(&mut self) -> Option<Input> {
        self.cell.close_gate();
        let Live { machine, guest } = self.live.take()?;
        guest.release().await;
        let record = self.cell.record();
        for _ in 0..RELINK_TRIES {
            tokio::select! {
                ending = machine.wait() => return Some(lost(ending)),
                linked = self.link(machine.as_ref(), &record) => match linked {
                    Ok(guest) => {
                        tracing::warn!(microvm = %record.id, "the channel to the agent broke and was opened again");
                        self.cell.open_gate(guest.agent.clone());
                        self.live = Some(Live { machine, guest });
                        return None;
                    }
                    Err(error) => tracing::warn!(microvm = %record.id, %error, "the agent cannot be reached"),
                },
            }
        }
        // A machine that ends takes its channel along first, and its process is gone soon after.
        let ended = tokio::time::timeout(LAST_WORD, machine.wait()).await;
        Some(ended.map_or_else(|_| Input::Lost(ENDED.into()), lost))
    }

    /// Applies an input; a refusal means that something else came first, which is fine. After a failure of the store it takes
    /// a breath: whoever asked finds everything as it was and asks again.
    pub(super) async fn apply(&self, input: Input, also: impl FnOnce(&mut MicrovmRecord) + Send) {
        match self.cell.apply(&self.shared.store, input, also).await {
            Ok(_) => {}
            Err(ApplyError::Refused(refusal)) => {
                tracing::debug!(microvm = %self.cell.record().id, %refusal, "too late");
            }
            Err(ApplyError::Store(error)) => {
                tracing::error!(microvm = %self.cell.record().id, %error, "a change could not be stored");
                tokio::time::sleep(BREATH).await;
            }
        }
    }

    /// Waits until the microVM has left that state (somebody terminated it).
    pub(super) async fn superseded(&self, record: &MicrovmRecord) {
        let (state, waking) = (record.life.state, record.life.waking);
        let mut changes = self.cell.changes();
        // The cell outlives its driver, so the sender is there.
        let _ = changes.wait_for(|now| (now.life.state, now.life.waking) != (state, waking)).await;
    }

    /// Lets a restored machine run, takes hold of its guest and makes it this microVM's own.
    pub(super) async fn bring_up(&self, machine: &dyn Machine, record: &MicrovmRecord) -> Result<Guest, GuestError> {
        machine.resume().await?;
        crash::point("bring up: machine runs");
        let agent = Guest::connect(machine, ANSWER_WITHIN).await?;
        agent.renew(identity(&record.id.to_string(), record.id.uuid())?).await?;
        crash::point("bring up: guest renewed");
        self.attend(agent, record).await
    }

    /// Takes hold of the guest of a machine that runs already.
    async fn link(&self, machine: &dyn Machine, record: &MicrovmRecord) -> Result<Guest, GuestError> {
        let agent = Guest::connect(machine, ANSWER_WITHIN).await?;
        self.attend(agent, record).await
    }

    async fn attend(&self, agent: engine::agent::Agent, record: &MicrovmRecord) -> Result<Guest, GuestError> {
        let log = self.log(record);
        let after = log.as_ref().map_or(0, |log| log.last()).max(record.image_events);
        let sink = move |number: u64, line: &str| {
            if let Some(log) = &log
                && let Err(error) = log.append_numbered(number, now(), line)
            {
                tracing::error!(%error, "application output cannot be written to its log");
            }
        };
        Guest::follow(agent, after, sink).await
    }

    /// The stream of this microVM (spec 12.1); `None` when logging is off or impossible.
    fn log(&self, record: &MicrovmRecord) -> Option<Arc<Stream>> {
        let group = group_of(record.image_arn.name(), record.logging.as_ref())?;
        let stream = match &record.logging {
            Some(api::Logging::CloudWatch(api::CloudWatchLogging { log_stream: Some(name), .. })) => name.clone(),
            _ => {
                let started = jiff::Timestamp::from_millisecond(record.life.started_at).unwrap_or_default();
                format!("{}[{}]{}", started.strftime("%Y/%m/%d"), record.version, record.id)
            }
        };
        match self.shared.logs.stream(&record.account, &group, &stream) {
            Ok(stream) => Some(stream),
            Err(error) => {
                tracing::error!(microvm = %record.id, %error, "the log stream cannot be opened");
                None
            }
        }
    }

    /// Finds out what an earlier server has left of this microVM.
    async fn recover(&mut self) {
        let record = self.cell.record();
        if let Err(error) = self.tidy(&record).await {
            tracing::error!(microvm = %record.id, %error, "checkpoints that count no more cannot be removed");
        }
        crash::point("recover: tidied");
        let Some(machine) = &record.machine else {
            // It may have been restored without the record having been told.
            if record.life.state == State::Suspended
                && let Err(error) = self.shared.engine.reclaim(&self.shared.microvm_dir(record.id)).await
            {
                tracing::error!(microvm = %record.id, %error, "what is left of its machine cannot be ended");
            }
            return;
        };
        if record.life.waking && self.checkpoint_dir(&record).is_dir() {
            self.lie_down(&record).await;
            return;
        }
        let checkpointed = record.life.state == State::Suspending && self.checkpoint_dir(&record).is_dir();
        if checkpointed || record.life.state == State::Pending {
            return;
        }
        let mut tries = 0;
        let found = loop {
            tries += 1;
            match self.shared.engine.adopt(machine).await {
                Ok(found) => break found,
                Err(error) if tries < ADOPT_TRIES => {
                    tracing::warn!(microvm = %record.id, %error, "its machine cannot be reached yet");
                    tokio::time::sleep(BREATH).await;
                }
                Err(error) => {
                    tracing::error!(microvm = %record.id, %error, "its machine is given up");
                    break None;
                }
            }
        };
        crash::point("recover: machine looked for");
        let linked = match &found {
            None => None,
            // It was being woken: perhaps it has not run yet.
            Some(machine) if record.life.state == State::Suspended => {
                self.bring_up(machine.as_ref(), &record).await.ok()
            }
            Some(machine) => match machine.resume().await {
                Ok(()) => self.link(machine.as_ref(), &record).await.ok(),
                Err(_) => None,
            },
        };
        match (found, linked) {
            (Some(machine), Some(guest)) => {
                if record.life.state == State::Running {
                    self.cell.open_gate(guest.agent.clone());
                }
                self.live = Some(Live { machine, guest });
                tracing::info!(microvm = %record.id, "found again");
            }
            _ if record.life.state == State::Terminating => {}
            _ => self.apply(Input::Lost(ENDED.into()), |_| {}).await,
        }
    }

    /// Removes checkpoints that are consumed, and those that were never whole: a server that was killed has left them.
    async fn tidy(&self, record: &MicrovmRecord) -> std::io::Result<()> {
        let due = record.life.state == State::Suspending || record.life.waking;
        let kept = [record.saved_dir.clone(), due.then(|| self.checkpoint_dir(record))];
        let mut entries = match tokio::fs::read_dir(self.shared.microvm_dir(record.id)).await {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        while let Some(entry) = entries.next_entry().await? {
            let name = entry.file_name();
            // Not whole: `saved-<n>.partial`, `.saved-<n>.saving`.
            let checkpoint = name.to_string_lossy().trim_start_matches('.').starts_with("saved-");
            if checkpoint && !kept.contains(&Some(entry.path())) {
                remove_dir(entry.path()).await?;
            }
        }
        Ok(())
    }

    /// An earlier server could not wake it, wrote a new checkpoint and was killed before it could say so: this says so.
    async fn lie_down(&self, record: &MicrovmRecord) {
        if let Err(error) = self.shared.engine.reclaim(&self.shared.microvm_dir(record.id)).await {
            tracing::error!(microvm = %record.id, %error, "what is left of its machine cannot be ended");
            return;
        }
        crash::point("recover: machine ended, its new checkpoint counts");
        let dir = self.checkpoint_dir(record);
        let snapshot = super::suspend::measured(&dir).await;
        let why = Input::ResumeFailed("The MicroVM could not be resumed.".into());
        self.apply(why, |record| record.lie_down(dir, snapshot)).await;
    }

    /// Where the checkpoint of this suspend (or failed resume) goes: named by the generation, so that each is new. It
    /// exists only while the machine has not run since.
    pub(super) fn checkpoint_dir(&self, record: &MicrovmRecord) -> PathBuf {
        self.shared.microvm_dir(record.id).join(format!("saved-{}", record.life.generation))
    }

    /// How long a hook of this microVM may take.
    pub(super) fn hook_time(&self, seconds: Option<u32>) -> Duration {
        seconds.map_or(self.shared.hook_default(), |seconds| Duration::from_secs(seconds.into()))
    }
}

/// A failed hook in the service's words (spec 5.6), with our own for what was never recorded.
pub fn hook_reason(hook: Hook, error: &HookError) -> String {
    let advice = "Please check your hook endpoint and application logs for more details.";
    let title = hook.title();
    match error {
        HookError::Status(status) => format!("{title} lifecycle hook returned HTTP status {status}. {advice}"),
        HookError::Timeout(within) => format!("{title} lifecycle hook timed out after {}. {advice}", iso8601(*within)),
        HookError::Refused(port) => format!("{title} lifecycle hook could not connect to port {port}. {advice}"),
        HookError::Broken(_) => format!("{title} lifecycle hook connection broke. {advice}"),
    }
}

async fn until(at: Option<i64>) {
    match at {
        Some(at) => {
            let left = u64::try_from(at - now()).unwrap_or(0);
            tokio::time::sleep_until(Instant::now() + Duration::from_millis(left)).await;
        }
        None => std::future::pending().await,
    }
}
