//! Clients that never read, read a byte a second, talk on their stream, send without end, reset, or say nothing.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::{Bad, Others, assert_flat, ended, memory};
use crate::harness::{
    app::App,
    client::Request,
    eventually,
    sidestream::{Builder, Sidestream},
};

/// What such a client sends at once, and the pause that leaves the others of a test their turn.
const BLOCK: usize = 16 * 1024;
const PAUSE: Duration = Duration::from_millis(1);

pub(super) fn stream(side: &Sidestream) -> Request {
    side.sse("/notifications").receive_buffer(4096)
}

/// Sends these bytes again and again, until the program has closed the connection: what is thrown away for some seconds
/// behind a refusal is thrown away here, too.
async fn send_endlessly(request: Request, first: &'static str, again: &'static [u8]) {
    let mut wire = request.connect().await;
    let block = again.repeat(BLOCK / again.len());
    let mut sent = wire.send(first.as_bytes()).await;
    while sent.is_ok() {
        tokio::time::sleep(PAUSE).await;
        sent = wire.send(&block).await;
    }
}

/// Opens a stream and reads a byte of it a second, until it is over.
pub(super) async fn sip(request: Request) {
    let mut wire = request.send().await;
    while wire.some(1).await.is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Opens a stream, talks on it for long, and waits for its end.
pub(super) async fn talk(request: Request) {
    let mut wire = request.send().await;
    for _ in 0..1000 {
        if wire.send(&[b'x'; BLOCK]).await.is_err() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
    let _ = wire.socket.shutdown().await;
    while wire.fill().await.is_ok_and(|bytes| bytes > 0) {}
}

/// Whoever reads nothing of what it is sent is let go: when it has fallen out of the window and its socket takes bytes
/// again, or, if that never happens, as one that acknowledges nothing.
#[tokio::test]
async fn clients_that_hardly_read_are_let_go_and_the_others_get_every_event() {
    let app = App::start();
    let soon = |side: Builder| side.flag("--stale-after", "4s").flag("--reap-after", "8s");
    let (side, mut others) = Others::start(&app, soon).await;
    let before = memory(&side);
    let mut bad = Bad::default();
    let mut never = Vec::new();
    for _ in 0..4 {
        never.push(stream(&side).send().await);
        bad.spawn(sip(stream(&side)));
    }
    side.until_metric("connections_active", &[], (super::OTHERS + 8) as f64).await;

    // More than the kernel keeps for a peer that takes nothing (tcp_wmem), and then more than the window.
    let padding = "x".repeat(64 * 1024);
    others.deliver(130, &padding, None).await;

    side.until("all eight to be let go", |samples| {
        let closed = |reason| samples.get("connections_closed_total", &[("reason", reason)]);
        closed("slow") + closed("stale") == 8.0
    })
    .await;
    side.until_metric("connections_active", &[], super::OTHERS as f64).await;
    assert_flat(&side, before);
    others.deliver(10, "", None).await;
}

/// Bytes where none are expected: behind the request of a stream, instead of a request, and in one that has no end.
#[tokio::test]
async fn clients_that_talk_without_end_are_stopped_or_ignored() {
    let app = App::start();
    let (side, mut others) = Others::start(&app, |flags| flags).await;
    let before = memory(&side);
    let mut bad = Bad::default();
    for _ in 0..3 {
        bad.spawn(talk(stream(&side)));
    }
    let endless = [
        ("no request", "", b"x".as_slice()),
        ("empty lines", "", b"\r\n".as_slice()),
        ("a header", "GET / HTTP/1.1\r\nHost: a\r\nX: ", b"x".as_slice()),
        ("headers", "GET / HTTP/1.1\r\nHost: a\r\n", b"X: y\r\n".as_slice()),
        ("a target", "GET /", b"x".as_slice()),
        (
            "a chunk extension",
            "POST /none HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;",
            b"x".as_slice(),
        ),
        (
            "trailers",
            "POST /none HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            b"X: y\r\n".as_slice(),
        ),
    ];
    let mut stopped = Vec::new();
    for (name, first, again) in endless {
        stopped.push((name, tokio::spawn(send_endlessly(side.get("/"), first, again))));
    }

    others.deliver(100, "some data", None).await;

    for (name, task) in stopped {
        ended(&format!("{name} without an end to be stopped"), task).await;
    }
    // The streams on which somebody talked are over when their clients have closed, and not before.
    bad.all_ended().await;
    side.until_metric("connections_active", &[], super::OTHERS as f64).await;
    assert_flat(&side, before);
    others.deliver(10, "", None).await;
}

/// Connections that come to nothing.
#[tokio::test]
async fn clients_that_reset_at_once_or_say_nothing_leave_nothing_behind() {
    let app = App::start();
    let (side, mut others) = Others::start(&app, |flags| flags).await;
    let (before, files) = (memory(&side), side.open_files());
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(side.get("/").connect().await);
    }
    let mut bad = Bad::default();
    for kind in 0..4 {
        let request = stream(&side);
        bad.spawn(async move {
            for _ in 0..200 {
                match kind {
                    0 => request.connect().await.reset(),
                    1 => request.send().await.reset(),
                    2 => drop(request.send().await),
                    _ => request.open().await.reset(),
                }
            }
        });
    }

    others.deliver(100, "some data", None).await;

    bad.all_ended().await;
    drop(silent);
    side.until_metric("connections_active", &[], super::OTHERS as f64).await;
    eventually("every file to be closed", async || (side.open_files() <= files).then_some(())).await;
    assert_flat(&side, before);
    others.deliver(10, "", None).await;
}
