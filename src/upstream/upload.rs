//! The body of a request on its way from the client to the app.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{
            AtomicU8, AtomicU32,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::{
    sync::Notify,
    time::{Sleep, sleep},
};

use super::{BoxError, socket::ConnectionTag};
use crate::wire::WireState;

/// After the app's answer is complete, an upload that moves nothing for this long is given up. Long enough for an app
/// that answers first and reads later, as Node's own dumping of unread bodies does.
const STALL: Duration = if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(30) };

/// A client that owes more of its body and sends nothing for this long has left, or holds the app's connection for the
/// sake of holding it. Longer than the 60 s that nginx waits, so that it is nginx who gives up.
const IDLE: Duration = if cfg!(test) { Duration::from_secs(1) } else { Duration::from_secs(75) };

/// What is sent to the app after the head of a request. Streams: one frame at a time, asked for by the connection.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// None.
    Empty,
    /// The client's.
    Client {
        /// Its frames.
        incoming: Incoming,
        /// What its connection knows of it.
        wire: Arc<WireState>,
        /// Runs while the client is waited for; not while the app is.
        idle: Option<Pin<Box<Sleep>>>,
        /// What the forwarder sees of it.
        upload: Arc<Upload>,
    },
}

/// How far an upload is. Written by the body, in whichever task drives the app's connection, but for the abort, which is
/// the drop of [`SentUpload`].
#[derive(Debug, Default)]
pub(crate) struct Upload {
    phase: AtomicU8,
    frames: AtomicU32,
    /// The connection it goes to, from when there is one. Written by whoever sends the request; the last one counts.
    connection: Mutex<Option<ConnectionTag>>,
    /// Told of the end; heard by [`SentUpload::finish`].
    ended: Notify,
}

// The phases: RUNNING goes to exactly one of the others, which is final.
const RUNNING: u8 = 0;
/// The app's connection is done with it: all of it was sent, or the connection has ended.
const DONE: u8 = 1;
/// The client went away in its middle, or what it sent is no body.
const CUT: u8 = 2;
const ABORTED: u8 = 3;
/// The client sent nothing for too long.
const TIMED_OUT: u8 = 4;

/// An upload, held by whoever holds the answer: dropping it ends an upload that still runs.
#[derive(Debug)]
pub(crate) struct SentUpload(Arc<Upload>);

// === impl RequestBody ===

impl RequestBody {
    /// The client's body; no body at all if it is empty, so that such a request may be repeated.
    pub(crate) fn new(incoming: Incoming, wire: &Arc<WireState>) -> Self {
        match incoming.is_end_stream() {
            true => Self::Empty,
            false => Self::Client { incoming, wire: Arc::clone(wire), idle: None, upload: Arc::default() },
        }
    }

    /// Where its progress can be followed, if there is a body.
    pub(super) fn upload(&self) -> Option<Arc<Upload>> {
        match self {
            Self::Empty => None,
            Self::Client { upload, .. } => Some(Arc::clone(upload)),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Self::Client { incoming, wire, idle, upload } = &mut *self else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(incoming).poll_frame(cx) else {
            ready!(idle.get_or_insert_with(|| Box::pin(sleep(IDLE))).as_mut().poll(cx));
            upload.end(TIMED_OUT);
            return Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::TimedOut).into())));
        };
        *idle = None;
        let mut frame = frame.map(|frame| frame.map_err(BoxError::from));
        if let Err(disagreement) = wire.body_verdict() {
            // The app must not take what came for the whole of it.
            frame = Some(Err(disagreement.into()));
        }
        match &frame {
            Some(Ok(_)) => drop(upload.frames.fetch_add(1, Relaxed)),
            Some(Err(_)) => drop(upload.end(CUT)),
            None => drop(upload.end(DONE)),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client { incoming, .. } => incoming.size_hint(),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Self::Client { upload, .. } = self {
            upload.end(DONE);
        }
    }
}

// === impl Upload ===

impl Upload {
    /// True when this call ended it.
    fn end(&self, phase: u8) -> bool {
        let is_first = self.phase.compare_exchange(RUNNING, phase, AcqRel, Acquire).is_ok();
        if is_first {
            self.ended.notify_one();
        }
        is_first
    }

    /// True until the app's connection is done with it.
    pub(super) fn is_running(&self) -> bool {
        self.phase.load(Acquire) == RUNNING
    }

    /// It is about to be sent on this connection, and on none that it was to be sent on before: a pooled one may have ended
    /// before it took the request.
    pub(super) fn goes_to(&self, connection: ConnectionTag) {
        *self.connection() = Some(connection);
    }

    fn connection(&self) -> MutexGuard<'_, Option<ConnectionTag>> {
        self.connection.lock().expect("no code panics under this lock")
    }
}

// === impl SentUpload ===

impl SentUpload {
    /// Watches `body`, which is about to be sent; `None` if it is none.
    pub(crate) fn watch(body: &RequestBody) -> Option<Self> {
        body.upload().map(Self)
    }

    /// True when the client went away in the middle of it, or sent what is no body.
    pub(crate) fn was_cut(&self) -> bool {
        self.0.phase.load(Acquire) == CUT
    }

    /// True when the client sent nothing for so long that it was given up.
    pub(crate) fn timed_out(&self) -> bool {
        self.0.phase.load(Acquire) == TIMED_OUT
    }

    /// True until the app's connection is done with it.
    pub(crate) fn is_running(&self) -> bool {
        self.0.is_running()
    }

    /// Ends with the upload, or ends it when it moves nothing for 30 s. To be awaited after the answer is complete:
    /// from then on neither the client nor hyper (its issue 4176) sees to it that an upload the app does not read ends.
    pub(crate) async fn finish(self) {
        while self.is_running() {
            let frames = self.0.frames.load(Relaxed);
            let ended = tokio::time::timeout(STALL, self.0.ended.notified()).await;
            if ended.is_err() && self.0.frames.load(Relaxed) == frames {
                return;
            }
        }
    }
}

impl Drop for SentUpload {
    /// Whoever held it has no use for the answer any more. As long as the upload runs the connection serves no other
    /// request, so it may be ended.
    fn drop(&mut self) {
        if self.0.end(ABORTED) {
            // The lock is given back before anybody is woken.
            let connection = self.0.connection().take();
            if let Some(connection) = connection {
                connection.abort();
            }
        }
    }
}

#[cfg(test)]
mod tests;
