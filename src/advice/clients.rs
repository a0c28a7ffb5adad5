//! Clients that vanish, that read too slowly, or that don't take the end for one.

use super::{Recommendation, Severity, facts::RouteFacts, is_share};

/// Many streams ended because nothing was acknowledged any more.
pub(super) fn vanishing(route: &RouteFacts) -> Option<Recommendation> {
    let RouteFacts { closed_stale: stale, closed, .. } = *route;
    is_share(stale, closed, 0.5, 10).then(|| Recommendation {
        rule: "clients-vanish",
        severity: Severity::Warning,
        title: "Events are written, and nothing is acknowledged",
        evidence: format!(
            "{stale} of {closed} streams that ended were given up because their clients had acknowledged nothing for \
             --reap-after: they lose the network, or something between forgets connections that are quiet (NAT, a \
             firewall, a load balancer).",
        ),
        change: "a lower --heartbeat-interval, below the idle time of what is between, or a longer idle time there"
            .to_owned(),
        route: Some(route.route.clone()),
    })
}

/// Streams fell out of the replay window.
pub(super) fn slow(route: &RouteFacts) -> Option<Recommendation> {
    let RouteFacts { closed_slow: slow, closed, .. } = *route;
    is_share(slow, closed, 0.2, 5).then(|| Recommendation {
        rule: "readers-too-slow",
        severity: Severity::Advice,
        title: "Events are acknowledged, but not read in time",
        evidence: format!(
            "{slow} of {closed} streams that ended had fallen out of the window of 1,024 events or 256 KiB, and of ten \
             seconds: their clients read more slowly than the app sends.",
        ),
        change: "fewer or smaller events of the app; or a poll route, whose slow readers get the latest".to_owned(),
        route: Some(route.route.clone()),
    })
}

/// Clients come back after the last event.
pub(super) fn end_ignored(route: &RouteFacts) -> Option<Recommendation> {
    let RouteFacts { came_after_end: came, closed_done: done, .. } = *route;
    if !is_share(came, done, 0.5, 5) {
        return None;
    }
    // Once each is an EventSource without a listener for `done`: 204 stops it. More often is one that 204 does not stop.
    let is_loop = came > 2 * done;
    let (severity, change) = match is_loop {
        true => (Severity::Warning, "the front end must close its stream at `done`: 204 does not stop this client"),
        false => (Severity::Advice, "source.addEventListener('done', () => source.close()) in the front end"),
    };
    Some(Recommendation {
        rule: "end-ignored",
        severity,
        title: "Clients come back after the end of their job",
        evidence: format!(
            "{done} streams ended with their job, and {came} times a client came back after it had seen that end and \
             was told 204: the front end ignores `done`.",
        ),
        change: change.to_owned(),
        route: Some(route.route.clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(closed: u64, done: u64, stale: u64, slow: u64, came: u64) -> RouteFacts {
        RouteFacts {
            closed,
            closed_done: done,
            closed_stale: stale,
            closed_slow: slow,
            came_after_end: came,
            ..RouteFacts::default()
        }
    }

    #[test]
    fn clients_that_vanish_are_told_from_some_that_lost_the_network() {
        let found = vanishing(&route(20, 0, 12, 0, 0)).unwrap();
        assert!(found.evidence.starts_with("12 of 20 streams"), "{found:?}");
        for healthy in [route(0, 0, 0, 0, 0), route(9, 0, 9, 0, 0), route(100, 20, 30, 0, 0)] {
            assert_eq!(vanishing(&healthy), None, "{healthy:?}");
        }
    }

    #[test]
    fn slow_readers_are_told_from_one_on_a_train() {
        assert!(slow(&route(20, 0, 0, 6, 0)).is_some());
        for healthy in [route(0, 0, 0, 0, 0), route(4, 0, 0, 4, 0), route(100, 0, 0, 10, 0)] {
            assert_eq!(slow(&healthy), None, "{healthy:?}");
        }
    }

    #[test]
    fn a_front_end_that_ignores_the_end_comes_back_once_and_a_deaf_one_for_ever() {
        let once = end_ignored(&route(20, 20, 0, 0, 19)).unwrap();
        assert_eq!((once.severity, once.rule), (Severity::Advice, "end-ignored"));
        assert!(once.change.contains("addEventListener('done'"), "{once:?}");
        let for_ever = end_ignored(&route(20, 20, 0, 0, 200)).unwrap();
        assert_eq!(for_ever.severity, Severity::Warning);
        // A tab that lost the network in that very moment comes back, too.
        for healthy in [route(0, 0, 0, 0, 0), route(20, 20, 0, 0, 2), route(8, 4, 0, 0, 4)] {
            assert_eq!(end_ignored(&healthy), None, "{healthy:?}");
        }
    }
}
