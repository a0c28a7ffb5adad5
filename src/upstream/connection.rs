//! A connection to the app, driven by whoever waits for what comes on it.
//!
//! hyper's client connections usually get a task of their own, which a request reaches through one channel and its answer
//! leaves through another. In a proxy both ends are one task's: the client's connection waits for the app's. So the app's
//! connection is polled where its answer is awaited, which saves the channels' wake-ups, and a request that is dropped
//! takes the connection along: the app sees at once that nobody waits any more.

use std::{
    fmt,
    future::poll_fn,
    task::{Context, Poll, Waker, ready},
};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{self, SendRequest},
    },
};
use hyper_util::rt::TokioIo;
use tokio::task::unconstrained;

use super::{
    RequestBody,
    relay::Relay,
    socket::{AppStream, ConnectionTag},
};

/// Bound of hyper's buffers for one connection: an answer's head must fit, and a slow reader costs no more than this.
const MAX_BUFFER: usize = 64 * 1024;

/// hyper's connection, which can switch protocols; hyper does not name that type.
type Driver = BoxFuture<'static, hyper::Result<()>>;

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
        let tag = stream.tag();
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
        self.tag.is_over()
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
                    self.tag.answered();
                    Ok((response, self))
                }
                Err(error) => Err(Unanswered::of(error, &self.tag)),
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

// === impl Unanswered ===

impl Unanswered {
    fn of(mut error: TrySendError<Request<RequestBody>>, tag: &ConnectionTag) -> Self {
        if let Some(request) = error.take_message() {
            return Self::NotSent(Box::new(request));
        }
        // A connection that had answered before, and said nothing to the request on which it failed.
        let died_idle = tag.is_silent_again();
        Self::Broken { error: error.into_error(), died_idle }
    }
}
