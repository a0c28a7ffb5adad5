//! One stream in a shard: a quarter of a KiB.
//!
//! Here is what it is served and in which order. How that reaches the kernel is in `write`, what is known of its peer in
//! `peer`, and how it ends in `end`.

use std::{num::NonZeroU32, time::Duration};

use bytes::Bytes;
use mio::net::TcpStream;
use tokio::time::Instant;

mod end;
mod peer;
mod write;

use super::account::Account;
use crate::{
    connections::Permit,
    event::Frame,
    metrics::{CloseReason, FrameKind},
    pulse::Pulse,
    stream::body,
    subscription::Subscription,
    topic::{Delivery, End, Glance, Glimpse},
};

/// So many frames leave in one `writev` at most, and so many bytes; what the kernel does not take of them waits here.
const BATCH_FRAMES: usize = 16;
const BATCH_BYTES: usize = 64 * 1024;

/// One stream.
#[derive(Debug)]
pub(super) struct Entry {
    socket: TcpStream,
    subscription: Subscription,
    permit: Permit,
    /// What the kernel has not taken yet.
    unsent: Bytes,
    /// Its group, and its index among the members.
    pub(super) group: u32,
    pub(super) place: u32,
    /// The `retry:` hint, in milliseconds, until it has gone out in front of the first event.
    retry: Option<NonZeroU32>,
    /// When it ends by plan, and why.
    pub(super) ends_at: Option<(Instant, CloseReason)>,
    /// Whether its peer still acknowledges.
    pulse: Pulse,
    chunked: bool,
    /// The last event has gone; it only waits for its end.
    closing: bool,
}

/// What became of a stream that was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// It waits for something new.
    Idle,
    /// It waits for its peer.
    Blocked,
    /// It is over; take it out.
    Over,
}

impl Entry {
    pub(super) fn new(
        socket: TcpStream,
        head: Vec<u8>,
        chunked: bool,
        subscription: Subscription,
        permit: Permit,
        retry: u32,
    ) -> Self {
        Self {
            socket,
            subscription,
            permit,
            unsent: head.into(),
            group: 0,
            place: 0,
            retry: NonZeroU32::new(retry),
            ends_at: None,
            pulse: Pulse::default(),
            chunked,
            closing: false,
        }
    }
}

/// What is next for a stream.
enum Next {
    Send(Bytes),
    Nothing,
    Over,
}

// === impl Entry ===

impl Entry {
    /// Its socket, to be registered.
    pub(super) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Its place among the open streams.
    pub(super) fn permit(&self) -> &Permit {
        &self.permit
    }

    /// Whether its last event has gone.
    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    /// Says why it ends.
    pub(super) fn close(&mut self, reason: CloseReason) {
        self.permit.close(reason);
    }

    /// Sends all there is, as far as the peer takes it.
    pub(super) fn serve(&mut self, account: &impl Account, now: Instant) -> Served {
        loop {
            match self.flush(now) {
                Served::Idle => {}
                other => return other,
            }
            let first = match self.next(account, now) {
                Next::Send(bytes) => bytes,
                Next::Nothing => return Served::Idle,
                Next::Over => return Served::Over,
            };
            if self.gather(first, account, now) == Served::Over {
                return Served::Over;
            }
        }
    }

    /// The same for a stream of which a glimpse at its topic says all, as it does for nearly every one in a walk: one call to
    /// the kernel with shared bytes, and nothing that other shards write.
    pub(super) fn serve_glimpse(&mut self, glimpse: &Glimpse, account: &impl Account, now: Instant) -> Served {
        if !self.unsent.is_empty() || self.closing || self.retry.is_some() {
            return self.serve(account, now);
        }
        match self.subscription.glance(glimpse) {
            Glance::Nothing => Served::Idle,
            Glance::Ask => self.serve(account, now),
            Glance::Next(kind) => {
                account.sent(kind, glimpse.frame.len());
                if kind == FrameKind::Event {
                    account.delivered(glimpse.at);
                }
                self.send_shared(&glimpse.frame, now)
            }
        }
    }

    /// The head and what there is, in one call to the kernel as far as possible; a heartbeat if there is nothing yet, since
    /// proxies hold back a head that nothing follows.
    pub(super) fn serve_first(&mut self, heartbeat: &Frame, account: &impl Account, now: Instant) -> Served {
        let first = match self.next(account, now) {
            Next::Send(bytes) => bytes,
            Next::Nothing => {
                account.sent(FrameKind::Heartbeat, heartbeat.len());
                self.framed(heartbeat)
            }
            Next::Over => {
                let _ = self.flush(now);
                return Served::Over;
            }
        };
        let head = std::mem::take(&mut self.unsent);
        match self.send_all(&[head, first], now) {
            Served::Over => Served::Over,
            _ => self.serve(account, now),
        }
    }

    /// Whether the kernel has everything, so that one more thing may follow.
    pub(super) fn has_sent_all(&self) -> bool {
        self.unsent.is_empty()
    }

    /// A heartbeat, unless something else is on its way: then the silence is over anyway.
    pub(super) fn heartbeat(&mut self, heartbeat: &Frame, account: &impl Account, now: Instant) -> Served {
        if !self.unsent.is_empty() || self.closing {
            return Served::Idle;
        }
        account.sent(FrameKind::Heartbeat, heartbeat.len());
        self.send_shared(heartbeat, now)
    }

    /// Several frames in one call to the kernel, when several are waiting.
    fn gather(&mut self, first: Bytes, account: &impl Account, now: Instant) -> Served {
        let second = match self.next(account, now) {
            Next::Send(bytes) => bytes,
            Next::Nothing => {
                self.unsent = first;
                return Served::Idle;
            }
            Next::Over => {
                self.unsent = first;
                let _ = self.flush(now);
                return Served::Over;
            }
        };
        let mut total = first.len() + second.len();
        let mut batch = vec![first, second];
        let mut outcome = Served::Idle;
        while batch.len() < BATCH_FRAMES && total < BATCH_BYTES {
            match self.next(account, now) {
                Next::Send(bytes) => {
                    total += bytes.len();
                    batch.push(bytes);
                }
                Next::Nothing => break,
                Next::Over => {
                    outcome = Served::Over;
                    break;
                }
            }
        }
        match self.send_all(&batch, now) {
            Served::Over => Served::Over,
            _ => outcome,
        }
    }

    fn next(&mut self, account: &impl Account, now: Instant) -> Next {
        if self.closing {
            return Next::Nothing;
        }
        match self.subscription.try_next() {
            None => Next::Nothing,
            Some(Delivery::Frame { frame, kind, at }) => {
                let frame = match self.retry.take() {
                    Some(retry) => frame.with_retry(Duration::from_millis(u64::from(retry.get()))),
                    None => frame,
                };
                account.sent(kind, frame.len());
                if kind == FrameKind::Event {
                    account.delivered(at);
                }
                Next::Send(self.framed(&frame))
            }
            Some(Delivery::Lagged) => {
                self.close(CloseReason::Slow);
                Next::Over
            }
            Some(Delivery::End(End { frame, reason, .. })) => {
                self.close(reason);
                let Some(last) = body::last_block(frame, reason) else { return Next::Over };
                account.sent(FrameKind::Control, last.len());
                self.closing = true;
                self.ends_at = Some((now + body::CLOSING, reason));
                Next::Send(self.framed(&last))
            }
        }
    }

    fn framed(&self, frame: &Frame) -> Bytes {
        if self.chunked { frame.chunk() } else { frame.block() }
    }

    fn age(&self, now: Instant) -> Duration {
        now.duration_since(self.permit.opened())
    }
}
