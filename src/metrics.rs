//! Every series the program exports, made once at the start and moved through typed methods.
//!
//! Labels come from closed sets only: `route` is the text of a `--route path=`, never an id, and the other labels are
//! the enums of `labels`. All series of configured routes exist from the start at 0, so that `rate()` sees the first
//! event. Names and units follow the Prometheus conventions; `promtool check metrics` is silent about them.

use std::time::{Duration, SystemTime};

use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntGauge, IntGaugeVec, Opts, Registry};

mod family;
mod labels;
mod route;

use self::{
    family::{LATENCY_BUCKETS, counter, counter_vec, each, gauge, histogram_vec},
    route::RouteVecs,
};
pub use self::{
    labels::{
        AppExit, CloseReason, FrameKind, InvalidStateSide, Outcome, Phase, Purpose, Refused, RejectReason, Transport,
        Violation,
    },
    route::{RouteId, RouteMetrics},
};
use crate::{advice::traces::Visitors, stats::latency::Latency};

/// The classes of `http_requests_total`.
const CODE_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// All series. Cheap to share behind an `Arc`; no locks on the way of an event.
#[derive(Debug)]
pub struct Metrics {
    routes: Vec<RouteMetrics>,
    rejected: Vec<IntCounter>,
    connections_max: IntGauge,
    topics_max: IntGauge,
    /// Written by the sweep alone.
    sockets: IntGauge,
    sockets_max: IntGauge,
    /// Seconds since the epoch; 0 until the drain begins.
    drain_deadline: Gauge,
    refused: Vec<IntCounter>,
    upstream_waits: Vec<IntCounter>,
    heartbeat_lateness: Histogram,
    upstream_requests: Vec<Vec<IntCounter>>,
    upstream_seconds: Vec<Vec<Histogram>>,
    http_requests: Vec<IntCounter>,
    app_errors: IntCounter,
    app_exits: Vec<IntCounter>,
    app_restarts: IntCounter,
    /// Who asked for the last streams; no series, but what advice is made of.
    pub visitors: Visitors,
}

impl Metrics {
    /// Makes and registers every series.
    ///
    /// # Errors
    /// When `registry` already holds one of these names.
    pub fn register(registry: &Registry, routes: &[String]) -> Result<Self, prometheus::Error> {
        let build =
            IntGaugeVec::new(Opts::new("sidestream_build_info", "The running version; always 1."), &["version"])?;
        registry.register(Box::new(build.clone()))?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);

        let vecs = RouteVecs::register(registry)?;
        let mut routes: Vec<_> = routes.iter().map(|route| vecs.route(route)).collect();
        // Nobody reads this registry: the canary moves series like everybody else, and nothing is seen of it.
        routes.push(RouteVecs::register(&Registry::new())?.route("(canary)"));

        let rejected = counter_vec(
            registry,
            "connections_rejected_total",
            "Streams turned away before they began, by the limit that was reached; for file_limit also other requests, \
             and moments in which no connection was accepted.",
            &["reason"],
        )?;
        let refused = counter_vec(
            registry,
            "requests_refused_total",
            "Requests of the public side that were refused before anything was made of them, by what was wrong.",
            &["reason"],
        )?;
        let upstream_waits = counter_vec(
            registry,
            "upstream_waits_total",
            "Requests to the app that had to wait because so many were under way, by what they were for.",
            &["purpose"],
        )?;
        let heartbeat_lateness = Histogram::with_opts(
            HistogramOpts::new(
                "sidestream_heartbeat_lateness_seconds",
                "How much later than due a heartbeat was handed over.",
            )
            .buckets(LATENCY_BUCKETS.to_vec()),
        )?;
        registry.register(Box::new(heartbeat_lateness.clone()))?;
        let upstream_requests = counter_vec(
            registry,
            "upstream_requests_total",
            "Requests sent to the app, by what they were for and how they ended.",
            &["purpose", "outcome"],
        )?;
        let upstream_seconds = histogram_vec(
            registry,
            "upstream_request_seconds",
            "Time from a request to the app until the head of its answer (for polls: its whole body), or until it was \
             clear that there would be none.",
            &["purpose", "outcome"],
        )?;
        let http_requests = counter_vec(
            registry,
            "http_requests_total",
            "Requests answered on the public side, by the class of the status code.",
            &["code"],
        )?;
        let app_errors = counter(
            registry,
            "app_invalid_state_errors_total",
            "Invalid-state errors (ERR_INVALID_STATE, Controller is already closed) that the app has printed, where it is \
             our child or has an --app-log.",
        )?;
        let app_exits = counter_vec(
            registry,
            "app_exits_total",
            "Ends of the app, where it is our child: ok is status 0.",
            &["reason"],
        )?;
        let app_restarts =
            counter(registry, "app_restarts_total", "Times that the app was started again after its end.")?;

        Ok(Self {
            routes,
            rejected: each(RejectReason::ALL, |reason| rejected.with_label_values(&[reason.as_str()])),
            connections_max: gauge(
                registry,
                "connections_max",
                "Client streams that may be open at once: --max-connections, or what the open files leave of it.",
            )?,
            topics_max: gauge(registry, "topics_max", "Topics that may live at once: --max-topics.")?,
            sockets: gauge(registry, "sockets", "Sockets open now, of clients and to the app.")?,
            sockets_max: gauge(
                registry,
                "sockets_max",
                "Sockets from which on new streams and forwarded requests are turned away.",
            )?,
            drain_deadline: {
                let gauge = Gauge::new(
                    "sidestream_drain_deadline_timestamp_seconds",
                    "When the drain will be over at the latest, in seconds since the epoch; 0 until it begins.",
                )?;
                registry.register(Box::new(gauge.clone()))?;
                gauge
            },
            refused: each(Refused::ALL, |reason| refused.with_label_values(&[reason.as_str()])),
            upstream_waits: each(Purpose::OURS, |purpose| upstream_waits.with_label_values(&[purpose.as_str()])),
            heartbeat_lateness,
            upstream_requests: each(Purpose::ALL, |purpose| {
                each(Outcome::ALL, |outcome| upstream_requests.with_label_values(&[purpose.as_str(), outcome.as_str()]))
            }),
            upstream_seconds: each(Purpose::ALL, |purpose| {
                each(Outcome::ALL, |outcome| upstream_seconds.with_label_values(&[purpose.as_str(), outcome.as_str()]))
            }),
            http_requests: each(&CODE_CLASSES, |class| http_requests.with_label_values(&[class])),
            app_errors,
            app_exits: each(AppExit::ALL, |reason| app_exits.with_label_values(&[reason.as_str()])),
            app_restarts,
            visitors: Visitors::default(),
        })
    }

    /// The series of one route.
    ///
    /// # Panics
    /// When `route` is not one of those the metrics were registered for.
    pub fn route(&self, route: RouteId) -> &RouteMetrics {
        &self.routes[route.0]
    }

    /// Every route, in the order they were registered in, and the canary's.
    pub fn routes(&self) -> impl ExactSizeIterator<Item = RouteId> + use<> {
        (0..self.routes.len()).map(RouteId)
    }

    /// The canary's route, of which the operator sees nothing.
    pub fn canary(&self) -> RouteId {
        RouteId(self.routes.len() - 1)
    }

    /// Every route that the operator sees.
    pub fn shown(&self) -> impl ExactSizeIterator<Item = RouteId> + use<> {
        (0..self.canary().0).map(RouteId)
    }

    /// Counts a stream that was turned away.
    pub fn rejected(&self, reason: RejectReason) {
        self.rejected[reason as usize].inc();
    }

    /// How many streams were turned away for `reason` so far.
    pub fn rejected_count(&self, reason: RejectReason) -> u64 {
        self.rejected[reason as usize].get()
    }

    /// Tells the limits, which are the same for as long as the program runs.
    pub fn limits(&self, connections: usize, topics: usize, sockets: usize) {
        let known = [(&self.connections_max, connections), (&self.topics_max, topics), (&self.sockets_max, sockets)];
        for (gauge, limit) in known {
            gauge.set(i64::try_from(limit).unwrap_or(i64::MAX));
        }
    }

    /// Tells how many sockets are open.
    pub fn sockets(&self, open: usize) {
        self.sockets.set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    /// The drain has begun, and ends at `deadline` at the latest. Wall-clock time, since whoever reads it is elsewhere.
    pub fn draining_until(&self, deadline: SystemTime) {
        let since_epoch = deadline.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.drain_deadline.set(since_epoch.as_secs_f64());
    }

    /// Counts a request that was refused unread.
    pub fn refused(&self, reason: Refused) {
        self.refused[reason as usize].inc();
    }

    /// Counts a request to the app, for one of [`Purpose::OURS`], that had to wait for others.
    pub fn upstream_waited(&self, purpose: Purpose) {
        self.upstream_waits[purpose as usize].inc();
    }

    /// How many requests to the app for `purpose`, one of [`Purpose::OURS`], had to wait so far.
    pub fn upstream_waited_count(&self, purpose: Purpose) -> u64 {
        self.upstream_waits[purpose as usize].get()
    }

    /// Records how late a heartbeat was.
    pub fn heartbeat_sent(&self, lateness: Duration) {
        self.heartbeat_lateness.observe(lateness.as_secs_f64());
    }

    /// Counts one request to the app that ended after `elapsed`.
    pub fn upstream_request(&self, purpose: Purpose, outcome: Outcome, elapsed: Duration) {
        self.upstream_requests[purpose as usize][outcome as usize].inc();
        self.upstream_seconds[purpose as usize][outcome as usize].observe(elapsed.as_secs_f64());
    }

    /// How many requests to the app were made for `purpose` with this outcome so far.
    pub fn upstream_request_count(&self, purpose: Purpose, outcome: Outcome) -> u64 {
        self.upstream_requests[purpose as usize][outcome as usize].get()
    }

    /// How many requests to the app for `purpose` came to an end so far that was not ours.
    pub fn upstream_ended_count(&self, purpose: Purpose) -> u64 {
        let ended = Outcome::ALL.iter().filter(|outcome| **outcome != Outcome::Cancelled);
        ended.map(|outcome| self.upstream_request_count(purpose, *outcome)).sum()
    }

    /// How long the app took for its answers to requests for `purpose` so far: of [`Outcome::TIMED`].
    pub fn upstream_latency(&self, purpose: Purpose) -> Latency {
        let by_outcome = &self.upstream_seconds[purpose as usize];
        Latency::of(Outcome::TIMED.iter().map(|outcome| &by_outcome[*outcome as usize]))
    }

    /// Counts an answer of the public side.
    pub fn http_request(&self, status: http::StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, CODE_CLASSES.len());
        self.http_requests[class - 1].inc();
    }

    /// Counts what the app has printed of invalid states.
    pub fn app_errors(&self, errors: u64) {
        self.app_errors.inc_by(errors);
    }

    /// How many of these errors the app has printed so far.
    pub fn app_error_count(&self) -> u64 {
        self.app_errors.get()
    }

    /// Counts an end of the app.
    pub fn app_exited(&self, reason: AppExit) {
        self.app_exits[reason as usize].inc();
    }

    /// How often the app has ended so far for `reason`.
    pub fn app_exit_count(&self, reason: AppExit) -> u64 {
        self.app_exits[reason as usize].get()
    }

    /// Counts that the app is started once more.
    pub fn app_restarted(&self) {
        self.app_restarts.inc();
    }

    /// How often the app was started again so far.
    pub fn app_restart_count(&self) -> u64 {
        self.app_restarts.get()
    }
}
