//! Gathers the facts, has them judged, and tells what is new in the log.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    Recommendation, Severity, advise,
    facts::{Facts, Kind, Limit, LimitFacts, PollFacts, Returns, RouteFacts},
};
use crate::{
    connections::Connections,
    files::Files,
    guard,
    hub::Hub,
    metrics::{CloseReason, Metrics, Purpose, RejectReason, RouteId, Violation},
    route::{Route, Share, SourceSpec},
    source::schedule::Schedule,
    stats::latency::Latency,
};

/// How often the log is told.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// So many looks are remembered: what is counted is counted over the last five minutes.
const LOOKS_MAX: usize = 30;
/// A client that takes the end for a cut comes back within this: see `LONG_RETRY` of `stream::body`, with some slack.
const BACK_WITHIN: Duration = Duration::from_secs(70);
/// Ends of streams are gone by for longer, since a timer of minutes takes many minutes to show.
const ENDS_WITHIN: Duration = Duration::from_secs(30 * 60);
/// What has not been so for this long is told again.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10 * 60);

/// Where the facts come from.
#[derive(Debug)]
pub struct Sources {
    /// The routes, in the order of their ids.
    pub routes: Arc<[Route]>,
    /// `--heartbeat-interval`.
    pub heartbeat: Duration,
    /// The counts.
    pub metrics: Arc<Metrics>,
    /// The topics.
    pub hub: Arc<Hub>,
    /// The polls.
    pub schedule: Arc<Schedule>,
    /// The streams.
    pub connections: Arc<Connections>,
    /// The open files.
    pub files: Arc<Files>,
}

/// Gives advice.
#[derive(Debug)]
pub struct Adviser {
    sources: Sources,
    /// What the counts were at the last looks, the oldest first. Written by [`Adviser::run`].
    looks: Mutex<VecDeque<Look>>,
}

/// The counts at a moment.
#[derive(Clone, Debug)]
struct Look {
    at: Instant,
    routes: Vec<RouteCounts>,
    latency: Latency,
    polls: u64,
    polls_waited: u64,
    rejected: Vec<u64>,
}

/// Those of one route.
#[derive(Clone, Debug, Default)]
struct RouteCounts {
    closed: Vec<u64>,
    came_after_end: u64,
    returns: Returns,
    unknown_statuses: u64,
    missing_statuses: u64,
    events: u64,
}

/// What was told in the log, and when it was last so.
#[derive(Debug, Default)]
struct Told(HashMap<(&'static str, Option<String>), Instant>);

// === impl Adviser ===

impl Adviser {
    /// Counts from now on.
    pub fn new(sources: Sources) -> Arc<Self> {
        let first = sources.look(Instant::now());
        Arc::new(Self { sources, looks: Mutex::new(VecDeque::from([first])) })
    }

    /// What is to be said now.
    pub fn advise(&self) -> Vec<Recommendation> {
        let now = self.sources.look(Instant::now());
        let looks = self.looks.lock().expect("no code panics under this lock");
        let before = looks.front().expect("the first look is made at the start").clone();
        let settled = looks.iter().find(|look| look.at.duration_since(before.at) >= BACK_WITHIN).cloned();
        drop(looks);
        let settled = settled.unwrap_or_else(|| now.clone());
        advise(&self.sources.facts(&now, &settled, &before))
    }

    /// Looks every ten seconds, and tells in the log what is new, until dropped. Owned by the app's run loop.
    pub async fn run(&self) {
        let mut told = Told::default();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = Instant::now();
            for one in told.new_of(self.advise(), now) {
                tell(&one);
            }
            let look = self.sources.look(now);
            let mut looks = self.looks.lock().expect("no code panics under this lock");
            looks.push_back(look);
            if looks.len() > LOOKS_MAX {
                looks.pop_front();
            }
        }
    }
}

/// One line of the log.
fn tell(one: &Recommendation) {
    let Recommendation { rule, severity, title: _, evidence, change, route } = one;
    match severity {
        Severity::Warning => warn!(rule, route, evidence, change, "recommendation"),
        Severity::Advice => info!(rule, route, evidence, change, "recommendation"),
    }
}

// === impl Told ===

impl Told {
    /// Those that were not so in the last while.
    fn new_of(&mut self, all: Vec<Recommendation>, now: Instant) -> Vec<Recommendation> {
        self.0.retain(|_, at| now.duration_since(*at) < FORGOTTEN_AFTER);
        let is_new = |one: &Recommendation| self.0.insert((one.rule, one.route.clone()), now).is_none();
        all.into_iter().filter(is_new).collect()
    }
}

// === impl Sources ===

impl Sources {
    fn look(&self, at: Instant) -> Look {
        let metrics = &self.metrics;
        Look {
            at,
            routes: metrics.shown().map(|id| self.route_counts(id)).collect(),
            latency: metrics.upstream_latency(Purpose::Poll),
            polls: metrics.upstream_ended_count(Purpose::Poll),
            polls_waited: metrics.upstream_waited_count(Purpose::Poll),
            rejected: RejectReason::ALL.iter().map(|reason| metrics.rejected_count(*reason)).collect(),
        }
    }

    fn route_counts(&self, id: RouteId) -> RouteCounts {
        let route = self.metrics.route(id);
        RouteCounts {
            closed: CloseReason::ALL.iter().map(|reason| route.closed_count(*reason)).collect(),
            came_after_end: route.traces.came_after_end_count(),
            returns: route.traces.returns(),
            unknown_statuses: route.violation_count(Violation::UnknownStatus),
            missing_statuses: route.violation_count(Violation::MissingStatus),
            events: route.events_published.get(),
        }
    }

    /// What was counted from `before` to `now`. Until `settled`, clients came back from ends that were before.
    fn facts(&self, now: &Look, settled: &Look, before: &Look) -> Facts {
        let settled = settled.routes.iter().map(|route| route.came_after_end);
        let routes = now.routes.iter().zip(&before.routes).zip(settled).enumerate();
        Facts {
            window: now.at.duration_since(before.at),
            routes: routes
                .map(|(id, ((now, before), settled))| self.route_facts(RouteId(id), now, settled, before))
                .collect(),
            polls: PollFacts {
                latency: now.latency.since(&before.latency),
                made: now.polls.saturating_sub(before.polls),
                waited: now.polls_waited.saturating_sub(before.polls_waited),
                concurrency: self.schedule.concurrency(),
                topics: self.hub.len(),
            },
            limits: self.limits(now, before),
            visitors: self.metrics.visitors.last(),
            counts_addresses: self.connections.limits().per_ip > 0,
        }
    }

    fn route_facts(&self, id: RouteId, now: &RouteCounts, settled: u64, before: &RouteCounts) -> RouteFacts {
        let (route, traces) = (self.routes.get(id.0), &self.metrics.route(id).traces);
        let closed = |reason: CloseReason| now.closed[reason as usize].saturating_sub(before.closed[reason as usize]);
        RouteFacts {
            route: route.map_or(guard::ROUTE, |route| route.path.as_str()).to_owned(),
            kind: route.map_or(Kind::Forwarded, |route| match &route.source {
                SourceSpec::Poll(spec) => Kind::Poll { interval: spec.interval },
                SourceSpec::Subscribe(_) => Kind::Subscribe,
            }),
            is_per_user: route.is_some_and(|route| route.share == Share::Credentials),
            heartbeat: route.map_or(self.heartbeat, |route| route.heartbeat),
            has_own_heartbeat: route.is_some_and(|route| route.heartbeat != self.heartbeat),
            max_age: route.and_then(|route| route.max_age),
            ends: traces.ends_since(Instant::now().checked_sub(ENDS_WITHIN)),
            closed: CloseReason::ALL.iter().map(|reason| closed(*reason)).sum(),
            closed_done: closed(CloseReason::Done),
            closed_stale: closed(CloseReason::Stale),
            closed_slow: closed(CloseReason::Slow),
            came_after_end: came_after_end(
                settled.saturating_sub(before.came_after_end),
                now.came_after_end.saturating_sub(settled),
                closed(CloseReason::Done),
            ),
            returns: Returns {
                found: now.returns.found.saturating_sub(before.returns.found),
                lost: now.returns.lost.saturating_sub(before.returns.lost),
            },
            badges: traces.badges(),
            unknown_statuses: now.unknown_statuses.saturating_sub(before.unknown_statuses),
            unknown_status: traces.last_unknown_status().map(|seen| (seen.pointer.clone(), seen.value().to_owned())),
            missing_statuses: now.missing_statuses.saturating_sub(before.missing_statuses),
            events: now.events.saturating_sub(before.events),
        }
    }

    fn limits(&self, now: &Look, before: &Look) -> Vec<LimitFacts> {
        let away =
            |reason: RejectReason| now.rejected[reason as usize].saturating_sub(before.rejected[reason as usize]);
        let limits = self.connections.limits();
        let facts = |limit, now, max, reason| LimitFacts { limit, now, max, turned_away: away(reason) };
        vec![
            facts(Limit::Connections, self.connections.len(), limits.connections, RejectReason::MaxConnections),
            facts(Limit::PerAddress, 0, limits.per_ip, RejectReason::MaxConnectionsPerIp),
            facts(Limit::Topics, self.hub.len(), self.hub.topics_max(), RejectReason::MaxTopics),
            facts(Limit::OpenFiles, self.files.open(), self.files.open_max(), RejectReason::FileLimit),
        ]
    }
}

/// How often clients came back from an end: of those who came at first only as many as have ended since, for the others may
/// come from ends that were before, and once is no fault.
fn came_after_end(at_first: u64, since: u64, done: u64) -> u64 {
    at_first.min(done) + since
}

#[cfg(test)]
mod tests {
    use super::*;

    // The window slides over the ends and then over the returns: 20 clients without a listener for `done`, and a deaf one.
    #[test]
    fn who_comes_back_from_an_end_before_the_window_says_nothing_and_who_never_stops_does() {
        for (what, at_first, since, done, expected) in [
            ("all is in the window", 0, 20, 20, 20),
            ("they came back at once", 20, 0, 20, 20),
            ("the ends have just left it", 20, 0, 0, 0),
            ("some ends have left it", 20, 0, 3, 3),
            ("its job ended an hour ago, and it comes every three seconds", 23, 77, 0, 77),
        ] {
            assert_eq!(came_after_end(at_first, since, done), expected, "{what}");
        }
    }

    fn one(rule: &'static str, route: &str) -> Recommendation {
        let (evidence, change) = (String::new(), String::new());
        Recommendation { rule, severity: Severity::Advice, title: "", evidence, change, route: Some(route.to_owned()) }
    }

    #[test]
    fn what_goes_on_is_told_once_and_again_when_it_was_gone_for_a_while() {
        let (mut told, began) = (Told::default(), Instant::now());
        let mut at =
            |seconds: u64, all: Vec<Recommendation>| told.new_of(all, began + Duration::from_secs(seconds)).len();

        assert_eq!(at(0, vec![one("a", "/x"), one("a", "/y")]), 2);
        for look in 1..100 {
            assert_eq!(at(look * 10, vec![one("a", "/x")]), 0, "it goes on");
        }
        assert_eq!(at(1000, vec![one("a", "/y")]), 1, "it had been gone");
        assert_eq!(at(1100, vec![one("a", "/x"), one("b", "/y")]), 1);
    }
}
