//! The app as an HTTP peer: kept-alive connections for polls, subscriptions and forwarded requests.

mod connection;
mod upload;

use std::{error::Error, io, sync::Arc, time::Duration};

use http::{
    HeaderMap, Request, Response, Uri,
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{self, Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

use self::connection::{ConnectionTag, Connector};
pub(crate) use self::upload::{RequestBody, SentUpload};
use crate::{files::Files, metrics::Outcome};

/// Loopback or the same pod: a connection takes microseconds, or something drops our packets.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Node closes a kept-alive connection after 5 s without a request (`server.keepAliveTimeout`). One second less, so
/// that it is nearly always us who lets go, and no request meets a connection that is just being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Bound of hyper's buffers for one connection: an answer's head must fit, and a slow reader costs no more than this.
const MAX_BUFFER: usize = 64 * 1024;

/// Finds a peer that vanished without a word behind an idle or silent connection.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Any error, for causes.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The app. Clones share the pool.
#[derive(Clone, Debug)]
pub struct Upstream {
    authority: Authority,
    pooled: Client<Connector, RequestBody>,
    /// Connects anew for every request. When the app restarts, all pooled connections die together, and a repeated
    /// request that took another of them would fail again.
    fresh: Client<Connector, RequestBody>,
}

/// Why there is no answer of the app.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The connection was refused, or the name of `--upstream` did not resolve.
    #[error("cannot connect to the app at --upstream")]
    Refused(#[source] BoxError),
    /// No connection within five seconds.
    #[error("the app at --upstream takes no connection within {}", humantime::format_duration(CONNECT_TIMEOUT))]
    ConnectTimeout,
    /// The connection was up, and then nothing was acknowledged any more.
    #[error("the app does not answer any more")]
    Timeout,
    /// The connection broke before the head of the answer was complete, or what came was not HTTP/1.
    #[error("the app broke the connection before it answered")]
    Broken(#[source] BoxError),
}

// === impl Upstream ===

impl Upstream {
    /// The app at `authority`, spoken to in plain HTTP/1.1. Connects when there is something to ask.
    pub fn new(authority: Authority) -> Self {
        Self::with_timeouts(authority, CONNECT_TIMEOUT, IDLE_TIMEOUT)
    }

    /// The same, with its connections counted among the open `files`.
    pub fn counted(authority: Authority, files: &Arc<Files>) -> Self {
        Self::build(authority, CONNECT_TIMEOUT, IDLE_TIMEOUT, Some(Arc::clone(files)))
    }

    pub(crate) fn with_timeouts(authority: Authority, connect_timeout: Duration, idle_timeout: Duration) -> Self {
        Self::build(authority, connect_timeout, idle_timeout, None)
    }

    fn build(
        authority: Authority,
        connect_timeout: Duration,
        idle_timeout: Duration,
        files: Option<Arc<Files>>,
    ) -> Self {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.set_keepalive(Some(KEEPALIVE));
        http.set_connect_timeout(Some(connect_timeout));
        let connector = Connector::new(http, files);

        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(idle_timeout).http1_max_buf_size(MAX_BUFFER);
        let pooled = builder.build(connector.clone());
        // No idle connection may be kept: that is hyper-util's way to say "no pool".
        let fresh = builder.pool_max_idle_per_host(0).build(connector);
        Self { authority, pooled, fresh }
    }

    /// One GET without a body. `headers` are sent as they are, with the app's own name as `Host` if there is none; the
    /// caller bounds the time, and cancels by dropping the future or the answer's body.
    ///
    /// # Errors
    /// When there is no head of an answer. A kept-alive connection that turned out dead is not an error: the request
    /// is repeated once.
    pub async fn get(&self, target: &PathAndQuery, headers: HeaderMap) -> Result<Response<Incoming>, UpstreamError> {
        let mut request = Request::new(RequestBody::Empty);
        *request.uri_mut() = self.uri(target.clone());
        *request.headers_mut() = headers;
        self.send(request).await
    }

    /// The absolute form of `target`, which tells the client where to connect; on the wire it is the origin form again.
    pub(crate) fn uri(&self, target: PathAndQuery) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(target);
        Uri::from_parts(parts).expect("a scheme, an authority and a path make an URI")
    }

    /// Sends `request`, whose URI is from [`Upstream::uri`].
    ///
    /// A request may be sent twice only if that is the same as once (RFC 9110, section 9.2.2), if there is no body that
    /// would be gone, and if not a byte of an answer came on a connection that had answered before: then the app
    /// closed an idle connection, and the request crossed that on its way.
    pub(crate) async fn send(&self, request: Request<RequestBody>) -> Result<Response<Incoming>, UpstreamError> {
        let (head, body) = request.into_parts();
        let again = (head.method.is_idempotent() && body.is_end_stream()).then(|| head.clone());
        let error = match self.pooled.request(Request::from_parts(head, body)).await {
            Ok(response) => return Ok(answered(response)),
            Err(error) => error,
        };
        match again {
            Some(head) if ConnectionTag::of_error(&error).is_some_and(|tag| tag.died_idle()) => {
                tracing::debug!(error = %Causes(&error), "repeating a request that met a dying connection");
                Ok(answered(self.fresh.request(Request::from_parts(head, RequestBody::Empty)).await?))
            }
            _ => Err(error.into()),
        }
    }
}

/// Notes that the connection has served a request, and keeps our tag out of the answer.
fn answered(mut response: Response<Incoming>) -> Response<Incoming> {
    if let Some(tag) = ConnectionTag::take(response.extensions_mut()) {
        tag.answered();
    }
    response
}

// === impl UpstreamError ===

impl UpstreamError {
    /// The label under which it is counted.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Refused(_) => Outcome::Refused,
            Self::ConnectTimeout | Self::Timeout => Outcome::Timeout,
            Self::Broken(_) => Outcome::Broken,
        }
    }
}

impl From<legacy::Error> for UpstreamError {
    fn from(error: legacy::Error) -> Self {
        let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
        let mut is_timeout = false;
        while let Some(error) = cause {
            is_timeout |= error.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::TimedOut);
            cause = error.source();
        }
        match (error.is_connect(), is_timeout) {
            (true, true) => Self::ConnectTimeout,
            (true, false) => Self::Refused(Box::new(error)),
            (false, true) => Self::Timeout,
            (false, false) => Self::Broken(Box::new(error)),
        }
    }
}

/// An error with its causes on one line, for the log.
pub(crate) struct Causes<'a>(pub(crate) &'a (dyn Error + 'static));

impl std::fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
