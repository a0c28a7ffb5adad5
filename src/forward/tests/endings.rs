use std::time::Duration;

use super::*;
use crate::upstream::Upstream;

const GET: &str = "GET /x?secret=1 HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn an_app_that_is_not_there_is_502_in_one_line_and_the_connection_lives_on() {
    let rig = Rig::new().await;
    let Rig { app, address, metrics, .. } = rig;
    drop(app);
    let mut client = TcpStream::connect(address).await.unwrap();
    for _ in 0..2 {
        client.write_all(GET.as_bytes()).await.unwrap();
        let head = within(read_head(&mut client)).await;
        assert_eq!(status(&head), "HTTP/1.1 502 Bad Gateway");
        assert_eq!(lines(&head, "content-type"), ["text/plain; charset=utf-8"]);
        let length = lines(&head, "content-length")[0].parse().unwrap();
        let text = read_text(&mut client, length).await;
        assert_eq!(text, "bad gateway: the app cannot be reached\n");
    }
    assert_eq!(metrics.upstream_request_count(Purpose::Forward, Outcome::Refused), 2);
}

#[tokio::test]
async fn an_app_that_breaks_off_before_its_answer_is_502() {
    for last_words in ["", "HTTP/1.1 200 OK\r\nContent-"] {
        let rig = Rig::new().await;
        let mut client = rig.client(GET).await;
        let (mut app, _) = rig.accept().await;
        app.write_all(last_words.as_bytes()).await.unwrap();
        drop(app);
        assert_eq!(status(&within(read_head(&mut client)).await), "HTTP/1.1 502 Bad Gateway");
        assert_eq!(rig.count(Outcome::Broken), 1);
    }
}

#[tokio::test]
async fn an_app_that_takes_no_connection_is_504() {
    let (address, listener, _queue) = deaf_app().await;
    let patience = Duration::from_millis(100);
    let upstream = Upstream::with_timeouts(address.to_string().parse().unwrap(), patience, patience);
    let rig = Rig::before(listener, upstream).await;
    let mut client = rig.client(GET).await;
    assert_eq!(status(&within(read_head(&mut client)).await), "HTTP/1.1 504 Gateway Timeout");
    assert_eq!(rig.count(Outcome::Timeout), 1);
}

#[tokio::test]
async fn a_coding_nobody_asked_for_is_502() {
    let rig = Rig::new().await;
    let mut client = rig.client(GET).await;
    let (mut app, _) = rig.accept().await;
    app.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n").await.unwrap();
    assert_eq!(status(&within(read_head(&mut client)).await), "HTTP/1.1 502 Bad Gateway");
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_cancels_the_request() {
    for is_reset in [false, true] {
        let rig = Rig::new().await;
        let client = rig.client(GET).await;
        let (mut app, _) = rig.accept().await;
        if is_reset {
            client.set_zero_linger().unwrap();
        }
        drop(client);
        closed(&mut app).await;
        rig.counted(Outcome::Cancelled).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_a_download_cancels_it() {
    let rig = Rig::new().await;
    let mut client = rig.client(GET).await;
    let (mut app, _) = rig.accept().await;
    app.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await.unwrap();
    within(read_head(&mut client)).await;
    assert_eq!(read_text(&mut client, 8).await, "3\r\nabc\r\n");
    drop(client);
    closed(&mut app).await;
}

/// Here nothing is read from the client, and the app writes as much as it can.
#[tokio::test]
async fn a_client_that_leaves_without_reading_a_download_cancels_it() {
    let rig = Rig::new().await;
    let client = rig.client(GET).await;
    let (mut app, _) = rig.accept().await;
    app.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n").await.unwrap();
    let block = vec![b'x'; 1 << 20];
    // Until it is blocked: the buffers of two sockets and of hyper hold some megabytes.
    while tokio::time::timeout(Duration::from_millis(300), app.write_all(&block)).await.is_ok() {}
    drop(client);
    within(async { while app.write_all(&block).await.is_ok() {} }).await;
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_an_upload_cancels_it() {
    for framing in ["Content-Length: 100\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let rig = Rig::new().await;
        let client = rig.client(&format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}")).await;
        let (mut app, _) = rig.accept().await;
        drop(client);
        let rest = read_rest(&mut app).await.unwrap_or_default();
        assert!(!rest.ends_with("0\r\n\r\n"), "a cut upload must not look complete: {rest:?}");
        rig.counted(Outcome::Cancelled).await;
    }
}

#[tokio::test]
async fn an_answer_that_the_app_cuts_is_cut_for_the_client() {
    let rig = Rig::new().await;
    let mut client = rig.client(GET).await;
    let (mut app, _) = rig.accept().await;
    app.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").await.unwrap();
    drop(app);
    let text = read_rest(&mut client).await.unwrap();
    assert!(text.contains("content-length: 10\r\n") && text.ends_with("\r\n\r\nabc"), "{text}");

    let mut client = rig.client(GET).await;
    let (mut app, _) = rig.accept().await;
    app.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5\r\nde").await.unwrap();
    drop(app);
    let text = read_rest(&mut client).await.unwrap();
    assert!(text.contains("\r\n3\r\nabc\r\n") && text.ends_with("de\r\n"), "what came before the cut is lost: {text}");
}

/// hyper drops what it buffers when the body fails. With small sockets, that is most of this answer.
#[tokio::test]
async fn what_the_app_sent_before_it_cut_its_answer_reaches_a_slow_client() {
    const SENT: usize = 50_000;
    let (app, address) = listen().await;
    let (listener, public) = listen().await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    let mut client = within(socket.connect(public)).await.unwrap();
    client.write_all(GET.as_bytes()).await.unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    socket2::SockRef::from(&stream).set_send_buffer_size(2048).unwrap();
    let wire = Wire::new(stream);
    let state = wire.state();
    let metrics = Arc::new(Metrics::register(&Registry::new(), &[]).unwrap());
    let forwarder = Forwarder::new(upstream(address), Arc::clone(&metrics));
    let context = ForwardContext::new(peer, wire.state(), TaskTracker::new(), CancellationToken::new());
    tokio::spawn(serve_connection(wire, forwarder, context));

    let (mut stream, _) = within(app.accept()).await.unwrap();
    within(read_head(&mut stream)).await;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").await.unwrap();
    stream.write_all(&[b'x'; SENT]).await.unwrap();
    drop(stream);
    within(async {
        while !state.is_blocked() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let text = read_rest(&mut client).await.unwrap();
    assert_eq!(text.split_once("\r\n\r\n").unwrap().1.len(), SENT);
}

/// Its body ends with the connection, so only a reset can tell it that there should have been more.
#[tokio::test]
async fn an_answer_that_the_app_cuts_is_a_reset_for_an_http_1_0_client() {
    let rig = Rig::new().await;
    let mut client = rig.client("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
    let (mut app, _) = rig.accept().await;
    app.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await.unwrap();
    within(read_head(&mut client)).await;
    assert_eq!(read_text(&mut client, 3).await, "abc");
    drop(app);
    let error = read_rest(&mut client).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_get_that_meets_a_dying_connection_succeeds_and_a_post_does_not() {
    for (method, expected) in [("GET", "200 OK"), ("DELETE", "200 OK"), ("POST", "502 Bad Gateway")] {
        let rig = Rig::new().await;
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
        let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let mut client = rig.client(&request).await;
        let (mut app, _) = rig.accept().await;
        app.write_all(ok).await.unwrap();
        within(read_head(&mut client)).await;
        assert_eq!(read_text(&mut client, 2).await, "ok");
        client.write_all(request.as_bytes()).await.unwrap();
        within(read_head(&mut app)).await;
        drop(app);
        if expected.starts_with("200") {
            let (mut app, head) = rig.accept().await;
            assert!(head.starts_with(method));
            app.write_all(ok).await.unwrap();
        }
        assert_eq!(status(&within(read_head(&mut client)).await), format!("HTTP/1.1 {expected}"));
    }
}

#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_holds_no_targets_and_no_credentials() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let rig = Rig::new().await;
    let mut client = rig.client("GET /secret/x?secret=1 HTTP/1.1\r\nHost: a\r\nCookie: secret\r\n\r\n").await;
    let (mut app, _) = rig.accept().await;
    app.write_all(b"HTTP/1.1 200 OK\r\nSet-Cookie: secret\r\nContent-Length: 9\r\n\r\n").await.unwrap();
    within(read_head(&mut client)).await;
    drop(app);
    closed(&mut client).await;
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("forwarded method=GET status=200 outcome=\"ok\""), "{text}");
    assert!(text.contains("the app cut its answer"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}
