//! A client on a bare socket: it shows the bytes as they come, and reads events with a parser of its own.

use std::{io, net::SocketAddr};

use tokio::{io::AsyncWriteExt, net::TcpSocket};

use super::{
    wire::{Framing, Head, Wire},
    within,
};

/// A request to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    addr: SocketAddr,
    method: String,
    target: String,
    version: &'static str,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    receive_buffer: Option<u32>,
}

/// An answer whose body is read as it is asked for.
#[derive(Debug)]
pub(crate) struct Client {
    wire: Wire,
    pub(crate) head: Head,
    framing: Framing,
    /// The body so far, without chunk framing.
    body: Vec<u8>,
    /// How far the events have been read.
    read_to: usize,
    received: u64,
    end: Option<End>,
    pub(crate) trailers: Head,
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As HTTP says: the last chunk, the last byte, or a FIN where nothing else marks the end.
    Clean,
    /// Before its end.
    Cut,
}

/// One block of an event stream, fields as they stand on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) data: Option<String>,
    pub(crate) retry: Option<u64>,
    /// Comment lines in front of or inside the block.
    pub(crate) comments: usize,
    /// The block's bytes with its blank line, comments included.
    pub(crate) raw: String,
}

// === impl Request ===

impl Request {
    pub(crate) fn new(addr: SocketAddr, method: &str, target: &str) -> Self {
        Self {
            addr,
            method: method.to_owned(),
            target: target.to_owned(),
            version: "HTTP/1.1",
            headers: vec![("Host".to_owned(), addr.to_string())],
            body: Vec::new(),
            receive_buffer: None,
        }
    }

    /// Adds a header; a second one of the same name stands beside the first.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn cookie(self, value: &str) -> Self {
        self.header("Cookie", value)
    }

    pub(crate) fn last_event_id(self, id: &str) -> Self {
        self.header("Last-Event-ID", id)
    }

    /// Sends no `Host`.
    pub(crate) fn without_host(mut self) -> Self {
        self.headers.retain(|(name, _)| name != "Host");
        self
    }

    pub(crate) fn http_1_0(mut self) -> Self {
        self.version = "HTTP/1.0";
        self
    }

    /// A body with its `Content-Length`.
    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        let length = body.len().to_string();
        self.header("Content-Length", &length)
    }

    /// A small receive window, so that a client that reads nothing is felt early.
    pub(crate) fn receive_buffer(mut self, bytes: u32) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// Where it goes.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The bytes of the request.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} {}\r\n", self.method, self.target, self.version).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Sends the request and leaves the answer unread.
    pub(crate) async fn send(&self) -> Wire {
        let mut wire = self.connect().await;
        wire.send(&self.bytes()).await.expect("the request is taken");
        wire
    }

    /// Only connects; for tests that send bytes of their own.
    pub(crate) async fn connect(&self) -> Wire {
        let socket = TcpSocket::new_v4().expect("a socket");
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes).expect("a socket takes SO_RCVBUF");
        }
        let socket = within("a connection", socket.connect(self.addr)).await.expect("the address listens");
        Wire::new(socket)
    }

    /// Sends the request and waits for the head of the answer.
    pub(crate) async fn open(&self) -> Client {
        Client::read(self.send().await, &self.method).await
    }

    /// The whole answer.
    pub(crate) async fn fetch(&self) -> Client {
        let mut client = self.open().await;
        client.read_to_end().await;
        client
    }
}

// === impl Client ===

impl Client {
    /// Reads the head of an answer that is on its way; interim answers (1xx but 101) are left out.
    pub(crate) async fn read(mut wire: Wire, method: &str) -> Self {
        let head = loop {
            let head = within("the head of an answer", wire.head()).await;
            let head = head.expect("the head is whole").expect("an answer comes before the connection closes");
            let status = status_of(&head);
            if status == 101 || status >= 200 {
                break head;
            }
        };
        let framing = match status_of(&head) {
            204 | 304 => Framing::Length(0),
            _ if method == "HEAD" => Framing::Length(0),
            _ => head.framing().unwrap_or(Framing::UntilClose),
        };
        Self {
            wire,
            head,
            framing,
            body: Vec::new(),
            read_to: 0,
            received: 0,
            end: (framing == Framing::Length(0)).then_some(End::Clean),
            trailers: Head::default(),
        }
    }

    pub(crate) fn status(&self) -> u16 {
        status_of(&self.head)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    /// The body so far as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Bytes of the body so far, kept or not.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// The socket below, to send on it what no client would.
    pub(crate) fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Gives the connection back for another request; the body must be at its end.
    pub(crate) fn into_wire(self) -> Wire {
        assert_eq!(self.end, Some(End::Clean), "the connection is busy with a body");
        self.wire
    }

    /// The next block with data; blocks without any are passed over.
    pub(crate) async fn next_event(&mut self) -> Event {
        loop {
            let block = self.next_block().await;
            if block.data.is_some() {
                return block;
            }
        }
    }

    /// The next event that is not one of the names in `but`.
    pub(crate) async fn next_event_but(&mut self, but: &[&str]) -> Event {
        loop {
            let event = self.next_event().await;
            if !event.name.as_deref().is_some_and(|name| but.contains(&name)) {
                return event;
            }
        }
    }

    /// The next block of the stream.
    pub(crate) async fn next_block(&mut self) -> Event {
        within("an event", async {
            loop {
                if let Some(event) = self.parse_block() {
                    return event;
                }
                self.more().await;
                if let Some(end) = self.end {
                    if let Some(event) = self.parse_block() {
                        return event;
                    }
                    panic!("the stream ended ({end:?}) where an event was expected, after: {:?}", self.text());
                }
            }
        })
        .await
    }

    /// Waits until the body holds what `is_there` looks for.
    pub(crate) async fn until(&mut self, what: &str, is_there: impl Fn(&str) -> bool) {
        within(what, async {
            while !is_there(&self.text()) {
                assert_eq!(self.end, None, "the body ended before {what}: {:?}", self.text());
                self.more().await;
            }
        })
        .await;
    }

    /// Waits for the end of the stream and says how it ended; an event on the way is a failure.
    pub(crate) async fn expect_end(&mut self) -> End {
        let (events, end) = self.rest().await;
        assert_eq!(events, [], "the stream should have ended without another event");
        end
    }

    /// The events up to the end of the stream.
    pub(crate) async fn rest(&mut self) -> (Vec<Event>, End) {
        let end = self.read_to_end().await;
        let mut events = Vec::new();
        while let Some(event) = self.parse_block() {
            if event.data.is_some() {
                events.push(event);
            }
        }
        (events, end)
    }

    /// Reads the body to its end and keeps it.
    pub(crate) async fn read_to_end(&mut self) -> End {
        within("the end of a body", async {
            loop {
                if let Some(end) = self.end {
                    return end;
                }
                self.more().await;
            }
        })
        .await
    }

    /// Reads the body to its end, counting only; for bodies that are larger than a test wants to hold.
    pub(crate) async fn drain(&mut self) -> End {
        within("the end of a large body", async {
            while self.end.is_none() {
                self.more().await;
                self.body.clear();
            }
        })
        .await;
        self.read_to_end().await
    }

    /// Ends our direction only; the answer may go on.
    pub(crate) async fn half_close(&mut self) {
        self.wire.socket.shutdown().await.expect("the socket is open");
    }

    /// Leaves with a RST.
    pub(crate) fn reset(self) {
        self.wire.reset();
    }

    /// Whether the body has not come to its end.
    pub(crate) fn is_open(&self) -> bool {
        self.end.is_none()
    }

    /// Reads what comes next and adds it to the body.
    pub(crate) async fn more(&mut self) {
        match self.read_more().await {
            Ok(()) => {}
            Err(_) => self.end = Some(End::Cut),
        }
    }

    async fn read_more(&mut self) -> io::Result<()> {
        let bytes = match self.framing {
            Framing::Chunked => match self.wire.chunk().await? {
                Ok(bytes) => bytes,
                Err(trailers) => {
                    self.trailers = trailers;
                    self.end = Some(End::Clean);
                    return Ok(());
                }
            },
            Framing::Length(length) => {
                let left = usize::try_from(length - self.received).expect("a length fits");
                self.wire.some(left).await?
            }
            Framing::UntilClose => {
                let bytes = self.wire.take().await?;
                if bytes.is_empty() {
                    self.end = Some(End::Clean);
                }
                bytes
            }
        };
        self.received += bytes.len() as u64;
        self.body.extend(bytes);
        if self.framing == Framing::Length(self.received) {
            self.end = Some(End::Clean);
        }
        Ok(())
    }

    /// Takes the next whole block off the body. A block is whole when its blank line is: a CR at the very end of what
    /// was read may be half of a CRLF, so it waits for one more byte or the end.
    fn parse_block(&mut self) -> Option<Event> {
        let bytes = &self.body[self.read_to..];
        let mut event = Event::default();
        let mut at = 0;
        loop {
            let (line, next) = take_line(&bytes[at..], self.end.is_some())?;
            at += next;
            if line.is_empty() {
                event.raw = String::from_utf8_lossy(&bytes[..at]).into_owned();
                self.read_to += at;
                return Some(event);
            }
            event.field(&String::from_utf8_lossy(line));
        }
    }
}

// === impl Event ===

impl Event {
    /// The data as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        let data = self.data.as_deref().expect("the event has data");
        serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data:?}"))
    }

    /// The id, which must be there.
    pub(crate) fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_else(|| panic!("the event has no id: {:?}", self.raw))
    }

    fn field(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "" => self.comments += 1,
            "id" => self.id = Some(value.to_owned()),
            "event" => self.name = Some(value.to_owned()),
            "retry" => self.retry = Some(value.parse().expect("retry is digits")),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            _ => panic!("not a field of an event stream: {line:?}"),
        }
    }
}

/// The first line without its end, and how many bytes it takes with it.
fn take_line(bytes: &[u8], at_end: bool) -> Option<(&[u8], usize)> {
    let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
    let end_bytes = match &bytes[end..] {
        [b'\r'] if !at_end => return None,
        [b'\r', b'\n', ..] => 2,
        _ => 1,
    };
    Some((&bytes[..end], end + end_bytes))
}

fn status_of(head: &Head) -> u16 {
    let mut words = head.first_line.split(' ');
    let version = words.next().unwrap_or_default();
    assert!(version.starts_with("HTTP/1."), "not a status line: {:?}", head.first_line);
    words.next().and_then(|word| word.parse().ok()).expect("a status line has a code")
}
