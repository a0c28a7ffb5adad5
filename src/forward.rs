//! Everything that is not a stream of ours goes to the app and back, untouched and unbuffered.
//!
//! Both bodies are pulled: the client's socket takes bytes, so hyper asks for a frame, so the app's socket is read, and
//! the same the other way round. Nothing is kept in between but hyper's bounded buffers. When the client goes away
//! hyper drops the service's future or the answer's body, and the request at the app ends with it.

mod admit;
mod body;
mod early;
mod headers;
mod upgrade;

use std::{future::poll_fn, net::SocketAddr, pin::pin, sync::Arc};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header, uri::PathAndQuery};
use http_body::Body;
use hyper::{body::Incoming, ext::ReasonPhrase};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::headers::remove_hop_by_hop;
pub use self::{
    admit::{admit, refuse},
    body::{AppBody, ResponseBody},
};
use self::{body::Upload, headers::Present, upgrade::Upgrade};
use crate::{
    metrics::{Metrics, Outcome, Purpose},
    upstream::{AnswerBody, Causes, RequestBody, SentUpload, Upstream, UpstreamError},
    wire::{Disagreement, WireState},
};

/// Forwards requests to the app. Cheap to clone and to share.
#[derive(Clone, Debug)]
pub struct Forwarder {
    upstream: Upstream,
    metrics: Arc<Metrics>,
}

/// What a request is forwarded with: the connection it came on, and who owns what outlives it.
#[derive(Clone, Debug)]
pub struct ForwardContext {
    /// Whom the connection is from.
    pub peer: SocketAddr,
    /// The same for `X-Forwarded-For` where there is none: written out once for all requests of the connection.
    forwarded_for: HeaderValue,
    /// The observer of the connection.
    pub wire: Arc<WireState>,
    /// Owns the tunnels of upgraded connections, and uploads whose answer was complete before them.
    pub tasks: TaskTracker,
    /// Ends these tasks at once.
    pub shutdown: CancellationToken,
}

/// What of the request is needed to judge and log its answer.
#[derive(Debug)]
struct Asked {
    method: Method,
    version: Version,
    target: PathAndQuery,
}

/// Counts the request at the app once, when its head has come or not; as cancelled, if the client was first.
#[derive(Debug)]
struct Pending<'a> {
    metrics: &'a Metrics,
    asked: &'a Asked,
    since: Instant,
    outcome: Outcome,
    status: Option<StatusCode>,
}

/// Stands in the extensions of answers that are ours, because the app gave none that could be passed on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoAnswer;

/// Why an answer of the app cannot be passed on.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("the app switched protocols without being asked")]
    UnaskedUpgrade,
    #[error("the app used a transfer coding nobody asked for")]
    TransferCoding,
}

// === impl ForwardContext ===

impl ForwardContext {
    /// Of a connection from `peer`, observed by `wire`; its tasks are owned by `tasks` and ended by `shutdown`.
    pub fn new(peer: SocketAddr, wire: Arc<WireState>, tasks: TaskTracker, shutdown: CancellationToken) -> Self {
        Self { peer, forwarded_for: headers::address(peer), wire, tasks, shutdown }
    }
}

// === impl Forwarder ===

impl Forwarder {
    /// Forwards to `upstream` and counts in `metrics`.
    pub fn new(upstream: Upstream, metrics: Arc<Metrics>) -> Self {
        Self { upstream, metrics }
    }

    /// Sends `request`, which [`admit()`] has let pass, to the app and returns its answer: the headers cleaned, the
    /// body streaming. Without an answer it is 502 or 504 with a line of text.
    ///
    /// To be awaited in the service of the connection `context.wire` belongs to: informational answers are sent by the
    /// flush that ends hyper's poll of it.
    pub async fn forward(&self, mut request: Request<Incoming>, context: &ForwardContext) -> Response<ResponseBody> {
        let Some(asked) = Asked::of(&request) else { return refuse_connect() };
        let upgrade = Upgrade::requested(&mut request);
        let (mut outgoing, upload) = self.prepare(request, &asked, upgrade.as_ref(), context);

        let mut pending = Pending::new(&self.metrics, &asked);
        let answered = if asked.version == Version::HTTP_11 {
            let turn = context.wire.early_turn();
            early::relay(&mut outgoing, &context.wire, turn.turn());
            let mut sending = pin!(self.upstream.send(outgoing));
            let answered = poll_fn(|cx| {
                turn.register(cx);
                sending.as_mut().poll(cx)
            })
            .await;
            poll_fn(|cx| turn.poll_sent(cx)).await;
            answered
        } else {
            self.upstream.send(outgoing).await
        };

        match answered {
            Ok(response) => match asked.answer(response, upgrade, upload, context) {
                Ok(response) => {
                    pending.answered(response.status());
                    response
                }
                Err(unfit) => {
                    pending.failed(Outcome::Broken);
                    tracing::debug!(error = %unfit, "unfit answer");
                    no_answer(StatusCode::BAD_GATEWAY, "bad gateway: the app gave an unfit answer\n")
                }
            },
            Err(error) => {
                let was_cut = upload.as_ref().is_some_and(|upload| upload.sent.was_cut());
                let timed_out = upload.as_ref().is_some_and(|upload| upload.sent.timed_out());
                pending.failed(if was_cut || timed_out { Outcome::Cancelled } else { error.outcome() });
                tracing::debug!(error = %Causes(&error), "no answer");
                match (was_cut, timed_out) {
                    (true, _) => refuse(Disagreement::Body),
                    (_, true) => closing(StatusCode::REQUEST_TIMEOUT, "request timeout: the body does not come\n"),
                    _ => failed(&error),
                }
            }
        }
    }

    /// The request as the app gets it.
    fn prepare(
        &self,
        request: Request<Incoming>,
        asked: &Asked,
        upgrade: Option<&Upgrade>,
        context: &ForwardContext,
    ) -> (Request<RequestBody>, Option<Upload>) {
        let (parts, incoming) = request.into_parts();
        let mut outgoing = Request::new(RequestBody::new(incoming, &context.wire));
        *outgoing.method_mut() = parts.method;
        *outgoing.uri_mut() = asked.target.clone().into();
        *outgoing.headers_mut() = parts.headers;
        headers::to_app(outgoing.headers_mut(), &context.forwarded_for, upgrade.map(|upgrade| &upgrade.protocol));
        if !outgoing.body().is_end_stream() && outgoing.body().size_hint().exact().is_none() {
            // Said explicitly, because hyper sends no body with GET and HEAD unless it is.
            outgoing.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let upload = SentUpload::watch(outgoing.body()).map(|sent| Upload {
            sent,
            tasks: context.tasks.clone(),
            shutdown: context.shutdown.clone(),
        });
        (outgoing, upload)
    }
}

/// The app is the server that is asked, and it is no proxy: to connect to somewhere else is not ours to do either.
fn refuse_connect() -> Response<ResponseBody> {
    closing(StatusCode::NOT_IMPLEMENTED, "not implemented: CONNECT\n")
}

/// An answer behind which nothing more is read.
fn closing(status: StatusCode, text: &'static str) -> Response<ResponseBody> {
    let mut response = ResponseBody::plain(status, text);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn failed(error: &UpstreamError) -> Response<ResponseBody> {
    match error {
        UpstreamError::ConnectTimeout | UpstreamError::Timeout => {
            no_answer(StatusCode::GATEWAY_TIMEOUT, "gateway timeout: the app does not take the connection\n")
        }
        UpstreamError::Refused(_) => no_answer(StatusCode::BAD_GATEWAY, "bad gateway: the app cannot be reached\n"),
        UpstreamError::Broken(_) => no_answer(StatusCode::BAD_GATEWAY, "bad gateway: the app broke the connection\n"),
    }
}

fn no_answer(status: StatusCode, text: &'static str) -> Response<ResponseBody> {
    let mut response = ResponseBody::plain(status, text);
    response.extensions_mut().insert(NoAnswer);
    response
}

// === impl Asked ===

impl Asked {
    /// `None` for CONNECT, which asks for no target of the app.
    fn of<B>(request: &Request<B>) -> Option<Self> {
        let target = request.uri().path_and_query()?.clone();
        let asked = Self { method: request.method().clone(), version: request.version(), target };
        (asked.method != Method::CONNECT).then_some(asked)
    }

    /// The app's answer as the client gets it.
    fn answer(
        &self,
        mut response: Response<AnswerBody>,
        upgrade: Option<Upgrade>,
        upload: Option<Upload>,
        context: &ForwardContext,
    ) -> Result<Response<ResponseBody>, Unfit> {
        let present = Present::of(response.headers());
        let mut protocol = None;
        if present.has(Present::UPGRADE) {
            protocol = response.headers().get(header::UPGRADE).cloned();
        }
        let is_chunked = present.has(Present::TRANSFER_ENCODING);
        if is_chunked && has_foreign_coding(response.headers()) {
            return Err(Unfit::TransferCoding);
        }
        headers::remove_hop_by_hop(response.headers_mut());
        if is_chunked {
            response.headers_mut().remove(header::CONTENT_LENGTH);
        }
        match (response.status(), protocol) {
            (StatusCode::SWITCHING_PROTOCOLS, protocol) => {
                let upgrade = upgrade.ok_or(Unfit::UnaskedUpgrade)?;
                headers::keep_upgrade(response.headers_mut(), protocol.unwrap_or_else(|| upgrade.protocol.clone()));
                upgrade.join(&mut response, context);
            }
            // Here the header says what the app would speak instead (RFC 9110, section 15.5.22).
            (StatusCode::UPGRADE_REQUIRED, Some(protocol)) => {
                headers::keep_upgrade(response.headers_mut(), protocol);
            }
            _ => {}
        }

        let (mut parts, incoming) = response.into_parts();
        let body = self.body(parts.status, &mut parts.headers, incoming, upload, context);
        let mut response = Response::new(body);
        *response.status_mut() = parts.status;
        *response.headers_mut() = parts.headers;
        // A wording other than the usual one; everything else in there is about the app's connection.
        if let Some(reason) = parts.extensions.remove::<ReasonPhrase>() {
            response.extensions_mut().insert(reason);
        }
        Ok(response)
    }

    fn body(
        &self,
        status: StatusCode,
        headers: &mut HeaderMap,
        incoming: AnswerBody,
        upload: Option<Upload>,
        context: &ForwardContext,
    ) -> ResponseBody {
        if self.method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
            return announced(headers);
        }
        // One spelling of what hyper has understood: it tolerates repeated equal lengths, clients need not.
        let length = incoming.size_hint().exact();
        match length {
            Some(length) if !matches!(status, StatusCode::NO_CONTENT | StatusCode::SWITCHING_PROTOCOLS) => {
                headers.insert(header::CONTENT_LENGTH, length.into());
            }
            _ => drop(headers.remove(header::CONTENT_LENGTH)),
        }
        let is_close_delimited = length.is_none() && self.version == Version::HTTP_10;
        let body = AppBody::new(incoming, Arc::clone(&context.wire), is_close_delimited, upload);
        ResponseBody::App(Box::new(body))
    }
}

/// A transfer coding besides `chunked` would have to be undone here. We never ask for one (`TE`).
fn has_foreign_coding(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    codings.any(|coding| !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"))
}

/// The body of an answer that has none but says how long it would be.
fn announced(headers: &mut HeaderMap) -> ResponseBody {
    let length = headers.remove(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        return ResponseBody::Announced(length);
    }
    ResponseBody::Empty
}

// === impl Pending ===

impl<'a> Pending<'a> {
    fn new(metrics: &'a Metrics, asked: &'a Asked) -> Self {
        Self { metrics, asked, since: Instant::now(), outcome: Outcome::Cancelled, status: None }
    }

    fn answered(&mut self, status: StatusCode) {
        self.outcome = Outcome::of_status(status);
        self.status = Some(status);
    }

    fn failed(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let elapsed = self.since.elapsed();
        self.metrics.upstream_request(Purpose::Forward, self.outcome, elapsed);
        // No path and no query: in one are the ids of jobs, in the other credentials.
        let method = &self.asked.method;
        let (status, outcome) = (self.status.map(|status| status.as_u16()), self.outcome.as_str());
        tracing::debug!(%method, status, outcome, ?elapsed, "forwarded");
    }
}

#[cfg(test)]
mod tests;
