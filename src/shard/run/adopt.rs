//! How a stream comes into a shard: into the slab, into its topic's group, and its first bytes out.

use std::sync::Arc;

use mio::{Interest, Token};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::Shard;
use crate::{
    backoff::jitter,
    metrics::CloseReason,
    shard::{
        Adopted,
        account::Direct,
        entry::Entry,
        group::{Group, GroupKey},
    },
    stream::body::{Pacing, RETRY_JITTER},
    subscription::Subscription,
    tcp,
};

// === impl Shard ===

impl Shard {
    pub(super) fn adopt(&mut self, adopted: Adopted, now: Instant) {
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

    fn group_of(&mut self, subscription: &Subscription, pacing: &Arc<Pacing>, now: Instant) -> usize {
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
}
