//! Who is too fast? One token bucket for each account and operation (spec 3.1).

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use api::{AccountId, ApiError, Operation};
use lifecycle::throttle::{Bucket, Nanos};

use crate::config::Quotas;

/// Buckets that are kept before the first look for those that are full again.
const KEPT: usize = 1024;

/// The buckets of all accounts. Those that are full again are forgotten, so that there are only as many as callers went
/// at once.
pub struct Throttle {
    quotas: Quotas,
    start: Instant,
    buckets: Mutex<Buckets>,
}

struct Buckets {
    of: HashMap<(AccountId, Operation), Bucket>,
    sweep_at: usize,
}

impl Throttle {
    /// The rates of `quotas`, whether those are enabled or not.
    pub fn new(quotas: &Quotas) -> Self {
        let buckets = Buckets { of: HashMap::new(), sweep_at: KEPT };
        Throttle { quotas: quotas.clone(), start: Instant::now(), buckets: Mutex::new(buckets) }
    }

    /// Counts one call.
    ///
    /// # Errors
    /// 429 with a `Retry-After` when the account calls the operation faster than it may; the call is not counted then.
    pub(super) fn admit(&self, account: &AccountId, operation: Operation) -> Result<(), ApiError> {
        let now = Nanos::try_from(self.start.elapsed().as_nanos()).unwrap_or(Nanos::MAX);
        self.take(account, operation, now).map_err(|wait| {
            let seconds = wait.div_ceil(1_000_000_000);
            ApiError::throttled(operation.family(), u32::try_from(seconds).unwrap_or(u32::MAX))
        })
    }

    fn take(&self, account: &AccountId, operation: Operation, now: Nanos) -> Result<(), Nanos> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.of.len() >= buckets.sweep_at {
            buckets.of.retain(|(_, operation), bucket| !bucket.is_full(self.quotas.rate(*operation), now));
            // Looked for again when there are twice as many: what it costs is shared by the calls that made it necessary.
            buckets.sweep_at = KEPT.max(buckets.of.len() * 2);
        }
        let rate = self.quotas.rate(operation);
        let bucket = buckets.of.entry((account.clone(), operation)).or_insert_with(|| Bucket::full(rate, now));
        bucket.take(rate, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    fn account(number: usize) -> AccountId {
        format!("{number:012}").parse().expect("twelve digits")
    }

    #[test]
    fn accounts_and_operations_do_not_share_a_bucket() {
        let throttle = Throttle::new(&Quotas::default());
        let take = |number, operation, now| throttle.take(&account(number), operation, now).is_ok();
        assert!((0..5).all(|_| take(1, Operation::RunMicrovm, 0)));
        assert!(!take(1, Operation::RunMicrovm, 0));
        assert!(take(2, Operation::RunMicrovm, 0));
        assert!(take(1, Operation::TerminateMicrovm, 0));
        assert!(take(1, Operation::RunMicrovm, SECOND / 5));
    }

    #[test]
    fn buckets_are_forgotten_when_they_are_full_and_not_before() {
        let throttle = Throttle::new(&Quotas::default());
        let take = |number, now| throttle.take(&account(number), Operation::ListMicrovms, now).is_ok();
        let kept = || throttle.buckets.lock().expect("no panic").of.len();
        while take(0, 0) {}
        assert!((1..5000).all(|number| take(number, 0)));
        assert!(!take(0, 0), "it was not forgotten among so many");
        assert_eq!(kept(), 5000);
        for number in 0..20_000 {
            assert!(take(5000 + number, 10 * SECOND + SECOND * number as Nanos));
        }
        assert!(kept() <= KEPT, "{}", kept());
    }
}
