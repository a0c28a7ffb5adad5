//! The list of open client streams: their limits, their staleness, their orderly end.
//!
//! Every stream holds a [`Seat`]; its drop takes the stream out of every count. Whatever concerns all streams (the stale
//! sweep, the drain, the admin side's list) is a walk over this list.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use rand::Rng;
use slab::Slab;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::{CloseReason, InvalidStateSide, Metrics, RejectReason, RouteId, Transport},
    wire::WireState,
};

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

/// All open streams.
#[derive(Debug)]
pub struct Connections {
    limits: Limits,
    metrics: Arc<Metrics>,
    /// Written when a stream opens or closes, read by the walks.
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    streams: Slab<Arc<Stream>>,
    per_ip: HashMap<IpAddr, usize>,
    /// The drain has begun: nobody sits down any more.
    draining: bool,
}

/// What is known of one open stream from outside of it.
#[derive(Debug)]
pub struct Stream {
    route: RouteId,
    peer: IpAddr,
    opened: Instant,
    /// The connection it is on.
    conn: Arc<ConnState>,
    /// When the drain ends it, in milliseconds after `opened`, plus one; 0 = not. Written by the drain, read by the
    /// stream when it is woken.
    drain_at: AtomicU64,
    /// The sweep ended it. Written by the sweep, read when the seat is dropped.
    reaped: AtomicBool,
    /// The stream's task.
    waker: AtomicWaker,
}

/// What a connection shares with the streams on it.
#[derive(Debug)]
pub struct ConnState {
    /// Its write side.
    pub wire: Arc<WireState>,
    /// Ends the connection at once, whatever is unsent.
    pub abort: CancellationToken,
}

/// A stream's place among the open ones; dropping it closes the books on the stream.
#[derive(Debug)]
pub struct Seat {
    connections: Arc<Connections>,
    key: usize,
    stream: Arc<Stream>,
    transport: Transport,
    /// Why the stream ends; the client, unless the stream says otherwise.
    reason: CloseReason,
}

/// One stream as the admin side shows it.
#[derive(Clone, Debug)]
pub struct StreamView {
    /// The route.
    pub route: RouteId,
    /// The client's address.
    pub peer: IpAddr,
    /// Since when it is open.
    pub opened: Instant,
    /// For how long writes to it have been blocked.
    pub blocked_for: Option<Duration>,
}

// === impl Connections ===

impl Connections {
    /// No streams yet.
    pub fn new(limits: Limits, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { limits, metrics, open: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().expect("no code panics under this lock")
    }

    /// Takes a seat for a stream of `route`, asked for by `peer`.
    ///
    /// # Errors
    /// The limit that is reached; it has been counted.
    pub fn sit(
        self: &Arc<Self>,
        route: RouteId,
        peer: IpAddr,
        transport: Transport,
        conn: Arc<ConnState>,
    ) -> Result<Seat, RejectReason> {
        let seated = self.try_sit(route, peer, transport, conn);
        if let Err(reason) = &seated {
            self.metrics.rejected(*reason);
        }
        seated
    }

    fn try_sit(
        self: &Arc<Self>,
        route: RouteId,
        peer: IpAddr,
        transport: Transport,
        conn: Arc<ConnState>,
    ) -> Result<Seat, RejectReason> {
        let mut open = self.lock();
        if open.draining {
            return Err(RejectReason::Drain);
        }
        if open.streams.len() >= self.limits.connections {
            return Err(RejectReason::MaxConnections);
        }
        // Counted even while the limit is off costs a table of addresses for nothing; so it is not.
        if self.limits.per_ip > 0 {
            let count = open.per_ip.entry(peer).or_default();
            if *count >= self.limits.per_ip {
                return Err(RejectReason::MaxConnectionsPerIp);
            }
            *count += 1;
        }
        let stream = Arc::new(Stream {
            route,
            peer,
            opened: Instant::now(),
            conn,
            drain_at: AtomicU64::new(0),
            reaped: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        let key = open.streams.insert(Arc::clone(&stream));
        drop(open);
        self.metrics.route(route).opened(transport);
        Ok(Seat { connections: Arc::clone(self), key, stream, transport, reason: CloseReason::Client })
    }

    /// Streams open now.
    pub fn len(&self) -> usize {
        self.lock().streams.len()
    }

    /// Whether no stream is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends every stream at a random moment within `time`, so that their clients don't all come back at once; from now
    /// on nobody gets a seat.
    pub fn drain(&self, time: Duration) {
        let mut open = self.lock();
        open.draining = true;
        let streams: Vec<_> = open.streams.iter().map(|(_, stream)| Arc::clone(stream)).collect();
        drop(open);
        let now = Instant::now();
        for stream in streams {
            let moment = now + time.mul_f64(rand::rng().random_range(0.0..1.0));
            let after = moment.duration_since(stream.opened).as_millis();
            stream.drain_at.store(u64::try_from(after).unwrap_or(u64::MAX - 1) + 1, Ordering::Release);
            stream.waker.wake();
        }
    }

    /// Counts stale streams of each of the `routes` first routes, and ends those that were stale for too long.
    pub fn sweep(&self, routes: usize) {
        let mut stale = vec![0; routes];
        let mut reap = Vec::new();
        for (_, stream) in &self.lock().streams {
            let blocked = stream.blocked_for().unwrap_or_default();
            if blocked > self.limits.stale_after {
                stale[stream.route.0] += 1;
            }
            if blocked > self.limits.reap_after {
                reap.push(Arc::clone(stream));
            }
        }
        for (route, count) in stale.into_iter().enumerate() {
            self.metrics.route(RouteId(route)).stale.set(count);
        }
        for stream in reap {
            stream.reaped.store(true, Ordering::Release);
            stream.conn.abort.cancel();
        }
    }

    /// How often to sweep: often enough that `--stale-after` means what it says, give or take a quarter.
    pub fn sweep_interval(&self) -> Duration {
        (self.limits.stale_after / 4).clamp(Duration::from_millis(50), Duration::from_secs(5))
    }

    /// Every open stream.
    pub fn list(&self) -> Vec<StreamView> {
        self.lock().streams.iter().map(|(_, stream)| stream.view()).collect()
    }

    fn leave(&self, key: usize, peer: IpAddr) {
        let mut open = self.lock();
        open.streams.remove(key);
        if let Some(count) = open.per_ip.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                open.per_ip.remove(&peer);
            }
        }
    }
}

// === impl Stream ===

impl Stream {
    fn blocked_for(&self) -> Option<Duration> {
        self.conn.wire.blocked_since().map(|since| since.elapsed())
    }

    fn view(&self) -> StreamView {
        StreamView { route: self.route, peer: self.peer, opened: self.opened, blocked_for: self.blocked_for() }
    }
}

// === impl Seat ===

impl Seat {
    /// Wakes this task when the list has something to say to the stream.
    pub fn register(&self, waker: &Waker) {
        self.stream.waker.register(waker);
    }

    /// When the drain wants this stream to end, once it has begun.
    pub fn drain_at(&self) -> Option<Instant> {
        let after = self.stream.drain_at.load(Ordering::Acquire).checked_sub(1)?;
        Some(self.stream.opened + Duration::from_millis(after))
    }

    /// Whether earlier bytes still wait for the peer; then nothing new should be made ready for it. The task is woken
    /// when that is over.
    pub fn is_blocked(&self, cx: &mut Context<'_>) -> bool {
        self.stream.conn.wire.poll_unblocked(cx).is_pending()
    }

    /// The stream's route.
    pub fn route(&self) -> RouteId {
        self.stream.route
    }

    /// When the stream opened.
    pub fn opened(&self) -> Instant {
        self.stream.opened
    }

    /// Says why the stream ends.
    pub fn close(&mut self, reason: CloseReason) {
        self.reason = reason;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.leave(self.key, self.stream.peer);
        let reason = if self.stream.reaped.load(Ordering::Acquire) { CloseReason::Stale } else { self.reason };
        let metrics = self.connections.metrics.route(self.stream.route);
        if reason == CloseReason::Client && self.stream.conn.wire.write_failed() {
            metrics.invalid_state(InvalidStateSide::Client);
        }
        metrics.closed(self.transport, reason);
    }
}
