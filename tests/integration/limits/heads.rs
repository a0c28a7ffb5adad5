//! Heads of requests: how large, how slow, how odd.

use std::fmt::Write as _;

use crate::harness::{
    app::{Answer, App},
    client::{Client, Request},
    sidestream::Sidestream,
    within,
};

/// So many heads were refused for this, and nothing else was. hyper answers first, and then its connection ends.
async fn assert_refused(side: &Sidestream, reason: &str, count: f64) {
    side.until_metric("requests_refused_total", &[("reason", reason)], count).await;
    assert_eq!(side.metric("requests_refused_total", &[]).await, count);
}

/// A connection's bytes up to its end; a reset is an end, too.
async fn to_the_end(wire: &mut crate::harness::wire::Wire) -> String {
    let mut all = Vec::new();
    while let Ok(bytes) = within("the end", wire.take()).await {
        if bytes.is_empty() {
            break;
        }
        all.extend(bytes);
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// 64 KiB for all of it, the request line with it, and 100 fields.
#[tokio::test]
async fn a_head_over_its_bounds_is_refused_with_431_and_counted() {
    let app = App::start();
    app.at("/page").answer(Answer::text(200, "page"));
    let side = Sidestream::before(&app).start().await;
    let long = "x".repeat(70 * 1024);
    let many = (0..120).fold(String::new(), |mut fields, n| {
        let _ = write!(fields, "X-{n}: y\r\n");
        fields
    });
    for head in [
        format!("GET /page HTTP/1.1\r\nHost: a\r\nX-Long: {long}\r\n\r\n"),
        format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("GET /page HTTP/1.1\r\nHost: a\r\n{many}\r\n"),
    ] {
        let mut wire = side.get("/page").connect().await;
        // The answer may come, and the connection end, before all of it is taken.
        let _ = wire.send(head.as_bytes()).await;
        let answer = to_the_end(&mut wire).await;
        // A request line alone may be 414, if it came in one piece.
        let is_refused = ["HTTP/1.1 431 ", "HTTP/1.1 414 "].iter().any(|status| answer.starts_with(status));
        assert!(answer.is_empty() || is_refused, "{answer:?}");
    }

    let just = side.get("/page").header("X-Long", &"x".repeat(60 * 1024)).fetch().await;

    assert_eq!(just.status(), 200);
    assert_refused(&side, "head_too_large", 3.0).await;
    assert_eq!(side.metric("http_requests_total", &[("code", "4xx")]).await, 3.0);
    assert_eq!(app.seen().len(), 1);
}

/// *Slowloris.* Who sends a head a byte at a time loses the connection; who sends nothing, or is done with a request, may
/// stay: that is what a browser's and a proxy's idle connections look like.
#[tokio::test]
async fn a_head_that_takes_too_long_is_cut_off_and_an_idle_connection_is_not() {
    let app = App::start();
    app.at("/page").answer(Answer::text(200, "page"));
    let side = Sidestream::before(&app).flag("--head-timeout", "400ms").start().await;
    let mut kept = side.get("/page").fetch().await.into_wire();
    let mut unused = side.get("/page").connect().await;
    let mut slow = side.get("/page").connect().await;
    let mut halves = side.get("/page").connect().await;
    halves.send(b"POST /page HTTP/1.1\r\nHost: a\r\n").await.expect("half a head is taken");

    within("the slow one to be cut off", async {
        let head = b"GET /page HTTP/1.1\r\nHost: a\r\nX-Slow: ".iter().chain(std::iter::repeat(&b'x'));
        for byte in head {
            if slow.send(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(to_the_end(&mut halves).await, "");
    assert_refused(&side, "head_timeout", 2.0).await;

    for wire in [&mut kept, &mut unused] {
        wire.send(&side.get("/page").bytes()).await.expect("the connection is open");
    }
    for wire in [kept, unused] {
        let mut answer = Client::read(wire, "GET").await;
        answer.read_to_end().await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, "page"));
    }
}

/// What the next server might take for another request, and what is no HTTP at all.
#[tokio::test]
async fn what_disagrees_with_itself_is_refused_with_400_and_counted() {
    let app = App::start();
    let side = Sidestream::before(&app).start().await;
    let both = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    for head in [both, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "\u{1}\u{2}no such thing\r\n\r\n"] {
        let mut wire = Request::new(side.addr(), "GET", "/").connect().await;
        wire.send(head.as_bytes()).await.expect("it is taken");
        let answer = to_the_end(&mut wire).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer:?}");
    }

    assert_refused(&side, "malformed", 3.0).await;
    assert_eq!(side.metric("http_requests_total", &[("code", "4xx")]).await, 3.0);
    assert!(app.seen().is_empty());
}
