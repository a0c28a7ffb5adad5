//! Whether the app is started again, and after how long.

use std::time::Duration;

use clap::ValueEnum;

use super::End;
use crate::backoff::Backoff;

/// The first pause is at most this: most crashes are the first for long, and clients wait.
const BASE: Duration = Duration::from_millis(500);
/// An app that dies at each start costs two starts a minute, on average four.
const CAP: Duration = Duration::from_secs(30);
/// Who lived for longer than any pause is well, and its next death the first again.
const LIVED_WELL: Duration = CAP;
/// A shell that finds no command says so within this, also on a loaded machine.
const FIRST_START: Duration = Duration::from_secs(5);

/// When an app that has ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RestartPolicy {
    /// We end as it did
    Never,
    /// When it ended with another status than 0, or by a signal
    OnFailure,
    /// However it ended
    Always,
}

/// The lives of the app so far.
#[derive(Debug)]
pub(super) struct Restarts {
    policy: RestartPolicy,
    backoff: Backoff,
    is_first: bool,
}

// === impl RestartPolicy ===

impl RestartPolicy {
    /// Its word on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::OnFailure => "on-failure",
            Self::Always => "always",
        }
    }
}

// === impl Restarts ===

impl Restarts {
    pub(super) fn new(policy: RestartPolicy) -> Self {
        Self { policy, backoff: Backoff::new(BASE, CAP), is_first: true }
    }

    /// The pause before the next life, after one that ended so; `None` is the end.
    pub(super) fn after(&mut self, end: End, lived: Duration) -> Option<Duration> {
        let is_first = std::mem::replace(&mut self.is_first, false);
        let is_wanted = match self.policy {
            RestartPolicy::Never => false,
            RestartPolicy::OnFailure => end != End::Exited(0),
            RestartPolicy::Always => true,
        };
        // At a later start a file may be missing because it is being replaced; at the first it is a mistake.
        if !is_wanted || is_first && lived < FIRST_START && end.is_of_no_command() {
            return None;
        }
        if lived >= LIVED_WELL {
            self.backoff.reset();
        }
        Some(self.backoff.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(100);

    fn after(policy: RestartPolicy, end: End) -> bool {
        Restarts::new(policy).after(end, SHORT).is_some()
    }

    #[test]
    fn the_policy_says_which_ends_are_the_last() {
        let ends = [End::Exited(0), End::Exited(1), End::Signalled(9)];
        assert_eq!(ends.map(|end| after(RestartPolicy::Never, end)), [false, false, false]);
        assert_eq!(ends.map(|end| after(RestartPolicy::OnFailure, end)), [false, true, true]);
        assert_eq!(ends.map(|end| after(RestartPolicy::Always, end)), [true, true, true]);
    }

    // It would be tried for ever, and the mistake would drown in its own repetition.
    #[test]
    fn a_command_that_can_not_be_run_at_first_is_not_tried_again() {
        for status in [126, 127] {
            assert!(!after(RestartPolicy::Always, End::Exited(status)));
            let mut later = Restarts::new(RestartPolicy::OnFailure);
            assert!(later.after(End::Exited(1), SHORT).is_some());
            assert!(later.after(End::Exited(status), SHORT).is_some(), "it ran before, and is being replaced");
        }
    }

    #[test]
    fn pauses_grow_to_their_cap_and_begin_anew_after_a_good_life() {
        let mut restarts = Restarts::new(RestartPolicy::OnFailure);
        let mut pause = |lived| restarts.after(End::Exited(1), lived).unwrap();
        assert!(pause(SHORT) <= BASE);
        let longest = (0..200).map(|_| pause(SHORT)).max().unwrap();
        assert!(longest > BASE * 4 && longest <= CAP, "{longest:?}");
        assert!(pause(LIVED_WELL) <= BASE);
        assert!(pause(SHORT) <= BASE * 2);
    }
}
