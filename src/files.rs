//! Open files: how many this process may have, how many of them are sockets, and what is done before they run out.
//!
//! Each client is a file, and so is each connection to the app. Without a plan the last ones would go to whoever comes
//! first: to idle clients, and then no poll finds one any more and all streams are told of an outage that is ours. So the
//! files are divided, and what is over a line is turned away while there is still a file to do it with:
//!
//! ```text
//!  0 ─────────────────────── streams_max ───────── pause_at ──────────── sockets_max ── limit
//!    everybody is welcome      new streams and       nobody is accepted;    the program's
//!                              new requests for      what is left is for    own files
//!                              the app are told      polls and
//!                              to come back          subscriptions
//! ```

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are neither a client nor a connection to the app, beside those of the shards: 3 standard ones, 6 of the
/// runtime and the signals, 8 listeners, 12 on the admin side (scrapes read `/proc`), 3 of the canary.
const OWN: usize = 3 + 6 + 8 + 12 + 3;

/// A shard has an epoll and what wakes it. On fewer than eight cores the rest is left over, so that the same limit is as
/// many streams on most machines.
const OF_SHARD: usize = 2;
const SHARDS_MIN: usize = 8;

/// Where the system sets no limit that would be felt (a million in many containers), sockets are bounded all the same:
/// each costs some ten KiB until it is a stream. Two for each stream, its own and one at the app, but never fewer than
/// this.
const SOCKETS_MIN: usize = 20_000;

/// Fewer streams than these were hardly meant by who left `--max-connections` at its 10,000.
const FEW: usize = 1000;

/// How the open files are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What the process may open; `None` is no limit.
    pub limit: Option<u64>,
    /// The value of `--max-connections`.
    pub wanted: usize,
    /// Streams at once: `wanted`, or what the limit leaves of it.
    pub streams_max: usize,
    /// More sockets, and new streams and forwarded requests are turned away.
    short_at: usize,
    /// So many sockets, and nobody is accepted.
    pause_at: usize,
}

/// The sockets that are open now.
#[derive(Debug)]
pub struct Files {
    plan: Plan,
    /// Counted up and down by [`Socket`]s.
    sockets: AtomicUsize,
    /// The last accept failed, whatever the count says: others may use up what the process may open. Written by those who
    /// accept, read by the watch.
    is_refused: AtomicBool,
}

/// One open socket being counted; the drop uncounts it.
#[derive(Debug)]
pub struct Socket(Arc<Files>);

/// Lets the process open as many files as it may (the default soft limit of many systems is 1,024), and says how many
/// that is; `None` is no limit. An error is why it could not be raised.
pub fn raise_limit() -> (Option<u64>, Option<std::io::Error>) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => (maximum, None),
        Err(error) => (current, Some(error.into())),
    }
}

/// How many files the process may open once it has raised its limit; `None` is no limit.
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

// === impl Plan ===

impl Plan {
    /// Divides `limit` files between at most `wanted` streams, up to `polls` requests of our own to the app at once, and
    /// everything else, so many shards with it.
    pub fn new(limit: Option<u64>, wanted: usize, polls: usize, shards: usize) -> Self {
        let own = OWN + OF_SHARD * shards.max(SHARDS_MIN);
        let bound = wanted.saturating_mul(2).max(SOCKETS_MIN);
        let sockets_max = match limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)) {
            // A very low limit is halved: there are not so many shards then, and no eight listeners.
            Some(limit) => (limit - own.min(limit / 2)).min(bound),
            None => bound,
        };
        // Once for the polls, once for those who are being told to come back.
        let margin = polls.min(sockets_max / 4);
        let (short_at, pause_at) = (sockets_max - 2 * margin, sockets_max - margin);
        Self { limit, wanted, streams_max: wanted.min(short_at), short_at, pause_at }
    }

    /// Whether the limit leaves fewer streams than were asked for.
    pub fn is_lowered(&self) -> bool {
        self.streams_max < self.wanted
    }

    /// Whether that hurts: fewer than the operator has asked for, or few by any measure. `given` is whether
    /// `--max-connections` was given, or is the default.
    pub fn is_scarce(&self, given: bool) -> bool {
        self.is_lowered() && (given || self.streams_max < FEW)
    }

    /// What to tell the operator about it. `given` as above.
    pub fn warning(&self, given: bool) -> Option<String> {
        let Self { limit, wanted, streams_max, .. } = *self;
        let limit = limit.filter(|_| self.is_lowered())?;
        let wanted = if given { format!("'{wanted}'") } else { format!("{wanted} (the default)") };
        Some(format!(
            "--max-connections {wanted} is lowered to {streams_max}, because this process may open {limit} files; for \
             more, raise that limit (ulimit -n, LimitNOFILE=)"
        ))
    }
}

// === impl Files ===

impl Files {
    /// None is open yet.
    pub fn new(plan: Plan) -> Arc<Self> {
        Arc::new(Self { plan, sockets: AtomicUsize::new(0), is_refused: AtomicBool::new(false) })
    }

    /// Counts a socket.
    pub fn opened(self: &Arc<Self>) -> Socket {
        self.sockets.fetch_add(1, Ordering::Relaxed);
        Socket(Arc::clone(self))
    }

    /// Sockets that are open.
    pub fn open(&self) -> usize {
        self.sockets.load(Ordering::Relaxed)
    }

    /// So many sockets may be open before files are short.
    pub fn open_max(&self) -> usize {
        self.plan.short_at
    }

    /// Files are short: nothing is begun any more that would need another one for long.
    pub fn are_short(&self) -> bool {
        // Who asks for a stream has its socket already.
        self.sockets.load(Ordering::Relaxed) > self.plan.short_at
    }

    /// Notes how the last accept went.
    pub fn accepted(&self, is_refused: bool) {
        self.is_refused.store(is_refused, Ordering::Relaxed);
    }

    /// Whether the last accept failed for want of a file.
    pub fn are_refused(&self) -> bool {
        self.is_refused.load(Ordering::Relaxed)
    }

    /// Nobody may be accepted: what is left is for polls and subscriptions.
    pub fn are_out(&self) -> bool {
        self.sockets.load(Ordering::Relaxed) >= self.plan.pause_at
    }
}

// === impl Socket ===

impl Drop for Socket {
    fn drop(&mut self) {
        self.0.sockets.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_never_get_more_than_the_limit_leaves() {
        for limit in [0, 1, 2, 8, 32, 64, 100, 256, 1024, 4096, 20_000, 1 << 20, u64::MAX] {
            for (wanted, polls) in [(1, 1), (10_000, 64), (100_000, 1000), (usize::MAX, usize::MAX)] {
                let plan = Plan::new(Some(limit), wanted, polls, 8);
                assert!(plan.streams_max <= wanted && plan.streams_max <= plan.short_at, "{plan:?}");
                assert!(plan.short_at <= plan.pause_at && plan.pause_at as u64 <= limit, "{plan:?}");
                assert!(limit < 2 || plan.streams_max > 0, "{plan:?}");
            }
        }
    }

    #[test]
    fn usual_limits_leave_the_usual_number_of_streams() {
        let streams = |limit| Plan::new(Some(limit), 10_000, 64, 2).streams_max;
        assert_eq!([streams(64), streams(1024), streams(4096), streams(20_000)], [16, 848, 3920, 10_000]);
        assert!(Plan::new(Some(1024), 10_000, 64, 2).is_lowered() && !Plan::new(None, 10_000, 64, 2).is_lowered());
    }

    #[test]
    fn a_lowered_default_hurts_when_little_is_left_of_it() {
        let scarce = |limit, given| Plan::new(Some(limit), 10_000, 64, 2).is_scarce(given);
        assert!(scarce(1024, false) && !scarce(4096, false) && !scarce(20_000, false));
        assert!(scarce(1024, true) && scarce(4096, true) && !scarce(20_000, true));
    }

    // Else the last files would be those of its own, and the shards could not be started.
    #[test]
    fn every_shard_finds_its_files_however_many_cores_there_are() {
        let streams = |shards| Plan::new(Some(1024), 10_000, 64, shards).streams_max;
        assert_eq!([1, 8, 9, 96].map(streams), [848, 848, 846, 672]);
    }

    // A million idle connections would be ten GiB, and the system would let them in.
    #[test]
    fn sockets_are_bounded_where_the_system_sets_no_bound() {
        for limit in [None, Some(1 << 20)] {
            assert_eq!(Plan::new(limit, 10_000, 64, 2).pause_at, 20_000 - 64);
            assert_eq!(Plan::new(limit, 100, 64, 2).pause_at, 20_000 - 64);
            assert_eq!(Plan::new(limit, 50_000, 64, 2).pause_at, 100_000 - 64);
        }
    }

    #[test]
    fn a_socket_counts_until_it_is_dropped() {
        let files = Files::new(Plan::new(Some(16), 10, 2, 2));
        assert_eq!((files.plan.short_at, files.plan.pause_at), (4, 6));
        let mut open: Vec<_> = (0..4).map(|_| files.opened()).collect();
        assert!(!files.are_short());
        open.push(files.opened());
        assert!(files.are_short() && !files.are_out());
        open.push(files.opened());
        assert!(files.are_out());
        open.clear();
        assert!(!files.are_short() && !files.are_out());
    }
}
