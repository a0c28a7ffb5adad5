//! A real Node server that writes down what it was asked, alone and behind the program.

use std::{net::SocketAddr, process::Child, time::Duration};

use serde::Deserialize;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use crate::harness::{
    client::Request,
    node::launch,
    sidestream::{Builder, Sidestream},
    wire::{Framing, Head, Wire},
    within,
};

/// How long an answer or the end of a connection may take. Shorter than the deadline of the other tests, so that one that
/// stalls doesn't keep the faults behind it from being seen; as with that, nothing waits for it that goes well.
const PATIENCE: Duration = Duration::from_secs(20);

/// The running server; killed when it goes.
#[derive(Debug)]
pub(super) struct Recorder {
    child: Child,
    addr: SocketAddr,
    control: SocketAddr,
}

/// The server behind the program.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) node: Recorder,
    pub(super) side: Sidestream,
    honest: u32,
}

/// What the server saw since it was last asked.
#[derive(Debug, Deserialize)]
pub(super) struct Taken {
    pub(super) requests: Vec<Seen>,
    /// What Node's own parser has refused.
    pub(super) errors: Vec<Refused>,
}

/// A request as Node saw it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) url: String,
    /// Names and values, in turn.
    #[serde(rename = "rawHeaders")]
    pub(super) raw_headers: Vec<String>,
    pub(super) body: String,
    pub(super) trailers: Vec<String>,
    /// The body came to its end.
    pub(super) complete: bool,
}

/// What Node's parser said of bytes that are no request.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) code: String,
}

/// An answer that a client got.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// It says that it is the last one.
    pub(super) is_last: bool,
}

/// What came of the bytes of one client connection.
#[derive(Debug)]
pub(super) struct Outcome {
    /// All answers, interim ones left out.
    pub(super) answers: Vec<Answer>,
    /// The connection was closed by the other side.
    pub(super) is_closed: bool,
    /// What Node saw of it; empty for one that only the program answered.
    pub(super) seen: Vec<Seen>,
    /// What Node refused.
    pub(super) errors: Vec<Refused>,
}

// === impl Recorder ===

impl Recorder {
    pub(super) async fn start() -> Self {
        let (child, places) = launch("tests/apps/recorder/server.js", 0).await;
        let (addr, control) = places.split_once(" control ").expect("two addresses");
        Self { child, addr: addr.parse().expect("an address"), control: control.parse().expect("an address") }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What was seen since the last time.
    pub(super) async fn take(&self) -> Taken {
        let answer = Request::new(self.control, "GET", "/take").header("Connection", "close").fetch().await;
        serde_json::from_str(&answer.text()).expect("the list is JSON")
    }

    /// What Node makes of these bytes, and nothing behind them, without anybody in between.
    pub(super) async fn direct(&self, bytes: &[u8]) -> Outcome {
        let mut wire = connect(self.addr).await;
        // A refusal may come before all of it is written.
        let _ = wire.send(bytes).await;
        let _ = wire.socket.shutdown().await;
        let (answers, is_closed) = read_answers(&mut wire, usize::MAX).await;
        let Taken { requests, errors } = self.take().await;
        Outcome { answers, is_closed, seen: requests, errors }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// === impl Stage ===

impl Stage {
    pub(super) async fn start(flags: impl FnOnce(Builder) -> Builder) -> Self {
        let node = Recorder::start().await;
        let side = flags(Sidestream::before_addr(node.addr())).start().await;
        Self { node, side, honest: 0 }
    }

    /// Sends these bytes to the program and reads `most` answers, or all until it closes. Then an honest client comes,
    /// who may be given the connection to the app on which the attack went: it has to get its own answer, and to be the
    /// last that Node has seen.
    pub(super) async fn attack(&mut self, bytes: &[u8], most: usize) -> Outcome {
        let mut wire = connect(self.side.addr()).await;
        let _ = wire.send(bytes).await;
        let (answers, is_closed) = read_answers(&mut wire, most).await;
        drop(wire);

        self.honest += 1;
        let target = format!("/honest/{}", self.honest);
        let honest = self.side.get(&target).header("Connection", "close").fetch().await;
        let said: serde_json::Value = serde_json::from_str(&honest.text()).unwrap_or_else(|error| {
            panic!("{error}: an honest client got {} {:?}", honest.status(), honest.text());
        });
        assert_eq!(said["url"], *target, "an honest client got the answer of another, after {}", show(bytes));

        let Taken { mut requests, errors } = self.node.take().await;
        // The polls of streams are the program's own.
        requests.retain(|seen| !seen.url.starts_with("/job/"));
        let last = requests.iter().position(|seen| seen.url == target).expect("the honest request was seen");
        let behind = requests.split_off(last);
        // What broke off goes down with its connection, and may come there when others have overtaken it.
        let is_over = |seen: &Seen| seen.url == target || !seen.complete;
        assert!(behind.iter().all(is_over), "{behind:?} came behind, after {}", show(bytes));
        requests.extend(behind.into_iter().skip(1));
        Outcome { answers, is_closed, seen: requests, errors }
    }
}

// === impl Seen ===

impl Seen {
    /// Every value of a header.
    pub(super) fn header(&self, name: &str) -> Vec<&str> {
        let pairs = self.raw_headers.chunks(2);
        pairs.filter(|pair| pair[0].eq_ignore_ascii_case(name)).map(|pair| &*pair[1]).collect()
    }

    /// What a request is compared by.
    pub(super) fn essence(&self) -> (String, String, String) {
        (self.method.clone(), self.url.clone(), self.body.clone())
    }
}

// === impl Outcome ===

impl Outcome {
    /// Statuses of the answers.
    pub(super) fn statuses(&self) -> Vec<u16> {
        self.answers.iter().map(|answer| answer.status).collect()
    }
}

/// Bytes for a message of a test.
pub(super) fn show(bytes: &[u8]) -> String {
    let text = bytes.escape_ascii().to_string();
    if text.len() > 600 { format!("{}… ({} bytes)", &text[..600], bytes.len()) } else { text }
}

pub(super) async fn connect(addr: SocketAddr) -> Wire {
    Wire::new(within("a connection", TcpStream::connect(addr)).await.expect("the address listens"))
}

/// Reads up to `most` answers; true when the other side has closed.
async fn read_answers(wire: &mut Wire, most: usize) -> (Vec<Answer>, bool) {
    let mut answers = Vec::new();
    while answers.len() < most {
        // A reset is a close, too: the program may leave bytes unread. A stall is for the test to judge.
        let Ok(head) = timeout(PATIENCE, wire.head()).await else { return (answers, false) };
        let Ok(Some(head)) = head else { return (answers, true) };
        let status = head.first_line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status: u16 = status.unwrap_or_else(|| panic!("not a status line: {:?}", head.first_line));
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        // The recorder says so, because on this side it is not known which request is being answered. Of streams the
        // head is enough.
        let is_stream = head.header("content-type") == Some("text/event-stream");
        let has_body = head.header("x-seen") != Some("HEAD") && !is_stream && status != 204 && status != 304;
        let body = match has_body {
            true => timeout(PATIENCE, read_body(wire, &head)).await.unwrap_or(None),
            false => Some(Vec::new()),
        };
        let is_last = body.is_none() || head.header("connection").is_some_and(|option| option == "close");
        answers.push(Answer { status, is_last });
        if body.is_none() {
            return (answers, true);
        }
    }
    (answers, false)
}

/// A body up to its end; `None` when it has none.
async fn read_body(wire: &mut Wire, head: &Head) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    match head.framing() {
        Some(Framing::Length(length)) => {
            let length = usize::try_from(length).expect("a length fits");
            while body.len() < length {
                body.extend(wire.some(length - body.len()).await.ok()?);
            }
        }
        Some(Framing::Chunked) => {
            while let Ok(bytes) = wire.chunk().await.ok()? {
                body.extend(bytes);
            }
        }
        Some(Framing::UntilClose) | None => loop {
            let bytes = wire.take().await.ok()?;
            if bytes.is_empty() {
                break;
            }
            body.extend(bytes);
        },
    }
    Some(body)
}
