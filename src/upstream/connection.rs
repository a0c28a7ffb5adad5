//! A connection to the app that knows whether it has answered before.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release},
        },
    },
    task::{Context, Poll, ready},
};

use futures_util::{future::BoxFuture, task::AtomicWaker};
use http::{Extensions, Uri};
use hyper_util::{
    client::legacy::{
        self,
        connect::{Connected, Connection, HttpConnector},
    },
    rt::TokioIo,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tower_service::Service;

use super::BoxError;
use crate::files::{Files, Socket};

/// Connects by TCP and tags the connection.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    http: HttpConnector,
    files: Option<Arc<Files>>,
}

/// One connection to the app.
#[derive(Debug)]
pub(super) struct AppStream {
    stream: TcpStream,
    tag: Arc<State>,
    _counted: Option<Socket>,
}

/// What can be asked about a connection from outside, through hyper-util's extras.
#[derive(Clone, Debug)]
pub(super) struct ConnectionTag(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// A request was answered on it. Set by the one who got the answer.
    has_answered: AtomicBool,
    /// Nothing was read since something was written. Set and cleared by the stream.
    is_silent: AtomicBool,
    is_aborted: AtomicBool,
    /// hyper's task for this connection.
    task: AtomicWaker,
}

// === impl Connector ===

impl Connector {
    /// Connections are counted among the open `files`, if there are any to count.
    pub(super) fn new(http: HttpConnector, files: Option<Arc<Files>>) -> Self {
        Self { http, files }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<AppStream>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.http.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.http.call(uri);
        let counted = self.files.as_ref().map(Files::opened);
        Box::pin(async move {
            let stream = connecting.await?.into_inner();
            Ok(TokioIo::new(AppStream { stream, tag: Arc::default(), _counted: counted }))
        })
    }
}

// === impl ConnectionTag ===

impl ConnectionTag {
    /// The connection on which `error` arose; `None` when there was none yet.
    pub(super) fn of_error(error: &legacy::Error) -> Option<Self> {
        error.connect_info().and_then(Self::of)
    }

    pub(super) fn of(connected: &Connected) -> Option<Self> {
        let mut extensions = Extensions::new();
        connected.get_extras(&mut extensions);
        extensions.remove()
    }

    /// The connection on which an answer came.
    pub(super) fn take(extensions: &mut Extensions) -> Option<Self> {
        extensions.remove()
    }

    pub(super) fn answered(&self) {
        self.0.has_answered.store(true, Release);
    }

    /// True when the connection had answered before, and said nothing to the request on which it failed.
    pub(super) fn died_idle(&self) -> bool {
        self.0.has_answered.load(Acquire) && self.0.is_silent.load(Acquire)
    }

    /// Ends the connection in whatever it does. hyper alone would first try to send what it has buffered, for ever
    /// if the app does not read.
    pub(super) fn abort(&self) {
        self.0.is_aborted.store(true, Release);
        self.0.task.wake();
    }
}

// === impl AppStream ===

impl AppStream {
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

impl Connection for AppStream {
    fn connected(&self) -> Connected {
        Connected::new().extra(ConnectionTag(Arc::clone(&self.tag)))
    }
}

impl AsyncRead for AppStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
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
