//! A model of the one task that drives a microVM, of its store and of its host, in which a crash may fall between any two
//! effects. It follows `crates/server/src/microvms/`, effect by effect; the rules are the real ones.
//!
//! Held: never two machines of one microVM, no checkpoint used after its machine ran, no answered request forgotten, all
//! owed work done in the end and nothing left of what is over.

use lifecycle::microvms::{Input, Microvm, Policy, State, Step, Work};
use proptest::prelude::*;

const POLICY: Policy = Policy { idle: None, suspended: None, auto_resume: true, lifetime: Some(28_800_000) };

/// A machine on the host. What it has done is a number that only grows; its disk lies beside and knows the same number.
#[derive(Debug, Clone, PartialEq)]
struct Machine {
    running: bool,
    work: u64,
}

/// A checkpoint directory, by generation: whole or not there.
#[derive(Debug, Clone, PartialEq)]
struct Checkpoint {
    generation: u64,
    work: u64,
}

/// What survives the server.
#[derive(Debug)]
struct Host {
    // The store.
    life: Microvm,
    machine_on_record: bool,
    saved_on_record: Option<u64>,
    // The host.
    machines: Vec<Machine>,
    checkpoints: Vec<Checkpoint>,
    disk: Option<u64>,
    // Seen from outside.
    answered: u64,
    lost: bool,
}

/// What a test case decides.
#[derive(Debug)]
struct Fate {
    /// Effects until the next crash, one after the other.
    crashes: Vec<u8>,
    /// Outcome of each hook and save, taken in turn; `true` when there are no more.
    fortunes: Vec<bool>,
    /// Is the machine recorded before it runs at its start? Both happen.
    recorded_first: bool,
    /// Do machines die with the server (the fake engine, a power cut)?
    power: bool,
}

/// The server was killed here.
struct Crash;

type Effect<T = ()> = Result<T, Crash>;

/// A server, from its start to its crash.
struct Server<'a> {
    host: &'a mut Host,
    fate: &'a mut Fate,
    /// A machine in hand.
    live: bool,
}

impl Host {
    fn new() -> Self {
        Host {
            life: Microvm::accepted(POLICY, 0),
            machine_on_record: false,
            saved_on_record: None,
            machines: Vec::new(),
            checkpoints: Vec::new(),
            disk: None,
            answered: 0,
            lost: false,
        }
    }

    /// One commit: a transition, and what changes with it.
    fn commit(&mut self, input: &Input, also: impl FnOnce(&mut Host)) {
        if let Ok(Step::Changed(next)) = self.life.step(input, 1) {
            self.life = next;
            also(self);
        }
    }

    fn checkpoint(&self, generation: u64) -> Option<&Checkpoint> {
        self.checkpoints.iter().find(|checkpoint| checkpoint.generation == generation)
    }

    fn power_cut(&mut self) {
        self.machines.clear();
    }
}

impl Server<'_> {
    /// Between two effects.
    fn point(&mut self) -> Effect {
        match self.fate.crashes.first_mut() {
            Some(0) => {
                self.fate.crashes.remove(0);
                Err(Crash)
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn fortune(&mut self) -> bool {
        if self.fate.fortunes.is_empty() { true } else { self.fate.fortunes.remove(0) }
    }

    fn apply(&mut self, input: Input, also: impl FnOnce(&mut Host)) -> Effect {
        self.point()?;
        self.host.commit(&input, also);
        self.point()
    }

    fn lose(&mut self) -> Effect {
        self.host.lost = true;
        self.apply(Input::Lost("gone".into()), |_| {})
    }

    /// A new machine, paused. `None`: from the image.
    fn restore(&mut self, from: Option<u64>) -> Effect {
        self.point()?;
        let work = match from {
            None => 0,
            Some(generation) => {
                let checkpoint = self.host.checkpoint(generation).expect("what is on record is there").clone();
                assert_eq!(self.host.disk, Some(checkpoint.work), "a checkpoint was used after its machine ran");
                checkpoint.work
            }
        };
        self.host.disk = Some(work);
        self.host.machines.push(Machine { running: false, work });
        assert_eq!(self.host.machines.len(), 1, "two machines of one microVM");
        self.point()
    }

    /// It runs, and its disk moves on with it.
    fn run_machine(&mut self) -> Effect {
        self.point()?;
        let machine = self.host.machines.first_mut().expect("in hand");
        (machine.running, machine.work) = (true, machine.work + 1);
        self.host.disk = Some(machine.work);
        self.point()
    }

    fn end_machine(&mut self) -> Effect {
        self.point()?;
        self.host.machines.clear();
        self.live = false;
        self.point()
    }

    fn remove_checkpoint(&mut self, keep: &[Option<u64>]) -> Effect {
        self.point()?;
        self.host.checkpoints.retain(|checkpoint| keep.contains(&Some(checkpoint.generation)));
        self.point()
    }

    /// `Driver::recover`.
    fn recover(&mut self) -> Effect {
        let (state, waking, generation) = (self.host.life.state, self.host.life.waking, self.host.life.generation);
        let due = (state == State::Suspending || waking).then_some(generation);
        self.remove_checkpoint(&[self.host.saved_on_record, due])?;
        let written = self.host.checkpoint(generation).is_some();
        if !self.host.machine_on_record {
            return if state == State::Suspended { self.end_machine() } else { Ok(()) };
        }
        if waking && written {
            self.end_machine()?;
            return self.apply(Input::ResumeFailed("no".into()), |host| {
                (host.machine_on_record, host.saved_on_record) = (false, Some(generation));
            });
        }
        if state == State::Suspending && written || state == State::Pending {
            return Ok(());
        }
        self.point()?;
        if self.host.machines.is_empty() {
            return if state == State::Terminating { Ok(()) } else { self.lose() };
        }
        self.live = true;
        self.run_machine()
    }

    /// `Driver::drive` until nothing is owed.
    fn work(&mut self) -> Effect {
        while let Some(work) = self.host.life.owes() {
            match work {
                Work::Start => self.start()?,
                Work::Suspend => self.suspend()?,
                Work::Resume => self.resume()?,
                Work::Terminate => self.terminate()?,
            }
        }
        Ok(())
    }

    fn start(&mut self) -> Effect {
        self.end_machine()?;
        self.host.disk = None;
        self.restore(None)?;
        self.host.machine_on_record = self.fate.recorded_first;
        self.run_machine()?;
        self.host.machine_on_record = true;
        self.live = true;
        match self.fortune() {
            true => self.apply(Input::Started, |_| {}),
            false => self.apply(Input::StartFailed("no".into()), |_| {}),
        }
    }

    fn save(&mut self) -> Effect<bool> {
        let machine = self.host.machines.first_mut().expect("in hand");
        machine.running = false;
        self.point()?;
        if !self.fortune() {
            self.run_machine()?;
            return Ok(false);
        }
        let (generation, work) = (self.host.life.generation, self.host.machines[0].work);
        assert!(self.host.checkpoint(generation).is_none(), "a checkpoint's name was used twice");
        self.host.checkpoints.push(Checkpoint { generation, work });
        self.point()?;
        self.end_machine()?;
        Ok(true)
    }

    fn suspend(&mut self) -> Effect {
        let generation = self.host.life.generation;
        let asleep = |host: &mut Host| (host.machine_on_record, host.saved_on_record) = (false, Some(generation));
        if self.host.checkpoint(generation).is_some() {
            self.end_machine()?;
            return self.apply(Input::Suspended, asleep);
        }
        if !self.live {
            return self.lose();
        }
        if self.fortune() && self.save()? {
            return self.apply(Input::Suspended, asleep);
        }
        self.apply(Input::SuspendRefused("no".into()), |_| {})
    }

    fn resume(&mut self) -> Effect {
        let generation = self.host.life.generation;
        if !self.live {
            let Some(saved) = self.host.saved_on_record else { return self.lose() };
            if !self.fortune() {
                return self.apply(Input::ResumeFailed("no".into()), |_| {});
            }
            self.restore(Some(saved))?;
            (self.host.machine_on_record, self.host.saved_on_record) = (true, None);
            self.run_machine()?;
            self.remove_checkpoint(&[])?;
            self.live = true;
        }
        if self.fortune() {
            return self.apply(Input::Resumed, |_| {});
        }
        if self.save()? {
            return self.apply(Input::ResumeFailed("no".into()), |host| {
                (host.machine_on_record, host.saved_on_record) = (false, Some(generation));
            });
        }
        self.lose()
    }

    fn terminate(&mut self) -> Effect {
        self.end_machine()?;
        self.remove_checkpoint(&[])?;
        self.host.disk = None;
        self.apply(Input::Ended, |host| (host.machine_on_record, host.saved_on_record) = (false, None))
    }
}

/// A request that is answered, where there is somebody to answer.
fn request(host: &mut Host) {
    if host.life.state != State::Running {
        return;
    }
    let machine = host.machines.first_mut().expect("RUNNING has a machine");
    assert!(machine.running && machine.work >= host.answered, "an answered request was forgotten");
    machine.work += 1;
    host.answered = machine.work;
    host.disk = Some(machine.work);
}

/// Servers, one after the other, until all that is owed is done.
fn settle(host: &mut Host, fate: &mut Fate, mut first: bool) {
    loop {
        let live = first && !host.machines.is_empty();
        let mut server = Server { host, fate, live };
        let recovered = if first { Ok(()) } else { server.recover() };
        if recovered.and_then(|()| server.work()).is_ok() {
            return;
        }
        first = false;
        if fate.power {
            host.power_cut();
        }
    }
}

/// How it must be when nothing is owed.
fn at_rest(host: &Host) {
    let machines = host.machines.len();
    let names: Vec<u64> = host.checkpoints.iter().map(|checkpoint| checkpoint.generation).collect();
    match host.life.state {
        State::Running => {
            assert_eq!((machines, host.machine_on_record, host.saved_on_record), (1, true, None), "{host:?}");
            assert!(host.machines[0].running && names.is_empty(), "{host:?}");
        }
        State::Suspended => {
            assert_eq!((machines, host.machine_on_record), (0, false), "{host:?}");
            assert_eq!(Some(names), host.saved_on_record.map(|name| vec![name]), "{host:?}");
            let saved = &host.checkpoints[0];
            assert!(saved.work >= host.answered && host.disk == Some(saved.work), "{host:?}");
        }
        State::Terminated => assert_eq!((machines, names.len(), host.disk), (0, 0, None), "{host:?}"),
        state => panic!("{state:?} owes something"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_crash_between_any_two_effects_costs_nothing(
        wishes in proptest::collection::vec(0u8..10, 1..16),
        crashes in proptest::collection::vec(0u8..30, 0..8),
        fortunes in proptest::collection::vec(proptest::bool::weighted(0.8), 0..40),
        recorded_first in proptest::bool::ANY,
        power in proptest::bool::weighted(0.3),
    ) {
        let lucky = !power && !fortunes.contains(&false);
        let mut host = Host::new();
        let mut fate = Fate { crashes, fortunes, recorded_first, power };
        settle(&mut host, &mut fate, true);
        at_rest(&host);
        for wish in wishes {
            request(&mut host);
            let (asleep, lost) = (host.life.state == State::Suspended, host.lost);
            let wanted = match wish {
                0..=2 => Some(Input::Suspend),
                3..=5 => Some(Input::Resume),
                6 => Some(Input::Terminate),
                // Nothing but a crash.
                _ => None,
            };
            match &wanted {
                Some(input) => host.commit(input, |_| {}),
                None if power => host.power_cut(),
                None => {}
            }
            settle(&mut host, &mut fate, wanted.is_some());
            at_rest(&host);
            prop_assert!(!lucky || !host.lost, "lost without a cause");
            prop_assert!(!asleep || wanted == Some(Input::Resume) || host.lost == lost, "a sleeper was lost");
        }
    }
}
