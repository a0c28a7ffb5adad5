//! One stream in a shard: a quarter of a KiB.

use std::{
    io::{self, IoSlice, Read, Write},
    net::Shutdown,
    num::NonZeroU32,
    os::fd::AsFd,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use mio::net::TcpStream;
use tokio::time::Instant;

use crate::{
    connections::{Permit, StreamView},
    event::Frame,
    metrics::{CloseReason, FrameKind, RouteId},
    pulse::{Pulse, Signs},
    stream::body,
    subscription::Subscription,
    survey::Surveyed,
    tcp,
    topic::{Delivery, End, Glance, Glimpse},
};

use super::account::Account;

/// So many frames leave in one `writev` at most, and so many bytes; what the kernel does not take of them waits here.
const BATCH_FRAMES: usize = 16;
const BATCH_BYTES: usize = 64 * 1024;
/// The last chunk of a chunked body.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

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

    /// Whether the peer's kernel takes nothing more.
    pub(super) fn is_blocked(&self) -> bool {
        self.pulse.is_blocked()
    }

    /// Asks the kernel about the peer, unless it is known that nothing has waited for it for as long as `grace`.
    pub(super) fn look(&mut self, now: Instant, grace: Duration) -> Signs {
        let age = self.age(now);
        if !self.pulse.wants_look(age, grace) {
            return Signs::default();
        }
        self.pulse.look(tcp::info(self.socket.as_fd()), age)
    }

    /// The same without grace, and leaves no trace.
    fn look_again(&self, now: Instant) -> Signs {
        let age = self.age(now);
        if !self.pulse.wants_look(age, Duration::ZERO) {
            return Signs::default();
        }
        let mut pulse = self.pulse;
        pulse.look(tcp::info(self.socket.as_fd()), age)
    }

    /// Counts it as stale, or no more.
    pub(super) fn mark_stale(&mut self, is_stale: bool) {
        self.permit.mark_stale(is_stale);
    }

    /// Its peer takes nothing since now.
    #[cfg(test)]
    pub(super) fn block(&mut self, now: Instant) {
        self.pulse.blocked(self.age(now));
    }

    /// Whether something may wait for its peer.
    #[cfg(test)]
    pub(super) fn wants_look(&self) -> bool {
        self.pulse.wants_look(Duration::ZERO, Duration::ZERO)
    }

    fn age(&self, now: Instant) -> Duration {
        now.duration_since(self.permit.opened())
    }

    /// A heartbeat, unless something else is on its way: then the silence is over anyway.
    pub(super) fn heartbeat(&mut self, heartbeat: &Frame, account: &impl Account, now: Instant) -> Served {
        if !self.unsent.is_empty() || self.closing {
            return Served::Idle;
        }
        account.sent(FrameKind::Heartbeat, heartbeat.len());
        self.send_shared(heartbeat, now)
    }

    /// The peer has said something. Streams hear nothing, but for the end.
    pub(super) fn heard(&mut self) -> Served {
        drain(&mut self.socket)
    }

    /// The client has gone. Bytes that were still on their way to it were written to a closed stream. Or the kernel gave
    /// up on it, before the sweep did.
    pub(super) fn left(&mut self) {
        if let Ok(Some(error)) = self.socket.take_error()
            && tcp::is_given_up(&error)
        {
            return self.permit.close(CloseReason::Stale);
        }
        if !self.unsent.is_empty() {
            self.permit.wrote_to_closed();
        }
    }

    /// The end in good order: the last chunk, if the peer still takes bytes, and a close that loses nothing.
    pub(super) fn finish(self, hint: Option<&Frame>) {
        let mut farewell = BytesMut::new();
        farewell.extend_from_slice(&hint.map(|hint| self.framed(hint)).unwrap_or_default());
        if self.chunked {
            farewell.extend_from_slice(LAST_CHUNK);
        }
        let Self { mut socket, subscription, permit, unsent, .. } = self;
        // The books are closed first: whoever sees the end of the stream sees them closed.
        drop(subscription);
        drop(permit);
        if unsent.is_empty() {
            // Nobody can be told of a failure any more.
            let _ = socket.write(&farewell);
        }
        let _ = socket.shutdown(Shutdown::Write);
        // Bytes that nobody read would turn the close into a reset, which may overtake the last event.
        let _ = drain(&mut socket);
    }

    /// The end without order: what is unsent is of no use to a peer that takes nothing, and the kernel need not keep it.
    pub(super) fn cut(self) {
        let _ = socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
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

    /// Several pieces in one call to the kernel. What it does not take is kept as unsent, so nothing may be unsent before.
    fn send_all(&mut self, batch: &[Bytes], now: Instant) -> Served {
        let slices: Vec<_> = batch.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let sent = match self.socket.write_vectored(&slices) {
            Ok(sent) => sent,
            Err(error) if is_temporary(&error) => 0,
            Err(error) => return self.broke(&error),
        };
        self.pulse.sent(self.age(now));
        self.unsent = rest_of(batch, sent);
        Served::Idle
    }

    /// A frame that many get, while nothing is unsent. Its count of owners is written only if the kernel does not take all.
    fn send_shared(&mut self, frame: &Frame, now: Instant) -> Served {
        let bytes = if self.chunked { frame.chunk_bytes() } else { frame.block_bytes() };
        let sent = match self.socket.write(bytes) {
            Ok(sent) => sent,
            Err(error) if is_temporary(&error) => 0,
            Err(error) => return self.broke(&error),
        };
        if sent > 0 {
            self.pulse.sent(self.age(now));
        }
        if sent == bytes.len() {
            return Served::Idle;
        }
        self.unsent = self.framed(frame).slice(sent..);
        self.flush(now)
    }

    /// Writes what is unsent.
    fn flush(&mut self, now: Instant) -> Served {
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(0) => return self.broke(&io::ErrorKind::WriteZero.into()),
                Ok(sent) => {
                    self.pulse.sent(self.age(now));
                    // There is room in the kernel again because the peer has acknowledged.
                    self.pulse.unblocked();
                    let _ = self.unsent.split_to(sent);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.pulse.is_blocked() {
                        self.pulse.blocked(self.age(now));
                    }
                    return Served::Blocked;
                }
                Err(error) => return self.broke(&error),
            }
        }
        // An empty slice of a long event would keep the whole of it.
        self.unsent = Bytes::new();
        self.pulse.unblocked();
        Served::Idle
    }

    /// A write to a client that had gone, or that the kernel had given up on.
    fn broke(&mut self, error: &io::Error) -> Served {
        if tcp::is_given_up(error) {
            self.permit.close(CloseReason::Stale);
        } else {
            self.permit.wrote_to_closed();
        }
        Served::Over
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
}

impl Surveyed for Entry {
    fn route(&self) -> RouteId {
        self.permit.route()
    }

    fn opened(&self) -> Instant {
        self.permit.opened()
    }

    fn waits_at_most(&self, now: Instant) -> Option<Duration> {
        self.pulse.waits_at_most(self.age(now))
    }

    fn view(&self, now: Instant) -> StreamView {
        StreamView {
            route: self.permit.route(),
            peer: self.permit.peer(),
            opened: self.permit.opened(),
            blocked_for: self.pulse.blocked_for(self.age(now)),
            unacknowledged_for: self.look_again(now).unacknowledged,
        }
    }
}

/// Reads and forgets.
fn drain(socket: &mut TcpStream) -> Served {
    let mut ignored = [0; 16 * 1024];
    // A client that never stops talking gets its turn again with the next event of its socket. There is one only for what
    // comes from now on: so at least as much is read as the kernel may hold already (8 MiB; tcp_rmem says 6), or what is
    // left would close the window for ever, and the client's leaving with it.
    for _ in 0..512 {
        match socket.read(&mut ignored) {
            Ok(0) => return Served::Over,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Served::Idle,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Served::Over,
        }
    }
    Served::Idle
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// What is left of frames of which the first `sent` bytes have gone: shared bytes if it is one frame, else a copy, at most
/// about [`BATCH_BYTES`] long but for a last frame that is longer.
fn rest_of(batch: &[Bytes], mut sent: usize) -> Bytes {
    let first = batch.iter().position(|frame| {
        if sent < frame.len() {
            return true;
        }
        sent -= frame.len();
        false
    });
    let Some(first) = first else { return Bytes::new() };
    if first + 1 == batch.len() {
        return batch[first].slice(sent..);
    }
    let mut rest = BytesMut::from(&batch[first][sent..]);
    for frame in &batch[first + 1..] {
        rest.extend_from_slice(frame);
    }
    rest.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_batch_is_the_same_wherever_the_kernel_stopped() {
        let batch = [Bytes::from_static(b"one"), Bytes::from_static(b"two"), Bytes::from_static(b"three")];
        let whole = b"onetwothree";
        for sent in 0..=whole.len() {
            assert_eq!(rest_of(&batch, sent), whole[sent..], "after {sent} bytes");
        }
    }
}
