//! How fast a caller may go: a token bucket (spec 3.1, 10.2). It starts full, every call takes one token, and tokens come back
//! at the rate. Within any span of `t` seconds no more than `burst + rate * t` calls pass.

/// Nanoseconds on a clock that only goes forward; where it starts does not matter.
pub type Nanos = u64;

/// What a token is, in the units that a bucket counts in: at `n` tokens per second, `n` units come back per nanosecond. Whole
/// numbers all the way, so nothing is ever lost to rounding.
const TOKEN: u64 = 1_000_000_000;

/// How fast a bucket fills, and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens per second, at least 1.
    pub per_second: u32,
    /// Most tokens at a time, at least 1.
    pub burst: u32,
}

/// Somebody's bucket. It does not keep its rate: that is the same for all buckets of a kind, and is given with every call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    level: u64,
    at: Nanos,
}

impl Rate {
    fn capacity(self) -> u64 {
        u64::from(self.burst.max(1)) * TOKEN
    }

    fn per_nanosecond(self) -> u64 {
        u64::from(self.per_second.max(1))
    }
}

impl Bucket {
    /// A bucket that nobody has taken from.
    pub fn full(rate: Rate, now: Nanos) -> Bucket {
        Bucket { level: rate.capacity(), at: now }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// There is none; how many nanoseconds it takes until there is one. Nothing was taken.
    pub fn take(&mut self, rate: Rate, now: Nanos) -> Result<(), Nanos> {
        self.level = self.level_at(rate, now);
        self.at = self.at.max(now);
        match self.level.checked_sub(TOKEN) {
            Some(rest) => {
                self.level = rest;
                Ok(())
            }
            None => Err((TOKEN - self.level).div_ceil(rate.per_nanosecond())),
        }
    }

    /// Is it as good as new? Such a bucket need not be kept.
    pub fn is_full(&self, rate: Rate, now: Nanos) -> bool {
        self.level_at(rate, now) == rate.capacity()
    }

    fn level_at(&self, rate: Rate, now: Nanos) -> u64 {
        let back = now.saturating_sub(self.at).saturating_mul(rate.per_nanosecond());
        self.level.saturating_add(back).min(rate.capacity())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let rate = Rate { per_second: 5, burst: 5 };
        let mut bucket = Bucket::full(rate, 0);
        for _ in 0..5 {
            assert_eq!(bucket.take(rate, 7), Ok(()));
        }
        assert_eq!(bucket.take(rate, 7), Err(SECOND / 5));
        assert_eq!(bucket.take(rate, 7 + SECOND / 5 - 1), Err(1), "a nanosecond early");
        assert_eq!(bucket.take(rate, 7 + SECOND / 5), Ok(()));
        assert!(!bucket.is_full(rate, SECOND) && bucket.is_full(rate, 7 + SECOND / 5 + SECOND));
    }

    #[test]
    fn a_clock_that_stands_or_goes_back_gives_nothing() {
        let rate = Rate { per_second: 1, burst: 1 };
        let mut bucket = Bucket::full(rate, 9 * SECOND);
        assert_eq!(bucket.take(rate, 9 * SECOND), Ok(()));
        assert_eq!(bucket.take(rate, 0), Err(SECOND));
        assert_eq!(bucket.take(rate, 10 * SECOND - 1), Err(1));
        assert_eq!(bucket.take(rate, Nanos::MAX), Ok(()));
    }

    proptest! {
        /// Calls at random times: whatever window one looks at, no more than `burst + rate * window` passed.
        #[test]
        fn no_window_passes_more_than_burst_and_rate(
            per_second in 1_u32..2000,
            burst in 1_u32..50,
            gaps in prop::collection::vec(prop_oneof![Just(0), 0..SECOND / 100, 0..SECOND * 2], 1..200),
        ) {
            let rate = Rate { per_second, burst };
            let mut bucket = Bucket::full(rate, 0);
            let (mut now, mut passed) = (0, Vec::new());
            for gap in gaps {
                now += gap;
                if bucket.take(rate, now).is_ok() {
                    passed.push(now);
                }
            }
            for (first, &from) in passed.iter().enumerate() {
                for (last, &to) in passed.iter().enumerate().skip(first) {
                    let bound = u128::from(burst) * u128::from(TOKEN) + u128::from(to - from) * u128::from(per_second);
                    prop_assert!((last - first + 1) as u128 * u128::from(TOKEN) <= bound);
                }
            }
        }

        /// Whoever waits as long as they were told gets through, and not a nanosecond earlier.
        #[test]
        fn the_wait_is_exact(per_second in 1_u32..2000, burst in 1_u32..50, calls in 1_usize..200, pause in 0..SECOND) {
            let rate = Rate { per_second, burst };
            let mut bucket = Bucket::full(rate, 0);
            let mut now = 0;
            for _ in 0..calls {
                if let Err(wait) = bucket.take(rate, now) {
                    prop_assert!(wait > 0 && wait <= SECOND);
                    prop_assert!(bucket.take(rate, now + wait - 1).is_err());
                    now += wait;
                    prop_assert_eq!(bucket.take(rate, now), Ok(()));
                }
            }
            now += pause;
            if bucket.is_full(rate, now) {
                let taken = (0..).take_while(|_| bucket.take(rate, now).is_ok()).count();
                prop_assert_eq!(taken, burst as usize, "a full bucket is as good as a new one");
            }
        }
    }
}
