//! Places for clients' connections. When all are taken a newcomer gets that of the client which has asked for nothing for
//! longest, handshakes that drag on included: so nobody keeps others out by connecting alone.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// All places.
#[derive(Debug)]
pub(crate) struct Seats {
    most: usize,
    began: Instant,
    taken: Mutex<Taken>,
    /// A place has become free, or somebody idle.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    seats: HashMap<u64, Weak<Seat>>,
}

/// One place, free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Seats>,
    number: u64,
    /// Milliseconds since the beginning, or [`BUSY`].
    idle_since: AtomicU64,
    leave: CancellationToken,
}

const BUSY: u64 = u64::MAX;

impl Seats {
    /// So many.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Seats { most, began: Instant::now(), taken: Mutex::default(), changed: Notify::new() })
    }

    /// A place, once there is one. Cancelling loses nothing.
    pub(crate) async fn take(self: &Arc<Self>) -> Arc<Seat> {
        loop {
            let changed = self.changed.notified();
            if let Some(seat) = self.try_take() {
                return seat;
            }
            self.clear_one();
            changed.await;
        }
    }

    fn try_take(self: &Arc<Self>) -> Option<Arc<Seat>> {
        let mut taken = self.taken();
        if taken.seats.len() >= self.most {
            return None;
        }
        let number = taken.next;
        taken.next += 1;
        let seat = Arc::new(Seat {
            seats: self.clone(),
            number,
            idle_since: AtomicU64::new(self.now()),
            leave: CancellationToken::new(),
        });
        taken.seats.insert(number, Arc::downgrade(&seat));
        Some(seat)
    }

    /// Asks the one that has been idle for longest to leave, if one is and none is on its way out.
    fn clear_one(&self) {
        let seats: Vec<Arc<Seat>> = self.taken().seats.values().filter_map(Weak::upgrade).collect();
        let idle = seats.iter().filter(|seat| seat.idle_since.load(Relaxed) != BUSY);
        let longest = idle.min_by_key(|seat| (!seat.leave.is_cancelled(), seat.idle_since.load(Relaxed), seat.number));
        if let Some(seat) = longest {
            seat.leave.cancel();
        }
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Its client has a request under way.
    pub(crate) fn busy(&self) {
        self.idle_since.store(BUSY, Relaxed);
    }

    /// It has none any more.
    pub(crate) fn idle(&self) {
        self.idle_since.store(self.seats.now(), Relaxed);
        self.seats.changed.notify_waiters();
    }

    /// Resolves when somebody else needs the place.
    pub(crate) async fn leave(&self) {
        self.leave.cancelled().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken().seats.remove(&self.number);
        self.seats.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn who_has_been_idle_for_longest_leaves() {
        let seats = Seats::new(3);
        let (one, two, three) = (seats.take().await, seats.take().await, seats.take().await);
        one.busy();
        let mut newcomer = Box::pin(seats.take());
        assert!(newcomer.as_mut().now_or_never().is_none());
        assert!(two.leave().now_or_never().is_some());
        assert!(one.leave().now_or_never().is_none() && three.leave().now_or_never().is_none());
        assert!(newcomer.as_mut().now_or_never().is_none(), "nobody has left yet");
        assert!(three.leave().now_or_never().is_none(), "one at a time");
        drop(two);
        let _four = newcomer.now_or_never().expect("a place");
    }

    #[tokio::test]
    async fn nobody_leaves_who_is_served() {
        let seats = Seats::new(1);
        let one = seats.take().await;
        one.busy();
        let mut newcomer = Box::pin(seats.take());
        assert!(newcomer.as_mut().now_or_never().is_none() && one.leave().now_or_never().is_none());
        one.idle();
        assert!(newcomer.as_mut().now_or_never().is_none() && one.leave().now_or_never().is_some());
        drop(one);
        assert!(newcomer.now_or_never().is_some());
        assert!(seats.taken().seats.is_empty());
    }
}
