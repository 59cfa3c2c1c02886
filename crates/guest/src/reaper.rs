//! Waits for every child of pid 1, its own and the orphans it inherits.
//!
//! One place calls `waitpid(-1)`; nobody else waits for anything (the standard library's and tokio's ways of waiting are
//! not used), so no exit status can be taken by the wrong one.

use std::{
    collections::HashMap,
    io,
    process::{Child, Command},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::process::{WaitOptions, wait};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

use crate::container::exit_code;

/// Knows who waits for which child.
#[derive(Default)]
pub struct Reaper {
    waiting: Mutex<HashMap<u32, oneshot::Sender<i32>>>,
}

impl Reaper {
    /// Starts a child; the receiver gets its exit code (128 + n for a death by signal n).
    ///
    /// Must be called on the thread that runs [`Reaper::run`], which cannot then miss a child that ends at once.
    pub fn spawn(&self, command: &mut Command) -> io::Result<(Child, oneshot::Receiver<i32>)> {
        let mut waiting = self.waiting();
        let child = command.spawn()?;
        let (sender, receiver) = oneshot::channel();
        waiting.insert(child.id(), sender);
        Ok((child, receiver))
    }

    /// Reaps for ever. `children` comes from [`listen`], so that no signal before this call is lost.
    pub async fn run(&self, mut children: Signal) {
        loop {
            while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                let Some(code) = exit_code(status) else { continue };
                let waiter = self.waiting().remove(&pid.as_raw_nonzero().get().unsigned_abs());
                if let Some(waiter) = waiter {
                    let _ = waiter.send(code); // nobody waits any more: fine
                }
            }
            if children.recv().await.is_none() {
                return;
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u32, oneshot::Sender<i32>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts listening for children's ends.
pub fn listen() -> io::Result<Signal> {
    signal(SignalKind::child())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn exit_codes_reach_who_waits() {
        let reaper = Reaper::default();
        let children = listen().expect("signal");
        let (_, seven) = reaper.spawn(Command::new("sh").args(["-c", "exit 7"])).expect("spawn");
        let (_, killed) = reaper.spawn(Command::new("sh").args(["-c", "kill -9 $$"])).expect("spawn");
        tokio::select! {
            () = reaper.run(children) => unreachable!("runs for ever"),
            codes = async { (seven.await, killed.await) } => assert_eq!(codes, (Ok(7), Ok(137))),
        }
    }
}
