//! What the dashboard shows of all open streams: how many there are, the oldest, and those whose clients make us wait.
//!
//! A survey is a walk over all streams each second, so it takes next to nothing from each: two times that are known
//! already. The kernel is asked only about the few that are shown, and those of which one is likely to be.

use std::{cmp::Reverse, time::Duration};

use tokio::time::Instant;

use crate::{connections::StreamView, metrics::RouteId, shortlist::Shortlist};

/// The oldest streams are listed up to this many; the total is of all.
pub const OLDEST_MAX: usize = 100;
/// Streams whose clients have made us wait longest are listed up to this many, beside the oldest.
pub const SLOWEST_MAX: usize = 10;
/// So many that may have waited long are looked at for those. What is known without a look is since when something *may*
/// wait. A look brings that up to date, which comes when something has waited for half of the patience: where more than so
/// many streams are sent something all the time, one that has waited for less may not be among them.
const SUSPECTS_MAX: usize = 256;

/// A stream that a survey meets.
pub trait Surveyed {
    /// Its route.
    fn route(&self) -> RouteId;
    /// When it began.
    fn opened(&self) -> Instant;
    /// For how long its client has made us wait at most, without asking the kernel; `None` if it does not.
    fn waits_at_most(&self, now: Instant) -> Option<Duration>;
    /// What is shown of it; asks the kernel.
    fn view(&self, now: Instant) -> StreamView;
}

/// What is shown of many streams.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// How many there are.
    pub total: usize,
    /// The oldest, the oldest first.
    pub oldest: Vec<StreamView>,
    /// Those whose clients have made us wait longest, the worst first.
    pub slowest: Vec<StreamView>,
}

// === impl Survey ===

impl Survey {
    /// Looks at `streams`, but for those of the route `hidden`.
    pub fn of<'a, S: Surveyed + 'a>(streams: impl Iterator<Item = &'a S>, hidden: RouteId, now: Instant) -> Self {
        let (mut oldest, mut suspects) = (Shortlist::new(OLDEST_MAX), Shortlist::new(SUSPECTS_MAX));
        let mut total = 0;
        for stream in streams.filter(|stream| stream.route() != hidden) {
            total += 1;
            oldest.offer(Reverse(stream.opened()), stream);
            if let Some(waits) = stream.waits_at_most(now) {
                suspects.offer(waits, stream);
            }
        }
        let oldest = oldest.into_sorted().map(|stream| stream.view(now)).collect();
        let slowest = suspects.into_sorted().map(|stream| stream.view(now)).collect();
        let mut survey = Self { total, oldest, slowest };
        survey.shorten();
        survey
    }

    /// Adds what was found elsewhere.
    pub fn add(&mut self, other: Self) {
        let Self { total, oldest, slowest } = other;
        self.total += total;
        self.oldest.extend(oldest);
        self.slowest.extend(slowest);
        self.shorten();
    }

    fn shorten(&mut self) {
        self.oldest.sort_by_key(|stream| stream.opened);
        self.oldest.truncate(OLDEST_MAX);
        self.slowest.retain(|stream| stream.waiting_for() > Duration::ZERO);
        self.slowest.sort_by_key(|stream| Reverse(stream.waiting_for()));
        self.slowest.truncate(SLOWEST_MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    struct Stream {
        route: RouteId,
        opened: Instant,
        waits: Option<Duration>,
        looks: Cell<u32>,
    }

    impl Surveyed for Stream {
        fn route(&self) -> RouteId {
            self.route
        }

        fn opened(&self) -> Instant {
            self.opened
        }

        fn waits_at_most(&self, _now: Instant) -> Option<Duration> {
            self.waits
        }

        fn view(&self, _now: Instant) -> StreamView {
            self.looks.set(self.looks.get() + 1);
            StreamView {
                route: self.route,
                peer: [127, 0, 0, 1].into(),
                opened: self.opened,
                blocked_for: None,
                unacknowledged_for: self.waits,
            }
        }
    }

    fn streams(count: u64, began: Instant) -> Vec<Stream> {
        let stream = |n| Stream {
            route: RouteId(0),
            // Neither in the order of their age nor against it.
            opened: began + Duration::from_secs((n * 7919) % count),
            waits: (n % 2 == 0).then(|| Duration::from_millis(n)),
            looks: Cell::new(0),
        };
        (0..count).map(stream).collect()
    }

    #[test]
    fn the_oldest_and_the_slowest_are_found_in_whatever_part_they_are() {
        let began = Instant::now();
        let all = streams(1009, began);
        let (one, other) = all.split_at(300);

        let mut survey = Survey::of(one.iter(), RouteId(1), began);
        survey.add(Survey::of(other.iter(), RouteId(1), began));

        let ages: Vec<_> = survey.oldest.iter().map(|stream| (stream.opened - began).as_secs()).collect();
        assert_eq!((survey.total, ages), (1009, (0..100).collect()));
        let waits: Vec<_> = survey.slowest.iter().map(|stream| stream.waiting_for().as_millis()).collect();
        assert_eq!(waits, [1008, 1006, 1004, 1002, 1000, 998, 996, 994, 992, 990]);
    }

    // A look is a call to the kernel: ten thousand of them each second are a hundredth of a core.
    #[test]
    fn the_kernel_is_asked_about_few() {
        let began = Instant::now();
        let all = streams(10_007, began);

        Survey::of(all.iter(), RouteId(1), began);

        let looks: u32 = all.iter().map(|stream| stream.looks.get()).sum();
        assert!(looks as usize <= OLDEST_MAX + SUSPECTS_MAX, "{looks}");
    }

    #[test]
    fn what_is_hidden_is_not_counted() {
        let began = Instant::now();
        let mut all = streams(5, began);
        all[3].route = RouteId(1);

        let survey = Survey::of(all.iter(), RouteId(1), began);

        assert_eq!((survey.total, survey.oldest.len()), (4, 4));
    }
}
