//! The app's requests and answers.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Pace;
use super::job::Kind;
use super::library::Library;
use super::notifications::notifications;
use super::session::Session;
use super::tally::{Counts, Tally};

/// The largest body the app reads, in bytes. `{"kind":"retried"}` is the largest that makes sense.
const MAX_BODY: usize = 1024;

/// The page needs nothing but itself, so nothing else is allowed to it.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What all requests share; it outlives the app's restarts.
pub(super) struct Api {
    pub(super) library: Library,
    pub(super) tally: Tally,
    pub(super) pace: Pace,
    pub(super) dashboard: Option<String>,
}

/// The answer, and whether the app goes on after it or restarts.
type Answer = (Response<AnswerBody>, ControlFlow<()>);

type AnswerBody = UnsyncBoxBody<Bytes, Infallible>;

#[derive(Deserialize)]
struct NewVideo {
    kind: Kind,
}

#[derive(Serialize)]
struct Stats<'a> {
    #[serde(flatten)]
    counts: Counts,
    dashboard: Option<&'a str>,
}

// === impl Api ===

impl Api {
    /// Answers one request. `Break` asks for a restart of the app, once the answer is on its way.
    pub(super) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_owned();
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let go_on = |response| (response, ControlFlow::Continue(()));
        go_on(match (segments.as_slice(), request.method()) {
            ([""], &Method::GET | &Method::HEAD) => page(request.headers()),
            (["app.js"], &Method::GET) => text("text/javascript; charset=utf-8", include_str!("app.js")),
            (["app.css"], &Method::GET) => text("text/css; charset=utf-8", include_str!("app.css")),
            (["icon.svg"], &Method::GET) => text("image/svg+xml", include_str!("icon.svg")),
            (["api", "videos"], &Method::GET) => json_of(StatusCode::OK, &self.library.of(&user(request.headers()))),
            (["api", "videos"], &Method::POST) => self.start(request).await,
            (["api", "videos", id], &Method::GET) => self.status(id),
            (["api", "videos", id], &Method::DELETE) => self.remove(id, &user(request.headers())),
            (["api", "notifications", "sse"], &Method::GET) => self.notify(user(request.headers())),
            (["api", "demo", "stats"], &Method::GET) => self.stats(),
            (["api", "demo", "restart"], &Method::POST) => return restart(request.headers()),
            (["api", "videos"], _) => refuse_method("GET, POST"),
            (["api", "videos", _], _) => refuse_method("GET, DELETE"),
            (["api", "demo", "restart"], _) => refuse_method("POST"),
            (
                ["" | "app.js" | "app.css" | "icon.svg"] | ["api", "notifications", "sse"] | ["api", "demo", "stats"],
                _,
            ) => refuse_method("GET"),
            (["api", "progress", _], _) => {
                refuse(StatusCode::NOT_FOUND, "this is the app itself: progress streams are at the sidecar's address")
            }
            _ => refuse(StatusCode::NOT_FOUND, "there is nothing here"),
        })
    }

    async fn start(&self, request: Request<Incoming>) -> Response<AnswerBody> {
        if !is_json(request.headers()) {
            return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send the job as application/json");
        }
        let user = user(request.headers());
        let Ok(body) = Limited::new(request.into_body(), MAX_BODY).collect().await else {
            return refuse(StatusCode::PAYLOAD_TOO_LARGE, "the job's description is too long or was cut off");
        };
        let Ok(NewVideo { kind }) = serde_json::from_slice(&body.to_bytes()) else {
            let sentence = r#"send {"kind": K}, where K is "quick", "slow", "failing", "stuck" or "retried""#;
            return refuse(StatusCode::BAD_REQUEST, sentence);
        };
        match self.library.start(kind, user) {
            Ok(video) => {
                let mut response = json_of(StatusCode::CREATED, &video);
                let location = HeaderValue::try_from(format!("/api/videos/{}", video.id));
                response.headers_mut().insert(LOCATION, location.expect("an id of ours is plain ASCII"));
                response
            }
            Err(full) => refuse(StatusCode::SERVICE_UNAVAILABLE, &full.to_string()),
        }
    }

    fn status(&self, id: &str) -> Response<AnswerBody> {
        self.tally.status_read();
        match self.library.get(id) {
            Some(video) => json_of(StatusCode::OK, &video),
            None => refuse(StatusCode::NOT_FOUND, "there is no such video"),
        }
    }

    fn remove(&self, id: &str, user: &Session) -> Response<AnswerBody> {
        if !self.library.remove(id, user) {
            return refuse(StatusCode::NOT_FOUND, "you have no such video");
        }
        let mut response = Response::new(Full::default().boxed_unsync());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    }

    fn notify(self: Arc<Self>, user: Session) -> Response<AnswerBody> {
        let frames = notifications(self, user).map(|frame| Ok(Frame::data(frame)));
        with_type("text/event-stream", StreamBody::new(frames).boxed_unsync())
    }

    fn stats(&self) -> Response<AnswerBody> {
        json_of(StatusCode::OK, &Stats { counts: self.tally.counts(), dashboard: self.dashboard.as_deref() })
    }
}

// === requests ===

fn user(headers: &HeaderMap) -> Session {
    Session::of(headers).unwrap_or_else(Session::anonymous)
}

/// A foreign page can have a browser post forms and plain text to us, but not JSON: for that it has to ask us first.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

// === answers ===

fn page(headers: &HeaderMap) -> Response<AnswerBody> {
    let mut response = text("text/html; charset=utf-8", include_str!("page.html"));
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    if Session::of(headers).is_none() {
        let cookie = HeaderValue::try_from(Session::fresh().cookie());
        response.headers_mut().insert(SET_COOKIE, cookie.expect("a session is hexadecimal"));
    }
    response
}

fn restart(headers: &HeaderMap) -> Answer {
    if !is_json(headers) {
        let sentence = "send an empty JSON object, as application/json";
        return (refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, sentence), ControlFlow::Continue(()));
    }
    (json_of(StatusCode::ACCEPTED, &json!({ "restarting": true })), ControlFlow::Break(()))
}

fn text(content_type: &'static str, body: &'static str) -> Response<AnswerBody> {
    with_type(content_type, Full::new(Bytes::from_static(body.as_bytes())).boxed_unsync())
}

fn json_of(status: StatusCode, answer: &impl Serialize) -> Response<AnswerBody> {
    let body = serde_json::to_vec(answer).expect("the app's answers are plain structs with string keys");
    let mut response = with_type("application/json", Full::new(Bytes::from(body)).boxed_unsync());
    *response.status_mut() = status;
    response
}

fn refuse(status: StatusCode, sentence: &str) -> Response<AnswerBody> {
    json_of(status, &json!({ "error": sentence }))
}

fn refuse_method(allowed: &'static str) -> Response<AnswerBody> {
    let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, &format!("this answers {allowed} only"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

fn with_type(content_type: &'static str, body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    // A browser that kept the page or its script would show an older demo after an update.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}
