//! A connection to the app, driven by whoever waits for what comes on it.
//!
//! hyper's client connections usually get a task of their own, which a request reaches through one channel and its answer
//! leaves through another. In a proxy both ends are one task's: the client's connection waits for the app's. So the app's
//! connection is polled where its answer is awaited, which saves the channels' wake-ups, and a request that is dropped
//! takes the connection along: the app sees at once that nobody waits any more.

use std::{
    fmt,
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU32,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures_util::{future::BoxFuture, task::AtomicWaker};
use http::{
    Request, Response, Uri,
    uri::{Authority, PathAndQuery, Scheme},
};
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{self, SendRequest},
    },
};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::unconstrained,
};
use tower_service::Service;

use super::{BoxError, RequestBody, UpstreamError, relay::Relay};
use crate::{
    files::{Files, Socket},
    tcp::{self, Lent},
};

/// Bound of hyper's buffers for one connection: an answer's head must fit, and a slow reader costs no more than this.
const MAX_BUFFER: usize = 64 * 1024;

/// Reads in a row before whoever drives the connection has its turn. hyper goes on for as long as there is something to read,
/// informational heads without end for one, and meanwhile nobody would look at the clock.
const READS: u32 = 16;

/// hyper's connection, which can switch protocols; hyper does not name that type.
type Driver = BoxFuture<'static, hyper::Result<()>>;

/// Opens connections to the app.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    http: HttpConnector,
    /// The app, as the connector wants to be told of it.
    address: Uri,
    /// How long it may take until a connection is there, with all that comes before it.
    timeout: Duration,
    /// Where its connections are counted; `None` where nothing counts them.
    files: Option<Arc<Files>>,
    /// Takes the place of TCP, so that a test can hold the clock.
    #[cfg(test)]
    pub(super) memory: Option<super::memory::App>,
}

#[cfg(not(test))]
type Transport = TcpStream;
#[cfg(test)]
type Transport = super::memory::Transport;

/// One connection to the app, between two requests or in one.
pub(super) struct AppConnection {
    sender: SendRequest<RequestBody>,
    /// `None` when the connection has ended.
    driver: Option<Driver>,
    /// Wakes who drives it.
    relay: Relay,
    tag: ConnectionTag,
}

/// Why a request got no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// The connection had ended before it took the request, which may be sent on another one as it is.
    NotSent(Box<Request<RequestBody>>),
    /// It broke.
    Broken {
        /// What hyper says about it.
        error: hyper::Error,
        /// Not a byte came in answer, on a connection that had answered before.
        died_idle: bool,
    },
}

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

// === impl Connector ===

impl Connector {
    /// Connects to `authority` within `timeout`, with what `http` is set to. Connections are counted among the open
    /// `files`, if there are any to count.
    pub(super) fn new(
        mut http: HttpConnector,
        authority: Authority,
        timeout: Duration,
        files: Option<Arc<Files>>,
    ) -> Self {
        // Divided among the addresses of a name, so that one that drops our packets leaves time for the next.
        http.set_connect_timeout(Some(timeout));
        let mut address = http::uri::Parts::default();
        address.scheme = Some(Scheme::HTTP);
        address.authority = Some(authority);
        address.path_and_query = Some(PathAndQuery::from_static("/"));
        let address = Uri::from_parts(address).expect("a scheme, an authority and a path make an URI");
        Self {
            http,
            address,
            timeout,
            files,
            #[cfg(test)]
            memory: None,
        }
    }

    /// A new connection.
    ///
    /// # Errors
    /// When the name does not resolve, or nobody takes the connection in time.
    pub(super) async fn connect(&self) -> Result<AppStream, UpstreamError> {
        #[cfg(test)]
        if let Some(app) = &self.memory {
            let stream = app.connect().map_err(|error| UpstreamError::connecting(error.into()))?;
            return Ok(AppStream { stream, tag: Arc::new(State::new(Lent::nothing())), _counted: None });
        }
        let counted = self.files.as_ref().map(Files::opened);
        let stream = within(self.timeout, self.http.clone(), self.address.clone()).await?;
        let tag = Arc::new(State::new(Lent::new(&stream)));
        #[allow(clippy::useless_conversion, reason = "in tests it is one")]
        Ok(AppStream { stream: stream.into(), tag, _counted: counted })
    }
}

/// Connects in time, or not at all. The connector's own time begins when the name has resolved, and a name server that
/// does not answer takes as long as the system lets it.
async fn within<R>(timeout: Duration, mut http: HttpConnector<R>, address: Uri) -> Result<TcpStream, UpstreamError>
where
    HttpConnector<R>: Service<Uri, Response = TokioIo<TcpStream>>,
    <HttpConnector<R> as Service<Uri>>::Error: Into<BoxError>,
{
    let connecting = async {
        poll_fn(|cx| http.poll_ready(cx)).await?;
        http.call(address).await
    };
    match tokio::time::timeout(timeout, connecting).await {
        Ok(connected) => Ok(connected.map_err(|error| UpstreamError::connecting(error.into()))?.into_inner()),
        Err(_) => Err(UpstreamError::ConnectTimeout),
    }
}

// === impl AppConnection ===

impl fmt::Debug for AppConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sender: _, driver, relay: _, tag } = self;
        f.debug_struct("AppConnection").field("is_open", &driver.is_some()).field("tag", tag).finish_non_exhaustive()
    }
}

impl AppConnection {
    /// Begins to speak HTTP/1.1.
    ///
    /// # Errors
    /// When hyper refuses, which it has no reason to.
    pub(super) async fn new(stream: AppStream) -> hyper::Result<Box<Self>> {
        let tag = ConnectionTag(Arc::clone(&stream.tag));
        let (sender, driver) = http1::Builder::new().max_buf_size(MAX_BUFFER).handshake(TokioIo::new(stream)).await?;
        let driver: Driver = Box::pin(driver.with_upgrades());
        Ok(Box::new(Self { sender, driver: Some(driver), relay: Relay::new(), tag }))
    }

    /// Whether it can take a request, as far as is known here.
    pub(super) fn is_ready(&mut self) -> bool {
        // Left as it is, the next request would wake the task that had it last.
        let _ = self.relay.poll_for_nobody(|cx| poll_driver(&mut self.driver, cx));
        self.driver.is_some() && self.sender.is_ready()
    }

    /// Whether the app has closed it, or spoken unasked, as the kernel knows: the reactor may not have told yet.
    pub(super) fn is_over(&self) -> bool {
        self.tag.0.socket.with(tcp::has_spoken).unwrap_or_default()
    }

    /// Polls what would wake this connection's task, on that task. See [`Relay::quietly`].
    pub(super) fn quietly<T>(&self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        self.relay.quietly(poll)
    }

    /// Sends `request` and waits for the head of the answer. Dropping the future closes the connection.
    ///
    /// # Errors
    /// When there is none; then the connection is closed.
    pub(super) fn send(
        mut self: Box<Self>,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<(Response<Incoming>, Box<Self>), Unanswered>> {
        if let Some(upload) = request.body().upload() {
            upload.goes_to(self.tag.clone());
        }
        // hyper's future has room for the request, in case it must be given back; boxed, so that the futures around this
        // one are not all that long.
        let mut answer = Box::pin(unconstrained(self.sender.try_send_request(request)));
        async move {
            let answered = poll_fn(|cx| {
                // An end of the connection is told to the answer, too.
                let _ = self.poll_driver(cx);
                // The driver alone brings the answer, so it has just come or will come in a later poll of the driver: to
                // be woken for it would be one poll too many. Unconstrained, since a budget that is used up is told by
                // a wake-up, too.
                answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            })
            .await;
            match answered {
                Ok(response) => {
                    self.tag.0.has_answered.store(true, Release);
                    Ok((response, self))
                }
                Err(error) => Err(self.tag.unanswered(error)),
            }
        }
    }

    /// Reads and writes what there is; ready when the connection has ended.
    pub(super) fn poll_driver(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.relay.poll(cx, |cx| poll_driver(&mut self.driver, cx))
    }

    /// Has a task of its own drive the connection to its end. For an upload that is still on its way when the answer has
    /// come: it must go on, whether the client takes the answer or not. The connection serves no other request; the task
    /// ends with the upload and the answer, or when the [`ConnectionTag`] aborts it.
    pub(super) fn detach(self) {
        // Without the sender hyper closes the connection as soon as this exchange is complete.
        let Self { sender: _, driver, relay: _, tag: _ } = self;
        if let Some(driver) = driver {
            tokio::spawn(async move {
                if let Err(error) = driver.await {
                    tracing::debug!(%error, "a connection to the app ended");
                }
            });
        }
    }
}

fn poll_driver(driver: &mut Option<Driver>, cx: &mut Context<'_>) -> Poll<()> {
    if let Some(running) = driver {
        if let Err(error) = ready!(running.as_mut().poll(cx)) {
            tracing::debug!(%error, "a connection to the app ended");
        }
        *driver = None;
    }
    Poll::Ready(())
}

// === impl ConnectionTag ===

impl ConnectionTag {
    fn unanswered(&self, mut error: TrySendError<Request<RequestBody>>) -> Unanswered {
        if let Some(request) = error.take_message() {
            return Unanswered::NotSent(Box::new(request));
        }
        // A connection that had answered before, and said nothing to the request on which it failed.
        let died_idle = self.0.has_answered.load(Acquire) && self.0.is_silent.load(Acquire);
        Unanswered::Broken { error: error.into_error(), died_idle }
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

#[cfg(test)]
mod tests {
    use std::{future::Pending, net::SocketAddr, vec};

    use hyper_util::client::legacy::connect::dns::Name;

    use super::*;

    /// Takes every name, and never tells an address.
    #[derive(Clone, Debug)]
    struct SilentResolver;

    impl Service<Name> for SilentResolver {
        type Response = vec::IntoIter<SocketAddr>;
        type Error = io::Error;
        type Future = Pending<io::Result<Self::Response>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Name) -> Self::Future {
            std::future::pending()
        }
    }

    // The system's resolver alone may take half a minute.
    #[tokio::test(start_paused = true)]
    async fn a_name_server_that_does_not_answer_counts_into_the_time_to_connect() {
        let http = HttpConnector::new_with_resolver(SilentResolver);
        let connecting = within(Duration::from_secs(5), http, Uri::from_static("http://app.test:3000/"));
        let connected = tokio::time::timeout(Duration::from_secs(6), connecting).await.expect("in time");
        assert!(matches!(connected, Err(UpstreamError::ConnectTimeout)), "{connected:?}");
    }
}
