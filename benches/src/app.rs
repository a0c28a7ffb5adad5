//! The app behind sidestream: answers a job's status as JSON, changes it when told, and counts who asks.
//!
//! One thread with an epoll; HTTP/1.1, kept alive, one request at a time per connection, GET only.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use memchr::memmem;
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};

use crate::{
    Fault,
    clock::nanos,
    payload::{self, Stamp},
};

const LISTENER: Token = Token(usize::MAX);
const STATUS: &[u8] = b"GET /api/videos/";

/// Topics from this one on have a new answer for every request.
pub(crate) const RESTLESS: u32 = 1_000_000;

/// The running app; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) addr: SocketAddr,
    told: Arc<Told>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What the conductor tells the thread, and the other way round.
#[derive(Debug, Default)]
struct Told {
    /// The number of the current state of all quiet topics.
    seq: AtomicU64,
    /// Whether every answer is a new one.
    is_restless: AtomicBool,
    /// Requests for a status. Written by the thread.
    requests: AtomicU64,
    stop: AtomicBool,
}

impl App {
    /// Starts the app; its answers are `size` bytes of JSON.
    pub(crate) fn start(size: usize) -> Result<Self, Fault> {
        let mut listener = TcpListener::bind("127.0.0.1:0".parse()?)?;
        let addr = listener.local_addr()?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let told = Arc::new(Told { seq: AtomicU64::new(1), ..Told::default() });
        let service =
            Service { poll, listener, peers: Vec::new(), topics: HashMap::new(), told: Arc::clone(&told), size };
        // Ends with `stop`, which the handle's drop sets.
        let thread = std::thread::Builder::new().name("app".to_owned()).spawn(move || service.run())?;
        Ok(Self { addr, told, thread: Some(thread) })
    }

    /// From now on quiet topics answer with this number.
    pub(crate) fn set(&self, seq: u64) {
        self.told.seq.store(seq, Ordering::Release);
    }

    /// Whether every answer shall be a new one, on every topic.
    pub(crate) fn set_restless(&self, is_restless: bool) {
        self.told.is_restless.store(is_restless, Ordering::Release);
    }

    /// How often a status was asked for.
    pub(crate) fn requests(&self) -> u64 {
        self.told.requests.load(Ordering::Acquire)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.told.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Service {
    poll: Poll,
    listener: TcpListener,
    peers: Vec<Option<Peer>>,
    topics: HashMap<u32, Stamp>,
    told: Arc<Told>,
    size: usize,
}

struct Peer {
    socket: TcpStream,
    unread: Vec<u8>,
}

impl Service {
    fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; 16 * 1024];
        while !self.told.stop.load(Ordering::Acquire) {
            if self.poll.poll(&mut events, Some(Duration::from_millis(50))).is_err() {
                continue;
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    Token(index) => self.on_peer(index, &mut buffer),
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((mut socket, _)) = self.listener.accept() {
            let _ = socket.set_nodelay(true);
            let index = self.peers.iter().position(Option::is_none).unwrap_or(self.peers.len());
            if self.poll.registry().register(&mut socket, Token(index), Interest::READABLE).is_err() {
                continue;
            }
            let peer = Some(Peer { socket, unread: Vec::new() });
            match self.peers.get_mut(index) {
                Some(place) => *place = peer,
                None => self.peers.push(peer),
            }
        }
    }

    fn on_peer(&mut self, index: usize, buffer: &mut [u8]) {
        let Some(mut peer) = self.peers.get_mut(index).and_then(Option::take) else { return };
        loop {
            match peer.socket.read(buffer) {
                Ok(0) => return,
                Ok(read) => {
                    peer.unread.extend_from_slice(&buffer[..read]);
                    if self.answer(&mut peer).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
        self.peers[index] = Some(peer);
    }

    fn answer(&mut self, peer: &mut Peer) -> std::io::Result<()> {
        while let Some(end) = memmem::find(&peer.unread, b"\r\n\r\n") {
            let head: Vec<_> = peer.unread.drain(..end + 4).collect();
            let mut body = Vec::with_capacity(self.size + 64);
            match topic(&head) {
                Some(topic) => {
                    self.told.requests.fetch_add(1, Ordering::AcqRel);
                    let stamp = self.stamp(topic);
                    payload::write_json(&mut body, topic, stamp, self.size);
                }
                // The small answer of the forwarding probe.
                None => body.extend_from_slice(br#"{"ok":true}"#),
            }
            let length = body.len();
            let mut answer =
                format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n")
                    .into_bytes();
            answer.extend_from_slice(&body);
            // A few hundred bytes always fit into a send buffer that the peer has emptied before it asked again.
            peer.socket.write_all(&answer)?;
        }
        Ok(())
    }

    /// The state of a topic: a new one if it has to change, stamped when it is first told.
    fn stamp(&mut self, topic: u32) -> Stamp {
        let is_restless = topic >= RESTLESS || self.told.is_restless.load(Ordering::Acquire);
        let seq = self.told.seq.load(Ordering::Acquire);
        let stamp = self.topics.entry(topic).or_insert(Stamp { seq: 0, at: 0 });
        let wanted = if is_restless { stamp.seq + 1 } else { seq.max(stamp.seq) };
        if wanted != stamp.seq {
            *stamp = Stamp { seq: wanted, at: nanos() };
        }
        *stamp
    }
}

fn topic(head: &[u8]) -> Option<u32> {
    let rest = head.strip_prefix(STATUS)?;
    let end = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&rest[..end]).ok()?.parse().ok()
}
