//! Peers that read slowly, but acknowledge: they are slow, and not stale.

use std::time::Duration;

use serde_json::json;

use super::{go_dark, listed, reaped};
use crate::harness::{
    PROGRESS_PATH,
    app::{Answer, App},
    fill, filling, progress, running,
    sidestream::Sidestream,
    within,
};

const REAP_AFTER: Duration = Duration::from_secs(10);

/// Our write to a slow reader stays blocked until a third of the send buffer is free, which may take minutes; each byte
/// that it takes meanwhile shows that it lives. Its neighbour's kernel answers, too, but takes no byte.
#[tokio::test]
async fn a_reader_that_takes_a_little_is_slow_and_one_that_takes_nothing_is_stale() {
    let app = App::start();
    app.job("v1").answer(running(1));
    app.job("clock").answer(running(1));
    let side = Sidestream::before(&app)
        .route(&progress("heartbeat=100ms"))
        .flag("--stale-after", "1s")
        .flag("--reap-after", "10s")
        .start()
        .await;
    let mut clock = side.sse("/api/progress/clock").open().await;
    clock.next_event().await;
    let mut slow = side.sse("/api/progress/v1").receive_buffer(4096).open().await;
    slow.next_event().await;
    let _stuck = side.sse("/api/progress/v1").receive_buffer(4096).open().await;
    let are_blocked = async |count| listed(&side, "blocked_seconds").await.into_iter().flatten().count() == count;
    fill(&app.job("v1"), async || are_blocked(2).await).await;

    // It reads with the beat of a quiet stream, whatever else this test waits for: so little that its write stays blocked
    // for longer than the ten seconds, and often enough that its window opens several times in them.
    let takes_a_little = async {
        loop {
            slow.wire().some(2 * 1024).await.expect("the slow reader's stream goes on");
            clock.wire().some(1024).await.expect("the quiet stream goes on");
        }
    };
    let mut longest = 0.0_f64;
    let both_are_seen = async {
        let mut turn = 1_000_000;
        while reaped(&side).await == 0.0 || longest <= REAP_AFTER.as_secs_f64() {
            let blocked: Vec<f64> = listed(&side, "blocked_seconds").await.into_iter().flatten().collect();
            let is_one_left = reaped(&side).await > 0.0;
            if is_one_left {
                longest = blocked.iter().copied().fold(longest, f64::max);
            }
            // With each byte that is taken the kernel may make more room, and have it for all that there was.
            if blocked.len() < if is_one_left { 1 } else { 2 } {
                turn += 1;
                app.job("v1").answer(filling(turn));
            }
        }
    };
    within("the reader that takes nothing to be closed, and the slow one to be blocked for as long", async {
        tokio::select! {
            () = takes_a_little => {}
            () = both_are_seen => {}
        }
    })
    .await;

    assert_eq!(reaped(&side).await, 1.0);
    assert_eq!(side.metric("connections_active", &[("route", PROGRESS_PATH)]).await, 2.0);
    assert!(are_blocked(1).await, "it is blocked still");
    side.until_metric("connections_stale", &[], 0.0).await;
}

/// Two tabs that have stopped reading, with their windows closed. Our buffers have room, so no write is blocked; the
/// kernel asks now and then whether the window is open again, and one of the two no longer answers. The other one answers
/// at most twice a second, so of the first, close questions not each: hence limits in seconds.
#[tokio::test]
async fn a_reader_behind_a_closed_window_is_stale_only_when_its_kernel_is_silent_too() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app)
        .route(&progress("heartbeat=100ms"))
        .flag("--stale-after", "2s")
        .flag("--reap-after", "6s")
        .start()
        .await;
    let mut alive = side.sse("/api/progress/v1").receive_buffer(4096).open().await;
    alive.next_event().await;
    let mut dead = side.sse("/api/progress/v1").receive_buffer(4096).open().await;
    dead.next_event().await;
    let large = json!({"id": "v1", "status": "processing", "padding": "x".repeat(300 * 1024)});
    app.job("v1").answer(Answer::json(&large));
    side.until("both to be sent it", |samples| samples.total("sent_bytes_total") > 600.0 * 1024.0).await;

    go_dark(&mut dead);
    side.until_metric("connections_stale", &[], 1.0).await;
    let blocked = listed(&side, "blocked_seconds").await;
    side.until("the silent one to be closed", |samples| {
        assert!(samples.total("connections_stale") <= 1.0, "the one that answers is not stale between two answers");
        samples.get("connections_closed_total", &[("reason", "stale")]) == 1.0
    })
    .await;

    assert_eq!(blocked, [None, None], "our buffers have room");
    assert_eq!(side.metric("connections_active", &[]).await, 1.0);
    assert_eq!(alive.next_event().await.json(), large);
    side.until_metric("connections_stale", &[], 0.0).await;
}
