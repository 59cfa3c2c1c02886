//! What a microVM or an image has used: a fold over its history, so that the rows people read are the meter (spec 11).
//!
//! Rows come in the order in which they were written. A clock that was set back between two of them counts as no time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Millis, microvms::State};

/// A snapshot's size in bytes, as an engine reports it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Memory that is not a hole; of a suspend, the pages that differ from the image.
    pub memory_bytes: u64,
    /// Disk written since the root file system was laid down.
    pub disk_bytes: u64,
}

impl Snapshot {
    /// Both together.
    pub fn bytes(self) -> u64 {
        self.memory_bytes.saturating_add(self.disk_bytes)
    }
}

/// Time, growing bytes under it, and what that comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Storage {
    bytes: u64,
    byte_ms: u128,
}

impl Storage {
    fn pass(&mut self, ms: u64) {
        self.byte_ms = self.byte_ms.saturating_add(u128::from(self.bytes) * u128::from(ms));
    }
}

/// From `before` to `now`; nothing when the clock was set back.
fn passed(before: Millis, now: Millis) -> u64 {
    now.saturating_sub(before).max(0).unsigned_abs()
}

/// One row of a microVM's history, as far as it is metered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MicrovmEntry {
    /// When.
    pub at: Millis,
    /// What it led to.
    pub state: State,
    /// Baseline memory of the microVM, MiB.
    pub memory_mib: u32,
    /// A snapshot that was written.
    pub written: Option<Snapshot>,
    /// The snapshot that it was restored from.
    pub read: Option<Snapshot>,
}

/// What a microVM has used. Times in milliseconds, sizes in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MicrovmUsage {
    /// Time in PENDING.
    pub pending_ms: u64,
    /// Time in RUNNING: what compute is charged for.
    pub running_ms: u64,
    /// Time in SUSPENDING.
    pub suspending_ms: u64,
    /// Time in SUSPENDED.
    pub suspended_ms: u64,
    /// Time in TERMINATING.
    pub terminating_ms: u64,
    /// Time in RUNNING times the baseline memory in MiB.
    pub running_mib_ms: u64,
    /// Of all suspends.
    pub snapshot_written_bytes: u64,
    /// Of the launch and all resumes.
    pub snapshot_read_bytes: u64,
    /// Bytes of its checkpoint times the seconds that it slept on it.
    pub snapshot_byte_seconds: u64,
    /// How often it fell asleep.
    pub suspends: u64,
    /// How often it woke.
    pub resumes: u64,
}

/// Folds a microVM's rows.
#[derive(Debug, Clone, Default)]
pub struct MicrovmMeter {
    usage: MicrovmUsage,
    last: Option<MicrovmEntry>,
    storage: Storage,
}

impl MicrovmMeter {
    /// Takes the next row.
    pub fn add(&mut self, mut entry: MicrovmEntry) {
        if let Some(last) = self.last {
            entry.at = entry.at.max(last.at);
            self.pass(last, entry.at);
            self.usage.suspends += u64::from(last.state == State::Suspending && entry.state == State::Suspended);
            self.usage.resumes += u64::from(last.state == State::Suspended && entry.state == State::Running);
        }
        let bytes = |snapshot: Option<Snapshot>| snapshot.map_or(0, Snapshot::bytes);
        let (written, read) = (&mut self.usage.snapshot_written_bytes, &mut self.usage.snapshot_read_bytes);
        *written = written.saturating_add(bytes(entry.written));
        *read = read.saturating_add(bytes(entry.read));
        match entry.state {
            State::Suspended => self.storage.bytes = entry.written.map_or(self.storage.bytes, Snapshot::bytes),
            _ => self.storage.bytes = 0,
        }
        self.last = Some(entry);
    }

    /// What was used until `now`, or until the last row if that is later or is the end.
    pub fn usage(&self, now: Millis) -> MicrovmUsage {
        let mut meter = self.clone();
        if let Some(last) = self.last {
            meter.pass(last, now);
        }
        let seconds = meter.storage.byte_ms / 1000;
        MicrovmUsage { snapshot_byte_seconds: u64::try_from(seconds).unwrap_or(u64::MAX), ..meter.usage }
    }

    fn pass(&mut self, last: MicrovmEntry, now: Millis) {
        let ms = passed(last.at, now);
        let usage = &mut self.usage;
        let time = match last.state {
            State::Pending => &mut usage.pending_ms,
            State::Running => &mut usage.running_ms,
            State::Suspending => &mut usage.suspending_ms,
            State::Suspended => &mut usage.suspended_ms,
            State::Terminating => &mut usage.terminating_ms,
            State::Terminated => return,
        };
        *time = time.saturating_add(ms);
        if last.state == State::Running {
            let product = ms.saturating_mul(last.memory_mib.into());
            usage.running_mib_ms = usage.running_mib_ms.saturating_add(product);
        }
        self.storage.pass(ms);
    }
}

/// One row of an image's history, as far as it is metered. Versions are named by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageChange {
    /// A build began, perhaps not for the first time.
    BuildBegan,
    /// The build of that version made that.
    BuildSucceeded(u32, Snapshot),
    /// A build made nothing.
    BuildFailed,
    /// That version is gone.
    VersionDeleted(u32),
    /// The image is gone, with all versions.
    Deleted,
    /// Nothing that is metered.
    Other,
}

/// What an image has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageUsage {
    /// Builds that succeeded.
    pub builds: u64,
    /// Builds that failed.
    pub failed_builds: u64,
    /// Time in builds, milliseconds; of one that began anew, from its last beginning.
    pub building_ms: u64,
    /// Snapshots of the versions there are, bytes.
    pub snapshot_bytes: u64,
    /// Those bytes times the seconds that they were kept. No minimum time is added (spec 11 knows one week).
    pub snapshot_byte_seconds: u64,
}

/// Folds an image's rows; one that was made again after its deletion goes on.
#[derive(Debug, Clone, Default)]
pub struct ImageMeter {
    usage: ImageUsage,
    at: Option<Millis>,
    began: Option<Millis>,
    versions: BTreeMap<u32, u64>,
    storage: Storage,
}

impl ImageMeter {
    /// Takes the next row.
    pub fn add(&mut self, at: Millis, change: ImageChange) {
        let at = self.at.map_or(at, |before| at.max(before));
        self.storage.pass(self.at.map_or(0, |before| passed(before, at)));
        self.at = Some(at);
        match change {
            ImageChange::BuildBegan => self.began = Some(at),
            ImageChange::BuildSucceeded(version, snapshot) => {
                self.versions.insert(version, snapshot.bytes());
                self.usage.builds += 1;
                self.built(at);
            }
            ImageChange::BuildFailed => {
                self.usage.failed_builds += 1;
                self.built(at);
            }
            ImageChange::VersionDeleted(version) => drop(self.versions.remove(&version)),
            ImageChange::Deleted => self.versions.clear(),
            ImageChange::Other => {}
        }
        self.storage.bytes = self.versions.values().fold(0, |sum, bytes| sum.saturating_add(*bytes));
    }

    fn built(&mut self, at: Millis) {
        let ms = self.began.take().map_or(0, |began| passed(began, at));
        self.usage.building_ms = self.usage.building_ms.saturating_add(ms);
    }

    /// What was used until `now`.
    pub fn usage(&self, now: Millis) -> ImageUsage {
        let mut storage = self.storage;
        storage.pass(self.at.map_or(0, |at| passed(at, now)));
        let building = self.began.map_or(0, |began| passed(began, now));
        ImageUsage {
            building_ms: self.usage.building_ms.saturating_add(building),
            snapshot_bytes: storage.bytes,
            snapshot_byte_seconds: u64::try_from(storage.byte_ms / 1000).unwrap_or(u64::MAX),
            ..self.usage
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::microvms::{Input, Microvm, Policy, Step};

    const fn snapshot(memory_bytes: u64, disk_bytes: u64) -> Snapshot {
        Snapshot { memory_bytes, disk_bytes }
    }

    fn entry(at: Millis, state: State) -> MicrovmEntry {
        MicrovmEntry { at, state, memory_mib: 2048, written: None, read: None }
    }

    fn metered(entries: &[MicrovmEntry]) -> MicrovmMeter {
        let mut meter = MicrovmMeter::default();
        entries.iter().for_each(|entry| meter.add(*entry));
        meter
    }

    /// Asleep twice, the second time after a resume that failed and wrote a new checkpoint.
    fn life() -> Vec<MicrovmEntry> {
        vec![
            entry(1_000, State::Pending),
            MicrovmEntry { read: Some(snapshot(700, 50)), ..entry(1_300, State::Running) },
            entry(61_300, State::Suspending),
            MicrovmEntry { written: Some(snapshot(90, 10)), ..entry(61_400, State::Suspended) },
            // Wanted back.
            entry(71_400, State::Suspended),
            MicrovmEntry { read: Some(snapshot(90, 10)), ..entry(71_500, State::Running) },
            entry(72_500, State::Suspending),
            MicrovmEntry { written: Some(snapshot(290, 10)), ..entry(72_500, State::Suspended) },
            entry(73_500, State::Suspended),
            // It could not be woken and wrote another checkpoint.
            MicrovmEntry { written: Some(snapshot(400, 100)), ..entry(74_500, State::Suspended) },
            entry(75_500, State::Terminating),
            entry(75_600, State::Terminated),
        ]
    }

    #[test]
    fn a_life_is_metered_by_its_rows() {
        let expected = MicrovmUsage {
            pending_ms: 300,
            running_ms: 61_000,
            suspending_ms: 100,
            suspended_ms: 10_100 + 3_000,
            terminating_ms: 100,
            running_mib_ms: 61_000 * 2048,
            snapshot_written_bytes: 100 + 300 + 500,
            snapshot_read_bytes: 750 + 100,
            // 100 B for 10.1 s, 300 B for 2 s, 500 B for 1 s.
            snapshot_byte_seconds: (100 * 10_100 + 300 * 2_000 + 500 * 1_000) / 1000,
            suspends: 2,
            resumes: 1,
        };
        assert_eq!(metered(&life()).usage(75_600), expected);
        assert_eq!(metered(&life()).usage(Millis::MAX), expected, "nothing after the end");
    }

    #[test]
    fn what_lasts_is_metered_until_now() {
        let awake = metered(&life()[..2]);
        assert_eq!([1_300, 1_300 + 7, 0].map(|now| awake.usage(now).running_ms), [0, 7, 0]);
        let asleep = metered(&life()[..4]).usage(61_400 + 3_600_000);
        assert_eq!((asleep.suspended_ms, asleep.snapshot_byte_seconds), (3_600_000, 100 * 3600));
        assert_eq!(MicrovmMeter::default().usage(5), MicrovmUsage::default());
    }

    #[test]
    fn a_clock_that_was_set_back_is_no_time() {
        let usage =
            metered(&[entry(1_000, State::Running), entry(400, State::Suspending), entry(900, State::Suspended)]);
        assert_eq!(usage.usage(1_500).suspended_ms, 500, "from the latest time that was seen");
        assert_eq!((usage.usage(1_500).running_ms, usage.usage(1_500).suspending_ms), (0, 0));
        let extreme = metered(&[entry(Millis::MIN, State::Running), entry(Millis::MAX, State::Terminated)]);
        assert_eq!(extreme.usage(0).running_ms, Millis::MAX.unsigned_abs());
    }

    #[test]
    fn an_image_is_metered_by_its_rows() {
        use ImageChange::*;
        let rows = [
            (0, Other),
            (1_000, BuildBegan),
            (4_000, BuildBegan),
            (5_000, BuildSucceeded(1, snapshot(700, 300))),
            (6_000, BuildBegan),
            (8_000, BuildFailed),
            (9_000, BuildBegan),
            (10_000, BuildSucceeded(3, snapshot(1_000, 0))),
            (20_000, VersionDeleted(1)),
            (30_000, Deleted),
        ];
        let mut meter = ImageMeter::default();
        let mut at_15 = ImageUsage::default();
        for (at, change) in rows {
            if at == 20_000 {
                at_15 = meter.usage(15_000);
            }
            meter.add(at, change);
        }
        assert_eq!((at_15.snapshot_bytes, at_15.snapshot_byte_seconds), (2_000, 5_000 + 5 * 2_000));
        let expected = ImageUsage {
            builds: 2,
            failed_builds: 1,
            building_ms: 1_000 + 2_000 + 1_000,
            snapshot_bytes: 0,
            snapshot_byte_seconds: 5_000 + 10 * 2_000 + 10 * 1_000,
        };
        assert_eq!(meter.usage(99_000), expected);
    }

    fn inputs() -> [Input; 11] {
        use Input::*;
        [
            Started,
            Suspend,
            Idle,
            Suspended,
            SuspendRefused("no".into()),
            Resume,
            Resumed,
            ResumeFailed("no".into()),
            Terminate,
            Exited(1),
            Ended,
        ]
    }

    /// The rows of a random life by the rules themselves: each row is a transition that happened.
    fn lived(picks: &[(usize, u16)]) -> (Vec<MicrovmEntry>, Millis) {
        let policy = Policy { idle: Some(1), suspended: Some(1), auto_resume: true, lifetime: Some(1 << 40) };
        let mut vm = Microvm::accepted(policy, 0);
        let (mut rows, mut now) = (vec![entry(0, vm.state)], 0);
        for (pick, pause) in picks {
            now += Millis::from(*pause);
            let input = &inputs()[*pick];
            let Ok(Step::Changed(next)) = vm.step(input, now) else { continue };
            let size = Some(snapshot(now.unsigned_abs(), 1));
            let written = size.filter(|_| matches!(input, Input::Suspended));
            let read = size.filter(|_| matches!(input, Input::Started | Input::Resumed));
            rows.push(MicrovmEntry { written, read, ..entry(now, next.state) });
            vm = next;
        }
        (rows, now)
    }

    fn total(usage: &MicrovmUsage) -> u64 {
        usage.pending_ms + usage.running_ms + usage.suspending_ms + usage.suspended_ms + usage.terminating_ms
    }

    proptest! {
        #[test]
        fn every_millisecond_of_a_life_is_metered_once(picks in proptest::collection::vec((0usize..11, 0u16..5_000), 0..60)) {
            let (rows, now) = lived(&picks);
            let meter = metered(&rows);
            let usage = meter.usage(now);
            let over = rows.iter().find(|row| row.state == State::Terminated);
            prop_assert_eq!(total(&usage), over.map_or(now, |row| row.at).unsigned_abs());
            prop_assert_eq!(usage.running_mib_ms, usage.running_ms * 2048);
            prop_assert!(usage.resumes <= usage.suspends);
            let slept = rows.iter().filter_map(|row| row.written).map(Snapshot::bytes).max().unwrap_or(0);
            prop_assert!(usage.snapshot_byte_seconds <= slept * usage.suspended_ms / 1000 + 1);
        }

        #[test]
        fn a_bill_never_shrinks(picks in proptest::collection::vec((0usize..11, 0u16..5_000), 1..60)) {
            let (rows, now) = lived(&picks);
            let mut before = MicrovmUsage::default();
            for cut in 1..=rows.len() {
                let usage = metered(&rows[..cut]).usage(rows[cut - 1].at);
                for (less, more) in [
                    (before.running_ms, usage.running_ms), (total(&before), total(&usage)),
                    (before.snapshot_written_bytes, usage.snapshot_written_bytes),
                    (before.snapshot_read_bytes, usage.snapshot_read_bytes),
                    (before.snapshot_byte_seconds, usage.snapshot_byte_seconds),
                ] {
                    prop_assert!(less <= more);
                }
                before = usage;
            }
            prop_assert!(total(&before) <= total(&metered(&rows).usage(now)));
        }
    }
}
