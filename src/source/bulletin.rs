//! What the log is told of the app's answers, route by route. Topics are without number, so what many of them have in
//! common is told by a few lines.

use http::StatusCode;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Trouble;
use crate::{
    log::{self, allowance::Allowance, outage::Outage},
    metrics::{RouteId, Violation},
    route::Route,
    topic::Topic,
};

/// So many answers in a row that are none make an outage of a route: one may be a topic's own fault.
const OUTAGE_AFTER: u32 = 3;

/// What each route may still say, in the order of their ids. Shared by all topics.
#[derive(Debug)]
pub(super) struct Bulletins(Box<[Bulletin]>);

#[derive(Debug)]
struct Bulletin {
    path: Box<str>,
    outage: Outage,
    refused: Allowance,
    /// One for each kind, in the order of the kinds.
    violations: Box<[Allowance]>,
}

// === impl Bulletins ===

impl Bulletins {
    pub(super) fn new(routes: &[Route]) -> Self {
        let bulletin = |route: &Route| Bulletin {
            path: route.path.as_str().into(),
            outage: Outage::after(OUTAGE_AFTER),
            refused: Allowance::default(),
            violations: Violation::ALL.iter().map(|_| Allowance::default()).collect(),
        };
        Self(routes.iter().map(bulletin).collect())
    }

    /// The app gave an answer of use on some topic of the route.
    pub(super) fn well(&self, route: RouteId) {
        let route = &self.0[route.0];
        if let Some(outage) = route.outage.succeeded(Instant::now) {
            info!(route = &*route.path, seconds = log::seconds(outage), "the app gives usable answers again");
        }
    }

    /// The app gave none.
    pub(super) fn trouble(&self, route: RouteId, trouble: Trouble) {
        let route = &self.0[route.0];
        // An app that can't be reached is no matter of one route, and was told where connections are opened.
        if trouble != Trouble::Refused && route.outage.failed(Instant::now()) {
            let reason = trouble.reason();
            warn!(route = &*route.path, reason, "the app gives no usable answers; streams stay open");
        }
    }

    /// The app decided against all who ask for a topic.
    pub(super) fn refused(&self, route: RouteId, status: StatusCode) {
        let route = &self.0[route.0];
        if let Some(leave) = route.refused.ask(Instant::now()) {
            let left_out = leave.left_out;
            info!(route = &*route.path, status = status.as_u16(), left_out, "the app refused a topic");
        }
    }

    /// An answer on `topic` broke the rules. `value` is the app's text: a field, since those are escaped.
    pub(super) fn violation(&self, topic: &Topic, kind: Violation, what: &'static str, value: Option<&str>) {
        let route = &self.0[topic.key().route.0];
        if let Some(leave) = route.violations[kind as usize].ask(Instant::now()) {
            let (topic, left_out) = (topic.short_name(), leave.left_out);
            warn!(route = &*route.path, topic, kind = kind.as_str(), value, left_out, "{what}");
        }
    }
}
