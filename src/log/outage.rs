//! When an outage is told: by one line when it has begun, and one when it is over.

use std::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// From one told outage to the next, at least: what fails and works by turns is told once a minute.
const BETWEEN: Duration = Duration::from_secs(60);

/// What fails or works again and again, for many at a time.
#[derive(Debug)]
pub(crate) struct Outage {
    /// So many failures in a row make an outage.
    failures: u32,
    /// Something has failed since the last success: all that a success looks at while nothing fails. Written under the
    /// lock; a success that comes with a failure and overlooks it leaves its end to the next.
    is_failing: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    in_a_row: u32,
    /// The first of those in a row.
    since: Option<Instant>,
    is_told: bool,
    /// When an outage was last told.
    told_at: Option<Instant>,
}

// === impl Outage ===

impl Outage {
    /// One that begins with so many failures in a row.
    pub(crate) fn after(failures: u32) -> Self {
        Self { failures, is_failing: AtomicBool::new(false), state: Mutex::default() }
    }

    /// Something failed at `now`. Whether that is to be told.
    pub(crate) fn failed(&self, now: Instant) -> bool {
        let mut state = self.lock();
        self.is_failing.store(true, Ordering::Relaxed);
        state.in_a_row = state.in_a_row.saturating_add(1);
        state.since.get_or_insert(now);
        let is_allowed = state.told_at.is_none_or(|at| now.saturating_duration_since(at) >= BETWEEN);
        if state.is_told || state.in_a_row < self.failures || !is_allowed {
            return false;
        }
        state.is_told = true;
        state.told_at = Some(now);
        true
    }

    /// Something worked. How long nothing had, if that was told.
    pub(crate) fn succeeded(&self, now: impl FnOnce() -> Instant) -> Option<Duration> {
        if self.is_failing.load(Ordering::Relaxed) { self.end(now()) } else { None }
    }

    fn end(&self, now: Instant) -> Option<Duration> {
        let mut state = self.lock();
        self.is_failing.store(false, Ordering::Relaxed);
        state.in_a_row = 0;
        let since = state.since.take()?;
        std::mem::take(&mut state.is_told).then(|| now.saturating_duration_since(since))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics under this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_outage_is_told_once_and_so_is_its_end() {
        let (outage, began) = (Outage::after(1), Instant::now());
        assert_eq!(outage.succeeded(|| began), None);
        assert!(outage.failed(began));
        assert!((1..600).all(|seconds| !outage.failed(began + SECOND * seconds)));
        assert_eq!(outage.succeeded(|| began + SECOND * 600), Some(SECOND * 600));
        assert_eq!(outage.succeeded(|| began + SECOND * 601), None);
    }

    #[test]
    fn failures_with_successes_between_are_none() {
        let (outage, began) = (Outage::after(3), Instant::now());
        for _ in 0..100 {
            assert!(!outage.failed(began) && !outage.failed(began));
            assert_eq!(outage.succeeded(|| began), None);
        }
        let told = [0, 1, 2, 3].map(|seconds| outage.failed(began + SECOND * seconds));
        assert_eq!(told, [false, false, true, false]);
        assert_eq!(outage.succeeded(|| began + SECOND * 9), Some(SECOND * 9), "since the first of them");
    }

    #[test]
    fn what_fails_and_works_by_turns_is_told_once_a_minute() {
        let (outage, began) = (Outage::after(1), Instant::now());
        let (mut begins, mut ends) = (0, 0);
        for seconds in 0..180 {
            begins += u32::from(outage.failed(began + SECOND * seconds));
            ends += u32::from(outage.succeeded(|| began + SECOND * seconds).is_some());
        }
        assert_eq!((begins, ends), (3, 3));
    }

    // It began too early to be told, and would else be passed over although it stays.
    #[test]
    fn an_outage_that_lasts_is_told_when_the_minute_is_over_and_counted_from_its_beginning() {
        let (outage, began) = (Outage::after(1), Instant::now());
        assert!(outage.failed(began));
        outage.succeeded(|| began);
        assert!(!outage.failed(began + SECOND * 20) && !outage.failed(began + SECOND * 59));
        assert!(outage.failed(began + SECOND * 60));
        assert_eq!(outage.succeeded(|| began + SECOND * 100), Some(SECOND * 80));
    }
}
