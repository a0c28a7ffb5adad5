//! The app's counts: the requests for a job's status it really got, and those it would have got without the sidecar.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

/// Counts since the process started; a restart of the app does not reset them, so that both numbers tell the same time.
#[derive(Debug, Default)]
pub(super) struct Tally {
    status_reads: AtomicU64,
    without_sidecar: AtomicU64,
    /// The open progress streams when they were last counted.
    progress_streams: AtomicU64,
    /// Shared with the guard in each open stream, which takes itself away when it is dropped.
    notification_streams: Arc<AtomicU64>,
    restarts: AtomicU64,
}

/// The counts at one moment, as the page gets them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Counts {
    status_reads: u64,
    status_reads_without_sidecar: u64,
    progress_streams: u64,
    notification_streams: u64,
    restarts: u64,
}

/// One open notification stream; undoes itself when it is dropped.
#[derive(Debug)]
pub(super) struct OpenStream(Arc<AtomicU64>);

// === impl Tally ===

impl Tally {
    /// Somebody has asked for the status of one job.
    pub(super) fn status_read(&self) {
        self.status_reads.fetch_add(1, Relaxed);
    }

    /// `streams` are open now: without the sidecar, each would have asked once since they were last counted.
    pub(super) fn count_watched(&self, streams: u64) {
        self.progress_streams.store(streams, Relaxed);
        self.without_sidecar.fetch_add(streams, Relaxed);
    }

    pub(super) fn restarted(&self) {
        self.restarts.fetch_add(1, Relaxed);
    }

    pub(super) fn open_stream(&self) -> OpenStream {
        self.notification_streams.fetch_add(1, Relaxed);
        OpenStream(Arc::clone(&self.notification_streams))
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            status_reads: self.status_reads.load(Relaxed),
            status_reads_without_sidecar: self.without_sidecar.load(Relaxed),
            progress_streams: self.progress_streams.load(Relaxed),
            notification_streams: self.notification_streams.load(Relaxed),
            restarts: self.restarts.load(Relaxed),
        }
    }
}

// === impl OpenStream ===

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
