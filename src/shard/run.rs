//! A shard's loop: what its sockets say, what it is told, what its groups have to deliver, what is due.
//!
//! Here the streams are held, and one thing follows another. What the loop finds to do is in `adopt`, `walk` and `tick`.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use mio::{Events, Token};
use slab::Slab;
use tokio::time::Instant;
use tracing::{error, warn};

mod adopt;
mod tick;
mod walk;

use super::{
    Inbox, Order,
    account::Direct,
    entry::{Entry, Served},
    group::{Group, GroupKey},
};
use crate::{
    connections::Limits,
    metrics::{CloseReason, Metrics},
    survey::Survey,
};

/// The token of the inbox; streams have their place in the slab.
pub(super) const WAKER: Token = Token(usize::MAX);
/// Streams adopted before the shard looks at the others again: when thousands come back in the same second, their heads
/// and first blocks are some ten microseconds each, and news must not wait for all of them.
const NEWCOMERS: usize = 128;
/// Socket events taken at once.
const EVENTS: usize = 1024;

/// One shard; owned by its thread.
pub(super) struct Shard {
    poll: mio::Poll,
    inbox: Arc<Inbox>,
    limits: Limits,
    metrics: Arc<Metrics>,
    /// Orders to adopt that had to wait, in the order in which they came.
    newcomers: VecDeque<Order>,
    entries: Slab<Entry>,
    /// Boxed, since groups are as many as topics, and a slab that has just doubled has room for twice as many.
    groups: Slab<Box<Group>>,
    /// Groups by the address of their topic.
    by_topic: HashMap<usize, usize>,
    generation: u32,
    /// Groups with a walk to do, in turn.
    walks: VecDeque<GroupKey>,
    /// Groups by the time of their next heartbeat.
    heartbeats: BTreeSet<(Instant, usize)>,
    next_tick: Instant,
    /// Ticks so far: which part of the slab the sweep looks at in this one.
    ticks: usize,
    stopped: bool,
}

// === impl Shard ===

impl Shard {
    pub(super) fn new(poll: mio::Poll, inbox: Arc<Inbox>, limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            poll,
            inbox,
            limits,
            metrics,
            newcomers: VecDeque::new(),
            entries: Slab::new(),
            groups: Slab::new(),
            by_topic: HashMap::new(),
            generation: 0,
            walks: VecDeque::new(),
            heartbeats: BTreeSet::new(),
            next_tick: Instant::now(),
            ticks: 0,
            stopped: false,
        }
    }

    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        while !self.stopped {
            let wait = self.wait(Instant::now());
            match self.poll.poll(&mut events, wait) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    warn!(%error, "a shard's epoll failed; its streams end");
                    return;
                }
            }
            self.turn(&events, Instant::now());
        }
    }

    /// One turn of the loop.
    fn turn(&mut self, events: &Events, now: Instant) {
        for event in events {
            if event.token() != WAKER {
                self.on_socket(event.token().0, event, now);
            }
        }
        let mut orders = self.inbox.take();
        // Those who ask for a survey, say, see who came before them.
        self.newcomers.extend(orders.extract_if(.., |order| matches!(order, Order::Adopt(_))));
        for _ in 0..NEWCOMERS {
            let Some(order) = self.newcomers.pop_front() else { break };
            self.on_order(order, now);
        }
        for order in orders {
            self.on_order(order, now);
        }
        self.start_heartbeats(now);
        self.walk(now);
        if self.next_tick <= now {
            self.tick(now);
        }
    }

    /// How long the loop may sleep.
    fn wait(&self, now: Instant) -> Option<Duration> {
        if !self.walks.is_empty() || !self.newcomers.is_empty() {
            return Some(Duration::ZERO);
        }
        if self.entries.is_empty() {
            return None;
        }
        let heartbeat = self.heartbeats.first().map_or(self.next_tick, |(at, _)| *at);
        Some(self.next_tick.min(heartbeat).saturating_duration_since(now))
    }

    fn on_order(&mut self, order: Order, now: Instant) {
        match order {
            Order::Adopt(adopted) => self.adopt(*adopted, now),
            Order::Woken(key) => self.woken(key, now),
            Order::Drain(time) => self.drain(time, now),
            Order::Survey(hidden, tell) => {
                // Whoever asked may have gone.
                let _ = tell.send(Survey::of(self.entries.iter().map(|(_, entry)| entry), hidden, now));
            }
            Order::Stop => self.stopped = true,
        }
    }

    fn on_socket(&mut self, key: usize, event: &mio::event::Event, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        // The peer's end is asked for by itself: bytes that were not read to the end may stand in front of it.
        let is_over = event.is_read_closed() || event.is_error();
        if is_over || (event.is_readable() && entry.heard() == Served::Over) {
            entry.left();
            let group = &self.groups[entry.group as usize];
            if entry.permit().is_left_by_client() {
                entry.permit().trace_end(group.sent_at(), now);
            }
            self.after(key, Served::Over);
            return;
        }
        if event.is_writable() && entry.is_blocked() {
            let account = Direct(self.metrics.route(entry.permit().route()));
            let served = entry.serve(&account, now);
            self.after(key, served);
        }
    }

    fn after(&mut self, key: usize, served: Served) {
        if served == Served::Over
            && let Some(entry) = self.remove(key)
        {
            entry.finish(None);
        }
    }

    fn remove(&mut self, key: usize) -> Option<Entry> {
        let mut entry = self.entries.try_remove(key)?;
        // Closing the socket would do it too; but the socket lives a little longer than its place in the slab.
        let _ = self.poll.registry().deregister(entry.socket());
        let group = entry.group as usize;
        let members = &mut self.groups[group].members;
        members.swap_remove(entry.place as usize);
        if let Some(moved) = members.get(entry.place as usize) {
            self.entries[*moved as usize].place = entry.place;
        }
        self.remove_group_if_empty(group);
        Some(entry)
    }

    fn remove_group_if_empty(&mut self, index: usize) {
        if self.groups[index].members.is_empty() {
            let group = self.groups.remove(index);
            self.by_topic.remove(&group.topic.addr());
            self.heartbeats.remove(&(group.heartbeat_at, index));
        }
    }
}

impl Drop for Shard {
    /// However its thread ends, by order or by a panic: the books are closed, and nobody waits for it.
    fn drop(&mut self) {
        if std::thread::panicking() {
            error!(streams = self.entries.len(), "a shard has panicked; its streams end");
        }
        self.inbox.close();
        let reason = if self.stopped { CloseReason::Drain } else { CloseReason::Error };
        for (_, entry) in self.entries.iter_mut().filter(|(_, entry)| !entry.is_closing()) {
            entry.close(reason);
        }
    }
}

#[cfg(test)]
mod tests;
