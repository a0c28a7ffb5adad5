//! What a topic holds under its lock, and how readers move through it.
//!
//! Everything that is delivered takes the next number of one count: events, the note of an outage, the end. A reader's
//! position is one number, and what is next for it is whatever comes first after that.

use std::{sync::Arc, task::Waker};

use tokio::time::Instant;

use super::{
    Cursor, Delivery, End, StatusSeen, Waiter,
    kept::{Entry, Kept},
    phase::PhaseGauge,
    waiting::Waiting,
};
use crate::{
    grant::Grant,
    metrics::{CloseReason, FrameKind, Phase},
    refusal::Refusal,
};

#[derive(Debug)]
pub(super) struct Inner {
    /// Everything that is delivered takes the next number, so that one number is a reader's whole position.
    pub(super) last_seq: u64,
    pub(super) kept: Kept,
    /// The note of the outage that is going on, if subscribers are told.
    pub(super) notice: Option<Box<Entry>>,
    /// How it ended, and the end's place in the order.
    pub(super) end: Option<Box<(u64, End)>>,
    pub(super) refusal: Option<Arc<Refusal>>,
    /// What the newest good answer grants to pages of the origin that is in the topic's scope; absent where there is none.
    pub(super) grant: Option<Arc<Grant>>,
    pub(super) phase: PhaseGauge,
    /// Questions to the app, by their number: the last that was put to it; the last that it has answered, or is known to
    /// be in trouble over; the last for whose answer a subscriber waits. The first is under way from the start.
    pub(super) asked: u32,
    pub(super) answered: u32,
    pub(super) awaited: u32,
    pub(super) checked_at: Option<Instant>,
    pub(super) status: Option<Arc<StatusSeen>>,
    pub(super) waiting: Waiting,
    /// Grows with every wake-up, which empties `waiting`: a key from before it is void.
    pub(super) wakes: u64,
}

// === impl Inner ===

impl Inner {
    pub(super) fn is_spent(&self) -> bool {
        self.refusal.is_some() || self.end.as_ref().is_some_and(|end| !end.1.finished)
    }

    pub(super) fn newest_seq(&self) -> u64 {
        self.kept.newest().map_or(0, |entry| entry.seq)
    }

    pub(super) fn next_seq(&mut self) -> u64 {
        self.last_seq += 1;
        self.last_seq
    }

    /// Whether newcomers are let in at once: the app has spoken since the last of those came who needed to know.
    pub(super) fn is_settled(&self) -> bool {
        self.answered >= self.awaited || self.is_spent()
    }

    /// Whether the answer for which this reader waits has come, or the app is known to be in trouble over it.
    pub(super) fn has_answered(&self, cursor: &Cursor) -> bool {
        self.answered >= cursor.awaits || self.is_spent()
    }

    /// Whether the app has ever spoken. That it is in trouble is no word.
    pub(super) fn has_spoken(&self) -> bool {
        self.checked_at.is_some() || self.refusal.is_some()
    }

    /// Lets those in who wait for the answer that has come. All others are woken by news only: a topic is polled for hours,
    /// and a wake-up for each answer would be one for each subscriber.
    pub(super) fn settle(&mut self) {
        let was_settled = self.is_settled();
        self.answered = self.asked;
        if !was_settled {
            self.wake();
        }
    }

    /// The app answered: an outage, if there was one, is over, and its note with it.
    /// True when subscribers had been told of one.
    pub(super) fn recovered(&mut self, at: Instant) -> bool {
        self.settle();
        if self.checked_at.replace(at).is_none() {
            // Some have waited on, through trouble, for the first good answer.
            self.wake();
        }
        self.phase.set(Phase::Live);
        self.notice.take().is_some()
    }

    /// Gives the latest state a new place in the order: whoever was told of the outage must see that it is over, also when
    /// nothing has changed meanwhile.
    pub(super) fn tell_again(&mut self, at: Instant) {
        let seq = self.next_seq();
        if let Some(latest) = self.kept.newest_mut() {
            latest.seq = seq;
            latest.at = at;
        }
        self.wake();
    }

    pub(super) fn news(&self, cursor: &mut Cursor) -> Option<Delivery> {
        if self.refusal.is_some() {
            return Some(Delivery::End(End { frame: None, reason: CloseReason::Denied, finished: false }));
        }
        self.next_for(cursor)
    }

    fn next_for(&self, cursor: &mut Cursor) -> Option<Delivery> {
        let (next, end) = cursor.greeting;
        if next < end {
            cursor.greeting.0 += 1;
            // The greeting may have begun anew, and be shorter, since this reader came; then it misses nothing by it.
            let greeting = self.kept.log().and_then(|log| log.greeting.get(next as usize));
            if let Some(entry) = greeting.filter(|entry| entry.seq <= cursor.joined_at) {
                return Some(entry.delivery(FrameKind::Replay));
            }
            cursor.greeting.0 = end;
        }
        if self.kept.log().is_some_and(|log| cursor.seq < log.dropped_seq) {
            return Some(Delivery::Lagged);
        }
        let entry = self.kept.after(cursor.seq);
        let notice = self.notice.as_ref().filter(|notice| notice.seq > cursor.seq);
        let end = self.end.as_deref().filter(|(seq, _)| *seq > cursor.seq);

        // Three kinds of news, delivered in the order in which they happened.
        let entry_seq = entry.map_or(u64::MAX, |entry| entry.seq);
        let notice_seq = notice.map_or(u64::MAX, |notice| notice.seq);
        let end_seq = end.map_or(u64::MAX, |(seq, _)| *seq);
        let delivery = if entry_seq < notice_seq.min(end_seq) {
            let kind = if entry_seq <= cursor.joined_at { FrameKind::Replay } else { FrameKind::Event };
            entry.map(|entry| entry.delivery(kind))
        } else if notice_seq < end_seq {
            notice.map(|notice| notice.delivery(FrameKind::Control))
        } else {
            end.map(|(_, end)| Delivery::End(end.clone()))
        }?;
        cursor.seq = entry_seq.min(notice_seq).min(end_seq);
        Some(delivery)
    }

    pub(super) fn wait(&mut self, waker: Waker, waiter: &mut Waiter) {
        if let Some((wakes, key)) = waiter.0
            && wakes == self.wakes
            && let Some(waiting) = self.waiting.get_mut(key)
        {
            *waiting = waker;
            return;
        }
        waiter.0 = Some((self.wakes, self.waiting.insert(waker)));
    }

    pub(super) fn forget(&mut self, waiter: &mut Waiter) {
        if let Some((wakes, key)) = waiter.0.take()
            && wakes == self.wakes
        {
            self.waiting.remove(key);
        }
    }

    pub(super) fn wake(&mut self) {
        self.wakes += 1;
        // A waker only marks a task as ready: none runs the subscriber here, under the lock.
        self.waiting.wake();
    }
}
