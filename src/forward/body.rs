//! The bodies of answers.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    upstream::{AnswerBody, BoxError, Causes, SentUpload},
    wire::WireState,
};

/// The body of anything answered on the public side.
#[derive(Debug)]
pub enum ResponseBody {
    /// None.
    Empty,
    /// A body that is not sent but whose length is announced: of an answer to HEAD, or a 304.
    Announced(u64),
    /// A short text of our own; `None` when it was sent.
    Text(Option<Bytes>),
    /// The app's, as it comes.
    App(Box<AppBody>),
    /// Whatever else: a stream, or the app's body under guard.
    Boxed(UnsyncBoxBody<Bytes, BoxError>),
}

/// The body of an answer of the app: streams frame by frame, asked for by the client's connection. Dropping it before
/// its end cancels the request at the app.
#[derive(Debug)]
pub struct AppBody {
    incoming: AnswerBody,
    wire: Arc<WireState>,
    /// The end of this body is the end of the connection, so that a cut needs a reset to be told from it.
    is_close_delimited: bool,
    /// The wire's flush count when the last frame was handed over.
    flush_mark: u32,
    state: State,
    upload: Option<Upload>,
}

#[derive(Debug)]
enum State {
    Streaming,
    /// The app cut it. What came before goes out first.
    Cut(hyper::Error),
    Ended,
}

/// The request's body, if it is still on its way when the answer comes.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) sent: SentUpload,
    pub(super) tasks: TaskTracker,
    pub(super) shutdown: CancellationToken,
}

// === impl ResponseBody ===

impl ResponseBody {
    /// A short text in plain English. Nobody may keep it.
    pub fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Self> {
        let mut response = Response::new(Self::Text(Some(text.into())));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Empty | Self::Announced(_) => Poll::Ready(None),
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::App(body) => Pin::new(body).poll_frame(cx),
            Self::Boxed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            // hyper looks at the size only of a body that has not ended, and sends none for HEAD and 304.
            Self::Announced(_) => false,
            Self::Text(text) => text.is_none(),
            Self::App(body) => body.is_end_stream(),
            Self::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Announced(length) => SizeHint::with_exact(*length),
            Self::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::App(body) => body.size_hint(),
            Self::Boxed(body) => body.size_hint(),
        }
    }
}

// === impl AppBody ===

impl AppBody {
    pub(super) fn new(
        incoming: AnswerBody,
        wire: Arc<WireState>,
        is_close_delimited: bool,
        upload: Option<Upload>,
    ) -> Self {
        let flush_mark = wire.flush_mark();
        Self { incoming, wire, is_close_delimited, flush_mark, state: State::Streaming, upload }
    }

    /// The answer is complete. An upload that still runs is left to itself, within bounds.
    fn end(&mut self) {
        self.state = State::Ended;
        if let Some(Upload { sent, tasks, shutdown }) = self.upload.take()
            && sent.is_running()
        {
            tasks.spawn(async move {
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => {}
                    () = sent.finish() => {}
                }
            });
        }
    }
}

impl Body for AppBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let State::Streaming = self.state {
            match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    self.flush_mark = self.wire.flush_mark();
                    return Poll::Ready(Some(Ok(frame)));
                }
                None => self.end(),
                Some(Err(error)) => {
                    tracing::debug!(error = %Causes(&error), "the app cut its answer");
                    if self.is_close_delimited {
                        self.wire.reset_on_close();
                    }
                    self.state = State::Cut(error);
                }
            }
        }
        if let State::Cut(_) = self.state {
            // An error makes hyper drop the connection with whatever it still buffers: the last bytes the app sent
            // before it died, often the ones that say why.
            ready!(self.wire.poll_flushed_since(self.flush_mark, cx));
        }
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Cut(error) => Poll::Ready(Some(Err(error.into()))),
            State::Streaming | State::Ended => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.state {
            State::Streaming => self.incoming.is_end_stream(),
            State::Cut(_) => false,
            State::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for AppBody {
    /// hyper drops a body of known length after its last byte without asking for the end.
    fn drop(&mut self) {
        if matches!(self.state, State::Streaming) && self.incoming.is_end_stream() {
            self.end();
        }
    }
}
