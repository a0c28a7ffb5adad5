//! A peer's pulse: whether it still acknowledges what it is sent. Pure: what the kernel says and the time come as values.
//!
//! A peer is stale when it has acknowledged nothing for longer than `--stale-after` although something waits for it:
//!
//! - **silent**: segments are on their way, or questions about a closed window unanswered, and the kernel has heard no
//!   acknowledgement of any kind for so long. A heartbeat that was written a moment ago into a long quiet is no evidence,
//!   so what waits must have waited for a while itself: see `patience`.
//! - **stuck**: our write is blocked for so long, and not one byte was acknowledged in that time. Its kernel may still
//!   answer that the window is closed; but nobody reads behind it, and what we hold for it grows no newer.
//!
//! Who reads slowly is neither: each byte it takes shows in the kernel's count, long before a blocked write goes on,
//! which takes a third of the send buffer. Nor is who has stopped reading while our buffer still has room: its kernel
//! answers. If such a peer vanishes, the kernel's next question shows it; those are up to two minutes apart.

use std::{num::NonZeroU32, time::Duration};

use crate::tcp::TcpInfo;

/// A receiver may hold back an acknowledgement for half a second (RFC 1122, section 4.2.3.2), and Linux answers questions
/// about its closed window once in so long (`tcp_invalid_ratelimit`), so that the second of two close ones may have to wait
/// for a third; less says nothing.
const PATIENCE_MIN: Duration = Duration::from_millis(500);

/// What is remembered of a stream's peer between two looks: 16 bytes. Times are counted from the beginning of the stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pulse {
    /// Since when something that was sent may wait for its acknowledgement. None: all is known to be acknowledged.
    sent: Option<Mark>,
    /// Since when the kernel takes nothing more for the peer.
    blocked: Option<Mark>,
    /// While that is so: since when no byte was acknowledged.
    stuck: Option<Mark>,
    /// The count of acknowledged bytes at the last look, its lower half: only whether it changed is of interest.
    acked: u32,
}

/// A moment, in milliseconds modulo 2³², to the next odd one. No difference of interest is nearly as long as half of that,
/// 24 days: what waits for an hour was reaped before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark(NonZeroU32);

/// What a look has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// For how long something has waited for an acknowledgement that did not come.
    pub unacknowledged: Option<Duration>,
    /// For how long the kernel has heard no acknowledgement; of no meaning while nothing waits.
    last_ack: Duration,
    /// For how long a blocked write has made no progress.
    stuck: Duration,
}

/// How long a peer must have left something unanswered before its silence counts for `limit`: a quarter of it. With
/// heartbeats at 15 s and `--stale-after 35s` a peer that is cut off right behind an acknowledgement is sent its first
/// unanswered byte up to 15 s later, and has left it unanswered for 20 s, more than 8.75 s, when the 35 s are over. The
/// bound holds while heartbeats come within three quarters of the limit; with rarer ones a slow network is not taken for
/// a dead peer because it was quiet before.
fn patience(limit: Duration) -> Duration {
    (limit / 4).max(PATIENCE_MIN)
}

/// How long what was sent may wait before the kernel is asked about it, with looks `interval` apart. A call to the kernel for
/// each event would be a tenth of its price, and before `patience` is over the answer changes nothing. But an answered
/// question about a closed window must be seen within it, or the next question would be taken for the same one: so the
/// first look comes halfway, and leaves room for a second.
pub fn grace(limit: Duration, interval: Duration) -> Duration {
    patience(limit).saturating_sub(interval) / 2
}

// === impl Pulse ===

impl Pulse {
    /// Something was handed to the kernel.
    pub fn sent(&mut self, at: Duration) {
        self.sent.get_or_insert(Mark::of(at));
    }

    /// The kernel takes nothing more; again and again the same moment while that lasts.
    pub fn blocked(&mut self, since: Duration) {
        let since = Some(Mark::of(since));
        if self.blocked != since {
            (self.blocked, self.stuck) = (since, since);
        }
    }

    /// The kernel takes bytes.
    pub fn unblocked(&mut self) {
        (self.blocked, self.stuck) = (None, None);
    }

    /// Whether the kernel takes nothing more.
    pub fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    /// For how long the kernel has taken nothing.
    pub fn blocked_for(&self, at: Duration) -> Option<Duration> {
        self.blocked.map(|since| since.until(at))
    }

    /// Whether the kernel need be asked: not while everything is known to be acknowledged, nor of what was sent less than
    /// `grace` ago.
    pub fn wants_look(&self, at: Duration, grace: Duration) -> bool {
        self.is_blocked() || self.sent.is_some_and(|since| since.until(at) >= grace)
    }

    /// For how long the peer has made us wait at most, as far as that is known without asking the kernel.
    pub fn waits_at_most(&self, at: Duration) -> Option<Duration> {
        let waits = [self.sent, self.blocked].into_iter().flatten().map(|since| since.until(at));
        waits.max()
    }

    /// Takes in what the kernel says now, `None` if it does not say.
    pub fn look(&mut self, info: Option<TcpInfo>, at: Duration) -> Signs {
        let mut signs = Signs::default();
        if let Some(info) = info {
            if info.is_waiting() {
                let since = *self.sent.get_or_insert(Mark::of(at));
                // Sent long ago does not mean unanswered so long: what is sent all the time always waits for a moment.
                signs.unacknowledged = Some(since.until(at).min(info.last_ack));
                signs.last_ack = info.last_ack;
            } else {
                // Bytes before a closed window will yet have to be acknowledged; but the peer owes nothing now.
                self.sent = (info.not_sent > 0).then(|| Mark::of(at));
            }
            // Truncated on purpose.
            if let Some(acked) = info.acked.map(|acked| acked as u32).filter(|acked| *acked != self.acked) {
                self.acked = acked;
                self.stuck = self.blocked.map(|_| Mark::of(at));
            }
        }
        signs.stuck = self.stuck.map(|since| since.until(at)).unwrap_or_default();
        signs
    }
}

// === impl Signs ===

impl Signs {
    /// Whether this peer has been stale for `limit`, `--stale-after` or `--reap-after`.
    pub fn are_missing_for(&self, limit: Duration) -> bool {
        let is_silent = self.last_ack > limit && self.unacknowledged.is_some_and(|waits| waits >= patience(limit));
        is_silent || self.stuck > limit
    }
}

// === impl Mark ===

impl Mark {
    fn of(at: Duration) -> Self {
        // Truncated on purpose: see the type.
        Self(NonZeroU32::new(at.as_millis() as u32 | 1).expect("an odd number is not zero"))
    }

    /// Zero if `at` comes first: a sweep takes its time once, and another thread may mark a write as blocked before the sweep
    /// has come to it.
    fn until(self, at: Duration) -> Duration {
        let between = Self::of(at).0.get().wrapping_sub(self.0.get());
        Duration::from_millis(if between > u32::MAX / 2 { 0 } else { between.into() })
    }
}

#[cfg(test)]
mod tests;
