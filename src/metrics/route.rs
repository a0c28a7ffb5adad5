//! The series of one route, and the families of all routes that they are taken from.

use std::time::Duration;

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    local::LocalHistogram,
};

use super::{
    family::{counter_vec, each, gauge_vec, histogram_vec},
    labels::{CloseReason, FrameKind, InvalidStateSide, Phase, Transport, Violation},
};
use crate::advice::traces::Traces;

/// The index of a route in the order of the command line; what a stream or topic holds to find its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(pub usize);

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
pub(super) struct RouteVecs {
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
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
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

    pub(super) fn route(&self, route: &str) -> RouteMetrics {
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
