//! The lists of the document: topics and streams, each a row.

use std::time::Duration;

use serde_json::{Value, json};

use super::Stats;
use crate::{connections::StreamView, hub::TopicSurvey, survey::Survey, topic::StatusSeen};

impl Stats {
    pub(super) fn topics(&self, topics: &TopicSurvey) -> Value {
        let rows = topics.busiest.iter().map(|listed| {
            let view = listed.topic.view();
            let status = view.status.as_deref();
            json!({
                "route": self.name(listed.topic.key().route),
                // A keyed hash: it tells topics apart and leads back to nobody.
                "topic": listed.topic.short_name(),
                "phase": view.phase.as_str(),
                "subscribers": listed.subscribers,
                "age_seconds": view.checked_at.map(|at| at.elapsed().as_secs_f64()),
                "pace_seconds": listed.pace.map(|pace| pace.as_secs_f64()),
                "status_field": status.map(|status| status.pointer.as_str()),
                "status": status.map(|status| status.value()),
                "values": status.into_iter().flat_map(StatusSeen::values).collect::<Vec<_>>(),
            })
        });
        json!({ "total": topics.total, "listed": rows.collect::<Vec<_>>() })
    }

    pub(super) fn streams(&self, streams: &Survey) -> Value {
        let rows = |streams: &[StreamView]| streams.iter().map(|stream| self.stream(stream)).collect::<Vec<_>>();
        json!({ "total": streams.total, "listed": rows(&streams.oldest), "slowest": rows(&streams.slowest) })
    }

    fn stream(&self, stream: &StreamView) -> Value {
        json!({
            "route": self.name(stream.route),
            "address": stream.peer.to_string(),
            "age_seconds": stream.opened.elapsed().as_secs_f64(),
            "blocked_seconds": stream.blocked_for.as_ref().map(Duration::as_secs_f64),
            "unacknowledged_seconds": stream.unacknowledged_for.as_ref().map(Duration::as_secs_f64),
        })
    }
}
