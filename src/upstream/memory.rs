//! An app in memory, for tests that hold the clock: connections to it are pipes, and it can be away.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    net::TcpStream,
    sync::mpsc,
};

use super::Upstream;

/// What a pipe holds before its writer has to wait.
const PIPE_BYTES: usize = 16 * 1024;

/// Connections that nobody has taken yet; more are refused.
const CONNECTIONS_MAX: usize = 1024;

/// The app's door. Clones are the same door.
#[derive(Clone, Default)]
pub(crate) struct App(Arc<Mutex<Option<mpsc::Sender<DuplexStream>>>>);

/// A socket, or a pipe.
#[derive(Debug)]
pub(crate) enum Transport {
    Tcp(TcpStream),
    Pipe(DuplexStream),
}

/// An upstream that connects to `app` and nowhere else.
pub(crate) fn upstream(app: &App) -> Upstream {
    let mut upstream = Upstream::new(http::uri::Authority::from_static("app.test"));
    upstream.connector.memory = Some(app.clone());
    upstream
}

// === impl App ===

impl App {
    /// Opens the door: connections come out here, until it is opened again or closed.
    pub(crate) fn listen(&self) -> mpsc::Receiver<DuplexStream> {
        let (door, connections) = mpsc::channel(CONNECTIONS_MAX);
        *self.0.lock().unwrap() = Some(door);
        connections
    }

    /// Nobody listens any more.
    pub(crate) fn close(&self) {
        *self.0.lock().unwrap() = None;
    }

    pub(super) fn connect(&self) -> io::Result<Transport> {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let is_taken = self.0.lock().unwrap().as_ref().is_some_and(|door| door.try_send(theirs).is_ok());
        if is_taken { Ok(Transport::Pipe(ours)) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").finish_non_exhaustive()
    }
}

// === impl Transport ===

impl From<TcpStream> for Transport {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl AsyncRead for Transport {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Pipe(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Pipe(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Pipe(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Pipe(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Pipe(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Pipe(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
