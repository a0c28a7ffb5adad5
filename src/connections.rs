//! The list of open client streams: their limits, their staleness, their orderly end.
//!
//! Every stream holds a [`Permit`], those with a task of their own in a [`Seat`]; its drop takes the stream out of every
//! count. Those with a seat are listed here, and whatever concerns all streams (the stale sweep, the drain, the admin side's
//! list) is a walk over them, as it is over their own in each shard.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use rand::Rng;
use slab::Slab;
use tokio::{sync::Notify, time::Instant};

mod limits;
mod permit;
mod seat;
mod view;

use self::seat::Stream;
pub use self::{
    limits::Limits,
    permit::Permit,
    seat::{ConnState, Seat},
    view::StreamView,
};
use crate::{
    files::Files,
    metrics::{Metrics, RejectReason, RouteId, Transport},
    survey::Survey,
};

/// All open streams.
#[derive(Debug)]
pub struct Connections {
    limits: Limits,
    metrics: Arc<Metrics>,
    /// The open files; `None` where nothing counts them.
    files: Option<Arc<Files>>,
    /// Written when a stream opens or closes, and when the drain begins.
    open: Mutex<Open>,
    /// The streams that have a connection's task of their own, for the walks; those in shards are walked there.
    listed: Mutex<Slab<Arc<Stream>>>,
    /// Told when the last stream has gone.
    emptied: Notify,
}

#[derive(Debug, Default)]
struct Open {
    count: usize,
    per_ip: HashMap<IpAddr, usize>,
    /// The drain. From its beginning on nobody sits down any more.
    drain: Option<Drain>,
}

/// The drain, once it has begun.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// By then every stream has been told to end.
    pub until: Instant,
    /// Streams that were open when it began.
    pub streams: usize,
}

// === impl Connections ===

impl Connections {
    /// No streams yet.
    pub fn new(limits: Limits, metrics: Arc<Metrics>) -> Arc<Self> {
        Self::within(limits, metrics, None)
    }

    /// The same, of which none begins while `files` are short.
    pub fn within(limits: Limits, metrics: Arc<Metrics>, files: Option<Arc<Files>>) -> Arc<Self> {
        let (open, listed) = (Mutex::default(), Mutex::default());
        Arc::new(Self { limits, metrics, files, open, listed, emptied: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().expect("no code panics under this lock")
    }

    /// Lets a stream of `route`, asked for by `peer`, begin.
    ///
    /// # Errors
    /// The limit that is reached; it has been counted.
    pub fn permit(
        self: &Arc<Self>,
        route: RouteId,
        peer: IpAddr,
        transport: Transport,
    ) -> Result<Permit, RejectReason> {
        if let Err(reason) = self.count(peer) {
            self.metrics.rejected(reason);
            return Err(reason);
        }
        Ok(Permit::new(self, route, peer, transport, true))
    }

    /// A permit that no limit and no drain knows of, for the canary.
    pub fn uncounted(self: &Arc<Self>, route: RouteId, transport: Transport) -> Permit {
        Permit::new(self, route, IpAddr::V4(Ipv4Addr::LOCALHOST), transport, false)
    }

    fn count(&self, peer: IpAddr) -> Result<(), RejectReason> {
        let mut open = self.lock();
        if open.drain.is_some() {
            return Err(RejectReason::Drain);
        }
        if open.count >= self.limits.connections {
            return Err(RejectReason::MaxConnections);
        }
        if self.files.as_ref().is_some_and(|files| files.are_short()) {
            return Err(RejectReason::FileLimit);
        }
        // While the limit is off, a table of addresses would cost memory for nothing.
        if self.limits.per_ip > 0 {
            let count = open.per_ip.entry(peer).or_default();
            if *count >= self.limits.per_ip {
                return Err(RejectReason::MaxConnectionsPerIp);
            }
            *count += 1;
        }
        open.count += 1;
        Ok(())
    }

    /// Streams open now.
    pub fn len(&self) -> usize {
        self.lock().count
    }

    /// Whether no stream is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until no stream is open.
    pub async fn wait_empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// Ends every listed stream at a random moment within `time`, so that their clients don't all come back at once; from
    /// now on nobody gets a permit.
    pub fn drain(&self, time: Duration) {
        let now = Instant::now();
        let mut open = self.lock();
        let drain = Drain { until: now + time, streams: open.count };
        // The app may end during the drain, and hasten it; it is still the same.
        let first = open.drain.unwrap_or(drain);
        open.drain = Some(Drain { until: first.until.min(drain.until), ..first });
        drop(open);
        let streams: Vec<_> = self.listed().iter().map(|(_, stream)| Arc::clone(stream)).collect();
        for stream in streams {
            stream.drain_at(now + time.mul_f64(rand::rng().random_range(0.0..1.0)));
            stream.waker.wake();
        }
    }

    /// Looks at the listed streams: counts those that are stale, and ends those that were stale for too long. The streams
    /// in shards are looked at there.
    pub fn sweep(&self) {
        // Not under the list's lock: each look is a call to the kernel, and streams come and go meanwhile.
        let streams: Vec<_> = self.listed().iter().map(|(_, stream)| Arc::clone(stream)).collect();
        let now = Instant::now();
        for stream in streams {
            stream.sweep(now, &self.limits, &self.metrics);
        }
    }

    /// How often to sweep.
    pub fn sweep_interval(&self) -> Duration {
        self.limits.sweep_interval()
    }

    /// The drain, once it has begun.
    pub fn drain_begun(&self) -> Option<Drain> {
        self.lock().drain
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What is shown of the listed streams, but for those of the route `hidden`.
    pub fn survey(&self, hidden: RouteId) -> Survey {
        let streams: Vec<_> = self.listed().iter().map(|(_, stream)| Arc::clone(stream)).collect();
        Survey::of(streams.iter().map(|stream| &**stream), hidden, Instant::now())
    }

    fn listed(&self) -> MutexGuard<'_, Slab<Arc<Stream>>> {
        self.listed.lock().expect("no code panics under this lock")
    }

    fn leave(&self, peer: IpAddr) {
        let mut open = self.lock();
        open.count -= 1;
        if let Some(count) = open.per_ip.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                open.per_ip.remove(&peer);
            }
        }
        if open.count == 0 {
            self.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests;
