use std::{
    future::poll_fn,
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use prometheus::Registry;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    connections::{ConnState, Limits, Seat},
    metrics::{CloseReason, FrameKind, InvalidStateSide, RejectReason, RouteMetrics},
    upstream::BoxError,
    wire::Wire,
};

const ID: RouteId = RouteId(0);
const HEARTBEAT: Duration = Duration::from_secs(15);
const PACING: Pacing = Pacing { heartbeat: HEARTBEAT, form: HeartbeatForm::Comment, retry: Duration::from_secs(3) };

/// The list of streams and the counts behind a guard.
struct Fixture {
    connections: Arc<Connections>,
    metrics: Arc<Metrics>,
}

/// A body that the test feeds; its receiver's drop is the cancelled request at the app.
struct Fed(mpsc::Receiver<Result<Frame<Bytes>, BoxError>>);

/// The app's end of a [`Fed`] body.
struct App(Option<mpsc::Sender<Result<Frame<Bytes>, BoxError>>>);

impl Fixture {
    fn new(connections: usize) -> Self {
        let metrics = Arc::new(Metrics::register(&Registry::new(), &[ROUTE.to_owned()]).unwrap());
        let limits = Limits { connections, per_ip: 0, stale_after: HEARTBEAT * 2, reap_after: HEARTBEAT * 4 };
        Self { connections: Connections::new(limits, Arc::clone(&metrics)), metrics }
    }

    fn seat(&self) -> Seat {
        let Client { ip, conn } = client();
        self.connections.permit(ID, ip, Transport::Guarded).unwrap().listed(conn)
    }

    fn stream(&self, pacing: Pacing) -> (App, GuardedBody<Fed>) {
        let (sender, receiver) = mpsc::channel(16);
        (App(Some(sender)), GuardedBody::new(Fed(receiver), self.seat(), pacing, Arc::clone(&self.metrics)))
    }

    fn guard(&self) -> Guard {
        Guard::new(ID, Arc::clone(&self.connections), PACING, Arc::clone(&self.metrics))
    }

    fn counts(&self) -> &RouteMetrics {
        self.metrics.route(ID)
    }
}

impl App {
    fn says(&self, bytes: &'static str) {
        self.sends(Ok(Frame::data(Bytes::from_static(bytes.as_bytes()))));
    }

    fn sends(&self, frame: Result<Frame<Bytes>, BoxError>) {
        self.0.as_ref().expect("the stream goes on").try_send(frame).unwrap();
    }

    fn ends(&mut self) {
        self.0 = None;
    }

    fn is_cancelled(&self) -> bool {
        self.0.as_ref().is_some_and(mpsc::Sender::is_closed)
    }
}

impl Body for Fed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(cx)
    }
}

/// A client whose socket takes everything: nothing is ever written to it here.
fn client() -> Client {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let wire = Wire::new(tokio::net::TcpStream::from_std(socket).unwrap());
    let conn = ConnState { wire: wire.state(), abort: CancellationToken::new() };
    Client { ip: IpAddr::from([192, 0, 2, 7]), conn: Arc::new(conn) }
}

async fn next(body: &mut GuardedBody<Fed>) -> Option<Result<Frame<Bytes>, BoxError>> {
    poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}

async fn next_text(body: &mut GuardedBody<Fed>) -> String {
    let bytes = next(body).await.expect("the stream goes on").unwrap().into_data().expect("data");
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What comes within `time`; the rest of the time passes in silence.
async fn within(time: Duration, body: &mut GuardedBody<Fed>) -> Vec<String> {
    let end = Instant::now() + time;
    let mut texts = Vec::new();
    while let Ok(text) = tokio::time::timeout_at(end, next_text(body)).await {
        texts.push(text);
    }
    texts
}

// === the body ===

#[tokio::test(start_paused = true)]
async fn silence_between_events_is_filled_and_silence_inside_one_is_not() {
    let fixture = Fixture::new(1);
    let (app, mut body) = fixture.stream(PACING);

    assert_eq!(within(HEARTBEAT * 2, &mut body).await, [":\n", ":\n"], "the app may think long before its first event");
    app.says("data: ha");
    assert_eq!(next_text(&mut body).await, "data: ha");
    assert_eq!(within(HEARTBEAT * 10, &mut body).await, [""; 0]);
    app.says("lf\n");
    assert_eq!(within(HEARTBEAT * 10, &mut body).await, ["lf\n"]);
    app.says("\n");
    assert_eq!(within(HEARTBEAT, &mut body).await, ["\n", ":\n"]);

    assert_eq!(fixture.counts().frames_sent_count(FrameKind::Heartbeat), 3);
    assert_eq!(fixture.counts().frames_sent_count(FrameKind::Event), 1);
    assert_eq!(fixture.counts().sent_bytes.get(), 3 * 2 + "data: half\n\n".len() as u64);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_comes_only_after_the_whole_interval() {
    let fixture = Fixture::new(1);
    let (app, mut body) = fixture.stream(PACING);

    for _ in 0..3 {
        assert_eq!(within(HEARTBEAT - Duration::from_millis(2), &mut body).await, [""; 0]);
        app.says("data: x\n\n");
        assert_eq!(next_text(&mut body).await, "data: x\n\n");
    }
}

// A block of its own behind the app's comment would end the app's block; and none at all would let the stream die.
#[tokio::test(start_paused = true)]
async fn behind_a_comment_of_the_app_every_form_is_a_comment() {
    for form in [HeartbeatForm::Comment, HeartbeatForm::CommentBlock, HeartbeatForm::Event] {
        let fixture = Fixture::new(1);
        let (app, mut body) = fixture.stream(Pacing { form, ..PACING });
        app.says(": connected\n");

        assert_eq!(within(HEARTBEAT, &mut body).await, [": connected\n", ":\n"]);
        app.says("\n");
        assert_eq!(within(HEARTBEAT, &mut body).await, [b"\n", &form.frame()[..]].map(text));
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_drain_ends_a_quiet_stream_with_a_hint_and_cancels_it_at_the_app() {
    let fixture = Fixture::new(1);
    let (app, mut body) = fixture.stream(PACING);
    app.says("data: a\n\n");
    next_text(&mut body).await;

    fixture.connections.drain(Duration::from_secs(1));
    let hint = next_text(&mut body).await;

    let retry = hint.strip_prefix("retry: ").and_then(|rest| rest.strip_suffix('\n')).unwrap();
    assert!((2_000..=4_000).contains(&retry.parse::<u64>().unwrap()), "{hint:?}");
    assert!(app.is_cancelled() && body.is_end_stream() && next(&mut body).await.is_none());
    drop(body);
    assert_eq!((fixture.counts().closed_count(CloseReason::Drain), fixture.counts().active()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_drain_waits_for_the_end_of_an_event_also_inside_a_chunk() {
    let fixture = Fixture::new(1);
    let (app, mut body) = fixture.stream(PACING);
    app.says("data: ha");
    next_text(&mut body).await;

    fixture.connections.drain(Duration::ZERO);
    assert_eq!(within(HEARTBEAT, &mut body).await, [""; 0]);
    app.says("lf");
    assert_eq!(next_text(&mut body).await, "lf");
    app.says("\r\n\r\ndata: b\r\n\r\ndata: c");
    let last = next_text(&mut body).await;

    assert!(last.starts_with("\r\n\r\ndata: b\r\n\r\nretry: "), "{last:?}");
    assert!(app.is_cancelled() && next(&mut body).await.is_none());
    assert_eq!(fixture.counts().frames_sent_count(FrameKind::Event), 2);
}

// A clean end in the middle of it would pass for the whole answer.
#[tokio::test(start_paused = true)]
async fn the_drain_lets_an_answer_to_a_post_finish() {
    let fixture = Fixture::new(1);
    let (mut app, body) = fixture.stream(PACING);
    let mut body = body.ends_at_drain(false);
    fixture.connections.drain(Duration::ZERO);
    app.says("data: a\n\n");
    assert_eq!(within(HEARTBEAT, &mut body).await, ["data: a\n\n", ":\n"]);
    app.says("data: b\n\n");
    app.ends();

    assert_eq!(next_text(&mut body).await, "data: b\n\n");
    assert!(next(&mut body).await.is_none());
    drop(body);
    assert_eq!(fixture.counts().closed_count(CloseReason::Upstream), 1);
}

#[tokio::test(start_paused = true)]
async fn an_end_is_clean_between_events_and_a_cut_inside_one() {
    for (said, is_cut) in [("data: a\n\n", 0), ("data: a\n\n: bye", 0), ("data: a\n", 1), ("data: a\n\nda", 1)] {
        let fixture = Fixture::new(1);
        let (mut app, mut body) = fixture.stream(PACING);
        app.says(said);
        app.ends();

        assert_eq!(next_text(&mut body).await, said);
        assert!(next(&mut body).await.is_none());
        drop(body);
        assert_eq!(fixture.counts().invalid_state_count(InvalidStateSide::Upstream), is_cut, "{said:?}");
        assert_eq!(fixture.counts().closed_count(CloseReason::Upstream), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_is_passed_on_as_broken() {
    let fixture = Fixture::new(1);
    let (app, mut body) = fixture.stream(PACING);
    app.sends(Err("cut".into()));

    assert_eq!(next(&mut body).await.expect("an error").unwrap_err().to_string(), "cut");
    assert!(next(&mut body).await.is_none());
    drop(body);
    assert_eq!(fixture.counts().invalid_state_count(InvalidStateSide::Upstream), 1);
    assert_eq!(fixture.counts().closed_count(CloseReason::Upstream), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_cancels_the_stream_at_the_app() {
    let fixture = Fixture::new(1);
    let (app, body) = fixture.stream(PACING);
    assert_eq!(fixture.counts().active(), 1);

    drop(body);

    assert!(app.is_cancelled());
    assert_eq!((fixture.counts().closed_count(CloseReason::Client), fixture.counts().active()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn trailers_are_passed_on() {
    let fixture = Fixture::new(1);
    let (mut app, mut body) = fixture.stream(PACING);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("1"));
    app.sends(Ok(Frame::trailers(trailers.clone())));
    app.ends();

    assert_eq!(next(&mut body).await.unwrap().unwrap().into_trailers().unwrap(), trailers);
    assert!(next(&mut body).await.is_none());
}

// === the decision ===

fn request(method: Method, accept: &[&'static str]) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = method;
    for accept in accept {
        request.headers_mut().append(header::ACCEPT, HeaderValue::from_static(accept));
    }
    request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, br"));
    request
}

fn answer(status: u16, headers: &[(&'static str, &'static str)]) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Text(Some(Bytes::from_static(b"data: x\n\n"))));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        response.headers_mut().append(*name, HeaderValue::from_static(value));
    }
    response
}

fn is_guarded(response: &Response<ResponseBody>) -> bool {
    matches!(response.body(), ResponseBody::Boxed(_))
}

#[tokio::test]
async fn event_streams_are_guarded_and_nothing_else_is() {
    let guard = Fixture::new(10).guard();
    let sse = ("content-type", "text/event-stream");
    let guarded = |method, status, headers: &[_]| {
        let asked = guard.prepare(&mut request(method, &[]), client());
        let mut expected = answer(status, headers).headers().clone();
        let response = guard.wrap(answer(status, headers), asked);
        if is_guarded(&response) {
            set_stream_headers(&mut expected);
        }
        assert_eq!(response.headers(), &expected);
        is_guarded(&response)
    };
    for content_type in ["text/event-stream", "Text/Event-Stream; charset=utf-8", "text/event-stream ;x=\"y\""] {
        assert!(guarded(Method::GET, 200, &[("content-type", content_type)]), "{content_type}");
    }
    assert!(guarded(Method::POST, 200, &[sse]));
    for encoding in ["identity", "none", "UTF-8", ""] {
        assert!(guarded(Method::GET, 200, &[sse, ("content-encoding", encoding)]), "{encoding}");
    }

    for content_type in ["text/html", "text/event-stream2", "application/json; x=text/event-stream", ""] {
        assert!(!guarded(Method::GET, 200, &[("content-type", content_type)]), "{content_type}");
    }
    assert!(!guarded(Method::GET, 200, &[]));
    assert!(!guarded(Method::HEAD, 200, &[sse]));
    assert!(!guarded(Method::GET, 200, &[sse, ("content-encoding", "gzip")]));
    for status in [204, 206, 304, 401, 500] {
        assert!(!guarded(Method::GET, status, &[sse]), "{status}");
    }
}

#[test]
fn the_headers_of_a_stream_go_on_top_of_the_apps() {
    let after = |headers: &[(&'static str, &'static str)], name: &str| {
        let mut headers = answer(200, headers).headers().clone();
        set_stream_headers(&mut headers);
        headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(after(&[("content-length", "9")], "content-length"), [""; 0]);
    assert_eq!(after(&[("x-accel-buffering", "yes")], "x-accel-buffering"), ["no"]);
    assert_eq!(after(&[], "cache-control"), ["no-cache, no-transform"]);
    assert_eq!(after(&[("cache-control", "max-age=60, public")], "cache-control"), ["no-cache, no-transform"]);
    // What the app forbids stays forbidden.
    assert_eq!(
        after(&[("cache-control", "Private=\"x\""), ("cache-control", "no-store")], "cache-control"),
        ["no-cache, no-transform, private, no-store"]
    );
    assert_eq!(after(&[], "vary"), ["Accept"]);
    assert_eq!(after(&[("vary", "Cookie")], "vary"), ["Cookie", "Accept"]);
    assert_eq!(after(&[("vary", "Cookie, accept")], "vary"), ["Cookie, accept"]);
    assert_eq!(after(&[("vary", "*")], "vary"), ["*"]);
}

#[tokio::test]
async fn only_who_asks_for_an_event_stream_gives_up_compression() {
    let guard = Fixture::new(1).guard();
    let encoding = |accept: &[&'static str]| {
        let mut request = request(Method::POST, accept);
        guard.prepare(&mut request, client());
        request.headers()[header::ACCEPT_ENCODING].to_str().unwrap().to_owned()
    };
    assert_eq!(encoding(&["text/event-stream"]), "identity");
    assert_eq!(encoding(&["application/json", "text/html, Text/Event-Stream;q=0.5"]), "identity");
    for accept in [&[][..], &["*/*"], &["text/html"], &["text/event-stream;q=0"]] {
        assert_eq!(encoding(accept), "gzip, br", "{accept:?}");
    }
}

// 503 would end an EventSource for good; and the answer to a POST is not to be thrown away.
#[tokio::test]
async fn over_the_limit_an_event_source_comes_back_and_others_go_without_guard() {
    let fixture = Fixture::new(1);
    let guard = fixture.guard();
    let _taken = fixture.seat();
    let sse = [("content-type", "text/event-stream")];
    let turned_away = async |method, accept: &[&'static str]| {
        let asked = guard.prepare(&mut request(method, accept), client());
        let body = guard.wrap(answer(200, &sse), asked).into_body().collect().await.unwrap().to_bytes();
        body.starts_with(b"retry: ")
    };
    assert!(turned_away(Method::GET, &["text/event-stream"]).await);
    assert!(!turned_away(Method::GET, &["*/*"]).await);
    assert!(!turned_away(Method::POST, &["text/event-stream"]).await);

    assert_eq!(fixture.metrics.rejected_count(RejectReason::MaxConnections), 3);
    assert_eq!(fixture.counts().opened_count(), 1);
}
