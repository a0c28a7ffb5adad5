//! Routes: which requests become streams, and where their events come from.

use std::sync::Arc;
use std::time::Duration;

use crate::status::StatusRule;
use crate::template::Template;

mod param;
mod pattern;
mod spec;
mod target;

pub use self::param::{Params, PieceError};
pub use self::pattern::{PathPattern, PatternError};
pub use self::spec::{RouteDefaults, SpecError, split_specs};
pub use self::target::{FillError, Target, TargetError};

/// A path of the public side with a source behind it.
#[derive(Clone, Debug)]
pub struct Route {
    /// The requests that are meant.
    pub path: PathPattern,
    /// What produces the events.
    pub source: SourceSpec,
    /// Who may share a topic.
    pub share: Share,
    /// How clients learn that the app is in trouble.
    pub errors: ErrorStyle,
    /// The silence after which a heartbeat is sent; never zero.
    pub heartbeat: Duration,
    /// How long a topic outlives its last subscriber; zero ends it at once.
    pub linger: Duration,
    /// The `retry:` hint before its jitter; never zero.
    pub retry: Duration,
    /// The age at which a stream is ended and opened anew by its client; `None` when it may live for ever.
    pub max_age: Option<Duration>,
}

/// What produces the events of a route's topics.
#[derive(Clone, Debug)]
pub enum SourceSpec {
    /// A status endpoint that answers JSON.
    Poll(PollSpec),
    /// An event stream of the app.
    Subscribe(SubscribeSpec),
}

/// How a job's status is polled.
#[derive(Clone, Debug)]
pub struct PollSpec {
    /// What is asked for; names exactly the parameters of the route's path.
    pub target: Target,
    /// How the end of the job is found in an answer.
    pub status: StatusRule,
    /// The shape that clients get; `None` is the answer itself.
    pub template: Option<Arc<Template>>,
    /// The pace while the status changes; never zero.
    pub interval: Duration,
    /// The pace that it slows down to; never shorter than `interval`.
    pub max_interval: Duration,
    /// The bound of one request; never zero.
    pub timeout: Duration,
}

/// How an event stream of the app is subscribed to.
#[derive(Clone, Debug)]
pub struct SubscribeSpec {
    /// What is asked for; `None` is the client's own path and query.
    pub target: Option<Target>,
    /// How the end of the job is found in an event.
    pub status: StatusRule,
    /// What a newcomer is given of the past.
    pub replay: Replay,
    /// How many of the upstream stream's first events every newcomer is given; at most 100.
    pub greeting: usize,
    /// How long the app may take to begin its stream; `None` is as long as it likes, since many an app sends its head with
    /// its first event. Never zero.
    pub begins_within: Option<Duration>,
    /// The bound of other requests, an admission say; never zero.
    pub timeout: Duration,
}

/// Who may share a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Only clients with the same credentials.
    Credentials,
    /// All whom the app admits, each asked for with their own credentials.
    Authorized,
    /// Everybody; no credentials are forwarded.
    Public,
}

/// How clients learn that the app is in trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorStyle {
    /// By an `upstream-error` event.
    Event,
    /// By an unnamed message `{"type":"error",…}`.
    Data,
    /// Not at all.
    Off,
}

/// What a newcomer is given of the past of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// The events after its `Last-Event-ID`.
    Missed,
    /// The last event.
    Latest,
}

// === impl Route ===

impl Route {
    /// Whether a request that names no preference (`Accept: */*`, or none) is meant for the stream: not where the path
    /// is itself the poll target, for there it may be meant for the app's JSON.
    pub fn takes_any_accept(&self) -> bool {
        match &self.source {
            SourceSpec::Poll(poll) => !poll.target.is_same_path(&self.path),
            SourceSpec::Subscribe(_) => true,
        }
    }
}
