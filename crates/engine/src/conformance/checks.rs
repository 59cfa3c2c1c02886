//! The checks, in the order of the story.

use std::{
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use tokio::io::AsyncWriteExt;
use wire::{Application, Happening};

use super::{
    super::{MachineRecord, RestoreSpec, SEALED, agent::AgentError},
    Asleep, Clock, Image, Live, Suite,
    steps::{Files, Outcome, copy_dir, ensure, flip_a_bit, names},
};

impl Suite<'_> {
    pub(super) async fn boots_and_serves(&self) -> Outcome<Live> {
        let image_dir = self.directory("image");
        tokio::fs::create_dir_all(&image_dir).await?;
        let machine_dir = self.directory("machine");
        let spec = self.bounded("image", self.harness.image(&image_dir, &machine_dir)).await?;
        let machine = self.bounded("boot", self.engine.boot(spec)).await??;
        ensure(machine.record().fresh, || "the record of a fresh machine does not say so".into())?;

        let agent = self.agent(machine.as_ref()).await?;
        ensure(agent.hello().application == Application::NotStarted, || format!("{:?} at first", agent.hello()))?;
        self.bounded("start", agent.start(self.harness.container())).await??;
        let again = self.bounded("start", agent.start(self.harness.container())).await?;
        ensure(matches!(again, Err(AgentError::AlreadyStarted)), || format!("a second start: {again:?}"))?;

        let mut events = self.bounded("events", agent.events(0)).await??;
        loop {
            let event = self.bounded("the first line", events.next()).await??.ok_or("the events ended")?;
            if matches!(event.what, Happening::Line { .. }) {
                break;
            }
        }
        let mut live = Live { machine, agent, machine_dir, image_dir, count: 0, clock: Clock::unread() };
        self.listening(&live).await?;
        self.serves(&mut live, 3).await?;
        let refused = self.bounded("dial", live.agent.dial(self.harness.closed_port())).await?;
        ensure(matches!(refused, Err(AgentError::Refused { .. })), || format!("a closed port: {refused:?}"))?;
        Ok(live)
    }

    pub(super) async fn seals(&self, live: Live) -> Outcome<Image> {
        let Live { machine, agent, image_dir, machine_dir, count, .. } = live;
        self.quieten(&agent).await?;
        self.bounded("pause", machine.pause()).await??;
        self.bounded("pause", machine.pause()).await??;

        let sealed = image_dir.join(SEALED);
        tokio::fs::create_dir(&sealed).await?;
        tokio::fs::write(sealed.join("other"), "not ours").await?;
        let refused = self.bounded("save", machine.save(&sealed)).await?;
        ensure(refused.is_err(), || "a save wrote over a directory that was there".into())?;
        let left = names(&sealed)?;
        ensure(left == ["other"], || format!("a refused save left {left:?}"))?;
        tokio::fs::remove_dir_all(&sealed).await?;

        let outcome = self.bounded("save", machine.save(&sealed)).await??;
        ensure(outcome.memory_bytes > 0, || format!("a seal of nothing: {outcome:?}"))?;
        ensure(sealed.is_dir(), || "there is no sealed directory".into())?;
        self.ends(machine.as_ref()).await?;
        let left = names(&machine_dir)?;
        ensure(left.is_empty(), || format!("the machine left {left:?}"))?;
        let files = Files::of(&image_dir)?;
        Ok(Image { dir: image_dir, count, files })
    }

    pub(super) async fn clones_diverge(&self, image: &Image) -> Outcome<[Live; 2]> {
        let mut first = self.cloned(image).await?;
        let mut second = self.cloned(image).await?;
        ensure(first.machine.record() != second.machine.record(), || "two machines have one record".into())?;
        ensure(!first.machine.record().fresh, || "the record of a clone says that it is fresh".into())?;
        self.serves(&mut first, 5).await?;
        self.serves(&mut second, 1).await?;
        self.serves(&mut first, 1).await?;
        ensure((first.count, second.count) == (image.count + 6, image.count + 1), || "miscounted".into())?;
        Ok([first, second])
    }

    pub(super) async fn suspends(&self, mut live: Live) -> Outcome<Asleep> {
        self.serves(&mut live, 1).await?;
        let saved_dir = self.directory("saved");
        self.quieten(&live.agent).await?;
        self.bounded("pause", live.machine.pause()).await??;
        let outcome = self.bounded("save", live.machine.save(&saved_dir)).await??;
        ensure(outcome.memory_bytes > 0, || format!("a suspend of nothing: {outcome:?}"))?;
        let before = Files::of(&saved_dir)?;
        let refused = self.bounded("save", live.machine.save(&saved_dir)).await?;
        ensure(refused.is_err(), || "a save wrote over an earlier one".into())?;
        before.unchanged(&saved_dir)?;
        self.ends(live.machine.as_ref()).await?;
        let spec = RestoreSpec {
            image_dir: live.image_dir,
            machine_dir: live.machine_dir,
            saved_dir: Some(saved_dir.clone()),
        };
        Ok(Asleep { spec, saved_dir, count: live.count, clock: live.clock })
    }

    pub(super) async fn wakes(&self, asleep: &Asleep) -> Outcome<Live> {
        // Shorter and much longer than a kernel's clock ever goes without an interrupt.
        let slept = Duration::from_secs([40, 8 * 3600, 3600][self.wakes.fetch_add(1, Ordering::Relaxed) % 3]);
        std::fs::File::open(&asleep.saved_dir)?.set_modified(SystemTime::now() - slept)?;
        let files = Files::of(&asleep.saved_dir)?;
        let mut live = self.restored(asleep.spec.clone(), asleep.count).await?;
        self.serves(&mut live, 1).await?;
        let before = asleep.clock;
        let passed = live.clock.uptime.saturating_sub(before.uptime);
        let at_most = slept + (live.clock.read - before.read) + slept / 1000 + Duration::from_secs(1);
        ensure(slept <= passed && passed <= at_most, || format!("{passed:?} passed in a sleep of {slept:?}"))?;
        self.serves(&mut live, 1).await?;
        files.unchanged(&asleep.saved_dir)?;
        Ok(live)
    }

    /// Changes since the image are in the save, not only those since the last wake; and a save that was discarded after
    /// the machine went on serves no more.
    pub(super) async fn suspends_again(&self, live: Live) -> Outcome<Asleep> {
        // Paused, saved, but not killed: it may go on.
        let discarded = self.directory("saved");
        self.quieten(&live.agent).await?;
        self.bounded("pause", live.machine.pause()).await??;
        self.bounded("save", live.machine.save(&discarded)).await??;
        self.bounded("resume", live.machine.resume()).await??;
        self.bounded("resume", live.machine.resume()).await??;
        let agent = self.agent(live.machine.as_ref()).await?;
        let mut live = Live { agent, ..live };
        self.serves(&mut live, 1).await?;
        tokio::fs::remove_dir_all(&discarded).await?;

        let asleep = self.suspends(live).await?;
        let woken = self.wakes(&asleep).await?;
        let asleep = self.suspends(woken).await?;
        Ok(asleep)
    }

    pub(super) async fn adopts(&self, live: Live) -> Outcome {
        let record = live.machine.record();
        live.agent.close().await;
        drop(live.machine);
        let engine = self.harness.engine();
        let machine = self.bounded("adopt", engine.adopt(&record)).await??.ok_or("a running machine was not found")?;
        ensure(machine.record() == record, || format!("adopted {:?} for {record:?}", machine.record()))?;
        let agent = self.agent(machine.as_ref()).await?;
        let mut live = Live { machine, agent, ..live };
        self.serves(&mut live, 1).await?;

        let asleep = self.suspends(live).await?;
        let gone = self.bounded("adopt", engine.adopt(&record)).await??;
        ensure(gone.is_none(), || "a machine that is gone was adopted".into())?;
        let woken = self.wakes(&asleep).await?;
        let other_boot =
            MachineRecord { boot_id: "00000000-0000-0000-0000-000000000000".into(), ..woken.machine.record() };
        let gone = self.bounded("adopt", engine.adopt(&other_boot)).await??;
        ensure(gone.is_none(), || "a record of another boot of the host was adopted".into())?;
        self.ends(woken.machine.as_ref()).await
    }

    pub(super) async fn kills(&self, image: &Image) -> Outcome {
        let live = self.cloned(image).await?;
        let (killed, waited) =
            tokio::join!(self.bounded("kill", live.machine.kill()), self.bounded("wait", live.machine.wait()),);
        killed??;
        waited?;
        self.bounded("the agent's end", live.agent.closed()).await?;
        let asked = self.bounded("dial", live.agent.dial(self.harness.port())).await?;
        ensure(matches!(asked, Err(AgentError::Ended(_))), || format!("asking a dead machine: {asked:?}"))?;
        let paused = self.bounded("pause", live.machine.pause()).await?;
        ensure(paused.is_err(), || "a dead machine was paused".into())?;
        self.ends(live.machine.as_ref()).await
    }

    /// The save is dropped at once, and later and later.
    pub(super) async fn drops_half_way(&self, image: &Image) -> Outcome {
        for millis in [0, 2, 20] {
            let live = self.cloned(image).await?;
            let parent = self.directory("dropped");
            tokio::fs::create_dir(&parent).await?;
            self.quieten(&live.agent).await?;
            self.bounded("pause", live.machine.pause()).await??;
            // Whole or not: both are fine.
            let _ = tokio::time::timeout(Duration::from_millis(millis), live.machine.save(&parent.join("saved"))).await;
            self.ends(live.machine.as_ref()).await?;
            let all = || -> Outcome<_> { Ok((names(&parent)?, names(&live.machine_dir)?)) };
            let then = all()?;
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = all()?;
            ensure(now == then, || format!("after {millis} ms: the kill left {then:?}, now there is {now:?}"))?;
        }
        Ok(())
    }

    pub(super) async fn reconnects(&self, image: &Image) -> Outcome {
        let mut live = self.cloned(image).await?;
        self.serves(&mut live, 1).await?;
        let agent = self.agent(live.machine.as_ref()).await?;
        self.bounded("the end of the first connection", live.agent.closed()).await?;
        let mut live = Live { agent, ..live };
        self.serves(&mut live, 1).await?;
        // Nobody says farewell: what is half-sent must not confuse the next connection.
        let mut rude = self.bounded("connect", live.machine.connect()).await??;
        self.bounded("half a word", rude.write_all(&wire::PREAMBLE[..9])).await??;
        drop(rude);
        let agent = self.agent(live.machine.as_ref()).await?;
        let mut live = Live { agent, ..live };
        self.serves(&mut live, 1).await?;
        self.ends(live.machine.as_ref()).await
    }

    pub(super) async fn refuses_broken(&self, image: &Image, asleep: Asleep) -> Outcome {
        let nowhere = self.directory("nowhere");
        let spec = asleep.spec.clone();
        self.refused("no such save", RestoreSpec { saved_dir: Some(nowhere.clone()), ..spec.clone() }).await?;
        self.refused("no such image", RestoreSpec { image_dir: nowhere.clone(), ..spec.clone() }).await?;
        let machine_dir = self.directory("machine");
        let clone = RestoreSpec { image_dir: nowhere, machine_dir: machine_dir.clone(), saved_dir: None };
        self.refused("a clone of nothing", clone).await?;
        ensure(!machine_dir.exists(), || "a failed clone left its machine's directory".into())?;
        let strange = self.directory("machine");
        self.refused("a save without its disk", RestoreSpec { machine_dir: strange, ..spec.clone() }).await?;

        for name in names(&asleep.saved_dir)? {
            for (how, length) in [("cut short", 7), ("empty", 0)] {
                let broken = self.directory("broken");
                copy_dir(&asleep.saved_dir, &broken)?;
                let file = std::fs::File::options().write(true).open(broken.join(&name))?;
                if file.metadata()?.is_file() {
                    file.set_len(length)?;
                    self.refused(&format!("{name}, {how}"), RestoreSpec { saved_dir: Some(broken), ..spec.clone() })
                        .await?;
                }
            }
        }
        self.refuses_damaged(&asleep).await?;
        // After all that, the real one is as good as before.
        let woken = self.wakes(&asleep).await?;
        self.ends(woken.machine.as_ref()).await?;
        image.files.unchanged(&image.dir)
    }

    /// One bit of any file of a checkpoint, or of the disk beside it: the file is refused by its name.
    async fn refuses_damaged(&self, asleep: &Asleep) -> Outcome {
        let spec = &asleep.spec;
        for name in names(&asleep.saved_dir)? {
            let broken = self.directory("broken");
            copy_dir(&asleep.saved_dir, &broken)?;
            flip_a_bit(&broken.join(&name))?;
            let spec = RestoreSpec { saved_dir: Some(broken), ..spec.clone() };
            self.refused_as_damaged(&name, spec).await?;
        }
        for name in names(&spec.machine_dir)?.into_iter().filter(|name| name.starts_with("disk.")) {
            let machine_dir = self.directory("machine");
            copy_dir(&spec.machine_dir, &machine_dir)?;
            flip_a_bit(&machine_dir.join(&name))?;
            self.refused_as_damaged(&name, RestoreSpec { machine_dir, ..spec.clone() }).await?;
        }
        Ok(())
    }

    /// No clone's life has changed the image: a new one stands where the first one stood.
    pub(super) async fn image_unchanged(&self, image: &Image) -> Outcome {
        image.files.unchanged(&image.dir)?;
        let mut live = self.cloned(image).await?;
        self.serves(&mut live, 1).await?;
        self.ends(live.machine.as_ref()).await
    }

    pub(super) async fn powers_off(&self, image: &Image) -> Outcome {
        let live = self.cloned(image).await?;
        let mut events = self.bounded("events", live.agent.events(0)).await??;
        self.bounded("shutdown", live.agent.shutdown(Duration::from_secs(1))).await??;
        let exited = self.bounded("the exit", async {
            while let Ok(Some(event)) = events.next().await {
                if matches!(event.what, Happening::Exited { .. }) {
                    return true;
                }
            }
            false
        });
        ensure(exited.await?, || "the application's end was not told".into())?;
        self.bounded("wait", live.machine.wait()).await?;
        self.ends(live.machine.as_ref()).await
    }
}
