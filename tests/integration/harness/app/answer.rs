//! What a path of the fake app answers.

use std::{io, time::Duration};

use super::{Seen, Wire};

/// One answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Body,
    delay: Duration,
    then: Then,
}

#[derive(Clone, Debug)]
enum Body {
    Bytes(Vec<u8>),
    /// So many bytes, made as they are sent.
    Filler(u64),
    /// The whole answer, head included.
    Raw(Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    KeepAlive,
    Close,
    /// Half of the promised body, and the end.
    Cut,
    /// No answer, but the connection stays until the peer leaves.
    Hang,
    /// No answer but a RST.
    Reset,
    /// After the answer everything that comes is sent back.
    Echo,
}

/// What is left of the connection.
#[derive(Debug)]
pub(super) enum Written {
    KeepAlive,
    Close,
    Reset,
    /// The peer closed before the answer was whole.
    PeerLeft,
}

// === impl Answer ===

impl Answer {
    pub(crate) fn json(value: &serde_json::Value) -> Self {
        Self::new(200, "application/json", value.to_string().into_bytes())
    }

    /// The body as it is, called JSON.
    pub(crate) fn json_text(text: &str) -> Self {
        Self::new(200, "application/json", text.as_bytes().to_vec())
    }

    /// The same of what is no text.
    pub(crate) fn json_bytes(body: &[u8]) -> Self {
        Self::new(200, "application/json", body.to_vec())
    }

    pub(crate) fn html(text: &str) -> Self {
        Self::new(200, "text/html; charset=utf-8", text.as_bytes().to_vec())
    }

    pub(crate) fn text(status: u16, text: &str) -> Self {
        Self::new(status, "text/plain", text.as_bytes().to_vec())
    }

    /// A body of `bytes` bytes, made as it is sent.
    pub(crate) fn filler(bytes: u64) -> Self {
        Self { body: Body::Filler(bytes), ..Self::new(200, "application/octet-stream", Vec::new()) }
    }

    /// These bytes and nothing else, head included.
    pub(crate) fn raw(bytes: &str) -> Self {
        Self { body: Body::Raw(bytes.as_bytes().to_vec()), ..Self::new(200, "", Vec::new()) }
    }

    /// A head of a protocol switch, and then the peer's bytes back.
    pub(crate) fn echo(head: &str) -> Self {
        Self { then: Then::Echo, ..Self::raw(head) }
    }

    /// Takes the request and says nothing.
    pub(crate) fn hang() -> Self {
        Self { then: Then::Hang, ..Self::new(200, "", Vec::new()) }
    }

    /// Takes the request and resets the connection.
    pub(crate) fn reset() -> Self {
        Self { then: Then::Reset, ..Self::new(200, "", Vec::new()) }
    }

    fn new(status: u16, content_type: &str, body: Vec<u8>) -> Self {
        let headers = vec![("Content-Type".to_owned(), content_type.to_owned())];
        Self { status, headers, body: Body::Bytes(body), delay: Duration::ZERO, then: Then::KeepAlive }
    }

    pub(crate) fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Adds a header; a `Content-Type` takes the place of the first one.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        if name.eq_ignore_ascii_case("content-type") {
            self.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
        }
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// An `ETag`; a request that knows it gets 304.
    pub(crate) fn etag(self, tag: &str) -> Self {
        self.header("ETag", tag)
    }

    /// Comes so much later.
    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Closes the connection after the answer without having said so, as Node does when its keep-alive time is over.
    pub(crate) fn close(mut self) -> Self {
        self.then = Then::Close;
        self
    }

    /// Promises the whole body and ends in its middle.
    pub(crate) fn cut(mut self) -> Self {
        self.then = Then::Cut;
        self
    }

    /// Writes the answer, and watches the peer while it takes its time. `waiting` is let go before the first byte: a
    /// peer that has its answer may have sent the next request before we have come to count this one out.
    pub(super) async fn write(self, wire: &mut Wire, seen: &Seen, waiting: impl Sized) -> Written {
        match self.then {
            Then::Hang => return until_peer_leaves(wire).await,
            Then::Reset => return Written::Reset,
            _ => {}
        }
        tokio::select! {
            left = until_peer_leaves(wire) => return left,
            () = tokio::time::sleep(self.delay) => {}
        }
        drop(waiting);
        match self.send(wire, seen).await {
            Err(_) => Written::PeerLeft,
            Ok(()) if self.then == Then::KeepAlive => Written::KeepAlive,
            Ok(()) => Written::Close,
        }
    }

    async fn send(&self, wire: &mut Wire, seen: &Seen) -> io::Result<()> {
        if let Body::Raw(bytes) = &self.body {
            wire.send(bytes).await?;
            if self.then == Then::Echo {
                return echo(wire).await;
            }
            return Ok(());
        }
        let known = seen.header("if-none-match");
        if known.is_some() && known == self.etag_value() {
            let head = format!("HTTP/1.1 304 Not Modified\r\nETag: {}\r\n\r\n", known.unwrap_or_default());
            return wire.send(head.as_bytes()).await;
        }
        let length = match &self.body {
            Body::Bytes(bytes) | Body::Raw(bytes) => bytes.len() as u64,
            Body::Filler(length) => *length,
        };
        let mut head = format!("HTTP/1.1 {} Status\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.status != 204 {
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        head.push_str("\r\n");
        let mut message = head.into_bytes();
        match &self.body {
            _ if seen.method == "HEAD" || self.status == 204 => {}
            Body::Bytes(bytes) if self.then == Then::Cut => message.extend_from_slice(&bytes[..bytes.len() / 2]),
            Body::Bytes(bytes) => message.extend_from_slice(bytes),
            Body::Raw(_) => {}
            Body::Filler(length) => {
                wire.send(&message).await?;
                return send_filler(wire, *length).await;
            }
        }
        // One write, as a server would: head and body of a small answer arrive together.
        wire.send(&message).await
    }

    fn etag_value(&self) -> Option<&str> {
        self.headers.iter().find(|(name, _)| name == "ETag").map(|(_, value)| value.as_str())
    }
}

/// The 64-KiB block that fillers are made of.
const FILLER: &[u8] = &[b'x'; 64 * 1024];

async fn send_filler(wire: &mut Wire, length: u64) -> io::Result<()> {
    let mut left = length;
    while left > 0 {
        let now = usize::try_from(left).expect("a length fits").min(FILLER.len());
        wire.send(&FILLER[..now]).await?;
        left -= now as u64;
    }
    Ok(())
}

async fn echo(wire: &mut Wire) -> io::Result<()> {
    loop {
        let bytes = wire.take().await?;
        if bytes.is_empty() {
            return Ok(());
        }
        wire.send(&bytes).await?;
    }
}

/// Reads until the end. What comes is kept: a pipelined request stays for later.
async fn until_peer_leaves(wire: &mut Wire) -> Written {
    while let Ok(1..) = wire.fill().await {}
    Written::PeerLeft
}
