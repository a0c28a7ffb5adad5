//! Whether connections to the app come about, and the two lines of the log when they did not for a while.

use http::Uri;
use tokio::time::Instant;

use super::{Causes, UpstreamError};
use crate::log::{self, outage::Outage};

/// Hears of each attempt to connect. Failures of requests on connections that are there are not its business.
#[derive(Debug)]
pub(super) struct Reach(Outage);

// === impl Reach ===

impl Reach {
    /// Nothing was tried yet.
    pub(super) fn new() -> Self {
        // The first failure counts: a connection to a neighbour comes about, unless nobody is there.
        Self(Outage::after(1))
    }

    /// An attempt has come to its end.
    pub(super) fn tried<T>(&self, app: &Uri, attempt: &Result<T, UpstreamError>) {
        match attempt {
            Ok(_) => self.succeeded(),
            Err(error) => self.failed(app, error),
        }
    }

    fn succeeded(&self) {
        if let Some(outage) = self.0.succeeded(Instant::now) {
            tracing::info!(seconds = log::seconds(outage), "the app is reached again");
        }
    }

    fn failed(&self, app: &Uri, error: &UpstreamError) {
        if self.0.failed(Instant::now()) {
            let upstream = app.authority().map(tracing::field::display);
            tracing::warn!(
                upstream,
                error = %Causes(error),
                "the app can't be reached; streams stay open, other requests get 502 or 504"
            );
        }
    }
}
