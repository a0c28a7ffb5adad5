//! The floor: what the kernel alone costs. Accepts, writes the head, and on an event makes one `write` per socket, from one
//! thread per core. No topics, no limits, no counts; a peer that does not take its bytes is dropped.

use std::{
    io::{ErrorKind, Read, Write},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::Duration,
};

use memchr::memmem;
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};

use super::{HEARTBEAT, ServerArgs, event, say_where, wait_for_stdin};
use crate::{Fault, client::worker::raise_file_limit, payload};

const LISTENER: Token = Token(usize::MAX);
/// As long as sidestream's.
const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache, no-transform\r\n\
                    x-accel-buffering: no\r\nvary: Accept\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\
                    date: Sun, 22 Nov 2026 08:00:00 GMT\r\n\r\n";
const PUBLISHED: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// To a writing thread.
enum Order {
    Adopt(TcpStream),
    Send(Arc<[u8]>),
}

struct Acceptor {
    poll: Poll,
    listener: TcpListener,
    /// Connections whose request is not there yet, and the publisher's.
    asking: Vec<Option<(TcpStream, Vec<u8>)>>,
    threads: Vec<SyncSender<Order>>,
    next: usize,
    latest: Arc<[u8]>,
}

/// Serves until stdin ends.
pub(crate) fn run(args: ServerArgs) -> Result<(), Fault> {
    raise_file_limit();
    let mut listener = TcpListener::bind("127.0.0.1:0".parse()?)?;
    say_where(listener.local_addr()?);
    let poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut threads = Vec::new();
    for index in 0..args.threads {
        let (orders, inbox) = sync_channel(1024);
        // Both kinds of thread end with the process, when stdin ends.
        std::thread::Builder::new().name(format!("writer-{index}")).spawn(move || write_all(&inbox, args.heartbeat))?;
        threads.push(orders);
    }
    let acceptor = Acceptor { poll, listener, asking: Vec::new(), threads, next: 0, latest: Arc::from([].as_slice()) };
    std::thread::Builder::new().name("accept".to_owned()).spawn(move || acceptor.run())?;
    wait_for_stdin();
    Ok(())
}

fn write_all(inbox: &Receiver<Order>, heartbeat: Duration) {
    let beat: Arc<[u8]> = payload::chunk(HEARTBEAT).into();
    let mut sockets: Vec<TcpStream> = Vec::new();
    loop {
        let bytes = match inbox.recv_timeout(heartbeat) {
            Ok(Order::Adopt(socket)) => {
                sockets.push(socket);
                continue;
            }
            Ok(Order::Send(bytes)) => bytes,
            Err(RecvTimeoutError::Timeout) => Arc::clone(&beat),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        sockets.retain_mut(|socket| matches!(socket.write(&bytes), Ok(sent) if sent == bytes.len()));
    }
}

impl Acceptor {
    fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; 16 * 1024];
        loop {
            if self.poll.poll(&mut events, None).is_err() {
                continue;
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    Token(index) => self.on_socket(index, &mut buffer),
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((mut socket, _)) = self.listener.accept() {
            let _ = socket.set_nodelay(true);
            let index = self.asking.iter().position(Option::is_none).unwrap_or(self.asking.len());
            if self.poll.registry().register(&mut socket, Token(index), Interest::READABLE).is_err() {
                continue;
            }
            let place = Some((socket, Vec::new()));
            match self.asking.get_mut(index) {
                Some(free) => *free = place,
                None => self.asking.push(place),
            }
        }
    }

    fn on_socket(&mut self, index: usize, buffer: &mut [u8]) {
        let Some((mut socket, mut unread)) = self.asking.get_mut(index).and_then(Option::take) else { return };
        loop {
            match socket.read(buffer) {
                Ok(0) => return,
                Ok(read) => unread.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
        if let Some(end) = memmem::find(&unread, b"\r\n\r\n") {
            if unread.starts_with(b"GET ") {
                self.adopt(socket);
                return;
            }
            if let Some(event) = event(&unread[end + 4..]) {
                unread.clear();
                self.publish(&event, &mut socket);
            }
        }
        self.asking[index] = Some((socket, unread));
    }

    fn adopt(&mut self, mut socket: TcpStream) {
        let mut first = HEAD.as_bytes().to_vec();
        first.extend_from_slice(&self.latest);
        let _ = self.poll.registry().deregister(&mut socket);
        if socket.write(&first).is_ok() {
            self.next = (self.next + 1) % self.threads.len();
            let _ = self.threads[self.next].send(Order::Adopt(socket));
        }
    }

    fn publish(&mut self, event: &[u8], publisher: &mut TcpStream) {
        self.latest = payload::chunk(event).into();
        for thread in &self.threads {
            let _ = thread.send(Order::Send(Arc::clone(&self.latest)));
        }
        let _ = publisher.write_all(PUBLISHED);
    }
}
