//! A stream's place in the counts, whoever writes to it.

use std::{net::IpAddr, sync::Arc};

use rand::Rng;
use tokio::time::Instant;

use super::{ConnState, Connections, Seat};
use crate::{
    advice::traces::End,
    files::Socket,
    metrics::{CloseReason, InvalidStateSide, RouteId, RouteMetrics, Transport},
};

/// A stream's place among the open ones; dropping it closes the books on the stream.
#[derive(Debug)]
pub struct Permit {
    pub(super) connections: Arc<Connections>,
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

// === impl Permit ===

impl Permit {
    pub(super) fn new(
        connections: &Arc<Connections>,
        route: RouteId,
        peer: IpAddr,
        transport: Transport,
        is_counted: bool,
    ) -> Self {
        Self {
            connections: Arc::clone(connections),
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

    pub(super) fn metrics(&self) -> &RouteMetrics {
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
    pub fn listed(self, conn: Arc<ConnState>) -> Seat {
        Seat::new(self, conn)
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
