//! Once a day, what has been over for longer than `retention.terminated_days` is forgotten: records of terminated microVMs with
//! their history, and the history of deleted images (spec 16, item 23).

use std::time::Duration;

use lifecycle::Millis;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{shared::now, store::Store};

/// Between two looks.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Between two transactions: others write too.
const PAUSE: Duration = Duration::from_millis(50);

/// The task that forgets. It ends with [`Retention::stop`].
pub struct Retention {
    task: Option<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Retention {
    /// Forgets now and then once a day; 0 days: never anything.
    pub fn start(store: Store, days: u32) -> Self {
        let stop = CancellationToken::new();
        let until = stop.clone();
        let task = async move {
            until.run_until_cancelled_owned(keep(store, days)).await;
        };
        Retention { task: (days > 0).then(|| tokio::spawn(task)), stop }
    }

    /// Ends it; a transaction that is under way does not count.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Some(task) = self.task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the task that forgets what is over has failed");
        }
    }
}

async fn keep(store: Store, days: u32) {
    loop {
        forget(&store, now() - Millis::from(days) * DAY.as_millis() as Millis).await;
        tokio::time::sleep(DAY).await;
    }
}

async fn forget(store: &Store, before: Millis) {
    let (mut microvms, mut images) = (0, 0);
    loop {
        match store.forget(before).await {
            Ok(some) if some.rows == 0 && some.microvms == 0 => break,
            Ok(some) => (microvms, images) = (microvms + some.microvms, images + some.images),
            Err(error) => {
                tracing::error!(%error, "what is over cannot be forgotten; tomorrow it is tried again");
                break;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    if microvms + images > 0 {
        tracing::info!(microvms, images, "what had been over for long enough was forgotten");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::store::{
        Scope,
        fixture::{MINE, built, ended, opened, rows},
    };

    #[tokio::test]
    async fn it_forgets_at_its_start_what_is_older_than_its_days() {
        let (_dir, store) = opened().await;
        let demo = built(&store, MINE, "demo").await;
        let day = DAY.as_millis() as Millis;
        let old = ended(&store, &demo, now() - 2 * day - 60_000).await;
        let young = ended(&store, &demo, now() - 2 * day + 60_000).await;
        let never = Retention::start(store.clone(), 0);
        never.stop().await;
        assert_eq!(rows(&store, MINE, &Scope::Microvm(old.id)).await.len(), 3);
        let retention = Retention::start(store.clone(), 2);
        let gone = async {
            while store.microvm(old.id).await.unwrap().is_some() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
        retention.stop().await;
        assert!(store.microvm(young.id).await.unwrap().is_some());
        assert_eq!(store.audit().await.unwrap(), Vec::<String>::new());
    }
}
