//! When traffic was last seen must outlive the server, or an idle microVM would begin to be idle anew with each restart. It is
//! noted every few seconds for those that had traffic, and once more when the server ends in order.
//!
//! At the same time the two clocks are compared: deadlines are times of the wall clock, and drivers wait for them on the
//! monotonic one. When somebody steps the wall clock, or the host was suspended, all look at their deadlines again.

use std::{collections::HashMap, sync::Arc, time::Duration};

use api::MicrovmId;
use lifecycle::Millis;

use tokio::time::Instant;

use super::{Microvms, read};
use crate::shared::now;

/// Between two notes. So much may be missing when the server is killed.
const EVERY: Duration = Duration::from_secs(5);

/// Clocks that part by less between two looks were not stepped: one of them is being slewed, or the host is busy.
const SLACK: Millis = 500;

/// The wall clock at some moment of the monotonic one.
#[derive(Debug, Clone, Copy)]
struct Clocks {
    wall: Millis,
    monotonic: Instant,
}

impl Clocks {
    fn read() -> Self {
        Clocks { wall: now(), monotonic: Instant::now() }
    }

    /// By how much the wall clock was stepped since an earlier reading, in milliseconds; 0: it was not.
    fn stepped(&self, earlier: Clocks) -> Millis {
        let passed = self.monotonic.saturating_duration_since(earlier.monotonic).as_millis() as Millis;
        let step = self.wall - earlier.wall - passed;
        if step.abs() < SLACK { 0 } else { step }
    }
}

/// When traffic was last seen at the latest, if it was noted at `at`: a microVM may be kept awake that much longer, but is never
/// put to sleep early.
pub(super) fn since_noted(at: Millis) -> Millis {
    at.saturating_add(EVERY.as_millis() as Millis).min(now())
}

impl Microvms {
    pub(super) fn start_noting(self: &Arc<Self>) {
        let microvms = Arc::downgrade(self);
        let noter = tokio::spawn(async move {
            let mut noted = HashMap::new();
            let mut clocks = Clocks::read();
            loop {
                tokio::time::sleep(EVERY).await;
                let Some(microvms) = microvms.upgrade() else { return };
                let earlier = std::mem::replace(&mut clocks, Clocks::read());
                microvms.heed(clocks.stepped(earlier));
                microvms.note(&mut noted).await;
            }
        });
        // Once only: it is called by `load`.
        let _ = self.noter.set(noter.abort_handle());
    }

    /// Notes what is known of all that may go to sleep by themselves, and lets go of every microVM: machines go on.
    pub async fn stop(&self) {
        if let Some(noter) = self.noter.get() {
            noter.abort();
        }
        self.note(&mut HashMap::new()).await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn heed(&self, step: Millis) {
        if step == 0 {
            return;
        }
        tracing::warn!(seconds = step / 1000, "the wall clock was stepped: deadlines are looked at again");
        for cell in read(&self.cells).values() {
            cell.look_again();
        }
    }

    async fn note(&self, noted: &mut HashMap<MicrovmId, Millis>) {
        let seen: HashMap<MicrovmId, Millis> = read(&self.cells)
            .iter()
            .filter(|(_, cell)| cell.record().life.policy.idle.is_some())
            .map(|(id, cell)| (*id, cell.last_activity()))
            .collect();
        let news: Vec<_> =
            seen.iter().filter(|(id, at)| noted.get(*id) != Some(*at)).map(|(id, at)| (*id, *at)).collect();
        if news.is_empty() {
            return;
        }
        match self.shared.store.note_activity(&news).await {
            Ok(()) => *noted = seen,
            Err(error) => tracing::error!(%error, "the times of traffic could not be stored"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn a_note_is_read_as_late_as_it_may_have_been_and_never_in_the_future() {
        assert_eq!(since_noted(1_000), 6_000);
        assert!(since_noted(now() + 60_000) <= now());
        assert!(since_noted(Millis::MAX) <= now());
    }

    #[test]
    fn a_step_is_what_the_wall_clock_moved_and_the_monotonic_one_did_not() {
        let earlier = Clocks { wall: 1_000_000, monotonic: Instant::now() };
        let later = |wall| Clocks { wall, monotonic: earlier.monotonic + EVERY };
        for (wall, step) in [(1_005_000, 0), (1_005_499, 0), (1_004_501, 0), (4_605_000, 3_600_000), (0, -1_005_000)] {
            assert_eq!(later(wall).stepped(earlier), step, "{wall}");
        }
    }

    #[tokio::test]
    async fn notes_are_kept_and_replaced() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(&dir.path().join("hearth.db")).await.expect("opens");
        let [one, two] = [MicrovmId::new(uuid::Uuid::from_u128(1)), MicrovmId::new(uuid::Uuid::from_u128(2))];
        store.note_activity(&[(one, 5), (two, 6)]).await.expect("noted");
        store.note_activity(&[(one, 9)]).await.expect("noted");
        assert_eq!(store.activity().await.expect("read"), HashMap::from([(one, 9), (two, 6)]));
    }
}
