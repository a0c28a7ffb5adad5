//! A stream's peer, as the sweep and the dashboard ask about it: does it still take and acknowledge what it is sent?

use std::{os::fd::AsFd, time::Duration};

use tokio::time::Instant;

use super::Entry;
use crate::{connections::StreamView, metrics::RouteId, pulse::Signs, survey::Surveyed, tcp};

// === impl Entry ===

impl Entry {
    /// Whether the peer's kernel takes nothing more.
    pub(in crate::shard) fn is_blocked(&self) -> bool {
        self.pulse.is_blocked()
    }

    /// Asks the kernel about the peer, unless it is known that nothing has waited for it for as long as `grace`.
    pub(in crate::shard) fn look(&mut self, now: Instant, grace: Duration) -> Signs {
        let age = self.age(now);
        if !self.pulse.wants_look(age, grace) {
            return Signs::default();
        }
        self.pulse.look(tcp::info(self.socket.as_fd()), age)
    }

    /// The same without grace, and leaves no trace.
    fn look_again(&self, now: Instant) -> Signs {
        let age = self.age(now);
        if !self.pulse.wants_look(age, Duration::ZERO) {
            return Signs::default();
        }
        let mut pulse = self.pulse;
        pulse.look(tcp::info(self.socket.as_fd()), age)
    }

    /// Counts it as stale, or no more.
    pub(in crate::shard) fn mark_stale(&mut self, is_stale: bool) {
        self.permit.mark_stale(is_stale);
    }

    /// Its peer takes nothing since now.
    #[cfg(test)]
    pub(in crate::shard) fn block(&mut self, now: Instant) {
        self.pulse.blocked(self.age(now));
    }

    /// Whether something may wait for its peer.
    #[cfg(test)]
    pub(in crate::shard) fn wants_look(&self) -> bool {
        self.pulse.wants_look(Duration::ZERO, Duration::ZERO)
    }
}

impl Surveyed for Entry {
    fn route(&self) -> RouteId {
        self.permit.route()
    }

    fn opened(&self) -> Instant {
        self.permit.opened()
    }

    fn waits_at_most(&self, now: Instant) -> Option<Duration> {
        self.pulse.waits_at_most(self.age(now))
    }

    fn view(&self, now: Instant) -> StreamView {
        StreamView {
            route: self.permit.route(),
            peer: self.permit.peer(),
            opened: self.permit.opened(),
            blocked_for: self.pulse.blocked_for(self.age(now)),
            unacknowledged_for: self.look_again(now).unacknowledged,
        }
    }
}
