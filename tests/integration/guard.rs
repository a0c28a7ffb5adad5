//! Event streams of the app that no route names: kept alive in their gaps, counted, ended in good order, and otherwise
//! the app's own.

use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    app::{Answer, App},
    client::{Client, End},
    sidestream::{Builder, Sidestream},
    wire::Framing,
};

/// The label of streams without a route.
const ROUTE: (&str, &str) = ("route", "(forwarded)");

/// What a transfer may add to the process's memory: far less than the 50 MB, far more than its buffers.
const FLAT_KIB: u64 = 16 * 1024;
const LARGE: u64 = 50_000_000;

/// Heartbeats so close that no test waits for one.
fn guarding(app: &App) -> Builder {
    Sidestream::before(app).flag("--heartbeat-interval", "50ms")
}

/// What a client reads, without the heartbeats.
fn without_heartbeats(client: &Client) -> String {
    client.text().replace(":\n", "")
}

/// At least two: without chunks one read may bring several.
async fn heartbeats_behind(client: &mut Client, text: &str) {
    client.until("two heartbeats", |body| body.contains(&format!("{text}:\n:\n"))).await;
}

/// The way of AI token streams: the question in the body, `Accept` by hand or not at all.
#[tokio::test]
async fn a_stream_that_answers_a_post_is_guarded_and_the_question_arrives() {
    let app = App::start();
    let events = app.events("/chat");
    let side = guarding(&app).start().await;
    let ask = side.request("POST", "/chat").header("Content-Type", "application/json");

    for (accept, encoding) in [("text/event-stream", "identity"), ("*/*", "gzip, br")] {
        let request = ask.clone().header("Accept", accept).header("Accept-Encoding", "gzip, br");
        let mut client = request.body(b"{\"q\":1}").open().await;
        let stream = events.accept().await;
        // The app thinks before its first word.
        heartbeats_behind(&mut client, "").await;
        stream.send("data: to").await;
        stream.send("ken\n\n").await;
        heartbeats_behind(&mut client, "data: token\n\n").await;
        stream.close().await;

        assert_eq!(client.read_to_end().await, End::Clean);
        assert_eq!((stream.request.method.as_str(), &stream.request.body[..]), ("POST", &b"{\"q\":1}"[..]));
        assert_eq!(stream.request.header("accept-encoding"), Some(encoding), "{accept}");
    }
}

/// nginx before 1.29.7 speaks 1.0 to us: no chunks, and the connection's end is the stream's.
#[tokio::test]
async fn an_http_1_0_client_gets_a_stream_that_ends_with_its_connection() {
    let app = App::start();
    let events = app.events("/chat");
    let side = guarding(&app).start().await;
    for (is_cut, expected) in [(false, End::Clean), (true, End::Cut)] {
        let mut client = side.sse("/chat").http_1_0().open().await;
        let stream = events.accept().await;
        stream.send("data: a\n\n").await;
        heartbeats_behind(&mut client, "data: a\n\n").await;
        if is_cut {
            stream.cut().await;
        } else {
            stream.close().await;
        }

        assert_eq!(client.framing(), Framing::UntilClose);
        assert_eq!(client.header("x-accel-buffering"), Some("no"));
        assert_eq!(client.read_to_end().await, expected);
    }
}

/// The same where the app announced a length, which the guard takes away and with it what would show the cut.
#[tokio::test]
async fn a_cut_before_the_announced_length_is_a_cut_for_an_http_1_0_client_too() {
    let app = App::start();
    let answer = Answer::text(200, "data: a\n\ndata: b\n\n").header("Content-Type", "text/event-stream");
    app.at("/chat").answer(answer.cut());
    let side = guarding(&app).start().await;

    let mut client = side.sse("/chat").http_1_0().open().await;

    assert_eq!(client.read_to_end().await, End::Cut);
    assert_eq!((client.text().as_str(), client.framing()), ("data: a\n\n", Framing::UntilClose));
    side.until_metric("invalid_state_errors_total", &[ROUTE, ("side", "upstream")], 1.0).await;
}

/// A CRLF in two pieces with a heartbeat between them, which must not make a blank line of the LF.
#[tokio::test]
async fn a_heartbeat_between_the_halves_of_a_line_end_changes_nothing() {
    let app = App::start();
    let events = app.events("/chat");
    let side = guarding(&app).start().await;
    let mut client = side.sse("/chat").open().await;
    let stream = events.accept().await;

    stream.send("data: a\r\n\r").await;
    heartbeats_behind(&mut client, "data: a\r\n\r\n").await;
    stream.send("\n").await;
    stream.send(": of the app\r\n").await;
    heartbeats_behind(&mut client, ": of the app\r\n").await;
    stream.send("data: b\r\n\r\n").await;
    client.until("the second event", |body| body.ends_with("data: b\r\n\r\n")).await;

    assert_eq!(without_heartbeats(&client), "data: a\r\n\r\n: of the app\r\ndata: b\r\n\r\n");
}

/// Behind a heartbeat a byte order mark is no mark any more, but a part of the first field's name.
#[tokio::test]
async fn a_byte_order_mark_after_a_long_silence_costs_no_event() {
    let app = App::start();
    let events = app.events("/chat");
    let side = guarding(&app).start().await;
    let mut client = side.sse("/chat").open().await;
    let stream = events.accept().await;

    heartbeats_behind(&mut client, "").await;
    let bytes = "\u{feff}data: a\n\n".as_bytes();
    stream.send(&bytes[..2]).await;
    stream.send(&bytes[2..]).await;
    let event = client.next_event().await;

    assert_eq!(event.data.as_deref(), Some("a"));
    assert!(!client.text().contains('\u{feff}'));
}

/// What can't be looked into, and what is no stream, stays as it is, with its length.
#[tokio::test]
async fn compressed_streams_and_answers_without_a_body_are_left_alone() {
    let app = App::start();
    let sse = |answer: Answer| answer.header("Content-Type", "text/event-stream");
    app.at("/gzip").answer(sse(Answer::text(200, "pretend this is gzip")).header("Content-Encoding", "gzip"));
    app.at("/head").answer(sse(Answer::text(200, "data: x\n\n")));
    app.at("/refused").answer(sse(Answer::text(401, "data: x\n\n")));
    let side = guarding(&app).start().await;

    let gzip = side.sse("/gzip").fetch().await;
    let head = side.request("HEAD", "/head").fetch().await;
    let refused = side.sse("/refused").fetch().await;

    for (client, length) in [(&gzip, "20"), (&head, "9"), (&refused, "9")] {
        assert_eq!(client.header("content-length"), Some(length));
        assert_eq!(client.header("x-accel-buffering"), None);
        assert_eq!(client.header("cache-control"), None);
    }
    assert_eq!((gzip.text().as_str(), refused.status()), ("pretend this is gzip", 401));
    assert_eq!(side.metric("connections_opened_total", &[ROUTE]).await, 0.0);
}

/// A stream that is whole when it comes has a length, and heartbeats would make it a lie.
#[tokio::test]
async fn a_guarded_stream_has_no_length_and_keeps_the_connection() {
    let app = App::start();
    let text = "data: a\n\ndata: b\n\n";
    let answer = Answer::text(200, text).header("Content-Type", "Text/Event-Stream; charset=utf-8");
    app.at("/whole").answer(answer.header("Cache-Control", "private").header("Vary", "Cookie"));
    let side = guarding(&app).start().await;

    let first = side.sse("/whole").fetch().await;

    assert_eq!((first.text().as_str(), first.framing()), (text, Framing::Chunked));
    assert_eq!(first.header("content-type"), Some("text/event-stream"));
    assert_eq!(first.header("cache-control"), Some("no-cache, no-transform, private"));
    assert_eq!(first.head.all("vary"), ["Cookie", "Accept"]);
    let mut wire = first.into_wire();
    wire.send(&side.sse("/whole").bytes()).await.expect("the connection is kept");
    let mut second = Client::read(wire, "GET").await;
    second.read_to_end().await;
    assert_eq!(second.text(), text);
}

/// The same bytes and the same headers as from the app itself, whatever odd things they are.
#[tokio::test]
async fn no_guard_leaves_every_byte_and_header_as_it_was() {
    let app = App::start();
    let text = "\u{feff}: hello\r\n\r\nretry: 10\rdata: a\r\rid: 1\ndata:b\r\n\r\n:\n:\ndata: tail without an end";
    let answer = Answer::text(200, text).header("Content-Type", "text/event-stream").header("Vary", "Cookie");
    app.at("/chat").answer(answer.header("Cache-Control", "max-age=1").header("X-Accel-Buffering", "yes"));
    let side = guarding(&app).switch("--no-guard").start().await;
    let request = side.sse("/chat").header("Accept-Encoding", "gzip");

    let through = request.fetch().await;
    let seen = app.at("/chat").seen().remove(0);
    let direct = crate::harness::client::Request::new(app.addr(), "GET", "/chat").fetch().await;

    let sorted = |client: &Client| {
        let headers = client.head.headers.iter();
        let mut headers: Vec<_> = headers.map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
        // hyper adds a date where the app sent none, as a proxy should.
        headers.retain(|(name, _)| name != "date");
        headers.sort();
        headers
    };
    assert_eq!(through.text().as_bytes(), direct.text().as_bytes());
    assert_eq!(sorted(&through), sorted(&direct));
    assert_eq!(seen.header("accept-encoding"), Some("gzip"));
    assert!(!side.metrics().await.has("connections_active", &[ROUTE]));
}

#[tokio::test]
async fn guarded_streams_are_counted_apart_and_listed() {
    let app = App::start();
    let events = app.events("/chat");
    let side = guarding(&app).start().await;
    let mut client = side.sse("/chat").open().await;
    let stream = events.accept().await;
    stream.send("data: a\n\ndata: b\n\ndata: c").await;
    client.until("the events", |body| body.contains("data: c")).await;

    side.until_metric("connections_active", &[ROUTE, ("transport", "guarded")], 1.0).await;
    let stats = side.stats().await;
    stream.send("\n\n").await;
    heartbeats_behind(&mut client, "data: c\n\n").await;
    stream.close().await;
    client.read_to_end().await;
    side.until_quiet().await;
    let samples = side.metrics().await;

    assert_eq!(stats["streams"]["listed"][0]["route"], "(forwarded)");
    assert_eq!(stats["routes"].as_array().and_then(|routes| routes.last()).expect("routes")["active"], 1);
    assert_eq!(samples.get("connections_closed_total", &[ROUTE, ("reason", "upstream")]), 1.0);
    assert_eq!(samples.get("frames_sent_total", &[ROUTE, ("kind", "event")]), 3.0);
    assert!(samples.get("frames_sent_total", &[ROUTE, ("kind", "heartbeat")]) >= 2.0);
    assert_eq!(samples.get("sent_bytes_total", &[ROUTE]), client.received() as f64);
    assert_eq!(samples.get("invalid_state_errors_total", &[ROUTE]), 0.0);
    assert!(!side.log_text().contains("/chat"), "a path is no matter for the log at this level");
}

/// An orderly end in the middle of an event is a cut all the same: the client loses that event.
#[tokio::test]
async fn an_end_inside_an_event_is_counted() {
    let app = App::start();
    let events = app.events("/chat");
    let side = guarding(&app).start().await;
    let labels = [ROUTE, ("side", "upstream")];
    for (at, count) in [("data: a\n\n", 0.0), ("data: a\n", 1.0)] {
        let mut client = side.sse("/chat").open().await;
        let stream = events.accept().await;
        stream.send(at).await;
        stream.close().await;
        assert_eq!(client.read_to_end().await, End::Clean);
        side.until_metric("invalid_state_errors_total", &labels, count).await;
    }
    side.until_metric("connections_closed_total", &[ROUTE, ("reason", "upstream")], 2.0).await;
}

#[tokio::test]
async fn the_drain_hints_in_a_gap_and_leaves_posts_alone() {
    let app = App::start();
    let events = app.events("/chat");
    let mut side = Sidestream::before(&app).flag("--drain", "8s").start().await;
    let mut get = side.sse("/chat").open().await;
    let of_get = events.accept().await;
    of_get.send("data: ha").await;
    get.until("the half", |body| body == "data: ha").await;
    let mut post = side.request("POST", "/chat").header("Accept", "text/event-stream").body(b"?").open().await;
    let of_post = events.accept().await;

    side.signal(Signal::TERM);
    side.log_line("the drain", |line| line.contains("\"draining\"")).await;
    // Its moment comes some time within the drain; the app goes on speaking, in chunks that never end with an event.
    let get = tokio::spawn(async move { (get.read_to_end().await, get.text()) });
    // With a pace, or it would take the others' time for all of the drain.
    while of_get.try_send("lf\n\ndata: ha").await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (end, text) = get.await.expect("the client is well");
    of_get.closed().await;
    assert!(of_post.is_open());
    of_post.send("data: answer\n\n").await;
    of_post.close().await;
    let post_end = post.read_to_end().await;

    let (said, hint) = text.rsplit_once("retry: ").expect("a hint");
    assert!(said.ends_with("half\n\n") && hint.trim_end().parse::<u64>().is_ok(), "{hint:?}");
    assert_eq!((end, post_end, post.text().as_str()), (End::Clean, End::Clean, "data: answer\n\n"));
    assert_eq!(side.wait_exit().await, Some(0));
}

/// The limit is for streams; the app's answer to a POST is not thrown away for it.
#[tokio::test]
async fn over_the_limit_an_event_source_comes_back_and_a_post_passes() {
    let app = App::start();
    let events = app.events("/chat");
    let side = guarding(&app).flag("--max-connections", "1").start().await;
    let _first = side.sse("/chat").open().await;
    let _of_first = events.accept().await;

    let mut soft = side.sse("/chat").open().await;
    let end = soft.read_to_end().await;
    events.accept().await.closed().await;
    let mut post = side.request("POST", "/chat").header("Accept", "text/event-stream").body(b"?").open().await;
    let of_post = events.accept().await;
    of_post.send("data: answer\n\n").await;
    of_post.close().await;

    assert_eq!((soft.status(), end), (200, End::Clean));
    assert!(soft.text().starts_with("retry: "), "{:?}", soft.text());
    assert_eq!(post.read_to_end().await, End::Clean);
    assert_eq!(post.text(), "data: answer\n\n");
    assert_eq!(side.metric("connections_opened_total", &[ROUTE]).await, 1.0);
}

/// However long its life is: it is the app's to end it.
#[tokio::test]
async fn max_age_is_not_for_guarded_streams() {
    let app = App::start();
    let events = app.events("/chat");
    let side = guarding(&app).flag("--max-age", "100ms").start().await;
    let mut client = side.sse("/chat").open().await;
    let stream = events.accept().await;

    client.until("many heartbeats", |body| body.matches(":\n").count() >= 10).await;
    stream.send("data: still here\n\n").await;

    assert_eq!(client.next_event().await.data.as_deref(), Some("still here"));
}

#[tokio::test]
async fn a_large_stream_leaves_the_memory_flat() {
    let app = App::start();
    app.at("/large").answer(Answer::filler(LARGE).header("Content-Type", "text/event-stream"));
    let side = guarding(&app).start().await;
    side.get("/none").fetch().await;
    let before = side.memory("VmHWM");

    let mut client = side.sse("/large").open().await;
    let end = client.drain().await;

    assert_eq!((client.received(), end), (LARGE, End::Clean));
    let grown = side.memory("VmHWM") - before;
    assert!(grown < FLAT_KIB, "{grown} KiB for a stream");
}

/// Back-pressure: the app's writing stops when the client's reading does.
#[tokio::test]
async fn a_stream_that_nobody_reads_stays_with_the_app_and_ends_with_its_client() {
    let app = App::start();
    let large = app.at("/large");
    large.answer(Answer::filler(LARGE * 1000).header("Content-Type", "text/event-stream"));
    let side = guarding(&app).start().await;
    side.get("/none").fetch().await;
    let before = side.memory("VmHWM");
    let client = side.sse("/large").receive_buffer(16 * 1024).open().await;

    // The clock is another stream, whose silence is long enough for the first to fill every buffer there is.
    let events = app.events("/chat");
    let mut clock = side.sse("/chat").open().await;
    let _stream = events.accept().await;
    clock.until("heartbeats", |body| body.matches(":\n").count() >= 10).await;
    let grown = side.memory("VmHWM") - before;
    client.reset();
    large.until("the request to be cancelled", |seen| seen[0].fate == crate::harness::app::Fate::Cancelled).await;

    assert!(grown < FLAT_KIB, "{grown} KiB for a reader that does not read");
    side.until_metric("connections_closed_total", &[ROUTE, ("reason", "client")], 1.0).await;
}

/// A status other than 200 ends an `EventSource` for good; on its way to the app alone it would have met a closed port, and
/// tried again.
#[tokio::test]
async fn an_event_source_without_a_route_is_asked_to_come_back_while_the_app_is_down() {
    let app = App::start_stopped().await;
    let side = guarding(&app).flag("--retry", "9s").start().await;

    let waits = side.sse("/live").header("Origin", "https://front.example").fetch().await;
    let fetches = side.get("/live").header("Accept", "*/*").fetch().await;
    let posts = side.request("POST", "/live").header("Accept", "text/event-stream").body(b"x").fetch().await;

    assert_eq!((waits.status(), waits.header("content-type")), (200, Some("text/event-stream")));
    let text = waits.text();
    let hint: u64 = text.strip_prefix("retry: ").and_then(|hint| hint.trim_end().parse().ok()).expect("a hint alone");
    assert!((6000..=12_000).contains(&hint), "9 s ±33 %: {hint}");
    assert_eq!(waits.header("access-control-allow-origin"), Some("https://front.example"));
    assert_eq!(waits.header("access-control-allow-credentials"), Some("true"));
    assert_eq!((fetches.status(), posts.status()), (502, 502));
    assert_eq!(side.metric("connections_opened_total", &[ROUTE]).await, 0.0);

    // Neither an answer of the app nor what comes without a guard is anything but what it was.
    app.resume();
    app.at("/live").answers([Answer::text(503, "mine"), Answer::reset()]);
    let own = side.sse("/live").fetch().await;
    assert_eq!((own.status(), own.text().as_str()), (503, "mine"));
    let broken = side.sse("/live").fetch().await;
    assert!(broken.status() == 200 && broken.text().starts_with("retry: "), "{} {}", broken.status(), broken.text());
    let bare = Sidestream::before(&app).switch("--no-guard").start().await;
    app.stop().await;
    assert_eq!(bare.sse("/live").fetch().await.status(), 502);
}
