//! How a life of the app ends: what it is called, what it is counted as, and whether it was ordered.

use std::fmt;

use rustix::process::Signal;

use super::signals;
use crate::metrics::AppExit;

/// How a life of the app ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a status of its own.
    Exited(u8),
    /// By a signal.
    Signalled(i32),
}

// === impl End ===

impl End {
    /// What a shell would call it: the status, or 128 and the number of the signal.
    pub fn status(self) -> u8 {
        match self {
            Self::Exited(status) => status,
            Self::Signalled(signal) => u8::try_from(signal).map_or(u8::MAX, |signal| signal.saturating_add(128)),
        }
    }

    /// What it is counted as.
    pub fn reason(self) -> AppExit {
        match self {
            Self::Exited(0) => AppExit::Ok,
            Self::Exited(_) => AppExit::Error,
            Self::Signalled(_) => AppExit::Signal,
        }
    }

    /// The end of an app that was told to end, and did: well, or by the signal that told it.
    pub fn is_as_ordered(self) -> bool {
        let orders = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT];
        match self {
            Self::Exited(status) => {
                status == 0 || orders.iter().any(|signal| i32::from(status) == 128 + signal.as_raw())
            }
            Self::Signalled(signal) => orders.iter().any(|order| signal == order.as_raw()),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exit status {status}"),
            Self::Signalled(signal) => match signals::name(*signal) {
                Some(name) => f.write_str(name),
                None => write!(f, "signal {signal}"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_as_shells_tell_them() {
        for (end, status, text, reason) in [
            (End::Exited(0), 0, "exit status 0", AppExit::Ok),
            (End::Exited(7), 7, "exit status 7", AppExit::Error),
            (End::Signalled(9), 137, "SIGKILL", AppExit::Signal),
            (End::Signalled(15), 143, "SIGTERM", AppExit::Signal),
            (End::Signalled(40), 168, "signal 40", AppExit::Signal),
        ] {
            assert_eq!((end.status(), end.to_string().as_str(), end.reason()), (status, text, reason));
        }
    }

    #[test]
    fn an_end_as_ordered_is_told_from_a_death_in_the_drain() {
        let as_ordered = [End::Exited(0), End::Exited(143), End::Exited(130), End::Signalled(15), End::Signalled(2)];
        assert!(as_ordered.into_iter().all(End::is_as_ordered));
        let otherwise = [End::Exited(1), End::Exited(137), End::Signalled(9), End::Signalled(11)];
        assert!(!otherwise.into_iter().any(End::is_as_ordered));
    }
}
