//! The streams of one topic in one shard: woken together, and kept alive together.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

use tokio::time::Instant;

use super::{Inbox, Order};
use crate::{
    stream::body::Pacing,
    topic::{Topic, Waiter},
};

/// A group's place in the slab, and which group of that place it is: a wake-up may arrive after the group has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupKey {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// What a walk over a group's members does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Round {
    /// Everybody gets what is new.
    Deliver,
    /// Everybody who has nothing else coming gets a heartbeat.
    Heartbeat,
}

/// The streams of one topic.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) key: GroupKey,
    pub(super) topic: Arc<Topic>,
    /// Holds the place of the group's waker in the topic.
    listener: Waiter,
    signal: Arc<Signal>,
    /// Places of the members in the shard's slab; each entry knows its index here.
    pub(super) members: Vec<u32>,
    /// A walk in progress: what it does, and how many members from the front it has still to see. It goes downwards, so
    /// that a member that leaves, whose index the last one takes, can't make it pass over anybody.
    pub(super) walk: Option<(Round, usize)>,
    /// Something new came while a walk was on its way.
    pub(super) again: bool,
    pub(super) pacing: Arc<Pacing>,
    pub(super) heartbeat_at: Instant,
    /// The topic's newest thing when the members last got what is new.
    newest: u64,
}

/// What wakes a group's shard: at most one order is on its way at a time.
#[derive(Debug)]
struct Signal {
    inbox: Arc<Inbox>,
    key: GroupKey,
    is_sent: AtomicBool,
}

// === impl Group ===

impl Group {
    pub(super) fn new(key: GroupKey, topic: Arc<Topic>, inbox: Arc<Inbox>, pacing: Arc<Pacing>, now: Instant) -> Self {
        let signal = Arc::new(Signal { inbox, key, is_sent: AtomicBool::new(false) });
        let heartbeat_at = now + pacing.heartbeat;
        let mut group = Self {
            key,
            topic,
            listener: Waiter::default(),
            signal,
            members: Vec::new(),
            walk: None,
            again: false,
            pacing,
            heartbeat_at,
            newest: 0,
        };
        group.listen();
        group.has_news();
        group
    }

    /// Whether the topic has more to deliver than it had when this was last asked.
    pub(super) fn has_news(&mut self) -> bool {
        let newest = self.topic.newest();
        std::mem::replace(&mut self.newest, newest) != newest
    }

    /// When the members were last sent something, as far as the time of their next heartbeat tells; who came later, got
    /// it when it came.
    pub(super) fn sent_at(&self) -> Option<Instant> {
        self.heartbeat_at.checked_sub(self.pacing.heartbeat)
    }

    /// Asks the topic to wake us at the next thing. Before the members look, so that nothing falls in between.
    pub(super) fn listen(&mut self) {
        self.signal.is_sent.store(false, Ordering::Release);
        self.topic.listen(Waker::from(Arc::clone(&self.signal)), &mut self.listener);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.topic.forget(&mut self.listener);
    }
}

// === impl Signal ===

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_sent.swap(true, Ordering::AcqRel) {
            // A shard that is no more has nobody to tell.
            let _ = self.inbox.send(Order::Woken(self.key));
        }
    }
}

#[cfg(test)]
mod tests;
