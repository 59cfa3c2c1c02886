//! When traffic was last seen must outlive the server, or an idle microVM would begin to be idle anew with each restart. It is
//! noted every few seconds for those that had traffic, and once more when the server ends in order.

use std::{collections::HashMap, sync::Arc, time::Duration};

use api::MicrovmId;
use lifecycle::Millis;

use super::{Microvms, read};
use crate::shared::now;

/// Between two notes. So much may be missing when the server is killed.
const EVERY: Duration = Duration::from_secs(5);

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
            loop {
                tokio::time::sleep(EVERY).await;
                let Some(microvms) = microvms.upgrade() else { return };
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
