//! The walks over the members of groups: an event for all of them, or a heartbeat, a batch at a time.

use std::{ops::Range, sync::Arc};

use tokio::time::Instant;

use super::{Shard, tick::TICK};
use crate::{
    event::Frame,
    shard::{
        account::{Account, Batched, Direct},
        group::{GroupKey, Round},
    },
    topic::Glimpse,
};

/// Members served before the shard looks at its sockets and its inbox again: some milliseconds' worth of writes.
pub(super) const BATCH: usize = 256;
/// From so many members on, a batch of a walk is counted as a whole. Fewer are counted at once: who has got an event then
/// finds it counted.
const MANY: usize = 64;

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
    /// A topic has something new.
    pub(super) fn woken(&mut self, key: GroupKey, now: Instant) {
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

    pub(super) fn start_heartbeats(&mut self, now: Instant) {
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
    pub(super) fn walk(&mut self, now: Instant) {
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
}
