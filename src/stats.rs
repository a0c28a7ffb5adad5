//! The dashboard's data: what the program knows of itself, as one JSON document.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    app_view::AppView,
    connections::{Connections, StreamView},
    guard,
    hub::{Hub, Listed},
    metrics::{CloseReason, InvalidStateSide, Metrics, Outcome, Phase, Purpose, RejectReason, RouteId, Violation},
    readiness::State,
    route::Route,
    shard::Shards,
};

/// Topics and streams are listed up to this many, those with most subscribers and the oldest first; counts are of all.
const LISTED_MAX: usize = 100;

/// Streams whose clients have made us wait longest are listed up to this many, beside the oldest.
const SLOWEST_MAX: usize = 10;

/// Where the data comes from.
#[derive(Debug)]
pub struct Stats {
    /// The routes, in the order of their ids.
    pub routes: Arc<[Route]>,
    /// The counts.
    pub metrics: Arc<Metrics>,
    /// The topics.
    pub hub: Arc<Hub>,
    /// The streams.
    pub connections: Arc<Connections>,
    /// The streams that live in shards.
    pub shards: Arc<Shards>,
    /// The app itself, where something is known of it.
    pub app: Arc<AppView>,
    /// When the program began.
    pub began: Instant,
}

// === impl Stats ===

impl Stats {
    /// The document, as of now.
    pub async fn json(&self, state: State) -> Value {
        let topics = self.hub.list();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": self.began.elapsed().as_secs(),
            "state": match state { State::Starting => "starting", State::Ready => "ready", State::Draining => "draining" },
            "routes": self.metrics.shown().map(|id| self.route(id, &topics)).collect::<Vec<_>>(),
            "rejected": labels(RejectReason::ALL, |reason| (reason.as_str(), self.metrics.rejected_count(reason))),
            "upstream_requests": labels(Purpose::ALL, |purpose| {
                let by_outcome = labels(Outcome::ALL, |outcome| {
                    (outcome.as_str(), self.metrics.upstream_request_count(purpose, outcome))
                });
                (purpose.as_str(), by_outcome)
            }),
            "app": self.app.json(&self.metrics),
            "topics": self.topics(topics),
            "streams": self.streams().await,
        })
    }

    /// The pattern of a route; streams without one stand behind all of them.
    fn name(&self, id: RouteId) -> &str {
        self.routes.get(id.0).map_or(guard::ROUTE, |route| route.path.as_str())
    }

    fn route(&self, id: RouteId, topics: &[Listed]) -> Value {
        let metrics = self.metrics.route(id);
        let of_route = || topics.iter().filter(|listed| listed.topic.key().route == id);
        json!({
            "route": self.name(id),
            "active": metrics.active(),
            "stale": metrics.stale(),
            "opened": metrics.opened_count(),
            "closed": labels(CloseReason::ALL, |reason| (reason.as_str(), metrics.closed_count(reason))),
            "invalid_state_errors": labels(InvalidStateSide::ALL, |side| (side.as_str(), metrics.invalid_state_count(side))),
            "job_state_violations": labels(Violation::ALL, |kind| (kind.as_str(), metrics.violation_count(kind))),
            "topics": labels(Phase::ALL, |phase| (phase.as_str(), metrics.topics(phase).get())),
            "subscribers": of_route().map(|listed| listed.subscribers).sum::<usize>(),
            "data_age_seconds": metrics.data_age.get(),
        })
    }

    fn topics(&self, mut topics: Vec<Listed>) -> Value {
        topics.sort_by_key(|listed| std::cmp::Reverse(listed.subscribers));
        let rows = topics.iter().take(LISTED_MAX).map(|listed| {
            let view = listed.topic.view();
            let key = listed.topic.key();
            json!({
                "route": self.name(key.route),
                // A keyed hash: it tells topics apart and leads back to nobody.
                "topic": listed.topic.short_name(),
                "phase": view.phase.as_str(),
                "subscribers": listed.subscribers,
                "age_seconds": view.checked_at.map(|at| at.elapsed().as_secs_f64()),
                "pace_seconds": listed.pace.map(|pace| pace.as_secs_f64()),
                "status_field": view.status.as_ref().map(|status| status.pointer.as_str()),
                "status": view.status.as_ref().map(|status| status.value.as_str()),
            })
        });
        json!({ "total": topics.len(), "listed": rows.collect::<Vec<_>>() })
    }

    async fn streams(&self) -> Value {
        let mut streams = self.connections.list();
        streams.extend(self.shards.list().await);
        streams.retain(|stream| stream.route != self.metrics.canary());
        streams.sort_by_key(|stream| stream.opened);
        let listed: Vec<_> = streams.iter().take(LISTED_MAX).map(|stream| self.stream(stream)).collect();
        // Whoever does badly may be young, and not among those.
        let total = streams.len();
        streams.retain(|stream| stream.waiting_for() > Duration::ZERO);
        streams.sort_by_key(|stream| std::cmp::Reverse(stream.waiting_for()));
        let slowest: Vec<_> = streams.iter().take(SLOWEST_MAX).map(|stream| self.stream(stream)).collect();
        json!({ "total": total, "listed": listed, "slowest": slowest })
    }

    fn stream(&self, stream: &StreamView) -> Value {
        json!({
            "route": self.name(stream.route),
            "address": stream.peer.to_string(),
            "age_seconds": stream.opened.elapsed().as_secs_f64(),
            "blocked_seconds": stream.blocked_for.map(|blocked| blocked.as_secs_f64()),
            "unacknowledged_seconds": stream.unacknowledged_for.map(|waiting| waiting.as_secs_f64()),
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
