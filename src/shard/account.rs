//! Where a shard counts what it sent.

use std::cell::Cell;

use prometheus::local::LocalHistogram;
use tokio::time::Instant;

use crate::metrics::{FrameKind, RouteMetrics};

/// What an entry tells about what it sent.
pub(super) trait Account {
    fn sent(&self, kind: FrameKind, bytes: usize);
    fn delivered(&self, at: Instant);
}

/// The route's own series.
pub(super) struct Direct<'a>(pub(super) &'a RouteMetrics);

/// The same for many deliveries in a row: kept here, and added when this is dropped. All shards count in the same series,
/// and a dozen words of memory that every core writes for each delivery would be what they wait for.
pub(super) struct Batched<'a> {
    metrics: &'a RouteMetrics,
    frames: [Cell<u64>; FrameKind::ALL.len()],
    bytes: Cell<u64>,
    delivery: LocalHistogram,
}

// === impl Direct ===

impl Account for Direct<'_> {
    fn sent(&self, kind: FrameKind, bytes: usize) {
        self.0.frames_sent(kind, 1, bytes as u64);
    }

    fn delivered(&self, at: Instant) {
        self.0.delivered(at.elapsed());
    }
}

// === impl Batched ===

impl<'a> Batched<'a> {
    pub(super) fn new(metrics: &'a RouteMetrics) -> Self {
        Self { metrics, frames: Default::default(), bytes: Cell::new(0), delivery: metrics.delivery_batch() }
    }
}

impl Account for Batched<'_> {
    fn sent(&self, kind: FrameKind, bytes: usize) {
        let frames = &self.frames[kind as usize];
        frames.set(frames.get() + 1);
        self.bytes.set(self.bytes.get() + bytes as u64);
    }

    fn delivered(&self, at: Instant) {
        self.delivery.observe(at.elapsed().as_secs_f64());
    }
}

impl Drop for Batched<'_> {
    fn drop(&mut self) {
        let mut bytes = self.bytes.get();
        for kind in FrameKind::ALL {
            let frames = self.frames[*kind as usize].get();
            if frames > 0 {
                self.metrics.frames_sent(*kind, frames, std::mem::take(&mut bytes));
            }
        }
    }
}
