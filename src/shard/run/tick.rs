//! What a shard does by the clock: ends that were planned, the sweep for stale streams, the drain.

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

use super::Shard;
use crate::{
    backoff::jitter,
    event::{self, Frame},
    metrics::{CloseReason, FrameKind},
    stream::body::RETRY_JITTER,
};

/// How often all streams are walked over for what is due: the precision of `--max-age`, of the second after the end and
/// of the drain. At 15,000 streams a walk takes well under a millisecond; the sweep for stale ones, which asks the kernel,
/// is spread over several walks.
pub(super) const TICK: Duration = Duration::from_millis(100);

// === impl Shard ===

impl Shard {
    /// What is due by the clock: ends that were planned, and streams whose peer acknowledges nothing.
    pub(super) fn tick(&mut self, now: Instant) {
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
    pub(super) fn sweep(&mut self) -> (usize, usize) {
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

    pub(super) fn drain(&mut self, time: Duration, now: Instant) {
        for (_, entry) in &mut self.entries {
            let at = now + time.mul_f64(rand::rng().random_range(0.0..1.0));
            // A stream that has had its last event ends by itself, within the second.
            if !entry.is_closing() && entry.ends_at.is_none_or(|(ends_at, _)| at < ends_at) {
                entry.ends_at = Some((at, CloseReason::Drain));
            }
        }
    }
}
