//! The hand-over of a connection from the HTTP library to the streams: whatever stands on the wire before, behind and
//! beside the request, nothing is lost, nothing is taken for something else, and nothing stays behind.

use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::harness::{
    COMPLETED, NOTIFICATIONS, NOTIFICATIONS_PATH, PROGRESS, PROGRESS_PATH,
    app::{Answer, App},
    client::{Client, End, Request},
    completed, eventually, running, running_text,
    sidestream::Sidestream,
    wire::{Framing, Wire},
    within,
};

const STREAM: &str = "/api/progress/v1";

/// Requests in one write, on one connection.
async fn send_together(requests: &[Request]) -> Wire {
    let mut wire = requests[0].connect().await;
    let bytes: Vec<u8> = requests.iter().flat_map(Request::bytes).collect();
    wire.send(&bytes).await.expect("the requests are taken");
    wire
}

/// Everything that was opened is closed again. Whoever has left may not have been looked at when all others were gone.
async fn assert_books_are_closed(side: &Sidestream) {
    side.until_quiet().await;
    side.until("opened and closed to agree", |samples| {
        samples.get("connections_opened_total", &[]) == samples.get("connections_closed_total", &[])
    })
    .await;
}

async fn start(app: &App) -> Sidestream {
    Sidestream::before(app).route(PROGRESS).start().await
}

/// The end of an answer may still wait in our buffers, or in the kernel's, when the next request on its connection is
/// looked at; nothing of it may be lost with the buffers, and nothing of the stream may come between.
#[tokio::test]
async fn a_file_that_is_still_on_its_way_is_whole_before_the_stream_begins() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let file: String = (0..1_500_000).map(|n| format!("{n:07}\n")).collect();
    app.at("/file").answer(Answer::text(200, &file));
    let side = start(&app).await;
    let wire = send_together(&[side.get("/file").receive_buffer(32 * 1024), side.sse(STREAM)]).await;
    app.at("/file").requests(1).await;
    assert_eq!(app.job("v1").count(), 0, "more of the file than any buffer holds stands before the stream");

    let mut client = Client::read(wire, "GET").await;
    assert_eq!(client.framing(), Framing::Length(file.len() as u64));
    let end = client.read_to_end().await;
    assert!(client.text() == file, "the file is not what the app sent");
    assert_eq!(end, End::Clean);
    let mut stream = Client::read(client.into_wire(), "GET").await;

    assert_eq!((stream.status(), stream.framing()), (200, Framing::Chunked));
    assert_eq!(stream.next_event().await.data, Some(running_text(1)));
    app.job("v1").answer(completed());
    assert_eq!(stream.next_event().await.data.as_deref(), Some(COMPLETED));
}

/// A small answer and a stream in one segment leave in their order.
#[tokio::test]
async fn a_page_and_a_stream_asked_for_together_come_one_after_the_other() {
    let app = App::start();
    app.job("v1").answer(running(1));
    app.at("/page").answer(Answer::text(200, "the page"));
    let side = start(&app).await;
    let page = side.get("/page");
    let wire = send_together(&[page.clone(), page.clone(), side.sse(STREAM)]).await;

    let mut answer = Client::read(wire, "GET").await;
    answer.read_to_end().await;
    let mut again = Client::read(answer.into_wire(), "GET").await;
    again.read_to_end().await;
    assert_eq!((again.status(), again.text().as_str()), (200, "the page"));
    let mut stream = Client::read(again.into_wire(), "GET").await;

    assert_eq!(stream.next_event().await.data, Some(running_text(1)));
}

/// A stream has no end that anybody could wait for, so what is pipelined behind it is never answered; the head says so.
#[tokio::test]
async fn what_is_pipelined_behind_a_stream_goes_nowhere() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = start(&app).await;
    let wire = send_together(&[side.sse(STREAM), side.get("/behind"), side.sse(STREAM)]).await;
    let mut stream = Client::read(wire, "GET").await;
    assert_eq!(stream.header("connection"), Some("close"));
    assert_eq!(stream.next_event().await.data, Some(running_text(1)));

    app.job("v1").answer(completed());
    let (events, end) = stream.rest().await;
    let mut wire = stream.into_wire();

    assert_eq!((events.len(), events[1].name.as_deref(), end), (2, Some("done"), End::Clean));
    assert_eq!(within("the connection's end", wire.fill()).await.expect("an orderly end"), 0);
    assert_eq!(app.at("/behind").count(), 0);
    assert_books_are_closed(&side).await;
    assert_eq!(side.metric("connections_opened_total", &[]).await, 1.0);
}

/// The client has gone before its request is read to the end: with a FIN or a RST right behind it.
#[tokio::test]
async fn clients_that_leave_with_their_request_leave_nothing_behind() {
    let app = App::start();
    app.at("/api/videos/*").answer(running(1));
    let side = start(&app).await;
    side.sse(STREAM).open().await.next_event().await;
    side.until_quiet().await;
    let files = side.open_files();

    let mut leaving = JoinSet::new();
    for n in 0..120 {
        // Of old topics, whose word is known at once, and of new ones, which are asked for first.
        let id = if n % 3 == 0 { 1 } else { n };
        let request = side.sse(&format!("/api/progress/v{id}"));
        leaving.spawn(async move {
            let mut wire = request.send().await;
            if n % 2 == 0 {
                return wire.reset();
            }
            tokio::io::AsyncWriteExt::shutdown(&mut wire.socket).await.expect("the socket is open");
            // With or without an answer, the connection ends.
            while within("the end", wire.take()).await.is_ok_and(|bytes| !bytes.is_empty()) {}
        });
    }
    leaving.join_all().await;

    assert_books_are_closed(&side).await;
    eventually("the files to be closed", async || (side.open_files() <= files + 5).then_some(())).await;
}

/// Who shuts down its direction is taken to be gone: proxies pass a client's FIN on, and hold the connection for it. The
/// place is free at once, and not only when the client has closed for good.
#[tokio::test]
async fn a_half_closed_stream_ends_in_order_while_its_client_still_reads() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = start(&app).await;
    let mut client = side.sse(STREAM).open().await;
    client.next_event().await;

    client.half_close().await;
    let end = client.expect_end().await;

    assert_eq!(end, End::Clean);
    assert_books_are_closed(&side).await;
    assert_eq!(side.metric("connections_closed_total", &[("reason", "client")]).await, 1.0);
    assert_eq!(side.metric("invalid_state_errors_total", &[]).await, 0.0);
}

/// The head of a stream without one: no topic, no place, and the connection can be used again.
#[tokio::test]
async fn head_gets_the_streams_head_and_keeps_the_connection() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = start(&app).await;
    let wire =
        send_together(&[side.request("HEAD", STREAM).header("Accept", "text/event-stream"), side.sse(STREAM)]).await;

    let head = Client::read(wire, "HEAD").await;
    assert_eq!((head.status(), head.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(head.header("x-accel-buffering"), Some("no"));
    let mut stream = Client::read(head.into_wire(), "GET").await;

    assert_eq!(stream.next_event().await.data, Some(running_text(1)));
    assert_eq!(side.metric("connections_opened_total", &[]).await, 1.0);
}

/// nginx before 1.29.7 speaks 1.0 to us and knows no chunks: the body is delimited by the connection's end.
#[tokio::test]
async fn http_1_0_gets_bare_bytes_up_to_the_close() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = start(&app).await;
    for keep_alive in [false, true] {
        let request = side.sse(STREAM).http_1_0();
        let request = if keep_alive { request.header("Connection", "keep-alive") } else { request };
        let mut client = request.open().await;
        assert_eq!(client.head.first_line, "HTTP/1.0 200 OK");
        assert_eq!((client.header("transfer-encoding"), client.header("content-length")), (None, None));
        assert_eq!((client.header("connection"), client.framing()), (Some("close"), Framing::UntilClose));
        assert_eq!(client.next_event().await.data, Some(running_text(1)));
    }
    let mut client = side.sse(STREAM).http_1_0().open().await;
    client.next_event().await;
    app.job("v1").answer(completed());

    let (events, end) = client.rest().await;

    assert_eq!((events.len(), end), (2, End::Clean));
    assert!(client.text().starts_with("retry: ") && client.text().ends_with("\n\n"), "{:?}", client.text());
    assert_books_are_closed(&side).await;
}

/// The head is the streams' own on both ways to them, and is whole.
#[tokio::test]
async fn the_head_is_that_of_an_event_stream() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = start(&app).await;
    let taken = side.sse(STREAM).open().await;
    let kept = side.sse(STREAM).body(b"x").open().await;

    for client in [&taken, &kept] {
        assert_eq!(client.head.first_line, "HTTP/1.1 200 OK");
        for (name, value) in [
            ("content-type", "text/event-stream"),
            ("cache-control", "no-cache, no-transform"),
            ("x-accel-buffering", "no"),
            ("vary", "Accept"),
            ("transfer-encoding", "chunked"),
        ] {
            assert_eq!(client.head.all(name), [value], "{name}");
        }
        let date = client.header("date").expect("a date");
        assert!(date.len() == 29 && date.ends_with(" GMT"), "{date:?}");
    }
}

/// A request without a body has nothing to wait for: no 100 comes between, and no upgrade is begun.
#[tokio::test]
async fn expect_and_upgrade_make_no_difference_to_a_stream() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = start(&app).await;
    let websocket = |request: Request| {
        request
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
    };
    let requests = [
        side.sse(STREAM).header("Expect", "100-continue"),
        websocket(side.sse(STREAM)),
        side.sse(STREAM).header("Connection", "Upgrade, HTTP2-Settings").header("Upgrade", "h2c"),
    ];
    for request in requests {
        let mut wire = request.send().await;
        let head = within("a head", wire.head()).await.expect("a head").expect("an answer");
        assert_eq!((head.first_line.as_str(), head.header("upgrade")), ("HTTP/1.1 200 OK", None));
        assert_eq!(head.all("connection"), ["close"]);
        let block = within("a chunk", wire.chunk()).await.expect("a chunk").expect("the stream is open");
        assert!(String::from_utf8_lossy(&block).contains(&running_text(1)));
    }
    assert_books_are_closed(&side).await;
}

/// A body is odd in a GET, but allowed. Its bytes come when they like, and are never taken for a request.
#[tokio::test]
async fn a_stream_request_with_a_body_is_a_stream_whenever_the_body_comes() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = start(&app).await;
    let body = b"GET /behind HTTP/1.1\r\nHost: x\r\n\r\n";
    let whole = side.sse(STREAM).body(body).send().await;
    let mut late = side.sse(STREAM).header("Content-Length", &body.len().to_string()).send().await;
    let mut chunked = side.sse(STREAM).header("Transfer-Encoding", "chunked").send().await;
    app.job("v1").more_requests(2).await;
    late.send(body).await.expect("the body is taken");
    chunked.send(b"22\r\nGET /behind HTTP/1.1\r\nHost: x\r\n\r\n\r\n0\r\n\r\n").await.expect("the body is taken");

    let mut clients = Vec::new();
    for wire in [whole, late, chunked] {
        let mut client = Client::read(wire, "GET").await;
        assert_eq!(client.next_event().await.data, Some(running_text(1)));
        clients.push(client);
    }
    app.job("v1").answer(completed());
    for client in &mut clients {
        let (events, end) = client.rest().await;
        assert_eq!((events.len(), end), (2, End::Clean));
    }

    drop(clients);
    assert_eq!(app.at("/behind").count(), 0);
    assert_books_are_closed(&side).await;
}

/// The connection may have served other requests before; with the stream it ends.
#[tokio::test]
async fn a_stream_is_the_last_thing_on_its_connection() {
    let app = App::start();
    app.job("v1").answer(running(1));
    app.at("/page").answer(Answer::text(200, "the page"));
    let side = start(&app).await;
    let mut page = side.get("/page").open().await;
    page.read_to_end().await;
    let mut wire = page.into_wire();
    wire.send(&side.sse(STREAM).bytes()).await.expect("the connection is kept alive");
    let mut stream = Client::read(wire, "GET").await;
    stream.next_event().await;
    app.job("v1").answer(completed());
    assert_eq!(stream.rest().await.1, End::Clean);

    let mut wire = stream.into_wire();
    // Whether the write still succeeds is the kernel's matter; an answer never comes.
    let _ = wire.send(&side.sse(STREAM).bytes()).await;

    assert!(!within("the end", wire.head()).await.is_ok_and(|head| head.is_some()), "a second stream was begun");
    assert_eq!(side.metric("connections_opened_total", &[]).await, 1.0);
}

/// Each moment at which the signal can meet a request: half sent, waiting for the app's first word, just answered.
#[tokio::test]
async fn a_drain_meets_a_stream_request_at_every_moment_and_leaves_in_time() {
    let app = App::start();
    app.job("v1").answer(running(1));
    app.job("slow").answer(running(1).after(std::time::Duration::from_millis(600)));
    app.job("mute").answer(Answer::hang());
    let mut side = Sidestream::before(&app).route(PROGRESS).flag("--drain", "3s").start().await;
    let half = side.sse(STREAM).bytes();
    let mut halfway = side.sse(STREAM).connect().await;
    halfway.send(&half[..half.len() / 2]).await.expect("half a head is taken");
    let slow = side.sse("/api/progress/slow").send().await;
    let mute = side.sse("/api/progress/mute").send().await;
    app.job("slow").requests(1).await;
    app.job("mute").requests(1).await;
    let mut open = side.sse(STREAM).open().await;
    open.next_event().await;
    let just = side.sse(STREAM).send().await;

    side.signal(Signal::TERM);
    let slow = tokio::spawn(async move {
        let mut client = Client::read(slow, "GET").await;
        let first = client.next_event().await;
        (first.data, client.read_to_end().await, client.text())
    });
    // No new request is begun on a connection that has none; the client sees a close, and comes back elsewhere.
    let _ = halfway.send(&half[half.len() / 2..]).await;
    while within("the half request's end", halfway.take()).await.is_ok_and(|bytes| !bytes.is_empty()) {}
    let mut just = just;
    let mut last = Vec::new();
    while let Ok(bytes @ [_, ..]) = within("the end", just.take()).await.as_deref() {
        last.extend_from_slice(bytes);
    }
    assert_eq!(open.read_to_end().await, End::Clean);
    let (first, end, text) = within("the slow stream", slow).await.expect("the slow stream is well");
    drop(mute);

    assert_eq!(side.wait_exit().await, Some(0), "{}", side.log_text());
    assert_eq!((first, end), (Some(running_text(1)), End::Clean));
    assert!(text.rsplit("\n\n").next().is_some_and(|hint| hint.starts_with("retry: ")), "{text:?}");
    let last = String::from_utf8_lossy(&last).into_owned();
    assert!(last.is_empty() || last.ends_with("0\r\n\r\n") || last.contains("content-length"), "{last:?}");
    assert!(!side.log_text().contains("panicked"), "{}", side.log_text());
}

/// A stream hears nothing, but it has to take what is said, or the sender's FIN could never reach it.
#[tokio::test]
async fn a_client_that_talks_without_end_costs_the_others_nothing() {
    let app = App::start();
    app.job("v1").answer(running(0));
    let side = start(&app).await;
    let mut quiet = side.sse(STREAM).open().await;
    quiet.next_event().await;
    let before = side.memory("VmRSS");

    let mut talkers = JoinSet::new();
    for _ in 0..3 {
        let mut talker = side.sse(STREAM).open().await;
        talker.next_event().await;
        talkers.spawn(async move {
            let garbage = vec![b'x'; 64 * 1024];
            for _ in 0..800 {
                // It may be stopped by the kernel for a while; what it says is not what it is here for.
                let sent = talker.wire().send(&garbage);
                if tokio::time::timeout(std::time::Duration::from_millis(200), sent).await.is_err() {
                    break;
                }
            }
            talker
        });
    }
    for progress in 1..=30 {
        app.job("v1").answer(running(progress));
        while quiet.next_event().await.data != Some(running_text(progress)) {}
    }
    let after = side.memory("VmRSS");
    let talkers = within("the talkers", talkers.join_all()).await;
    app.job("v1").answer(completed());
    for mut talker in talkers {
        talker.until("the last event", |text| text.contains(COMPLETED)).await;
    }

    assert!(after < before + 16 * 1024, "from {before} to {after} KiB");
    assert_books_are_closed(&side).await;
}

/// Partial writes fall anywhere, also into a chunk's size line and its end.
#[tokio::test]
async fn a_large_event_reaches_a_slow_reader_byte_for_byte() {
    let app = App::start();
    let large = |turn: u32| {
        let padding: String = (0..80_000).map(|n| format!("{:010}", n ^ turn)).collect();
        format!(r#"{{"status":"processing","turn":{turn},"padding":"{padding}"}}"#)
    };
    let side = start(&app).await;
    for version in ["1.1", "1.0"] {
        let job = app.job(version);
        job.answer(Answer::json_text(&large(1)));
        let request = side.sse(&format!("/api/progress/{version}")).receive_buffer(24 * 1024);
        let request = if version == "1.0" { request.http_1_0() } else { request };
        let mut client = request.open().await;
        assert!(client.next_event().await.data == Some(large(1)), "HTTP/{version}: the first event differs");
        job.answer(Answer::json_text(&large(2)));
        assert!(client.next_event().await.data == Some(large(2)), "HTTP/{version}: the second event differs");
        assert_eq!(side.metric("invalid_state_errors_total", &[]).await, 0.0);
    }
}

/// Many at once leave in few writes; each frame is a chunk of its own, and all are there.
#[tokio::test]
async fn a_burst_of_500_events_arrives_whole_in_order_and_exactly_framed() {
    let app = App::start();
    let events = app.events(NOTIFICATIONS_PATH);
    let side = Sidestream::before(&app).route(NOTIFICATIONS).start().await;
    let quick = side.sse(NOTIFICATIONS_PATH).send().await;
    let upstream = events.accept().await;
    let slow = side.sse(NOTIFICATIONS_PATH).receive_buffer(8 * 1024).send().await;
    side.until_metric("connections_active", &[], 2.0).await;

    let padding = "x".repeat(300);
    let burst: String = (0..500).map(|n| format!("id: {n}\ndata: {n} {padding}\n\n")).collect();
    upstream.send(&burst).await;
    upstream.send("id: end\nevent: last\ndata: {}\n\n").await;

    for mut wire in [quick, slow] {
        let head = within("a head", wire.head()).await.expect("a head").expect("an answer");
        assert_eq!(head.framing(), Some(Framing::Chunked));
        let mut frames = Vec::new();
        while !frames.last().is_some_and(|frame: &String| frame.contains("event: last")) {
            let chunk = within("a chunk", wire.chunk()).await.expect("whole chunks").expect("the stream is open");
            let frame = String::from_utf8(chunk).expect("text");
            if frame != ":\n" {
                frames.push(frame);
            }
        }
        assert_eq!(frames.len(), 501);
        for (n, frame) in frames[..500].iter().enumerate() {
            let frame = frame.split_once("id: ").map(|(_, rest)| rest);
            assert_eq!(frame, Some(format!("{n}\ndata: {n} {padding}\n\n").as_str()));
        }
    }
    assert_eq!(side.metric("connections_closed_total", &[("reason", "slow")]).await, 0.0);
}

/// The last chunk is there exactly when the stream ended as it should.
#[tokio::test]
async fn the_last_chunk_marks_an_end_in_order_and_only_that() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let mut side = Sidestream::before(&app).route(PROGRESS).flag("--drain", "10m").start().await;
    let mut ended = side.sse(STREAM).open().await;
    ended.next_event().await;
    app.job("v1").answer(completed());
    assert_eq!(ended.rest().await.1, End::Clean);
    app.job("v2").answer(running(1));
    let mut cut = side.sse("/api/progress/v2").open().await;
    cut.next_event().await;
    side.until_metric("connections_active", &[("route", PROGRESS_PATH)], 1.0).await;

    side.signal(Signal::KILL);

    assert_eq!(cut.read_to_end().await, End::Cut);
    side.wait_exit().await;
}
