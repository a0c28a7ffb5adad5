//! A topic's place in the gauge of phases.

use std::sync::Arc;

use crate::metrics::{Metrics, Phase, RouteId};

/// A topic's place in the gauge of phases; leaves it when dropped.
#[derive(Debug)]
pub(super) struct PhaseGauge {
    metrics: Arc<Metrics>,
    route: RouteId,
    phase: Phase,
}

// === impl PhaseGauge ===

impl PhaseGauge {
    pub(super) fn new(metrics: Arc<Metrics>, route: RouteId) -> Self {
        metrics.route(route).topics(Phase::Starting).inc();
        Self { metrics, route, phase: Phase::Starting }
    }

    pub(super) fn current(&self) -> Phase {
        self.phase
    }

    pub(super) fn set(&mut self, phase: Phase) {
        if phase != self.phase {
            let route = self.metrics.route(self.route);
            route.topics(self.phase).dec();
            route.topics(phase).inc();
            self.phase = phase;
        }
    }
}

impl Drop for PhaseGauge {
    fn drop(&mut self) {
        self.metrics.route(self.route).topics(self.phase).dec();
    }
}
