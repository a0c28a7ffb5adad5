//! What a topic holds under its lock, and how readers move through it.
//!
//! Everything that is delivered takes the next number of one count: events, the note of an outage, the end. A reader's
//! position is one number, and what is next for it is whatever comes first after that.

use std::{collections::VecDeque, sync::Arc, task::Waker};

use slab::Slab;
use tokio::time::Instant;

use super::{Cursor, Delivery, End, REPLAY_BYTES_MAX, REPLAY_EVENTS_MAX, StatusSeen, Store, phase::PhaseGauge};
use crate::{
    event::Frame,
    metrics::{CloseReason, FrameKind, Phase},
    refusal::Refusal,
};

#[derive(Debug)]
pub(super) struct Inner {
    /// Everything that is delivered takes the next number, so that one number is a reader's whole position.
    pub(super) last_seq: u64,
    pub(super) entries: VecDeque<Entry>,
    pub(super) entries_bytes: usize,
    /// The number of the last entry that fell out of the window.
    pub(super) dropped_seq: u64,
    /// The id that stands right before the window: of the last entry that fell out of it, or the one behind which the app
    /// was asked to begin. Whoever comes back with it has missed nothing that is not there.
    pub(super) before_window: Option<Box<str>>,
    pub(super) greeting: Vec<Entry>,
    /// The source's stream began anew: the next event starts a new greeting.
    pub(super) greeting_is_old: bool,
    /// The note of the outage that is going on, if subscribers are told.
    pub(super) notice: Option<Entry>,
    pub(super) end: Option<(u64, End)>,
    pub(super) refusal: Option<Arc<Refusal>>,
    pub(super) phase: PhaseGauge,
    /// The app has spoken, or is known to be in trouble, since the last subscriber who needed to know came.
    pub(super) settled: bool,
    pub(super) checked_at: Option<Instant>,
    pub(super) status: Option<StatusSeen>,
    pub(super) waiting: Slab<Waker>,
    /// Grows with every wake-up, which empties `waiting`: a key from before it is void.
    pub(super) wakes: u64,
}

/// Something published, with its place in the order.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) seq: u64,
    pub(super) id: Option<Box<str>>,
    pub(super) frame: Frame,
    pub(super) at: Instant,
}

// === impl Inner ===

impl Inner {
    pub(super) fn is_spent(&self) -> bool {
        self.refusal.is_some() || matches!(&self.end, Some((_, end)) if !end.finished)
    }

    pub(super) fn newest_seq(&self) -> u64 {
        self.entries.back().map_or(0, |entry| entry.seq)
    }

    pub(super) fn next_seq(&mut self) -> u64 {
        self.last_seq += 1;
        self.last_seq
    }

    /// Lets those in who wait for the app's word. All others are woken by news only: a topic is polled for hours, and a
    /// wake-up for each answer would be one for each subscriber.
    pub(super) fn settle(&mut self) {
        if !std::mem::replace(&mut self.settled, true) {
            self.wake();
        }
    }

    /// The app answered: an outage, if there was one, is over, and its note with it.
    /// True when subscribers had been told of one.
    pub(super) fn recovered(&mut self, at: Instant) -> bool {
        self.settle();
        self.checked_at = Some(at);
        self.phase.set(Phase::Live);
        self.notice.take().is_some()
    }

    /// Gives the latest state a new place in the order: whoever was told of the outage must see that it is over, also when
    /// nothing has changed meanwhile.
    pub(super) fn tell_again(&mut self, at: Instant) {
        let seq = self.next_seq();
        if let Some(latest) = self.entries.back_mut() {
            latest.seq = seq;
            latest.at = at;
        }
        self.wake();
    }

    /// False when the event belongs to the greeting and has no room in it.
    pub(super) fn greet(&mut self, entry: &Entry, greeting: usize) -> bool {
        if std::mem::take(&mut self.greeting_is_old) {
            self.greeting.clear();
        }
        // The greeting is bounded in bytes like the window, or a few huge first events would stay for ever.
        let bytes: usize = self.greeting.iter().map(|entry| entry.frame.len()).sum();
        if self.greeting.len() >= greeting {
            return true;
        }
        let fits = bytes + entry.frame.len() <= REPLAY_BYTES_MAX;
        if fits {
            self.greeting.push(entry.clone());
        }
        fits
    }

    /// Keeps the window within its bounds, but always the newest event.
    pub(super) fn trim(&mut self) {
        while self.entries.len() > 1
            && (self.entries.len() > REPLAY_EVENTS_MAX || self.entries_bytes > REPLAY_BYTES_MAX)
        {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.entries_bytes -= oldest.frame.len();
            self.dropped_seq = oldest.seq;
            self.before_window = oldest.id;
        }
    }

    pub(super) fn news(&self, cursor: &mut Cursor, store: Store) -> Option<Delivery> {
        if self.refusal.is_some() {
            return Some(Delivery::End(End { frame: None, reason: CloseReason::Denied, finished: false }));
        }
        self.next_for(cursor, store)
    }

    fn next_for(&self, cursor: &mut Cursor, store: Store) -> Option<Delivery> {
        let (next, end) = cursor.greeting;
        if next < end {
            cursor.greeting.0 += 1;
            // The greeting may have begun anew, and be shorter, since this reader came; then it misses nothing by it.
            if let Some(entry) = self.greeting.get(next).filter(|entry| entry.seq <= cursor.joined_at) {
                return Some(entry.delivery(FrameKind::Replay));
            }
            cursor.greeting.0 = end;
        }
        if matches!(store, Store::Log { .. }) && cursor.seq < self.dropped_seq {
            return Some(Delivery::Lagged);
        }
        let first = self.entries.partition_point(|entry| entry.seq <= cursor.seq);
        let entry = self.entries.get(first);
        let notice = self.notice.as_ref().filter(|notice| notice.seq > cursor.seq);
        let end = self.end.as_ref().filter(|(seq, _)| *seq > cursor.seq);

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

    pub(super) fn wait(&mut self, waker: &Waker, cursor: &mut Cursor) {
        if let Some((wakes, key)) = cursor.waiter
            && wakes == self.wakes
            && let Some(waiting) = self.waiting.get_mut(key)
        {
            waiting.clone_from(waker);
            return;
        }
        cursor.waiter = Some((self.wakes, self.waiting.insert(waker.clone())));
    }

    pub(super) fn forget(&mut self, cursor: &mut Cursor) {
        if let Some((wakes, key)) = cursor.waiter.take()
            && wakes == self.wakes
        {
            self.waiting.try_remove(key);
        }
    }

    pub(super) fn wake(&mut self) {
        self.wakes += 1;
        // A waker only marks a task as ready: none runs the subscriber here, under the lock.
        for waker in self.waiting.drain() {
            waker.wake();
        }
    }
}

// === impl Entry ===

impl Entry {
    pub(super) fn delivery(&self, kind: FrameKind) -> Delivery {
        Delivery::Frame { frame: self.frame.clone(), kind, at: self.at }
    }
}
