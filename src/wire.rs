//! The IO between a client's socket and hyper.
//!
//! hyper hides from a service what it must know here: whether the client takes bytes, whether everything written has
//! left, and what the request head looked like before it was tidied up. A [`Wire`] sees the bytes themselves, and
//! shares what it learns as [`WireState`] with the service and the body of its connection. It also sends the one thing
//! hyper's server cannot: informational answers (103 Early Hints).
//!
//! It wants to be served by `hyper::server::conn::http1` inside a `TokioIo`, with `pipeline_flush` off (the default),
//! `half_close` off (the default) and `max_buf_size(64 KiB)`.

pub(crate) mod framing;
mod state;

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

use self::framing::Observer;
pub use self::{framing::Disagreement, state::WireState};
use crate::{
    files::Socket,
    tcp::{self, Lent},
};

/// How long a connection that is closed in the middle of an upload throws away what still comes. The kernel answers
/// bytes that arrive after a close with a reset, and a client that is reset while it sends often loses the answer that
/// was on its way (RFC 9112, section 9.6).
const LINGER: Duration = Duration::from_secs(5);

/// How long a head may take, unless it is said.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);

/// A client's socket under observation.
#[derive(Debug)]
pub struct Wire {
    /// `None` only between [`Wire::into_inner`] and the drop that follows it.
    stream: Option<TcpStream>,
    state: Arc<WireState>,
    observer: Observer,
    /// An informational head that is only partly written; it goes before anything of hyper's.
    early: Option<Box<Unsent>>,
    /// Runs while a head has begun and is not complete, or the socket is closed for writing and what still comes is thrown
    /// away.
    timer: Option<(Wait, Pin<Box<Sleep>>)>,
    /// How long a head may take once it has begun.
    head_timeout: Duration,
    /// The place among the open files; goes where the socket goes.
    counted: Option<Socket>,
}

/// What the timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Head,
    Linger,
}

#[derive(Debug)]
struct Unsent {
    bytes: Vec<u8>,
    sent: usize,
}

// === impl Wire ===

impl Wire {
    /// Wraps a fresh connection: observation begins with its first byte.
    pub fn new(stream: TcpStream) -> Self {
        Self {
            state: Arc::new(WireState::new(Lent::new(&stream))),
            stream: Some(stream),
            observer: Observer::new(),
            early: None,
            timer: None,
            head_timeout: HEAD_TIMEOUT,
            counted: None,
        }
    }

    /// The same, with this time for each head and this place among the open files.
    #[must_use]
    pub fn within(mut self, head_timeout: Duration, counted: Socket) -> Self {
        (self.head_timeout, self.counted) = (head_timeout, Some(counted));
        self
    }

    /// What the service and body of this connection share with it.
    pub fn state(&self) -> Arc<WireState> {
        Arc::clone(&self.state)
    }

    /// Gives the socket away, with its place among the open files: to a tunnel, or to the streams. Only when
    /// [`WireState::is_flushed`], or bytes are lost.
    pub fn into_inner(mut self) -> (TcpStream, Option<Socket>) {
        self.state.socket().withdraw();
        let stream = self.stream.take().expect("only into_inner takes the stream, and it consumes the wire");
        (stream, self.counted.take())
    }

    fn stream(&self) -> &TcpStream {
        self.stream.as_ref().expect("only into_inner takes the stream, and it consumes the wire")
    }

    fn stream_mut(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(self.stream.as_mut().expect("only into_inner takes the stream, and it consumes the wire"))
    }

    /// Writes what is left of an informational head.
    fn poll_finish_early(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(mut unsent) = self.early.take() else { return Poll::Ready(Ok(())) };
        while unsent.sent < unsent.bytes.len() {
            let written = self.stream_mut().poll_write(cx, &unsent.bytes[unsent.sent..]);
            match self.note_write(written) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(sent)) => unsent.sent += sent,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.early = Some(unsent);
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Throws away what comes until the client has closed, too, or has had its time.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut sink = [MaybeUninit::uninit(); 4096];
        while self.timer.as_mut().is_some_and(|(_, timer)| timer.as_mut().poll(cx).is_pending()) {
            let mut sink = ReadBuf::uninit(&mut sink);
            match ready!(self.stream_mut().poll_read(cx, &mut sink)) {
                Ok(()) if !sink.filled().is_empty() => {}
                _ => break,
            }
        }
        Poll::Ready(())
    }

    /// Fails when a head that has begun takes too long: who sends it a byte at a time would hold the connection for ever.
    fn poll_head_timeout(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.observer.is_in_head() {
            self.timer = self.timer.take().filter(|(wait, _)| *wait != Wait::Head);
            return Ok(());
        }
        let (_, timer) = self.timer.get_or_insert_with(|| (Wait::Head, Box::pin(sleep(self.head_timeout))));
        match timer.as_mut().poll(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => {
                self.state.on_head_timeout();
                Err(io::ErrorKind::TimedOut.into())
            }
        }
    }

    fn note_write(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Pending => self.state.on_blocked(),
            Poll::Ready(Ok(bytes)) => self.state.on_written(*bytes),
            Poll::Ready(Err(error)) => {
                use io::ErrorKind::{BrokenPipe, ConnectionReset};
                self.note_error(error);
                self.state.on_write_failed(matches!(error.kind(), BrokenPipe | ConnectionReset));
            }
        }
        written
    }

    fn note_error(&self, error: &io::Error) {
        if tcp::is_given_up(error) {
            self.state.on_given_up();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = self.stream_mut().poll_read(cx, buf);
        if let Poll::Ready(Err(error)) = &read {
            self.note_error(error);
        }
        let Self { observer, state, .. } = &mut *self;
        if observer.is_running() {
            observer.push(&buf.filled()[before..], |verdict| state.on_verdict(verdict));
        }
        self.poll_head_timeout(cx)?;
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_finish_early(cx))?;
        let written = self.stream_mut().poll_write(cx, buf);
        self.note_write(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_finish_early(cx))?;
        let written = self.stream_mut().poll_write_vectored(cx, bufs);
        self.note_write(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream().is_write_vectored()
    }

    /// hyper calls this only with an empty write buffer (`proto::h1::io::Buffered::poll_flush`), so this is the moment
    /// at which nothing of an earlier answer is half-written. Informational heads wait only while the service holds
    /// back the answer to their request, so nothing of that one has been written either.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_finish_early(cx))?;
        while let Some(bytes) = self.state.take_early() {
            self.early = Some(Box::new(Unsent { bytes, sent: 0 }));
            ready!(self.poll_finish_early(cx))?;
        }
        ready!(self.stream_mut().poll_flush(cx))?;
        self.state.on_flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !matches!(self.timer, Some((Wait::Linger, _))) {
            ready!(self.stream_mut().poll_shutdown(cx))?;
            if self.observer.is_between_requests() {
                return Poll::Ready(Ok(()));
            }
            self.timer = Some((Wait::Linger, Box::pin(sleep(LINGER))));
        }
        self.poll_linger(cx).map(Ok)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.state.socket().withdraw();
        if let Some(stream) = self.stream.take()
            && self.state.wants_reset()
        {
            // Nothing is left to be done about a failure: the client then sees an orderly close.
            let _ = stream.set_zero_linger();
        }
    }
}

#[cfg(test)]
mod tests;
