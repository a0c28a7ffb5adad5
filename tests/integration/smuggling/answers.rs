//! The other direction: an app whose answers are as bad as the attackers' requests. Whatever it sends, a client gets the
//! answer to its own question behind it, or the end of its connection.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::recorder::connect;
use crate::harness::{client::Client, sidestream::Sidestream, wire::Wire, within};

/// Stands in every answer to a question that nobody has asked.
const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL";

/// An answer of the app, and what it does then.
struct Bad {
    name: &'static str,
    bytes: Vec<u8>,
    then: Then,
}

#[derive(Clone, Copy)]
enum Then {
    /// Goes on with the next request.
    Stay,
    Close,
}

fn bad(name: &'static str, bytes: impl Into<Vec<u8>>, then: Then) -> Bad {
    Bad { name, bytes: bytes.into(), then }
}

fn all() -> Vec<Bad> {
    use Then::{Close, Stay};
    let ok = |lines: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{lines}\r\n{body}");
    let two = "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n";
    let mut all = Vec::new();
    for then in [Stay, Close] {
        all.extend([
            bad("CL.TE", ok("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n") + EVIL, then),
            bad("TE.CL", ok(two, "3\r\nabc\r\n0\r\n\r\n") + EVIL, then),
            bad("two lengths", ok("Content-Length: 3\r\nContent-Length: 60\r\n", "abc") + EVIL, then),
            bad("two equal lengths", ok("Content-Length: 3\r\nContent-Length: 3\r\n", "abc") + EVIL, then),
            bad("a list of lengths", ok("Content-Length: 3, 3\r\n", "abc") + EVIL, then),
            bad("a length below zero", ok("Content-Length: -1\r\n", "abc") + EVIL, then),
            bad("a length with a sign", ok("Content-Length: +3\r\n", "abc") + EVIL, then),
            bad("a length of 64 bits", ok("Content-Length: 18446744073709551615\r\n", "abc") + EVIL, then),
            bad("another coding", ok("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n") + EVIL, then),
            bad("two codings", ok("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n") + EVIL, then),
            bad(
                "chunked twice",
                ok("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n") + EVIL,
                then,
            ),
            bad("a folded line", ok("X: a\r\n b\r\nContent-Length: 3\r\n", "abc") + EVIL, then),
            bad("bare line feeds", format!("HTTP/1.1 200 OK\nContent-Length: 3\n\nabc{EVIL}"), then),
            bad("a bare carriage return", ok("X: a\rContent-Length: 40\r\nContent-Length: 3\r\n", "abc") + EVIL, then),
            bad("a NUL", ok("X: \0\r\nContent-Length: 3\r\n", "abc") + EVIL, then),
            bad("a blank before the colon", ok("Content-Length : 3\r\n", "abc") + EVIL, then),
            bad("no colon", ok("nonsense\r\nContent-Length: 3\r\n", "abc") + EVIL, then),
            bad("a second answer behind the first", ok("Content-Length: 3\r\n", "abc") + EVIL, then),
            bad("a body behind 204", format!("HTTP/1.1 204 No Content\r\nContent-Length: 50\r\n\r\n{EVIL}"), then),
            bad("a body behind 304", format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 50\r\n\r\n{EVIL}"), then),
            bad(
                "chunks behind 304",
                format!("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n{EVIL}"),
                then,
            ),
            bad(
                "bytes behind the last chunk",
                ok("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n") + EVIL,
                then,
            ),
            bad("chunk garbage", ok("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\nxyz\r\n") + EVIL, then),
            bad(
                "a chunk size that wraps",
                ok("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\nabc\r\n") + EVIL,
                then,
            ),
            bad(
                "a chunk longer than it says",
                ok("Transfer-Encoding: chunked\r\n", "3\r\nabcdef\r\n0\r\n\r\n") + EVIL,
                then,
            ),
            bad("chunks with a bare line feed", ok("Transfer-Encoding: chunked\r\n", "3\nabc\n0\n\n") + EVIL, then),
            bad("a bad trailer", ok("Transfer-Encoding: chunked\r\n", "0\r\nbad trailer\r\n\r\n") + EVIL, then),
            bad(
                "a flood of 100",
                "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000) + EVIL.replace("EVIL", "last").as_str(),
                then,
            ),
            bad(
                "a flood of hints",
                "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(3000) + &ok("Content-Length: 3\r\n", "abc"),
                then,
            ),
            bad(
                "101 unasked",
                format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n{EVIL}"),
                then,
            ),
            bad("a status of four digits", format!("HTTP/1.1 2000 OK\r\nContent-Length: 3\r\n\r\nabc{EVIL}"), then),
            bad("a status below 100", format!("HTTP/1.1 099 OK\r\nContent-Length: 3\r\n\r\nabc{EVIL}"), then),
            bad("no status", format!("HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc{EVIL}"), then),
            bad("HTTP/2", format!("HTTP/2.0 200 OK\r\nContent-Length: 3\r\n\r\nabc{EVIL}"), then),
            bad("a head over every limit", ok(&format!("X: {}\r\n", "y".repeat(100_000)), "") + EVIL, then),
            bad("more headers than anybody reads", ok(&"X: y\r\n".repeat(1000), "") + EVIL, then),
            bad(
                "chunks on HTTP/1.0",
                ok("Transfer-Encoding: chunked\r\n", "0\r\n\r\n").replacen("1.1", "1.0", 1) + EVIL,
                then,
            ),
            bad("no HTTP at all", b"\x16\x03\x01\x02\x00\r\n\r\n".to_vec(), then),
        ]);
    }
    all.extend([
        bad("nothing", "", Close),
        bad("half a head", "HTTP/1.1 200 OK\r\nContent-Le", Close),
        bad("half a body", ok("Content-Length: 300\r\n", "abc"), Close),
        bad("half a chunk", ok("Transfer-Encoding: chunked\r\n", "300\r\nabc"), Close),
        bad("no last chunk", ok("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n"), Close),
        bad("half a trailer", ok("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\nX:"), Close),
        bad("a body up to the end", ok("", "abc") + EVIL, Close),
    ]);
    all
}

/// The app: `/bad/<n>` has the n-th bad answer, `/good/<x>` says `good <x>`. Ends with the token.
async fn serve(listener: TcpListener, answers: Arc<Vec<Bad>>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    while let Some(Ok((socket, _))) = stop.run_until_cancelled(listener.accept()).await {
        let answers = Arc::clone(&answers);
        connections.spawn(serve_one(socket, answers));
    }
}

async fn serve_one(socket: TcpStream, answers: Arc<Vec<Bad>>) {
    let mut wire = Wire::new(socket);
    // Behind a bad answer it waits a little for another question, and gives up then: some of them have no end.
    let mut patience = Duration::from_secs(60);
    while let Ok(Ok(Some(head))) = tokio::time::timeout(patience, wire.head()).await {
        let target = head.first_line.split(' ').nth(1).expect("a request line has a target").to_owned();
        if let Some(number) = target.strip_prefix("/bad/") {
            let bad = &answers[number.parse::<usize>().expect("a number")];
            if wire.send(&bad.bytes).await.is_err() || matches!(bad.then, Then::Close) {
                return;
            }
            patience = Duration::from_millis(200);
        } else {
            let body = target.replace("/good/", "good ");
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            if wire.send(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

/// The body of the answer to a good question on this connection; `None` when the connection has ended instead.
async fn ask(wire: &mut Option<Wire>, addr: SocketAddr, method: &str, target: &str) -> Option<String> {
    let mut taken = wire.take()?;
    let request = format!("{method} {target} HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    taken.send(request.as_bytes()).await.ok()?;
    read(wire, taken, method).await
}

async fn read(wire: &mut Option<Wire>, mut taken: Wire, method: &str) -> Option<String> {
    // Whether there is an answer at all; `Client` wants one.
    if within("a byte or the end", taken.fill()).await.unwrap_or(0) == 0 {
        return None;
    }
    let mut client = Client::read(taken, method).await;
    let is_last = client.header("connection") == Some("close") || client.status() == 101;
    if client.status() == 101 {
        return None;
    }
    let end = client.read_to_end().await;
    let text = client.text();
    if end == crate::harness::client::End::Clean && !is_last {
        *wire = Some(client.into_wire());
    }
    Some(text)
}

/// Behind every bad answer, on the client's connection and on those of others that share the app's.
#[tokio::test]
async fn a_bad_answer_is_never_followed_by_anothers() {
    let answers = Arc::new(all());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let app = listener.local_addr().expect("an address");
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(listener, Arc::clone(&answers), stop.clone()));
    let side = Sidestream::before_addr(app).start().await;
    let addr = side.addr();
    let mut other = Some(connect(addr).await);

    for (number, bad) in answers.iter().enumerate() {
        for method in ["GET", "HEAD"] {
            let what = format!("{} ({method})", bad.name);
            // One more connection to the app, for the bad answer to be on one that has been used.
            let before = ask(&mut other, addr, "GET", &format!("/good/{number}-before")).await;
            assert_eq!(before, Some(format!("good {number}-before")), "before {what}");

            let mut mine = Some(connect(addr).await);
            let _ = ask(&mut mine, addr, method, &format!("/bad/{number}")).await;
            // It may be over after that, but what comes is mine.
            let after = ask(&mut mine, addr, "GET", &format!("/good/{number}-mine")).await;
            assert!(after.is_none() || after == Some(format!("good {number}-mine")), "behind {what}: {after:?}");
            let after = ask(&mut other, addr, "GET", &format!("/good/{number}-other")).await;
            assert_eq!(after, Some(format!("good {number}-other")), "of another, behind {what}");
            let mut new = Some(connect(addr).await);
            let after = ask(&mut new, addr, "GET", &format!("/good/{number}-new")).await;
            assert_eq!(after, Some(format!("good {number}-new")), "of a newcomer, behind {what}");

            // Both questions at once: the second must not be answered by what is left of the first.
            let mut both = connect(addr).await;
            let questions = format!(
                "{method} /bad/{number} HTTP/1.1\r\nHost: {addr}\r\n\r\nGET /good/{number}-second HTTP/1.1\r\nHost: {addr}\r\n\r\n"
            );
            both.send(questions.as_bytes()).await.expect("the questions are taken");
            let mut wire = None;
            let _ = read(&mut wire, both, method).await;
            if let Some(both) = wire.take() {
                let second = read_next(both).await;
                assert!(
                    second.is_none() || second == Some(format!("good {number}-second")),
                    "second behind {what}: {second:?}"
                );
            }
        }
    }
    stop.cancel();
    within("the app to end", serving).await.expect("the app is well");
}

/// The next answer of a connection on which the question was sent before.
async fn read_next(wire: Wire) -> Option<String> {
    let mut wire = wire;
    let head = within("the second answer or the end", wire.head()).await.ok()??;
    let length: usize = head.header("content-length")?.parse().ok()?;
    let mut body = Vec::new();
    while body.len() < length {
        body.extend(within("its body", wire.some(length - body.len())).await.ok()?);
    }
    String::from_utf8(body).ok()
}
