//! Streams: who is turned away and how, and how much is kept for those who come back.

use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    NOTIFICATIONS, NOTIFICATIONS_PATH, PROGRESS,
    app::{Answer, App},
    client::{Client, End},
    progress, running, running_text,
    sidestream::Sidestream,
};

/// The hint in milliseconds of an answer that is nothing else.
fn hint(text: &str) -> u64 {
    let hint = text.strip_prefix("retry: ").unwrap_or_else(|| panic!("not a hint: {text:?}"));
    hint.trim_end().parse().unwrap_or_else(|_| panic!("more than a hint: {text:?}"))
}

/// It was asked for before the drain began, and would begin in it: the app took its time.
#[tokio::test]
async fn a_stream_that_would_begin_in_the_drain_is_asked_to_come_back() {
    let app = App::start();
    let late = Answer::text(200, "data: a\n\n").header("Content-Type", "text/event-stream");
    app.at("/late").answer(late.after(Duration::from_secs(3)));
    app.job("v1").answer(running(1));
    // So long that the open stream's moment does not come meanwhile: it keeps the program there to be asked.
    let mut side = Sidestream::before(&app).route(PROGRESS).flag("--drain", "1000h").start().await;
    let mut open = side.sse("/api/progress/v1").open().await;
    open.next_event().await;
    let late = side.sse("/late").send().await;
    app.at("/late").requests(1).await;

    side.signal(Signal::TERM);
    side.log_line("the drain", |line| line.contains("\"draining\"")).await;
    let mut late = Client::read(late, "GET").await;
    let end = late.read_to_end().await;

    assert_eq!((late.status(), end), (200, End::Clean));
    assert!((15_000..45_000).contains(&hint(&late.text())), "{:?}", late.text());
    assert_eq!(side.metric("connections_rejected_total", &[("reason", "drain")]).await, 1.0);
    assert_eq!(side.metric("connections_active", &[("transport", "guarded")]).await, 0.0);
    side.signal(Signal::TERM);
}

/// Its 200 went out while the app was in trouble; when it is admitted at last there is no topic left for it. So the stream
/// ends, with the hint that everybody gets over a limit.
#[tokio::test]
async fn a_client_that_is_admitted_too_late_for_a_topic_is_asked_to_come_back() {
    let app = App::start();
    app.job("late").answers([Answer::text(503, "not now"), running(1)]);
    app.job("first").answer(running(1));
    let side = Sidestream::before(&app)
        .route(&progress("share=authorized,errors=off"))
        .flag("--max-topics", "1")
        .start()
        .await;
    let mut first = side.sse("/api/progress/first").open().await;
    first.next_event().await;
    let mut late = side.sse("/api/progress/late").open().await;
    assert_eq!(late.status(), 200);

    let (events, end) = late.rest().await;

    assert_eq!((events, end), (Vec::new(), End::Clean));
    let text = late.text();
    let (_, text) = text.split_at(text.find("retry").expect("a hint"));
    assert!((15_000..45_000).contains(&hint(text)), "{text:?}");
    side.until_metric("connections_closed_total", &[("reason", "error")], 1.0).await;
    assert_eq!(side.metric("connections_rejected_total", &[("reason", "max_topics")]).await, 1.0);
    app.job("first").answer(running(2));
    assert_eq!(first.next_event().await.data, Some(running_text(2)));
}

/// The window holds 1,024 events and 256 KiB, and of the last ten seconds 2 MiB. Who returns with an id from before it gets what a newcomer gets.
#[tokio::test]
async fn who_returns_with_an_id_from_before_the_window_is_a_newcomer_and_counted() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route(NOTIFICATIONS).start().await;
    let mut stays = side.sse("/notifications").open().await;
    let stream = events.accept().await;
    let pad = "x".repeat(400 * 1024);
    for n in 0..8 {
        stream.send(format!("id: {n}\ndata: {n} {pad}\n\n")).await;
        stays.next_event().await;
    }

    let mut old = side.sse("/notifications").last_event_id("1").open().await;
    let mut known = side.sse("/notifications").last_event_id("6").open().await;
    stream.send("id: 8\ndata: eight\n\n").await;

    assert_eq!(known.next_event().await.id(), "7");
    assert_eq!(known.next_event().await.id(), "8");
    assert_eq!(old.next_event().await.id(), "8");
    assert_eq!(side.metric("replay_misses_total", &[("route", NOTIFICATIONS_PATH)]).await, 1.0);
}

/// A greeting is kept as long as its topic, so it is bounded like the window.
#[tokio::test]
async fn a_greeting_that_would_grow_over_its_bound_is_cut_short() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route(&format!("{NOTIFICATIONS},greeting=2")).start().await;
    let mut first = side.sse("/notifications").open().await;
    let stream = events.accept().await;
    let pad = "x".repeat(150 * 1024);
    for n in 0..2 {
        stream.send(format!("data: {n} {pad}\n\n")).await;
        first.next_event().await;
    }

    let mut newcomer = side.sse("/notifications").open().await;
    let greeting = newcomer.next_event().await.data.expect("an event has data");
    stream.send("data: news\n\n").await;

    assert!(greeting.starts_with("0 "));
    assert_eq!(newcomer.next_event().await.data.as_deref(), Some("news"));
    // The second event was one of the two, also without room in it: no later one takes its place.
    let mut third = side.sse("/notifications").open().await;
    assert!(third.next_event().await.data.is_some_and(|data| data.starts_with("0 ")));
    stream.send("data: more\n\n").await;
    assert_eq!(third.next_event().await.data.as_deref(), Some("more"));
    assert_eq!(side.metric("greeting_cuts_total", &[("route", NOTIFICATIONS_PATH)]).await, 1.0);
}
