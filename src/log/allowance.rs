//! How many lines of one kind the log takes: what happens to each of many topics must not fill it.

use std::{
    num::NonZeroU64,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

/// How many lines may be written at once: enough to see whether it is one topic or many.
const AT_ONCE: u32 = 5;

/// The time in which one line more may be written.
const EACH: Duration = Duration::from_secs(60);

/// The allowance of one kind of line: some at once, then one a minute. What was not used comes back at that pace, so
/// that another day's trouble is told as this one's is.
#[derive(Debug, Default)]
pub(crate) struct Allowance(Mutex<Spent>);

#[derive(Debug, Default)]
struct Spent {
    /// When all that was written will have been made up for.
    until: Option<Instant>,
    left_out: u64,
}

/// That a line may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leave {
    /// How many were not, since the last one that was.
    pub(crate) left_out: Option<NonZeroU64>,
}

// === impl Allowance ===

impl Allowance {
    /// Asks for one line at `now`; `None`: it is to be left out.
    pub(crate) fn ask(&self, now: Instant) -> Option<Leave> {
        let mut spent = self.lock();
        let until = spent.until.map_or(now, |until| until.max(now));
        if until - now > EACH * (AT_ONCE - 1) {
            spent.left_out += 1;
            return None;
        }
        spent.until = Some(until + EACH);
        Some(Leave { left_out: NonZeroU64::new(std::mem::take(&mut spent.left_out)) })
    }

    fn lock(&self) -> MutexGuard<'_, Spent> {
        self.0.lock().expect("no code panics under this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leave(left_out: u64) -> Option<Leave> {
        Some(Leave { left_out: NonZeroU64::new(left_out) })
    }

    #[test]
    fn a_few_are_written_at_once_and_then_one_a_minute_with_the_number_of_those_left_out() {
        let (allowance, began) = (Allowance::default(), Instant::now());
        let asked: Vec<_> = (0..1000).map(|_| allowance.ask(began)).collect();
        assert_eq!(asked[..5], [leave(0); 5]);
        assert_eq!(asked[5..], [None; 995]);

        assert_eq!(allowance.ask(began + EACH - Duration::from_millis(1)), None);
        assert_eq!(allowance.ask(began + EACH), leave(996));
        assert_eq!(allowance.ask(began + EACH), None);
        assert_eq!(allowance.ask(began + EACH * 2), leave(1));
        assert_eq!(allowance.ask(began + EACH * 3), leave(0));
    }

    // The trouble of the night before was another one.
    #[test]
    fn quiet_minutes_bring_the_first_few_back_and_no_more() {
        let (allowance, began) = (Allowance::default(), Instant::now());
        let written = |at: Instant| (0..10).filter(|_| allowance.ask(at).is_some()).count();
        assert_eq!(written(began), 5);
        assert_eq!(written(began + EACH * 3), 3);
        assert_eq!(written(began + EACH * 600), 5);
    }
}
