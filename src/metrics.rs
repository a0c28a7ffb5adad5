//! Every series the program exports, made once at the start and moved through typed methods.
//!
//! Labels come from closed sets only: `route` is the text of a `--route path=`, never an id, and the other labels are
//! the enums of this file. All series of configured routes exist from the start at 0, so that `rate()` sees the first
//! event. Names and units follow the Prometheus conventions; `promtool check metrics` is silent about them.

use std::time::{Duration, SystemTime};

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, local::LocalHistogram,
};

use crate::{
    advice::traces::{Traces, Visitors},
    stats::latency::Latency,
};

/// A closed set of label values: an enum whose variants all have a fixed text.
macro_rules! label {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident => $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vmeta])* $variant,)+ }

        impl $name {
            /// Every value, in the order of the enum.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The text of the label.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

label! {
    /// How a stream's bytes reach the client.
    Transport {
        /// A stream of one of the routes, on HTTP/1.x.
        Http1 => "http1",
        /// The app's own body, passed through on HTTP/1.x with heartbeats in its gaps.
        Guarded => "guarded",
    }
}

label! {
    /// Why a stream ended.
    CloseReason {
        /// The client went away.
        Client => "client",
        /// The job reached its end, or the app said 204 or took the job away.
        Done => "done",
        /// The peer acknowledged nothing for `--reap-after`.
        Stale => "stale",
        /// The reader fell out of the replay window.
        Slow => "slow",
        /// `--max-age`.
        MaxAge => "max_age",
        /// The program is leaving.
        Drain => "drain",
        /// The app ended the stream and will not have it back.
        Upstream => "upstream",
        /// The app withdrew its permission (401, 403), or refused a client that was waiting.
        Denied => "denied",
        /// A fault of our own.
        Error => "error",
    }
}

label! {
    /// Why a stream was turned away before it began.
    RejectReason {
        /// `--max-connections`.
        MaxConnections => "max_connections",
        /// `--max-connections-per-ip`.
        MaxConnectionsPerIp => "max_connections_per_ip",
        /// `--max-topics`, with none that only lingers.
        MaxTopics => "max_topics",
        /// Not ready to serve: the program drains.
        Drain => "drain",
        /// The process may open no more files: somebody was turned away, or for a moment nobody was accepted.
        FileLimit => "file_limit",
    }
}

label! {
    /// Why a request of the public side was refused unread.
    Refused {
        /// A head over 64 KiB, a request line among them, or with over 100 fields.
        HeadTooLarge => "head_too_large",
        /// A head that took longer than `--head-timeout`.
        HeadTimeout => "head_timeout",
        /// It disagrees with itself about its length, host or target, or is no HTTP/1.
        Malformed => "malformed",
    }
}

label! {
    /// Who touched a stream that was already closed.
    InvalidStateSide {
        /// A write to a client that had gone.
        Client => "client",
        /// The app's stream was cut in the middle of an event or a body.
        Upstream => "upstream",
    }
}

label! {
    /// In which way an answer broke the rules of a job's life.
    Violation {
        /// The status is a word outside the vocabulary.
        UnknownStatus => "unknown_status",
        /// No status was found.
        MissingStatus => "missing_status",
        /// The body is not JSON.
        NotJson => "not_json",
        /// The `Content-Type` is not JSON (a login page, say).
        WrongContentType => "wrong_content_type",
        /// The body is over 1 MiB.
        TooLarge => "too_large",
        /// The job had ended and runs again.
        Regression => "regression",
    }
}

label! {
    /// The phase of a topic.
    Phase {
        /// The app has not spoken yet.
        Starting => "starting",
        /// The last answer was good.
        Live => "live",
        /// The app is in trouble; the last answer is old.
        Degraded => "degraded",
        /// The job is over.
        Ended => "ended",
    }
}

label! {
    /// The kind of a frame sent to a client.
    FrameKind {
        /// An event of the source.
        Event => "event",
        /// A heartbeat.
        Heartbeat => "heartbeat",
        /// An event sent again from the replay window.
        Replay => "replay",
        /// One of our own: `done`, `gone`, `upstream-error`, a `retry:` hint.
        Control => "control",
    }
}

label! {
    /// What a request to the app was for.
    Purpose {
        /// A poll of a status.
        Poll => "poll",
        /// A subscription to a stream of the app.
        Subscribe => "subscribe",
        /// The admission of one client.
        Authorize => "authorize",
        /// A request passed through.
        Forward => "forward",
    }
}

impl Purpose {
    /// What the program asks for by itself, and what waits for its turn; the first of them all.
    pub const OURS: &'static [Self] = &[Self::Poll, Self::Subscribe, Self::Authorize];
}

label! {
    /// How a request to the app ended.
    Outcome {
        /// 2xx.
        Ok => "ok",
        /// 304.
        NotModified => "not_modified",
        /// 1xx or another 3xx; a protocol switch.
        Redirect => "redirect",
        /// 4xx.
        ClientError => "client_error",
        /// 5xx.
        ServerError => "server_error",
        /// No connection.
        Refused => "refused",
        /// No answer in time.
        Timeout => "timeout",
        /// The connection broke, or the answer was not HTTP.
        Broken => "broken",
        /// We gave up first: the client or the topic had gone.
        Cancelled => "cancelled",
    }
}

impl Outcome {
    /// The outcome that a status stands for.
    pub fn of_status(status: http::StatusCode) -> Self {
        match status.as_u16() {
            304 => Self::NotModified,
            200..=299 => Self::Ok,
            400..=499 => Self::ClientError,
            500..=599 => Self::ServerError,
            _ => Self::Redirect,
        }
    }
}

label! {
    /// How the app ended that is our child.
    AppExit {
        /// With status 0.
        Ok => "ok",
        /// With another status.
        Error => "error",
        /// By a signal.
        Signal => "signal",
    }
}

/// The classes of `http_requests_total`.
const CODE_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// From half a millisecond (loopback) to ten seconds (a stalled app or client).
const LATENCY_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The index of a route in the order of the command line; what a stream or topic holds to find its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(pub usize);

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

/// The series of one route. Gauges are moved by guards that undo themselves.
#[derive(Debug)]
pub struct RouteMetrics {
    active: Vec<IntGauge>,
    stale: IntGauge,
    opened: IntCounter,
    closed: Vec<IntCounter>,
    invalid_state: Vec<IntCounter>,
    violations: Vec<IntCounter>,
    topics: Vec<IntGauge>,
    /// Events that a source published.
    pub events_published: IntCounter,
    frames_sent: Vec<IntCounter>,
    /// Bytes of frames handed to the transport, without HTTP framing.
    pub sent_bytes: IntCounter,
    /// Clients that came back with an id from before the window, or that nobody knows.
    pub replay_misses: IntCounter,
    /// Events left out of a greeting because it would have grown over 256 KiB.
    pub greeting_cuts: IntCounter,
    /// Requests the app would have had, if each client had asked for itself.
    pub requests_spared: IntCounter,
    delivery: Histogram,
    /// Age of the oldest snapshot being served, seconds; written by the sweep alone.
    pub data_age: Gauge,
    /// What streams leave behind beside counts; no series, but what advice is made of.
    pub traces: Traces,
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
            "Time from a request to the app until the head of its answer (for polls: its whole body).",
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

    /// How long the app took for its answers to requests for `purpose` so far; what we gave up first is no answer.
    pub fn upstream_latency(&self, purpose: Purpose) -> Latency {
        let by_outcome = Outcome::ALL.iter().zip(&self.upstream_seconds[purpose as usize]);
        Latency::of(by_outcome.filter(|(outcome, _)| **outcome != Outcome::Cancelled).map(|(_, seconds)| seconds))
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

// === impl RouteMetrics ===

impl RouteMetrics {
    /// Counts a stream as opened and active.
    pub fn opened(&self, transport: Transport) {
        self.opened.inc();
        self.active[transport as usize].inc();
    }

    /// Counts a stream as ended; the other half of [`RouteMetrics::opened`], called by the guard's drop alone.
    pub fn closed(&self, transport: Transport, reason: CloseReason) {
        self.active[transport as usize].dec();
        self.closed[reason as usize].inc();
    }

    /// Streams open now, over all transports.
    pub fn active(&self) -> i64 {
        self.active.iter().map(IntGauge::get).sum()
    }

    /// Streams opened so far.
    pub fn opened_count(&self) -> u64 {
        self.opened.get()
    }

    /// Streams ended so far for `reason`.
    pub fn closed_count(&self, reason: CloseReason) -> u64 {
        self.closed[reason as usize].get()
    }

    /// Counts a touch of a closed stream.
    pub fn invalid_state(&self, side: InvalidStateSide) {
        self.invalid_state[side as usize].inc();
    }

    /// Touches of a closed stream so far.
    pub fn invalid_state_count(&self, side: InvalidStateSide) -> u64 {
        self.invalid_state[side as usize].get()
    }

    /// Counts a broken rule of a job's life.
    pub fn violation(&self, kind: Violation) {
        self.violations[kind as usize].inc();
    }

    /// Broken rules so far.
    pub fn violation_count(&self, kind: Violation) -> u64 {
        self.violations[kind as usize].get()
    }

    /// The gauge of topics in `phase`; moved by the topic's own guard.
    pub fn topics(&self, phase: Phase) -> &IntGauge {
        &self.topics[phase as usize]
    }

    /// Counts a frame handed to the transport.
    pub fn frame_sent(&self, kind: FrameKind, bytes: usize) {
        self.frames_sent(kind, 1, bytes as u64);
    }

    /// Counts frames of one kind handed to the transport, and their bytes altogether.
    pub fn frames_sent(&self, kind: FrameKind, frames: u64, bytes: u64) {
        self.frames_sent[kind as usize].inc_by(frames);
        self.sent_bytes.inc_by(bytes);
    }

    /// Counts bytes of the app that were handed to the transport as they came, and the events they completed.
    pub fn passed(&self, events: u64, bytes: usize) {
        self.frames_sent[FrameKind::Event as usize].inc_by(events);
        self.sent_bytes.inc_by(bytes as u64);
    }

    /// Counts one stream more, or less, as stale. Whoever counted it also takes it back.
    pub fn mark_stale(&self, is_stale: bool) {
        self.stale.add(if is_stale { 1 } else { -1 });
    }

    /// Streams that count as stale now.
    pub fn stale(&self) -> i64 {
        self.stale.get()
    }

    /// Frames sent so far.
    #[cfg(test)]
    pub fn frames_sent_count(&self, kind: FrameKind) -> u64 {
        self.frames_sent[kind as usize].get()
    }

    /// Records the time from the app's answer to the hand-over of its event to one client.
    pub fn delivered(&self, after: Duration) {
        self.delivery.observe(after.as_secs_f64());
    }

    /// The same for many deliveries, in seconds: they count when it is dropped.
    pub fn delivery_batch(&self) -> LocalHistogram {
        self.delivery.local()
    }
}

/// The labelled families behind [`RouteMetrics`], kept only while the routes' series are made.
struct RouteVecs {
    active: IntGaugeVec,
    stale: IntGaugeVec,
    opened: IntCounterVec,
    closed: IntCounterVec,
    invalid_state: IntCounterVec,
    violations: IntCounterVec,
    topics: IntGaugeVec,
    events_published: IntCounterVec,
    frames_sent: IntCounterVec,
    sent_bytes: IntCounterVec,
    replay_misses: IntCounterVec,
    greeting_cuts: IntCounterVec,
    requests_spared: IntCounterVec,
    delivery: HistogramVec,
    data_age: GaugeVec,
}

impl RouteVecs {
    fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            active: gauge_vec(registry, "connections_active", "Client streams open now.", &["route", "transport"])?,
            stale: gauge_vec(
                registry,
                "connections_stale",
                "Client streams whose peer has acknowledged nothing for longer than --stale-after.",
                &["route"],
            )?,
            opened: counter_vec(registry, "connections_opened_total", "Client streams opened.", &["route"])?,
            closed: counter_vec(
                registry,
                "connections_closed_total",
                "Client streams ended, by reason.",
                &["route", "reason"],
            )?,
            invalid_state: counter_vec(
                registry,
                "invalid_state_errors_total",
                "Touches of a closed stream: a write to a client that had gone (client), a stream of the app cut in \
                 the middle (upstream).",
                &["side", "route"],
            )?,
            violations: counter_vec(
                registry,
                "job_state_violations_total",
                "Answers of the app that break the rules of a job's life, by kind.",
                &["route", "kind"],
            )?,
            topics: gauge_vec(registry, "topics", "Live topics, by phase.", &["route", "phase"])?,
            events_published: counter_vec(
                registry,
                "events_published_total",
                "Events published by sources, once for all their subscribers.",
                &["route"],
            )?,
            frames_sent: counter_vec(
                registry,
                "frames_sent_total",
                "Frames handed to client connections, by kind.",
                &["route", "kind"],
            )?,
            sent_bytes: counter_vec(
                registry,
                "sent_bytes_total",
                "Bytes of frames handed to client connections, without HTTP framing.",
                &["route"],
            )?,
            replay_misses: counter_vec(
                registry,
                "replay_misses_total",
                "Clients that returned to a subscribe route with an id that is not in the window any more, or unknown.",
                &["route"],
            )?,
            greeting_cuts: counter_vec(
                registry,
                "greeting_cuts_total",
                "Events left out of a greeting because it would have grown over 256 KiB.",
                &["route"],
            )?,
            requests_spared: counter_vec(
                registry,
                "upstream_requests_spared_total",
                "Requests and streams that the app would have had to answer if each client had asked for itself.",
                &["route"],
            )?,
            delivery: histogram_vec(
                registry,
                "delivery_seconds",
                "Time from the app's answer to the hand-over of its event to one client's connection.",
                &["route"],
            )?,
            data_age: {
                let vec = GaugeVec::new(
                    Opts::new(
                        "sidestream_data_age_seconds",
                        "Age of the oldest snapshot now being served: time since the app last confirmed it.",
                    ),
                    &["route"],
                )?;
                registry.register(Box::new(vec.clone()))?;
                vec
            },
        })
    }

    fn route(&self, route: &str) -> RouteMetrics {
        RouteMetrics {
            active: each(Transport::ALL, |transport| self.active.with_label_values(&[route, transport.as_str()])),
            stale: self.stale.with_label_values(&[route]),
            opened: self.opened.with_label_values(&[route]),
            closed: each(CloseReason::ALL, |reason| self.closed.with_label_values(&[route, reason.as_str()])),
            invalid_state: each(InvalidStateSide::ALL, |side| {
                self.invalid_state.with_label_values(&[side.as_str(), route])
            }),
            violations: each(Violation::ALL, |kind| self.violations.with_label_values(&[route, kind.as_str()])),
            topics: each(Phase::ALL, |phase| self.topics.with_label_values(&[route, phase.as_str()])),
            events_published: self.events_published.with_label_values(&[route]),
            frames_sent: each(FrameKind::ALL, |kind| self.frames_sent.with_label_values(&[route, kind.as_str()])),
            sent_bytes: self.sent_bytes.with_label_values(&[route]),
            replay_misses: self.replay_misses.with_label_values(&[route]),
            greeting_cuts: self.greeting_cuts.with_label_values(&[route]),
            requests_spared: self.requests_spared.with_label_values(&[route]),
            delivery: self.delivery.with_label_values(&[route]),
            data_age: self.data_age.with_label_values(&[route]),
            traces: Traces::default(),
        }
    }
}

/// One series per value of a label, in the order of its enum, so that `value as usize` finds it.
fn each<L: Copy, S>(labels: &[L], series: impl Fn(L) -> S) -> Vec<S> {
    labels.iter().map(|label| series(*label)).collect()
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    let counter = IntCounter::new(format!("sidestream_{name}"), help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn counter_vec(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    let vec = IntCounterVec::new(Opts::new(format!("sidestream_{name}"), help), labels)?;
    registry.register(Box::new(vec.clone()))?;
    Ok(vec)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    let gauge = IntGauge::new(format!("sidestream_{name}"), help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

fn gauge_vec(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
    let vec = IntGaugeVec::new(Opts::new(format!("sidestream_{name}"), help), labels)?;
    registry.register(Box::new(vec.clone()))?;
    Ok(vec)
}

fn histogram_vec(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<HistogramVec, prometheus::Error> {
    let opts = HistogramOpts::new(format!("sidestream_{name}"), help).buckets(LATENCY_BUCKETS.to_vec());
    let vec = HistogramVec::new(opts, labels)?;
    registry.register(Box::new(vec.clone()))?;
    Ok(vec)
}
