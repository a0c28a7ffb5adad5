//! Asks a client to come back, where no stream can begin: over a limit, in the drain, while the app can't be reached.
//!
//! An EventSource comes back by itself after a stream that ends, and after no other answer. It is told so in 200 and one
//! line; everybody else gets the status that other clients understand.

use std::{ops::Range, time::Duration};

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use rand::Rng;

use super::{body::RETRY_JITTER, stream_head};
use crate::{backoff::jitter, event, forward::ResponseBody, grant::Grant, router};

/// When those who were turned away should come back, milliseconds.
const COME_BACK: Range<u64> = 15_000..45_000;

/// How a client can be asked to come back. It outlives the request, and keeps nothing of it alive.
#[derive(Clone, Debug)]
pub struct Patience {
    is_event_source: bool,
    /// What lets a page of another origin see that it is asked. There is no data in it, so it needs no word of the app;
    /// without it the browser would give up for good.
    grant: Option<Grant>,
}

// === impl Patience ===

impl Patience {
    /// Of the client that sent this request.
    pub fn of(method: &Method, headers: &HeaderMap) -> Self {
        // Only a GET is an EventSource's; behind others somebody waits for the app's answer.
        let is_event_source = *method == Method::GET && router::names_event_stream(headers);
        // Nobody else is asked in a way that needs one, and browsers name the origin of every POST.
        let origin = headers.get(header::ORIGIN).filter(|_| is_event_source);
        Self { is_event_source, grant: origin.map(Grant::for_nothing) }
    }

    /// Whether it comes back by itself.
    pub fn is_event_source(&self) -> bool {
        self.is_event_source
    }

    /// Whether it comes back by itself, and is a page of another origin: it can do nothing with a stream whose head says
    /// nothing of it.
    pub fn needs_grant(&self) -> bool {
        self.grant.is_some()
    }

    /// Over a limit: each at a time of its own.
    pub fn later(&self) -> Response<ResponseBody> {
        if self.is_event_source {
            return self.after(come_back());
        }
        let mut response = ResponseBody::plain(StatusCode::SERVICE_UNAVAILABLE, "too many at once; try again later\n");
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(come_back().as_secs()));
        response
    }

    /// The same because files are short; the connection gives its own back.
    pub fn later_without_file(&self) -> Response<ResponseBody> {
        let mut response = self.later();
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    }

    /// An EventSource, as after any end of a stream: only the app is not there.
    pub fn soon(&self, retry: Duration) -> Response<ResponseBody> {
        self.after(jitter(retry, RETRY_JITTER))
    }

    /// A stream that ends with its first line, which says when to try again.
    fn after(&self, pause: Duration) -> Response<ResponseBody> {
        stream_head(ResponseBody::Text(Some(event::retry_line(pause))), self.grant.as_ref())
    }
}

pub(super) fn come_back() -> Duration {
    Duration::from_millis(rand::rng().random_range(COME_BACK))
}
