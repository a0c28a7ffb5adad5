//! What clients hear, counted: numbers in their order, and how late they came.

use hdrhistogram::Histogram;

use super::{
    protocol::Tally,
    wire::{Heard, Wire},
};
use crate::payload::Stamp;

/// The event that is on its way to all clients.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) seq: u64,
    pub(super) received: u64,
    pub(super) latency: Histogram<u32>,
}

/// The streams that are being opened.
#[derive(Debug)]
pub(super) struct Joining {
    /// Those that have had their first event.
    pub(super) joined: usize,
    pub(super) to_first_event: Histogram<u32>,
}

/// Where what a client hears goes.
pub(super) struct Ear<'a> {
    pub(super) last: &'a mut u64,
    pub(super) began: u64,
    pub(super) now: u64,
    pub(super) joining: Option<&'a mut Joining>,
    pub(super) round: &'a mut Round,
    pub(super) tally: &'a mut Tally,
    pub(super) latency: &'a mut Histogram<u32>,
}

/// Reads bytes off a stream; false if they are not those of one.
pub(super) fn listen(wire: &mut Wire, bytes: &[u8], mut ear: Ear<'_>) -> bool {
    let fed = wire.feed(bytes, |heard| match heard {
        Heard::Beat => ear.tally.beats += 1,
        Heard::Odd => ear.tally.odd += 1,
        Heard::Event(stamp) => ear.event(stamp),
    });
    fed.is_ok()
}

impl Ear<'_> {
    fn event(&mut self, Stamp { seq, at }: Stamp) {
        if *self.last == 0 {
            *self.last = seq;
            if let Some(joining) = &mut self.joining {
                joining.joined += 1;
                joining.to_first_event.saturating_record(micros(self.now, self.began));
            }
            return;
        }
        self.tally.events += 1;
        match seq.cmp(&(*self.last + 1)) {
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Greater => self.tally.lost += seq - *self.last - 1,
            std::cmp::Ordering::Less if seq == *self.last => return self.tally.doubled += 1,
            std::cmp::Ordering::Less => return self.tally.reordered += 1,
        }
        *self.last = seq;
        let latency = micros(self.now, at);
        self.latency.saturating_record(latency);
        if seq > self.round.seq {
            self.round.seq = seq;
            self.round.received = 0;
            self.round.latency.reset();
        }
        if seq == self.round.seq {
            self.round.received += 1;
            self.round.latency.saturating_record(latency);
        }
    }
}

fn micros(later: u64, earlier: u64) -> u64 {
    (later.saturating_sub(earlier) / 1_000).max(1)
}

/// Microseconds, up to a minute, with three digits.
pub(crate) fn histogram() -> Histogram<u32> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are in order")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(seqs: &[u64]) -> Tally {
        let mut round = Round { seq: 0, received: 0, latency: histogram() };
        let (mut tally, mut latency, mut last) = (Tally::default(), histogram(), 0);
        for seq in seqs {
            let mut ear = Ear {
                last: &mut last,
                began: 0,
                now: 2_000,
                joining: None,
                round: &mut round,
                tally: &mut tally,
                latency: &mut latency,
            };
            ear.event(Stamp { seq: *seq, at: 1_000 });
        }
        tally
    }

    // The exit status hangs on these counts.
    #[test]
    fn what_is_missing_twice_there_or_late_is_counted_as_such() {
        let counts = |tally: &Tally| (tally.events, tally.lost, tally.doubled, tally.reordered);
        assert_eq!(counts(&heard(&[5, 6, 7])), (2, 0, 0, 0), "the first is what was there before");
        assert_eq!(counts(&heard(&[1, 2, 5, 6])), (3, 2, 0, 0));
        assert_eq!(counts(&heard(&[1, 2, 2, 3])), (3, 0, 1, 0));
        assert_eq!(counts(&heard(&[1, 3, 2, 4])), (3, 1, 0, 1));
    }
}
