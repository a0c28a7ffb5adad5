//! Limits that are near, or reached.

use super::{
    Recommendation, Severity,
    facts::{Facts, Limit, LimitFacts},
};

/// From this part of a limit on it is near.
const NEAR: f64 = 0.8;

/// `--max-connections`.
pub(super) fn connections(facts: &Facts) -> Option<Recommendation> {
    let limit = facts.limit(Limit::Connections)?;
    limit.near("connections-near-limit", "Streams are near their limit", "streams are open", |max| {
        format!("--max-connections {}", max * 2)
    })
}

/// `--max-connections-per-ip`.
pub(super) fn per_address(facts: &Facts) -> Option<Recommendation> {
    let limit = facts.limit(Limit::PerAddress).filter(|limit| limit.turned_away > 0)?;
    let LimitFacts { max, turned_away, .. } = *limit;
    Some(Recommendation {
        rule: "address-limit-reached",
        severity: Severity::Warning,
        title: "Clients of one address are turned away",
        evidence: format!("{turned_away} streams were turned away because their address had {max} already."),
        change: format!("--max-connections-per-ip {}; behind a proxy --trusted-proxy with its address", max * 2),
        route: None,
    })
}

/// `--max-topics`.
pub(super) fn topics(facts: &Facts) -> Option<Recommendation> {
    let limit = facts.limit(Limit::Topics)?;
    limit.near("topics-near-limit", "Topics are near their limit", "topics are kept", |max| {
        format!("--max-topics {}, or a shorter linger", max * 2)
    })
}

/// What the process may open.
pub(super) fn open_files(facts: &Facts) -> Option<Recommendation> {
    let limit = facts.limit(Limit::OpenFiles)?;
    limit.near("files-near-limit", "Open files are near their limit", "sockets are open", |_| {
        "a higher limit of open files: LimitNOFILE= (systemd), ulimit -n".to_owned()
    })
}

// === impl Facts ===

impl Facts {
    fn limit(&self, limit: Limit) -> Option<&LimitFacts> {
        self.limits.iter().find(|facts| facts.limit == limit)
    }
}

// === impl LimitFacts ===

impl LimitFacts {
    fn near(
        &self,
        rule: &'static str,
        title: &'static str,
        what: &str,
        change: impl Fn(usize) -> String,
    ) -> Option<Recommendation> {
        let Self { now, max, turned_away, .. } = *self;
        let is_near = max > 0 && now as f64 >= NEAR * max as f64;
        if !is_near && turned_away == 0 {
            return None;
        }
        let (severity, rest) = match turned_away {
            0 => (Severity::Advice, "over that, new clients are turned away".to_owned()),
            count => (Severity::Warning, format!("{count} times a client was turned away")),
        };
        Some(Recommendation {
            rule,
            severity,
            title,
            evidence: format!("{now} of {max} {what}; {rest}."),
            change: change(max),
            route: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn facts(limit: Limit, now: usize, max: usize, turned_away: u64) -> Facts {
        Facts { limits: vec![LimitFacts { limit, now, max, turned_away }], ..Facts::default() }
    }

    #[test]
    fn a_limit_that_is_near_is_told_before_anybody_is_turned_away() {
        let found = connections(&facts(Limit::Connections, 8100, 10_000, 0)).unwrap();
        assert_eq!((found.severity, found.change.as_str()), (Severity::Advice, "--max-connections 20000"));
        assert!(found.evidence.starts_with("8100 of 10000 streams are open"), "{found:?}");
        let reached = topics(&facts(Limit::Topics, 10_000, 10_000, 12)).unwrap();
        assert_eq!(reached.severity, Severity::Warning);
        assert!(reached.evidence.contains("12 times"), "{reached:?}");
        assert!(open_files(&facts(Limit::OpenFiles, 900, 1000, 0)).is_some());
        assert!(per_address(&facts(Limit::PerAddress, 0, 4, 1)).is_some());
    }

    proptest! {
        // Whoever has room and turned nobody away is let be.
        #[test]
        fn where_there_is_room_nothing_is_said(max in 1_usize..100_000, part in 0.0..0.79) {
            let now = (max as f64 * part) as usize;
            for limit in [Limit::Connections, Limit::PerAddress, Limit::Topics, Limit::OpenFiles] {
                let facts = facts(limit, now, max, 0);
                for rule in [connections, per_address, topics, open_files] {
                    prop_assert_eq!(rule(&facts), None);
                }
            }
        }
    }
}
