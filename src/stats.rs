//! The dashboard's data: what the program knows of itself, as one JSON document.
//!
//! It is made once a second for all who look, and its lists are short however much there is. The document's cost is one
//! walk over the topics and one over the streams, without a sort and without a call to the kernel for each of them.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::Instant;

pub mod board;
pub mod latency;
mod rows;

use self::latency::Latency;
use crate::{
    advice::{Recommendation, gather::Adviser},
    app_view::AppView,
    connections::Connections,
    files::Files,
    guard,
    hub::Hub,
    metrics::{CloseReason, InvalidStateSide, Metrics, Outcome, Phase, Purpose, RejectReason, RouteId, Violation},
    readiness::{Readiness, State},
    route::{Route, SourceSpec},
    shard::Shards,
    source::schedule::Schedule,
};

/// Topics are listed up to this many, those with most subscribers; counts are of all.
const TOPICS_MAX: usize = 100;

/// Where the data comes from.
#[derive(Debug)]
pub struct Stats {
    /// The routes, in the order of their ids.
    pub routes: Arc<[Route]>,
    /// The counts.
    pub metrics: Arc<Metrics>,
    /// The topics.
    pub hub: Arc<Hub>,
    /// The polls.
    pub schedule: Arc<Schedule>,
    /// The streams.
    pub connections: Arc<Connections>,
    /// The streams that live in shards.
    pub shards: Arc<Shards>,
    /// The app itself, where something is known of it.
    pub app: Arc<AppView>,
    /// The open files.
    pub files: Arc<Files>,
    /// Where the program is in its life.
    pub readiness: Readiness,
    /// What is made of all that.
    pub adviser: Arc<Adviser>,
    /// When the program began.
    pub began: Instant,
}

// === impl Stats ===

impl Stats {
    /// The document, as of now.
    pub async fn json(&self) -> Value {
        let topics = self.hub.survey(TOPICS_MAX);
        let mut streams = self.shards.survey(self.metrics.canary()).await;
        streams.add(self.connections.survey(self.metrics.canary()));
        let state = match self.readiness.get() {
            State::Starting => "starting",
            State::Ready => "ready",
            State::Draining => "draining",
        };
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": self.began.elapsed().as_secs(),
            "state": state,
            "drain": self.drain(),
            "limits": self.limits(topics.total),
            "routes": self.metrics.shown().map(|id| self.route(id, topics.subscribers(id))).collect::<Vec<_>>(),
            "rejected": labels(RejectReason::ALL, |reason| (reason.as_str(), self.metrics.rejected_count(reason))),
            "upstream_requests": labels(Purpose::ALL, |purpose| {
                let by_outcome = labels(Outcome::ALL, |outcome| {
                    (outcome.as_str(), self.metrics.upstream_request_count(purpose, outcome))
                });
                (purpose.as_str(), by_outcome)
            }),
            "app": self.app.json(&self.metrics),
            "upstream": self.upstream(),
            "topics": self.topics(&topics),
            "streams": self.streams(&streams),
            "recommendations": self.adviser.advise().iter().map(Recommendation::json).collect::<Vec<_>>(),
        })
    }

    /// The pattern of a route; streams without one stand behind all of them.
    fn name(&self, id: RouteId) -> &str {
        self.routes.get(id.0).map_or(guard::ROUTE, |route| route.path.as_str())
    }

    /// How far the drain is, once it has begun.
    fn drain(&self) -> Option<Value> {
        let drain = self.connections.drain_begun()?;
        Some(json!({
            "seconds_left": drain.until.saturating_duration_since(Instant::now()).as_secs_f64(),
            "streams_at_start": drain.streams,
            "streams_left": self.connections.len(),
        }))
    }

    fn limits(&self, topics: usize) -> Value {
        let limit = |now: usize, max: usize| json!({ "now": now, "max": max });
        json!({
            "connections": limit(self.connections.len(), self.connections.limits().connections),
            "topics": limit(topics, self.hub.topics_max()),
            "polls": limit(self.schedule.under_way(), self.schedule.concurrency()),
            // Of those that may be open before newcomers are turned away.
            "open_files": limit(self.files.open(), self.files.open_max()),
        })
    }

    fn upstream(&self) -> Value {
        let spared: u64 = self.metrics.shown().map(|id| self.metrics.route(id).requests_spared.get()).sum();
        json!({
            "latency_seconds": labels(Purpose::ALL, |purpose| (purpose.as_str(), self.latency(purpose).json())),
            "spared_requests": spared,
        })
    }

    /// How long the app took for its answers since the start.
    fn latency(&self, purpose: Purpose) -> Latency {
        self.metrics.upstream_latency(purpose)
    }

    fn is_polled(&self, id: RouteId) -> bool {
        self.routes.get(id.0).is_some_and(|route| matches!(route.source, SourceSpec::Poll(_)))
    }

    fn route(&self, id: RouteId, subscribers: usize) -> Value {
        let metrics = self.metrics.route(id);
        json!({
            "route": self.name(id),
            "active": metrics.active(),
            "stale": metrics.stale(),
            "opened": metrics.opened_count(),
            "closed": labels(CloseReason::ALL, |reason| (reason.as_str(), metrics.closed_count(reason))),
            "invalid_state_errors": labels(InvalidStateSide::ALL, |side| (side.as_str(), metrics.invalid_state_count(side))),
            "job_state_violations": labels(Violation::ALL, |kind| (kind.as_str(), metrics.violation_count(kind))),
            "topics": labels(Phase::ALL, |phase| (phase.as_str(), metrics.topics(phase).get())),
            "subscribers": subscribers,
            // Of a stream of the app it is not known how old what it last said is.
            "data_age_seconds": self.is_polled(id).then(|| metrics.data_age.get()),
            "spared_requests": metrics.requests_spared.get(),
        })
    }
}

/// An object with one member per value of a label.
fn labels<L: Copy, V: Into<Value>>(all: &[L], member: impl Fn(L) -> (&'static str, V)) -> Value {
    Value::Object(
        all.iter()
            .map(|label| {
                let (name, value) = member(*label);
                (name.to_owned(), value.into())
            })
            .collect(),
    )
}
