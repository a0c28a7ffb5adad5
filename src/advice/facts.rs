//! What the rules go by: plain figures, gathered in one place, so that each rule is a pure function.

use std::{net::IpAddr, time::Duration};

pub use super::traces::{Badge, End, Returns, Visitor};
use crate::stats::latency::Latency;

/// Everything there is to go by. Figures that only grow are those of the last `window`.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The time in which was counted what is counted here.
    pub window: Duration,
    /// The routes, and streams without one.
    pub routes: Vec<RouteFacts>,
    /// The polls of all routes.
    pub polls: PollFacts,
    /// The limits.
    pub limits: Vec<LimitFacts>,
    /// Who asked for the last streams.
    pub visitors: Vec<Visitor>,
    /// `--max-connections-per-ip` is on.
    pub counts_addresses: bool,
}

/// One route.
#[derive(Clone, Debug, Default)]
pub struct RouteFacts {
    /// Its pattern.
    pub route: String,
    /// How its events come about.
    pub kind: Kind,
    /// Its topics are a user's own.
    pub is_per_user: bool,
    /// The silence after which a heartbeat is sent.
    pub heartbeat: Duration,
    /// That is said by the route's own key, and not by the flag.
    pub has_own_heartbeat: bool,
    /// The age at which streams are ended.
    pub max_age: Option<Duration>,
    /// The last streams that their clients ended, or somebody between.
    pub ends: Vec<End>,
    /// Streams that ended, for whatever reason.
    pub closed: u64,
    /// Of these: the job came to its end.
    pub closed_done: u64,
    /// Of these: nothing was acknowledged any more.
    pub closed_stale: u64,
    /// Of these: they fell out of the window.
    pub closed_slow: u64,
    /// Clients that came back after they had seen the end.
    pub came_after_end: u64,
    /// Clients that came back within the linger.
    pub returns: Returns,
    /// The credentials of the last requests.
    pub badges: Vec<Vec<Badge>>,
    /// Answers with a status that is no known word.
    pub unknown_statuses: u64,
    /// Where the last of those stood, and what it was.
    pub unknown_status: Option<(String, String)>,
    /// Answers without a status.
    pub missing_statuses: u64,
    /// Events that the source published.
    pub events: u64,
}

/// How a route's events come about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Polls, at this pace while the status changes.
    Poll {
        /// The pace.
        interval: Duration,
    },
    /// A stream of the app.
    #[default]
    Subscribe,
    /// No route: the app's stream is passed through.
    Forwarded,
}

/// The polls of all routes.
#[derive(Clone, Debug, Default)]
pub struct PollFacts {
    /// How long they took that the app answered, or left waiting.
    pub latency: Latency,
    /// How many were made, whatever became of them.
    pub made: u64,
    /// How many had to wait for their turn.
    pub waited: u64,
    /// `--poll-concurrency`.
    pub concurrency: usize,
    /// Topics, of all routes.
    pub topics: usize,
}

/// Something that there may be only so many of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitFacts {
    /// Which.
    pub limit: Limit,
    /// What is used of it.
    pub now: usize,
    /// How many there may be.
    pub max: usize,
    /// Clients that were turned away because of it.
    pub turned_away: u64,
}

/// Which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `--max-connections`.
    Connections,
    /// `--max-connections-per-ip`; how many an address has is not known here.
    PerAddress,
    /// `--max-topics`.
    Topics,
    /// What the process may open.
    OpenFiles,
}

// === impl Facts ===

impl Facts {
    /// The address that most of the last visitors came from: it, how many came from it, and how many of those named
    /// others.
    pub(super) fn most_seen(&self) -> Option<(IpAddr, usize, usize)> {
        let count = |address| self.visitors.iter().filter(|visitor| visitor.address == address).count();
        let most = self.visitors.iter().map(|visitor| visitor.address).max_by_key(|address| count(*address))?;
        let of_it = self.visitors.iter().filter(|visitor| visitor.address == most);
        Some((most, count(most), of_it.filter(|visitor| visitor.names_others).count()))
    }
}
