//! The fake guest: what an agent and its application would hold in memory.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use wire::{Application, Container, Event, Fault, Happening, Identity, Stream};

use super::script::{Answer, Script};

/// Events the agent holds; older ones are dropped.
const MAX_EVENTS: usize = 4096;

/// Exit code of an application that SIGTERM ended.
const TERMINATED: i32 = 128 + 15;

/// The guest's memory: all that a save has to keep.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Memory {
    container: Option<Container>,
    exited: Option<i32>,
    requests_served: u64,
    hook_calls: BTreeMap<String, u64>,
    hostname: String,
    machine_id: String,
    events: VecDeque<Event>,
    /// Sequence number of the last event.
    sequence: u64,
    /// How long the guest has run and slept, without pauses.
    uptime: Duration,
    /// `uptime` when the application was started.
    started_at: Duration,
}

impl Memory {
    pub(super) fn container(&self) -> Option<&Container> {
        self.container.as_ref()
    }

    /// The clock goes on by a sleep.
    pub(super) fn slept(&mut self, asleep: Duration) {
        self.uptime += asleep;
    }
}

/// A guest that runs or is paused.
pub(super) struct Guest {
    memory: Mutex<Memory>,
    script: Mutex<Arc<Script>>,
    /// Since when it runs; `None` while it is paused.
    running_since: Mutex<Option<Instant>>,
    /// The sequence number of the last event.
    happened: watch::Sender<u64>,
    started: Notify,
    /// Fires when the application has ended.
    pub(super) application_ended: CancellationToken,
    /// Fires when the guest wants to be switched off.
    pub(super) power_off: CancellationToken,
}

/// What the script has in store.
enum Due {
    Exit(i32),
    Crash,
}

impl Guest {
    /// A guest with this memory, paused.
    pub(super) fn new(memory: Memory) -> Self {
        // Only a container whose script was understood is ever stored.
        let script = memory.container.as_ref().and_then(|container| Script::of(container).ok()).unwrap_or_default();
        let application_ended = CancellationToken::new();
        if memory.exited.is_some() {
            application_ended.cancel();
        }
        Guest {
            happened: watch::Sender::new(memory.sequence),
            memory: Mutex::new(memory),
            script: Mutex::new(Arc::new(script)),
            running_since: Mutex::new(None),
            started: Notify::new(),
            application_ended,
            power_off: CancellationToken::new(),
        }
    }

    /// What a save has to keep, as of now.
    pub(super) fn memory(&self) -> Memory {
        let uptime = self.uptime();
        Memory { uptime, ..self.lock().clone() }
    }

    pub(super) fn script(&self) -> Arc<Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets the guest's clock run or stand.
    pub(super) fn set_running(&self, running: bool) {
        let uptime = self.uptime();
        let mut since = self.running_since.lock().unwrap_or_else(PoisonError::into_inner);
        self.lock().uptime = uptime;
        *since = running.then(Instant::now);
    }

    fn uptime(&self) -> Duration {
        let since = *self.running_since.lock().unwrap_or_else(PoisonError::into_inner);
        self.lock().uptime + since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    pub(super) fn application(&self) -> Application {
        let memory = self.lock();
        match (&memory.container, memory.exited) {
            (None, _) => Application::NotStarted,
            (Some(_), None) => Application::Running,
            (Some(_), Some(code)) => Application::Exited(code),
        }
    }

    /// Starts the application.
    pub(super) fn start(&self, container: Container) -> Result<(), Fault> {
        if self.lock().container.is_some() {
            return Err(Fault::AlreadyStarted);
        }
        if container.argv.is_empty() {
            return Err(Fault::Failed("the argument vector is empty".into()));
        }
        let script = Arc::new(Script::of(&container).map_err(Fault::Failed)?);
        if let Some(error) = script.start_error.clone() {
            return Err(Fault::Failed(error));
        }
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = script.clone();
        let uptime = self.uptime();
        {
            let mut memory = self.lock();
            memory.hostname.clone_from(&container.hostname);
            memory.container = Some(container);
            memory.started_at = uptime;
        }
        self.print("fake application started");
        if script.exit_after == Some(Duration::ZERO) {
            self.exit(script.exit_code);
        }
        self.started.notify_one();
        Ok(())
    }

    /// Ends the application, once.
    fn exit(&self, code: i32) {
        {
            let mut memory = self.lock();
            if memory.container.is_none() || memory.exited.is_some() {
                return;
            }
            memory.exited = Some(code);
        }
        self.happen(Happening::Exited { code });
        self.application_ended.cancel();
    }

    /// What SIGTERM does.
    pub(super) fn terminate(&self) {
        self.exit(TERMINATED);
    }

    pub(super) fn renew(&self, identity: Identity) -> Result<(), Fault> {
        if let Some(error) = self.script().renew_error.clone() {
            return Err(Fault::Failed(error));
        }
        let mut memory = self.lock();
        memory.hostname = identity.hostname;
        if !identity.machine_id.is_empty() {
            memory.machine_id = identity.machine_id;
        }
        Ok(())
    }

    pub(super) fn quiesce(&self) -> Result<(), Fault> {
        self.script().quiesce_error.clone().map_or(Ok(()), |error| Err(Fault::Failed(error)))
    }

    /// Does anything listen on the port?
    pub(super) fn listens(&self, port: u16) -> bool {
        let script = self.script();
        let since_start = self.uptime().saturating_sub(self.lock().started_at);
        self.application() == Application::Running && since_start >= script.listen_after && !script.is_closed(port)
    }

    /// Counts a request: the number it gets, and how long the application has run.
    pub(super) fn count_request(&self) -> (u64, Duration) {
        let uptime = self.uptime();
        let mut memory = self.lock();
        memory.requests_served += 1;
        (memory.requests_served, uptime.saturating_sub(memory.started_at))
    }

    /// Calls a hook: the scripted answer, on record as a line of output.
    pub(super) fn call_hook(&self, hook: &'static str) -> Answer {
        let call = {
            let mut memory = self.lock();
            let calls = memory.hook_calls.entry(hook.to_owned()).or_default();
            *calls += 1;
            *calls - 1
        };
        let answer = self.script().hook(hook, call);
        let said = match answer {
            Answer::Status(status) => status.to_string(),
            Answer::Never => "no answer".into(),
            Answer::Close => "connection closed".into(),
        };
        self.print(&format!("hook {hook}: {said}"));
        answer
    }

    /// Resolves when the script ends the machine; ends the application on the way when that is due.
    pub(super) async fn follow_script(&self) {
        loop {
            let Some((at, due)) = self.next_due() else {
                self.started.notified().await;
                continue;
            };
            // The guest's clock stands while it is paused, so look again after the sleep.
            let left = at.saturating_sub(self.uptime());
            if !left.is_zero() {
                sleep(left).await;
                continue;
            }
            match due {
                Due::Exit(code) => self.exit(code),
                Due::Crash => return,
            }
        }
    }

    fn next_due(&self) -> Option<(Duration, Due)> {
        let script = self.script();
        let memory = self.lock();
        memory.container.as_ref()?;
        let exit =
            script.exit_after.filter(|_| memory.exited.is_none()).map(|after| (after, Due::Exit(script.exit_code)));
        let crash = script.crash_after.map(|after| (after, Due::Crash));
        let (after, due) = exit.into_iter().chain(crash).min_by_key(|(after, _)| *after)?;
        Some((memory.started_at.saturating_add(after), due))
    }

    /// The events after number `after`; when some of those were dropped, an event that says so comes first.
    pub(super) fn events(&self, after: u64) -> Vec<Event> {
        let memory = self.lock();
        let mut events: Vec<Event> = memory.events.iter().filter(|event| event.sequence > after).cloned().collect();
        if let Some(first) = events.first().map(|event| event.sequence)
            && first > after + 1
        {
            let what = Happening::Dropped { events: first - 1 - after };
            events.insert(0, Event { sequence: first - 1, unix_time_ms: now_ms(), what });
        }
        events
    }

    /// Follows [`Guest::events`]: changes when there are more.
    pub(super) fn happened(&self) -> watch::Receiver<u64> {
        self.happened.subscribe()
    }

    fn print(&self, text: &str) {
        self.happen(Happening::Line { stream: Stream::Stdout, text: text.to_owned() });
    }

    fn happen(&self, what: Happening) {
        let sequence = {
            let mut memory = self.lock();
            memory.sequence += 1;
            let sequence = memory.sequence;
            if memory.events.len() == MAX_EVENTS {
                memory.events.pop_front();
            }
            memory.events.push_back(Event { sequence, unix_time_ms: now_ms(), what });
            sequence
        };
        self.happened.send_replace(sequence);
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
impl Guest {
    /// A guest whose application was started with this environment; its clock stands.
    pub(super) fn started(env: &[(&str, &str)]) -> Self {
        let guest = Guest::new(Memory::default());
        let container = Container {
            argv: vec!["app".into()],
            env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            workdir: "/".into(),
            user: String::new(),
            all_capabilities: false,
            hostname: "fake".into(),
        };
        guest.start(container).expect("starts");
        guest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_events_are_told_and_numbers_only_grow() {
        let guest = Guest::started(&[]);
        for line in 0..MAX_EVENTS + 9 {
            guest.print(&line.to_string());
        }
        let events = guest.events(3);
        assert_eq!(events[0].what, Happening::Dropped { events: 7 });
        assert!(events.windows(2).all(|pair| pair[1].sequence == pair[0].sequence + 1));
        assert_eq!(events.last().map(|event| event.sequence), Some(MAX_EVENTS as u64 + 10));
        assert!(guest.events(MAX_EVENTS as u64 + 10).is_empty());
    }

    #[tokio::test]
    async fn the_script_goes_by_the_guests_clock() {
        let guest = Guest::started(&[("HEARTH_FAKE_EXIT_AFTER_MS", "60000"), ("HEARTH_FAKE_EXIT_CODE", "9")]);
        let follow = guest.follow_script();
        tokio::pin!(follow);
        assert!(futures::poll!(&mut follow).is_pending());
        guest.lock().uptime = Duration::from_millis(59_999);
        assert_eq!(guest.application(), Application::Running);
        guest.lock().uptime = Duration::from_millis(60_000);
        // As after a restore: what is due is done at once.
        let again = Guest::new(guest.memory());
        tokio::select! {
            () = again.follow_script() => panic!("the machine goes on without its application"),
            () = again.application_ended.cancelled() => {}
        }
        assert_eq!(again.application(), Application::Exited(9));
    }

    #[test]
    fn the_clock_stands_while_paused() {
        let guest = Guest::started(&[]);
        assert_eq!(guest.count_request(), (1, Duration::ZERO));
        assert_eq!(guest.count_request(), (2, Duration::ZERO));
    }

    #[test]
    fn an_application_starts_once() {
        let guest = Guest::started(&[]);
        let container = guest.memory().container.expect("started");
        assert_eq!(guest.start(container.clone()), Err(Fault::AlreadyStarted));
        let fresh = Guest::new(Memory::default());
        assert!(matches!(fresh.start(Container { argv: Vec::new(), ..container }), Err(Fault::Failed(_))));
    }
}
