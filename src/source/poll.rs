//! A topic polled from the app's JSON status endpoint: one request at a time, however many watch.
//!
//! The pace follows the job: the route's interval while the status changes, half as slow again each time it does not, up
//! to the route's maximum; `Retry-After` is a floor; while the app is in trouble, a back-off with full jitter. Nobody
//! watching means no polls: they stop with the last subscriber and go on with the next.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::OwnedSemaphorePermit, task::AbortHandle, time::Instant};

use super::{PASSES_MAX, Shared, Trouble, schedule::Due};
use crate::{
    backoff::{Backoff, jitter},
    hub::Source,
    metrics::{RouteMetrics, Violation},
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
/// Questions whether a job that has ended still is over are the route's interval apart, but no longer than this, since
/// newcomers wait for the answer.
const CONFIRM_MAX: Duration = Duration::from_secs(5);
/// How long such newcomers are kept waiting for the moment of the question; where it is further away, because the app wants
/// to be left alone or fails again and again, they get what is known. Well under the time until they get a stream anyway.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts polling for `topic`, once somebody joins.
pub(super) fn start(shared: Arc<Shared>, topic: Arc<Topic>) -> PollSource {
    let state = State::new(spec(&shared.routes[topic.key().route.0]));
    PollSource(Arc::new(Poller {
        topic,
        shared,
        turn: AtomicU64::new(0),
        watched: AtomicBool::new(false),
        watchers: AtomicU32::new(0),
        state: Mutex::new(state),
    }))
}

/// The source; dropping it cancels a poll in flight.
#[derive(Debug)]
pub struct PollSource(Arc<Poller>);

/// One topic's polls.
pub struct Poller {
    topic: Arc<Topic>,
    shared: Arc<Shared>,
    /// The appointment that counts; read by the schedule under its own lock, so it must not need ours.
    turn: AtomicU64,
    /// Somebody subscribes. Written by the hub, read when a poll ends.
    watched: AtomicBool,
    /// How many subscribe. Written by the hub, read for a count when a poll ends.
    watchers: AtomicU32,
    /// Written by the poll in flight, of which there is one at most, and by the hub when somebody joins.
    state: Mutex<State>,
}

struct State {
    in_flight: Option<AbortHandle>,
    pace: Duration,
    polled_at: Option<Instant>,
    /// Of the last good answer.
    etag: Option<Box<[u8]>>,
    /// Of the last good body: an unchanged answer costs a hash, and no parse.
    body_hash: Option<BodyHash>,
    terminal: bool,
    /// The last poll was of a job that had ended before.
    is_confirming: bool,
    /// The next poll is the first.
    is_new: bool,
    /// Kinds of violation that were logged for this topic already, or left out.
    logged: u8,
    /// Only while the app is not well, or not willing: few topics have it.
    unwell: Option<Box<Unwell>>,
}

/// Half of a BLAKE3 hash, as in the ids of snapshots: nobody finds two bodies that meet in it.
type BodyHash = [u8; 16];

/// What is remembered of an app that doesn't answer as it should.
struct Unwell {
    backoff: Backoff,
    first_not_found: Option<Instant>,
    /// The app's `Retry-After`: no request before this.
    not_before: Option<Instant>,
    /// How often another lender was tried at once.
    passed_on: u8,
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

    fn confirm_end(&self) {
        self.0.confirm_end();
    }

    fn idle(&self) {
        self.0.watched.store(false, Ordering::Release);
        // Whatever was due is not any more; a poll in flight may finish, and finds nobody.
        self.0.turn.fetch_add(1, Ordering::AcqRel);
    }

    fn watched_by(&self, subscribers: usize) {
        self.0.watchers.store(u32::try_from(subscribers).unwrap_or(u32::MAX), Ordering::Relaxed);
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
        &self.shared.routes[self.topic.key().route.0]
    }

    fn route_metrics(&self) -> &RouteMetrics {
        self.shared.metrics.route(self.topic.key().route)
    }

    /// Somebody came. While others watch, the appointments run already; otherwise what is known may be old.
    fn joined(self: &Arc<Self>, first: bool) {
        let state = self.lock();
        if state.is_asking() {
            return;
        }
        let fresh = spec(self.route()).interval;
        let rested = state.polled_at.map(|at| at.elapsed());
        let is_old = rested.is_none_or(|rested| rested >= fresh);
        if self.topic.is_ended() {
            let wait = state.until_confirmed(spec(self.route()));
            drop(state);
            // Others may wait already for a poll that ended without a word on this topic.
            if !self.topic.is_settled() {
                self.appoint(wait);
            } else if is_old && wait.is_zero() {
                // A job may be started again after its end: the newcomer waits for the app's word.
                self.topic.unsettle();
                self.appoint(wait);
            }
        } else if first {
            let wait = if is_old { Duration::ZERO } else { state.pace.saturating_sub(rested.unwrap_or_default()) };
            drop(state);
            self.appoint(wait);
        }
    }

    /// Somebody came who doesn't know that the job is over. By now the next one may have begun at the same path, so the app
    /// is asked, once for all who come until then.
    fn confirm_end(self: &Arc<Self>) {
        let state = self.lock();
        if state.is_asking() {
            // The answer on its way may be from before. Under the lock, or `done` would not see that somebody waits.
            self.topic.unsettle();
            return;
        }
        let wait = state.until_confirmed(spec(self.route()));
        drop(state);
        // Where others wait, there is an appointment.
        if self.topic.is_settled() && wait <= PATIENCE {
            self.topic.unsettle();
            self.appoint(wait);
        }
    }

    /// Replaces the appointment.
    fn appoint(self: &Arc<Self>, after: Duration) {
        let soonest = Instant::now() + after;
        let at = self.lock().not_before().map_or(soonest, |at| at.max(soonest));
        let turn = self.turn.fetch_add(1, Ordering::AcqRel) + 1;
        let me: Weak<Self> = Arc::downgrade(self);
        self.shared.schedule.at(at, turn, me);
    }

    /// A poll ended.
    fn done(self: &Arc<Self>, next: Next) {
        let mut state = self.lock();
        state.in_flight = None;
        state.polled_at = Some(Instant::now());
        let until_confirmed = state.until_confirmed(spec(self.route()));
        drop(state);
        match next {
            _ if !self.is_watched() => {}
            Next::After(pause) => self.appoint(pause),
            Next::Rest if self.topic.is_settled() => {}
            // Somebody came while the app answered.
            Next::Rest if until_confirmed <= PATIENCE => self.appoint(until_confirmed),
            Next::Rest => self.topic.let_in(),
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
        let is_first = self.lock().begin();
        self.topic.asking();
        let asked = self.ask(&lender).await;
        // All but one of those who watch would have asked this for themselves.
        let spared = self.watchers.load(Ordering::Relaxed).saturating_sub(1);
        self.route_metrics().requests_spared.inc_by(spared.into());
        match asked {
            Asked::Answer(answer) => self.answered(&lender, &answer, is_first),
            Asked::Refused(decision, answer) => self.refused(&lender, decision, answer).await,
            Asked::TooLarge => {
                self.violation(Violation::TooLarge, "the answer is over 1 MiB", None);
                self.trouble(Trouble::Answer("too_large"))
            }
            Asked::Encoded => {
                self.violation(Violation::Encoded, "the answer is compressed, though `identity` was asked for", None);
                self.trouble(Trouble::Answer("encoded"))
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
            polled_at: None,
            etag: None,
            body_hash: None,
            terminal: false,
            is_confirming: false,
            is_new: true,
            logged: 0,
            unwell: None,
        }
    }

    /// A poll begins. Whether it is the first.
    fn begin(&mut self) -> bool {
        self.is_confirming = self.terminal;
        std::mem::take(&mut self.is_new)
    }

    /// How long until the app may be asked whether a job that has ended still is over. The first to come after the end has
    /// it asked at once; from then on it is a question each interval, however many come.
    fn until_confirmed(&self, spec: &PollSpec) -> Duration {
        let by_pace = self.polled_at.filter(|_| self.is_confirming).map(|at| at + confirm_pause(spec));
        let at = by_pace.max(self.not_before());
        at.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()))
    }

    /// No request before this.
    fn not_before(&self) -> Option<Instant> {
        self.unwell.as_ref()?.not_before
    }

    /// `Retry-After` of the last answer, or that it had none.
    fn set_not_before(&mut self, at: Option<Instant>) {
        if at.is_some() || self.unwell.is_some() {
            self.unwell().not_before = at;
        }
    }

    /// For what is to be remembered of an app that is not well.
    fn unwell(&mut self) -> &mut Unwell {
        self.unwell.get_or_insert_with(|| {
            let backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
            Box::new(Unwell { backoff, first_not_found: None, not_before: None, passed_on: 0 })
        })
    }

    /// The app answered as it should; only what it asked for by `Retry-After` still counts.
    fn recover(&mut self) {
        let not_before = self.not_before();
        self.unwell = None;
        self.set_not_before(not_before);
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

fn confirm_pause(spec: &PollSpec) -> Duration {
    spec.interval.min(CONFIRM_MAX)
}

// === impl Unwell ===

impl Unwell {
    /// Whether another lender may be tried at once: a few times in an outage, or all of them would be, one after the other.
    fn may_pass_on(&mut self) -> bool {
        let may = self.passed_on < PASSES_MAX;
        self.passed_on += u8::from(may);
        may
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
