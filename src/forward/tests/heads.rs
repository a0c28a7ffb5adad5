use super::*;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Sends a request, has the app answer, and returns what each side got.
async fn exchange(request: &str, answer: &str) -> (String, String) {
    let rig = Rig::new().await;
    let mut client = rig.client(request).await;
    let (mut app, head) = rig.accept().await;
    app.write_all(answer.as_bytes()).await.unwrap();
    let got = within(read_head(&mut client)).await;
    (head, got)
}

#[tokio::test]
async fn path_and_query_arrive_byte_for_byte() {
    for target in [
        "/a/../b/./c//d",
        "/%2e%2E/%2f%41?x=%zz&y=a+b&&=",
        "//other.example/x",
        "/?",
        "/a;b=c?d?e/..%00",
        "/\"{}|^ü?[]\\'`|^ü{}",
    ] {
        let (head, _) =
            exchange(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), "HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(status(&head), format!("GET {target} HTTP/1.1"));
    }
}

#[tokio::test]
async fn the_app_sees_the_clients_headers_and_the_proxys_additions() {
    let request = "POST /x HTTP/1.1\r\nHost: Public.example:8443\r\nCookie: a=1\r\nCookie: b=2\r\nX-Odd: \t v \r\n\
                   Connection: keep-alive, x-private\r\nX-Private: 1\r\nKeep-Alive: 5\r\nContent-Length: 0\r\n\r\n";
    let (head, _) = exchange(request, "HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(lines(&head, "host"), ["Public.example:8443"]);
    assert_eq!(lines(&head, "cookie"), ["a=1", "b=2"]);
    assert_eq!(lines(&head, "x-odd"), ["v"]);
    assert_eq!(lines(&head, "content-length"), ["0"]);
    assert_eq!(lines(&head, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(lines(&head, "x-forwarded-proto"), ["http"]);
    assert_eq!(lines(&head, "x-forwarded-host"), ["Public.example:8443"]);
    for gone in ["connection", "x-private", "keep-alive", "transfer-encoding"] {
        assert!(lines(&head, gone).is_empty(), "{gone} in {head}");
    }
}

#[tokio::test]
async fn the_client_sees_the_apps_answer_without_what_was_for_us() {
    let answer = "HTTP/1.1 418 Short and Stout\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nLocation: http://x/\r\n\
                  Connection: X-Inner\r\nX-Inner: 1\r\nKeep-Alive: timeout=5\r\nContent-Encoding: gzip\r\n\
                  Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc";
    let (_, head) = exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n", answer).await;
    assert_eq!(status(&head), "HTTP/1.1 418 Short and Stout");
    assert_eq!(lines(&head, "set-cookie"), ["a=1", "b=2"]);
    assert_eq!(lines(&head, "location"), ["http://x/"]);
    assert_eq!(lines(&head, "content-encoding"), ["gzip"]);
    assert_eq!(lines(&head, "content-length"), ["3"]);
    for gone in ["connection", "x-inner", "keep-alive"] {
        assert!(lines(&head, gone).is_empty(), "{gone} in {head}");
    }
}

#[tokio::test]
async fn answers_without_a_body_keep_their_length() {
    for (method, answer, expected) in [
        ("HEAD", "200 OK\r\nContent-Length: 1234", &["1234"][..]),
        ("HEAD", "200 OK\r\nContent-Length: 0", &["0"]),
        ("HEAD", "200 OK\r\nTransfer-Encoding: chunked", &[]),
        ("HEAD", "200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5", &[]),
        ("HEAD", "304 Not Modified\r\nContent-Length: 7", &["7"]),
        ("GET", "304 Not Modified\r\nContent-Length: 1234", &["1234"]),
        ("GET", "304 Not Modified\r\nETag: \"a\"", &[]),
        ("GET", "204 No Content\r\nContent-Length: 0", &[]),
    ] {
        let rig = Rig::new().await;
        let mut client = rig.client(&format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let (mut app, _) = rig.accept().await;
        app.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()).await.unwrap();
        let head = within(read_head(&mut client)).await;
        assert_eq!(lines(&head, "content-length"), expected, "{method} {answer}");
        assert!(lines(&head, "transfer-encoding").is_empty());
        // The connections live on: nothing of a body was sent or waited for.
        client.write_all(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert!(within(read_head(&mut app)).await.starts_with("GET /next"));
        app.write_all(OK).await.unwrap();
        assert_eq!(status(&within(read_head(&mut client)).await), "HTTP/1.1 200 OK", "{method} {answer}");
    }
}

/// RFC 9112, section 6.3: the length is not to be believed, and not to be passed on.
#[tokio::test]
async fn an_answer_with_two_opinions_of_its_length_is_passed_on_with_one() {
    let rig = Rig::new().await;
    let mut client = rig.client("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    let (mut app, _) = rig.accept().await;
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    app.write_all(format!("{head}3\r\nabc\r\n0\r\n\r\n").as_bytes()).await.unwrap();
    let head = within(read_head(&mut client)).await;
    assert!(lines(&head, "content-length").is_empty(), "{head}");
    assert_eq!(lines(&head, "transfer-encoding"), ["chunked"]);
    assert_eq!(read_rest(&mut client).await.unwrap(), "3\r\nabc\r\n0\r\n\r\n");
}

#[tokio::test]
async fn an_http_1_0_client_gets_an_answer_that_ends_with_the_connection() {
    let rig = Rig::new().await;
    let mut client = rig.client("GET /old HTTP/1.0\r\n\r\n").await;
    let (mut app, head) = rig.accept().await;
    assert_eq!(status(&head), "GET /old HTTP/1.1");
    assert_eq!(lines(&head, "host"), [rig.app.local_addr().unwrap().to_string()]);
    let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
    app.write_all(format!("{hint}{answer}").as_bytes()).await.unwrap();
    let text = read_rest(&mut client).await.unwrap();
    assert!(text.starts_with("HTTP/1.0 200 OK\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\nabc") && !text.contains("chunked"), "{text}");
}

#[tokio::test]
async fn an_app_that_speaks_http_1_0_is_understood() {
    let (_, head) =
        exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(status(&head), "HTTP/1.1 200 OK");
}

#[tokio::test]
async fn targets_in_other_forms_become_what_the_app_expects() {
    let no_content = "HTTP/1.1 204 No Content\r\n\r\n";
    let (head, _) = exchange("GET http://App:80/x?y HTTP/1.1\r\nHost: app\r\n\r\n", no_content).await;
    assert_eq!(status(&head), "GET /x?y HTTP/1.1");
    assert_eq!(lines(&head, "host"), ["app"]);
    let (head, _) = exchange("GET http://app HTTP/1.1\r\nHost: app\r\n\r\n", no_content).await;
    assert_eq!(status(&head), "GET / HTTP/1.1");
    let (head, _) = exchange("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", no_content).await;
    assert_eq!(status(&head), "OPTIONS * HTTP/1.1");
    let (head, _) = exchange("PROPFIND /x HTTP/1.1\r\nHost: a\r\n\r\n", no_content).await;
    assert_eq!(status(&head), "PROPFIND /x HTTP/1.1");
}

#[tokio::test]
async fn connect_is_not_ours() {
    let rig = Rig::new().await;
    let mut client = rig.client("CONNECT other.example:443 HTTP/1.1\r\nHost: other.example:443\r\n\r\n").await;
    let text = read_rest(&mut client).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 501 "), "{text}");
}

/// Each of these is how a request is smuggled past a proxy, or would be by the next one.
#[tokio::test]
async fn requests_that_disagree_with_themselves_are_refused_and_never_reach_the_app() {
    let rig = Rig::new().await;
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
        "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\ncontent-length:\t5\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
        "GET /#/../secret HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
    ] {
        let mut client = rig.client(request).await;
        let head = within(read_head(&mut client)).await;
        assert_eq!(status(&head), "HTTP/1.1 400 Bad Request", "{request:?}");
        assert_eq!(lines(&head, "connection"), ["close"], "{request:?}");
        closed(&mut client).await;
    }
    // hyper's own refusal: it ends the connection without a word.
    let mut client = rig.client("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").await;
    let text = read_rest(&mut client).await.unwrap_or_default();
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 400"), "{text}");

    let mut client = rig.client("GET /good HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (mut app, head) = rig.accept().await;
    assert!(head.starts_with("GET /good "), "something came before: {head}");
    app.write_all(OK).await.unwrap();
    within(read_head(&mut client)).await;
}

#[tokio::test]
async fn of_pipelined_requests_the_bad_one_alone_is_refused() {
    let rig = Rig::new().await;
    let good = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let bad = "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let mut client = rig.client(&format!("{good}{good}{bad}{good}")).await;
    let (mut app, _) = rig.accept().await;
    for _ in 0..2 {
        assert_eq!(read_text(&mut app, 3).await, "abc");
        app.write_all(OK).await.unwrap();
        assert_eq!(status(&within(read_head(&mut client)).await), "HTTP/1.1 200 OK");
        assert_eq!(read_text(&mut client, 2).await, "ok");
        if rig.count(Outcome::Ok) < 2 {
            within(read_head(&mut app)).await;
        }
    }
    assert_eq!(status(&within(read_head(&mut client)).await), "HTTP/1.1 400 Bad Request");
    closed(&mut client).await;
    assert_eq!(rig.count(Outcome::Ok), 2);
}

#[tokio::test]
async fn early_hints_reach_the_client_before_the_answer() {
    let rig = Rig::new().await;
    let mut client = rig.client("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (mut app, _) = rig.accept().await;
    for round in 0..2 {
        app.write_all(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\nX: 1\r\n\r\n",
        )
        .await
        .unwrap();
        let head = within(read_head(&mut client)).await;
        assert_eq!(head, "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
        // The second hint and the answer arrive together, and still in order.
        app.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").await.unwrap();
        app.write_all(OK).await.unwrap();
        assert_eq!(within(read_head(&mut client)).await, "HTTP/1.1 102 Processing\r\n\r\n");
        assert_eq!(status(&within(read_head(&mut client)).await), "HTTP/1.1 200 OK");
        assert_eq!(read_text(&mut client, 2).await, "ok");
        if round == 0 {
            within(read_head(&mut app)).await;
        }
    }
}

/// Hints with the final head in one packet, and more of them than the queue holds: order is what counts.
#[tokio::test]
async fn a_flood_of_hints_is_bounded_and_stays_in_front() {
    let rig = Rig::new().await;
    let mut client = rig.client("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    let (mut app, _) = rig.accept().await;
    let hint = format!("HTTP/1.1 103 Early Hints\r\nlink: {}\r\n\r\n", "x".repeat(1000));
    app.write_all((hint.repeat(50) + std::str::from_utf8(OK).unwrap()).as_bytes()).await.unwrap();
    let text = read_rest(&mut client).await.unwrap();
    let hints = text.matches("103 Early Hints").count();
    assert!(hints > 0, "{text}");
    let rest = text.strip_prefix(&hint.repeat(hints)).unwrap();
    assert!(rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.ends_with("\r\n\r\nok"), "{rest}");
}

/// An app that answers every request with hints and its target in two chunks.
async fn chatty(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    loop {
        let head = read_head(&mut stream).await;
        let Some(target) = head.split(' ').nth(1) else { return };
        let hints = target.len() % 3;
        let mut answer = "HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n".repeat(hints);
        answer += "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        answer += &format!("{:x}\r\n{target}\r\n", target.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
        stream.write_all(b"1\r\n!\r\n0\r\n\r\n").await.unwrap();
    }
}

/// With the two connections' tasks on different threads, every wake-up that could be lost has its chance to be.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_pipelined_requests_with_hints_are_answered_in_order() {
    const REQUESTS: usize = 300;
    let rig = Arc::new(Rig::new().await);
    let app = tokio::spawn({
        let rig = Arc::clone(&rig);
        async move {
            loop {
                let (stream, _) = rig.app.accept().await.unwrap();
                tokio::spawn(chatty(stream));
            }
        }
    });
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let rig = Arc::clone(&rig);
            tokio::spawn(async move {
                let target = |i: usize| format!("/{client}/{}", "x".repeat(i % 7));
                let text: String =
                    (0..REQUESTS).map(|i| format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", target(i))).collect();
                let (mut reader, mut writer) = rig.connect().await.into_split();
                let writing = tokio::spawn(async move {
                    writer.write_all(text.as_bytes()).await.unwrap();
                    writer
                });
                let mut reader = tokio::io::BufReader::new(&mut reader);
                for i in 0..REQUESTS {
                    let mut body = String::new();
                    let mut hints = 0;
                    while !body.ends_with("0\r\n\r\n") {
                        let mut line = String::new();
                        within(tokio::io::AsyncBufReadExt::read_line(&mut reader, &mut line)).await.unwrap();
                        assert!(!line.is_empty(), "cut in answer {i}");
                        hints += usize::from(line.contains("103 Early Hints"));
                        body += &line;
                    }
                    let target = target(i);
                    assert_eq!(hints, target.len() % 3, "{body}");
                    let chunks = format!("\r\n\r\n{:x}\r\n{target}\r\n1\r\n!\r\n0\r\n\r\n", target.len());
                    assert!(body.ends_with(&chunks), "{body}");
                }
                drop(writing.await.unwrap());
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    app.abort();
    assert_eq!(rig.count(Outcome::Ok), 8 * REQUESTS as u64);
}
