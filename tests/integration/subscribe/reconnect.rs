//! The upstream stream breaks and comes back; clients don't notice.

use std::time::Duration;

use crate::harness::{
    NOTIFICATIONS, NOTIFICATIONS_PATH,
    app::{Answer, App},
    sidestream::Sidestream,
};

#[tokio::test]
async fn a_broken_upstream_stream_is_opened_again_from_the_last_id() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route(NOTIFICATIONS).start().await;
    let mut client = side.sse("/notifications").open().await;

    for (n, how) in ["close", "cut", "reset"].into_iter().enumerate() {
        let stream = events.accept().await;
        if n > 0 {
            let last = format!("{}", n - 1);
            assert_eq!(stream.last_event_id(), Some(last.as_str()), "before the {how}");
        }
        stream.send(format!("id: {n}\ndata: {how}\n\n")).await;
        assert_eq!(client.next_event_but(&["upstream-error"]).await.data.as_deref(), Some(how));
        match how {
            "close" => stream.close().await,
            "cut" => stream.cut().await,
            _ => stream.reset().await,
        }
    }
    events.accept().await.send("data: after all\n\n").await;

    assert_eq!(client.next_event_but(&["upstream-error"]).await.data.as_deref(), Some("after all"));
    assert_eq!(side.metric("connections_opened_total", &[("route", NOTIFICATIONS_PATH)]).await, 1.0);
}

/// Half an event that never came whole: nobody gets it, and it is counted.
#[tokio::test]
async fn a_cut_in_the_middle_of_an_event_is_counted_and_the_half_is_not_delivered() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route(NOTIFICATIONS).start().await;
    let mut client = side.sse("/notifications").open().await;
    let labels = [("side", "upstream"), ("route", NOTIFICATIONS_PATH)];

    let stream = events.accept().await;
    stream.send("id: 1\ndata: whole\n\nid: 2\ndata: ha").await;
    client.next_event().await;
    stream.cut().await;
    let again = events.accept().await;
    assert_eq!(again.last_event_id(), Some("1"));
    again.send("id: 2\ndata: half, now whole\n\n").await;
    let next = client.next_event_but(&["upstream-error"]).await;

    assert_eq!(next.data.as_deref(), Some("half, now whole"));
    assert_eq!(side.metric("invalid_state_errors_total", &labels).await, 1.0);
}

#[tokio::test]
async fn a_first_connect_while_the_app_is_down_gets_200_and_waits() {
    let app = App::start_stopped().await;
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route(&format!("{NOTIFICATIONS},heartbeat=100ms")).start().await;

    let mut client = side.sse("/notifications").open().await;
    assert_eq!(client.status(), 200);
    client.until("a heartbeat while the app is down", |body| body.contains(":\n")).await;
    app.resume();
    events.accept().await.send("data: hello\n\n").await;

    assert_eq!(client.next_event_but(&["upstream-error"]).await.data.as_deref(), Some("hello"));
}

/// HTML with 200, a 500, a redirect to the login later on: none of it is an event, none of it ends the clients' streams.
#[tokio::test]
async fn trouble_while_reconnecting_keeps_the_clients() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route(NOTIFICATIONS).start().await;
    let mut client = side.sse("/notifications").open().await;
    let stream = events.accept().await;
    stream.send("data: a\n\n").await;
    client.next_event().await;

    events.refuse(Answer::html("<html>starting up"));
    stream.cut().await;
    events.endpoint().more_requests(1).await;
    events.refuse(Answer::text(503, "starting up"));
    events.endpoint().more_requests(2).await;
    let back = app.events("/notifications");
    back.accept().await.send("data: b\n\n").await;

    let next = client.next_event_but(&["upstream-error"]).await;
    assert_eq!(next.data.as_deref(), Some("b"));
    assert!(!client.text().contains("starting up"), "{:?}", client.text());
}

/// Some apps compress whatever is asked for. Nobody could read a word of it, nor that there is none.
#[tokio::test]
async fn a_compressed_stream_is_trouble_and_not_silence() {
    let app = App::start();
    let events = app.events("/notifications");
    events.header("Content-Encoding", "gzip");
    let mut side = Sidestream::before(&app).route(NOTIFICATIONS).start().await;
    let mut client = side.sse("/notifications").open().await;

    let stream = events.accept().await;
    assert_eq!(stream.request.header("accept-encoding"), Some("identity"));
    assert_eq!(client.next_event().await.json()["reason"], "encoded");
    side.log_line("the reason", |line| line.contains("compressed")).await;
    let violations = [("route", NOTIFICATIONS_PATH), ("kind", "encoded")];
    assert!(side.metric("job_state_violations_total", &violations).await >= 1.0);
}

/// Guides to event streams have apps send this, against proxies that compress.
#[tokio::test]
async fn an_encoding_called_none_is_none() {
    let app = App::start();
    let events = app.events("/notifications");
    events.header("Content-Encoding", "none");
    let side = Sidestream::before(&app).route(NOTIFICATIONS).start().await;
    let mut client = side.sse("/notifications").open().await;

    events.accept().await.send("data: a\n\n").await;

    assert_eq!(client.next_event().await.data.as_deref(), Some("a"));
}

/// A stream that the app ends again and again must not become a tight loop.
#[tokio::test]
async fn an_app_that_ends_its_stream_at_once_is_not_asked_in_a_loop() {
    let app = App::start();
    app.at("/notifications").answer(Answer::raw(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 11\r\n\r\ndata: hi\n\n\n",
    ));
    let side = Sidestream::before(&app).route(NOTIFICATIONS).start().await;
    let _client = side.sse("/notifications").open().await;

    app.at("/notifications").requests(6).await;

    let total: Duration = crate::harness::app::gaps(&app.at("/notifications").seen()).iter().sum();
    assert!(total >= Duration::from_millis(500), "six streams within {total:?}");
}

/// The session expired: its streams end, the client's return gets the app's own answer; other sessions go on.
#[tokio::test]
async fn a_401_while_reconnecting_ends_the_streams_of_that_scope_only() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route(NOTIFICATIONS).start().await;
    let mut expired = side.sse("/notifications").cookie("s=expired").open().await;
    let of_expired = events.accept().await;
    let mut other = side.sse("/notifications").cookie("s=other").open().await;
    let of_other = events.accept().await;

    events.refuse(Answer::text(401, "log in"));
    of_expired.close().await;
    let (rest, _) = expired.rest().await;
    let again = side.sse("/notifications").cookie("s=expired").fetch().await;
    of_other.send("data: still here\n\n").await;

    assert!(rest.iter().all(|event| event.name.is_some()), "{rest:?}");
    assert_eq!((again.status(), again.text().as_str()), (401, "log in"));
    assert_eq!(other.next_event().await.data.as_deref(), Some("still here"));
    // A return that is refused or told 204 was no stream.
    side.until_metric("connections_closed_total", &[("reason", "denied")], 1.0).await;
}
