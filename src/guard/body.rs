//! The body of a guarded stream: the app's bytes as they come, and heartbeats in the gaps between its events.
//!
//! Nothing is kept: a chunk of the app goes out in the moment it comes, and none is taken while earlier bytes wait for
//! the client. Dropping the body, whoever does it, cancels the request at the app.

use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep};

use super::{
    Pacing,
    boundary::{Finder, Gap, Piece},
};
use crate::{
    backoff::jitter,
    connections::Seat,
    event::{self, HeartbeatForm},
    metrics::{CloseReason, FrameKind, InvalidStateSide, Metrics, RouteMetrics},
    upstream::BoxError,
    wire::WireState,
};

/// `retry:` is spread by this fraction either way, so that clients cut together don't come back together.
const RETRY_JITTER: f64 = 0.33;

type Frames = Option<Result<Frame<Bytes>, BoxError>>;

/// A stream of the app under guard.
pub struct GuardedBody<B> {
    /// The app's body; `None` when the stream is over.
    app: Option<B>,
    finder: Finder,
    seat: Seat,
    pacing: Pacing,
    metrics: Arc<Metrics>,
    ends_at_drain: bool,
    resets_on_cut: Option<Arc<WireState>>,
    /// When the silence has lasted long enough.
    heartbeat_at: Instant,
    /// The client took nothing when this was last looked at.
    was_blocked: bool,
    timer: Pin<Box<Sleep>>,
}

// === impl GuardedBody ===

impl<B> GuardedBody<B>
where
    B: Body<Data = Bytes, Error = BoxError> + Unpin,
{
    /// Guards `app` from now on.
    pub fn new(app: B, seat: Seat, pacing: Pacing, metrics: Arc<Metrics>) -> Self {
        let heartbeat_at = Instant::now() + pacing.heartbeat;
        Self {
            app: Some(app),
            finder: Finder::new(),
            seat,
            pacing,
            metrics,
            ends_at_drain: true,
            resets_on_cut: None,
            heartbeat_at,
            was_blocked: false,
            timer: Box::pin(tokio::time::sleep_until(heartbeat_at)),
        }
    }

    /// Whether the drain ends it at its moment; else it may go on until the time for the drain is over.
    pub fn ends_at_drain(mut self, ends: bool) -> Self {
        self.ends_at_drain = ends;
        self
    }

    /// Resets this connection when the app cuts the stream.
    pub fn resets_on_cut(mut self, wire: Option<Arc<WireState>>) -> Self {
        self.resets_on_cut = wire;
        self
    }

    fn counts(&self) -> &RouteMetrics {
        self.metrics.route(self.seat.route())
    }

    /// What of the app's there is to send.
    fn poll_app(&mut self, cx: &mut Context<'_>, is_draining: bool) -> Poll<Frames> {
        loop {
            let Some(app) = &mut self.app else { return Poll::Ready(None) };
            let frame = match ready!(Pin::new(app).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(self.cut(error)),
                None => return Poll::Ready(self.end()),
            };
            let chunk = match frame.into_data() {
                Ok(chunk) => chunk,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            };
            let Piece { mut bytes, events, last_gap } = self.finder.push(chunk);
            if let Some(at) = last_gap.filter(|_| is_draining && self.ends_at_drain) {
                // What follows in this chunk is the beginning of an event that would be cut.
                bytes.truncate(at);
                self.counts().passed(events, bytes.len());
                return Poll::Ready(self.end_by_drain(&bytes));
            }
            if !bytes.is_empty() {
                self.counts().passed(events, bytes.len());
                self.heartbeat_at = Instant::now() + self.pacing.heartbeat;
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
        }
    }

    /// The app has said everything.
    fn end(&mut self) -> Frames {
        self.app = None;
        self.seat.close(CloseReason::Upstream);
        if self.finder.is_mid_event() {
            self.counts().invalid_state(InvalidStateSide::Upstream);
        }
        let held = self.finder.finish();
        (!held.is_empty()).then(|| Ok(Frame::data(held)))
    }

    /// The app broke off, which the client shall see as what it is.
    fn cut(&mut self, error: BoxError) -> Frames {
        self.app = None;
        self.seat.close(CloseReason::Upstream);
        self.counts().invalid_state(InvalidStateSide::Upstream);
        if let Some(wire) = &self.resets_on_cut {
            wire.reset_on_close();
        }
        Some(Err(error))
    }

    /// Ends the stream in a gap, behind `bytes`. The hint stands alone: a client applies the line when it reads it, and
    /// a blank line after it would make some deliver an empty message.
    fn end_by_drain(&mut self, bytes: &Bytes) -> Frames {
        self.app = None;
        self.seat.close(CloseReason::Drain);
        let hint = event::retry_line(jitter(self.pacing.retry, RETRY_JITTER));
        // Behind the last byte of the app the line may need a prefix; in the middle of a chunk it needs none.
        let hint = if bytes.is_empty() { self.finder.insert(hint) } else { hint };
        self.counts().frame_sent(FrameKind::Control, hint.len());
        let mut last = BytesMut::with_capacity(bytes.len() + hint.len());
        last.extend_from_slice(bytes);
        last.extend_from_slice(&hint);
        Some(Ok(Frame::data(last.freeze())))
    }

    /// The heartbeat that is due, if there is a place for it.
    fn heartbeat(&mut self, now: Instant) -> Option<Bytes> {
        let lateness = now.checked_duration_since(self.heartbeat_at)?;
        let form = match self.finder.gap()? {
            Gap::Events => self.pacing.form,
            // The app's own comment shows that its clients take lines like this one.
            Gap::Comments => HeartbeatForm::Comment,
        };
        let heartbeat = self.finder.insert(form.frame());
        self.metrics.heartbeat_sent(lateness);
        self.counts().frame_sent(FrameKind::Heartbeat, heartbeat.len());
        self.heartbeat_at = now + self.pacing.heartbeat;
        Some(heartbeat)
    }

    /// Wakes the task at the next thing that is due. Inside an event nothing is; its next piece wakes the task.
    fn arm(&mut self, cx: &mut Context<'_>, now: Instant, is_blocked: bool) -> Poll<()> {
        let heartbeat = (!is_blocked && self.finder.gap().is_some()).then_some(self.heartbeat_at);
        let drain = self.seat.drain_at().filter(|at| *at > now);
        let Some(next) = heartbeat.into_iter().chain(drain).min() else { return Poll::Pending };
        if self.timer.deadline() != next {
            self.timer.as_mut().reset(next);
        }
        self.timer.as_mut().poll(cx)
    }
}

impl<B> Body for GuardedBody<B>
where
    B: Body<Data = Bytes, Error = BoxError> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Frames> {
        let this = self.get_mut();
        // Before anything is looked at, so that nothing is missed in between.
        this.seat.register(cx.waker());
        loop {
            if this.app.is_none() {
                return Poll::Ready(None);
            }
            let now = Instant::now();
            let is_draining = this.seat.drain_at().is_some_and(|at| at <= now);
            if is_draining {
                // Also what is cut when the time for the drain is over counts as ended by it.
                this.seat.close(CloseReason::Drain);
                if this.ends_at_drain && this.finder.gap().is_some() {
                    return Poll::Ready(this.end_by_drain(&Bytes::new()));
                }
            }
            let is_blocked = this.seat.is_blocked(cx);
            let was_blocked = mem::replace(&mut this.was_blocked, is_blocked);
            if !is_blocked {
                if was_blocked {
                    // What was held back is due now: the time before was the client's, and counts as nobody's lateness.
                    this.heartbeat_at = this.heartbeat_at.max(now);
                }
                if let Poll::Ready(frames) = this.poll_app(cx, is_draining) {
                    return Poll::Ready(frames);
                }
                if let Some(heartbeat) = this.heartbeat(now) {
                    return Poll::Ready(Some(Ok(Frame::data(heartbeat))));
                }
            }
            ready!(this.arm(cx, now, is_blocked));
        }
    }

    /// The length is not the app's any more; until the end nobody knows it.
    fn is_end_stream(&self) -> bool {
        self.app.is_none()
    }
}

impl<B> Drop for GuardedBody<B> {
    fn drop(&mut self) {
        self.seat.trace_end(self.heartbeat_at.checked_sub(self.pacing.heartbeat));
    }
}

impl<B> std::fmt::Debug for GuardedBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuardedBody").field("finder", &self.finder).field("seat", &self.seat).finish_non_exhaustive()
    }
}
