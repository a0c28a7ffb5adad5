//! The app as an HTTP peer: kept-alive connections for polls, subscriptions and forwarded requests.

mod answer;
mod connection;
mod connector;
#[cfg(test)]
pub(crate) mod memory;
mod pool;
mod reach;
mod relay;
mod socket;
mod upload;

use std::{error::Error, io, sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderValue, Request, Response, header,
    uri::{Authority, PathAndQuery},
};
use http_body::Body;
use hyper_util::client::legacy::connect::HttpConnector;

pub use self::answer::AnswerBody;
pub(crate) use self::upload::{RequestBody, SentUpload};
use self::{
    connection::{AppConnection, Unanswered},
    connector::Connector,
    pool::Pool,
};
use crate::{files::Files, metrics::Outcome};

/// Loopback or the same pod: a connection takes microseconds, or something drops our packets.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Node closes a kept-alive connection after 5 s without a request (`server.keepAliveTimeout`). One second less, so
/// that it is nearly always us who lets go, and no request meets a connection that is just being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Finds a peer that vanished without a word behind an idle or silent connection.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Any error, for causes.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The app. Clones share the pool.
#[derive(Clone, Debug)]
pub struct Upstream {
    connector: Connector,
    /// What a request calls the app that has no name for it.
    host: HeaderValue,
    pool: Arc<Pool>,
}

/// Why there is no answer of the app.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The connection was refused, or the name of `--upstream` did not resolve.
    #[error("cannot connect to the app at --upstream")]
    Refused(#[source] BoxError),
    /// No connection within five seconds, with the time for its name's address.
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
        let host = HeaderValue::try_from(authority.as_str()).expect("an authority is plain ASCII");
        let connector = Connector::new(http, authority, connect_timeout, files);
        Self { connector, host, pool: Pool::new(idle_timeout) }
    }

    /// One GET without a body. `headers` are sent as they are, with the app's own name as `Host` if there is none; the
    /// caller bounds the time, and cancels by dropping the future or the answer's body.
    ///
    /// # Errors
    /// When there is no head of an answer. A kept-alive connection that turned out dead is not an error: the request
    /// is repeated once.
    pub async fn get(&self, target: &PathAndQuery, headers: HeaderMap) -> Result<Response<AnswerBody>, UpstreamError> {
        let mut request = Request::new(RequestBody::Empty);
        *request.uri_mut() = target.clone().into();
        *request.headers_mut() = headers;
        self.send(request).await
    }

    /// Sends `request`, whose URI is in origin form, with the app's own name as `Host` if there is none.
    ///
    /// A request may be sent twice only if that is the same as once (RFC 9110, section 9.2.2), if there is no body that
    /// would be gone, and if not a byte of an answer came on a connection that had answered before: then the app
    /// closed an idle connection, and the request crossed that on its way. One that no connection has taken was not sent
    /// at all, and may go whatever it is.
    pub(crate) async fn send(&self, mut request: Request<RequestBody>) -> Result<Response<AnswerBody>, UpstreamError> {
        request.headers_mut().entry(header::HOST).or_insert_with(|| self.host.clone());
        while let Some(connection) = self.pool.take() {
            let again = (request.method().is_idempotent() && request.body().is_end_stream()).then(|| copy(&request));
            // A request that can't be repeated must not meet a connection of which the kernel knows that it is closed.
            if again.is_none() && connection.is_over() {
                continue;
            }
            match self.exchange(connection, request).await {
                Ok(response) => return Ok(response),
                Err(Unanswered::NotSent(unsent)) => request = *unsent,
                Err(Unanswered::Broken { error, died_idle }) => {
                    let Some(copy) = again.filter(|_| died_idle) else { return Err(error.into()) };
                    tracing::debug!(error = %Causes(&error), "repeating a request that met a dying connection");
                    // When the app restarts all idle connections die together: another one would be as dead.
                    request = *copy;
                    break;
                }
            }
        }
        // Boxed: connecting is rare, and every request in flight would keep room for it.
        Box::pin(self.send_on_new(request)).await
    }

    async fn send_on_new(&self, request: Request<RequestBody>) -> Result<Response<AnswerBody>, UpstreamError> {
        let stream = self.connector.connect().await?;
        let connection = AppConnection::new(stream).await?;
        match self.exchange(connection, request).await {
            Ok(response) => Ok(response),
            Err(Unanswered::Broken { error, .. }) => Err(error.into()),
            Err(Unanswered::NotSent(_)) => Err(UpstreamError::Broken("closed before the request was sent".into())),
        }
    }

    fn exchange(
        &self,
        connection: Box<AppConnection>,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<AnswerBody>, Unanswered>> {
        let upload = request.body().upload();
        let pool = Arc::clone(&self.pool);
        let answered = connection.send(request);
        async move {
            let (response, connection) = answered.await?;
            let connection = match upload.is_some_and(|upload| upload.is_running()) {
                true => {
                    connection.detach();
                    None
                }
                false => Some(connection),
            };
            Ok(response.map(|incoming| AnswerBody::new(incoming, connection, pool)))
        }
    }
}

/// A request without a body, once more.
fn copy(request: &Request<RequestBody>) -> Box<Request<RequestBody>> {
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    // Informational answers go to whoever asked for them.
    *copy.extensions_mut() = request.extensions().clone();
    Box::new(copy)
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

impl UpstreamError {
    fn connecting(error: BoxError) -> Self {
        match is_timeout(&*error) {
            true => Self::ConnectTimeout,
            false => Self::Refused(error),
        }
    }
}

impl From<hyper::Error> for UpstreamError {
    fn from(error: hyper::Error) -> Self {
        match is_timeout(&error) {
            true => Self::Timeout,
            false => Self::Broken(Box::new(error)),
        }
    }
}

fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        cause = error.source();
    }
    false
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
