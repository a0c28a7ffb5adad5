//! Recommendations: what a senior operator would say on seeing the figures, with the figures, and what to change.
//!
//! Each rule is a pure function from [`Facts`] to a sentence or nothing, and lives with those it resembles. A rule says
//! nothing on healthy data: advice that is wrong once is not read again. So each wants a number of cases, a large share of
//! them, and, where one cause can end many streams in one moment, several moments.
//!
//! What can't be seen from here is not guessed. A proxy that buffers acknowledges everything at once and hands it on
//! whenever it likes; to us that client is the best of all. Nor does its user's second try look different from a page
//! that is loaded again. The README says how to find that out from outside.

use std::fmt;

use serde_json::{Value, json};

mod app;
mod clients;
mod cuts;
pub mod facts;
pub mod gather;
mod limits;
mod sharing;
pub mod traces;

use self::facts::{Facts, RouteFacts};

/// Something to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recommendation {
    /// The rule's name.
    pub rule: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong, in some words.
    pub title: &'static str,
    /// What was seen, in one sentence with figures.
    pub evidence: String,
    /// The flag or line to change.
    pub change: String,
    /// The route, if it concerns one.
    pub route: Option<String>,
}

/// How much it matters; what matters more comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Users feel it, or soon will.
    Warning,
    /// It could be better.
    Advice,
}

/// A rule about one route.
type RouteRule = fn(&RouteFacts) -> Option<Recommendation>;
/// A rule about everything.
type Rule = fn(&Facts) -> Option<Recommendation>;

const ROUTE_RULES: &[RouteRule] = &[
    cuts::read_timeout,
    cuts::lifetime_limit,
    clients::vanishing,
    clients::slow,
    clients::end_ignored,
    sharing::nothing_shared,
    app::unknown_status,
    app::missing_status,
];

const RULES: &[Rule] = &[
    sharing::proxy_not_trusted,
    app::slower_than_polls,
    app::polls_wait,
    limits::connections,
    limits::per_address,
    limits::topics,
    limits::open_files,
];

/// Everything that is to be said, what matters most first.
pub fn advise(facts: &Facts) -> Vec<Recommendation> {
    let of_routes = facts.routes.iter().flat_map(|route| ROUTE_RULES.iter().filter_map(|rule| rule(route)));
    let mut all: Vec<_> = RULES.iter().filter_map(|rule| rule(facts)).chain(of_routes).collect();
    all.sort_by_key(|one| one.severity);
    all
}

// === impl Recommendation ===

impl Recommendation {
    /// As it stands in the document.
    pub fn json(&self) -> Value {
        let Self { rule, severity, title, evidence, change, route } = self;
        json!({
            "rule": rule,
            "severity": severity.as_str(),
            "title": title,
            "evidence": evidence,
            "change": change,
            "route": route,
        })
    }
}

// === impl Severity ===

impl Severity {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Advice => "advice",
        }
    }
}

/// So many of so many are at least such a share, and not by chance of a few.
fn is_share(count: u64, of: u64, share: f64, at_least: u64) -> bool {
    count >= at_least && count as f64 >= share * of as f64
}

/// A time as people say it, and as a flag takes it: `950ms`, `1.5s`, `60s`.
struct Time(std::time::Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        if seconds < 1.0 {
            write!(f, "{}ms", self.0.as_millis())
        } else if seconds < 10.0 && (seconds - seconds.round()).abs() >= 0.05 {
            write!(f, "{seconds:.1}s")
        } else {
            write!(f, "{seconds:.0}s")
        }
    }
}

#[cfg(test)]
mod tests;
