//! Randomness in time: delays before another try, and intervals that many peers share.
//!
//! What many repeat at the same pace meets in the same instant sooner or later, at the latest after a restart. All
//! waiting that repeats goes through one of these two.

use std::time::Duration;

use rand::Rng as _;

/// The delays between tries that fail: exponential with full jitter, after "Exponential Backoff And Jitter" by M. Brooker
/// of AWS. Each delay is uniform between the floor and `base * 2^n`, at most the cap.
///
/// Full jitter alone may come out at next to nothing, and a try that fails at once would be repeated in a tight loop; so
/// no delay is ever shorter than 50 ms. The floor is not tied to the base: half of it, say, would halve the spread, which
/// is what keeps many topics apart that lost the same app in the same instant.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    attempts: u32,
}

/// Twenty tries a second of one topic, at worst.
const FLOOR: Duration = Duration::from_millis(50);

// === impl Backoff ===

impl Backoff {
    /// A back-off before its first try. `base` and `cap` are raised to the floor of 50 ms where they are below it, and a
    /// `cap` below the base wins over it.
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self { base: base.max(FLOOR), cap: cap.max(FLOOR), attempts: 0 }
    }

    /// How long to wait before the next try.
    #[expect(clippy::should_implement_trait, reason = "an iterator may end, and this never does")]
    pub fn next(&mut self) -> Duration {
        let ceiling = self.ceiling();
        self.attempts = self.attempts.saturating_add(1);
        uniform(FLOOR, ceiling)
    }

    /// Starts over, after a try that went well.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// How many delays were handed out since the start or the last reset.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    fn ceiling(&self) -> Duration {
        let factor = 1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }
}

/// A duration near `d`: uniform between `d * (1 - fraction)` and `d * (1 + fraction)`, to the precision of an `f64`.
///
/// A `fraction` beyond 0 to 1 counts as the nearer of them and NaN as 0; the longest result is `Duration::MAX`.
pub fn jitter(d: Duration, fraction: f64) -> Duration {
    let fraction = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
    let spread = Duration::try_from_secs_f64(d.as_secs_f64() * fraction).unwrap_or(Duration::MAX);
    uniform(d.saturating_sub(spread), d.saturating_add(spread))
}

/// Both ends included; `low` must not be above `high`.
fn uniform(low: Duration, high: Duration) -> Duration {
    #[cfg(test)]
    if let Some(drawn) = seeded::draw(low, high) {
        return drawn;
    }
    rand::rng().random_range(low..=high)
}

/// Draws from a seed, for tests whose histories are to come back.
#[cfg(test)]
pub(crate) mod seeded {
    use std::{cell::RefCell, time::Duration};

    use rand::{Rng, SeedableRng, rngs::StdRng};

    thread_local! {
        static DRAWS: RefCell<Option<StdRng>> = const { RefCell::new(None) };
    }

    /// From now on this thread draws from `seed`.
    pub(crate) fn start(seed: u64) {
        DRAWS.set(Some(StdRng::seed_from_u64(seed)));
    }

    pub(super) fn draw(low: Duration, high: Duration) -> Option<Duration> {
        DRAWS.with_borrow_mut(|draws| draws.as_mut().map(|rng| rng.random_range(low..=high)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn duration() -> impl Strategy<Value = Duration> {
        prop_oneof![
            Just(Duration::ZERO),
            Just(Duration::from_nanos(1)),
            Just(Duration::MAX),
            (0_u64..100_000).prop_map(Duration::from_millis),
            (any::<u64>(), 0_u32..1_000_000_000).prop_map(|(secs, nanos)| Duration::new(secs, nanos)),
        ]
    }

    #[test]
    fn ceilings_double_up_to_the_cap() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        let mut ceilings = Vec::new();
        for _ in 0..7 {
            ceilings.push(backoff.ceiling().as_secs());
            backoff.next();
        }
        assert_eq!(ceilings, [1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn a_success_starts_it_over() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        for _ in 0..5 {
            backoff.next();
        }
        assert_eq!(backoff.attempts(), 5);
        backoff.reset();
        assert_eq!(backoff.attempts(), 0);
        assert!(backoff.next() <= Duration::from_secs(1));
    }

    // Topics that lost the same app in the same instant must not come back in the same instant. Of a thousand draws each
    // tenth of the range gets a hundred on average; forty is more than six standard deviations away.
    #[test]
    fn delays_fill_their_whole_range() {
        let (base, parts) = (Duration::from_secs(1), 10);
        let mut counts = [0; 10];
        for _ in 0..1000 {
            let delay = Backoff::new(base, base).next();
            let part = ((delay - FLOOR).as_secs_f64() / (base - FLOOR).as_secs_f64() * f64::from(parts)) as usize;
            counts[part.min(9)] += 1;
        }
        assert!(counts.iter().all(|count| *count > 40), "{counts:?}");
    }

    #[test]
    fn a_base_of_nothing_makes_no_hot_loop() {
        let mut backoff = Backoff::new(Duration::ZERO, Duration::ZERO);
        assert_eq!(backoff.next(), FLOOR);
        assert_eq!(backoff.next(), FLOOR);
    }

    #[test]
    fn jitter_of_nothing_is_nothing() {
        assert_eq!(jitter(Duration::ZERO, 0.5), Duration::ZERO);
        assert_eq!(jitter(Duration::from_secs(3), 0.0), Duration::from_secs(3));
        assert_eq!(jitter(Duration::from_secs(3), f64::NAN), Duration::from_secs(3));
        assert_eq!(jitter(Duration::from_secs(3), -1.0), Duration::from_secs(3));
    }

    #[test]
    fn jitter_goes_both_ways() {
        let middle = Duration::from_secs(100);
        let all: Vec<Duration> = (0..200).map(|_| jitter(middle, 0.33)).collect();
        assert!(all.iter().any(|delay| *delay < Duration::from_secs(90)));
        assert!(all.iter().any(|delay| *delay > Duration::from_secs(110)));
    }

    proptest! {
        #[test]
        fn every_delay_is_between_floor_and_cap(base in duration(), cap in duration(), tries in 0_usize..80) {
            let mut backoff = Backoff::new(base, cap);
            let mut ceiling = Duration::ZERO;
            for n in 0..tries {
                prop_assert_eq!(backoff.attempts() as usize, n);
                prop_assert!(backoff.ceiling() >= ceiling, "the range never shrinks");
                ceiling = backoff.ceiling();
                let delay = backoff.next();
                prop_assert!(delay >= FLOOR && delay <= ceiling && delay <= cap.max(FLOOR));
            }
        }

        #[test]
        fn a_long_row_of_failures_never_overflows(base in duration(), cap in duration()) {
            let mut backoff = Backoff { attempts: u32::MAX - 1, ..Backoff::new(base, cap) };
            for _ in 0..3 {
                prop_assert!(backoff.next() <= cap.max(FLOOR));
            }
            prop_assert_eq!(backoff.attempts(), u32::MAX);
        }

        #[test]
        fn jitter_never_panics_and_stays_near(
            d in duration(),
            fraction in prop_oneof![0.0..=1.0, any::<f64>(), Just(f64::NAN), Just(f64::INFINITY)],
        ) {
            let jittered = jitter(d, fraction);
            let spread = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) } * d.as_secs_f64();
            // A nanosecond and the last bits of an `f64` are lost to rounding.
            let slack = 1e-9 + d.as_secs_f64() * 1e-12;
            prop_assert!((jittered.as_secs_f64() - d.as_secs_f64()).abs() <= spread + slack);
        }
    }
}
