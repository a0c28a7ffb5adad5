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

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header, uri::PathAndQuery};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use rand::Rng;
use tokio::{sync::OwnedSemaphorePermit, task::AbortHandle, time::Instant};
use tracing::{debug, info, warn};

use super::{
    ANSWER_BYTES_MAX, Asker, Decision, Detected, Sources, Trouble, read_refusal, retry_after,
    schedule::{Due, Schedule},
};
use crate::{
    backoff::{Backoff, jitter},
    event::{self, Event, content_id},
    hub::Source,
    metrics::{CloseReason, Metrics, Outcome, Purpose, RouteMetrics, Violation},
    route::{PollSpec, Route, SourceSpec},
    scope::Lender,
    status::{Detection, Verdict},
    topic::{End, StatusSeen, Topic},
};

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

/// An answer that was read whole.
struct Answer {
    status: StatusCode,
    etag: Option<HeaderValue>,
    is_json: bool,
    body: Bytes,
    at: Instant,
}

/// How one request ended.
enum Asked {
    Answer(Answer),
    Refused(Decision, http::Response<Incoming>),
    TooLarge,
    Trouble(Trouble),
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

    async fn ask(&self, lender: &Lender) -> Asked {
        let timeout = spec(self.route()).timeout;
        let until = Instant::now() + timeout;
        let mut headers: Vec<(HeaderName, HeaderValue)> =
            vec![(header::ACCEPT, HeaderValue::from_static("application/json"))];
        headers.extend(self.lock().etag.clone().map(|etag| (header::IF_NONE_MATCH, etag)));
        let counted = self.asker.count(Purpose::Poll);
        let answer = match self.asker.get(&self.target, lender.identity(), &headers, timeout).await {
            Ok(answer) => answer,
            Err(error) => {
                debug!(%error, "poll failed");
                counted.ended(error.outcome());
                return Asked::Trouble(Trouble::from(&error));
            }
        };
        let status = answer.status();
        self.lock().not_before = retry_after(answer.headers()).map(|after| Instant::now() + after);
        match Decision::of(status) {
            Decision::Yes | Decision::Unchanged => {}
            Decision::Trouble => {
                counted.ended(Outcome::of_status(status));
                return Asked::Trouble(Trouble::Status(status));
            }
            decision => {
                counted.ended(Outcome::of_status(status));
                return Asked::Refused(decision, answer);
            }
        }
        let (parts, body) = answer.into_parts();
        let body = match tokio::time::timeout_at(until, Limited::new(body, ANSWER_BYTES_MAX).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) => {
                counted.ended(Outcome::Broken);
                return match error.downcast_ref::<LengthLimitError>() {
                    Some(_) => Asked::TooLarge,
                    None => Asked::Trouble(Trouble::Broken),
                };
            }
            Err(_) => {
                counted.ended(Outcome::Timeout);
                return Asked::Trouble(Trouble::Timeout);
            }
        };
        counted.ended(Outcome::of_status(status));
        Asked::Answer(Answer {
            status,
            etag: parts.headers.get(header::ETAG).map(|etag| {
                // A clone would keep the connection's read buffer alive.
                HeaderValue::from_bytes(etag.as_bytes()).expect("was a header value before")
            }),
            is_json: is_json(parts.headers.get(header::CONTENT_TYPE)),
            body,
            at: Instant::now(),
        })
    }

    fn answered(&self, answer: &Answer) -> Next {
        let hash = blake3::hash(&answer.body);
        let mut state = self.lock();
        let unchanged = answer.status == StatusCode::NOT_MODIFIED || state.body_hash == Some(hash);
        if unchanged && state.body_hash.is_some() {
            state.backoff.reset();
            let spec = spec(self.route());
            let pace = state.slower(spec);
            let terminal = state.terminal;
            drop(state);
            self.confirm(terminal);
            return if terminal { Next::Rest } else { Next::After(pace) };
        }
        drop(state);

        if !answer.is_json {
            self.violation(Violation::WrongContentType, "the answer's Content-Type is not JSON", None);
        }
        let Ok(json) = serde_json::from_slice::<serde_json::Value>(&answer.body) else {
            self.violation(Violation::NotJson, "the answer is not JSON", None);
            return self.trouble(Trouble::Answer("not_json"));
        };
        self.changed(answer, hash, &json)
    }

    /// The app said the same again. For a job that had ended that settles those who waited for its word.
    fn confirm(&self, terminal: bool) {
        if terminal { self.topic.confirm_ended() } else { self.topic.confirm() }
    }

    fn changed(&self, answer: &Answer, hash: blake3::Hash, json: &serde_json::Value) -> Next {
        let spec = spec(self.route());
        let data = match &spec.template {
            Some(template) => template.fill(json),
            None => event::on_one_line(&answer.body),
        };
        let id = content_id(&data);
        let terminal = self.judge(&spec.status.detect(json));
        let frame = event::encoded(&Event { id: Some(id.clone()), name: None, data });
        let end = terminal.then(|| End { frame: Some(event::done(&frame)), reason: CloseReason::Done, finished: true });

        let mut state = self.lock();
        if std::mem::replace(&mut state.terminal, terminal) && !terminal {
            drop(state);
            self.violation(Violation::Regression, "the job had ended and runs again", None);
            state = self.lock();
        }
        state.body_hash = Some(hash);
        state.etag.clone_from(&answer.etag);
        state.backoff.reset();
        state.first_not_found = None;
        let is_first = state.polls == 1;
        state.pace = spec.interval;
        drop(state);

        self.topic.snapshot(&id, frame, answer.at, end);
        if terminal {
            return Next::Rest;
        }
        // Topics that began together, after a restart say, must not go on in step: the second poll finds a place of
        // its own within half an interval more, and the jitter keeps them apart from then on.
        let pause = if is_first {
            spec.interval.mul_f64(rand::rng().random_range(1.0..1.5))
        } else {
            jitter(spec.interval, JITTER)
        };
        Next::After(pause)
    }

    /// Whether the status found ends the job; whatever is odd about it is counted.
    fn judge(&self, found: &Detection) -> bool {
        self.topic.status_seen(
            found.pointer.clone().zip(found.value.clone()).map(|(pointer, value)| StatusSeen { pointer, value }),
        );
        match found.verdict {
            Verdict::Unknown => {
                self.violation(Violation::UnknownStatus, "the status is not a known word", found.value.as_deref());
            }
            Verdict::Missing => self.violation(Violation::MissingStatus, "no status was found in the answer", None),
            _ => self.detected.tell(self.topic.key().route, self.route(), found),
        }
        found.verdict.is_terminal()
    }

    /// The app decided against this request.
    async fn refused(&self, lender: &Lender, decision: Decision, answer: http::Response<Incoming>) -> Next {
        let status = answer.status();
        let was_seen = self.lock().body_hash.is_some();
        match decision {
            Decision::Missing if !was_seen && status == StatusCode::NOT_FOUND => {
                let first = *self.lock().first_not_found.get_or_insert_with(Instant::now);
                if first.elapsed() < self.not_found_grace {
                    // Often asked for before it is stored.
                    return Next::After(NOT_FOUND_PAUSE.min(spec(self.route()).interval));
                }
            }
            Decision::No if was_seen => return self.trouble(Trouble::Status(status)),
            _ => {}
        }
        if was_seen && decision == Decision::Elsewhere {
            self.lock().terminal = true;
            self.topic.finish();
            return Next::Rest;
        }
        let missing = decision == Decision::Missing;
        let reason = if missing { CloseReason::Done } else { CloseReason::Denied };
        let others_remain = self.topic.lenders().deny(lender, reason);
        self.topic.nudge();
        if others_remain {
            // Only this lender's streams end; somebody else's credentials take over at once.
            return Next::After(Duration::ZERO);
        }
        info!(route = self.route().path.as_str(), status = status.as_u16(), "the app refused a topic");
        if was_seen {
            self.topic.end(End { frame: missing.then(event::gone), reason, finished: false });
        } else {
            self.topic.refuse(read_refusal(answer, spec(self.route()).timeout).await);
        }
        Next::Rest
    }

    fn trouble(&self, trouble: Trouble) -> Next {
        self.topic.trouble(trouble.notice(self.route().errors));
        let mut state = self.lock();
        if state.backoff.attempts() == 0 {
            debug!(reason = trouble.reason(), "the app does not answer a poll; streams stay open");
        }
        if state.terminal {
            return Next::Rest;
        }
        Next::After(state.backoff.next())
    }

    /// Counts it, and tells it once for each kind. `value` is the app's text, so it is no part of the message.
    fn violation(&self, kind: Violation, what: &'static str, value: Option<&str>) {
        self.route_metrics().violation(kind);
        let bit = 1 << (kind as u8);
        let mut state = self.lock();
        let is_new = state.logged & bit == 0;
        state.logged |= bit;
        drop(state);
        if is_new {
            let topic = self.topic.short_name();
            warn!(route = self.route().path.as_str(), topic, kind = kind.as_str(), value, "{what}");
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

/// `application/json`, `text/json` or `application/…+json`.
fn is_json(content_type: Option<&HeaderValue>) -> bool {
    let text = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media.ends_with("/json") || media.ends_with("+json")
}

#[cfg(test)]
mod tests;
