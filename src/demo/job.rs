//! What a job is at a moment: a pure function of its kind and its age, so a job needs no timer and no task.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The kinds of job the page can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// Done in seven seconds.
    Quick,
    /// Done in a minute.
    Slow,
    /// Fails after nine seconds.
    Failing,
    /// Gets to 42 % and stays there for ever, still "processing".
    Stuck,
    /// Breaks once, begins again at 0 %, and is done after twenty seconds.
    Retried,
}

/// Where a job stands. The words are the app's own; the sidecar has to make sense of them without configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Queued,
    Processing,
    Retrying,
    Finalizing,
    Completed,
    Failed,
}

/// A job at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) status: Status,
    /// 0 to 100.
    pub(super) percent: u8,
    pub(super) message: &'static str,
}

/// A stretch of a job's life in which the percentage grows evenly.
struct Phase {
    millis: u64,
    status: Status,
    from: u8,
    to: u8,
    message: &'static str,
}

/// A job's whole life: the phases in order, and how it stands for ever after.
struct Plan {
    phases: &'static [Phase],
    after: Progress,
}

// === impl Kind ===

impl Kind {
    fn plan(self) -> &'static Plan {
        match self {
            Self::Quick => &QUICK,
            Self::Slow => &SLOW,
            Self::Failing => &FAILING,
            Self::Stuck => &STUCK,
            Self::Retried => &RETRIED,
        }
    }
}

// === impl Status ===

impl Status {
    /// Whether the job is over, for better or worse.
    pub(super) fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

/// How a job of this kind stands at this age.
pub(super) fn progress_at(kind: Kind, age: Duration) -> Progress {
    let plan = kind.plan();
    let mut left = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    for phase in plan.phases {
        if left < phase.millis {
            let gained = u64::from(phase.to - phase.from) * left / phase.millis;
            let gained = u8::try_from(gained).expect("a part of a percentage is below 100");
            return Progress { status: phase.status, percent: phase.from + gained, message: phase.message };
        }
        left -= phase.millis;
    }
    plan.after
}

// === the plans ===

const QUEUED: Phase =
    Phase { millis: 1_000, status: Status::Queued, from: 0, to: 0, message: "Waiting for an encoder to be free" };

const FINALIZING: Phase =
    Phase { millis: 1_000, status: Status::Finalizing, from: 95, to: 99, message: "Writing the index" };

const COMPLETED: Progress = Progress { status: Status::Completed, percent: 100, message: "Ready to watch" };

const fn encoding(millis: u64, to: u8, message: &'static str) -> Phase {
    Phase { millis, status: Status::Processing, from: 0, to, message }
}

static QUICK: Plan = Plan { phases: &[QUEUED, encoding(5_000, 95, "Encoding"), FINALIZING], after: COMPLETED };

static SLOW: Plan =
    Plan { phases: &[QUEUED, encoding(58_000, 95, "Encoding in high quality"), FINALIZING], after: COMPLETED };

static FAILING: Plan = Plan {
    phases: &[QUEUED, encoding(8_000, 63, "Encoding")],
    after: Progress { status: Status::Failed, percent: 63, message: "The encoder ran out of disk space" },
};

static STUCK: Plan = Plan {
    phases: &[QUEUED, encoding(8_000, 42, "Encoding")],
    after: Progress { status: Status::Processing, percent: 42, message: "Encoding" },
};

static RETRIED: Plan = Plan {
    phases: &[
        QUEUED,
        encoding(6_000, 55, "Encoding, attempt 1 of 2"),
        // "failed" would be the end of the job for everyone who watches it, the sidecar included.
        Phase {
            millis: 3_000,
            status: Status::Retrying,
            from: 0,
            to: 0,
            message: "The encoder crashed; starting it again",
        },
        encoding(9_000, 95, "Encoding, attempt 2 of 2"),
        FINALIZING,
    ],
    after: COMPLETED,
};

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 5] = [Kind::Quick, Kind::Slow, Kind::Failing, Kind::Stuck, Kind::Retried];

    fn at(kind: Kind, millis: u64) -> Progress {
        progress_at(kind, Duration::from_millis(millis))
    }

    /// The statuses of the first two minutes, each named once per stretch.
    fn life(kind: Kind) -> Vec<Status> {
        let mut statuses: Vec<_> = (0..120_000).step_by(100).map(|millis| at(kind, millis).status).collect();
        statuses.dedup();
        statuses
    }

    #[test]
    fn each_kind_of_job_lives_the_life_its_name_promises() {
        use Status::*;
        assert_eq!(life(Kind::Quick), [Queued, Processing, Finalizing, Completed]);
        assert_eq!(life(Kind::Slow), [Queued, Processing, Finalizing, Completed]);
        assert_eq!(life(Kind::Failing), [Queued, Processing, Failed]);
        assert_eq!(life(Kind::Stuck), [Queued, Processing]);
        assert_eq!(life(Kind::Retried), [Queued, Processing, Retrying, Processing, Finalizing, Completed]);
    }

    #[test]
    fn a_percentage_grows_evenly_and_is_full_only_at_the_end() {
        assert_eq!(at(Kind::Quick, 0).percent, 0);
        assert_eq!(at(Kind::Quick, 3_500).percent, 47);
        assert_eq!(at(Kind::Quick, 6_999).percent, 98);
        assert_eq!(at(Kind::Quick, 7_000), COMPLETED);
        for kind in KINDS {
            for millis in (0..120_000).step_by(50) {
                let progress = at(kind, millis);
                assert_eq!(progress.percent == 100, progress.status == Status::Completed, "{kind:?} at {millis} ms");
            }
        }
    }

    #[test]
    fn only_the_retried_job_ever_goes_back() {
        for kind in KINDS {
            let percents: Vec<_> = (0..120_000).step_by(50).map(|millis| at(kind, millis).percent).collect();
            assert_eq!(percents.is_sorted(), kind != Kind::Retried, "{kind:?}");
        }
    }

    #[test]
    fn a_stuck_job_stays_at_42_percent_for_ever() {
        for age in [Duration::from_secs(9), Duration::from_secs(86_400), Duration::MAX] {
            let progress = progress_at(Kind::Stuck, age);
            assert_eq!((progress.status, progress.percent), (Status::Processing, 42));
        }
    }
}
