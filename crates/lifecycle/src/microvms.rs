//! All that can happen to a microVM (spec 5.1).
//!
//! ```text
//!              Started                Suspend, Idle             Suspended
//!   PENDING ─────────────> RUNNING ───────────────> SUSPENDING ──────────> SUSPENDED
//!      │                    │  ^ ^    SuspendRefused    │                   │    │
//!      │                    │  │ └──────────────────────┘     Resume: state │    │ Resumed
//!      │                    │  └────────────────────────────────────────────│────┘ (ResumeFailed: stays)
//!      │ StartFailed        │ Terminate, an end, a deadline                 │ Terminate, a deadline
//!      └──────────> TERMINATING <─────────────────────────────────────────-┘
//!                        │ Ended
//!                   TERMINATED, final
//! ```
//!
//! A state owes work ([`Microvm::owes`]); whoever does it reports the outcome as an [`Input`]. After a crash the same work
//! is owed again, so start-up, recovery and daily life are one path.

use serde::{Deserialize, Serialize};

use crate::Millis;

/// The states of the API, spelled as on the wire by `api::MicrovmState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// Accepted, being started.
    Pending,
    /// Serving.
    Running,
    /// Being put to sleep; still serving until the checkpoint.
    Suspending,
    /// Asleep: no process, only files. Also while it is being woken (there is no resuming state).
    Suspended,
    /// Being ended.
    Terminating,
    /// Gone, still readable.
    Terminated,
}

/// When a microVM is suspended and ended by itself; durations in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Without traffic for so long it is suspended; `None`: never.
    pub idle: Option<Millis>,
    /// Suspended for so long it is terminated; 0: terminated instead of suspended; `None`: no such limit (spec 5.3).
    pub suspended: Option<Millis>,
    /// Does a request wake it?
    pub auto_resume: bool,
    /// Its whole life from acceptance, suspended time included (spec 5.4); `None`: no end of its own.
    pub lifetime: Option<Millis>,
}

/// The part of a microVM's record that the rules read and write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Microvm {
    /// Where it stands.
    pub state: State,
    /// Asleep, but wanted back: the work owed is to resume.
    pub waking: bool,
    /// The `/terminate` hook is still to be called.
    pub farewell: bool,
    /// Grows by one with every transition.
    pub generation: u64,
    /// See [`Policy`].
    pub policy: Policy,
    /// When `RunMicrovm` was accepted.
    pub started_at: Millis,
    /// When the present state began; for RUNNING also when it last became so.
    pub since: Millis,
    /// When it became TERMINATED.
    pub terminated_at: Option<Millis>,
    /// What the API shows as `stateReason`.
    pub reason: Option<String>,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// Restored, `/run` answered 200 (or is disabled).
    Started,
    /// It could not be started, and why.
    StartFailed(String),
    /// The API asks for a suspend.
    Suspend,
    /// The idle deadline has passed.
    Idle,
    /// The checkpoint is durable and no process is left.
    Suspended,
    /// It stays awake, and why (a failed `/suspend` hook, a full disk).
    SuspendRefused(String),
    /// The API or a request wants it awake.
    Resume,
    /// Restored, `/resume` answered 200 (or is disabled).
    Resumed,
    /// It stays asleep, and why.
    ResumeFailed(String),
    /// The API asks for the end.
    Terminate,
    /// The lifetime is over.
    LifetimeOver,
    /// It was asleep for as long as its policy allows.
    AsleepTooLong,
    /// The application's main process ended.
    Exited(i32),
    /// Its guest ran out of memory, which ended the application's main process.
    OutOfMemory(i32),
    /// The machine is gone without having been told to.
    Lost(String),
    /// Nothing of it is left on the host.
    Ended,
}

/// Why an input does not apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is over; nothing changes it any more (400 on the API).
    #[error("it has been terminated")]
    Over,
    /// It is between two states (409 on the API).
    #[error("it is in a state that does not allow this")]
    Busy,
}

/// What an input does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The new record, one generation on.
    Changed(Microvm),
    /// It is as asked already.
    Unchanged,
}

/// What a state owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Restore from the image, then `/run`.
    Start,
    /// `/suspend`, then checkpoint, then no process.
    Suspend,
    /// Restore from the checkpoint, then `/resume`.
    Resume,
    /// `/terminate` if there is a farewell, then remove everything.
    Terminate,
}

/// `stateReason` of an application that ended (spec 5.6); where its guest had no memory left, with a sentence of our own.
pub fn exit_reason(code: i32, out_of_memory: bool) -> String {
    let starved = if out_of_memory { ". The MicroVM ran out of memory." } else { "" };
    format!("Container Stopped with Exit Code: {code}{starved}")
}

/// `stateReason` of an end that the API asked for (spec 5.6).
pub const REASON_SUCCESS: &str = "Success.";
/// `stateReason` of a life that was long enough (spec 5.6).
pub const REASON_LIFETIME: &str = "MicroVM exceeded maximum lifetime.";
/// `stateReason` of a sleep that was long enough; our own words (spec 16, item 12).
pub const REASON_ASLEEP: &str = "MicroVM exceeded its maximum suspended duration.";
/// `stateReason` of an idle microVM whose policy allows no sleep; our own words.
pub const REASON_IDLE: &str = "MicroVM was idle and its policy allows no suspended time.";

impl Microvm {
    /// A microVM that was just accepted.
    pub fn accepted(policy: Policy, now: Millis) -> Self {
        Microvm {
            state: State::Pending,
            waking: false,
            farewell: false,
            generation: 1,
            policy,
            started_at: now,
            since: now,
            terminated_at: None,
            reason: None,
        }
    }

    /// Applies one input. The only way a microVM changes.
    pub fn step(&self, input: &Input, now: Millis) -> Result<Step, Refusal> {
        use Input as I;
        use State as S;
        let next = match (self.state, input) {
            (S::Terminated, I::Terminate | I::Ended) => return Ok(Step::Unchanged),
            (S::Terminated, _) => return Err(Refusal::Over),
            (S::Terminating, I::Ended) => {
                Microvm { terminated_at: Some(now), farewell: false, ..self.to(S::Terminated, now) }
            }
            (S::Terminating, I::Suspend | I::Resume) => return Err(Refusal::Busy),
            (S::Terminating, _) => return Ok(Step::Unchanged),

            (_, I::Terminate) => self.ending(REASON_SUCCESS, now),
            (_, I::LifetimeOver) => self.ending(REASON_LIFETIME, now),
            (_, I::Exited(code)) => self.dead(exit_reason(*code, false), now),
            (_, I::OutOfMemory(code)) => self.dead(exit_reason(*code, true), now),
            (_, I::Lost(why)) => self.dead(why.clone(), now),

            (S::Pending, I::Started) => self.to(S::Running, now),
            (S::Pending, I::StartFailed(why)) => self.dead(why.clone(), now),

            (S::Running, I::Idle) if self.policy.suspended == Some(0) => self.ending(REASON_IDLE, now),
            (S::Running, I::Suspend | I::Idle) => self.to(S::Suspending, now),
            (S::Running, I::Resume) => return Ok(Step::Unchanged),

            (S::Suspending, I::Suspended) => self.to(S::Suspended, now),
            (S::Suspending, I::SuspendRefused(why)) => {
                Microvm { reason: Some(why.clone()), ..self.to(S::Running, now) }
            }
            (S::Suspending, I::Idle) => return Ok(Step::Unchanged),

            (S::Suspended, I::Suspend) if self.waking => return Err(Refusal::Busy),
            (S::Suspended, I::Suspend) => return Ok(Step::Unchanged),
            (S::Suspended, I::Resume) if self.waking => return Ok(Step::Unchanged),
            (S::Suspended, I::Resume) => Microvm { waking: true, ..self.again() },
            (S::Suspended, I::Resumed) if self.waking => self.to(S::Running, now),
            (S::Suspended, I::ResumeFailed(why)) if self.waking => {
                Microvm { waking: false, reason: Some(why.clone()), ..self.again() }
            }
            // A wake-up has precedence over the end of the sleep that it ends.
            (S::Suspended, I::AsleepTooLong) if !self.waking => self.ending(REASON_ASLEEP, now),
            (_, I::Idle | I::AsleepTooLong) => return Ok(Step::Unchanged),
            _ => return Err(Refusal::Busy),
        };
        Ok(Step::Changed(next))
    }

    /// The work that is owed now, if any.
    pub fn owes(&self) -> Option<Work> {
        match self.state {
            State::Pending => Some(Work::Start),
            State::Suspending => Some(Work::Suspend),
            State::Suspended if self.waking => Some(Work::Resume),
            State::Terminating => Some(Work::Terminate),
            State::Running | State::Suspended | State::Terminated => None,
        }
    }

    /// The next thing that happens by the passage of time alone, given when traffic was last seen.
    pub fn deadline(&self, last_activity: Millis) -> Option<(Millis, Input)> {
        let end = |lifetime: Millis| (self.started_at.saturating_add(lifetime), Input::LifetimeOver);
        let own = match self.state {
            State::Pending | State::Suspending => None,
            State::Running => {
                self.policy.idle.map(|idle| (last_activity.max(self.since).saturating_add(idle), Input::Idle))
            }
            State::Suspended if self.waking => None,
            State::Suspended => {
                self.policy.suspended.map(|limit| (self.since.saturating_add(limit), Input::AsleepTooLong))
            }
            State::Terminating | State::Terminated => return None,
        };
        own.into_iter().chain(self.policy.lifetime.map(end)).min_by_key(|(at, _)| *at)
    }

    fn again(&self) -> Self {
        Microvm { generation: self.generation + 1, ..self.clone() }
    }

    fn to(&self, state: State, now: Millis) -> Self {
        let keep = matches!(state, State::Terminated);
        let reason = if keep { self.reason.clone() } else { None };
        Microvm { state, since: now, waking: false, reason, ..self.again() }
    }

    /// An end with a farewell: only an application that is awake can be told (spec 16, item 11).
    fn ending(&self, reason: &str, now: Millis) -> Self {
        let farewell = matches!(self.state, State::Running | State::Suspending);
        Microvm { farewell, reason: Some(reason.to_owned()), ..self.to(State::Terminating, now) }
    }

    fn dead(&self, reason: String, now: Millis) -> Self {
        Microvm { farewell: false, reason: Some(reason), ..self.to(State::Terminating, now) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: Policy =
        Policy { idle: Some(60_000), suspended: Some(10_000), auto_resume: true, lifetime: Some(28_800_000) };

    fn after(inputs: &[Input]) -> Microvm {
        let mut vm = Microvm::accepted(POLICY, 0);
        for (at, input) in inputs.iter().enumerate() {
            if let Ok(Step::Changed(next)) = vm.step(input, at as Millis + 1) {
                vm = next;
            }
        }
        vm
    }

    fn inputs() -> [Input; 16] {
        use Input::*;
        [
            Started,
            StartFailed("no".into()),
            Suspend,
            Idle,
            Suspended,
            SuspendRefused("no".into()),
            Resume,
            Resumed,
            ResumeFailed("no".into()),
            Terminate,
            LifetimeOver,
            AsleepTooLong,
            Exited(3),
            OutOfMemory(137),
            Lost("gone".into()),
            Ended,
        ]
    }

    /// The whole table, one row a state: what each input leads to (`-` unchanged, `!` busy, `x` over).
    #[test]
    fn the_table_is_exactly_this() {
        use Input::*;
        let waking = [Started, Suspend, Suspended, Resume];
        let rows: [(&[Input], [&str; 16]); 7] = [
            (&[], ["R", "T", "!", "-", "!", "!", "!", "!", "!", "T", "T", "-", "T", "T", "T", "!"]),
            (&[Started], ["!", "!", "s", "s", "!", "!", "-", "!", "!", "T", "T", "-", "T", "T", "T", "!"]),
            (&[Started, Suspend], ["!", "!", "!", "-", "S", "R", "!", "!", "!", "T", "T", "-", "T", "T", "T", "!"]),
            (
                &[Started, Suspend, Suspended],
                ["!", "!", "-", "-", "!", "!", "S", "!", "!", "T", "T", "T", "T", "T", "T", "!"],
            ),
            (&waking, ["!", "!", "!", "-", "!", "!", "-", "R", "S", "T", "T", "-", "T", "T", "T", "!"]),
            (&[Terminate], ["-", "-", "!", "-", "-", "-", "!", "-", "-", "-", "-", "-", "-", "-", "-", "E"]),
            (&[Terminate, Ended], ["x", "x", "x", "x", "x", "x", "x", "x", "x", "-", "x", "x", "x", "x", "x", "-"]),
        ];
        for (path, expected) in rows {
            let vm = after(path);
            for (input, expected) in inputs().iter().zip(expected) {
                let got = match vm.step(input, 100) {
                    Ok(Step::Unchanged) => "-",
                    Err(Refusal::Busy) => "!",
                    Err(Refusal::Over) => "x",
                    Ok(Step::Changed(next)) => match next.state {
                        State::Pending => "P",
                        State::Running => "R",
                        State::Suspending => "s",
                        State::Suspended => "S",
                        State::Terminating => "T",
                        State::Terminated => "E",
                    },
                };
                assert_eq!(got, expected, "{:?} (waking {}) + {input:?}", vm.state, vm.waking);
            }
        }
    }

    #[test]
    fn reasons_and_farewells() {
        use Input::*;
        let ended = after(&[Started, Terminate]);
        assert_eq!((ended.reason.as_deref(), ended.farewell), (Some(REASON_SUCCESS), true));
        let exited = after(&[Started, Exited(3)]);
        assert_eq!((exited.reason.as_deref(), exited.farewell), (Some("Container Stopped with Exit Code: 3"), false));
        let starved = after(&[Started, OutOfMemory(137)]);
        let told = "Container Stopped with Exit Code: 137. The MicroVM ran out of memory.";
        assert_eq!((starved.reason.as_deref(), starved.farewell), (Some(told), false));
        let asleep = after(&[Started, Suspend, Suspended, Terminate]);
        assert!(!asleep.farewell, "a sleeper is not woken to be told");
        let over = after(&[Started, Terminate, Ended]);
        assert_eq!((over.reason.as_deref(), over.terminated_at), (Some(REASON_SUCCESS), Some(3)));
        assert_eq!(after(&[Started, Suspend, Suspended, Resume, Resumed]).reason, None);
    }

    #[test]
    fn deadlines_are_the_nearest_of_what_applies() {
        use Input::*;
        let running = after(&[Started]);
        assert_eq!(running.deadline(0), Some((60_001, Idle)));
        assert_eq!(running.deadline(5_000), Some((65_000, Idle)));
        assert_eq!(running.deadline(28_799_000), Some((28_800_000, LifetimeOver)), "traffic does not lengthen a life");
        let asleep = after(&[Started, Suspend, Suspended]);
        assert_eq!(asleep.deadline(99_999), Some((10_003, AsleepTooLong)));
        assert_eq!(after(&[Terminate]).deadline(0), None);
        let never = Microvm::accepted(Policy { idle: None, suspended: None, ..POLICY }, 0);
        assert_eq!(never.deadline(0), Some((28_800_000, LifetimeOver)));
        let endless = Microvm { policy: Policy { lifetime: None, ..POLICY }, ..running.clone() };
        assert_eq!(endless.deadline(28_799_000), Some((28_859_000, Idle)), "its other limits hold");
        assert_eq!(Microvm { policy: Policy { idle: None, ..endless.policy }, ..endless }.deadline(0), None);
        let extreme = Policy { idle: Some(Millis::MAX), lifetime: Some(Millis::MAX), ..POLICY };
        assert_eq!(Microvm { policy: extreme, ..running }.deadline(5), Some((Millis::MAX, Idle)), "no overflow");
    }

    #[test]
    fn no_suspended_time_means_an_idle_end() {
        let mut vm = after(&[Input::Started]);
        vm.policy.suspended = Some(0);
        let Ok(Step::Changed(next)) = vm.step(&Input::Idle, 9) else { panic!("must change") };
        assert_eq!((next.state, next.reason.as_deref()), (State::Terminating, Some(REASON_IDLE)));
    }

    proptest! {
        #[test]
        fn any_history_keeps_the_invariants(picks in proptest::collection::vec(0usize..15, 0..40)) {
            let all = inputs();
            let mut vm = Microvm::accepted(POLICY, 0);
            for (at, pick) in picks.into_iter().enumerate() {
                let now = at as Millis + 1;
                let Ok(Step::Changed(next)) = vm.step(&all[pick], now) else { continue };
                prop_assert_eq!(next.generation, vm.generation + 1);
                prop_assert!(vm.state != State::Terminated, "nothing follows the end");
                prop_assert_eq!(next.terminated_at.is_some(), next.state == State::Terminated);
                prop_assert!(!next.waking || next.state == State::Suspended);
                prop_assert!(!next.farewell || next.state == State::Terminating);
                prop_assert!(next.started_at == vm.started_at && next.policy == vm.policy);
                prop_assert!(next.owes().is_some() || next.deadline(now).is_some() || next.state == State::Terminated,
                    "a live microVM always has something that moves it on");
                vm = next;
            }
        }
    }
}
