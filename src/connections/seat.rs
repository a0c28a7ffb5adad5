//! A seat, and what the walks know of the stream in it: the two ends of one thing. The stream's task holds the [`Seat`],
//! the list a [`Stream`], over which the sweep and the drain reach it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Limits, Permit, StreamView};
use crate::{
    metrics::{CloseReason, Metrics, RouteId, RouteMetrics},
    pulse::{Pulse, Signs},
    survey::Surveyed,
    tcp,
    wire::WireState,
};

/// A permit that the walks can reach: of a stream on a connection's task of its own.
#[derive(Debug)]
pub struct Seat {
    permit: Permit,
    key: usize,
    stream: Arc<Stream>,
}

/// What is known of one open stream from outside of it.
#[derive(Debug)]
pub(super) struct Stream {
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
    pub(super) waker: AtomicWaker,
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

// === impl Seat ===

impl Seat {
    pub(super) fn new(mut permit: Permit, conn: Arc<ConnState>) -> Self {
        permit.open();
        let timeout = Some(permit.connections.limits.user_timeout());
        // A refusal leaves the system's own time-out in place; a socket that is gone needs none.
        let _ = conn.wire.socket().with(|socket| tcp::set_user_timeout(socket, timeout));
        let view = StreamView {
            route: permit.route(),
            peer: permit.peer(),
            opened: permit.opened(),
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
        let key = permit.connections.listed().insert(Arc::clone(&stream));
        // Asked after it is listed, so that a drain that begins meanwhile finds it in the list or is found here.
        if let Some(at) = permit.drain_at() {
            stream.drain_at(at);
        }
        Self { permit, key, stream }
    }

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
        self.permit.route()
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

// === impl Stream ===

impl Stream {
    /// Counts it if it is stale, and ends it if it was for too long.
    pub(super) fn sweep(&self, now: Instant, limits: &Limits, metrics: &Metrics) {
        let mut watch = self.watch();
        if watch.is_over {
            return;
        }
        let signs = self.look(&mut watch, now);
        watch.mark_stale(signs.are_missing_for(limits.stale_after), metrics.route(self.view.route));
        if signs.are_missing_for(limits.reap_after) {
            self.reaped.store(true, Ordering::Release);
            // What is unsent is of no use to it, and the kernel need not keep it.
            self.conn.wire.reset_on_close();
            self.conn.abort.cancel();
        }
    }

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

    pub(super) fn drain_at(&self, moment: Instant) {
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
