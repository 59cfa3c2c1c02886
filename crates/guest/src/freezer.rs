//! Stops the application for a snapshot and lets it go on after the restore, by its cgroup's freezer.
//!
//! A snapshot is taken while nothing of the application is on a processor: a task that was would be charged for all the time
//! of the sleep and starve afterwards. And a restored application executes nothing before the guest was renewed: clock,
//! randomness, identity (spec 13).

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rustix::fs::inotify;
use tokio::time::timeout;

use crate::{boot::APPLICATION_CGROUP, log, sys};

/// How long processes may take to stand still; one that the kernel cannot stop is snapshot as it is.
const BOUND: Duration = Duration::from_secs(1);
/// Bytes of notifications read at a time; what they say does not matter.
const NOTIFICATION_BYTES: usize = 512;

/// The freezer of one cgroup.
pub struct Freezer {
    cgroup: PathBuf,
    frozen: AtomicBool,
}

impl Freezer {
    /// Of the application.
    pub fn of_application() -> Self {
        Self { cgroup: APPLICATION_CGROUP.into(), frozen: AtomicBool::new(false) }
    }

    /// Stops all processes and waits until they stand still. What cannot be done is logged: the snapshot is still good.
    pub async fn freeze(&self) {
        self.frozen.store(true, Ordering::Relaxed);
        match timeout(BOUND, self.stop()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::warn(format_args!("cannot stop the application: {error}")),
            Err(_) => log::warn(format_args!("the application does not stand still after {} s", BOUND.as_secs())),
        }
    }

    /// Lets them go on, if they were stopped.
    pub fn thaw(&self) {
        if self.frozen.swap(false, Ordering::Relaxed)
            && let Err(error) = fs::write(self.cgroup.join("cgroup.freeze"), "0")
        {
            log::error(format_args!("cannot let the application go on: {error}"));
        }
    }

    async fn stop(&self) -> io::Result<()> {
        let events = self.cgroup.join("cgroup.events");
        let notifications = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        inotify::add_watch(&notifications, &events, inotify::WatchFlags::MODIFY)?;
        let notifications = sys::watch_readable(notifications)?;
        fs::write(self.cgroup.join("cgroup.freeze"), "1")?;
        while !is_frozen(&events)? {
            notifications.readable().await?.clear_ready();
            while rustix::io::read(&notifications, &mut [0; NOTIFICATION_BYTES]).is_ok_and(|read| read > 0) {}
        }
        Ok(())
    }
}

fn is_frozen(events: &Path) -> io::Result<bool> {
    Ok(fs::read_to_string(events)?.lines().any(|line| line == "frozen 1"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A directory that looks like a cgroup, and somebody who does the kernel's part.
    #[tokio::test]
    async fn it_waits_until_all_stand_still_and_lets_go_once() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (freeze, events) = (dir.path().join("cgroup.freeze"), dir.path().join("cgroup.events"));
        fs::write(&freeze, "0").expect("write");
        fs::write(&events, "populated 1\nfrozen 0\n").expect("write");
        let freezer = Arc::new(Freezer { cgroup: dir.path().to_owned(), frozen: AtomicBool::new(false) });
        freezer.thaw();
        let freezing = tokio::spawn({
            let freezer = freezer.clone();
            async move { freezer.stop().await }
        });
        while fs::read_to_string(&freeze).expect("read") != "1" {
            tokio::task::yield_now().await;
        }
        assert!(!freezing.is_finished());
        fs::write(&events, "populated 1\nfrozen 1\n").expect("write");
        freezing.await.expect("runs").expect("stands still");
        freezer.freeze().await;
        freezer.thaw();
        assert_eq!(fs::read_to_string(&freeze).expect("read"), "0");
        fs::write(&freeze, "1").expect("write");
        freezer.thaw();
        assert_eq!(fs::read_to_string(&freeze).expect("read"), "1", "it was not stopped by us");
    }
}
