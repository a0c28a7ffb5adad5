//! The order to leave: a first signal begins the drain, a second ends at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// What the parts of the program watch for.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Leave in good order.
    pub drain: CancellationToken,
    /// Leave now.
    pub abort: CancellationToken,
}

// === impl Shutdown ===

impl Shutdown {
    /// Turns SIGTERM and SIGINT into the two orders. The task ends with the process.
    ///
    /// # Errors
    /// When the signal handlers can't be installed.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::default();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let orders = shutdown.clone();
        tokio::spawn(async move {
            for second in [false, true] {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if second {
                    warn!(signal = name, "second signal: leaving at once");
                    orders.abort.cancel();
                } else {
                    info!(signal = name, "draining; a second signal ends at once");
                    orders.drain.cancel();
                }
            }
        });
        Ok(shutdown)
    }
}
