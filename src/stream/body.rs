//! The body of a stream: what the topic delivers, heartbeats in the silence between, and the end in good order.
//!
//! It holds a position in the topic and one timer. While earlier bytes still wait for the peer it takes nothing from the
//! topic, so a reader of state that is slow gets the latest when it is ready, and no more than a frame waits in user space.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rand::Rng;
use tokio::time::{Instant, Sleep};

use super::{Joining, admission::Admission, patience::come_back};
use crate::{
    backoff::jitter,
    connections::Seat,
    event::{self, Frame, HeartbeatForm},
    hub::Joined,
    metrics::{CloseReason, FrameKind, Metrics, RejectReason, RouteId},
    route::{Route, Share},
    subscription::Subscription,
    topic::{Delivery, End, Settled},
    upstream::BoxError,
};

/// How long a client has to close by itself after the last event.
pub const CLOSING: Duration = Duration::from_secs(1);
/// The `retry:` of the last block, milliseconds: clients that ignore the end come back, but slowly.
const LONG_RETRY: std::ops::Range<u64> = 30_000..60_000;
/// `retry:` is spread by this fraction either way, so that clients cut together don't come back together.
pub const RETRY_JITTER: f64 = 0.33;
/// `--max-age` is spread by this fraction: see [`Pacing::lifetime`].
const MAX_AGE_JITTER: f64 = 0.1;

/// What a stream waits for.
pub enum Watching {
    /// The app's word on this client, before it may join a shared topic.
    Admission {
        /// Resolves when the app has spoken.
        ask: BoxFuture<'static, Admission>,
        /// What the client is told meanwhile.
        notice: Option<Frame>,
        /// How to join then.
        join: Box<Joining>,
    },
    /// The app's word on the topic, after an admission that took so long that the stream is open.
    Word(Box<Late>),
    /// A topic.
    Topic(Subscription),
}

/// A subscriber that is to be let in while its stream is open.
#[derive(Debug)]
pub struct Late {
    subscription: Subscription,
    last_event_id: Option<String>,
}

/// The times of a stream, from its route.
#[derive(Clone, Debug)]
pub struct Pacing {
    /// The silence after which a heartbeat is sent.
    pub heartbeat: Duration,
    /// The heartbeat.
    pub heartbeat_frame: Frame,
    /// The `retry:` hint before its jitter.
    pub retry: Duration,
    /// The age at which a stream ends, before its jitter.
    pub max_age: Option<Duration>,
    /// Clients are admitted anew when they come back, so none may live longer than its age.
    pub is_checked: bool,
}

impl std::fmt::Debug for Watching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Admission { .. } => "Admission",
            Self::Word(_) => "Word",
            Self::Topic(_) => "Topic",
        })
    }
}

/// A stream's body.
pub struct StreamBody {
    stage: Stage,
    seat: Seat,
    pacing: Arc<Pacing>,
    metrics: Arc<Metrics>,
    route: RouteId,
    /// The hint for this connection, until it has gone out in front of the first event.
    retry: Option<Duration>,
    /// Nothing has been sent yet.
    is_silent: bool,
    heartbeat_at: Instant,
    /// The peer took nothing when this was last looked at.
    was_blocked: bool,
    /// When it ends by plan, and what that is counted as.
    ends_at: Option<(Instant, CloseReason)>,
    timer: Pin<Box<Sleep>>,
}

enum Stage {
    Watching(Watching),
    /// The last event has gone; the client may close.
    Closing,
    Over,
}

/// What the stage has for us now.
enum Step {
    Send(Bytes, FrameKind),
    End,
    Wait,
}

// === impl Pacing ===

impl Pacing {
    /// The times of `route`'s streams.
    pub fn new(route: &Route, form: HeartbeatForm) -> Self {
        Self {
            heartbeat: route.heartbeat,
            heartbeat_frame: Frame::new(&[&form.frame()]),
            retry: route.retry,
            max_age: route.max_age,
            is_checked: route.share == Share::Authorized,
        }
    }

    /// The times of the streams of each of `routes`, each made once for all streams.
    pub fn of_all(routes: &[Route], form: HeartbeatForm) -> Box<[Arc<Self>]> {
        routes.iter().map(|route| Arc::new(Self::new(route, form))).collect()
    }

    /// How long one stream lives: its age, give or take, so that streams that began together don't end together.
    pub fn lifetime(&self) -> Option<Duration> {
        let middle = if self.is_checked { 1.0 - MAX_AGE_JITTER } else { 1.0 };
        self.max_age.map(|age| jitter(age.mul_f64(middle), MAX_AGE_JITTER))
    }
}

// === impl StreamBody ===

impl StreamBody {
    /// A stream that begins now.
    pub fn new(watching: Watching, seat: Seat, pacing: Arc<Pacing>, metrics: Arc<Metrics>) -> Self {
        let now = Instant::now();
        let route = seat.route();
        let ends_at = pacing.lifetime().map(|age| (now + age, CloseReason::MaxAge));
        let retry = Some(jitter(pacing.retry, RETRY_JITTER));
        let heartbeat_at = now + pacing.heartbeat;
        let timer = Box::pin(tokio::time::sleep_until(heartbeat_at));
        let stage = Stage::Watching(watching);
        Self {
            stage,
            seat,
            pacing,
            metrics,
            route,
            retry,
            is_silent: true,
            heartbeat_at,
            was_blocked: false,
            ends_at,
            timer,
        }
    }

    fn step(&mut self, cx: &mut Context<'_>, now: Instant) -> Step {
        // Only while it watches: a stream that has had its end keeps its last second, and one that is over stays so.
        if matches!(self.stage, Stage::Watching(_))
            && let Some(at) = self.seat.drain_at()
            && self.ends_at.is_none_or(|(ends_at, _)| at < ends_at)
        {
            self.ends_at = Some((at, CloseReason::Drain));
        }
        if let Some((_, reason)) = self.ends_at.filter(|(at, _)| *at <= now) {
            return self.end_by_plan(reason);
        }
        // Whatever is new can wait until the peer has taken what it was sent; by then there may be something newer.
        if self.seat.is_blocked(cx) {
            self.was_blocked = true;
            return Step::Wait;
        }
        if std::mem::take(&mut self.was_blocked) {
            // A heartbeat that was held back is due now: the time before was the peer's, and counts as nobody's lateness.
            self.heartbeat_at = self.heartbeat_at.max(now);
        }
        match self.next(cx) {
            Step::Wait if self.is_silent => {
                // The first bytes leave at once: proxies hold back a head that nothing follows.
                Step::Send(self.pacing.heartbeat_frame.block(), FrameKind::Heartbeat)
            }
            Step::Wait if self.heartbeat_at <= now => {
                self.metrics.heartbeat_sent(now.duration_since(self.heartbeat_at));
                Step::Send(self.pacing.heartbeat_frame.block(), FrameKind::Heartbeat)
            }
            step => step,
        }
    }

    /// The drain tells the client when to come back. The line stands alone: a client applies it when it reads it, and a
    /// blank line after it would make some deliver an empty message.
    fn end_by_plan(&mut self, reason: CloseReason) -> Step {
        self.ends_at = None;
        self.seat.close(reason);
        self.stage = Stage::Over;
        if reason == CloseReason::Drain {
            let hint = event::retry_line(jitter(self.pacing.retry, RETRY_JITTER));
            return Step::Send(hint, FrameKind::Control);
        }
        Step::End
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Step {
        match &mut self.stage {
            Stage::Watching(Watching::Topic(subscription)) => match subscription.poll_next(cx) {
                Poll::Ready(delivery) => self.deliver(delivery),
                Poll::Pending => Step::Wait,
            },
            Stage::Watching(Watching::Admission { ask, notice, join }) => {
                if let Some(notice) = notice.take() {
                    return Step::Send(notice.block(), FrameKind::Control);
                }
                match ask.as_mut().poll(cx) {
                    Poll::Ready(Admission::Admitted) => {
                        let joined = join.join();
                        let last_event_id = join.last_event_id.take();
                        self.joined(joined.ok(), last_event_id, cx)
                    }
                    Poll::Ready(Admission::Refused(_) | Admission::Trouble(_)) => self.end(CloseReason::Denied),
                    Poll::Pending => Step::Wait,
                }
            }
            Stage::Watching(Watching::Word(late)) => match late.subscription.poll_settled(cx) {
                Poll::Ready(Settled::Open) => self.let_in(cx),
                Poll::Ready(Settled::Refused(_)) => self.end(CloseReason::Denied),
                Poll::Pending => Step::Wait,
            },
            Stage::Closing => Step::Wait,
            Stage::Over => Step::End,
        }
    }

    fn let_in(&mut self, cx: &mut Context<'_>) -> Step {
        if let Stage::Watching(Watching::Word(late)) = std::mem::replace(&mut self.stage, Stage::Over) {
            let Late { mut subscription, last_event_id } = *late;
            // Whoever has seen the end already is told it once more: it is too late for a 204.
            subscription.place(last_event_id.as_deref());
            self.stage = Stage::Watching(Watching::Topic(subscription));
        }
        self.next(cx)
    }

    /// Admitted late: the stream is open already, so whatever comes now has to come through it.
    fn joined(&mut self, joined: Option<Joined>, last_event_id: Option<String>, cx: &mut Context<'_>) -> Step {
        match joined {
            Some(Joined::Subscribed(subscription)) => {
                self.stage = Stage::Watching(Watching::Word(Box::new(Late { subscription, last_event_id })));
                self.next(cx)
            }
            Some(Joined::Finished(_)) => self.end(CloseReason::Done),
            None => {
                self.metrics.rejected(RejectReason::MaxTopics);
                self.seat.close(CloseReason::Error);
                self.stage = Stage::Over;
                // Turned away like anybody else over a limit, or it would be back in three seconds.
                Step::Send(event::retry_line(come_back()), FrameKind::Control)
            }
        }
    }

    fn deliver(&mut self, delivery: Delivery) -> Step {
        match delivery {
            Delivery::Frame { frame, kind, at } => {
                if kind == FrameKind::Event {
                    self.metrics.route(self.route).delivered(at.elapsed());
                }
                let frame = match self.retry.take() {
                    Some(retry) => frame.with_retry(retry),
                    None => frame,
                };
                Step::Send(frame.block(), kind)
            }
            Delivery::Lagged => self.end(CloseReason::Slow),
            Delivery::End(End { frame, reason, .. }) => {
                let Some(last) = last_block(frame, reason) else { return self.end(reason) };
                self.stage = Stage::Closing;
                self.seat.close(reason);
                self.ends_at = Some((Instant::now() + CLOSING, reason));
                Step::Send(last.block(), FrameKind::Control)
            }
        }
    }

    fn end(&mut self, reason: CloseReason) -> Step {
        self.seat.close(reason);
        self.stage = Stage::Over;
        Step::End
    }

    /// Wakes the task at the next thing that is due.
    fn arm(&mut self, cx: &mut Context<'_>, blocked: bool) -> Poll<()> {
        let heartbeat = (!blocked && !matches!(self.stage, Stage::Closing)).then_some(self.heartbeat_at);
        let next = heartbeat.into_iter().chain(self.ends_at.map(|(at, _)| at)).min();
        let Some(next) = next else { return Poll::Pending };
        if self.timer.deadline() != next {
            self.timer.as_mut().reset(next);
        }
        self.timer.as_mut().poll(cx)
    }
}

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        // Before anything is looked at, so that nothing is missed in between.
        this.seat.register(cx.waker());
        loop {
            let now = Instant::now();
            match this.step(cx, now) {
                Step::Send(bytes, kind) => {
                    this.metrics.route(this.route).frame_sent(kind, bytes.len());
                    this.is_silent = false;
                    this.heartbeat_at = now + this.pacing.heartbeat;
                    return Poll::Ready(Some(Ok(http_body::Frame::data(bytes))));
                }
                Step::End => return Poll::Ready(None),
                Step::Wait => {
                    let blocked = this.seat.is_blocked(cx);
                    if this.arm(cx, blocked).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.seat.trace_end(self.heartbeat_at.checked_sub(self.pacing.heartbeat));
    }
}

impl std::fmt::Debug for StreamBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamBody").field("route", &self.route).finish_non_exhaustive()
    }
}

/// The last thing a client is sent when a topic ends: its last event, and a `retry:` so long that a client which ignores
/// the end comes back slowly. Nothing, if it is not to be told.
pub fn last_block(frame: Option<Frame>, reason: CloseReason) -> Option<Frame> {
    let retry = Duration::from_millis(rand::rng().random_range(LONG_RETRY));
    match frame {
        Some(frame) => Some(frame.with_retry(retry)),
        None if reason == CloseReason::Done => Some(Frame::new(&[&event::retry_line(retry)])),
        None => None,
    }
}

#[cfg(test)]
mod tests;
