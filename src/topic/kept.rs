//! What a topic keeps of what was published: of state the newest, of a log a window and the greeting.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::{BURST, BURST_FACTOR, Delivery, REPLAY_BYTES_MAX, REPLAY_EVENTS_MAX, Store};
use crate::{event::Frame, metrics::FrameKind};

/// What is kept. Topics of state are many, so theirs is one entry in place, without a list around it.
#[derive(Debug)]
pub(super) enum Kept {
    /// A reader that was away gets the latest.
    State(Option<Entry>),
    /// A reader that was away goes on where it stopped.
    Log(Box<Log>),
}

/// The recent events of a log.
#[derive(Debug, Default)]
pub(super) struct Log {
    window: VecDeque<Entry>,
    window_bytes: usize,
    /// The number of the last entry that fell out of the window.
    pub(super) dropped_seq: u64,
    /// The id that stands right before the window: of the last entry that fell out of it, or the one behind which the app
    /// was asked to begin. Whoever comes back with it has missed nothing that is not there.
    pub(super) before_window: Id,
    pub(super) greeting: Vec<Entry>,
    /// How many events of the source's stream were there to be in it.
    offered: usize,
}

/// Something published, with its place in the order.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) seq: u64,
    pub(super) id: Id,
    pub(super) frame: Frame,
    pub(super) at: Instant,
}

/// What a client comes back with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Id {
    /// It can't.
    #[default]
    None,
    /// The digits of a hash, as polled snapshots have: half as long, and in place.
    Hash([u8; 16]),
    /// Any other.
    Text(Box<str>),
}

// === impl Id ===

impl Id {
    pub(super) fn new(id: &str) -> Self {
        hash(id).map_or_else(|| Self::Text(id.into()), Self::Hash)
    }

    pub(super) fn is(&self, id: &str) -> bool {
        match self {
            Self::None => false,
            Self::Hash(kept) => hash(id).is_some_and(|asked| asked == *kept),
            Self::Text(kept) => **kept == *id,
        }
    }
}

/// The hash whose 32 lower-case digits `id` is.
fn hash(id: &str) -> Option<[u8; 16]> {
    let (pairs, rest) = id.as_bytes().as_chunks::<2>();
    if pairs.len() != 16 || !rest.is_empty() {
        return None;
    }
    let mut hash = [0; 16];
    for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
        *byte = (digit(*high)? << 4) | digit(*low)?;
    }
    Some(hash)
}

fn digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

// === impl Kept ===

impl Kept {
    pub(super) fn new(store: Store) -> Self {
        match store {
            Store::State => Self::State(None),
            Store::Log { .. } => Self::Log(Box::default()),
        }
    }

    pub(super) fn newest(&self) -> Option<&Entry> {
        match self {
            Self::State(latest) => latest.as_ref(),
            Self::Log(log) => log.window.back(),
        }
    }

    pub(super) fn newest_mut(&mut self) -> Option<&mut Entry> {
        match self {
            Self::State(latest) => latest.as_mut(),
            Self::Log(log) => log.window.back_mut(),
        }
    }

    /// The first place behind which the newest entry is the next.
    pub(super) fn before_newest(&self) -> u64 {
        match self {
            Self::State(_) => 0,
            Self::Log(log) => log.window.iter().rev().nth(1).map_or(log.dropped_seq, |entry| entry.seq),
        }
    }

    /// The first entry after the place `seq`.
    pub(super) fn after(&self, seq: u64) -> Option<&Entry> {
        match self {
            Self::State(latest) => latest.as_ref().filter(|entry| entry.seq > seq),
            Self::Log(log) => log.window.get(log.window.partition_point(|entry| entry.seq <= seq)),
        }
    }

    /// The last entry with this id.
    pub(super) fn find(&self, id: &str) -> Option<&Entry> {
        let is_it = |entry: &&Entry| entry.id.is(id);
        match self {
            Self::State(latest) => latest.as_ref().filter(is_it),
            // Several events may carry one id, when the app names only some: the reader has seen the last of them.
            Self::Log(log) => log.window.iter().rev().find(is_it),
        }
    }

    /// Keeps nothing but this.
    pub(super) fn replace(&mut self, entry: Entry) {
        match self {
            Self::State(latest) => *latest = Some(entry),
            Self::Log(log) => {
                log.window.clear();
                log.window_bytes = 0;
                log.push(entry);
            }
        }
    }

    /// Keeps this too, as far as more than one is kept; `greeting` first events of the app's stream are for newcomers. False
    /// when the event belongs to the greeting and has no room in it.
    pub(super) fn push(&mut self, entry: Entry, greeting: usize) -> bool {
        match self {
            Self::State(latest) => {
                *latest = Some(entry);
                true
            }
            Self::Log(log) => {
                let fits = log.greet(&entry, greeting);
                log.push(entry);
                fits
            }
        }
    }

    pub(super) fn log(&self) -> Option<&Log> {
        match self {
            Self::State(_) => None,
            Self::Log(log) => Some(log),
        }
    }

    pub(super) fn log_mut(&mut self) -> Option<&mut Log> {
        match self {
            Self::State(_) => None,
            Self::Log(log) => Some(log),
        }
    }
}

// === impl Log ===

impl Log {
    /// A new stream of the app: its first events are to be the greeting, and until one has come the old ones are.
    pub(super) fn begin_greeting(&mut self) {
        self.offered = 0;
    }

    fn greet(&mut self, entry: &Entry, greeting: usize) -> bool {
        // The first ones, whether they fit or not: one that comes hours later greets nobody.
        if self.offered >= greeting {
            return true;
        }
        if self.offered == 0 {
            self.greeting.clear();
        }
        self.offered += 1;
        // The greeting is bounded in bytes like the window, or a few huge first events would stay for ever.
        let bytes: usize = self.greeting.iter().map(|entry| entry.frame.len()).sum();
        let fits = bytes + entry.frame.len() <= REPLAY_BYTES_MAX;
        if fits {
            self.greeting.push(entry.clone());
        }
        fits
    }

    fn push(&mut self, entry: Entry) {
        let at = entry.at;
        self.window_bytes += entry.frame.len();
        self.window.push_back(entry);
        self.trim(at);
    }

    /// Keeps the window within its bounds, or those of a burst, but always the newest event.
    pub(super) fn trim(&mut self, now: Instant) {
        while self.window.len() > 1 && self.is_over(1) {
            let is_recent = self.window.front().is_some_and(|oldest| now.saturating_duration_since(oldest.at) < BURST);
            if is_recent && !self.is_over(BURST_FACTOR) {
                return;
            }
            let Some(oldest) = self.window.pop_front() else { return };
            self.window_bytes -= oldest.frame.len();
            self.dropped_seq = oldest.seq;
            self.before_window = oldest.id;
        }
        // A burst leaves no room behind that stays empty.
        if self.window.capacity() > 2 * REPLAY_EVENTS_MAX {
            self.window.shrink_to(REPLAY_EVENTS_MAX);
        }
    }

    /// Whether a burst is kept beyond the bounds.
    pub(super) fn is_crowded(&self) -> bool {
        self.window.len() > 1 && self.is_over(1)
    }

    /// Whether there is more than so many times what the window is to hold.
    fn is_over(&self, factor: usize) -> bool {
        self.window.len() > REPLAY_EVENTS_MAX * factor || self.window_bytes > REPLAY_BYTES_MAX * factor
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.window.len()
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.window_bytes
    }
}

// === impl Entry ===

impl Entry {
    pub(super) fn delivery(&self, kind: FrameKind) -> Delivery {
        Delivery::Frame { frame: self.frame.clone(), kind, at: self.at }
    }
}
