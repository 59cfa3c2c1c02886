//! What happened in the guest, kept until the host has read it: a bounded ring that never makes the application wait.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::sync::watch;
use wire::{Event, Happening};

/// Most events the ring holds.
const MAX_EVENTS: usize = 10_000;
/// Most bytes of text the ring holds (4 MiB).
const MAX_BYTES: usize = 4 << 20;
/// What an event costs beyond its text.
const OVERHEAD_BYTES: usize = size_of::<Event>();

/// The ring itself, without locks or clocks.
struct Ring {
    events: VecDeque<Event>,
    bytes: usize,
    last: u64,
    max_events: usize,
    max_bytes: usize,
}

impl Ring {
    fn new(max_events: usize, max_bytes: usize) -> Self {
        Self { events: VecDeque::new(), bytes: 0, last: 0, max_events, max_bytes }
    }

    /// Appends, dropping the oldest where there is no room; the newest always stays. Returns its sequence number.
    fn push(&mut self, unix_time_ms: u64, what: Happening) -> u64 {
        self.last += 1;
        self.bytes += cost(&what);
        self.events.push_back(Event { sequence: self.last, unix_time_ms, what });
        while self.events.len() > 1 && (self.events.len() > self.max_events || self.bytes > self.max_bytes) {
            if let Some(oldest) = self.events.pop_front() {
                self.bytes -= cost(&oldest.what);
            }
        }
        self.last
    }

    /// The events after sequence number `after`, oldest first, until they cost `budget` bytes (at least one). Where some
    /// are lost, the first is a [`Happening::Dropped`] that bears the sequence number of the last one lost, so that
    /// "after the last I have" stays true for the reader.
    fn after(&self, after: u64, budget: usize) -> Vec<Event> {
        let Some(oldest) = self.events.front() else { return Vec::new() };
        let mut batch = Vec::new();
        let lost = oldest.sequence.saturating_sub(1).saturating_sub(after);
        if lost > 0 {
            let what = Happening::Dropped { events: lost };
            batch.push(Event { sequence: oldest.sequence - 1, unix_time_ms: oldest.unix_time_ms, what });
        }
        let skip = usize::try_from(after.saturating_add(1).saturating_sub(oldest.sequence)).unwrap_or(usize::MAX);
        let mut spent = 0;
        for event in self.events.iter().skip(skip) {
            spent += cost(&event.what);
            if spent > budget && !batch.is_empty() {
                break;
            }
            batch.push(event.clone());
        }
        batch
    }
}

fn cost(what: &Happening) -> usize {
    OVERHEAD_BYTES + if let Happening::Line { text, .. } = what { text.len() } else { 0 }
}

/// The ring with a lock, a clock and a bell.
pub struct EventLog {
    ring: Mutex<Ring>,
    last: watch::Sender<u64>,
}

impl EventLog {
    /// An empty log; sequence numbers start at 1.
    pub fn new() -> Self {
        Self { ring: Mutex::new(Ring::new(MAX_EVENTS, MAX_BYTES)), last: watch::Sender::new(0) }
    }

    /// Appends an event, stamped with the wall clock.
    pub fn push(&self, what: Happening) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let sequence = self.ring().push(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), what);
        self.last.send_replace(sequence);
    }

    /// The events after sequence number `after`, see [`Ring::after`]; empty when there are none yet.
    pub fn after(&self, after: u64, budget: usize) -> Vec<Event> {
        self.ring().after(after, budget)
    }

    /// Changes whenever an event was appended.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::Stream;

    fn line(text: &str) -> Happening {
        Happening::Line { stream: Stream::Stdout, text: text.to_owned() }
    }

    fn sequences(events: &[Event]) -> Vec<u64> {
        events.iter().map(|event| event.sequence).collect()
    }

    #[test]
    fn a_reader_gets_what_follows_its_last_one() {
        let mut ring = Ring::new(10, 10_000);
        assert!(ring.after(0, 1000).is_empty());
        for n in 1..=4 {
            assert_eq!(ring.push(n, line("x")), n);
        }
        assert_eq!(sequences(&ring.after(0, 10_000)), [1, 2, 3, 4]);
        assert_eq!(sequences(&ring.after(3, 10_000)), [4]);
        assert!(ring.after(4, 10_000).is_empty());
        assert!(ring.after(u64::MAX - 1, 10_000).is_empty());
    }

    #[test]
    fn the_oldest_go_first_and_the_gap_is_told() {
        let mut ring = Ring::new(3, 10_000);
        for n in 1..=8 {
            ring.push(n, line("x"));
        }
        let events = ring.after(2, 10_000);
        assert_eq!(sequences(&events), [5, 6, 7, 8]);
        assert_eq!(events[0].what, Happening::Dropped { events: 3 });
        assert_eq!(sequences(&ring.after(5, 10_000)), [6, 7, 8]);
        assert_eq!(ring.after(0, 10_000)[0].what, Happening::Dropped { events: 5 });
    }

    #[test]
    fn bytes_are_bounded_and_counted_back() {
        let mut ring = Ring::new(1000, 4 * (OVERHEAD_BYTES + 100));
        for n in 0..50 {
            ring.push(n, line(&"y".repeat(100)));
        }
        assert_eq!(ring.events.len(), 4);
        assert_eq!(ring.bytes, 4 * (OVERHEAD_BYTES + 100));
        ring.push(50, line(&"z".repeat(100_000)));
        assert_eq!(ring.events.len(), 1, "the newest stays even when it alone is too large");
    }

    #[test]
    fn a_batch_keeps_to_its_budget_but_moves_on() {
        let mut ring = Ring::new(1000, 1 << 20);
        for n in 0..10 {
            ring.push(n, line(&"y".repeat(100)));
        }
        assert_eq!(ring.after(0, 3 * (OVERHEAD_BYTES + 100)).len(), 3);
        assert_eq!(ring.after(0, 1).len(), 1);
    }

    #[tokio::test]
    async fn a_follower_is_woken() {
        let log = EventLog::new();
        let mut changed = log.subscribe();
        log.push(Happening::Exited { code: 3 });
        changed.changed().await.expect("the log lives");
        assert_eq!(log.after(0, 1000)[0].what, Happening::Exited { code: 3 });
    }
}
