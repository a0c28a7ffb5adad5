//! What produces a topic's events: a poll of a JSON status, or a subscription to a stream of the app.
//!
//! A source sees a topic to publish to, and the app. It knows nothing of subscribers but that there are some.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, uri::PathAndQuery};
use tokio::time::Instant;
use tracing::info;

mod bulletin;
mod login;
pub mod poll;
pub mod schedule;
pub mod subscribe;

use crate::{
    event::{self, Event, Frame},
    hub::{Order, Source, StartSource},
    metrics::{Metrics, Outcome, Purpose, RouteId, Violation},
    refusal::Refusal,
    route::{ErrorStyle, Route, SourceSpec},
    scope::Identity,
    status::Detection,
    topic::{StatusSeen, Topic},
    upstream::{AnswerBody, Upstream, UpstreamError},
};
use bulletin::Bulletins;
use schedule::Schedule;

/// Answers of the app over this are refused, in polls and in relayed refusals.
pub const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// So many lenders are tried without a pause when what the app answers them can't be read.
const PASSES_MAX: u8 = 3;

/// Starts the source that a topic's route asks for.
#[derive(Debug)]
pub struct Sources(Arc<Shared>);

/// What all sources need alike; each has one pointer to it.
#[derive(Debug)]
struct Shared {
    /// The routes, in the order of their ids.
    routes: Arc<[Route]>,
    /// Asks the app.
    asker: Asker,
    /// When to poll.
    schedule: Arc<Schedule>,
    /// `--not-found-grace`.
    not_found_grace: Duration,
    /// Where requests are counted.
    metrics: Arc<Metrics>,
    /// What was found out about each route's status field.
    detected: Detected,
    /// What the log is told of each route.
    bulletins: Bulletins,
}

// === impl Sources ===

impl Sources {
    /// Sources for `routes`.
    pub fn new(
        routes: Arc<[Route]>,
        upstream: Upstream,
        schedule: Arc<Schedule>,
        not_found_grace: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        let detected = Detected(routes.iter().map(|_| Found::default()).collect());
        let bulletins = Bulletins::new(&routes);
        let asker = Asker::new(upstream, Arc::clone(&metrics));
        Self(Arc::new(Shared { routes, asker, schedule, not_found_grace, metrics, detected, bulletins }))
    }
}

/// What was found out about the status fields of each route.
#[derive(Debug)]
struct Detected(Box<[Found]>);

#[derive(Debug, Default)]
struct Found {
    /// It was told in the log: once is enough.
    is_told: AtomicBool,
    /// What topics were told lately: most topics of a route have one of a few pasts, and share it.
    seen: Mutex<VecDeque<Arc<StatusSeen>>>,
}

/// Queued, running, done, failed, and some that an app has made up, each after some of the others.
const SEEN_MAX: usize = 16;

// === impl Detected ===

impl Detected {
    /// Tells which field and value was taken, the first time.
    fn tell(&self, id: RouteId, route: &Route, found: &Detection) {
        let Some(value) = &found.value else { return };
        if self.0[id.0].is_told.swap(true, Ordering::Relaxed) {
            return;
        }
        let field = found.pointer.as_deref().unwrap_or("the event's name");
        // The value is the app's text, and may hold anything: a field, since those are escaped.
        info!(route = route.path.as_str(), field, value, "the status was found");
    }

    /// What is kept for people of the field and value that were found, if there are both, behind those `before`.
    fn seen(&self, id: RouteId, found: &Detection, before: Option<&Arc<StatusSeen>>) -> Option<Arc<StatusSeen>> {
        let (pointer, value) = (found.pointer.as_deref()?, found.value.as_deref()?);
        if let Some(before) = before.filter(|before| before.pointer == pointer && before.value() == value) {
            return Some(Arc::clone(before));
        }
        let seen = StatusSeen::after(before.map(|before| &**before), pointer, value);
        let mut all = self.0[id.0].seen.lock().expect("no code panics under this lock");
        if let Some(known) = all.iter().find(|known| ***known == seen) {
            return Some(Arc::clone(known));
        }
        let seen = Arc::new(seen);
        if all.len() == SEEN_MAX {
            all.pop_front();
        }
        all.push_back(Arc::clone(&seen));
        Some(seen)
    }
}

impl StartSource for Sources {
    fn start(&self, topic: &Arc<Topic>, order: &Order) -> Box<dyn Source> {
        let (shared, topic) = (Arc::clone(&self.0), Arc::clone(topic));
        match &shared.routes[order.key.route.0].source {
            SourceSpec::Poll(_) => Box::new(poll::start(shared, topic)),
            SourceSpec::Subscribe(_) => Box::new(subscribe::start(shared, topic, order.first_id.clone())),
        }
    }
}

/// Asks the app on a client's behalf, and counts it.
#[derive(Clone, Debug)]
pub struct Asker {
    upstream: Upstream,
    metrics: Arc<Metrics>,
}

// === impl Asker ===

impl Asker {
    /// An asker that counts in `metrics`.
    pub fn new(upstream: Upstream, metrics: Arc<Metrics>) -> Self {
        Self { upstream, metrics }
    }

    /// One GET; the head of the answer within `timeout`.
    ///
    /// # Errors
    /// When there is no answer: nobody listens, it takes too long, or the connection breaks.
    pub async fn get(
        &self,
        target: &PathAndQuery,
        identity: &Identity,
        extra: &[(HeaderName, HeaderValue)],
        timeout: Duration,
    ) -> Result<http::Response<AnswerBody>, UpstreamError> {
        let mut headers = HeaderMap::new();
        identity.apply(&mut headers);
        for (name, value) in extra {
            headers.insert(name.clone(), value.clone());
        }
        match tokio::time::timeout(timeout, self.upstream.get(target, headers)).await {
            Ok(answer) => answer,
            Err(_) => Err(UpstreamError::Timeout),
        }
    }

    /// Starts counting one request; it counts as cancelled unless it is told how it ended.
    pub fn count(&self, purpose: Purpose) -> Counted {
        Counted { metrics: Arc::clone(&self.metrics), purpose, began: Instant::now(), outcome: Outcome::Cancelled }
    }

    /// Counts an answer that is not what the route is made of.
    pub fn violation(&self, route: RouteId, kind: Violation) {
        self.metrics.route(route).violation(kind);
    }
}

/// One request to the app being counted; it is entered when dropped.
#[derive(Debug)]
pub struct Counted {
    metrics: Arc<Metrics>,
    purpose: Purpose,
    began: Instant,
    outcome: Outcome,
}

// === impl Counted ===

impl Counted {
    /// It ended so.
    pub fn ended(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.upstream_request(self.purpose, self.outcome, self.began.elapsed());
    }
}

/// What the status of an answer means for someone who wants to watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// 2xx: come in.
    Yes,
    /// 304: as before.
    Unchanged,
    /// 401, 403, or the way to a login page: not you.
    Denied,
    /// 404, 410: there is no such thing.
    Missing,
    /// 302, 303: it is elsewhere, or over.
    Elsewhere,
    /// Another answer that is the app's own decision about this request: 3xx, 4xx.
    No,
    /// The app can't say: 5xx, 408, 425, 429.
    Trouble,
}

impl Decision {
    /// Reads the head of the answer to a request for `target`.
    pub fn of<B>(answer: &http::Response<B>, target: &PathAndQuery) -> Self {
        match answer.status().as_u16() {
            200..=299 => Self::Yes,
            304 => Self::Unchanged,
            301 | 302 | 303 | 307 | 308 if login::is_asked_for(answer.headers(), target) => Self::Denied,
            302 | 303 => Self::Elsewhere,
            401 | 403 => Self::Denied,
            404 | 410 => Self::Missing,
            408 | 425 | 429 => Self::Trouble,
            300..=499 => Self::No,
            _ => Self::Trouble,
        }
    }
}

/// A word for what the app's trouble is, for events, logs and the dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nobody listens.
    Refused,
    /// No answer in time.
    Timeout,
    /// The connection broke.
    Broken,
    /// A status that is no answer.
    Status(StatusCode),
    /// An answer that can't be read.
    Answer(&'static str),
}

impl From<&UpstreamError> for Trouble {
    fn from(error: &UpstreamError) -> Self {
        match error.outcome() {
            Outcome::Refused => Self::Refused,
            Outcome::Timeout => Self::Timeout,
            _ => Self::Broken,
        }
    }
}

impl Trouble {
    /// The word.
    pub fn reason(self) -> String {
        match self {
            Self::Refused => "refused".into(),
            Self::Timeout => "timeout".into(),
            Self::Broken => "broken".into(),
            Self::Status(status) => format!("status_{}", status.as_u16()),
            Self::Answer(what) => what.into(),
        }
    }

    /// The event that tells a stream about it, in the style of the route.
    pub fn notice(self, style: ErrorStyle) -> Option<Frame> {
        let message = "The app is in trouble; this stream goes on when it is well again.";
        let reason = self.reason();
        let event = match style {
            ErrorStyle::Off => return None,
            ErrorStyle::Event => Event {
                id: None,
                name: Some("upstream-error".into()),
                data: serde_json::json!({ "message": message, "reason": reason }).to_string(),
            },
            ErrorStyle::Data => Event {
                id: None,
                name: None,
                data: serde_json::json!({ "type": "error", "message": message, "reason": reason }).to_string(),
            },
        };
        Some(event::encoded(&event))
    }
}

/// Why an answer that had begun can't be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It is over [`ANSWER_BYTES_MAX`].
    TooLarge,
    /// The connection broke.
    Broken,
    /// It takes too long.
    Timeout,
}

// === impl Unread ===

impl Unread {
    /// The label under which the request is counted.
    pub fn outcome(self) -> Outcome {
        match self {
            Self::TooLarge | Self::Broken => Outcome::Broken,
            Self::Timeout => Outcome::Timeout,
        }
    }
}

impl From<Unread> for Trouble {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::TooLarge => Self::Answer("too_large"),
            Unread::Broken => Self::Broken,
            Unread::Timeout => Self::Timeout,
        }
    }
}

/// Reads the body of an answer, for which there is time `until` then.
///
/// # Errors
/// When it is not whole by then, or over [`ANSWER_BYTES_MAX`].
pub async fn read_body(body: AnswerBody, until: Instant) -> Result<Bytes, Unread> {
    use http_body_util::{BodyExt, LengthLimitError, Limited};
    match tokio::time::timeout_at(until, Limited::new(body, ANSWER_BYTES_MAX).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Unread::TooLarge),
        Ok(Err(_)) => Err(Unread::Broken),
        Err(_) => Err(Unread::Timeout),
    }
}

/// Reads the rest of a refusal, at most [`ANSWER_BYTES_MAX`] of it; longer bodies are left out, the decision stays.
pub async fn read_refusal(answer: http::Response<AnswerBody>, timeout: Duration) -> Refusal {
    let (parts, body) = answer.into_parts();
    let body = read_body(body, Instant::now() + timeout).await.unwrap_or_default();
    let mut headers = parts.headers;
    crate::forward::remove_hop_by_hop(&mut headers);
    Refusal::new(parts.status, headers, body)
}

/// `Retry-After` of an answer, in either form, at most an hour.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    const MAX: Duration = Duration::from_secs(3600);
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let after = match value.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(std::time::SystemTime::now()).ok()?,
    };
    Some(after.min(MAX))
}

#[cfg(test)]
mod tests;
