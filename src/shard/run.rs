//! A shard's loop: what its sockets say, what it is told, what its groups have to deliver, what is due.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use mio::{Events, Interest, Token};
use rand::Rng;
use slab::Slab;
use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::{
    Adopted, Inbox, Order,
    account::{Account, Batched, Direct},
    entry::{Entry, Served},
    group::{Group, GroupKey, Round},
};
use crate::{
    backoff::jitter,
    connections::Limits,
    event::{self, Frame},
    metrics::{CloseReason, FrameKind, Metrics},
    stream::body::{Pacing, RETRY_JITTER},
    survey::Survey,
    tcp,
    topic::Glimpse,
};

/// The token of the inbox; streams have their place in the slab.
pub(super) const WAKER: Token = Token(usize::MAX);
/// Members served before the shard looks at its sockets and its inbox again: some milliseconds' worth of writes.
const BATCH: usize = 256;
/// From so many members on, a batch of a walk is counted as a whole. Fewer are counted at once: who has got an event then
/// finds it counted.
const MANY: usize = 64;
/// Streams adopted before the shard looks at the others again: when thousands come back in the same second, their heads
/// and first blocks are some ten microseconds each, and news must not wait for all of them.
const NEWCOMERS: usize = 128;
/// How often all streams are walked over for what is due: the precision of `--max-age`, of the second after the end and
/// of the drain. At 15,000 streams a walk takes well under a millisecond; the sweep for stale ones, which asks the kernel,
/// is spread over several walks.
const TICK: Duration = Duration::from_millis(100);
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

/// What a walk hands to each member of a group.
struct Share {
    round: Round,
    heartbeat: Frame,
    /// Nearly always all there is to be delivered.
    glimpse: Option<Glimpse>,
    now: Instant,
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

    fn adopt(&mut self, adopted: Adopted, now: Instant) {
        let Adopted { socket, head, chunked, subscription, mut permit, pacing } = adopted;
        permit.open();
        let retry = u32::try_from(jitter(pacing.retry, RETRY_JITTER).as_millis()).unwrap_or(u32::MAX);
        let ends_at = pacing.lifetime().map(|age| (now + age, CloseReason::MaxAge));
        let ends_at = match permit.drain_at() {
            // It sat down before the drain began, and comes here after: it ends with the others.
            Some(at) => Some((at, CloseReason::Drain)),
            None => ends_at,
        };
        let group = self.group_of(&subscription, &pacing, now);
        let mut entry = Entry::new(mio::net::TcpStream::from_std(socket), head, chunked, subscription, permit, retry);
        entry.ends_at = ends_at;
        if let Err(error) = tcp::set_user_timeout(entry.socket(), Some(self.limits.user_timeout())) {
            debug!(%error, "TCP_USER_TIMEOUT refused");
        }
        let vacant = self.entries.vacant_entry();
        let key = vacant.key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(entry.socket(), Token(key), interest) {
            warn!(%error, "a stream can't be watched");
            entry.close(CloseReason::Error);
            self.remove_group_if_empty(group);
            return;
        }
        let members = &mut self.groups[group].members;
        entry.group = u32::try_from(group).expect("groups are no more than streams");
        entry.place = u32::try_from(members.len()).expect("streams are bounded by the open files");
        members.push(u32::try_from(key).expect("streams are bounded by the open files"));
        vacant.insert(entry);
        self.serve_first(key, now);
    }

    /// The head and what there is; a heartbeat if that is nothing, since the first bytes must leave at once.
    fn serve_first(&mut self, key: usize, now: Instant) {
        let entry = &mut self.entries[key];
        let pacing = &self.groups[entry.group as usize].pacing;
        let account = Direct(self.metrics.route(entry.permit().route()));
        let served = entry.serve_first(&pacing.heartbeat_frame, &account, now);
        self.after(key, served);
    }

    fn group_of(
        &mut self,
        subscription: &crate::subscription::Subscription,
        pacing: &Arc<Pacing>,
        now: Instant,
    ) -> usize {
        let topic = Arc::clone(subscription.topic());
        // Not by its number: each hub has a count of its own, and the canary's streams live here, too. The group holds the
        // topic, so no other can come to lie there as long as the group is found by it.
        let addr = topic.addr();
        if let Some(group) = self.by_topic.get(&addr) {
            return *group;
        }
        // Four thousand million groups before a wake-up of long ago could mean another: none is so late.
        self.generation = self.generation.wrapping_add(1);
        let vacant = self.groups.vacant_entry();
        let index = vacant.key();
        let key = GroupKey {
            index: u32::try_from(index).expect("groups are no more than streams"),
            generation: self.generation,
        };
        let group = Group::new(key, topic, Arc::clone(&self.inbox), Arc::clone(pacing), now);
        self.heartbeats.insert((group.heartbeat_at, index));
        vacant.insert(Box::new(group));
        self.by_topic.insert(addr, index);
        index
    }

    /// A topic has something new.
    fn woken(&mut self, key: GroupKey, now: Instant) {
        let Some(group) = self.groups.get_mut(key.index as usize).filter(|group| group.key == key) else { return };
        group.listen();
        match group.walk {
            Some((Round::Deliver, _)) => group.again = true,
            // What is new matters more than a heartbeat, and is one.
            Some((Round::Heartbeat, _)) => {
                group.walk = Some((Round::Deliver, group.members.len()));
                // But if it turns out to be no news, those who were still to get their heartbeat have got nothing.
                self.appoint_heartbeat(key.index as usize, now);
            }
            None => {
                group.walk = Some((Round::Deliver, group.members.len()));
                self.walks.push_back(key);
            }
        }
    }

    fn start_heartbeats(&mut self, now: Instant) {
        while let Some((at, index)) = self.heartbeats.first().copied().filter(|(at, _)| *at <= now) {
            let group = &mut self.groups[index];
            let silence = group.pacing.heartbeat;
            match group.walk {
                // If that is news, it takes the heartbeat's place when its turn comes; if not, the heartbeat is still due.
                Some((Round::Deliver, _)) => self.appoint_heartbeat(index, now + silence.min(TICK)),
                Some((Round::Heartbeat, _)) => self.appoint_heartbeat(index, now + silence),
                None => {
                    self.metrics.heartbeat_sent(now.duration_since(at));
                    group.walk = Some((Round::Heartbeat, group.members.len()));
                    self.walks.push_back(group.key);
                    self.appoint_heartbeat(index, now + silence);
                }
            }
        }
    }

    fn appoint_heartbeat(&mut self, index: usize, at: Instant) {
        let group = &mut self.groups[index];
        self.heartbeats.remove(&(group.heartbeat_at, index));
        group.heartbeat_at = at;
        self.heartbeats.insert((at, index));
    }

    /// Serves members of the groups that have something, each group in its turn, up to a batch.
    fn walk(&mut self, now: Instant) {
        let mut left = BATCH;
        while left > 0 {
            let Some(key) = self.walks.pop_front() else { return };
            let Some(group) = self.groups.get_mut(key.index as usize).filter(|group| group.key == key) else {
                continue;
            };
            let Some((round, at)) = group.walk else { continue };
            // Members may have left since; the downward walk only has to stay inside.
            let at = at.min(group.members.len());
            let until = at.saturating_sub(left);
            let glimpse = if round == Round::Deliver { group.topic.glimpse() } else { None };
            let share = Share { round, heartbeat: group.pacing.heartbeat_frame.clone(), glimpse, now };
            let route = group.topic.key().route;
            // Only news ends the silence. A group is also woken because one of its members was turned away, and if that
            // put the heartbeat off, a quiet stream that many leave would look dead to those who stay.
            if round == Round::Deliver && group.has_news() {
                let next = now + group.pacing.heartbeat;
                self.appoint_heartbeat(key.index as usize, next);
            }
            let metrics = Arc::clone(&self.metrics);
            let metrics = metrics.route(route);
            if at - until < MANY {
                self.serve_members(key, until..at, &share, &Direct(metrics));
            } else {
                self.serve_members(key, until..at, &share, &Batched::new(metrics));
            }
            left -= at - until;
            self.finish_round(key, until);
        }
    }

    fn finish_round(&mut self, key: GroupKey, until: usize) {
        // The last member may have left, and the group with it.
        let Some(group) = self.groups.get_mut(key.index as usize).filter(|group| group.key == key) else { return };
        if until > 0 {
            group.walk = group.walk.map(|(round, _)| (round, until));
        } else if std::mem::take(&mut group.again) {
            group.walk = Some((Round::Deliver, group.members.len()));
        } else {
            group.walk = None;
            return;
        }
        self.walks.push_back(key);
    }

    fn serve_members(&mut self, key: GroupKey, places: Range<usize>, share: &Share, account: &impl Account) {
        for place in places.rev() {
            let Some(member) = self.groups.get(key.index as usize).and_then(|group| group.members.get(place)) else {
                continue;
            };
            let member = *member as usize;
            let entry = &mut self.entries[member];
            // Nothing comes before what is unsent, and the socket says when that can go on.
            if share.round == Round::Deliver && entry.is_blocked() {
                continue;
            }
            let served = match (share.round, &share.glimpse) {
                (Round::Heartbeat, _) => entry.heartbeat(&share.heartbeat, account, share.now),
                (Round::Deliver, Some(glimpse)) => entry.serve_glimpse(glimpse, account, share.now),
                (Round::Deliver, None) => entry.serve(account, share.now),
            };
            self.after(member, served);
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

    /// What is due by the clock: ends that were planned, and streams whose peer acknowledges nothing.
    fn tick(&mut self, now: Instant) {
        self.next_tick = now + TICK;
        let (part, parts) = self.sweep();
        let grace = self.limits.grace();
        let mut over = Vec::new();
        for (key, entry) in &mut self.entries {
            if key % parts == part {
                let signs = entry.look(now, grace);
                entry.mark_stale(signs.are_missing_for(self.limits.stale_after));
                if signs.are_missing_for(self.limits.reap_after) {
                    entry.close(CloseReason::Stale);
                    over.push((key, CloseReason::Stale));
                    continue;
                }
            }
            if let Some((_, reason)) = entry.ends_at.filter(|(at, _)| *at <= now) {
                entry.close(reason);
                over.push((key, reason));
            }
        }
        for (key, reason) in over {
            let is_told = reason == CloseReason::Drain && self.entries[key].has_sent_all();
            let hint = is_told.then(|| self.hint(key));
            match self.remove(key) {
                Some(entry) if reason == CloseReason::Stale => entry.cut(),
                Some(entry) => entry.finish(hint.as_ref()),
                None => {}
            }
        }
    }

    /// Which part of the slab, of how many, is looked at in this tick. The sweep comes to every stream once in its
    /// interval, but not to all in one tick: after a round of heartbeats each look is a call to the kernel.
    fn sweep(&mut self) -> (usize, usize) {
        let ticks = self.limits.sweep_interval().as_millis() / TICK.as_millis();
        let parts = usize::try_from(ticks).unwrap_or(1).max(1);
        self.ticks = self.ticks.wrapping_add(1);
        (self.ticks % parts, parts)
    }

    /// The line that tells a client when to come back, alone: see `stream::body`.
    fn hint(&self, key: usize) -> Frame {
        let entry = &self.entries[key];
        let pacing = &self.groups[entry.group as usize].pacing;
        let hint = Frame::new(&[&event::retry_line(jitter(pacing.retry, RETRY_JITTER))]);
        self.metrics.route(entry.permit().route()).frame_sent(FrameKind::Control, hint.len());
        hint
    }

    fn drain(&mut self, time: Duration, now: Instant) {
        for (_, entry) in &mut self.entries {
            let at = now + time.mul_f64(rand::rng().random_range(0.0..1.0));
            // A stream that has had its last event ends by itself, within the second.
            if !entry.is_closing() && entry.ends_at.is_none_or(|(ends_at, _)| at < ends_at) {
                entry.ends_at = Some((at, CloseReason::Drain));
            }
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
