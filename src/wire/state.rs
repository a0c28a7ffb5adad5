//! What a connection's IO and the service behind it tell each other.

use std::{
    mem,
    sync::{
        Mutex, PoisonError,
        atomic::{
            AtomicBool, AtomicU8, AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

use super::framing::Disagreement;
use crate::tcp::Lent;

/// Informational heads that wait for the client; the app's further ones are dropped, they are hints.
const EARLY_LIMIT: usize = 16 * 1024;

/// Shared between a [`Wire`](super::Wire), which writes most of it, and the service and body of its connection.
///
/// Except for the informational heads and the lent socket everything is an atomic with one writer: the wire. It is written
/// and read within one task, the connection's; the atomics only make it `Sync`, and let a sweep look in from outside.
#[derive(Debug)]
pub struct WireState {
    opened: Instant,
    /// The socket, for the sweep to ask the kernel about. Withdrawn by the wire before it gives it away or closes it.
    socket: Lent,
    /// Milliseconds after `opened` plus one since which the socket takes nothing; 0 = it takes bytes.
    blocked: AtomicU64,
    bytes_written: AtomicU64,
    /// Successful flushes so far, wrapping. hyper flushes only when it has no byte left to write.
    flushes: AtomicU32,
    /// The last write-side call was a successful flush.
    flushed: AtomicBool,
    write_failed: AtomicBool,
    /// The kernel gave up on the client, which no longer answered.
    given_up: AtomicBool,
    reset_on_close: AtomicBool,
    head_timed_out: AtomicBool,
    /// Heads that were found in order / of these, taken by the service. Written by the wire / by the service.
    heads_seen: AtomicU32,
    heads_taken: AtomicU32,
    /// The [`Disagreement`] that the head after `heads_seen` ended in; 0 = none.
    disagreement: AtomicU8,
    /// `early` holds bytes. Written under its lock, read without it, so that a flush costs no lock.
    early_waits: AtomicBool,
    early: Mutex<Early>,
    /// Somebody waits for a flush. Without this, a service that only waits for informational heads would be woken by
    /// the flush at the end of its own poll, and so for ever.
    flush_wanted: AtomicBool,
    /// The connection's task, while its service or body waits for the wire.
    task: AtomicWaker,
}

/// The informational heads of the request in flight.
#[derive(Debug, Default)]
struct Early {
    /// Which request they belong to; a callback of an earlier one must not speak into this one's answer.
    turn: u32,
    is_open: bool,
    bytes: Vec<u8>,
}

/// The right to send informational heads before the answer to one request; closed when dropped.
#[derive(Debug)]
pub(crate) struct EarlyTurn<'a> {
    state: &'a WireState,
    turn: u32,
}

// === impl WireState ===

impl WireState {
    pub(crate) fn new(socket: Lent) -> Self {
        Self {
            opened: Instant::now(),
            socket,
            blocked: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            flushes: AtomicU32::new(0),
            flushed: AtomicBool::new(true),
            write_failed: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            reset_on_close: AtomicBool::new(false),
            head_timed_out: AtomicBool::new(false),
            heads_seen: AtomicU32::new(0),
            heads_taken: AtomicU32::new(0),
            disagreement: AtomicU8::new(0),
            early_waits: AtomicBool::new(false),
            early: Mutex::default(),
            flush_wanted: AtomicBool::new(false),
            task: AtomicWaker::new(),
        }
    }

    /// The socket, to ask the kernel about it.
    pub fn socket(&self) -> &Lent {
        &self.socket
    }

    /// Since when the socket takes no bytes though some are waiting; `None` while it takes them.
    pub fn blocked_since(&self) -> Option<Instant> {
        let since = self.blocked.load(Acquire).checked_sub(1)?;
        Some(self.opened + Duration::from_millis(since))
    }

    /// True while the socket takes no bytes though some are waiting.
    pub fn is_blocked(&self) -> bool {
        self.blocked.load(Acquire) != 0
    }

    /// True when the last write-side call was a successful flush: nothing of an earlier answer is half-written.
    ///
    /// What hyper has buffered *in this very poll* is not visible here before it flushes, at the end of the poll.
    pub fn is_flushed(&self) -> bool {
        self.flushed.load(Acquire)
    }

    /// Bytes handed to the kernel so far, with heads and chunk sizes.
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written.load(Relaxed)
    }

    /// True when a write was answered with a reset or a broken pipe after an earlier one had succeeded: the client had
    /// gone and somebody still wrote to it.
    pub fn write_failed(&self) -> bool {
        self.write_failed.load(Relaxed)
    }

    /// True when the kernel ended the connection because the client no longer answered.
    pub fn is_given_up(&self) -> bool {
        self.given_up.load(Relaxed)
    }

    /// A mark of now, for [`WireState::poll_flushed_since`].
    pub fn flush_mark(&self) -> u32 {
        self.flushes.load(Acquire)
    }

    /// Ready when a flush has succeeded since `mark` was taken: everything that hyper had been given by then has
    /// reached the kernel.
    pub fn poll_flushed_since(&self, mark: u32, cx: &mut Context<'_>) -> Poll<()> {
        self.wait(cx, || self.flush_mark() != mark)
    }

    /// Ready while the socket takes bytes. A body that returns pending here keeps hyper from buffering for a client
    /// that reads nothing; it is woken after the flush that ends the blockage.
    pub fn poll_unblocked(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.wait(cx, || !self.is_blocked())
    }

    /// Makes the socket's end a reset instead of an orderly close: the only way to show an HTTP/1.0 client that a body
    /// delimited by the close was cut.
    pub fn reset_on_close(&self) {
        self.reset_on_close.store(true, Relaxed);
    }

    /// The verdict on the head of the request that the service was just called with: to be taken exactly once for
    /// each, in order.
    ///
    /// # Errors
    /// When that request, or the framing of the body before it, disagrees with itself: the only right answer is 400
    /// with `Connection: close`. Every later call gives the same.
    pub fn take_verdict(&self) -> Result<(), Disagreement> {
        let taken = self.heads_taken.load(Relaxed);
        if taken != self.heads_seen.load(Acquire) {
            self.heads_taken.store(taken.wrapping_add(1), Relaxed);
            return Ok(());
        }
        let code = self.disagreement.load(Acquire);
        Err(Disagreement::of_code(code).unwrap_or(Disagreement::Unobserved))
    }

    /// The verdict on the body of the request that the last verdict was taken for, as far as it was read. The observer is
    /// ahead of whoever reads the body: where it is stricter than hyper, the end of a malformed body is never believed.
    ///
    /// # Errors
    /// When its chunks are malformed.
    pub fn body_verdict(&self) -> Result<(), Disagreement> {
        let is_chunk = self.disagreement.load(Acquire) == Disagreement::Chunk as u8;
        // Otherwise it is the body of a later request.
        let is_this = self.heads_taken.load(Relaxed) == self.heads_seen.load(Acquire);
        if is_chunk && is_this { Err(Disagreement::Chunk) } else { Ok(()) }
    }

    /// Whether the connection ended because a head took too long.
    pub fn head_timed_out(&self) -> bool {
        self.head_timed_out.load(Relaxed)
    }

    pub(super) fn on_head_timeout(&self) {
        self.head_timed_out.store(true, Relaxed);
    }

    pub(super) fn on_verdict(&self, verdict: Result<(), Disagreement>) {
        match verdict {
            Ok(()) => self.heads_seen.store(self.heads_seen.load(Relaxed).wrapping_add(1), Release),
            Err(disagreement) => self.disagreement.store(disagreement as u8, Release),
        }
    }

    pub(super) fn on_blocked(&self) {
        self.flushed.store(false, Release);
        if !self.is_blocked() {
            let since = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
            self.blocked.store(since + 1, Release);
        }
    }

    pub(super) fn on_written(&self, bytes: usize) {
        self.flushed.store(false, Release);
        self.blocked.store(0, Release);
        self.bytes_written.store(self.bytes_written().wrapping_add(bytes as u64), Relaxed);
    }

    pub(super) fn on_write_failed(&self, is_gone: bool) {
        self.flushed.store(false, Release);
        if is_gone && self.bytes_written() > 0 {
            self.write_failed.store(true, Relaxed);
        }
    }

    pub(super) fn on_given_up(&self) {
        self.given_up.store(true, Relaxed);
    }

    pub(super) fn on_flushed(&self) {
        self.flushes.store(self.flushes.load(Relaxed).wrapping_add(1), Release);
        self.flushed.store(true, Release);
        if self.flush_wanted.load(Acquire) {
            self.flush_wanted.store(false, Release);
            self.task.wake();
        }
    }

    pub(super) fn wants_reset(&self) -> bool {
        self.reset_on_close.load(Relaxed)
    }

    /// Takes the informational heads that wait; `None` costs one load.
    pub(super) fn take_early(&self) -> Option<Vec<u8>> {
        if !self.early_waits.load(Acquire) {
            return None;
        }
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        self.early_waits.store(false, Release);
        Some(mem::take(&mut early.bytes)).filter(|bytes| !bytes.is_empty())
    }

    /// Opens the time in which informational heads may be sent: from the request until its answer is returned.
    pub(crate) fn early_turn(&self) -> EarlyTurn<'_> {
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        early.turn = early.turn.wrapping_add(1);
        early.is_open = true;
        EarlyTurn { state: self, turn: early.turn }
    }

    /// Queues an informational head, if the request it belongs to is still unanswered and there is room, and has the
    /// connection's task send it.
    pub(crate) fn offer_early(&self, turn: u32, head: &[u8]) {
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        if early.is_open && early.turn == turn && early.bytes.len() + head.len() <= EARLY_LIMIT {
            early.bytes.extend_from_slice(head);
            self.early_waits.store(true, Release);
            drop(early);
            self.task.wake();
        }
    }

    fn wait(&self, cx: &mut Context<'_>, is_ready: impl Fn() -> bool) -> Poll<()> {
        if is_ready() {
            return Poll::Ready(());
        }
        self.task.register(cx.waker());
        self.flush_wanted.store(true, Release);
        // The change may have come between the first look and the registration.
        if is_ready() { Poll::Ready(()) } else { Poll::Pending }
    }
}

// === impl EarlyTurn ===

impl EarlyTurn<'_> {
    /// What [`WireState::offer_early`] is to be called with.
    pub(crate) fn turn(&self) -> u32 {
        self.turn
    }

    /// Has `cx` woken when a head is offered, so that the connection is polled and sends it.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        self.state.task.register(cx.waker());
    }

    /// Ready when no informational head waits any more: only then may the answer itself be returned, because the wire
    /// has no way to put them in front of what hyper is writing.
    pub(crate) fn poll_sent(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.state.wait(cx, || !self.state.early_waits.load(Acquire))
    }
}

impl Drop for EarlyTurn<'_> {
    fn drop(&mut self) {
        let mut early = self.state.early.lock().unwrap_or_else(PoisonError::into_inner);
        early.is_open = false;
        early.bytes = Vec::new();
        self.state.early_waits.store(false, Release);
    }
}
