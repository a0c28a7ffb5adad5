//! Everything that is no stream of a route goes to the app as it came, and back as the app said it.

use tokio::{
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};

use crate::harness::{
    PROGRESS,
    app::{Answer, App, Fate},
    client::{Client, End},
    eventually,
    sidestream::Sidestream,
    wire::Framing,
};

/// What a transfer may add to the process's memory: far less than the 300 MB, far more than its buffers.
const FLAT_KIB: u64 = 24 * 1024;
const LARGE: u64 = 300_000_000;

#[tokio::test]
async fn a_300_mb_download_leaves_the_memory_flat() {
    let app = App::start();
    app.at("/small").answer(Answer::filler(100_000));
    app.at("/large").answer(Answer::filler(LARGE));
    let side = Sidestream::before(&app).start().await;
    side.get("/small").fetch().await;
    let before = side.memory("VmHWM");

    let mut client = side.get("/large").open().await;
    let end = client.drain().await;

    assert_eq!((client.received(), end), (LARGE, End::Clean));
    let grown = side.memory("VmHWM") - before;
    assert!(grown < FLAT_KIB, "{grown} KiB for a download");
}

#[tokio::test]
async fn a_300_mb_upload_leaves_the_memory_flat() {
    let app = App::start();
    let upload = app.at("/upload");
    upload.answer(Answer::text(200, "got it"));
    let side = Sidestream::before(&app).start().await;
    side.request("POST", "/upload").body(&[1; 100_000]).fetch().await;
    let before = side.memory("VmHWM");

    let request = side.request("POST", "/upload").header("Content-Length", &LARGE.to_string());
    let mut wire = request.send().await;
    let block = vec![b'u'; 1_000_000];
    for _ in 0..LARGE / block.len() as u64 {
        wire.send(&block).await.expect("the upload is taken");
    }
    let mut answer = Client::read(wire, "POST").await;
    answer.read_to_end().await;

    assert_eq!(answer.text(), "got it");
    assert_eq!(upload.seen()[1].body_bytes, LARGE);
    let grown = side.memory("VmHWM") - before;
    assert!(grown < FLAT_KIB, "{grown} KiB for an upload");
}

/// Back-pressure: a client that does not read must stop the app's writing, not fill the sidecar.
#[tokio::test]
async fn a_download_that_nobody_reads_stays_with_the_app() {
    let app = App::start();
    app.at("/large").answer(Answer::filler(LARGE));
    app.at("/small").answer(Answer::filler(1_000_000));
    let side = Sidestream::before(&app).start().await;
    let before = side.memory("VmHWM");

    let stuck = side.get("/large").receive_buffer(4096).open().await;
    for _ in 0..20 {
        side.get("/small").fetch().await;
    }
    let grown = side.memory("VmHWM") - before;
    drop(stuck);

    assert!(grown < FLAT_KIB, "{grown} KiB for a download that nobody reads");
    app.at("/large").until("the download to be cancelled", |seen| seen[0].fate == Fate::Cancelled).await;
}

/// The example of RFC 6455, so that the accept key is known.
const UPGRADE: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

#[tokio::test]
async fn a_websocket_is_a_pipe_in_both_directions() {
    let app = App::start();
    app.at("/ws").answer(Answer::echo(UPGRADE));
    let side = Sidestream::before(&app).start().await;

    let request = side
        .get("/ws?v=1")
        .header("Connection", "keep-alive, Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    let mut client = request.open().await;
    assert_eq!(client.status(), 101);
    assert_eq!(client.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(client.header("upgrade").map(str::to_ascii_lowercase).as_deref(), Some("websocket"));
    for round in 0..50_u8 {
        let frame: Vec<u8> = [&[0x82, 0x85, 1, 2, 3, 4][..], &[round; 5][..]].concat();
        client.wire().send(&frame).await.expect("the pipe is open");
        let mut echoed = Vec::new();
        while echoed.len() < frame.len() {
            let some = client.wire().some(frame.len() - echoed.len());
            echoed.extend(crate::harness::within("the echo", some).await.expect("the pipe is open"));
        }
        assert_eq!(echoed, frame);
    }
    drop(client);

    let ws = app.at("/ws");
    assert_eq!(ws.seen()[0].header("upgrade").map(str::to_ascii_lowercase).as_deref(), Some("websocket"));
    ws.until("the pipe to close", |seen| seen[0].fate != Fate::Running).await;
}

/// A browser's handshake names no preference, as a bare client's request for a stream does.
#[tokio::test]
async fn a_websocket_on_the_path_of_a_route_reaches_the_app() {
    let app = App::start();
    app.at("/ws").answer(Answer::echo(UPGRADE));
    let side = Sidestream::before(&app).route("path=/ws,subscribe").start().await;
    let handshake = side.get("/ws").header("Connection", "Upgrade").header("Upgrade", "websocket");

    for accept in [None, Some("*/*")] {
        let handshake = accept.map_or(handshake.clone(), |accept| handshake.clone().header("Accept", accept));
        assert_eq!(handshake.open().await.status(), 101, "{accept:?}");
    }
}

#[tokio::test]
async fn the_app_sees_the_request_as_it_was_and_where_it_came_from() {
    let app = App::start();
    app.at("/page").answer(Answer::text(200, "ok"));
    let side = Sidestream::before(&app).start().await;

    side.get("/page?a=1&b=%2F%20&c")
        .without_host()
        .header("Host", "app.example:8443")
        .header("X-Own", "1")
        .fetch()
        .await;
    let behind_a_proxy = side
        .get("/page")
        .header("X-Forwarded-For", "203.0.113.7")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "public.example");
    behind_a_proxy.fetch().await;

    let seen = app.at("/page").seen();
    assert_eq!(seen[0].target, "/page?a=1&b=%2F%20&c");
    assert_eq!((seen[0].header("host"), seen[0].header("x-own")), (Some("app.example:8443"), Some("1")));
    assert_eq!(seen[0].header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen[0].header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen[0].header("x-forwarded-host"), Some("app.example:8443"));
    let for_chain = seen[1].head.all("x-forwarded-for").join(", ");
    assert!(for_chain.starts_with("203.0.113.7"), "{for_chain}");
    assert_eq!(seen[1].header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen[1].header("x-forwarded-host"), Some("public.example"));
}

#[tokio::test]
async fn hop_by_hop_headers_stay_on_their_hop() {
    let app = App::start();
    let answer = Answer::text(200, "ok").header("Connection", "X-Private").header("X-Private", "1");
    app.at("/page").answer(answer.header("Keep-Alive", "timeout=5").header("X-Public", "1"));
    let side = Sidestream::before(&app).start().await;

    let request = side
        .get("/page")
        .header("Connection", "keep-alive, X-Secret-Hop")
        .header("X-Secret-Hop", "1")
        .header("Keep-Alive", "timeout=5")
        .header("Proxy-Connection", "keep-alive")
        .header("Proxy-Authorization", "Basic x")
        .header("X-Public", "1");
    let answer = request.fetch().await;

    let seen = &app.at("/page").seen()[0];
    for name in ["x-secret-hop", "keep-alive", "proxy-connection", "proxy-authorization"] {
        assert_eq!(seen.header(name), None, "{name} went to the app");
    }
    assert_eq!(seen.header("x-public"), Some("1"));
    assert_eq!((answer.header("x-private"), answer.header("keep-alive")), (None, None));
    assert_eq!(answer.header("x-public"), Some("1"));
}

#[tokio::test]
async fn cookies_redirects_and_compression_come_back_as_they_are() {
    let app = App::start();
    let answer = Answer::text(307, "not really gzip").header("Content-Encoding", "gzip");
    let answer = answer.header("Set-Cookie", "a=1; Path=/").header("Set-Cookie", "b=2, c; HttpOnly");
    app.at("/page").answer(answer.header("Location", "http://127.0.0.1:9/elsewhere"));
    let side = Sidestream::before(&app).start().await;

    let answer = side.get("/page").header("Accept-Encoding", "gzip, br").fetch().await;

    assert_eq!((answer.status(), answer.header("location")), (307, Some("http://127.0.0.1:9/elsewhere")));
    assert_eq!(answer.head.all("set-cookie"), ["a=1; Path=/", "b=2, c; HttpOnly"]);
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert_eq!(answer.text(), "not really gzip");
    assert_eq!(app.at("/page").seen()[0].header("accept-encoding"), Some("gzip, br"));
}

#[tokio::test]
async fn head_keeps_the_length_and_has_no_body() {
    let app = App::start();
    app.at("/page").answer(Answer::text(200, "12345"));
    let side = Sidestream::before(&app).start().await;

    let head = side.request("HEAD", "/page").open().await;
    let length = head.header("content-length").map(str::to_owned);
    // The connection must be at the start of the next answer.
    let mut wire = head.into_wire();
    wire.send(&side.get("/page").bytes()).await.expect("the connection is kept");
    let mut next = Client::read(wire, "GET").await;
    next.read_to_end().await;

    assert_eq!(length.as_deref(), Some("5"));
    assert_eq!(next.text(), "12345");
    assert_eq!(app.at("/page").seen()[0].method, "HEAD");
}

#[tokio::test]
async fn expect_100_continue_works() {
    let app = App::start();
    app.at("/upload").answer(Answer::text(200, "ok"));
    let side = Sidestream::before(&app).start().await;

    let request = side.request("POST", "/upload").header("Expect", "100-continue").header("Content-Length", "5");
    let mut wire = request.send().await;
    let interim = crate::harness::within("100 Continue", wire.head()).await.expect("a head").expect("a head");
    wire.send(b"hello").await.expect("the body is taken");
    let mut answer = Client::read(wire, "POST").await;
    answer.read_to_end().await;

    assert!(interim.first_line.starts_with("HTTP/1.1 100"), "{}", interim.first_line);
    assert_eq!(answer.text(), "ok");
    assert_eq!(app.at("/upload").seen()[0].body, b"hello");
}

#[tokio::test]
async fn chunked_bodies_and_trailers_go_both_ways() {
    let app = App::start();
    app.at("/trailers").answer(Answer::raw(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n",
    ));
    let side = Sidestream::before(&app).start().await;

    let request = side.request("POST", "/trailers").header("Transfer-Encoding", "chunked").header("TE", "trailers");
    let mut wire = request.header("Trailer", "X-Up").send().await;
    wire.send(b"5\r\nhello\r\n1\r\n!\r\n0\r\nX-Up: 1\r\n\r\n").await.expect("the body is taken");
    let mut answer = Client::read(wire, "POST").await;
    let end = answer.read_to_end().await;

    let seen = &app.at("/trailers").seen()[0];
    assert_eq!(seen.body, b"hello!");
    assert_eq!(seen.trailers.header("x-up"), Some("1"));
    assert_eq!((answer.text().as_str(), end), ("abc", End::Clean));
    assert_eq!(answer.trailers.header("x-sum"), Some("7"));
}

/// An answer cut by the app must be seen as cut by the client, or half a file is taken for a whole one.
#[tokio::test]
async fn a_cut_answer_stays_cut() {
    let app = App::start();
    app.at("/cut").answer(Answer::text(200, "half of this").cut());
    app.at("/chunked")
        .answer(Answer::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n9\r\nhal").close());
    let side = Sidestream::before(&app).start().await;

    let mut by_length = side.get("/cut").open().await;
    let mut by_chunk = side.get("/chunked").open().await;

    assert_eq!(by_length.read_to_end().await, End::Cut);
    assert_eq!(by_chunk.read_to_end().await, End::Cut);
}

#[tokio::test]
async fn requests_that_disagree_about_themselves_are_refused() {
    let app = App::start();
    app.at("/*").answer(Answer::text(200, "reached"));
    let side = Sidestream::before(&app).start().await;

    let smuggled = side.request("POST", "/a").header("Content-Length", "5").header("Transfer-Encoding", "chunked");
    let two_lengths = side.request("POST", "/b").header("Content-Length", "5").header("Content-Length", "6");
    let two_hosts = side.get("/c").header("Host", "other.example");
    let statuses = [smuggled, two_lengths, two_hosts];

    for request in statuses {
        assert_eq!(request.open().await.status(), 400, "{request:?}");
    }
    assert_eq!(app.seen().len(), 0);
}

#[tokio::test]
async fn the_app_unreachable_is_502_with_one_line() {
    let app = App::start_stopped().await;
    let side = Sidestream::before(&app).start().await;

    let answer = side.get("/page").fetch().await;

    assert_eq!(answer.status(), 502);
    assert_eq!(answer.text().trim_end().lines().count(), 1, "{:?}", answer.text());
    assert!(!answer.text().trim().is_empty());
    let samples = side.metrics().await;
    assert!(samples.get("upstream_requests_total", &[("purpose", "forward"), ("outcome", "refused")]) >= 1.0);
    assert_eq!(samples.get("http_requests_total", &[("code", "5xx")]), 1.0);
}

/// A host that takes no connection: the handshake is never answered, as behind a firewall that drops.
#[tokio::test]
async fn an_app_too_slow_to_connect_is_504() {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let full = socket.listen(0).expect("a bound socket listens");
    let addr = full.local_addr().expect("an address");
    // Nobody accepts: with its queue full the kernel leaves further handshakes unanswered.
    let mut queue = JoinSet::new();
    for _ in 0..4 {
        queue.spawn(TcpStream::connect(addr));
    }
    queue.join_next().await;
    let side = Sidestream::before_addr(addr).start().await;

    let answer = side.get("/page").fetch().await;

    assert_eq!(answer.status(), 504, "{}", answer.text());
    assert_eq!(answer.text().trim_end().lines().count(), 1, "{:?}", answer.text());
    assert_eq!(side.metric("upstream_requests_total", &[("purpose", "forward"), ("outcome", "timeout")]).await, 1.0);
}

/// The classic race of keep-alive: the app closes the connection in the moment in which the next request leaves.
#[tokio::test]
async fn a_request_that_hits_a_dying_connection_is_repeated_once() {
    let app = App::start();
    app.at("/warm").answer(Answer::text(200, "warm"));
    app.at("/page").answers([Answer::reset(), Answer::text(200, "second try")]);
    app.at("/post").answers([Answer::reset(), Answer::text(200, "second try")]);
    let side = Sidestream::before(&app).start().await;

    side.get("/warm").fetch().await;
    let repeated = side.get("/page").fetch().await;
    side.get("/warm").fetch().await;
    let not_repeated = side.request("POST", "/post").body(b"pay").fetch().await;

    assert_eq!((repeated.status(), repeated.text().as_str()), (200, "second try"));
    assert_eq!(not_repeated.status(), 502, "a payment must not be made twice");
    assert_eq!((app.at("/page").count(), app.at("/post").count()), (2, 1));
}

/// As Node does after 5 s: a close after the answer that no header announced. What can be repeated survives it at any
/// moment; what can't, whenever the kernel has heard of the close.
#[tokio::test]
async fn connections_that_the_app_closes_between_requests_cost_nothing() {
    let app = App::start();
    app.at("/page").answer(Answer::text(200, "ok").close());
    let side = Sidestream::before(&app).start().await;

    for n in 0..100 {
        let answer = side.get("/page").fetch().await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"), "request {n}");
    }
    for n in 0..20 {
        eventually("the app to close", async || (app.open_connections() == 0).then_some(())).await;
        let answer = side.request("POST", "/page").body(b"x").fetch().await;
        assert_eq!(answer.status(), 200, "post {n}");
    }
}

/// The pool: one connection serves many requests, on both sides.
#[tokio::test]
async fn connections_are_kept_alive_on_both_sides() {
    let app = App::start();
    app.at("/page").answer(Answer::text(200, "ok"));
    let side = Sidestream::before(&app).start().await;

    let mut client = side.get("/page").fetch().await;
    for _ in 0..20 {
        let mut wire = client.into_wire();
        wire.send(&side.get("/page").bytes()).await.expect("the connection is kept");
        client = Client::read(wire, "GET").await;
        client.read_to_end().await;
    }

    assert_eq!(client.text(), "ok");
    assert!(app.connections() <= 3, "{} connections to the app", app.connections());
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let app = App::start();
    for n in 0..5 {
        app.at(&format!("/{n}")).answer(Answer::text(200, &format!("answer {n}")));
    }
    let side = Sidestream::before(&app).start().await;

    let mut wire = side.get("/0").send().await;
    let rest: Vec<u8> = (1..5).flat_map(|n| side.get(&format!("/{n}")).bytes()).collect();
    wire.send(&rest).await.expect("the requests are taken");
    for n in 0..5 {
        let mut client = Client::read(wire, "GET").await;
        client.read_to_end().await;
        assert_eq!(client.text(), format!("answer {n}"));
        wire = client.into_wire();
    }
}

/// An answer without a length, as HTTP/1.0 apps give it, keeps its end.
#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_whole() {
    let app = App::start();
    app.at("/old").answer(Answer::raw("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nthe old way").close());
    let side = Sidestream::before(&app).start().await;

    let mut answer = side.get("/old").open().await;
    let end = answer.read_to_end().await;

    assert_eq!((answer.text().as_str(), end), ("the old way", End::Clean));
    assert_eq!(answer.framing(), Framing::Chunked);
}

#[tokio::test]
async fn many_requests_at_once_all_get_their_own_answer() {
    let app = App::start();
    app.at("/n/*").answer_with(|seen| Answer::text(200, seen.path()));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;

    let mut requests = JoinSet::new();
    for n in 0..200 {
        let request = side.get(&format!("/n/{n}"));
        requests.spawn(async move { (n, request.fetch().await.text()) });
    }
    for (n, text) in requests.join_all().await {
        assert_eq!(text, format!("/n/{n}"));
    }
    assert_eq!(side.metric("upstream_requests_total", &[("purpose", "forward"), ("outcome", "ok")]).await, 200.0);
}
