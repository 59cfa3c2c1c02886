//! What one microVM's endpoint may carry (spec 6.9), so that a greedy client harms nobody but the microVM it is greedy for.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::answers::Refusal;

/// How much of a second's bytes may pass at once.
const BURST: u64 = 4;

/// Bounds of one microVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Requests, streams and sessions at a time, at least 1.
    pub at_once: usize,
    /// Requests begun in a second; as many may come at once. `None`: any number.
    pub per_second: Option<u32>,
    /// Bytes of bodies and streams in a second, in and out together. `None`: any number.
    pub bytes_per_second: Option<u64>,
}

impl Allowance {
    /// Without rates.
    pub const fn at_once(at_once: usize) -> Self {
        Allowance { at_once, per_second: None, bytes_per_second: None }
    }
}

/// One microVM's bounds and what is used of them, and what was learnt of its ports. Whoever knows the microVM keeps it:
/// [`crate::Route`].
#[derive(Debug)]
pub struct Share {
    places: Arc<Semaphore>,
    requests: Option<Pace>,
    bytes: Option<Pace>,
    ports: Mutex<HashMap<u16, Speech>>,
}

/// How an application on a port was found to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speech {
    /// Without TLS.
    Clear,
    /// With TLS.
    Tls,
}

impl Share {
    /// Nothing of it used.
    pub fn new(allowance: Allowance) -> Self {
        Share {
            places: Arc::new(Semaphore::new(allowance.at_once.clamp(1, Semaphore::MAX_PERMITS))),
            requests: allowance.per_second.map(|rate| Pace::new(rate.into(), rate.into())),
            bytes: allowance.bytes_per_second.map(|rate| Pace::new(rate, rate / BURST)),
            ports: Mutex::default(),
        }
    }

    /// A place for one request, until it is dropped.
    pub(crate) fn admit(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| Refusal::TooManyRequests)?;
        match &self.requests {
            Some(pace) if !pace.take(1) => Err(Refusal::TooManyRequests),
            _ => Ok(place),
        }
    }

    /// What is known of a port.
    pub(crate) fn speech(&self, port: u16) -> Option<Speech> {
        self.ports().get(&port).copied()
    }

    /// Remembers it of a port; `None`: nothing is known any more.
    pub(crate) fn learn(&self, port: u16, speech: Option<Speech>) {
        match speech {
            Some(speech) => self.ports().insert(port, speech),
            None => self.ports().remove(&port),
        };
    }

    fn ports(&self) -> MutexGuard<'_, HashMap<u16, Speech>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of bytes that have passed; for how long no more should.
    pub(crate) fn passed(&self, bytes: usize) -> Option<Duration> {
        self.bytes.as_ref().and_then(|pace| pace.charge(bytes as u64))
    }
}

/// So many a second, and some at once. Kept as the time at which all that was taken is paid for.
#[derive(Debug)]
struct Pace {
    per_second: u64,
    began: Instant,
    /// Nanoseconds that may be owed.
    slack: u64,
    /// Nanoseconds after `began`.
    paid_at: AtomicU64,
}

impl Pace {
    fn new(per_second: u64, at_once: u64) -> Self {
        let mut pace =
            Pace { per_second: per_second.max(1), began: Instant::now(), slack: 0, paid_at: AtomicU64::new(0) };
        pace.slack = pace.cost(at_once.max(1));
        pace
    }

    fn cost(&self, count: u64) -> u64 {
        let nanos = u128::from(count) * 1_000_000_000 / u128::from(self.per_second);
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Takes that many if they are there.
    fn take(&self, count: u64) -> bool {
        self.take_at(self.now(), count)
    }

    fn take_at(&self, now: u64, count: u64) -> bool {
        let next = |paid: u64| {
            let next = paid.max(now).saturating_add(self.cost(count));
            (next - now <= self.slack).then_some(next)
        };
        self.paid_at.fetch_update(Relaxed, Relaxed, next).is_ok()
    }

    /// Takes that many, there or not; how long it takes until they are paid for.
    fn charge(&self, count: u64) -> Option<Duration> {
        self.charge_at(self.now(), count)
    }

    fn charge_at(&self, now: u64, count: u64) -> Option<Duration> {
        let cost = self.cost(count);
        let paid = self.paid_at.fetch_update(Relaxed, Relaxed, |paid| Some(paid.max(now).saturating_add(cost)));
        let owed = paid.unwrap_or_default().max(now).saturating_add(cost) - now;
        owed.checked_sub(self.slack).filter(|wait| *wait > 0).map(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn so_many_at_once() {
        let share = Share::new(Allowance::at_once(2));
        let (one, _two) = (share.admit().expect("a place"), share.admit().expect("a place"));
        assert_eq!(share.admit().err(), Some(Refusal::TooManyRequests));
        drop(one);
        assert!(share.admit().is_ok());
        assert_eq!(share.passed(usize::MAX), None);
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let pace = Pace::new(40, 40);
        assert_eq!((0..50).filter(|_| pace.take_at(7, 1)).count(), 40);
        assert!(!pace.take_at(7 + SECOND / 40 - 1, 1) && pace.take_at(7 + SECOND / 40, 1));
        assert_eq!((0..50).filter(|_| pace.take_at(9 * SECOND, 1)).count(), 40);
    }

    #[test]
    fn bytes_are_never_refused_but_paid_for() {
        let pace = Pace::new(1000, 250);
        assert_eq!((pace.charge_at(0, 200), pace.charge_at(0, 50)), (None, None));
        assert_eq!(pace.charge_at(0, 1000), Some(Duration::from_secs(1)));
        assert_eq!(pace.charge_at(SECOND, 100), Some(Duration::from_millis(100)), "behind what was owed");
        assert_eq!(pace.charge_at(60 * SECOND, 250), None);
    }

    proptest! {
        /// Whoever waits as told passes no more than the rate, and the burst.
        #[test]
        fn no_more_than_the_rate(rate in 1000_u64..100_000_000, sizes in prop::collection::vec(1_u64..200_000, 1..60)) {
            let pace = Pace::new(rate, rate / BURST);
            let (mut now, mut total) = (0, 0);
            for size in sizes {
                now += pace.charge_at(now, size).map_or(0, |wait| wait.as_nanos() as u64);
                total += size;
                let most = u128::from(rate / BURST) + u128::from(rate) * u128::from(now) / u128::from(SECOND);
                prop_assert!(u128::from(total) <= most + 2, "{total} of {most}");
            }
        }
    }
}
