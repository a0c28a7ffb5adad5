//! Streams that somebody in front of us cuts: after the same silence, or at the same age.
//!
//! Both show only in what many ends have in common. A client that leaves does so at any moment; a timer does not. But
//! many streams also end in one moment when a proxy is restarted, and those of one topic have then been silent for
//! exactly as long. So ends that fall together count once, and a timer must have struck in several moments.

use std::time::Duration;

use super::{
    Recommendation, Severity, Time,
    facts::{End, RouteFacts},
};

/// Ends closer together than this, after about the same time, may have one cause.
const TOGETHER: Duration = Duration::from_millis(100);
/// Ends further apart than this have each a cause of their own.
const APART: Duration = Duration::from_secs(1);
/// A timer has struck in so many moments.
const MOMENTS_MIN: usize = 3;
/// And ended so many streams.
const ENDS_MIN: usize = 8;
/// And so large a share of all that clients ended.
const SHARE_MIN: f64 = 0.6;
/// Nobody's timer is shorter than a second: who ends a stream so soon after a byte does it because of what the byte said.
/// But nginx does not set a timer anew for a third of a second, so its timers are early by up to that.
const TIMER_MIN: Duration = Duration::from_millis(600);
/// A cut so soon after a byte is the answer to it.
const ANSWER_MAX: Duration = Duration::from_millis(250);

/// Ends after about the same time.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cluster {
    /// The shortest of these times.
    after: Duration,
    /// Ends in it.
    ends: usize,
    /// All ends that were looked at.
    of: usize,
}

/// Many streams were cut after the same silence.
pub(super) fn read_timeout(route: &RouteFacts) -> Option<Recommendation> {
    let silence = Cluster::of(&route.ends, |end| end.silence, TIMER_MIN)?;
    if ages_tell(route).is_some() {
        return None;
    }
    let Cluster { after, ends, of } = silence;
    // Half of it leaves room for a heartbeat that is late.
    let heartbeat = Time((after / 2).min(Duration::from_secs(15)));
    let lower = match route.has_own_heartbeat {
        true => format!("heartbeat={heartbeat} in the --route"),
        false => format!("--heartbeat-interval {heartbeat}"),
    };
    Some(Recommendation {
        rule: "read-timeout-in-front",
        severity: Severity::Warning,
        title: "Something in front cuts quiet streams",
        evidence: format!(
            "{ends} of {of} streams that clients ended were cut {} after the last byte, though heartbeats come every {}: \
             a proxy in front, or the clients, have such a read timeout.",
            Time(after),
            Time(route.heartbeat),
        ),
        change: format!("{lower}, or raise proxy_read_timeout (nginx), timeout server (HAProxy) or its like"),
        route: Some(route.route.clone()),
    })
}

/// Many streams lived exactly as long.
pub(super) fn lifetime_limit(route: &RouteFacts) -> Option<Recommendation> {
    let Cluster { after, ends, of } = ages_tell(route)?;
    let shorter = Time(after.mul_f64(0.8));
    // Streams that are passed through are the app's to end.
    let change = match route.max_age {
        Some(_) => {
            format!("--max-age {shorter}, so that streams end in good order before, or raise the limit in front")
        }
        None => "raise the limit on a request's whole time in front".to_owned(),
    };
    Some(Recommendation {
        rule: "lifetime-limit-in-front",
        severity: Severity::Advice,
        title: "Something in front limits how long a stream may live",
        evidence: format!(
            "{ends} of {of} streams that clients ended had lived for {}, whatever was sent to them: a proxy or a \
             platform in front, or the page, ends them at that age.",
            Time(after),
        ),
        change,
        route: Some(route.route.clone()),
    })
}

/// The age at which most streams end, if that is not just how long they were silent from their beginning.
fn ages_tell(route: &RouteFacts) -> Option<Cluster> {
    // What ends with the last event ends because of it: jobs that all take as long.
    let by_age = |end: &End| if end.silence < ANSWER_MAX { Duration::ZERO } else { end.lifetime };
    let ages = Cluster::of(&route.ends, by_age, TIMER_MIN)?;
    let silence = Cluster::of(&route.ends, |end| end.silence, ANSWER_MAX);
    silence.is_none_or(|silence| ages.after >= silence.after.mul_f64(1.5)).then_some(ages)
}

// === impl Cluster ===

impl Cluster {
    /// The time, `least` or longer, after which most of the streams ended, if there is one.
    fn of(ends: &[End], time: impl Fn(&End) -> Duration, least: Duration) -> Option<Self> {
        let mut votes = votes(ends, &time);
        votes.sort_by_key(&time);
        let (from, count) = densest(&votes, &time)?;
        let members = &votes[from..from + count];
        let after = time(&members[0]);
        let is_timer =
            after >= least && count as f64 >= SHARE_MIN * votes.len() as f64 && moments(members) >= MOMENTS_MIN;
        let within = after..=after + width(after);
        let ends_in_it = ends.iter().filter(|end| within.contains(&time(end))).count();
        (is_timer && ends_in_it >= ENDS_MIN).then_some(Self { after, ends: ends_in_it, of: ends.len() })
    }
}

/// How far apart times may be that come of one timer: its clock, ours, and what the machines are busy with.
fn width(time: Duration) -> Duration {
    time.mul_f64(0.05).max(Duration::from_millis(500))
}

/// The ends, of which those that fall together, after about the same time, count once.
fn votes(ends: &[End], time: impl Fn(&End) -> Duration) -> Vec<End> {
    let mut votes: Vec<End> = Vec::new();
    for end in ends {
        let is_same = |vote: &&End| time(vote).abs_diff(time(end)) <= width(time(end));
        let close = votes.iter().rev().take_while(|vote| end.at.duration_since(vote.at) < TOGETHER);
        if close.into_iter().find(is_same).is_none() {
            votes.push(*end);
        }
    }
    votes
}

/// Where the most of these, sorted by `time`, lie within the width of one timer: the first, and how many.
fn densest(sorted: &[End], time: impl Fn(&End) -> Duration) -> Option<(usize, usize)> {
    let mut until = 0;
    let windows = sorted.iter().enumerate().map(|(from, first)| {
        let last = time(first) + width(time(first));
        while sorted.get(until).is_some_and(|end| time(end) <= last) {
            until += 1;
        }
        (from, until - from)
    });
    // Of windows with as many, the first.
    windows.reduce(|best, next| if next.1 > best.1 { next } else { best })
}

/// In how many moments, each apart from the one before, these fell.
fn moments(ends: &[End]) -> usize {
    let mut at: Vec<_> = ends.iter().map(|end| end.at).collect();
    at.sort();
    let mut last = None;
    let is_new = |at: &&tokio::time::Instant| {
        let is_new = last.is_none_or(|last| at.duration_since(last) >= APART);
        if is_new {
            last = Some(**at);
        }
        is_new
    };
    at.iter().filter(is_new).count()
}

#[cfg(test)]
mod tests;
