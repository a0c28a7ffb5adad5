//! Clients that vanish, read too slowly, or come back after the end.

use tokio::task::JoinSet;

use super::{calm, only, opened, text};
use crate::{
    harness::{NOTIFICATIONS, app::App, completed, running, sidestream::Sidestream},
    stale::go_dark,
};

#[tokio::test]
async fn clients_that_vanish_are_seen() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app)
        .route(&calm("heartbeat=100ms"))
        .flag("--stale-after", "500ms")
        .flag("--reap-after", "1500ms")
        .start()
        .await;
    let mut clients = Vec::new();
    for _ in 0..12 {
        let mut client = opened(side.sse("/api/progress/v1")).await;
        go_dark(&mut client);
        clients.push(client);
    }

    side.until_metric("connections_closed_total", &[("reason", "stale")], 12.0).await;

    let found = only(&side, "clients-vanish").await;
    assert!(text(&found, "evidence").contains("acknowledged nothing for --reap-after"), "{found}");
}

#[tokio::test]
async fn readers_that_fall_out_of_the_window_are_seen() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route(NOTIFICATIONS).start().await;
    let mut slow = Vec::new();
    for _ in 0..5 {
        slow.push(side.sse("/notifications").receive_buffer(128 * 1024).open().await);
    }
    let stream = events.accept().await;
    // More for each than the kernel's buffers and the window hold together. When the last of them has been let go, the
    // app's stream ends as well, which may be before it has sent all.
    let pad = "x".repeat(200_000);
    let mut sent = 0;
    while sent < 50 && stream.try_send(&format!("data: {sent} {pad}\n\n")).await {
        sent += 1;
    }
    side.until("the app's events to be read", |samples| {
        samples.get("events_published_total", &[]) == f64::from(sent)
            || samples.get("connections_closed_total", &[("reason", "slow")]) == 5.0
    })
    .await;
    // Those whose sockets were full all the time are looked at when they read on.
    let mut reading = JoinSet::new();
    for mut client in slow {
        reading.spawn(async move { client.drain().await });
    }
    side.until_metric("connections_closed_total", &[("reason", "slow")], 5.0).await;

    only(&side, "readers-too-slow").await;
}

/// An `EventSource` without a listener for `done` comes back once, and is told 204.
#[tokio::test]
async fn front_ends_that_ignore_the_end_are_seen() {
    let app = App::start();
    app.job("v1").answer(completed());
    let side = Sidestream::before(&app).route(&calm("linger=1m")).start().await;
    let mut clients = JoinSet::new();
    for _ in 0..6 {
        let request = side.sse("/api/progress/v1");
        clients.spawn(async move { request.open().await.rest().await.0.remove(0) });
    }
    let last = clients.join_all().await.remove(0);
    for _ in 0..6 {
        assert_eq!(side.sse("/api/progress/v1").last_event_id(last.id()).fetch().await.status(), 204);
    }

    let once = only(&side, "end-ignored").await;

    assert!(text(&once, "change").contains("addEventListener('done'"), "{once}");
    assert_eq!(text(&once, "severity"), "advice");
}
