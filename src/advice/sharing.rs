//! Who is told apart from whom: by an address that is a proxy's, or by a credential that never stays the same.

use std::collections::{BTreeMap, HashSet};

use super::{
    Recommendation, Severity,
    facts::{Badge, Facts, Returns, RouteFacts},
    is_share,
};

/// A credential was seen so often that "never twice the same" means something.
const SEEN_MIN: usize = 4;
/// So many names are told.
const NAMED_MAX: usize = 3;

/// Nearly everybody comes from one address, which says itself that it speaks for others.
pub(super) fn proxy_not_trusted(facts: &Facts) -> Option<Recommendation> {
    let (address, seen, naming) = facts.most_seen()?;
    let (all, seen, naming) = (facts.visitors.len() as u64, seen as u64, naming as u64);
    if !is_share(seen, all, 0.8, 20) || !is_share(naming, seen, 0.8, 20) {
        return None;
    }
    let severity = if facts.counts_addresses { Severity::Warning } else { Severity::Advice };
    Some(Recommendation {
        rule: "proxy-not-trusted",
        severity,
        title: "All clients seem to come from one address",
        evidence: format!(
            "{seen} of the last {all} streams were asked for from {address}, and {naming} of these requests name their \
             client in X-Forwarded-For, which is not believed: limits per address and the dashboard take the proxy for \
             the client.",
        ),
        change: format!("--trusted-proxy {address}"),
        route: None,
    })
}

/// Clients come back within the linger, and their topic is not theirs any more.
pub(super) fn nothing_shared(route: &RouteFacts) -> Option<Recommendation> {
    let Returns { found, lost } = route.returns;
    let all = found + lost;
    if !route.is_per_user || !is_share(lost, all, 0.8, 6) {
        return None;
    }
    let names = changing(&route.badges);
    let (what, change) = match names.as_slice() {
        [] => (
            "their credentials are others each time".to_owned(),
            "--credential-header with what stays the same of a user, or share=authorized in the --route".to_owned(),
        ),
        names => {
            let names = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            (
                format!("never twice the same was {names}"),
                format!(
                    "keep {names} the same for a user, or name another --credential-header, or share=authorized in the --route"
                ),
            )
        }
    };
    Some(Recommendation {
        rule: "nothing-shared",
        severity: Severity::Warning,
        title: "Nothing is shared: each request is a user of its own",
        evidence: format!(
            "{lost} of {all} clients that came back within the linger had their topic made anew, so the app is asked \
             for each stream by itself: {what}.",
        ),
        change,
        route: Some(route.route.clone()),
    })
}

/// The names of credentials that were never twice the same, though they were seen often; the most seen first.
fn changing(requests: &[Vec<Badge>]) -> Vec<&str> {
    let mut seen: BTreeMap<&str, (usize, HashSet<u64>)> = BTreeMap::new();
    for badge in requests.iter().flatten() {
        let (count, marks) = seen.entry(&badge.name).or_default();
        *count += 1;
        marks.insert(badge.mark);
    }
    let mut changing: Vec<_> = seen
        .into_iter()
        .filter(|(_, (count, marks))| *count >= SEEN_MIN && marks.len() == *count)
        .map(|(name, (count, _))| (count, name))
        .collect();
    changing.sort_by(|(one, _), (other, _)| other.cmp(one));
    changing.into_iter().take(NAMED_MAX).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::advice::facts::Visitor;

    fn visitors(of_proxy: usize, naming: usize, others: usize) -> Facts {
        let proxy = |n| Visitor { address: [10, 0, 0, 5].into(), names_others: n < naming };
        let other = |n: usize| Visitor { address: IpAddr::from([192, 0, 2, n as u8]), names_others: false };
        Facts { visitors: (0..of_proxy).map(proxy).chain((0..others).map(other)).collect(), ..Facts::default() }
    }

    #[test]
    fn a_proxy_that_is_not_trusted_is_named() {
        let found = proxy_not_trusted(&visitors(38, 38, 2)).unwrap();
        assert!(found.evidence.starts_with("38 of the last 40 streams"), "{found:?}");
        assert_eq!((found.change.as_str(), found.severity), ("--trusted-proxy 10.0.0.5", Severity::Advice));
        let counting = Facts { counts_addresses: true, ..visitors(38, 38, 2) };
        assert_eq!(proxy_not_trusted(&counting).unwrap().severity, Severity::Warning);
    }

    // One person with many tabs, a load test, clients that invent the header, and few of whatever.
    #[test]
    fn clients_are_not_taken_for_a_proxy() {
        for healthy in
            [visitors(0, 0, 0), visitors(100, 0, 0), visitors(100, 30, 0), visitors(19, 19, 0), visitors(50, 50, 50)]
        {
            assert_eq!(proxy_not_trusted(&healthy), None);
        }
    }

    /// Requests of `users`, each with a session of its own and, perhaps, a stamp that is new each time.
    fn requests(count: u64, users: u64, has_stamp: bool) -> Vec<Vec<Badge>> {
        let badge = |name: &str, mark| Badge { name: name.into(), mark };
        let request = |n| {
            let stamp = has_stamp.then(|| badge("stamp", 1000 + n));
            [badge("lang", 1), badge("session", n % users)].into_iter().chain(stamp).collect()
        };
        (0..count).map(request).collect()
    }

    fn route(found: u64, lost: u64, badges: Vec<Vec<Badge>>) -> RouteFacts {
        RouteFacts { is_per_user: true, returns: Returns { found, lost }, badges, ..RouteFacts::default() }
    }

    #[test]
    fn a_cookie_that_is_new_each_time_is_named() {
        let found = nothing_shared(&route(1, 19, requests(20, 5, true))).unwrap();
        assert!(found.evidence.starts_with("19 of 20 clients"), "{found:?}");
        assert!(found.evidence.ends_with("never twice the same was `stamp`."), "{found:?}");
    }

    #[test]
    fn without_a_suspect_it_is_still_told() {
        let found = nothing_shared(&route(0, 19, requests(20, 5, false))).unwrap();
        assert!(found.change.starts_with("--credential-header"), "{found:?}");
    }

    #[test]
    fn users_with_a_tab_each_are_healthy() {
        for (found, lost) in [(0, 0), (0, 5), (20, 0), (20, 10)] {
            assert_eq!(nothing_shared(&route(found, lost, requests(20, 20, false))), None);
        }
        let public = RouteFacts { is_per_user: false, ..route(0, 19, Vec::new()) };
        assert_eq!(nothing_shared(&public), None);
    }
}
