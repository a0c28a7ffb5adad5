//! The order to leave: a first signal begins the drain, a second ends at once.

use rustix::process::Signal;
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
    /// Turns SIGTERM and SIGINT into the two orders, and SIGHUP too where it is not for an app of ours and was not ignored
    /// from the start (`nohup`): else the end of a terminal or of a session cut every stream. The task ends with the process.
    ///
    /// # Errors
    /// When the signal handlers can't be installed.
    pub fn on_signals(has_app: bool) -> std::io::Result<Self> {
        let shutdown = Self::default();
        let mut hangup = if has_app || is_ignored(Signal::HUP) { None } else { Some(signal(SignalKind::hangup())?) };
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let orders = shutdown.clone();
        tokio::spawn(async move {
            for second in [false, true] {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                    Some(_) = async { hangup.as_mut()?.recv().await } => "SIGHUP",
                };
                if second {
                    warn!(signal = name, "second signal: leaving at once");
                    orders.abort.cancel();
                } else {
                    info!(signal = name, "told to leave; a second signal ends at once");
                    orders.drain.cancel();
                }
            }
        });
        Ok(shutdown)
    }
}

/// Whether this process has ignored `signal` since its start; not where the system does not tell.
pub fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal.as_raw() - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    // The Rust runtime ignores SIGPIPE in every program.
    #[test]
    fn what_is_ignored_is_known() {
        assert!(is_ignored(Signal::PIPE));
        assert!(!is_ignored(Signal::TERM));
    }
}
