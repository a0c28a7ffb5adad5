//! One stream as the admin side shows it.

use std::{net::IpAddr, time::Duration};

use tokio::time::Instant;

use crate::metrics::RouteId;

/// One stream as the admin side shows it.
#[derive(Clone, Debug)]
pub struct StreamView {
    /// The route.
    pub route: RouteId,
    /// The client's address.
    pub peer: IpAddr,
    /// Since when it is open.
    pub opened: Instant,
    /// For how long writes to it have been blocked.
    pub blocked_for: Option<Duration>,
    /// For how long something sent to it has waited for an acknowledgement.
    pub unacknowledged_for: Option<Duration>,
}

// === impl StreamView ===

impl StreamView {
    /// For how long its client has made us wait, one way or the other.
    pub fn waiting_for(&self) -> Duration {
        self.blocked_for.max(self.unacknowledged_for).unwrap_or_default()
    }
}
