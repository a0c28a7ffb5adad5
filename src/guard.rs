//! Keeps the event streams alive that the app serves by itself: those that no route names.
//!
//! Whether an answer is a stream shows only when it comes, so the guard stands around the forwarder: it looks at the
//! request before, and at the answer after. What is no event stream passes as it is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::combinators::UnsyncBoxBody;
use tracing::debug;

pub mod body;
pub mod boundary;

use crate::{
    connections::Connections,
    event::HeartbeatForm,
    forward::{NoAnswer, ResponseBody},
    metrics::{Metrics, RouteId, Transport},
    router,
    stream::{Client, patience::Patience},
};
use body::GuardedBody;

/// The `route` of guarded streams in metrics and on the dashboard. No pattern of a route is like it: those begin with `/`.
pub const ROUTE: &str = "(forwarded)";

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Guards what the forwarder brings back.
#[derive(Debug)]
pub struct Guard {
    route: RouteId,
    connections: Arc<Connections>,
    pacing: Pacing,
    metrics: Arc<Metrics>,
    /// A compressed stream was seen. Written and read by the answers; it only keeps the log short.
    told_of_encoding: AtomicBool,
}

/// The times of guarded streams. `--max-age` is not among them: how long such a stream lives is the app's to say.
#[derive(Clone, Copy, Debug)]
pub struct Pacing {
    /// `--heartbeat-interval`.
    pub heartbeat: Duration,
    /// `--heartbeat-form`.
    pub form: HeartbeatForm,
    /// `--retry`: the hint at the drain.
    pub retry: Duration,
}

/// What has to be known of a request when its answer comes.
#[derive(Clone, Debug)]
pub struct Asked {
    client: Client,
    method: Method,
    version: Version,
    patience: Patience,
}

// === impl Guard ===

impl Guard {
    /// A guard whose streams sit in `connections` and are counted as `route`.
    pub fn new(route: RouteId, connections: Arc<Connections>, pacing: Pacing, metrics: Arc<Metrics>) -> Self {
        Self { route, connections, pacing, metrics, told_of_encoding: AtomicBool::new(false) }
    }

    /// Makes a request ready for the forwarder: who asks for an event stream gets none that is compressed, because the
    /// gaps in it can't be seen. All other requests keep what they accept.
    pub fn prepare<B>(&self, request: &mut Request<B>, client: Client) -> Asked {
        let patience = Patience::of(request.method(), request.headers());
        if router::names_event_stream(request.headers()) {
            request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        Asked { client, method: request.method().clone(), version: request.version(), patience }
    }

    /// Puts an answer of the forwarder under guard if it is an event stream.
    ///
    /// Without a seat for it, an EventSource is asked to come back. Everybody else gets the stream as it is: behind a
    /// POST the app has done its work already, and who did not ask for a stream would take ours for the app's answer.
    /// Nor does an EventSource get the forwarder's own word that there is no app: that would end it for good, where an app
    /// that is started again costs it a moment.
    pub fn wrap(&self, response: Response<ResponseBody>, asked: Asked) -> Response<ResponseBody> {
        if asked.patience.is_event_source() && response.extensions().get::<NoAnswer>().is_some() {
            debug!("an EventSource is asked to come back, as the app gave no answer");
            return asked.patience.soon(self.pacing.retry);
        }
        if asked.method == Method::HEAD || response.status() != StatusCode::OK || !is_event_stream(response.headers()) {
            return response;
        }
        if is_encoded(response.headers()) {
            if !self.told_of_encoding.swap(true, Ordering::Relaxed) {
                debug!("an event stream of the app is compressed, and is passed through without heartbeats");
            }
            return response;
        }
        let Asked { client: Client { ip, conn }, method, version, patience } = asked;
        let seat = match self
            .connections
            .permit(self.route, ip, Transport::Guarded)
            .map(|permit| permit.listed(Arc::clone(&conn)))
        {
            Ok(seat) => seat,
            Err(reason) => {
                let is_event_source = patience.is_event_source();
                debug!(reason = reason.as_str(), is_event_source, "no seat for an event stream of the app");
                return if is_event_source { patience.later() } else { response };
            }
        };
        let mut response = response.map(|app| {
            let body = GuardedBody::new(app, seat, self.pacing, Arc::clone(&self.metrics))
                // The end of an answer to a POST looks like the whole answer, and nobody may ask for it again; so it
                // may finish during the drain like everything that is forwarded.
                .ends_at_drain(method == Method::GET)
                // Before 1.1 the end of the connection is the end of the body; a cut has to look different.
                .resets_on_cut((version < Version::HTTP_11).then(|| Arc::clone(&conn.wire)));
            ResponseBody::Boxed(UnsyncBoxBody::new(body))
        });
        set_stream_headers(response.headers_mut());
        response
    }
}

/// Whether the answer is an event stream, whatever the parameters of its type.
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return false };
    let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}

/// What is no encoding though it stands in `Content-Encoding`. `none` and `utf-8` don't exist, and clients pass over them;
/// guides to event streams have people send `none` to keep proxies from compressing.
const NO_ENCODINGS: [&[u8]; 4] = [b"", b"identity", b"none", b"utf-8"];

/// Whether a body is compressed.
pub(crate) fn is_encoded(headers: &HeaderMap) -> bool {
    let is_none = |encoding: &[u8]| NO_ENCODINGS.iter().any(|none| encoding.trim_ascii().eq_ignore_ascii_case(none));
    headers.get_all(header::CONTENT_ENCODING).iter().any(|encoding| !is_none(encoding.as_bytes()))
}

/// The headers that a stream of our own has, on top of the app's.
fn set_stream_headers(headers: &mut HeaderMap) {
    headers.remove(header::CONTENT_LENGTH);
    // Bare: an event stream is UTF-8 whatever a parameter says, and some proxies pass only the bare type on at once.
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, cache_control(headers));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    // What is asked of the app depends on `Accept`, and with it what it answers.
    if !names_any(headers, header::VARY, &["accept", "*"]) {
        headers.append(header::VARY, HeaderValue::from_static("Accept"));
    }
}

/// Ours, and what the app said beyond that: to drop its `private` or `no-store` would let a cache keep what it must not.
fn cache_control(headers: &HeaderMap) -> HeaderValue {
    HeaderValue::from_static(
        match (
            names_any(headers, header::CACHE_CONTROL, &["private"]),
            names_any(headers, header::CACHE_CONTROL, &["no-store"]),
        ) {
            (false, false) => "no-cache, no-transform",
            (true, false) => "no-cache, no-transform, private",
            (false, true) => "no-cache, no-transform, no-store",
            (true, true) => "no-cache, no-transform, private, no-store",
        },
    )
}

/// Whether a header that holds a list names one of these, with an argument or without.
fn names_any(headers: &HeaderMap, name: HeaderName, wanted: &[&str]) -> bool {
    let mut items = headers.get_all(name).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    items.any(|item| {
        let word = item.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        wanted.iter().any(|wanted| word.eq_ignore_ascii_case(wanted.as_bytes()))
    })
}

#[cfg(test)]
mod tests;
