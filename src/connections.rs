//! The list of open client streams: their limits, their staleness, their orderly end.
//!
//! Every stream holds a [`Permit`], those with a task of their own in a [`Seat`]; its drop takes the stream out of every
//! count. Those with a seat are listed here, and whatever concerns all streams (the stale sweep, the drain, the admin side's
//! list) is a walk over them, as it is over their own in each shard.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
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
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    advice::traces::End,
    files::{Files, Socket},
    metrics::{CloseReason, InvalidStateSide, Metrics, RejectReason, RouteId, RouteMetrics, Transport},
    pulse::{self, Pulse, Signs},
    survey::{Survey, Surveyed},
    tcp,
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

/// What is known of one open stream from outside of it.
#[derive(Debug)]
struct Stream {
    view: StreamView,
    /// The connection it is on.
    conn: Arc<ConnState>,
    /// When the drain ends it, in milliseconds after it was opened, plus one; 0 = not. Written by the drain, read by the
    /// stream when it is woken.
    drain_at: AtomicU64,
    /// Whether its peer still acknowledges. Written by the sweep, and once more when the seat is dropped.
    watch: Mutex<Watch>,
    /// The sweep ended it. Written by the sweep, read when the seat is dropped.
    reaped: AtomicBool,
    /// The stream's task.
    waker: AtomicWaker,
}

/// What the sweep remembers of a stream.
#[derive(Debug, Default)]
struct Watch {
    pulse: Pulse,
    /// Bytes that the kernel had been given at the last look.
    written: u64,
    /// Counted as stale.
    is_stale: bool,
    /// The seat has been left: nothing is counted any more.
    is_over: bool,
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
pub struct Permit {
    connections: Arc<Connections>,
    route: RouteId,
    peer: IpAddr,
    opened: Instant,
    transport: Transport,
    /// The stream has begun. Until then the place is only kept: the app may still refuse, and that is no stream.
    is_open: bool,
    /// Counted as stale.
    is_stale: bool,
    /// It is one of those that the limits are for, and that a drain waits for: all but the canary's.
    is_counted: bool,
    /// Why the stream ends; the client, unless the stream says otherwise.
    reason: CloseReason,
    wrote_to_closed: bool,
    /// The client's place among the open files, once the socket is out of its connection's hands.
    counted: Option<Socket>,
}

/// A permit that the walks can reach: of a stream on a connection's task of its own.
#[derive(Debug)]
pub struct Seat {
    permit: Permit,
    key: usize,
    stream: Arc<Stream>,
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
    /// For how long something sent to it has waited for an acknowledgement.
    pub unacknowledged_for: Option<Duration>,
}

// === impl StreamView ===

impl StreamView {
    /// For how long its client has made us wait, one way or the other.
    pub fn waiting_for(&self) -> Duration {
        self.blocked_for.max(self.unacknowledged_for).unwrap_or_default()
    }
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
        Ok(self.permitted(route, peer, transport, true))
    }

    /// A permit that no limit and no drain knows of, for the canary.
    pub fn uncounted(self: &Arc<Self>, route: RouteId, transport: Transport) -> Permit {
        self.permitted(route, IpAddr::V4(Ipv4Addr::LOCALHOST), transport, false)
    }

    fn permitted(self: &Arc<Self>, route: RouteId, peer: IpAddr, transport: Transport, is_counted: bool) -> Permit {
        Permit {
            connections: Arc::clone(self),
            route,
            peer,
            opened: Instant::now(),
            transport,
            is_open: false,
            is_stale: false,
            is_counted,
            reason: CloseReason::Client,
            wrote_to_closed: false,
            counted: None,
        }
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
            let mut watch = stream.watch();
            if watch.is_over {
                continue;
            }
            let signs = stream.look(&mut watch, now);
            watch.mark_stale(signs.are_missing_for(self.limits.stale_after), self.metrics.route(stream.view.route));
            if signs.are_missing_for(self.limits.reap_after) {
                stream.reaped.store(true, Ordering::Release);
                // What is unsent is of no use to it, and the kernel need not keep it.
                stream.conn.wire.reset_on_close();
                stream.conn.abort.cancel();
            }
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

// === impl Stream ===

impl Stream {
    /// Brings the pulse up to date with what the wire has done since, and asks the kernel about the peer unless it is
    /// known that nothing waits for it. Bytes count as sent when this first sees them: an interval of the sweep late at
    /// most, and in the peer's favour.
    fn look(&self, watch: &mut Watch, now: Instant) -> Signs {
        let (wire, age) = (&self.conn.wire, self.age(now));
        let written = wire.bytes_written();
        if std::mem::replace(&mut watch.written, written) != written {
            watch.pulse.sent(age);
        }
        match wire.blocked_since() {
            Some(since) => watch.pulse.blocked(self.age(since)),
            None => watch.pulse.unblocked(),
        }
        if !watch.pulse.wants_look(age, Duration::ZERO) {
            return Signs::default();
        }
        watch.pulse.look(wire.socket().with(tcp::info).flatten(), age)
    }

    fn age(&self, moment: Instant) -> Duration {
        moment.duration_since(self.view.opened)
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().expect("no code panics under this lock")
    }

    fn drain_at(&self, moment: Instant) {
        let after = moment.duration_since(self.view.opened).as_millis();
        let after = u64::try_from(after).unwrap_or(u64::MAX - 1) + 1;
        // A second drain, or the seat of one that has begun, makes it sooner and not later.
        let sooner = |known| (known == 0 || after < known).then_some(after);
        let _ = self.drain_at.fetch_update(Ordering::AcqRel, Ordering::Acquire, sooner);
    }
}

impl Surveyed for Stream {
    fn route(&self) -> RouteId {
        self.view.route
    }

    fn opened(&self) -> Instant {
        self.view.opened
    }

    fn waits_at_most(&self, now: Instant) -> Option<Duration> {
        // As the last sweep left it. What was sent since has not waited for long.
        let blocked = self.conn.wire.blocked_since().map(|since| now.saturating_duration_since(since));
        self.watch().pulse.waits_at_most(self.age(now)).max(blocked)
    }

    fn view(&self, now: Instant) -> StreamView {
        // A look that leaves no trace.
        let mut watch = Watch { ..*self.watch() };
        let unacknowledged_for = self.look(&mut watch, now).unacknowledged;
        StreamView { blocked_for: watch.pulse.blocked_for(self.age(now)), unacknowledged_for, ..self.view.clone() }
    }
}

// === impl Watch ===

impl Watch {
    fn mark_stale(&mut self, is_stale: bool, metrics: &RouteMetrics) {
        if std::mem::replace(&mut self.is_stale, is_stale) != is_stale {
            metrics.mark_stale(is_stale);
        }
    }
}

// === impl Permit ===

impl Permit {
    /// The stream's route.
    pub fn route(&self) -> RouteId {
        self.route
    }

    /// The client's address.
    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// When the stream began.
    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// The stream begins.
    pub fn open(&mut self) {
        if !std::mem::replace(&mut self.is_open, true) {
            self.metrics().opened(self.transport);
        }
    }

    /// Says why the stream ends.
    pub fn close(&mut self, reason: CloseReason) {
        self.reason = reason;
    }

    /// Nobody here ended it, so its client did, or somebody between.
    pub fn is_left_by_client(&self) -> bool {
        self.is_open && self.reason == CloseReason::Client
    }

    /// Counts the stream as stale, or no more.
    pub fn mark_stale(&mut self, is_stale: bool) {
        if std::mem::replace(&mut self.is_stale, is_stale) != is_stale {
            self.metrics().mark_stale(is_stale);
        }
    }

    /// Keeps for advice how the stream ended, to which nothing has been sent since `sent`.
    pub fn trace_end(&self, sent: Option<Instant>, now: Instant) {
        let lifetime = now.duration_since(self.opened);
        let silence = sent.map_or(lifetime, |sent| now.duration_since(sent).min(lifetime));
        self.metrics().traces.ended(End { at: now, lifetime, silence });
    }

    fn metrics(&self) -> &RouteMetrics {
        self.connections.metrics.route(self.route)
    }

    /// A write met a client that had gone.
    pub fn wrote_to_closed(&mut self) {
        self.wrote_to_closed = true;
    }

    /// Takes over the client's place among the open files: the permit lives as long as the socket.
    pub fn carry(&mut self, counted: Option<Socket>) {
        self.counted = counted;
    }

    /// A moment of its own within the drain, if that has begun.
    pub fn drain_at(&self) -> Option<Instant> {
        let until = self.connections.lock().drain?.until;
        let now = Instant::now();
        Some(now + until.saturating_duration_since(now).mul_f64(rand::rng().random_range(0.0..1.0)))
    }

    /// Makes it a seat: the walks find it, and reach its task and its connection.
    pub fn listed(mut self, conn: Arc<ConnState>) -> Seat {
        self.open();
        let timeout = Some(self.connections.limits.user_timeout());
        // A refusal leaves the system's own time-out in place; a socket that is gone needs none.
        let _ = conn.wire.socket().with(|socket| tcp::set_user_timeout(socket, timeout));
        let view = StreamView {
            route: self.route,
            peer: self.peer,
            opened: self.opened,
            blocked_for: None,
            unacknowledged_for: None,
        };
        let stream = Arc::new(Stream {
            view,
            conn,
            drain_at: AtomicU64::new(0),
            watch: Mutex::default(),
            reaped: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        let key = self.connections.listed().insert(Arc::clone(&stream));
        // Asked after it is listed, so that a drain that begins meanwhile finds it in the list or is found here.
        if let Some(at) = self.drain_at() {
            stream.drain_at(at);
        }
        Seat { permit: self, key, stream }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.mark_stale(false);
        if self.is_open {
            if self.reason == CloseReason::Client && self.wrote_to_closed {
                self.metrics().invalid_state(InvalidStateSide::Client);
            }
            self.metrics().closed(self.transport, self.reason);
        }
        if self.is_counted {
            self.connections.leave(self.peer);
        }
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
        Some(self.stream.view.opened + Duration::from_millis(after))
    }

    /// Whether earlier bytes still wait for the peer; then nothing new should be made ready for it. The task is woken
    /// when that is over.
    pub fn is_blocked(&self, cx: &mut Context<'_>) -> bool {
        self.stream.conn.wire.poll_unblocked(cx).is_pending()
    }

    /// The stream's route.
    pub fn route(&self) -> RouteId {
        self.permit.route
    }

    /// The stream is over, and nothing has been sent to it since `sent`. If neither we nor the app ended it, that is kept
    /// for advice; to be called when it is dropped.
    pub fn trace_end(&self, sent: Option<Instant>) {
        let was_reaped = self.stream.reaped.load(Ordering::Acquire) || self.stream.conn.wire.is_given_up();
        if self.permit.is_left_by_client() && !was_reaped {
            self.permit.trace_end(sent, Instant::now());
        }
    }

    /// Says why the stream ends.
    pub fn close(&mut self, reason: CloseReason) {
        self.permit.close(reason);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.permit.connections.listed().remove(self.key);
        let mut watch = self.stream.watch();
        watch.is_over = true;
        watch.mark_stale(false, self.permit.metrics());
        drop(watch);
        let wire = &self.stream.conn.wire;
        // The connection may go on with requests that are no streams, whose clients may be as slow as the system lets them.
        let _ = wire.socket().with(|socket| tcp::set_user_timeout(socket, None));
        if self.stream.reaped.load(Ordering::Acquire) || wire.is_given_up() {
            self.permit.close(CloseReason::Stale);
        }
        if self.stream.conn.wire.write_failed() {
            self.permit.wrote_to_closed();
        }
    }
}

#[cfg(test)]
mod tests;
