//! The limits on streams, and the times that follow from them.

use std::time::Duration;

use crate::pulse;

/// Limits on streams.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `--max-connections`.
    pub connections: usize,
    /// `--max-connections-per-ip`; 0 is off.
    pub per_ip: usize,
    /// `--stale-after`.
    pub stale_after: Duration,
    /// `--reap-after`.
    pub reap_after: Duration,
}

// === impl Limits ===

impl Limits {
    /// How often each stream is looked at: often enough that `--stale-after` means what it says, give or take a quarter.
    pub fn sweep_interval(&self) -> Duration {
        (self.stale_after / 4).clamp(Duration::from_millis(50), Duration::from_secs(1))
    }

    /// How long what was sent to a peer may wait before a sweep asks the kernel about it.
    pub fn grace(&self) -> Duration {
        pulse::grace(self.stale_after, self.sweep_interval())
    }

    /// The backstop: after this the kernel ends a stream by itself (`TCP_USER_TIMEOUT`), should no sweep come. It is much
    /// longer than `--reap-after`, because since Linux 5.11 the kernel also ends who has kept its window closed for so
    /// long, though it answers: a suspended tab, say, whose stream is not blocked and so is not reaped.
    pub fn user_timeout(&self) -> Duration {
        // The kernel takes milliseconds in 31 bits.
        const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);
        self.reap_after.saturating_mul(5).min(LONGEST)
    }
}
