//! An unlucky but correct client: it repeats what was not answered, with the same client token, and knows what it may expect.

use std::{
    collections::BTreeSet,
    io::Write,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use api::{GetMicrovmImageInput, GetMicrovmInput, Input, ListMicrovmsInput, RunMicrovmInput};
use serde_json::{Value, json};

use super::{
    client::{Client, Failure},
    host::Host,
};
use crate::{demo::processes, process};

/// Between two looks at a state.
const LOOK: Duration = Duration::from_millis(5);
/// Longest wait for a state: a build on real machines.
const LIMIT: Duration = Duration::from_secs(120);
/// Longest time until all that recovery does is done.
const SETTLE: Duration = Duration::from_secs(15);
/// `stateReason` of a microVM whose machine is gone.
const GONE: &str = "The MicroVM's machine ended unexpectedly.";

/// A microVM, and what is known of it.
#[derive(Debug, Default)]
pub struct Vm {
    /// Its id.
    pub id: String,
    /// The number in the last answer of its application.
    answered: u64,
    /// Requests that may have been counted.
    sent: u64,
    /// It was seen asleep and has not been woken since: no crash takes it.
    asleep: bool,
    /// It was told to sleep and has not been woken since: no crash takes it once its checkpoint is whole.
    drowsy: bool,
}

/// Why a part of the story does not go on.
#[derive(Debug)]
pub enum Stop {
    /// The microVM was lost in a crash, and might be: the part is played again.
    Lost,
    /// It is not as it must be.
    Wrong(anyhow::Error),
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Stop::Wrong(error)
    }
}

/// See the module.
pub struct World {
    /// The server.
    pub host: Host,
    ids: BTreeSet<String>,
    tokens: u32,
    checked: Option<usize>,
}

impl World {
    /// Nothing has happened yet.
    pub fn new(host: Host) -> World {
        World { host, ids: BTreeSet::new(), tokens: 0, checked: None }
    }

    /// Asks until there is an answer, whatever happens to the server.
    pub fn persist<T>(
        &mut self,
        mut ask: impl FnMut(&Client) -> Result<Result<T, Failure>>,
    ) -> Result<Result<T, String>> {
        let end = Instant::now() + LIMIT;
        while Instant::now() < end {
            let client = self.host.client()?;
            match ask(&client)? {
                Ok(answer) => return Ok(Ok(answer)),
                Err(Failure::Refused(status @ 500.., text)) => bail!("the server answered {status}: {text}"),
                // Too fast; a correct client tries again.
                Err(Failure::Refused(429, _)) => thread::sleep(10 * LOOK),
                Err(Failure::Refused(status, text)) => return Ok(Err(format!("{status} {text}"))),
                Err(Failure::Broken) => thread::sleep(LOOK),
            }
        }
        bail!("no answer within {} s", LIMIT.as_secs())
    }

    /// An operation that must be accepted.
    pub fn call<I: Input>(&mut self, input: Value) -> Result<Value> {
        let outcome = self.persist(|client| client.call::<I>(input.clone()))?;
        outcome.map_err(|refusal| anyhow::anyhow!("{} with {input} was refused: {refusal}", I::OPERATION))
    }

    /// An operation without a client token: done twice it is refused as no longer possible, which is as good.
    pub fn call_or_done<I: Input>(&mut self, input: Value) -> Result<()> {
        let crashes = self.host.crashes;
        match self.persist(|client| client.call::<I>(input.clone()))? {
            Err(refusal) if self.host.crashes == crashes => bail!("{} was refused: {refusal}", I::OPERATION),
            _ => Ok(()),
        }
    }

    /// Waits for a state of an image; `None`: until it is gone.
    pub fn image(&mut self, arn: &str, wanted: Option<&str>) -> Result<()> {
        let end = Instant::now() + LIMIT;
        loop {
            let input = json!({ "imageIdentifier": arn });
            let found = self.persist(|client| client.call::<GetMicrovmImageInput>(input.clone()))?;
            let state = found.as_ref().ok().and_then(|image| image["state"].as_str());
            match (&found, wanted) {
                (Err(refusal), None) if refusal.starts_with("404") => break,
                (_, Some(wanted)) if state == Some(wanted) => break,
                _ if Instant::now() >= end => bail!("image: {found:?}, wanted {wanted:?}"),
                _ => thread::sleep(LOOK),
            }
        }
        self.at_rest()
    }

    /// Starts a microVM, and waits until it runs.
    pub fn run(&mut self, image: &str, version: &str) -> Result<Vm, Stop> {
        self.tokens += 1;
        let policy =
            json!({ "maxIdleDurationSeconds": 3600, "suspendedDurationSeconds": 3600, "autoResumeEnabled": true });
        let input = json!({
            "imageIdentifier": image, "imageVersion": version, "idlePolicy": policy,
            "clientToken": format!("run-{}", self.tokens),
        });
        let made = self.call::<RunMicrovmInput>(input)?;
        let id = made["microvmId"].as_str().context("no microvmId")?.to_owned();
        self.ids.insert(id.clone());
        let mut vm = Vm { id, ..Vm::default() };
        self.become_state(&mut vm, "RUNNING")?;
        Ok(vm)
    }

    /// One of Suspend, Resume, Terminate. A microVM that was lost meanwhile refuses, which is found out by its state.
    pub fn ask<I: Input>(&mut self, vm: &mut Vm) -> Result<(), Stop> {
        let input = json!({ "microvmIdentifier": vm.id });
        vm.drowsy = I::OPERATION == api::Operation::SuspendMicrovm;
        if !vm.drowsy {
            self.wake(vm);
        }
        let crashes = self.host.crashes;
        match self.persist(|client| client.call::<I>(input.clone()))? {
            Ok(_) => Ok(()),
            // The first try was accepted and its answer lost: it is under way.
            Err(refusal) if refusal.starts_with("409") && self.host.crashes > crashes => Ok(()),
            Err(refusal) => {
                self.look(vm)?;
                Err(anyhow::anyhow!("{} was refused: {refusal}", I::OPERATION).into())
            }
        }
    }

    /// From here on it may be lost with its machine.
    fn wake(&mut self, vm: &mut Vm) {
        (vm.asleep, vm.drowsy) = (false, false);
        self.host.checkpointed.remove(&vm.id);
    }

    /// Waits for that state.
    pub fn become_state(&mut self, vm: &mut Vm, wanted: &str) -> Result<Value, Stop> {
        let end = Instant::now() + LIMIT;
        loop {
            let found = if wanted == "TERMINATED" { self.get(vm)? } else { self.look(vm)? };
            if found["state"] == wanted {
                vm.asleep = wanted == "SUSPENDED";
                self.at_rest()?;
                return Ok(found);
            }
            if Instant::now() >= end {
                return Err(anyhow::anyhow!("{}: {}, wanted {wanted}", vm.id, found["state"]).into());
            }
            thread::sleep(LOOK);
        }
    }

    fn get(&mut self, vm: &Vm) -> Result<Value> {
        self.call::<GetMicrovmInput>(json!({ "microvmIdentifier": vm.id }))
    }

    /// The microVM, which must live unless it might be lost.
    pub fn look(&mut self, vm: &Vm) -> Result<Value, Stop> {
        let end = Instant::now() + LIMIT;
        let mut found = self.get(vm)?;
        // What ends is waited for: until then its image cannot go.
        while found["state"] == "TERMINATING" && Instant::now() < end {
            thread::sleep(LOOK);
            found = self.get(vm)?;
        }
        if !matches!(found["state"].as_str(), Some("TERMINATING" | "TERMINATED")) {
            return Ok(found);
        }
        let kept = vm.asleep || vm.drowsy && self.host.checkpointed.contains(&vm.id);
        if self.host.lossy() && self.host.crashes > 0 && !kept && found["stateReason"] == GONE {
            return Err(Stop::Lost);
        }
        Err(anyhow::anyhow!("{} was lost: {}", vm.id, found["stateReason"]).into())
    }

    /// One request that is answered. No answer may be forgotten, and nothing counted that was not sent.
    pub fn request(&mut self, vm: &mut Vm) -> Result<(), Stop> {
        let end = Instant::now() + LIMIT;
        let mut last = String::new();
        while Instant::now() < end {
            self.host.client()?;
            let mut curl = self.host.hearth("curl");
            curl.args([&vm.id, "/", "--fail"]);
            self.wake(vm);
            vm.sent += 1;
            let said = process::capture(&mut curl, b"", LIMIT)?;
            let answer = if said.status.success() { serde_json::from_str::<Value>(&said.stdout).ok() } else { None };
            let Some(count) = answer.and_then(|answer| answer["requests_served"].as_u64()) else {
                last = said.stderr;
                self.look(vm)?;
                thread::sleep(LOOK);
                continue;
            };
            if count <= vm.answered || count > vm.sent {
                let (answered, sent) = (vm.answered, vm.sent);
                let found = format!("{} counts {count} after {answered} answers to {sent} requests", vm.id);
                return Err(anyhow::anyhow!(found).into());
            }
            vm.answered = count;
            return Ok(());
        }
        Err(anyhow::anyhow!("{} does not answer: {last}", vm.id).into())
    }

    /// Everything must be in its place by now. Looked at once after each crash, and after each step of an undisturbed story.
    pub fn at_rest(&mut self) -> Result<()> {
        if self.checked == Some(self.host.crashes) && self.host.crashes > 0 {
            return Ok(());
        }
        let end = Instant::now() + SETTLE;
        loop {
            let found = self.findings()?;
            if found.is_empty() {
                self.checked = Some(self.host.crashes);
                return Ok(());
            }
            if Instant::now() >= end {
                bail!("not at rest: {found}");
            }
            // What an earlier server has left is removed in the background.
            thread::sleep(10 * LOOK);
        }
    }

    fn findings(&mut self) -> Result<String> {
        self.host.client()?;
        let check = process::capture(&mut self.host.hearth("check"), b"", LIMIT)?;
        if !check.status.success() {
            return Ok(format!("{}{}", check.stdout, check.stderr));
        }
        let listed = self.call::<ListMicrovmsInput>(json!({}))?;
        let items = listed["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        for item in items {
            let id = item["microvmId"].as_str().unwrap_or_default();
            if !self.ids.contains(id) {
                return Ok(format!("nobody knows of {id}"));
            }
        }
        let running = items.iter().filter(|item| item["state"] == "RUNNING").count();
        let machines = processes::machines(&self.host.data_dir, &[]);
        if self.host.setting.engine == "qemu" && running != machines.len() {
            return Ok(format!("{running} microVMs run on {} machines", machines.len()));
        }
        Ok(String::new())
    }

    /// Ends the server, and nothing may be left of the story.
    pub fn leave(&mut self) -> Result<()> {
        // A planned crash may come while the server stops; then another one stops.
        for _ in 0..3 {
            self.host.client()?;
            let crashes = self.host.crashes;
            self.host.stop()?;
            if self.host.crashes == crashes {
                break;
            }
        }
        process::capture(&mut self.host.hearth("check"), b"", LIMIT)?.success("what is left")?;
        let ids: Vec<String> = self.ids.iter().cloned().collect();
        let left = processes::of_server(&self.host.data_dir, &ids);
        if let Some(process) = left.first() {
            bail!("process {process} is left");
        }
        Ok(())
    }

    /// A line for people, into the server's log.
    pub fn note(&self, text: &str) {
        let log = std::fs::OpenOptions::new().append(true).open(self.host.log());
        // Only a help for reading.
        let _ = log.and_then(|mut log| writeln!(log, "---- {text}"));
    }
}
