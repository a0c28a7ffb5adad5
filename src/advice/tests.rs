//! All rules together: what holds for each of them.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use super::{
    facts::{Badge, End, Kind, Limit, LimitFacts, PollFacts, Returns, Visitor},
    *,
};

/// A busy morning without a fault, with something of everything.
fn healthy() -> Facts {
    let began = Instant::now();
    let end = |n: u64| End {
        at: began + Duration::from_millis(n * 1370),
        lifetime: Duration::from_millis((n * 7919) % 500_000),
        silence: Duration::from_millis((n * 7919) % 15_000),
    };
    let badge = |name: &str, mark| Badge { name: name.into(), mark };
    let route = RouteFacts {
        route: "/api/progress/{id}".to_owned(),
        kind: Kind::Poll { interval: Duration::from_secs(1) },
        is_per_user: true,
        heartbeat: Duration::from_secs(15),
        max_age: Some(Duration::from_secs(600)),
        ends: (0..200).map(end).collect(),
        closed: 400,
        closed_done: 150,
        closed_stale: 12,
        closed_slow: 3,
        came_after_end: 4,
        returns: Returns { found: 80, lost: 3 },
        badges: (0..60).map(|n| vec![badge("session", n % 20), badge("lang", n % 2)]).collect(),
        unknown_statuses: 0,
        missing_statuses: 1,
        events: 4000,
        ..RouteFacts::default()
    };
    let limit = |limit| LimitFacts { limit, now: 300, max: 10_000, turned_away: 0 };
    Facts {
        window: Duration::from_secs(300),
        routes: vec![
            route.clone(),
            RouteFacts { kind: Kind::Subscribe, ..route.clone() },
            RouteFacts { kind: Kind::Forwarded, ..route },
        ],
        polls: PollFacts { concurrency: 64, waited: 3, ..PollFacts::default() },
        limits: [Limit::Connections, Limit::PerAddress, Limit::Topics, Limit::OpenFiles].map(limit).to_vec(),
        visitors: (0..200).map(|n| Visitor { address: [10, 0, 0, n].into(), names_others: false }).collect(),
        counts_addresses: true,
    }
}

#[test]
fn a_healthy_program_gets_no_advice() {
    assert_eq!(advise(&healthy()), []);
    assert_eq!(advise(&Facts::default()), [], "nor does one of which nothing is known yet");
}

// Who reads only the first lines reads what matters.
#[test]
fn warnings_come_first() {
    let mut facts = healthy();
    facts.routes[0].closed_slow = 200;
    facts.limits[2].now = 9_000;
    facts.routes[1].closed_stale = 300;

    let told: Vec<_> = advise(&facts).iter().map(|one| one.severity).collect();
    assert_eq!(told, [Severity::Warning, Severity::Advice, Severity::Advice]);
}

/// The names of all rules, out of the files they are written in.
fn names() -> BTreeSet<&'static str> {
    const FILES: [&str; 5] = [
        include_str!("app.rs"),
        include_str!("clients.rs"),
        include_str!("cuts.rs"),
        include_str!("limits.rs"),
        include_str!("sharing.rs"),
    ];
    let is_name = |word: &&str| word.contains('-') && word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    FILES
        .iter()
        .flat_map(|text| text.split("#[cfg(test)]").next().unwrap().split('"'))
        .filter(|word| is_name(word) && !word.starts_with('-'))
        .collect()
}

// A rule that nobody can look up is a riddle.
#[test]
fn the_readme_has_every_rule_and_no_other() {
    let readme = include_str!("../../README.md");
    let table = readme.lines().skip_while(|line| !line.starts_with("| rule |")).skip(2);
    let rows = table.take_while(|line| line.starts_with('|'));
    let documented: BTreeSet<_> = rows.filter_map(|row| row.split('`').nth(1)).collect();

    assert_eq!(names().len(), ROUTE_RULES.len() + RULES.len());
    assert_eq!(documented, names());
}

#[test]
fn times_are_said_as_flags_take_them() {
    let said = [0.25, 0.95, 1.0, 1.5, 9.97, 10.4, 60.2, 300.0].map(|s| Time(Duration::from_secs_f64(s)).to_string());
    assert_eq!(said, ["250ms", "950ms", "1s", "1.5s", "10s", "10s", "60s", "300s"]);
}
