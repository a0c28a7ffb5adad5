//! One live thing to watch: the latest state or the recent events of one source, and the subscribers that wait for more.
//!
//! A topic knows no HTTP. Its source writes through it (`snapshot`, `event`, `trouble`, `end` …), its subscribers read
//! through a [`Cursor`]: a position, not a queue, so a slow reader costs a number. What a reader gets depends on the
//! [`Store`]: of *state* the latest, of a *log* every event in order, once, or [`Delivery::Lagged`].
//!
//! Life of a topic, as its subscribers see it:
//!
//! ```text
//! starting ──snapshot/event──▶ live ◀──▶ degraded     (the app is in trouble; streams stay)
//!     │                          │          │
//!     ├──trouble──▶ degraded     └──end─────┴──▶ ended ──unsettle + snapshot──▶ live   (a retried job)
//!     └──refuse──▶ dead: the hub makes a new topic for the next subscriber
//! ```

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

use http::uri::PathAndQuery;
use tokio::time::Instant;

mod glimpse;
mod inner;
mod kept;
mod phase;
mod waiting;

pub use self::glimpse::{Glance, Glimpse};
use self::{
    inner::Inner,
    kept::{Entry, Id, Kept},
    phase::PhaseGauge,
    waiting::Waiting,
};
use crate::{
    event::{self, Frame},
    metrics::{CloseReason, FrameKind, Metrics, Phase, RouteId},
    refusal::Refusal,
    scope::{Lenders, Scope},
};

/// Events that a log keeps for those who come back with a `Last-Event-ID`.
pub const REPLAY_EVENTS_MAX: usize = 1024;
/// Bytes of events that a log keeps, beside the newest one: with the default 10,000 topics at most 2.5 GiB, and in
/// practice, with events of some hundred bytes, the count above is reached first.
pub const REPLAY_BYTES_MAX: usize = 256 * 1024;

/// What makes two requests watch the same thing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicKey {
    /// The route.
    pub route: RouteId,
    /// The route's target with its parameters filled in: path and query at the app.
    pub target: Box<str>,
    /// Whose it is.
    pub scope: Scope,
}

impl TopicKey {
    /// The target, to be asked for.
    pub fn path_and_query(&self) -> PathAndQuery {
        PathAndQuery::try_from(&*self.target).expect("a topic's key holds a target that was filled in")
    }
}

/// How a topic keeps what its source publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Only the latest matters: a polled status.
    State,
    /// Every event matters: a stream of the app.
    Log {
        /// Newcomers get the last event.
        latest: bool,
        /// So many first events of the app's stream are given to every newcomer.
        greeting: usize,
    },
}

/// One live topic.
#[derive(Debug)]
pub struct Topic {
    key: Arc<TopicKey>,
    store: Store,
    metrics: Arc<Metrics>,
    lenders: Lenders,
    /// Written by the source, read by every subscriber. Wakers run under it, and that of a group takes the lock of its
    /// shard's inbox; so nobody who holds an inbox may ask a topic anything.
    inner: Mutex<Inner>,
}

/// How a topic ended.
#[derive(Clone, Debug)]
pub struct End {
    /// The last event, if there is one to tell: `done` or `gone`.
    pub frame: Option<Frame>,
    /// What the streams' ends are counted as.
    pub reason: CloseReason,
    /// The job came to its own end: whoever has seen the last event needs nothing more (204).
    pub finished: bool,
}

/// The status field that was found, for people: the pointer, and the last values as the app wrote them. Most topics of a
/// route have the same past, and share this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusSeen {
    /// JSON pointer.
    pub pointer: String,
    /// The last different values, shortened, the newest last; there is one at least.
    values: Box<[Arc<str>]>,
}

/// So many values are kept of each topic.
const VALUES_MAX: usize = 8;

/// A reader's place in a topic.
#[derive(Debug, Default)]
pub struct Cursor {
    seq: u64,
    /// The newest entry when this reader joined: up to here is its past, of which it gets what newcomers get, as a replay.
    /// Whatever comes after is news to it, even while it still waits to be let in.
    joined_at: u64,
    /// The next greeting to deliver, and where greetings end for this reader.
    greeting: (usize, usize),
    /// Where its waker stands.
    pub(crate) waiter: Waiter,
}

/// The place of a waker in a topic, if it has one, and the count of wakes that keeps it valid.
#[derive(Debug, Default)]
pub struct Waiter(Option<(u64, usize)>);

/// What a reader gets next.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// A frame to send.
    Frame {
        /// The encoded event, shared by all readers.
        frame: Frame,
        /// What it is counted as.
        kind: FrameKind,
        /// When the app's answer was read.
        at: Instant,
    },
    /// The topic is over.
    End(End),
    /// The reader fell out of the replay window.
    Lagged,
}

/// Where a newcomer stands, once the app has spoken.
#[derive(Debug)]
pub enum Settled {
    /// Open the stream.
    Open,
    /// The app decided against it, and its words go to the client.
    Refused(Arc<Refusal>),
}

/// How a reader that came with a `Last-Event-ID` was placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumed {
    /// It has nothing of this topic; it gets what newcomers get.
    New,
    /// It goes on where it stopped.
    Here,
    /// It has the end already, and needs nothing more.
    Finished,
}

/// What the admin side shows of a topic.
#[derive(Clone, Debug)]
pub struct TopicView {
    /// The phase.
    pub phase: Phase,
    /// When the app last confirmed the data.
    pub checked_at: Option<Instant>,
    /// The status field found.
    pub status: Option<Arc<StatusSeen>>,
}

/// Where a client stands that has seen the event `id` of `target` as its last; equal for those who stand alike, whoever
/// they are.
pub fn standing(target: &str, id: &str) -> u64 {
    standing_at(target, &Id::new(id))
}

fn standing_at(target: &str, id: &Id) -> u64 {
    let mut hasher = DefaultHasher::new();
    (target, id).hash(&mut hasher);
    hasher.finish()
}

// === impl StatusSeen ===

impl StatusSeen {
    /// `value` at `pointer`, after what was there `before`.
    pub fn after(before: Option<&Self>, pointer: &str, value: &str) -> Self {
        let earlier = before.map_or(&[][..], |before| &before.values);
        let mut values: Vec<_> = earlier.iter().filter(|earlier| ***earlier != *value).cloned().collect();
        values.drain(..values.len().saturating_sub(VALUES_MAX - 1));
        values.push(value.into());
        Self { pointer: pointer.to_owned(), values: values.into() }
    }

    /// The last value.
    pub fn value(&self) -> &str {
        self.values.last().expect("there is one at least")
    }

    /// The last different values, the newest last.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(|value| &**value)
    }
}

// === impl Topic ===

impl Topic {
    /// A topic about which nothing is known yet.
    pub fn new(key: Arc<TopicKey>, store: Store, lenders: Lenders, metrics: Arc<Metrics>) -> Arc<Self> {
        let phase = PhaseGauge::new(Arc::clone(&metrics), key.route);
        let inner = Inner {
            last_seq: 0,
            kept: Kept::new(store),
            notice: None,
            end: None,
            refusal: None,
            phase,
            settled: false,
            checked_at: None,
            status: None,
            waiting: Waiting::default(),
            wakes: 0,
        };
        Arc::new(Self { key, store, metrics, lenders, inner: Mutex::new(inner) })
    }

    /// What makes it this topic.
    pub fn key(&self) -> &Arc<TopicKey> {
        &self.key
    }

    /// Where it lies: tells it from every other topic that lives, also from those of another hub.
    pub fn addr(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// A short keyed hash that names it on the admin side without telling whose it is or what it is about.
    pub fn short_name(&self) -> String {
        self.key.scope.name(&self.key.target)
    }

    /// How it keeps what is published.
    pub fn store(&self) -> Store {
        self.store
    }

    /// Whose credentials its source may use.
    pub fn lenders(&self) -> &Lenders {
        &self.lenders
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code panics under this lock")
    }

    /// The app is asked to begin behind the event `id`, which a client has. To be called before anybody has joined.
    pub fn begins_after(&self, id: &str) {
        if let Some(log) = self.lock().kept.log_mut() {
            log.before_window = Id::new(id);
        }
    }

    // --- written by the source ---

    /// The job's latest status, and its end if this is the last. The same id again only confirms it. True when
    /// subscribers get something new.
    pub fn snapshot(&self, id: &str, frame: Frame, at: Instant, end: Option<End>) -> bool {
        let mut inner = self.lock();
        let was_told = inner.recovered(at);
        let known = inner.kept.newest().is_some_and(|entry| entry.id.is(id));
        if !known {
            let seq = inner.next_seq();
            // State, not a log: only the newest is kept, so a reader that was away gets the latest.
            inner.kept.replace(Entry { seq, id: Id::new(id), frame, at });
            self.metrics.route(self.key.route).events_published.inc();
            inner.end = None;
        } else if was_told {
            inner.tell_again(at);
        }
        let mut is_news = !known;
        match end {
            // The same end again keeps its place: whoever got it is not told twice.
            Some(end) if inner.end.is_none() => {
                let seq = inner.next_seq();
                inner.end = Some(Box::new((seq, end)));
                is_news = true;
            }
            Some(_) => {}
            None => inner.end = None,
        }
        if inner.end.is_some() {
            inner.phase.set(Phase::Ended);
        }
        if is_news {
            inner.wake();
        }
        !known
    }

    /// One event of the app's stream, with the id it carries on our wire.
    pub fn event(&self, id: Option<&str>, frame: Frame, at: Instant) {
        let mut inner = self.lock();
        inner.recovered(at);
        let seq = inner.next_seq();
        let entry = Entry { seq, id: id.map_or(Id::None, Id::new), frame, at };
        let greeting = match self.store {
            Store::State => 0,
            Store::Log { greeting, .. } => greeting,
        };
        if !inner.kept.push(entry, greeting) {
            self.metrics.route(self.key.route).greeting_cuts.inc();
        }
        self.metrics.route(self.key.route).events_published.inc();
        inner.wake();
    }

    /// The app answered as expected, with nothing new.
    pub fn confirm(&self) {
        let mut inner = self.lock();
        let now = Instant::now();
        if inner.recovered(now) && self.store == Store::State {
            inner.tell_again(now);
        }
    }

    /// The app answered that a job which is over still is.
    pub fn confirm_ended(&self) {
        let mut inner = self.lock();
        inner.settle();
        inner.checked_at = Some(Instant::now());
    }

    /// A new stream of the app begins; its first events are a new greeting.
    pub fn stream_began(&self) {
        let mut inner = self.lock();
        if let Some(log) = inner.kept.log_mut() {
            log.begin_greeting();
        }
        inner.recovered(Instant::now());
    }

    /// The app is in trouble. Streams stay open, and are told once per outage if there is a `notice`.
    pub fn trouble(&self, notice: Option<Frame>) {
        let mut inner = self.lock();
        inner.settle();
        // A job that is over stays so: whoever comes back to it gets its end as it was.
        if !matches!(inner.phase.current(), Phase::Degraded | Phase::Ended) {
            inner.phase.set(Phase::Degraded);
            inner.notice = None;
            if let Some(frame) = notice {
                let seq = inner.next_seq();
                inner.notice = Some(Box::new(Entry { seq, id: Id::None, frame, at: Instant::now() }));
                inner.wake();
            }
        }
    }

    /// The app decided against whoever asks. Nobody gets data from this topic any more.
    pub fn refuse(&self, refusal: Refusal) {
        let mut inner = self.lock();
        inner.refusal = Some(Arc::new(refusal));
        inner.settled = true;
        inner.phase.set(Phase::Ended);
        inner.wake();
    }

    /// It is over; subscribers get what is left and then `end`.
    pub fn end(&self, end: End) {
        let mut inner = self.lock();
        inner.settled = true;
        inner.notice = None;
        inner.phase.set(Phase::Ended);
        inner.checked_at = Some(Instant::now());
        let seq = inner.next_seq();
        inner.end = Some(Box::new((seq, end)));
        inner.wake();
    }

    /// The job is over, by another sign than its status: subscribers are told `done` with the latest status.
    pub fn finish(&self) {
        let frame = self.lock().kept.newest().map(|entry| event::done(&entry.frame));
        self.end(End { frame, reason: CloseReason::Done, finished: true });
    }

    /// What is known is too old for a newcomer: the source asks again, and newcomers wait for it.
    pub fn unsettle(&self) {
        self.lock().settled = false;
    }

    /// Whether newcomers are let in at once.
    pub fn is_settled(&self) -> bool {
        self.lock().settled
    }

    /// The status field found.
    pub fn status(&self) -> Option<Arc<StatusSeen>> {
        self.lock().status.clone()
    }

    /// Remembers the status field found, for people.
    pub fn status_seen(&self, status: Option<Arc<StatusSeen>>) {
        self.lock().status = status;
    }

    /// Wakes all subscribers to look at what else concerns them: a lender was denied.
    pub fn nudge(&self) {
        self.lock().wake();
    }

    // --- asked by the hub and the source ---

    /// Over, or refused: no event will come unless the source asks again.
    pub fn is_ended(&self) -> bool {
        self.lock().phase.current() == Phase::Ended
    }

    /// Nothing can come of it any more: the next subscriber needs a new topic.
    pub fn is_dead(&self) -> bool {
        let inner = self.lock();
        inner.is_spent() || (inner.end.is_some() && matches!(self.store, Store::Log { .. }))
    }

    /// Refused, gone or denied: not even worth keeping for those who come back to it.
    pub fn is_spent(&self) -> bool {
        self.lock().is_spent()
    }

    /// The id a client that has seen everything would come back with, once the topic is over by itself.
    pub fn is_finished_by(&self, last_event_id: &str) -> bool {
        let inner = self.lock();
        inner.end.as_ref().is_some_and(|end| end.1.finished)
            && inner.kept.newest().is_some_and(|entry| entry.id.is(last_event_id))
    }

    /// Where whoever has seen everything stands, if it could come back there.
    pub fn standing(&self) -> Option<u64> {
        let inner = self.lock();
        let id = inner.kept.newest().map(|entry| &entry.id).filter(|id| **id != Id::None)?;
        Some(standing_at(&self.key.target, id))
    }

    /// What the admin side shows.
    pub fn view(&self) -> TopicView {
        let inner = self.lock();
        TopicView { phase: inner.phase.current(), checked_at: inner.checked_at, status: inner.status.clone() }
    }

    // --- read by subscribers ---

    /// A number that grows with everything that readers get, and with nothing else.
    pub fn newest(&self) -> u64 {
        self.lock().last_seq
    }

    /// A reader that is there from now on; to be placed when it is let in.
    pub fn join(&self) -> Cursor {
        Cursor { joined_at: self.lock().newest_seq(), ..Cursor::default() }
    }

    /// Ready when the app has spoken, or is known to be in trouble.
    pub fn poll_settled(&self, cx: &mut Context<'_>, cursor: &mut Cursor) -> Poll<Settled> {
        let mut inner = self.lock();
        if !inner.settled {
            inner.wait(cx.waker().clone(), &mut cursor.waiter);
            return Poll::Pending;
        }
        Poll::Ready(match &inner.refusal {
            Some(refusal) => Settled::Refused(Arc::clone(refusal)),
            None => Settled::Open,
        })
    }

    /// Places a newcomer. An id that is not known here is no error: it is a newcomer like any other.
    pub fn place(&self, cursor: &mut Cursor, last_event_id: Option<&str>) -> Resumed {
        let inner = self.lock();
        let wanted = last_event_id.filter(|id| !id.is_empty());
        let known = wanted.and_then(|id| inner.kept.find(id));
        if known.is_none()
            && let (Some(id), Some(log)) = (wanted, inner.kept.log())
            && log.before_window.is(id)
        {
            cursor.seq = log.dropped_seq;
            return Resumed::Here;
        }
        if let Some(seen) = known {
            let is_last = inner.kept.newest().is_some_and(|last| last.seq == seen.seq);
            cursor.seq = seen.seq;
            let over = inner.end.as_ref().is_some_and(|end| end.1.finished);
            return if is_last && over { Resumed::Finished } else { Resumed::Here };
        }
        if let Store::Log { latest, .. } = self.store
            && let Some(log) = inner.kept.log()
        {
            if last_event_id.is_some_and(|id| !id.is_empty()) {
                self.metrics.route(self.key.route).replay_misses.inc();
            }
            let newest = cursor.joined_at;
            cursor.greeting = (0, log.greeting.partition_point(|entry| entry.seq <= newest));
            let greeted = log.greeting[..cursor.greeting.1].last().map_or(0, |entry| entry.seq);
            // One before the newest event, if that is wanted and is not a greeting already.
            cursor.seq = if latest && newest > greeted { newest - 1 } else { newest };
        }
        Resumed::New
    }

    /// The next thing for a reader, or its waker is kept until there is one.
    pub fn poll_next(&self, cx: &mut Context<'_>, cursor: &mut Cursor) -> Poll<Delivery> {
        let mut inner = self.lock();
        match inner.news(cursor) {
            Some(delivery) => Poll::Ready(delivery),
            None => {
                inner.wait(cx.waker().clone(), &mut cursor.waiter);
                Poll::Pending
            }
        }
    }

    /// The next thing for a reader, if there is one.
    pub fn try_next(&self, cursor: &mut Cursor) -> Option<Delivery> {
        self.lock().news(cursor)
    }

    /// The newest event, if it is all that readers who are nearly up to date can be told.
    pub fn glimpse(&self) -> Option<Glimpse> {
        Glimpse::of(self.addr(), &self.lock())
    }

    /// Keeps a waker for the next wake-up, on behalf of several readers that are woken together.
    pub fn listen(&self, waker: Waker, listener: &mut Waiter) {
        self.lock().wait(waker, listener);
    }

    /// A reader leaves: its waker goes.
    pub fn forget(&self, waiter: &mut Waiter) {
        self.lock().forget(waiter);
    }
}

#[cfg(test)]
mod tests;
