//! File work of machines, off the async threads. A thread cannot be stopped: when the future that asked for its work is
//! dropped, the work goes on, and whoever ends a machine waits for it here.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use tokio::sync::watch;

use crate::EngineError;

/// How much work is under way, by machine directory. Of the whole process: engines come and go.
static WORK: LazyLock<watch::Sender<HashMap<PathBuf, usize>>> = LazyLock::new(watch::Sender::default);

/// One piece of work; it ends when this is dropped.
struct Underway(PathBuf);

impl Underway {
    fn begin(machine_dir: &Path) -> Self {
        WORK.send_modify(|work| *work.entry(machine_dir.to_owned()).or_default() += 1);
        Underway(machine_dir.to_owned())
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        WORK.send_modify(|work| {
            if let Some(count) = work.get_mut(&self.0) {
                *count -= 1;
                if *count == 0 {
                    work.remove(&self.0);
                }
            }
        });
    }
}

/// Does file work for the machine of that directory; it is under way even if nobody waits for it any more.
pub async fn blocking<T: Send + 'static>(
    machine_dir: &Path,
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    let underway = Underway::begin(machine_dir);
    let task = tokio::task::spawn_blocking(move || {
        let outcome = work();
        drop(underway);
        outcome
    });
    task.await.unwrap_or_else(|error| Err(EngineError::Host(format!("a worker of the engine failed: {error}"))))
}

/// Waits until nothing is done any more for the machine of that directory.
pub async fn ended(machine_dir: &Path) {
    // The sender is never dropped, so that this cannot fail.
    let _ = WORK.subscribe().wait_for(|work| !work.contains_key(machine_dir)).await;
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_waited_for() {
        let (dir, other) = (Path::new("/underway/a"), Path::new("/underway/b"));
        let (go, wait) = mpsc::channel::<()>();
        let mut work = Box::pin(blocking(dir, move || {
            wait.recv().expect("told to go on");
            Ok(())
        }));
        assert!(poll!(&mut work).is_pending());
        drop(work);
        ended(other).await;
        let mut end = Box::pin(ended(dir));
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut end).await.is_err(), "it is still under way");
        go.send(()).expect("somebody listens");
        end.await;
        let failed: Result<(), _> = blocking(dir, || panic!("a worker breaks")).await;
        assert!(failed.is_err());
        ended(dir).await;
    }
}
