use std::time::Duration;

use super::*;

const TOTAL: usize = 64 << 20;
/// What two pairs of socket buffers (Linux lets each grow to 6 MiB to read and 4 MiB to write) and hyper's may hold.
const HELD_BACK: usize = 32 << 20;
const BLOCK: usize = 64 * 1024;

/// Writes `TOTAL` bytes as fast as they are taken; returns how many went before nothing was taken any more for a
/// while, and then writes the rest.
async fn pour(stream: &mut TcpStream, blocked: tokio::sync::oneshot::Sender<usize>) {
    let block = vec![b'x'; BLOCK];
    let mut blocked = Some(blocked);
    let mut written = 0;
    while written < TOTAL {
        let writing = stream.write(&block[..BLOCK.min(TOTAL - written)]);
        match blocked.take() {
            None => written += within(writing).await.unwrap(),
            Some(tell) => match tokio::time::timeout(Duration::from_millis(500), writing).await {
                Ok(more) => {
                    written += more.unwrap();
                    blocked = Some(tell);
                }
                Err(_) => tell.send(written).unwrap(),
            },
        }
    }
}

async fn drain(stream: &mut TcpStream) {
    let mut sink = vec![0; BLOCK];
    let mut left = TOTAL;
    while left > 0 {
        let read = within(stream.read(&mut sink)).await.unwrap();
        assert!(read > 0, "{left} bytes are missing");
        left -= read;
    }
}

#[tokio::test]
async fn an_upload_is_held_back_while_the_app_does_not_read() {
    let rig = Rig::new().await;
    let mut client = rig.client(&format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {TOTAL}\r\n\r\n")).await;
    let (mut app, head) = rig.accept().await;
    assert_eq!(lines(&head, "content-length"), [TOTAL.to_string()]);
    let (tell, blocked) = tokio::sync::oneshot::channel();
    let pouring = tokio::spawn(async move {
        pour(&mut client, tell).await;
        client
    });
    let taken = within(blocked).await.unwrap();
    assert!(taken < HELD_BACK, "{taken} bytes are held in between");
    drain(&mut app).await;
    app.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    let mut client = pouring.await.unwrap();
    assert_eq!(status(&within(read_head(&mut client)).await), "HTTP/1.1 201 Created");
}

#[tokio::test]
async fn a_download_is_held_back_while_the_client_does_not_read() {
    let rig = Rig::new().await;
    let mut client = rig.client("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (mut app, _) = rig.accept().await;
    let (tell, blocked) = tokio::sync::oneshot::channel();
    let pouring = tokio::spawn(async move {
        app.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {TOTAL}\r\n\r\n").as_bytes()).await.unwrap();
        pour(&mut app, tell).await;
        app
    });
    let taken = within(blocked).await.unwrap();
    assert!(taken < HELD_BACK, "{taken} bytes are held in between");
    assert_eq!(lines(&within(read_head(&mut client)).await, "content-length"), [TOTAL.to_string()]);
    drain(&mut client).await;
    pouring.await.unwrap();
}

#[tokio::test]
async fn both_directions_stream_at_once() {
    let rig = Rig::new().await;
    let mut client = rig.client("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let (mut app, head) = rig.accept().await;
    assert_eq!(lines(&head, "transfer-encoding"), ["chunked"]);
    app.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    within(read_head(&mut client)).await;
    for chunk in ["3\r\none\r\n", "3\r\ntwo\r\n"] {
        client.write_all(chunk.as_bytes()).await.unwrap();
        assert_eq!(read_text(&mut app, chunk.len()).await, chunk);
        app.write_all(chunk.as_bytes()).await.unwrap();
        assert_eq!(read_text(&mut client, chunk.len()).await, chunk);
    }
    client.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(read_text(&mut app, 5).await, "0\r\n\r\n");
    app.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(read_text(&mut client, 5).await, "0\r\n\r\n");
}

/// hyper sends none with GET unless it is told to.
#[tokio::test]
async fn a_get_may_have_a_body() {
    for (framing, seen) in [
        ("Content-Length: 3\r\n\r\nabc", "abc"),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n"),
    ] {
        let rig = Rig::new().await;
        let _client = rig.client(&format!("GET /search HTTP/1.1\r\nHost: a\r\n{framing}")).await;
        let (mut app, _) = rig.accept().await;
        assert_eq!(read_text(&mut app, seen.len()).await, seen);
    }
}

#[tokio::test]
async fn announced_trailers_go_both_ways() {
    let rig = Rig::new().await;
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\nTrailer: X-Sum\r\n\
                   Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n";
    let mut client = rig.client(request).await;
    let (mut app, head) = rig.accept().await;
    assert_eq!(lines(&head, "te"), ["trailers"]);
    assert_eq!(lines(&head, "trailer"), ["X-Sum"]);
    let body = "3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n";
    assert_eq!(read_text(&mut app, body.len()).await, body);
    app.write_all(
        b"HTTP/1.1 200 OK\r\nTrailer: X-End\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nz\r\n0\r\nX-End: 2\r\n\r\n",
    )
    .await
    .unwrap();
    let head = within(read_head(&mut client)).await;
    assert_eq!(lines(&head, "trailer"), ["X-End"]);
    let body = "1\r\nz\r\n0\r\nx-end: 2\r\n\r\n";
    assert_eq!(read_text(&mut client, body.len()).await, body);
}

const EXPECT: &str = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";

#[tokio::test]
async fn a_client_that_waits_for_100_is_told_to_go_on_when_the_app_is_there() {
    let rig = Rig::new().await;
    let mut client = rig.client(EXPECT).await;
    let (mut app, head) = rig.accept().await;
    assert!(lines(&head, "expect").is_empty());
    assert_eq!(within(read_head(&mut client)).await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"abc").await.unwrap();
    assert_eq!(read_text(&mut app, 3).await, "abc");
    app.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    assert_eq!(status(&within(read_head(&mut client)).await), "HTTP/1.1 200 OK");
}

#[tokio::test]
async fn a_client_that_waits_for_100_is_not_made_to_send_when_there_is_no_app() {
    let Rig { app, address, .. } = Rig::new().await;
    drop(app);
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(EXPECT.as_bytes()).await.unwrap();
    assert_eq!(status(&within(read_head(&mut client)).await), "HTTP/1.1 502 Bad Gateway");
}

/// The app says no before it has read the upload. The client must get to hear that, and an upload that nobody reads
/// must not hold the two connections for ever.
/// A body that trickles is a slow client; one that stops holds a connection of the app for nothing.
#[tokio::test]
async fn an_upload_in_which_nothing_comes_is_given_up() {
    let rig = Rig::new().await;
    let mut client = rig.client("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc").await;
    let (mut app, _) = rig.accept().await;
    assert_eq!(read_text(&mut app, 3).await, "abc");
    let head = within(read_head(&mut client)).await;
    assert_eq!(status(&head), "HTTP/1.1 408 Request Timeout");
    assert_eq!(lines(&head, "connection"), ["close"]);
    closed(&mut client).await;
    closed(&mut app).await;
    assert_eq!(rig.count(Outcome::Cancelled), 1);
}

/// What the observer has found malformed is not believed to be whole, even where hyper believes it.
#[tokio::test]
async fn a_malformed_body_never_ends_for_the_app_and_is_the_clients_fault() {
    let rig = Rig::new().await;
    for body in
        ["3;\0\r\nabc\r\n0\r\n\r\n", "3\r\nabc\r\n0\r\n\nX: y\r\n\r\n", "3\r\nabc\r\n0\r\nX: y\n\r\n", "3\r\nabcd"]
    {
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let mut client = rig.client(&text).await;
        let head = within(read_head(&mut client)).await;
        assert_eq!(status(&head), "HTTP/1.1 400 Bad Request", "{body:?}");
        assert_eq!(lines(&head, "connection"), ["close"], "{body:?}");
        closed(&mut client).await;
    }
    assert_eq!(rig.count(Outcome::Cancelled), 4);
}

#[tokio::test]
async fn an_early_answer_reaches_the_client_and_ends_an_upload_that_stalls() {
    let rig = Rig::new().await;
    let mut client = rig.client(&format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {TOTAL}\r\n\r\n")).await;
    let (mut app, _) = rig.accept().await;
    let block = vec![b'x'; 1 << 20];
    while tokio::time::timeout(Duration::from_millis(300), client.write_all(&block)).await.is_ok() {}
    app.write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
    assert_eq!(status(&within(read_head(&mut client)).await), "HTTP/1.1 413 Content Too Large");
    assert_eq!(read_text(&mut client, 2).await, "no");
    closed(&mut app).await;
    rig.tasks.close();
    within(rig.tasks.wait()).await;
}

/// An app may answer first and read later.
#[tokio::test]
async fn an_upload_that_goes_on_after_the_answer_is_left_alone() {
    let rig = Rig::new().await;
    let mut client = rig.client("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc").await;
    let (mut app, _) = rig.accept().await;
    app.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    assert_eq!(status(&within(read_head(&mut client)).await), "HTTP/1.1 202 Accepted");
    client.write_all(b"def").await.unwrap();
    assert_eq!(read_text(&mut app, 6).await, "abcdef");
    client.write_all(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let (_next, head) = rig.accept().await;
    assert!(head.starts_with("GET /next"), "{head}");
    closed(&mut app).await;
}

/// hyper reads no further when there is no app to send it to.
#[tokio::test]
async fn a_client_in_the_middle_of_an_upload_learns_that_there_is_no_app() {
    let Rig { app, address, .. } = Rig::new().await;
    drop(app);
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 8388608\r\n\r\n").await.unwrap();
    within(client.write_all(&vec![b'x'; 8 << 20])).await.unwrap();
    let text = read_rest(&mut client).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{text}");
}
