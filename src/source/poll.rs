//! A topic polled from the app's JSON status endpoint: one request at a time, however many watch.
//!
//! The pace follows the job: the route's interval while the status changes, half as slow again each time it does not, up
//! to the route's maximum; `Retry-After` is a floor; while the app is in trouble, a back-off with full jitter. Nobody
//! watching means no polls: they stop with the last subscriber and go on with the next.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderValue, uri::PathAndQuery};
use tokio::{sync::OwnedSemaphorePermit, task::AbortHandle, time::Instant};

use super::{
    Asker, Detected, Sources, Trouble,
    schedule::{Due, Schedule},
};
use crate::{
    backoff::{Backoff, jitter},
    hub::Source,
    metrics::{Metrics, RouteMetrics, Violation},
    route::{PollSpec, Route, SourceSpec},
    topic::Topic,
};

mod answer;

use self::answer::Asked;

/// Waits between polls of a job that the app doesn't know yet.
const NOT_FOUND_PAUSE: Duration = Duration::from_millis(500);
/// Back-off while the app is in trouble.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How much slower an unchanged job is polled, each time.
const SLOWER: f64 = 1.5;
/// Intervals are spread by this fraction either way.
const JITTER: f64 = 0.1;

/// Starts polling for `topic`, once somebody joins.
pub fn start(sources: &Sources, asker: Asker, topic: Arc<Topic>, target: PathAndQuery) -> PollSource {
    let routes = Arc::clone(&sources.routes);
    let state = State::new(spec(&routes[topic.key().route.0]));
    PollSource(Arc::new_cyclic(|me| Poller {
        me: Weak::clone(me),
        topic,
        target,
        routes,
        asker,
        metrics: Arc::clone(&sources.metrics),
        schedule: Arc::clone(&sources.schedule),
        detected: Arc::clone(&sources.detected),
        not_found_grace: sources.not_found_grace,
        turn: AtomicU64::new(0),
        watched: AtomicBool::new(false),
        state: Mutex::new(state),
    }))
}

/// The source; dropping it cancels a poll in flight.
#[derive(Debug)]
pub struct PollSource(Arc<Poller>);

/// One topic's polls.
pub struct Poller {
    me: Weak<Self>,
    topic: Arc<Topic>,
    target: PathAndQuery,
    routes: Arc<[Route]>,
    asker: Asker,
    metrics: Arc<Metrics>,
    schedule: Arc<Schedule>,
    detected: Arc<Detected>,
    not_found_grace: Duration,
    /// The appointment that counts; read by the schedule under its own lock, so it must not need ours.
    turn: AtomicU64,
    /// Somebody subscribes. Written by the hub, read when a poll ends.
    watched: AtomicBool,
    /// Written by the poll in flight, of which there is one at most, and by the hub when somebody joins.
    state: Mutex<State>,
}

struct State {
    in_flight: Option<AbortHandle>,
    pace: Duration,
    backoff: Backoff,
    etag: Option<HeaderValue>,
    /// Of the last good body: an unchanged answer costs a hash, and no parse.
    body_hash: Option<blake3::Hash>,
    terminal: bool,
    first_not_found: Option<Instant>,
    polled_at: Option<Instant>,
    /// The app's `Retry-After`: no request before this.
    not_before: Option<Instant>,
    polls: u64,
    /// Kinds of violation that were logged for this topic already.
    logged: u8,
}

/// What to do after a poll.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Next {
    /// Poll again after this.
    After(Duration),
    /// The job is over: wait for somebody who needs to know again.
    Rest,
}

// === impl PollSource ===

impl Source for PollSource {
    fn joined(&self, first: bool) {
        self.0.watched.store(true, Ordering::Release);
        self.0.joined(first);
    }

    fn idle(&self) {
        self.0.watched.store(false, Ordering::Release);
        // Whatever was due is not any more; a poll in flight may finish, and finds nobody.
        self.0.turn.fetch_add(1, Ordering::AcqRel);
    }

    fn pace(&self) -> Option<Duration> {
        Some(self.0.lock().pace)
    }
}

impl Drop for PollSource {
    fn drop(&mut self) {
        self.0.watched.store(false, Ordering::Release);
        self.0.turn.fetch_add(1, Ordering::AcqRel);
        if let Some(in_flight) = self.0.lock().in_flight.take() {
            in_flight.abort();
        }
    }
}

// === impl Poller ===

impl Due for Poller {
    fn poll(self: Arc<Self>, turn: u64, permit: OwnedSemaphorePermit) {
        // Owned by the topic's source, which aborts it; otherwise it ends with its answer or its time-out.
        let poller = Arc::clone(&self);
        let mut state = self.lock();
        // The last client may have left while the poll before made this appointment.
        if state.is_asking() || !self.is_current(turn) || !self.is_watched() {
            return;
        }
        let task = tokio::spawn(async move {
            let next = poller.poll_once().await;
            drop(permit);
            poller.done(next);
        });
        state.in_flight = Some(task.abort_handle());
    }

    fn is_current(&self, turn: u64) -> bool {
        self.turn.load(Ordering::Acquire) == turn
    }
}

impl Poller {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics under this lock")
    }

    fn route(&self) -> &Route {
        &self.routes[self.topic.key().route.0]
    }

    fn route_metrics(&self) -> &RouteMetrics {
        self.metrics.route(self.topic.key().route)
    }

    /// Somebody came. While others watch, the appointments run already; otherwise what is known may be old.
    fn joined(&self, first: bool) {
        let state = self.lock();
        if state.is_asking() {
            return;
        }
        let fresh = spec(self.route()).interval;
        let rested = state.polled_at.map(|at| at.elapsed());
        let is_old = rested.is_none_or(|rested| rested >= fresh);
        if self.topic.is_ended() {
            let is_allowed = state.not_before.is_none_or(|at| at <= Instant::now());
            // Others may wait already for a poll that ended without a word on this topic.
            if (is_old && is_allowed) || !self.topic.is_settled() {
                // A job may be started again after its end: the newcomer waits for the app's word.
                self.topic.unsettle();
                drop(state);
                self.appoint(Duration::ZERO);
            }
        } else if first {
            let wait = if is_old { Duration::ZERO } else { state.pace.saturating_sub(rested.unwrap_or_default()) };
            drop(state);
            self.appoint(wait);
        }
    }

    /// Replaces the appointment.
    fn appoint(&self, after: Duration) {
        let at = (Instant::now() + after).max(self.lock().not_before.unwrap_or_else(Instant::now));
        let turn = self.turn.fetch_add(1, Ordering::AcqRel) + 1;
        let me: Weak<dyn Due> = self.me.clone();
        self.schedule.at(at, turn, me);
    }

    /// A poll ended.
    fn done(&self, next: Next) {
        let mut state = self.lock();
        state.in_flight = None;
        state.polled_at = Some(Instant::now());
        drop(state);
        match next {
            Next::After(pause) if self.is_watched() => self.appoint(pause),
            Next::After(_) | Next::Rest => {}
        }
    }

    fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Acquire)
    }

    async fn poll_once(&self) -> Next {
        let Some(lender) = self.topic.lenders().current() else {
            // Everybody whose credentials could be used has left or was denied. Somebody may have joined since, and rely on
            // this poll because it was under way.
            return Next::After(spec(self.route()).interval);
        };
        self.lock().polls += 1;
        match self.ask(&lender).await {
            Asked::Answer(answer) => self.answered(&answer),
            Asked::Refused(decision, answer) => self.refused(&lender, decision, answer).await,
            Asked::TooLarge => {
                self.violation(Violation::TooLarge, "the answer is over 1 MiB", None);
                self.trouble(Trouble::Answer("too_large"))
            }
            Asked::Trouble(trouble) => self.trouble(trouble),
        }
    }
}

impl std::fmt::Debug for Poller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poller").field("topic", self.topic.key()).finish_non_exhaustive()
    }
}

// === impl State ===

impl State {
    fn new(spec: &PollSpec) -> Self {
        Self {
            in_flight: None,
            pace: spec.interval,
            backoff: Backoff::new(BACKOFF.0, BACKOFF.1),
            etag: None,
            body_hash: None,
            terminal: false,
            first_not_found: None,
            polled_at: None,
            not_before: None,
            polls: 0,
            logged: 0,
        }
    }

    /// Whether a poll is on its way. A task that has panicked is not: the next who joins has the app asked again.
    fn is_asking(&self) -> bool {
        self.in_flight.as_ref().is_some_and(|task| !task.is_finished())
    }

    /// The pause after an unchanged answer.
    fn slower(&mut self, spec: &PollSpec) -> Duration {
        self.pace = self.pace.mul_f64(SLOWER).min(spec.max_interval);
        jitter(self.pace, JITTER)
    }
}

fn spec(route: &Route) -> &PollSpec {
    match &route.source {
        SourceSpec::Poll(spec) => spec,
        SourceSpec::Subscribe(_) => unreachable!("a poll source is made for poll routes only"),
    }
}

#[cfg(test)]
mod tests;
