//! Coming back: by `Last-Event-ID`, with the latest, with a greeting.

use crate::harness::{
    NOTIFICATIONS_PATH,
    app::{App, Stream},
    client::Client,
    sidestream::Sidestream,
};

async fn send_numbered(stream: &Stream, numbers: std::ops::Range<u32>) {
    for n in numbers {
        stream.send(format!("id: {n}\ndata: event {n}\n\n")).await;
    }
}

async fn data(client: &mut Client, count: usize) -> Vec<String> {
    let mut got = Vec::new();
    for _ in 0..count {
        got.push(client.next_event().await.data.expect("an event has data"));
    }
    got
}

#[tokio::test]
async fn a_client_that_returns_gets_what_it_missed_and_then_what_comes() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route("path=/notifications,subscribe").start().await;
    let mut witness = side.sse("/notifications").open().await;
    let stream = events.accept().await;
    send_numbered(&stream, 1..6).await;
    data(&mut witness, 5).await;

    let mut by_header = side.sse("/notifications").last_event_id("2").open().await;
    let missed = data(&mut by_header, 3).await;
    let mut by_query = side.sse("/notifications?lastEventId=4").open().await;
    let missed_by_query = data(&mut by_query, 1).await;
    send_numbered(&stream, 6..7).await;

    assert_eq!(missed, ["event 3", "event 4", "event 5"]);
    assert_eq!(missed_by_query, ["event 5"]);
    assert_eq!(data(&mut by_header, 1).await, ["event 6"]);
    assert_eq!(data(&mut by_query, 1).await, ["event 6"]);
    assert_eq!(events.opened(), 1);
    let replayed = side.metric("frames_sent_total", &[("route", NOTIFICATIONS_PATH), ("kind", "replay")]).await;
    assert_eq!(replayed, 4.0);
}

#[tokio::test]
async fn a_client_that_missed_nothing_gets_nothing_old() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route("path=/notifications,subscribe").start().await;
    let mut witness = side.sse("/notifications").open().await;
    let stream = events.accept().await;
    send_numbered(&stream, 1..4).await;
    data(&mut witness, 3).await;

    let mut back = side.sse("/notifications").last_event_id("3").open().await;
    let mut fresh = side.sse("/notifications").open().await;
    side.until_metric("connections_active", &[], 3.0).await;
    send_numbered(&stream, 4..5).await;

    assert_eq!(data(&mut back, 1).await, ["event 4"]);
    assert_eq!(data(&mut fresh, 1).await, ["event 4"]);
}

/// Where the app sends no ids, ours carry a random epoch and a number: a restart of the sidecar is a new epoch, so that
/// an old number is never taken for a new one.
#[tokio::test]
async fn our_own_ids_are_epoch_and_sequence_and_can_be_replayed_from() {
    let app = App::start();
    let events = app.events("/notifications");
    let mut epochs = Vec::new();
    for _ in 0..2 {
        let side = Sidestream::before(&app).route("path=/notifications,subscribe").start().await;
        let mut client = side.sse("/notifications").open().await;
        let stream = events.accept().await;
        stream.send("data: a\n\ndata: b\n\ndata: c\n\n").await;
        let ids: Vec<_> = [client.next_event().await, client.next_event().await, client.next_event().await]
            .map(|event| event.id().to_owned())
            .to_vec();
        let mut back = side.sse("/notifications").last_event_id(&ids[0]).open().await;

        assert_eq!(data(&mut back, 2).await, ["b", "c"]);
        let parts: Vec<_> = ids.iter().map(|id| id.rsplit_once('-').expect("epoch-sequence")).collect();
        assert!(parts.iter().all(|(epoch, _)| *epoch == parts[0].0), "{ids:?}");
        let numbers: Vec<u64> = parts.iter().map(|(_, number)| number.parse().expect("a number")).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{ids:?}");
        epochs.push(parts[0].0.to_owned());

        // Our own ids mean nothing to the app: it must not get one as a position.
        stream.cut().await;
        assert_eq!(events.accept().await.last_event_id(), None);
    }
    assert_ne!(epochs[0], epochs[1]);
}

/// After a restart the app is asked for what follows its own id, whatever that looks like, and is spared ours.
#[tokio::test]
async fn an_id_of_the_app_is_sent_on_after_a_restart_and_one_of_ours_is_not() {
    let app = App::start();
    let events = app.events("/notifications");
    let before = Sidestream::before(&app).route("path=/notifications,subscribe").start().await;
    let mut client = before.sse("/notifications").open().await;
    events.accept().await.send("data: a\n\n").await;
    let own = client.next_event().await.id().to_owned();
    drop(before);
    let side = Sidestream::before(&app).route("path=/notifications,subscribe").start().await;

    for (id, sent) in [("20261122-42", Some("20261122-42")), (own.as_str(), None)] {
        let _back = side.sse("/notifications").cookie(&format!("of={id}")).last_event_id(id).open().await;
        assert_eq!(events.accept().await.last_event_id(), sent, "{id:?}");
    }
}

/// An id that nobody knows is a client of another time; it gets what comes, never an error.
#[tokio::test]
async fn an_unknown_id_is_no_error() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route("path=/notifications,subscribe").start().await;
    let mut witness = side.sse("/notifications").open().await;
    let stream = events.accept().await;
    send_numbered(&stream, 1..3).await;
    data(&mut witness, 2).await;

    let mut clients = Vec::new();
    for id in ["", "no-such-id", "deadbeef-7", "-", "%00", &"9".repeat(5000)] {
        let client = side.sse("/notifications").last_event_id(id).open().await;
        assert_eq!(client.status(), 200, "for the id {id:?}");
        clients.push(client);
    }
    side.until_metric("connections_active", &[], 7.0).await;
    send_numbered(&stream, 3..4).await;

    for client in &mut clients {
        client.until("the next event", |body| body.contains("event 3")).await;
    }
}

#[tokio::test]
async fn replay_latest_gives_newcomers_the_last_event() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route("path=/notifications,subscribe,replay=latest").start().await;
    let mut witness = side.sse("/notifications").open().await;
    let stream = events.accept().await;
    send_numbered(&stream, 1..4).await;
    data(&mut witness, 3).await;

    let mut newcomer = side.sse("/notifications").open().await;
    let first = newcomer.next_event().await;
    send_numbered(&stream, 4..5).await;

    assert_eq!((first.id(), first.data.as_deref()), ("3", Some("event 3")));
    assert!(first.retry.is_some());
    assert_eq!(data(&mut newcomer, 1).await, ["event 4"]);
}

/// Some streams begin with a hello that their front ends wait for.
#[tokio::test]
async fn a_greeting_of_two_is_given_to_every_newcomer() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route("path=/notifications,subscribe,greeting=2").start().await;
    let mut witness = side.sse("/notifications").open().await;
    let stream = events.accept().await;
    stream.send("event: connected\ndata: you\n\ndata: {\"unread\":3}\n\n").await;
    send_numbered(&stream, 1..3).await;
    data(&mut witness, 4).await;

    let mut newcomer = side.sse("/notifications").open().await;
    let hello = newcomer.next_event().await;
    let second = newcomer.next_event().await;
    let mut back = side.sse("/notifications").last_event_id("1").open().await;
    let missed = back.next_event().await;
    send_numbered(&stream, 3..4).await;

    assert_eq!((hello.name.as_deref(), hello.data.as_deref()), (Some("connected"), Some("you")));
    assert_eq!(second.data.as_deref(), Some(r#"{"unread":3}"#));
    assert_eq!(data(&mut newcomer, 1).await, ["event 3"]);
    // Who only missed something has been greeted before; another greeting may come first, but nothing is lost.
    let mut got = vec![missed.data.expect("an event has data")];
    while got.last().is_some_and(|data| data != "event 3") {
        got.extend(data(&mut back, 1).await);
    }
    assert!(got.ends_with(&["event 2".to_owned(), "event 3".to_owned()]), "{got:?}");
}
