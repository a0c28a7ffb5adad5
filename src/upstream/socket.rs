//! The socket of a connection to the app, and what can be known and done about it while hyper has it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU32,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll, ready},
};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    files::Socket,
    tcp::{self, Lent},
};

/// Reads in a row before whoever drives the connection has its turn. hyper goes on for as long as there is something to read,
/// informational heads without end for one, and meanwhile nobody would look at the clock.
const READS: u32 = 16;

#[cfg(not(test))]
type Transport = tokio::net::TcpStream;
#[cfg(test)]
type Transport = super::memory::Transport;

/// What can be known and done about a connection from outside.
#[derive(Clone, Debug)]
pub(super) struct ConnectionTag(Arc<State>);

#[derive(Debug)]
struct State {
    /// The socket, until the stream is dropped.
    socket: Lent,
    /// A request was answered on it. Set by the one who got the answer.
    has_answered: AtomicBool,
    /// Nothing was read since something was written. Set and cleared by the stream.
    is_silent: AtomicBool,
    is_aborted: AtomicBool,
    /// Reads in a row so far. Counted by the stream.
    reads: AtomicU32,
    /// The task that drives the connection.
    task: AtomicWaker,
}

/// The socket.
#[derive(Debug)]
pub(super) struct AppStream {
    stream: Transport,
    tag: Arc<State>,
    _counted: Option<Socket>,
}

// === impl ConnectionTag ===

impl ConnectionTag {
    /// Whether the app has closed it, or spoken unasked, as the kernel knows: the reactor may not have told yet.
    pub(super) fn is_over(&self) -> bool {
        self.0.socket.with(tcp::has_spoken).unwrap_or_default()
    }

    /// A request was answered on it.
    pub(super) fn answered(&self) {
        self.0.has_answered.store(true, Release);
    }

    /// Whether it had answered before, and said nothing to what was sent last.
    pub(super) fn is_silent_again(&self) -> bool {
        self.0.has_answered.load(Acquire) && self.0.is_silent.load(Acquire)
    }

    /// That of no connection.
    #[cfg(test)]
    pub(super) fn nothing() -> Self {
        Self(Arc::new(State::new(Lent::nothing())))
    }

    #[cfg(test)]
    pub(super) fn is_aborted(&self) -> bool {
        self.0.is_aborted.load(Acquire)
    }

    /// Ends the connection in whatever it does. hyper alone would first try to send what it has buffered, for ever
    /// if the app does not read.
    pub(super) fn abort(&self) {
        self.0.is_aborted.store(true, Release);
        self.0.task.wake();
    }
}

// === impl State ===

impl State {
    fn new(socket: Lent) -> Self {
        Self {
            socket,
            has_answered: AtomicBool::default(),
            is_silent: AtomicBool::default(),
            is_aborted: AtomicBool::default(),
            reads: AtomicU32::default(),
            task: AtomicWaker::default(),
        }
    }
}

// === impl AppStream ===

impl AppStream {
    /// Of a connection that has just been made; `socket` is its number, `counted` its place among the open files.
    pub(super) fn new(stream: Transport, socket: Lent, counted: Option<Socket>) -> Self {
        Self { stream, tag: Arc::new(State::new(socket)), _counted: counted }
    }

    /// By which it is known outside.
    pub(super) fn tag(&self) -> ConnectionTag {
        ConnectionTag(Arc::clone(&self.tag))
    }

    fn check(&self, cx: &mut Context<'_>) -> io::Result<()> {
        self.tag.task.register(cx.waker());
        match self.tag.is_aborted.load(Acquire) {
            false => Ok(()),
            true => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    fn check_write(&self, cx: &mut Context<'_>) -> io::Result<()> {
        self.check(cx)?;
        // Even a write that fails makes it silent: whatever is read afterwards would be the answer.
        self.tag.is_silent.store(true, Release);
        Ok(())
    }
}

impl AsyncRead for AppStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let reads = self.tag.reads.load(Relaxed);
        if reads >= READS {
            self.tag.reads.store(0, Relaxed);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.tag.reads.store(if read.is_pending() { 0 } else { reads + 1 }, Relaxed);
        ready!(read)?;
        if buf.filled().len() > before {
            self.tag.is_silent.store(false, Release);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for AppStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check_write(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_write(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Drop for AppStream {
    fn drop(&mut self) {
        self.tag.socket.withdraw();
    }
}
