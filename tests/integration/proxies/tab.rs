//! A client that behaves as a browser's tab: it takes gzip, reads on in the background, and when it is told to follow a
//! stream it comes back with its `Last-Event-ID`, for ever, unless an answer is not 200.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use miniz_oxide::{
    DataFormat, MZFlush,
    inflate::stream::{InflateState, inflate},
};
use tokio::{
    net::TcpStream,
    sync::{Notify, watch},
    task::JoinHandle,
};

use crate::harness::{
    client::Request,
    wire::{Framing, Wire},
    within,
};

/// How long a tab waits before it comes back: long enough that a proxy that refuses is not asked in a tight loop.
const RETRY: Duration = Duration::from_millis(20);

/// One tab. Closed when it goes.
#[derive(Debug)]
pub(super) struct Tab {
    seen: watch::Receiver<Seen>,
    leave: Arc<Notify>,
    task: JoinHandle<()>,
}

/// What a tab has seen so far, over all its connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Streams that began: a head with 200 came.
    pub(super) begun: usize,
    /// Streams that ended though the tab did not leave.
    pub(super) ended: usize,
    /// The `Content-Encoding` of the last stream.
    pub(super) encoding: Option<String>,
    pub(super) events: Vec<Event>,
    pub(super) heartbeats: usize,
    /// Answers that were no stream. An `EventSource` is dead after one of them.
    pub(super) refusals: Vec<String>,
}

/// An event as the page gets it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) id: Option<String>,
    pub(super) data: String,
}

/// The side of the task.
struct Reader {
    request: Request,
    addr: SocketAddr,
    seen: watch::Sender<Seen>,
    leave: Arc<Notify>,
    last_id: Option<String>,
}

/// Takes the lines of one connection apart.
#[derive(Default)]
struct Lines {
    gzip: Option<Gunzip>,
    pending: Vec<u8>,
    id: Option<String>,
    data: Option<String>,
}

/// A gzip stream that is read as it comes.
struct Gunzip {
    header_left: usize,
    state: Box<InflateState>,
}

// === impl Tab ===

impl Tab {
    /// Opens one stream and stays with it.
    pub(super) fn open(addr: SocketAddr, path: &str) -> Self {
        Self::start(addr, path, false)
    }

    /// Opens a stream, and comes back whenever it ends.
    pub(super) fn follow(addr: SocketAddr, path: &str) -> Self {
        Self::start(addr, path, true)
    }

    fn start(addr: SocketAddr, path: &str, returns: bool) -> Self {
        let (sender, seen) = watch::channel(Seen::default());
        let leave = Arc::new(Notify::new());
        let request = Request::new(addr, "GET", path)
            .header("Accept", "text/event-stream")
            .header("Accept-Encoding", "gzip, deflate, br");
        let reader = Reader { request, addr, seen: sender, leave: Arc::clone(&leave), last_id: None };
        Self { seen, leave, task: tokio::spawn(reader.run(returns)) }
    }

    /// What it has seen so far.
    pub(super) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// The data of the events so far.
    pub(super) fn data(&self) -> Vec<String> {
        self.seen.borrow().events.iter().map(|event| event.data.clone()).collect()
    }

    /// Waits until `is_it`.
    pub(super) async fn until(&self, what: &str, is_it: impl FnMut(&Seen) -> bool) {
        let mut seen = self.seen.clone();
        let waited = within(what, seen.wait_for(is_it)).await;
        waited.unwrap_or_else(|_| panic!("the tab's reader panicked before {what}"));
    }

    /// Waits for the head of its first stream.
    pub(super) async fn until_begun(&self) {
        self.until("the stream to begin", |seen| seen.begun > 0).await;
    }

    /// Waits for so many events in all.
    pub(super) async fn until_events(&self, count: usize) {
        self.until(&format!("{count} events"), |seen| seen.events.len() >= count).await;
    }

    /// Closes its connection and opens another one, as a reload of the page does.
    pub(super) fn leave_and_return(&self) {
        self.leave.notify_one();
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Reader ===

impl Reader {
    /// Ends with the tab, which aborts it.
    async fn run(mut self, returns: bool) {
        let leave = Arc::clone(&self.leave);
        loop {
            tokio::select! {
                () = self.visit() => {}
                () = leave.notified() => continue,
            }
            if !returns {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// One connection from its begin to its end. A refused one is a network error, which a browser tries again.
    async fn visit(&mut self) {
        let Ok(socket) = TcpStream::connect(self.addr).await else { return };
        let mut wire = Wire::new(socket);
        let request = match &self.last_id {
            Some(id) => self.request.clone().last_event_id(id),
            None => self.request.clone(),
        };
        if wire.send(&request.bytes()).await.is_err() {
            return;
        }
        let Ok(Some(head)) = wire.head().await else { return };
        if !head.first_line.starts_with("HTTP/1.1 200") {
            self.seen.send_modify(|seen| seen.refusals.push(head.first_line.clone()));
            return;
        }
        let encoding = head.header("content-encoding").map(str::to_owned);
        let mut lines = Lines { gzip: encoding.as_ref().map(|_| Gunzip::new()), ..Lines::default() };
        self.seen.send_modify(|seen| {
            seen.begun += 1;
            seen.encoding = encoding;
        });
        let framing = head.framing().unwrap_or(Framing::UntilClose);
        while let Some(bytes) = read(&mut wire, framing).await {
            let mut heartbeats = 0;
            let mut events = Vec::new();
            lines.take(&bytes, &mut heartbeats, &mut events);
            if let Some(id) = events.iter().rev().find_map(|event| event.id.clone()) {
                self.last_id = Some(id);
            }
            self.seen.send_modify(|seen| {
                seen.heartbeats += heartbeats;
                seen.events.extend(events);
            });
        }
        self.seen.send_modify(|seen| seen.ended += 1);
    }
}

/// The next bytes of a body; `None` at its end, however it comes.
async fn read(wire: &mut Wire, framing: Framing) -> Option<Vec<u8>> {
    match framing {
        Framing::Chunked => wire.chunk().await.ok()?.ok(),
        Framing::UntilClose => wire.take().await.ok().filter(|bytes| !bytes.is_empty()),
        Framing::Length(_) => panic!("an event stream has no length"),
    }
}

// === impl Lines ===

impl Lines {
    /// All that is whole in what has come so far. sidestream and the fake app end their lines with LF alone.
    fn take(&mut self, bytes: &[u8], heartbeats: &mut usize, events: &mut Vec<Event>) {
        match &mut self.gzip {
            Some(gzip) => gzip.take(bytes, &mut self.pending),
            None => self.pending.extend_from_slice(bytes),
        }
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line[..end]).into_owned();
            match line.split_once(':').unwrap_or((&line, "")) {
                ("", "") if line.is_empty() => {
                    let id = self.id.take();
                    events.extend(self.data.take().map(|data| Event { id, data }));
                }
                ("", _) => *heartbeats += 1,
                ("id", value) => self.id = Some(value.trim_start().to_owned()),
                ("data", value) => self.data = Some(value.trim_start().to_owned()),
                ("event" | "retry", _) => {}
                _ => panic!("not a line of an event stream: {line:?}"),
            }
        }
    }
}

// === impl Gunzip ===

impl Gunzip {
    fn new() -> Self {
        // The fixed part of the header is all there is where the server compresses on the fly (RFC 1952, 2.3).
        Self { header_left: 10, state: InflateState::new_boxed(DataFormat::Raw) }
    }

    /// Adds to `plain` what `bytes` make readable. The checksum at the end is left unread.
    fn take(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>) {
        let of_header = self.header_left.min(bytes.len());
        self.header_left -= of_header;
        bytes = &bytes[of_header..];
        let mut out = [0; 4096];
        loop {
            let result = inflate(&mut self.state, bytes, &mut out, MZFlush::None);
            plain.extend_from_slice(&out[..result.bytes_written]);
            bytes = &bytes[result.bytes_consumed..];
            if result.bytes_consumed == 0 && result.bytes_written == 0 {
                return;
            }
        }
    }
}
