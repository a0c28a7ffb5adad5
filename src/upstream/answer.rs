//! The body of an answer of the app, together with the connection that brings it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{connection::AppConnection, pool::Pool};

/// The app's answer: whoever polls it drives its connection. At its end the connection waits for the next request; a
/// drop before that closes it, by which the app learns that nobody wants the rest.
#[derive(Debug)]
pub struct AnswerBody {
    incoming: Incoming,
    /// `None` when a task of its own drives the connection, when that has ended, or was given back.
    connection: Option<Box<AppConnection>>,
    pool: Arc<Pool>,
}

// === impl AnswerBody ===

impl AnswerBody {
    pub(super) fn new(incoming: Incoming, connection: Option<Box<AppConnection>>, pool: Arc<Pool>) -> Self {
        Self { incoming, connection, pool }
    }

    /// All of it has come.
    fn end(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.put(connection);
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let incoming = &mut this.incoming;
        // The connection alone brings frames: to be woken for them, too, would be one poll too many.
        let mut frame = || Pin::new(&mut *incoming).poll_frame(&mut Context::from_waker(Waker::noop()));
        let polled = match &mut this.connection {
            Some(connection) => {
                let polled = connection.quietly(&mut frame);
                match polled.is_pending().then(|| connection.poll_driver(cx)) {
                    None => polled,
                    Some(Poll::Pending) => connection.quietly(&mut frame),
                    Some(Poll::Ready(())) => {
                        this.connection = None;
                        Pin::new(incoming).poll_frame(cx)
                    }
                }
            }
            None => Pin::new(incoming).poll_frame(cx),
        };
        if let Poll::Ready(None) = polled {
            this.end();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for AnswerBody {
    /// hyper drops a body of known length after its last byte without asking for the end.
    fn drop(&mut self) {
        if self.incoming.is_end_stream() {
            self.end();
        }
    }
}
