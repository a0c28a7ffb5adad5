//! One live thing to watch: the latest state or the recent events of one source, and the subscribers that wait for more.
//!
//! A topic knows no HTTP. Its source writes through it (`snapshot`, `event`, `trouble`, `end` …; in `writer`), its
//! subscribers read through a [`Cursor`] (in `reader`): a position, not a queue, so a slow reader costs a number. What a
//! reader gets depends on the [`Store`]: of *state* the latest, of a *log* every event in order, once, or
//! [`Delivery::Lagged`].
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
    time::Duration,
};

use http::uri::PathAndQuery;
use tokio::time::Instant;

mod glimpse;
mod inner;
mod kept;
mod phase;
mod reader;
mod status_seen;
mod waiting;
mod writer;

pub use self::{
    glimpse::{Glance, Glimpse},
    reader::{Cursor, Delivery, Resumed, Settled, Waiter},
    status_seen::StatusSeen,
};
use self::{
    inner::Inner,
    kept::{Id, Kept},
    phase::PhaseGauge,
    waiting::Waiting,
};
use crate::{
    event::Frame,
    grant::Grant,
    metrics::{CloseReason, Metrics, Phase, RouteId},
    scope::{Lenders, Scope},
};

/// Events that a log keeps for those who come back with a `Last-Event-ID`.
pub const REPLAY_EVENTS_MAX: usize = 1024;
/// Bytes of events that a log keeps, beside the newest one: with the default 10,000 topics at most 2.5 GiB, and in
/// practice, with events of some hundred bytes, the count above is reached first.
pub const REPLAY_BYTES_MAX: usize = 256 * 1024;
/// What was published within this time is kept beyond these bounds: an app that sends a history in one go is faster than
/// any shard and any client's line, and who reads as fast as it can must not fall out of the window for that.
pub const BURST: Duration = Duration::from_secs(10);
/// By how much a burst may exceed the bounds: 2 MiB and 8,192 events.
const BURST_FACTOR: usize = 8;

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
            grant: None,
            phase,
            asked: 1,
            answered: 0,
            awaited: 1,
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

    /// What the app grants to pages of the origin that the topic is for, by its newest good answer.
    pub fn grant(&self) -> Option<Arc<Grant>> {
        self.lock().grant.clone()
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
}

#[cfg(test)]
mod tests;
