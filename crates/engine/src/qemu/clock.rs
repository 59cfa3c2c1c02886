//! The guest's clocks over a sleep. QEMU stops them with the virtual CPUs, so a guest's monotonic clock would stand still while
//! it sleeps, and its timers with it; on AWS both go on (spec 5.7). Hence the device state is changed before it is loaded: the
//! virtual clock and the time-stamp counter are as far on as if the machine had run.
//!
//! The guest's kernel then finds timers that are due, as after a long time without an interrupt, and catches up: it counts
//! every second of it, which takes it 0.4 s for each day under TCG.

use std::time::Duration;

/// The longest sleep that a guest is told of: its kernel is deaf while it counts.
const MOST: Duration = Duration::from_secs(7 * 86_400);

/// How the section of a whole device begins in QEMU's migration stream: this, an id, the name with its length before it, the
/// instance and the version; then its fields, big-endian.
const SECTION_FULL: u8 = 0x04;
const WORD: usize = 4;
const FIELD: usize = 8;

/// The clocks of all machines: the time-stamp counter, a word that is not used, the virtual clock in ns.
const TIMERS: Section = Section { name: "timer", version: 2 };
/// What a guest under KVM has instead of both: ns.
const KVM_CLOCK: Section = Section { name: "kvmclock", version: 1 };

/// Why the clocks of a device state were not set.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClockError {
    /// It is of a QEMU that has them elsewhere.
    #[error("the device state has no section `{0}` of a version that is known")]
    Unknown(&'static str),
    /// A field is not there.
    #[error("the device state ends within its clocks")]
    Cut,
    /// The clock would pass year 292.
    #[error("the guest's clock would overflow")]
    Overflow,
}

/// Moves the clocks of a device state on by so much, at most by a week.
pub fn advance(state: &mut [u8], by: Duration) -> Result<(), ClockError> {
    let by = i64::try_from(by.min(MOST).as_nanos()).map_err(|_| ClockError::Overflow)?;
    let timers = TIMERS.find(state).ok_or(ClockError::Unknown(TIMERS.name))?;
    let (ticks_at, clock_at) = (timers, timers + 2 * FIELD);
    let (ticks, clock) = (read(state, ticks_at)?, read(state, clock_at)?);
    // Both began at 0 with the machine and stood still together: their ratio is the counter's true frequency.
    if clock > 0 {
        let more = i128::from(ticks) * i128::from(by) / i128::from(clock);
        let ticks = i128::from(ticks) + more;
        write(state, ticks_at, ticks.try_into().map_err(|_| ClockError::Overflow)?);
    }
    write(state, clock_at, clock.checked_add(by).ok_or(ClockError::Overflow)?);
    if let Some(at) = KVM_CLOCK.find(state) {
        let clock = read(state, at)?.checked_add(by).ok_or(ClockError::Overflow)?;
        write(state, at, clock);
    }
    Ok(())
}

struct Section {
    name: &'static str,
    version: u32,
}

impl Section {
    /// Where its fields begin. The stream has no index: a section is told by its head.
    fn find(&self, state: &[u8]) -> Option<usize> {
        let mut head = vec![u8::try_from(self.name.len()).ok()?];
        head.extend(self.name.bytes());
        head.extend([0; WORD]);
        head.extend(self.version.to_be_bytes());
        let begins = |at: &usize| state[at - WORD - 1] == SECTION_FULL && state[*at..].starts_with(&head);
        (WORD + 1..state.len()).find(begins).map(|at| at + head.len())
    }
}

fn read(state: &[u8], at: usize) -> Result<i64, ClockError> {
    let field = state.get(at..at + FIELD).and_then(|field| field.try_into().ok());
    field.map(i64::from_be_bytes).ok_or(ClockError::Cut)
}

/// Where [`read`] has read.
fn write(state: &mut [u8], at: usize, value: i64) {
    state[at..at + FIELD].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn section(name: &str, version: u32, fields: &[i64]) -> Vec<u8> {
        let mut bytes = vec![SECTION_FULL, 0, 0, 0, 9, name.len() as u8];
        bytes.extend(name.bytes());
        bytes.extend([0; 4]);
        bytes.extend(version.to_be_bytes());
        bytes.extend(fields.iter().flat_map(|field| field.to_be_bytes()));
        bytes.extend([0x7e, 0, 0, 0, 9]);
        bytes
    }

    fn fields(state: &[u8], of: &Section, count: usize) -> Vec<i64> {
        let at = of.find(state).expect("there");
        (0..count).map(|n| read(state, at + n * FIELD).expect("whole")).collect()
    }

    /// A counter of 2 GHz after ten seconds, between other sections, one of which talks about timers.
    fn state() -> Vec<u8> {
        let decoy = b"\x04\0\0\0\x01\x05timer\0\0\0\x01\0\0\0\x02 of instance 1, and \x05timer alone";
        [decoy.as_slice(), &section(TIMERS.name, 2, &[20_000_000_000, 7, 10_000_000_000]), b"\x04\x05tim"].concat()
    }

    #[test]
    fn both_clocks_go_on_and_nothing_else_changes() {
        let (before, mut after) = (state(), state());
        advance(&mut after, 3600 * SECOND).expect("advance");
        assert_eq!(fields(&after, &TIMERS, 3), [7_220_000_000_000, 7, 3_610_000_000_000]);
        let changed = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        assert!(before.len() == after.len() && changed <= 2 * FIELD);
        let mut kvm = [state(), section(KVM_CLOCK.name, 1, &[5, 6])].concat();
        advance(&mut kvm, SECOND).expect("advance");
        assert_eq!(fields(&kvm, &KVM_CLOCK, 2), [1_000_000_005, 6]);
        let mut months = state();
        advance(&mut months, 100 * MOST).expect("advance");
        assert_eq!(fields(&months, &TIMERS, 3)[2], 10_000_000_000 + 604_800_000_000_000);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert_eq!(advance(&mut [], SECOND), Err(ClockError::Unknown("timer")));
        assert_eq!(advance(&mut section("timer", 3, &[1, 2, 3]), SECOND), Err(ClockError::Unknown("timer")));
        let whole = section("timer", 2, &[1, 2, 3]);
        assert_eq!(advance(&mut whole[..whole.len() - 6].to_vec(), SECOND), Err(ClockError::Cut));
        assert_eq!(advance(&mut section("timer", 2, &[1, 2, i64::MAX]), SECOND), Err(ClockError::Overflow));
        assert_eq!(advance(&mut section("timer", 2, &[i64::MAX, 2, 1]), SECOND), Err(ClockError::Overflow));
    }

    proptest! {
        #[test]
        fn rubbish_does_no_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0..60usize) {
            let _ = advance(&mut bytes, SECOND);
            let whole = section("timer", 2, &[1, 2, 3]);
            let _ = advance(&mut whole[..whole.len().min(cut)].to_vec(), SECOND);
        }
    }
}
