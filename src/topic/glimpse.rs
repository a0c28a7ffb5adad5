//! What a topic has for readers that are up to date but for its newest event: read once, for a walk over many of them.
//!
//! Thousands of readers on several cores would else take the topic's lock three times each per event, to be told the same.
//! Whoever stands elsewhere, or a topic with more to tell than events, goes the usual way: [`Topic::try_next`].

use tokio::time::Instant;

use super::{Cursor, Topic, inner::Inner, kept::Entry};
use crate::{event::Frame, metrics::FrameKind};

/// A topic's newest event, of which it is known that nothing else is to be told behind it.
#[derive(Clone, Debug)]
pub struct Glimpse {
    /// The event.
    pub frame: Frame,
    /// When the app's answer was read.
    pub at: Instant,
    /// Whose it is.
    topic: usize,
    seq: u64,
    /// The first place of a reader from which this event is the next one.
    from: u64,
}

/// What a glimpse says to one reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glance {
    /// It has everything.
    Nothing,
    /// The event is next, counted as this kind, and the last for now. It counts as delivered to the reader.
    Next(FrameKind),
    /// The topic must be asked.
    Ask,
}

// === impl Glimpse ===

impl Glimpse {
    /// `None` when there is more to tell, or nothing.
    pub(super) fn of(topic: usize, inner: &Inner) -> Option<Self> {
        if inner.refusal.is_some() || inner.notice.is_some() || inner.end.is_some() {
            return None;
        }
        let Entry { seq, frame, at, .. } = inner.kept.newest()?;
        Some(Self { frame: frame.clone(), at: *at, topic, seq: *seq, from: inner.kept.before_newest() })
    }

    /// Whether it is of this topic.
    pub fn is_of(&self, topic: &Topic) -> bool {
        self.topic == topic.addr()
    }

    /// What is next for a reader of this topic, as of the moment of the glimpse.
    pub fn show(&self, cursor: &mut Cursor) -> Glance {
        let (next, end) = cursor.greeting;
        if next < end || cursor.seq < self.from {
            return Glance::Ask;
        }
        if cursor.seq >= self.seq {
            return Glance::Nothing;
        }
        cursor.seq = self.seq;
        Glance::Next(if self.seq <= cursor.joined_at { FrameKind::Replay } else { FrameKind::Event })
    }
}
