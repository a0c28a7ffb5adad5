//! A topic as its readers have it: each one's place in it, and what it is told there.
//!
//! Here a reader comes, waits to be let in, is placed, and asks for the next thing until it leaves. Which thing that is,
//! is decided under the lock: see `inner`.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tokio::time::Instant;

use super::{End, Glimpse, Inner, Store, Topic};
use crate::{event::Frame, metrics::FrameKind, refusal::Refusal};

/// A reader's place in a topic.
#[derive(Debug, Default)]
pub struct Cursor {
    pub(super) seq: u64,
    /// The newest entry when this reader joined: up to here is its past, of which it gets what newcomers get, as a replay.
    /// Whatever comes after is news to it, even while it still waits to be let in.
    pub(super) joined_at: u64,
    /// The next greeting to deliver, and where greetings end for this reader; there are a hundred at most.
    pub(super) greeting: (u32, u32),
    /// The question to the app for whose answer this reader waits before it is let in.
    pub(super) awaits: u32,
    /// Where its waker stands.
    pub(crate) waiter: Waiter,
}

/// The place of a waker in a topic, if it has one, and the count of wakes that keeps it valid.
#[derive(Debug, Default)]
pub struct Waiter(pub(super) Option<(u64, usize)>);

/// What a reader gets next.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// A frame to send.
    Frame {
        /// The encoded event, shared by all readers.
        frame: Frame,
        /// What it is counted as.
        kind: FrameKind,
        /// When the app's answer was read.
        at: Instant,
    },
    /// The topic is over.
    End(End),
    /// The reader fell out of the replay window.
    Lagged,
}

/// Where a newcomer stands, once the app has spoken.
#[derive(Debug)]
pub enum Settled {
    /// Open the stream.
    Open,
    /// The app decided against it, and its words go to the client.
    Refused(Arc<Refusal>),
}

/// How a reader that came with a `Last-Event-ID` was placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumed {
    /// It has nothing of this topic; it gets what newcomers get.
    New,
    /// It goes on where it stopped.
    Here,
    /// It has the end already, and needs nothing more.
    Finished,
}

// === impl Topic ===

impl Topic {
    /// A number that grows with everything that readers get, and with nothing else.
    pub fn newest(&self) -> u64 {
        self.lock().last_seq
    }

    /// A reader that is there from now on; to be placed when it is let in.
    pub fn join(&self) -> Cursor {
        let inner = self.lock();
        Cursor { joined_at: inner.newest_seq(), awaits: inner.awaited, ..Cursor::default() }
    }

    /// A newcomer waits for the app's next word if others do: its source may just have found what is known too old.
    pub fn await_word(&self, cursor: &mut Cursor) {
        cursor.awaits = self.lock().awaited;
    }

    /// Ready when the app has spoken, or is known to be in trouble.
    pub fn poll_settled(&self, cx: &mut Context<'_>, cursor: &mut Cursor) -> Poll<Settled> {
        self.poll_let_in(cx, cursor, Inner::has_answered)
    }

    /// Ready when the app has spoken; that it is in trouble is no word.
    pub fn poll_spoken(&self, cx: &mut Context<'_>, cursor: &mut Cursor) -> Poll<Settled> {
        self.poll_let_in(cx, cursor, |inner, cursor| inner.has_answered(cursor) && inner.has_spoken())
    }

    fn poll_let_in(
        &self,
        cx: &mut Context<'_>,
        cursor: &mut Cursor,
        is_time: fn(&Inner, &Cursor) -> bool,
    ) -> Poll<Settled> {
        let mut inner = self.lock();
        if !is_time(&inner, cursor) {
            inner.wait(cx.waker().clone(), &mut cursor.waiter);
            return Poll::Pending;
        }
        Poll::Ready(match &inner.refusal {
            Some(refusal) => Settled::Refused(Arc::clone(refusal)),
            None => Settled::Open,
        })
    }

    /// Places a newcomer. An id that is not known here is no error: it is a newcomer like any other.
    pub fn place(&self, cursor: &mut Cursor, last_event_id: Option<&str>) -> Resumed {
        let inner = self.lock();
        let wanted = last_event_id.filter(|id| !id.is_empty());
        let known = wanted.and_then(|id| inner.kept.find(id));
        if known.is_none()
            && let (Some(id), Some(log)) = (wanted, inner.kept.log())
            && log.before_window.is(id)
        {
            cursor.seq = log.dropped_seq;
            return Resumed::Here;
        }
        if let Some(seen) = known {
            let is_last = inner.kept.newest().is_some_and(|last| last.seq == seen.seq);
            cursor.seq = seen.seq;
            let over = inner.end.as_ref().is_some_and(|end| end.1.finished);
            return if is_last && over { Resumed::Finished } else { Resumed::Here };
        }
        if let Store::Log { latest, .. } = self.store
            && let Some(log) = inner.kept.log()
        {
            if last_event_id.is_some_and(|id| !id.is_empty()) {
                self.metrics.route(self.key.route).replay_misses.inc();
            }
            let newest = cursor.joined_at;
            let greetings = log.greeting.partition_point(|entry| entry.seq <= newest);
            cursor.greeting = (0, u32::try_from(greetings).unwrap_or(u32::MAX));
            let greeted = log.greeting[..greetings].last().map_or(0, |entry| entry.seq);
            // One before the newest event, if that is wanted and is not a greeting already.
            cursor.seq = if latest && newest > greeted { newest - 1 } else { newest };
        }
        Resumed::New
    }

    /// The next thing for a reader, or its waker is kept until there is one.
    pub fn poll_next(&self, cx: &mut Context<'_>, cursor: &mut Cursor) -> Poll<Delivery> {
        let mut inner = self.lock();
        match inner.news(cursor) {
            Some(delivery) => Poll::Ready(delivery),
            None => {
                inner.wait(cx.waker().clone(), &mut cursor.waiter);
                Poll::Pending
            }
        }
    }

    /// The next thing for a reader, if there is one.
    pub fn try_next(&self, cursor: &mut Cursor) -> Option<Delivery> {
        self.lock().news(cursor)
    }

    /// The newest event, if it is all that readers who are nearly up to date can be told.
    pub fn glimpse(&self) -> Option<Glimpse> {
        Glimpse::of(self.addr(), &self.lock())
    }

    /// Keeps a waker for the next wake-up, on behalf of several readers that are woken together.
    pub fn listen(&self, waker: Waker, listener: &mut Waiter) {
        self.lock().wait(waker, listener);
    }

    /// A reader leaves: its waker goes.
    pub fn forget(&self, waiter: &mut Waiter) {
        self.lock().forget(waiter);
    }
}
