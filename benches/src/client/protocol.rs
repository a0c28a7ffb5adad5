//! What the conductor and its client workers say to each other: lines of JSON on stdin and stdout.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// To a worker. It answers each with one [`Reply`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Open streams; answered when each has had its first event.
    Connect(Connect),
    /// Answered when every client has had the event with this number.
    Await { seq: u64, timeout_ms: u64 },
    /// What has been seen so far.
    Tell,
    /// Begin the histogram of all deliveries and the count of heartbeats anew.
    Reset,
    /// Leave at once, without a good-bye.
    Close,
}

/// Which streams to open.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Connect {
    pub(crate) addr: SocketAddr,
    /// `{}` in it becomes the number of the topic.
    pub(crate) path: String,
    /// The topic of the first stream.
    pub(crate) first_topic: u32,
    /// Whether each stream has the next topic, or all the first one.
    pub(crate) is_topic_each: bool,
    pub(crate) count: usize,
    /// Streams in the making at once.
    pub(crate) window: usize,
    /// Where they come from, in turn.
    pub(crate) sources: Vec<Ipv4Addr>,
    pub(crate) timeout_ms: u64,
}

/// From a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// All streams stand; microseconds from connect to first event.
    Connected { to_first_event: Values },
    /// All have it; microseconds from the stamp to the read.
    Received { latency: Values },
    /// The answer to [`Order::Tell`].
    Told(Tally),
    /// Done.
    Done,
    /// It can't be done, or has taken too long.
    Failed(String),
}

/// The content of a histogram: values in microseconds, with their counts.
pub(crate) type Values = Vec<(u64, u64)>;

/// What a worker's clients have seen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Streams that stand now.
    pub(crate) streams: u64,
    /// Events after the first one of each stream.
    pub(crate) events: u64,
    pub(crate) beats: u64,
    /// Numbers that were passed over.
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    /// Numbers that came after a greater one.
    pub(crate) reordered: u64,
    /// Events that nobody sent.
    pub(crate) odd: u64,
    /// Streams that the server ended, or that made no sense.
    pub(crate) ended: u64,
    /// Of all events since the last [`Order::Reset`].
    pub(crate) latency: Values,
}
