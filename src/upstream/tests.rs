use std::net::SocketAddr;

use http_body_util::BodyExt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
    time::timeout,
};

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    timeout(DEADLINE, future).await.expect("no hang")
}

/// Reads a head up to its empty line; what was read before the peer closed, if it did.
pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

pub(crate) fn upstream(address: SocketAddr) -> Upstream {
    Upstream::new(address.to_string().parse().unwrap())
}

async fn get(upstream: &Upstream) -> Result<String, UpstreamError> {
    let response = within(upstream.get(&PathAndQuery::from_static("/x?y=1"), HeaderMap::new())).await?;
    let body = within(response.into_body().collect()).await.unwrap().to_bytes();
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

/// An app that closes its kept-alive connections with `last_words` when a request arrives on them, as one does that
/// closes idle connections at that very moment. `cuts` says how many requests on fresh connections it cuts, too.
async fn dying_app(last_words: &'static [u8], cuts: usize) -> (Upstream, JoinSet<Vec<String>>) {
    let (listener, address) = listen().await;
    let mut app = JoinSet::new();
    app.spawn(async move {
        let mut seen = Vec::new();
        let (mut stream, _) = listener.accept().await.unwrap();
        seen.push(read_head(&mut stream).await);
        stream.write_all(OK).await.unwrap();
        seen.push(read_head(&mut stream).await);
        stream.write_all(last_words).await.unwrap();
        drop(stream);
        for answers in [vec![&b""[..]; cuts], vec![OK]].concat() {
            let Ok((mut stream, _)) = listener.accept().await else { break };
            seen.push(read_head(&mut stream).await);
            stream.write_all(answers).await.unwrap();
        }
        seen
    });
    (upstream(address), app)
}

#[tokio::test]
async fn a_get_carries_its_path_and_query_and_the_apps_own_host() {
    let (listener, address) = listen().await;
    let app = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = read_head(&mut stream).await;
        stream.write_all(OK).await.unwrap();
        head
    });
    assert_eq!(get(&upstream(address)).await.unwrap(), "ok");
    assert_eq!(app.await.unwrap(), format!("GET /x?y=1 HTTP/1.1\r\nhost: {address}\r\n\r\n"));
}

#[tokio::test]
async fn a_request_that_meets_a_dying_connection_is_repeated_once_on_a_fresh_one() {
    let (upstream, mut app) = dying_app(b"", 0).await;
    assert_eq!(get(&upstream).await.unwrap(), "ok");
    assert_eq!(get(&upstream).await.unwrap(), "ok");
    let seen = within(app.join_next()).await.unwrap().unwrap();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|head| head == &seen[0]), "{seen:?}");
}

/// A restart of the app: another pooled connection would be as dead as the first.
#[tokio::test]
async fn when_all_pooled_connections_die_together_no_request_fails() {
    let (listener, address) = listen().await;
    let upstream = upstream(address);
    let asking: Vec<_> = (0..3)
        .map(|_| {
            tokio::spawn({
                let upstream = upstream.clone();
                async move { get(&upstream).await }
            })
        })
        .collect();
    let mut streams = Vec::new();
    for _ in 0..3 {
        let (mut stream, _) = within(listener.accept()).await.unwrap();
        read_head(&mut stream).await;
        streams.push(stream);
    }
    for stream in &mut streams {
        stream.write_all(OK).await.unwrap();
    }
    for asked in asking {
        assert_eq!(asked.await.unwrap().unwrap(), "ok");
    }
    // Whichever is taken dies with the request. The others do so only when that is sent, so nobody can know before.
    let app = tokio::spawn(async move {
        let heads = streams.into_iter().map(|mut stream| Box::pin(async move { read_head(&mut stream).await }));
        let (head, _, others) = futures_util::future::select_all(heads).await;
        assert!(head.starts_with("GET /x"));
        let (mut fresh, _) = listener.accept().await.unwrap();
        read_head(&mut fresh).await;
        drop(others);
        fresh.write_all(OK).await.unwrap();
    });
    assert_eq!(get(&upstream).await.unwrap(), "ok");
    within(app).await.unwrap();
}

#[tokio::test]
async fn a_request_is_not_repeated_twice() {
    let (upstream, mut app) = dying_app(b"", 1).await;
    assert_eq!(get(&upstream).await.unwrap(), "ok");
    let error = get(&upstream).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Broken(_)), "{error:?}");
    assert_eq!(error.outcome(), Outcome::Broken);
    // The app still waits for one more: had that been sent on its own, this would find another one before it.
    assert_eq!(get(&upstream).await.unwrap(), "ok");
    assert_eq!(within(app.join_next()).await.unwrap().unwrap().len(), 4);
}

/// Whatever it was that the app began to say, it had begun to do something.
#[tokio::test]
async fn a_request_whose_answer_had_begun_is_not_repeated() {
    for last_words in [&b"HTTP/1.1 200"[..], b"HTTP/1.1 103 Early Hints\r\n\r\n"] {
        let (upstream, mut app) = dying_app(last_words, 0).await;
        assert_eq!(get(&upstream).await.unwrap(), "ok");
        assert!(matches!(get(&upstream).await, Err(UpstreamError::Broken(_))));
        assert_eq!(get(&upstream).await.unwrap(), "ok");
        assert_eq!(within(app.join_next()).await.unwrap().unwrap().len(), 3);
    }
}

#[tokio::test]
async fn a_post_is_not_repeated() {
    let (upstream, mut app) = dying_app(b"", 0).await;
    assert_eq!(get(&upstream).await.unwrap(), "ok");
    let post = Request::post("/").body(RequestBody::Empty).unwrap();
    assert!(matches!(within(upstream.send(post)).await, Err(UpstreamError::Broken(_))));
    assert_eq!(get(&upstream).await.unwrap(), "ok");
    assert_eq!(within(app.join_next()).await.unwrap().unwrap().len(), 3);
}

/// Not a byte of it was sent on the connection that the app had closed, so it may go on another one whatever it is.
#[tokio::test]
async fn a_post_that_finds_its_connection_closed_takes_another_one() {
    let (listener, address) = listen().await;
    let upstream = upstream(address);
    let asking = tokio::spawn({
        let upstream = upstream.clone();
        async move { get(&upstream).await }
    });
    let (mut stream, _) = within(listener.accept()).await.unwrap();
    read_head(&mut stream).await;
    stream.write_all(OK).await.unwrap();
    assert_eq!(asking.await.unwrap().unwrap(), "ok");
    drop(stream);
    // The runtime hears of the close together with whatever comes after it.
    let (other, elsewhere) = listen().await;
    let _later = tokio::join!(TcpStream::connect(elsewhere), other.accept());

    let app = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = read_head(&mut stream).await;
        stream.write_all(OK).await.unwrap();
        head
    });
    let post = Request::post("/").body(RequestBody::Empty).unwrap();
    within(upstream.send(post)).await.unwrap();
    assert!(within(app).await.unwrap().starts_with("POST / "));
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other_and_each_a_burst_of_its_own() {
    let (listener, address) = listen().await;
    let upstream = upstream(address);
    let app = tokio::spawn(async move {
        let mut connections = Vec::new();
        for _ in 0..2 {
            connections.push(listener.accept().await.unwrap().0);
        }
        for round in 0..3 {
            for stream in &mut connections {
                assert!(read_head(stream).await.starts_with("GET /x"), "round {round}");
            }
            for stream in &mut connections {
                stream.write_all(OK).await.unwrap();
            }
        }
    });
    for _ in 0..3 {
        let (one, other) = tokio::join!(get(&upstream), get(&upstream));
        assert_eq!((one.unwrap().as_str(), other.unwrap().as_str()), ("ok", "ok"));
    }
    within(app).await.unwrap();
}

#[tokio::test]
async fn a_failure_on_a_fresh_connection_is_not_repeated() {
    let (listener, address) = listen().await;
    let app = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        drop(stream);
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = read_head(&mut stream).await;
        stream.write_all(OK).await.unwrap();
        head
    });
    let upstream = upstream(address);
    assert!(matches!(get(&upstream).await, Err(UpstreamError::Broken(_))));
    let other = PathAndQuery::from_static("/other");
    within(upstream.get(&other, HeaderMap::new())).await.unwrap();
    assert!(within(app).await.unwrap().starts_with("GET /other"), "the first one came again");
}

#[tokio::test]
async fn an_app_that_does_not_listen_is_refused() {
    let (listener, address) = listen().await;
    drop(listener);
    let error = get(&upstream(address)).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Refused(_)), "{error:?}");
    assert_eq!(error.outcome(), Outcome::Refused);
    assert!(Causes(&error).to_string().contains("refused"), "{}", Causes(&error));
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_broken() {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        stream.write_all(b"SSH-2.0-OpenSSH_9\r\n").await.unwrap();
    });
    assert!(matches!(get(&upstream(address)).await, Err(UpstreamError::Broken(_))));
}

/// A listener whose queue is full drops the first packet of every further connection.
pub(crate) async fn deaf_app() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        queue.push(stream.unwrap());
    }
    (address, listener, queue)
}

#[tokio::test]
async fn an_app_that_takes_no_connection_times_out() {
    let (address, _listener, _queue) = deaf_app().await;
    let authority = address.to_string().parse().unwrap();
    let upstream = Upstream::with_timeouts(authority, Duration::from_millis(100), IDLE_TIMEOUT);
    let error = get(&upstream).await.unwrap_err();
    assert!(matches!(error, UpstreamError::ConnectTimeout), "{error:?}");
    assert_eq!(error.outcome(), Outcome::Timeout);
    assert!(error.to_string().contains("within 5s"), "{error}");
}

#[tokio::test]
async fn an_idle_connection_is_closed_by_us() {
    let (listener, address) = listen().await;
    let app = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        stream.write_all(OK).await.unwrap();
        within(stream.read(&mut [0; 1])).await.unwrap()
    });
    let authority = address.to_string().parse().unwrap();
    let upstream = Upstream::with_timeouts(authority, CONNECT_TIMEOUT, Duration::from_millis(100));
    assert_eq!(get(&upstream).await.unwrap(), "ok");
    assert_eq!(within(app).await.unwrap(), 0);
}

#[tokio::test]
async fn dropping_the_request_closes_the_connection() {
    let (listener, address) = listen().await;
    let upstream = upstream(address);
    let asking = tokio::spawn(async move { get(&upstream).await });
    let (mut stream, _) = within(listener.accept()).await.unwrap();
    read_head(&mut stream).await;
    asking.abort();
    assert_eq!(within(stream.read(&mut [0; 1])).await.unwrap(), 0);
}

/// Node takes no connection after 4 s of silence for granted, and neither may we.
#[test]
fn our_patience_with_an_idle_connection_is_shorter_than_nodes() {
    assert!(IDLE_TIMEOUT < Duration::from_secs(5));
}
