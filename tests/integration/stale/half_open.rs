//! Peers that vanish without a word. A heartbeat into such a connection succeeds: it lands in the kernel's buffer.

use super::{come_back, go_dark, listed, reaped};
use crate::harness::{
    NOTIFICATIONS, NOTIFICATIONS_PATH, PROGRESS_PATH,
    app::App,
    progress, running, running_text,
    sidestream::{Builder, Sidestream},
};

const OF_ROUTE: [(&str, &str); 1] = [("route", PROGRESS_PATH)];

fn before(app: &App) -> Builder {
    Sidestream::before(app)
        .route(&progress("heartbeat=100ms"))
        .route(&format!("{NOTIFICATIONS},heartbeat=100ms"))
        .flag("--heartbeat-interval", "100ms")
        .flag("--stale-after", "500ms")
}

/// *Half-open peers counted as active.* No write of ours is ever blocked: it is the kernel that tells.
#[tokio::test]
async fn half_open_peers_are_counted_as_stale_and_then_closed() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = before(&app).flag("--reap-after", "10s").start().await;
    let mut alive = side.sse("/api/progress/v1").open().await;
    alive.next_event().await;
    let mut dead = vec![
        side.sse("/api/progress/v1").open().await,
        side.sse("/api/progress/v1").http_1_0().open().await,
        // The third way to the wire: a request with a body stays with the HTTP library.
        side.sse("/api/progress/v1").body(b"x").open().await,
    ];
    for client in &mut dead {
        client.next_event().await;
        go_dark(client);
    }

    side.until_metric("connections_stale", &OF_ROUTE, 3.0).await;
    let (blocked, unacknowledged) =
        (listed(&side, "blocked_seconds").await, listed(&side, "unacknowledged_seconds").await);
    assert_eq!(reaped(&side).await, 0.0, "stale comes before reaped");
    side.until_metric("connections_closed_total", &[("route", PROGRESS_PATH), ("reason", "stale")], 3.0).await;
    side.until_metric("connections_stale", &OF_ROUTE, 0.0).await;
    app.job("v1").answer(running(2));

    assert_eq!(blocked, [None; 4], "a write notices nothing");
    assert_eq!(unacknowledged.iter().filter(|time| time.is_some_and(|time| time >= 0.5)).count(), 3);
    assert_eq!(alive.next_event().await.data, Some(running_text(2)));
    assert_eq!(side.metric("connections_active", &OF_ROUTE).await, 1.0);
    side.until_metric("invalid_state_errors_total", &[], 0.0).await;
}

/// The same for streams that are only passed through: the app is told, and their neighbour stays.
#[tokio::test]
async fn a_half_open_reader_of_a_pass_through_stream_is_closed_and_its_upstream_too() {
    let app = App::start();
    let events = app.events("/chat");
    let side = before(&app).flag("--reap-after", "10s").start().await;
    let mut alive = side.sse("/chat").open().await;
    let living = events.accept().await;
    living.send("data: a\n\n").await;
    alive.next_event().await;
    let mut dead = side.sse("/chat").open().await;
    let mut old = side.sse("/chat").http_1_0().open().await;
    let (first, second) = (events.accept().await, events.accept().await);
    for stream in [&first, &second] {
        stream.send("data: a\n\n").await;
    }
    dead.next_event().await;
    old.next_event().await;

    go_dark(&mut dead);
    go_dark(&mut old);
    side.until_metric("connections_stale", &[("route", "(forwarded)")], 2.0).await;
    assert_eq!(listed(&side, "blocked_seconds").await, [None; 3]);
    first.closed().await;
    second.closed().await;
    living.send("data: b\n\n").await;

    side.until_metric("connections_closed_total", &[("route", "(forwarded)"), ("reason", "stale")], 2.0).await;
    side.until_metric("connections_stale", &[], 0.0).await;
    assert_eq!(alive.next_event().await.data.as_deref(), Some("b"));
    assert_eq!(side.metric("connections_active", &[]).await, 1.0);
}

/// A tunnel, a lift: who comes back before `--reap-after` has missed nothing, and is an ordinary stream again.
#[tokio::test]
async fn a_peer_that_comes_back_in_time_is_no_longer_stale_and_has_missed_nothing() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let events = app.events(NOTIFICATIONS_PATH);
    let chat = app.events("/chat");
    let side = before(&app).flag("--reap-after", "10m").start().await;
    let mut state = side.sse("/api/progress/v1").open().await;
    let mut log = side.sse(NOTIFICATIONS_PATH).open().await;
    let mut passed = side.sse("/chat").open().await;
    let (source, chat) = (events.accept().await, chat.accept().await);
    source.send("data: 0\n\n").await;
    chat.send("data: 0\n\n").await;
    for client in [&mut state, &mut log, &mut passed] {
        client.next_event().await;
        go_dark(client);
    }

    side.until_metric("connections_stale", &[], 3.0).await;
    app.job("v1").answer(running(2));
    for n in 1..=20 {
        source.send(&format!("data: {n}\n\n")).await;
        chat.send(&format!("data: {n}\n\n")).await;
    }
    side.until("everything to be on its way", |samples| {
        samples.get("frames_sent_total", &[("kind", "event"), ("route", NOTIFICATIONS_PATH)]) == 21.0
            && samples.get("frames_sent_total", &[("kind", "event"), ("route", "(forwarded)")]) == 21.0
    })
    .await;
    for client in [&mut state, &mut log, &mut passed] {
        come_back(client);
    }

    assert_eq!(state.next_event().await.data, Some(running_text(2)));
    for n in 1..=20 {
        for client in [&mut log, &mut passed] {
            assert_eq!(client.next_event().await.data, Some(n.to_string()));
        }
    }
    side.until_metric("connections_stale", &[], 0.0).await;
    assert_eq!((side.metric("connections_active", &[]).await, reaped(&side).await), (3.0, 0.0));
}
