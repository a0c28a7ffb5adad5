//! Apps that trickle, never end, send an event of a gigabyte, headers for ever, or close in the middle: on one path, while
//! the others' path is well.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

use super::{Bad, Others, assert_flat, memory};
use crate::harness::{
    app::{Answer, App, Stream},
    client::Request,
    wire::Wire,
};

const POLLED: &str = "interval=50ms,max-interval=50ms,linger=200ms";

/// Sends these bytes again and again, for as long as somebody takes them. True when more than a gigabyte was taken.
pub(super) async fn pump(stream: Stream, first: &str, block: String) -> bool {
    if !stream.try_send(first).await {
        return false;
    }
    for _ in 0..(1 << 30) / block.len() {
        if !stream.try_send(&block).await {
            return false;
        }
        // Others are to have their turn in the test's one thread.
        tokio::task::yield_now().await;
    }
    true
}

/// A client that reads its stream and forgets it.
pub(super) async fn read_on(request: Request) {
    let mut wire = request.send().await;
    while let Ok(bytes) = wire.take().await {
        if bytes.is_empty() {
            return;
        }
    }
}

/// An app beside the app: sends `first`, and then `again` for ever, whatever it is asked.
async fn endless_app(first: &'static str, again: &'static str) -> (SocketAddr, impl Future<Output = ()> + Send) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("an address");
    let serve = async move {
        let mut connections = Bad::default();
        while let Ok((socket, _)) = listener.accept().await {
            connections.spawn(answer_endlessly(socket, first, again.repeat(4096 / again.len())));
        }
    };
    (addr, serve)
}

async fn answer_endlessly(socket: TcpStream, first: &'static str, block: String) {
    let mut wire = Wire::new(socket);
    if !matches!(wire.head().await, Ok(Some(_))) || wire.send(first.as_bytes()).await.is_err() {
        return;
    }
    while wire.send(block.as_bytes()).await.is_ok() {}
    let _ = wire.socket.shutdown().await;
}

/// An event without an end breaks its own subscription off, each time that it is opened.
#[tokio::test]
async fn an_event_of_a_gigabyte_is_given_up_at_its_limit() {
    let app = App::start();
    let huge = app.events("/huge");
    let (side, mut others) = Others::start(&app, |flags| flags.route("path=/huge,subscribe,linger=200ms")).await;
    let before = memory(&side);
    let mut bad = Bad::default();
    bad.spawn(read_on(side.sse("/huge")));
    let stream = huge.accept().await;
    let pumping = tokio::spawn(async move { pump(stream, "data: ", "x".repeat(64 * 1024)).await });

    others.deliver(100, "some data", None).await;

    assert!(!super::ended("the event to be given up", pumping).await, "a gigabyte was read");
    let labels = [("route", "/huge"), ("kind", "too_large")];
    side.until("the limit to be counted", |samples| samples.get("job_state_violations_total", &labels) >= 1.0).await;
    assert_flat(&side, before);
    others.deliver(10, "", None).await;
}

/// Events as fast as they can be sent, and others a byte at a time: each topic has its own pace.
#[tokio::test]
async fn endless_and_trickling_events_are_their_own_topics_affair() {
    let app = App::start();
    let (flood, drip, guarded) = (app.events("/flood"), app.events("/drip"), app.events("/guarded"));
    let (side, mut others) = Others::start(&app, |flags| {
        flags.route("path=/flood,subscribe,linger=200ms").route("path=/drip,subscribe,linger=200ms")
    })
    .await;
    let before = memory(&side);
    let mut bad = Bad::default();
    for path in ["/flood", "/drip", "/guarded"] {
        bad.spawn(read_on(side.sse(path)));
    }
    let (flood, drip, guarded) = (flood.accept().await, drip.accept().await, guarded.accept().await);
    bad.spawn(async move {
        pump(flood, ":\n", "data: flood\n\n".repeat(100)).await;
    });
    bad.spawn(async move {
        pump(guarded, "data: ", "x".repeat(64 * 1024)).await;
    });
    bad.spawn(async move {
        for byte in "data: drop\n\n".chars().cycle() {
            if !drip.try_send(&byte.to_string()).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    for (route, events) in [("/drip", 2.0), ("/flood", 1000.0)] {
        let what = format!("{events} events on {route}");
        side.until(&what, |samples| samples.get("events_published_total", &[("route", route)]) >= events).await;
    }

    others.deliver(100, "some data", None).await;

    let lost = side.metric("job_state_violations_total", &[("route", "/notifications")]).await;
    assert_eq!(lost, 0.0);
    assert_flat(&side, before);
}

/// Polls that are answered badly: too long, cut, never, not at all.
#[tokio::test]
async fn bad_answers_to_polls_are_their_own_jobs_affair() {
    let app = App::start();
    app.at("/bad/endless").answer(Answer::filler(1 << 40).header("Content-Type", "application/json"));
    app.at("/bad/cut").answer(Answer::json_text("{\"status\":\"processing\"}").cut());
    app.at("/bad/reset").answer(Answer::reset());
    app.at("/bad/hang").answer(Answer::hang());
    let route = format!("path=/bad/{{id}},poll=/bad/{{id}},timeout=1s,{POLLED}");
    let (side, mut others) = Others::start(&app, |flags| flags.route(&route)).await;
    let before = memory(&side);
    let mut bad = Bad::default();
    for path in ["/bad/endless", "/bad/cut", "/bad/reset", "/bad/hang"] {
        bad.spawn(read_on(side.sse(path)));
    }
    app.at("/bad/endless").requests(2).await;

    others.deliver(100, "some data", None).await;

    let labels = [("route", "/bad/{id}"), ("kind", "too_large")];
    side.until("every fault to be counted", |samples| {
        let polls = |outcome| samples.get("upstream_requests_total", &[("purpose", "poll"), ("outcome", outcome)]);
        samples.get("job_state_violations_total", &labels) >= 1.0 && polls("broken") >= 2.0 && polls("timeout") >= 1.0
    })
    .await;
    assert_flat(&side, before);
    others.deliver(10, "", None).await;
}

/// An app whose answer never gets to its body. It has a program of its own, because it stands for the whole app there;
/// what is tried is that nothing piles up.
#[tokio::test]
async fn heads_without_end_are_given_up() {
    for (first, again) in [
        ("HTTP/1.1 200 OK\r\n", "X: y\r\n"),
        ("HTTP/1.1 200 OK\r\nX: ", "x"),
        ("HTTP/1.1 ", "2"),
        ("", "HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n1\r\n"),
        ("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "X: y\r\n"),
    ] {
        let (addr, serve) = endless_app(first, again).await;
        let mut bad = Bad::default();
        bad.spawn(serve);
        let side = crate::harness::sidestream::Sidestream::before_addr(addr)
            .route(&format!("path=/live,poll=/job,timeout=1s,{POLLED}"))
            .start()
            .await;
        let before = memory(&side);
        bad.spawn(read_on(side.sse("/live")));
        side.until(&format!("{first:?} and then {again:?} to be given up"), |samples| {
            let polls = |outcome| samples.get("upstream_requests_total", &[("purpose", "poll"), ("outcome", outcome)]);
            polls("broken") + polls("timeout") + samples.get("job_state_violations_total", &[]) >= 2.0
        })
        .await;
        assert_flat(&side, before);
    }
}
