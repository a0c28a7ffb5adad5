//! Heartbeats keep a quiet stream alive, and never touch what is said in it.

use crate::harness::{
    NOTIFICATIONS, PROGRESS,
    app::{App, Stream},
    progress, running, running_text,
    sidestream::Sidestream,
};

/// Each form to the byte; clients with strict parsers need one or the other.
#[tokio::test]
async fn the_three_forms_are_what_the_flag_says() {
    for (form, bytes) in [
        ("comment", ":\n:\n:\n"),
        ("comment-block", ":\n\n:\n\n:\n\n"),
        ("event", "event: ping\ndata: {}\n\nevent: ping\ndata: {}\n\n"),
    ] {
        let app = App::start();
        app.job("v1").answer(running(1));
        let side = Sidestream::before(&app)
            .route(PROGRESS)
            .flag("--heartbeat-interval", "100ms")
            .flag("--heartbeat-form", form)
            .start()
            .await;
        let mut client = side.sse("/api/progress/v1").open().await;
        let first = client.next_block().await;

        client.until("three heartbeats", |body| body.len() >= first.raw.len() + bytes.len()).await;

        let after_first = client.text()[first.raw.len()..].to_owned();
        assert!(after_first.starts_with(bytes), "{form}: {after_first:?}");
    }
}

/// One newline only: the comment joins the next block, and the block is still itself.
#[tokio::test]
async fn an_event_after_heartbeats_is_whole() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app).route(&progress("heartbeat=50ms")).start().await;
    let mut client = side.sse("/api/progress/v1").open().await;
    client.next_event().await;

    client.until("heartbeats", |body| body.ends_with(":\n:\n:\n")).await;
    app.job("v1").answer(running(2));
    let next = client.next_event().await;

    assert!(next.comments >= 3);
    let own = next.raw.trim_start_matches(":\n");
    assert_eq!(own, format!("id: {}\ndata: {}\n\n", next.id(), running_text(2)));
}

/// A stream that speaks needs no heartbeat: silence is what is counted from.
#[tokio::test]
async fn a_heartbeat_comes_after_silence_only() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route(&format!("{NOTIFICATIONS},heartbeat=10s")).start().await;
    let mut client = side.sse("/notifications").open().await;
    let stream = events.accept().await;

    for n in 0..50 {
        stream.send(format!("id: {n}\ndata: {n}\n\n")).await;
        let event = client.next_event().await;
        // The first bytes leave at once, so a comment may stand before the first event.
        assert!(n == 0 || event.comments == 0, "{:?}", event.raw);
    }
}

#[tokio::test]
async fn a_quiet_subscribe_stream_gets_heartbeats_also_before_its_first_event() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route(&format!("{NOTIFICATIONS},heartbeat=50ms")).start().await;
    let mut client = side.sse("/notifications").open().await;
    let _stream = events.accept().await;

    client.until("three heartbeats", |body| body.matches(":\n").count() >= 3).await;

    side.until("heartbeats to be counted", |samples| {
        samples.get("frames_sent_total", &[("kind", "heartbeat")]) >= 3.0
            && samples.get("heartbeat_lateness_seconds_count", &[]) >= 3.0
    })
    .await;
}

/// An event stream of the app that no route names is guarded all the same.
#[tokio::test]
async fn a_pass_through_stream_gets_heartbeats_and_the_headers_of_a_stream() {
    let app = App::start();
    let events = app.events("/chat");
    events.header("X-Own", "kept");
    let side = Sidestream::before(&app).flag("--heartbeat-interval", "100ms").start().await;
    let mut client = side.sse("/chat").header("Accept-Encoding", "gzip, br").open().await;
    let stream = events.accept().await;

    stream.send("data: one\n\n").await;
    // There may be one before it, too.
    client.until("a heartbeat", |body| body.contains("data: one\n\n:\n")).await;

    assert_eq!(client.header("content-type"), Some("text/event-stream"));
    assert_eq!(client.header("cache-control"), Some("no-cache, no-transform"));
    assert_eq!(client.header("x-accel-buffering"), Some("no"));
    assert_eq!(client.header("x-own"), Some("kept"));
    assert_eq!(stream.request.header("accept-encoding"), Some("identity"));
}

/// Waits for heartbeats in a second stream that began its silence later: the first one would have had its own by then.
async fn let_heartbeats_pass(side: &Sidestream, events: &crate::harness::app::Events) {
    let mut clock = side.sse("/chat?clock").open().await;
    let _stream: Stream = events.accept().await;
    clock.until("four heartbeats", |body| body.matches(":\n").count() >= 4).await;
}

/// Half an event may hang for long: a heartbeat inside it would change it, whatever line ends the app likes.
#[tokio::test]
async fn no_heartbeat_falls_into_a_half_sent_event() {
    let app = App::start();
    let events = app.events("/chat");
    let side = Sidestream::before(&app).flag("--heartbeat-interval", "50ms").start().await;

    for (half, other_half) in [
        ("data: ha", "lf\n\n"),
        ("data: half\n", "data: more\n\n"),
        ("data: half\r", "\ndata: more\r\n\r\n"),
        ("data: half\r\n", "\r\n"),
        ("event: x\rdata: half\r", "\r"),
        ("id: 1\n", "data: x\n\n"),
    ] {
        let mut client = side.sse("/chat").open().await;
        let stream = events.accept().await;
        stream.send("data: whole\n\n").await;
        client.until("a heartbeat between events", |body| body.contains(":\n")).await;
        stream.send(half).await;
        client.until("the half", |body| body.ends_with(half)).await;
        let_heartbeats_pass(&side, &events).await;
        stream.send(other_half).await;
        let whole = format!("{half}{other_half}");
        client.until("the whole", |body| body.contains(&whole)).await;
        client.until("a heartbeat again", |body| body.ends_with(&format!("{whole}:\n"))).await;
    }
}

/// Without the heartbeats the bytes are the app's own, comments and odd line ends included.
#[tokio::test]
async fn a_pass_through_stream_is_otherwise_the_apps_own_bytes() {
    let app = App::start();
    let events = app.events("/chat");
    let side = Sidestream::before(&app).start().await;
    let text = "\u{feff}: hello\r\n\r\nretry: 10\rdata: a\r\rid: 1\ndata:b\r\n\r\ndata: tail without an end";
    let mut client = side.sse("/chat").open().await;
    let stream = events.accept().await;

    for byte in text.as_bytes() {
        stream.send([*byte]).await;
    }
    stream.close().await;
    let end = client.read_to_end().await;

    assert_eq!(client.text(), text);
    assert_eq!(end, crate::harness::client::End::Clean);
}

/// The app learns at once that its reader is gone, which is what it would have learned without us.
#[tokio::test]
async fn a_pass_through_stream_is_cancelled_upstream_when_its_client_leaves() {
    let app = App::start();
    let events = app.events("/chat");
    let side = Sidestream::before(&app).start().await;
    let mut polite = side.sse("/chat").open().await;
    let of_polite = events.accept().await;
    of_polite.send("data: a\n\n").await;
    polite.next_event().await;
    let rude = side.sse("/chat").open().await;
    let of_rude = events.accept().await;

    drop(polite);
    of_polite.closed().await;
    rude.reset();
    of_rude.closed().await;

    assert_eq!(events.open(), 0);
    side.until_quiet().await;
}

#[tokio::test]
async fn no_guard_leaves_pass_through_streams_alone() {
    let app = App::start();
    let events = app.events("/chat");
    let side = Sidestream::before(&app)
        .route(PROGRESS)
        .switch("--no-guard")
        .flag("--heartbeat-interval", "50ms")
        .start()
        .await;
    app.job("v1").answer(running(1));
    let mut client = side.sse("/chat").open().await;
    let stream = events.accept().await;
    stream.send("data: a\n\n").await;
    let mut clock = side.sse("/api/progress/v1").open().await;
    clock.until("five heartbeats elsewhere", |body| body.matches(":\n").count() >= 5).await;
    stream.send("data: b\n\n").await;
    client.until("the second event", |body| body.contains("b\n\n")).await;

    assert_eq!(client.text(), "data: a\n\ndata: b\n\n");
    assert_eq!(client.header("cache-control"), Some("no-cache"));
    assert_eq!(client.header("x-accel-buffering"), None);
}
