//! What the app answers, and how quickly.

use std::time::Duration;

use super::{
    Recommendation, Severity, Time,
    facts::{Facts, Kind, PollFacts, RouteFacts},
    is_share,
};

/// The status is a word that is not known.
pub(super) fn unknown_status(route: &RouteFacts) -> Option<Recommendation> {
    if route.unknown_statuses < 3 {
        return None;
    }
    let (pointer, value) = route.unknown_status.as_ref()?;
    let count = route.unknown_statuses;
    Some(Recommendation {
        rule: "unknown-status",
        severity: Severity::Warning,
        title: "The app uses a status that is not known",
        evidence: format!(
            "{count} answers had a status that is no known word, the last of them {value:?} at {pointer}; such a job \
             counts as running, and if the word means an end, its streams never come to it.",
        ),
        change: format!("status={pointer},done=… in the --route, with all words that end a job"),
        route: Some(route.route.clone()),
    })
}

/// The status is not where it is looked for.
pub(super) fn missing_status(route: &RouteFacts) -> Option<Recommendation> {
    let RouteFacts { missing_statuses: missing, events, .. } = *route;
    let is_poll = matches!(route.kind, Kind::Poll { .. });
    (is_poll && is_share(missing, events, 0.5, 3)).then(|| Recommendation {
        rule: "missing-status",
        severity: Severity::Advice,
        title: "No status is found in the app's answers",
        evidence: format!("In {missing} of {events} new answers no status was found; such a job never ends."),
        change: "status=/path/to/it in the --route".to_owned(),
        route: Some(route.route.clone()),
    })
}

/// Polls take longer than they are apart.
pub(super) fn slower_than_polls(facts: &Facts) -> Option<Recommendation> {
    let interval = |route: &RouteFacts| match route.kind {
        Kind::Poll { interval } => Some(interval),
        Kind::Subscribe | Kind::Forwarded => None,
    };
    let shortest = facts.routes.iter().filter_map(interval).min()?;
    let latency = &facts.polls.latency;
    let half = Duration::try_from_secs_f64(latency.quantile(0.5)?).ok()?;
    (latency.count >= 8 && half >= shortest).then(|| Recommendation {
        rule: "app-slower-than-polls",
        severity: Severity::Warning,
        title: "The app answers more slowly than it is polled",
        evidence: format!(
            "Half of the last {} polls took {} or longer, and they are made every {} while a status changes.",
            latency.count,
            Time(half),
            Time(shortest),
        ),
        change: format!("--poll-interval {}, or a status endpoint that answers sooner", Time(half * 2)),
        route: None,
    })
}

/// Polls wait because too many are under way.
pub(super) fn polls_wait(facts: &Facts) -> Option<Recommendation> {
    let PollFacts { waited, made: polls, concurrency, .. } = facts.polls;
    // When thousands come in the same moment, after a restart, the first poll of each waits; that is as it should be.
    let is_storm = polls < 2 * facts.polls.topics as u64;
    (is_share(waited, polls, 0.2, 10) && !is_storm).then(|| Recommendation {
        rule: "polls-wait",
        severity: Severity::Warning,
        title: "Polls wait for their turn",
        evidence: format!(
            "{waited} times polls had to wait, while {polls} were made, because {concurrency} requests were under way: \
             what is shown is older than it need be.",
        ),
        change: format!(
            "--poll-concurrency {}, if the app can take it; else a longer --poll-interval",
            concurrency * 2
        ),
        route: None,
    })
}

#[cfg(test)]
mod tests {
    use prometheus::{Histogram, HistogramOpts};

    use super::*;
    use crate::stats::latency::Latency;

    fn latency(seconds: f64, count: usize) -> Latency {
        let opts = HistogramOpts::new("t", "t").buckets(vec![0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0]);
        let histogram = Histogram::with_opts(opts).unwrap();
        (0..count).for_each(|_| histogram.observe(seconds));
        Latency::of([&histogram])
    }

    fn polls(seconds: f64, count: usize, waited: u64) -> Facts {
        let kind = Kind::Poll { interval: Duration::from_secs(1) };
        Facts {
            routes: vec![RouteFacts { kind, ..RouteFacts::default() }],
            polls: PollFacts {
                latency: latency(seconds, count),
                made: count as u64,
                waited,
                concurrency: 64,
                topics: 20,
            },
            ..Facts::default()
        }
    }

    #[test]
    fn an_app_that_can_not_keep_up_is_told_from_a_slow_answer() {
        let found = slower_than_polls(&polls(2.0, 20, 0)).unwrap();
        assert!(found.evidence.contains("last 20 polls"), "{found:?}");
        for healthy in [polls(0.05, 100, 0), polls(2.0, 7, 0), polls(0.0, 0, 0)] {
            assert_eq!(slower_than_polls(&healthy), None);
        }
        assert_eq!(slower_than_polls(&Facts { routes: Vec::new(), ..polls(2.0, 20, 0) }), None, "nothing is polled");
    }

    #[test]
    fn polls_that_wait_often_are_told_from_a_storm_that_has_passed() {
        assert_eq!(
            polls_wait(&polls(0.05, 100, 40)).unwrap().change,
            "--poll-concurrency 128, if the app can take it; else a longer --poll-interval"
        );
        for healthy in [polls(0.05, 100, 0), polls(0.05, 1000, 64), polls(0.05, 5, 5), polls(0.05, 30, 20)] {
            assert_eq!(polls_wait(&healthy), None);
        }
    }

    fn statuses(unknown: u64, missing: u64, events: u64) -> RouteFacts {
        RouteFacts {
            kind: Kind::Poll { interval: Duration::from_secs(1) },
            unknown_statuses: unknown,
            unknown_status: (unknown > 0).then(|| ("/state".to_owned(), "wibb\"le".to_owned())),
            missing_statuses: missing,
            events,
            ..RouteFacts::default()
        }
    }

    #[test]
    fn a_status_that_nobody_knows_is_shown_where_it_stands() {
        let found = unknown_status(&statuses(3, 0, 3)).unwrap();
        assert!(found.evidence.contains(r#""wibb\"le" at /state"#), "{found:?}");
        assert!(found.change.starts_with("status=/state,done="), "{found:?}");
        for healthy in [statuses(0, 0, 50), statuses(2, 0, 50)] {
            assert_eq!(unknown_status(&healthy), None);
        }
    }

    #[test]
    fn answers_without_a_status_are_told_from_one_now_and_then() {
        assert!(missing_status(&statuses(0, 10, 12)).is_some());
        for healthy in [statuses(0, 0, 0), statuses(0, 2, 2), statuses(0, 10, 100)] {
            assert_eq!(missing_status(&healthy), None);
        }
        // On a stream an event without a status is an event like others.
        assert_eq!(missing_status(&RouteFacts { kind: Kind::Subscribe, ..statuses(0, 10, 12) }), None);
    }
}
