//! One upstream stream, every event to everybody, in order, once.

use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{
    NOTIFICATIONS, NOTIFICATIONS_PATH,
    app::{Answer, App},
    client::End,
    sidestream::Sidestream,
};

#[tokio::test]
async fn the_tabs_of_one_session_share_one_stream_of_the_app() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route(NOTIFICATIONS).start().await;

    let mut tabs = Vec::new();
    for _ in 0..3 {
        tabs.push(side.sse("/notifications").cookie("session=a").open().await);
    }
    side.until_metric("connections_active", &[("route", NOTIFICATIONS_PATH)], 3.0).await;
    let stream = events.accept().await;
    stream.send("event: note\nid: 17\ndata: one\ndata: two\n\n").await;

    for tab in &mut tabs {
        let event = tab.next_event().await;
        assert_eq!((event.name.as_deref(), event.id()), (Some("note"), "17"));
        assert_eq!(event.data.as_deref(), Some("one\ntwo"));
    }
    assert_eq!(events.opened(), 1);
    assert_eq!(stream.request.header("cookie"), Some("session=a"));
    let labels = [("purpose", "subscribe"), ("outcome", "ok")];
    assert_eq!(side.metric("upstream_requests_total", &labels).await, 1.0);
    assert_eq!(stream.request.header("accept"), Some("text/event-stream"));
}

/// The first block carries the retry hint, as on a poll route; later ones are the event alone.
#[tokio::test]
async fn an_event_is_sent_in_the_order_name_id_data() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route(NOTIFICATIONS).start().await;
    let mut client = side.sse("/notifications").open().await;
    let stream = events.accept().await;

    stream.send("data:first\n\n").await;
    let first = client.next_block().await;
    stream.send("data: {\"a\": [1,  2]}\nid:x y\nevent:note\nfuture: field\n\n").await;
    let second = client.next_block().await;

    assert!(first.retry.is_some(), "{:?}", first.raw);
    assert_eq!(second.raw, "event: note\nid: x y\ndata: {\"a\": [1,  2]}\n\n");
}

/// The head leaves at once; an `EventSource` is open before anything has happened.
#[tokio::test]
async fn the_head_comes_before_the_first_event_of_the_app() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route(NOTIFICATIONS).start().await;

    let client = side.sse("/notifications").open().await;

    assert_eq!((client.status(), client.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(client.header("cache-control"), Some("no-cache, no-transform"));
    events.accept().await;
}

#[tokio::test]
async fn every_event_reaches_every_subscriber_in_order_and_once() {
    const EVENTS: usize = 400;
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route(NOTIFICATIONS).start().await;
    let mut clients = JoinSet::new();
    for _ in 0..20 {
        let request = side.sse("/notifications");
        clients.spawn(async move {
            let mut client = request.open().await;
            let mut got = Vec::new();
            while got.len() < EVENTS {
                got.push(client.next_event().await.data.expect("an event has data"));
            }
            got
        });
    }
    side.until_metric("connections_active", &[("route", NOTIFICATIONS_PATH)], 20.0).await;

    let stream = events.accept().await;
    let sent: Vec<_> = (0..EVENTS).map(|n| format!("number {n}")).collect();
    for batch in sent.chunks(10) {
        let blocks: String = batch.iter().map(|data| format!("data: {data}\n\n")).collect();
        stream.send(blocks).await;
    }

    for got in clients.join_all().await {
        assert_eq!(got, sent);
    }
    let published = side.metric("events_published_total", &[("route", NOTIFICATIONS_PATH)]).await;
    let framed = side.metric("frames_sent_total", &[("route", NOTIFICATIONS_PATH), ("kind", "event")]).await;
    assert_eq!((published, framed), (EVENTS as f64, 20.0 * EVENTS as f64));
}

/// An app that sends its history when it is asked is faster than any reader; who reads at once must get all of it.
#[tokio::test]
async fn a_history_sent_in_one_go_reaches_every_reader_whole() {
    for (count, size) in [(3000, 100), (200, 5_000), (3, 400_000)] {
        let app = App::start();
        let events = app.events("/notifications");
        let side = Sidestream::before(&app).route(NOTIFICATIONS).start().await;
        let mut clients = JoinSet::new();
        for _ in 0..3 {
            let request = side.sse("/notifications");
            clients.spawn(async move {
                let mut client = request.open().await;
                for n in 0..count {
                    let event = client.next_event().await;
                    assert_eq!(event.id(), n.to_string(), "of {count} events of {size} bytes");
                }
            });
        }
        side.until_metric("connections_active", &[("route", NOTIFICATIONS_PATH)], 3.0).await;

        let pad = "x".repeat(size);
        let history: String = (0..count).map(|n| format!("id: {n}\ndata: {pad}\n\n")).collect();
        events.accept().await.send(history).await;

        clients.join_all().await;
    }
}

/// A target of its own, with parameters; the client's query is its own where there is none.
#[tokio::test]
async fn the_target_is_the_routes_or_the_clients_own_path_and_query() {
    let app = App::start();
    let (targeted, own) = (app.events("/api/sse"), app.events("/own"));
    let side = Sidestream::before(&app)
        .route("path=/live/{id},subscribe=/api/sse?job={id}")
        .route("path=/own,subscribe")
        .start()
        .await;

    let _one = side.sse("/live/a%26b?x=1").open().await;
    let _two = side.sse("/own?x=1&y=%20").open().await;

    assert_eq!(targeted.accept().await.request.target, "/api/sse?job=a%26b");
    assert_eq!(own.accept().await.request.target, "/own?x=1&y=%20");
}

/// Two paths or queries are two topics.
#[tokio::test]
async fn different_parameters_are_different_topics() {
    let app = App::start();
    let events = app.events("/own");
    let side = Sidestream::before(&app).route("path=/own,subscribe").start().await;
    let mut one = side.sse("/own?n=1").open().await;
    let mut two = side.sse("/own?n=2").open().await;

    for stream in [events.accept().await, events.accept().await] {
        stream.send(format!("data: {}\n\n", stream.request.target)).await;
    }

    assert_eq!(one.next_event().await.data.as_deref(), Some("/own?n=1"));
    assert_eq!(two.next_event().await.data.as_deref(), Some("/own?n=2"));
}

/// The bound of the replay window is the bound of what a slow reader costs: it is closed and comes back.
#[tokio::test]
async fn a_reader_that_falls_out_of_the_window_is_closed_and_the_others_go_on() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route(NOTIFICATIONS).start().await;
    let mut slow = side.sse("/notifications").receive_buffer(4096).open().await;
    let mut quick = side.sse("/notifications").open().await;
    let stream = events.accept().await;

    // More than the kernel's buffers and the window hold together.
    let pad = "x".repeat(60_000);
    for n in 0..400 {
        stream.send(format!("id: {n}\ndata: {n} {pad}\n\n")).await;
        let data = quick.next_event().await.data.expect("an event has data");
        assert!(data.starts_with(&format!("{n} ")), "the quick reader missed an event");
    }
    let peak = side.memory("VmHWM");
    let (got, end) = slow.rest().await;
    let next = got.len();
    let last = got.last().map(|event| event.id().to_owned()).expect("it had some before it fell behind");
    let back = side.sse("/notifications").last_event_id(&last).open().await;

    assert_eq!((next < 400, end), (true, End::Clean), "after {next} events");
    for (n, event) in got.iter().enumerate() {
        assert_eq!(event.id(), n.to_string(), "out of order, or not once");
    }
    assert_eq!(back.status(), 200);
    assert!(peak < 100 * 1024, "{peak} KiB for one slow reader");
    let labels = [("route", NOTIFICATIONS_PATH), ("reason", "slow")];
    side.until_metric("connections_closed_total", &labels, 1.0).await;
}

/// The last message of a legacy progress stream names the end; what follows it is a finished job.
#[tokio::test]
async fn a_clean_end_after_a_terminal_status_ends_the_topic() {
    for last in [
        "id: 9\ndata: {\"type\":\"completed\",\"videoId\":\"v1\"}\n\n",
        "id: 9\nevent: completed\ndata: fine\n\n",
        "id: 9\ndata: {\"status\":\"failed\"}\n\n",
        "id: 9\ndata: {\"status\":\"completed\"}\n\nevent: close\ndata: {}\n\ndata: [DONE]\n\n",
    ] {
        let app = App::start();
        let events = app.events("/notifications");
        let side = Sidestream::before(&app).route("path=/notifications,subscribe").start().await;
        let mut client = side.sse("/notifications").open().await;
        let stream = events.accept().await;
        stream.send("data: {\"type\":\"progress\"}\n\n").await;
        client.next_event().await;

        stream.send(last).await;
        stream.close().await;
        let (rest, end) = client.rest().await;
        let again = side.sse("/notifications").last_event_id("9").fetch().await;

        assert_eq!(rest[0].id(), "9", "{last:?}");
        assert_eq!((end, again.status()), (End::Clean, 204), "{last:?}");
        assert_eq!(events.opened(), 1, "no reconnect after {last:?}");
        // A return that is refused or told 204 was no stream.
        side.until_metric("connections_closed_total", &[("reason", "done")], 1.0).await;
    }
}

/// A refusal of the app is relayed; an `EventSource` stops on it, as it would without us.
#[tokio::test]
async fn what_the_app_refuses_on_the_first_request_is_relayed_whole() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route(NOTIFICATIONS).flag("--not-found-grace", "100ms").start().await;

    for status in [401, 403, 404] {
        events.refuse(Answer::json(&json!({"error": status})).status(status).header("X-Reason", "r"));
        let refused = side.sse("/notifications").cookie(&format!("s={status}")).fetch().await;
        assert_eq!((refused.status(), refused.text()), (status, format!("{{\"error\":{status}}}")));
        assert_eq!(refused.header("x-reason"), Some("r"));
    }
    events.refuse(Answer::text(302, "").header("Location", "/login"));
    let moved = side.sse("/notifications").cookie("s=moved").fetch().await;
    assert_eq!((moved.status(), moved.header("location")), (302, Some("/login")));
    side.until_quiet().await;
}

/// The app's way to say that there is nothing (more) to come.
#[tokio::test]
async fn a_204_of_the_app_ends_the_topic() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route(NOTIFICATIONS).start().await;
    let mut client = side.sse("/notifications").open().await;
    let stream = events.accept().await;
    stream.send("id: 1\ndata: a\n\n").await;
    client.next_event().await;

    events.refuse(Answer::text(204, ""));
    stream.close().await;
    let (rest, end) = client.rest().await;
    let again = side.sse("/notifications").last_event_id("1").fetch().await;

    assert!(rest.iter().all(|event| event.name.is_some()), "{rest:?}");
    assert_eq!(end, End::Clean);
    assert_eq!(again.status(), 204);
}

/// The upstream stream is cancelled when its last client is gone for the length of the linger, and not before.
#[tokio::test]
async fn the_upstream_stream_outlives_a_reload_and_ends_after_the_linger() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route("path=/notifications,subscribe,linger=4s").start().await;
    let mut client = side.sse("/notifications").open().await;
    let stream = events.accept().await;
    stream.send("id: 1\ndata: a\n\n").await;
    client.next_event().await;

    drop(client);
    side.until_metric("connections_active", &[], 0.0).await;
    let reloaded = side.sse("/notifications").open().await;
    stream.send("id: 2\ndata: b\n\n").await;
    let mut reloaded = reloaded;
    assert_eq!(reloaded.next_event().await.data.as_deref(), Some("b"));
    drop(reloaded);

    stream.closed().await;
    assert_eq!((events.open(), events.opened()), (0, 1));
    side.until_quiet().await;
}

/// Without a `linger=` the subscription stays for minutes: a naive app's fault is triggered by every closed stream.
#[tokio::test]
async fn a_subscription_stays_open_without_clients_by_default() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route("path=/notifications,subscribe").start().await;
    let stream_of = side.sse("/notifications").open().await;
    let stream = events.accept().await;

    drop(stream_of);
    side.until_metric("connections_active", &[], 0.0).await;
    stream.send("data: kept\n\n").await;
    let _back = side.sse("/notifications").open().await;
    side.until_metric("connections_active", &[], 1.0).await;

    assert_eq!((events.open(), events.opened()), (1, 1));
}
