//! A process full of clients: one thread, one epoll, one read per wake, and nothing allocated per event.

use std::{
    io::{BufRead, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::mpsc::{Receiver, sync_channel},
    time::Duration,
};

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token, Waker, event::Event, net::TcpStream};
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    ear::{Ear, Joining, Round, histogram, listen},
    protocol::{Connect, Order, Reply, Tally, Values},
    wire::Wire,
};
use crate::clock::nanos;

const WAKER: Token = Token(usize::MAX);
/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(100);

/// One stream.
#[derive(Debug)]
struct Client {
    socket: TcpStream,
    wire: Wire,
    /// The number of the latest event; 0 is none.
    last: u64,
    began: u64,
    topic: u32,
    is_asked: bool,
}

#[derive(Debug)]
struct Connecting {
    plan: Connect,
    opened: usize,
    deadline: u64,
    joining: Joining,
}

#[derive(Debug)]
struct Worker {
    poll: Poll,
    clients: Vec<Option<Client>>,
    connecting: Option<Connecting>,
    awaited: Option<(u64, u64)>,
    round: Round,
    tally: Tally,
    latency: Histogram<u32>,
}

/// Runs a worker until its stdin ends.
pub(crate) fn run() -> Result<(), String> {
    raise_file_limit();
    let poll = Poll::new().map_err(|error| error.to_string())?;
    let waker = Waker::new(poll.registry(), WAKER).map_err(|error| error.to_string())?;
    let (orders, inbox) = sync_channel(16);
    // Ends with stdin, and so with the conductor; the process ends then too.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let Ok(order) = serde_json::from_str(&line) else { break };
            if orders.send(order).is_err() {
                break;
            }
            let _ = waker.wake();
        }
        drop(orders);
        let _ = waker.wake();
    });
    let round = Round { seq: 0, received: 0, latency: histogram() };
    let mut worker = Worker {
        poll,
        clients: Vec::new(),
        connecting: None,
        awaited: None,
        round,
        tally: Tally::default(),
        latency: histogram(),
    };
    worker.run(&inbox).map_err(|error| error.to_string())
}

/// Lets this process open as many files as it may.
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    // What it can't do shows when it opens the sockets.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

fn values(histogram: &Histogram<u32>) -> Values {
    histogram.iter_recorded().map(|value| (value.value_iterated_to(), u64::from(value.count_at_value()))).collect()
}

fn say(reply: &Reply) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

impl Worker {
    fn run(&mut self, inbox: &Receiver<Order>) -> std::io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match self.poll.poll(&mut events, Some(TICK)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                if event.token() != WAKER {
                    self.on_socket(event, &mut buffer);
                }
            }
            loop {
                match inbox.try_recv() {
                    Ok(order) => self.order(order)?,
                    Err(std::sync::mpsc::TryRecvError::Empty) => break,
                    Err(std::sync::mpsc::TryRecvError::Disconnected) => return Ok(()),
                }
            }
            self.go_on_connecting()?;
            self.go_on_waiting()?;
        }
    }

    fn order(&mut self, order: Order) -> std::io::Result<()> {
        match order {
            Order::Connect(plan) => {
                let deadline = nanos() + plan.timeout_ms * 1_000_000;
                let connecting = Connecting {
                    plan,
                    opened: 0,
                    deadline,
                    joining: Joining { joined: 0, to_first_event: histogram() },
                };
                self.connecting = Some(connecting);
                Ok(())
            }
            Order::Await { seq, timeout_ms } => {
                self.awaited = Some((seq, nanos() + timeout_ms * 1_000_000));
                Ok(())
            }
            Order::Tell => {
                self.tally.streams = self.standing();
                self.tally.latency = values(&self.latency);
                say(&Reply::Told(self.tally.clone()))
            }
            Order::Reset => {
                self.latency.reset();
                self.tally.beats = 0;
                say(&Reply::Done)
            }
            Order::Close => {
                for client in self.clients.drain(..).flatten() {
                    // A reset leaves no port behind in TIME_WAIT.
                    let _ = socket2::SockRef::from(&client.socket).set_linger(Some(Duration::ZERO));
                }
                say(&Reply::Done)
            }
        }
    }

    fn standing(&self) -> u64 {
        self.clients.iter().flatten().count() as u64
    }

    fn go_on_connecting(&mut self) -> std::io::Result<()> {
        let Some(mut connecting) = self.connecting.take() else { return Ok(()) };
        while connecting.opened < connecting.plan.count
            && connecting.opened - connecting.joining.joined < connecting.plan.window
        {
            if let Err(error) = self.open(&connecting.plan, connecting.opened) {
                return say(&Reply::Failed(format!("stream {} can't be opened: {error}", connecting.opened)));
            }
            connecting.opened += 1;
        }
        if connecting.joining.joined == connecting.plan.count {
            return say(&Reply::Connected { to_first_event: values(&connecting.joining.to_first_event) });
        }
        if self.tally.ended > 0 || nanos() > connecting.deadline {
            let (joined, count) = (connecting.joining.joined, connecting.plan.count);
            let ended = self.tally.ended;
            return say(&Reply::Failed(format!(
                "{joined} of {count} streams had their first event, {ended} were ended"
            )));
        }
        self.connecting = Some(connecting);
        Ok(())
    }

    fn open(&mut self, plan: &Connect, index: usize) -> std::io::Result<()> {
        let source = plan.sources.get(index % plan.sources.len().max(1)).copied().unwrap_or(Ipv4Addr::LOCALHOST);
        let topic = if plan.is_topic_each { plan.first_topic + index as u32 } else { plan.first_topic };
        let began = nanos();
        let mut socket = connect_from(source, plan.addr)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut socket, Token(self.clients.len()), interest)?;
        self.clients.push(Some(Client { socket, wire: Wire::default(), last: 0, began, topic, is_asked: false }));
        Ok(())
    }

    fn go_on_waiting(&mut self) -> std::io::Result<()> {
        let Some((seq, deadline)) = self.awaited else { return Ok(()) };
        if self.round.seq == seq && self.round.received == self.clients.len() as u64 {
            self.awaited = None;
            return say(&Reply::Received { latency: values(&self.round.latency) });
        }
        if nanos() > deadline {
            self.awaited = None;
            let received = if self.round.seq == seq { self.round.received } else { 0 };
            let all = self.clients.len();
            return say(&Reply::Failed(format!("{received} of {all} clients had event {seq} in time")));
        }
        Ok(())
    }

    fn on_socket(&mut self, event: &Event, buffer: &mut [u8]) {
        let index = event.token().0;
        let Some(client) = self.clients.get_mut(index).and_then(Option::as_mut) else { return };
        if !client.is_asked && event.is_writable() {
            client.is_asked = true;
            let Some(connecting) = &self.connecting else { return };
            // The head is far smaller than an empty send buffer.
            if client.socket.write(&request(&connecting.plan, client.topic)).is_err() {
                self.end(index);
            }
            return;
        }
        if !event.is_readable() && !event.is_read_closed() && !event.is_error() {
            return;
        }
        loop {
            match client.socket.read(buffer) {
                Ok(0) => return self.end(index),
                Ok(read) => {
                    let now = nanos();
                    let heard = Ear {
                        last: &mut client.last,
                        began: client.began,
                        now,
                        joining: self.connecting.as_mut().map(|connecting| &mut connecting.joining),
                        round: &mut self.round,
                        tally: &mut self.tally,
                        latency: &mut self.latency,
                    };
                    let is_sound = listen(&mut client.wire, &buffer[..read], heard);
                    if !is_sound || client.wire.is_ended() {
                        return self.end(index);
                    }
                    // A short read has emptied the socket: what comes later is another edge.
                    if read < buffer.len() && !event.is_read_closed() {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.end(index),
            }
        }
    }

    fn end(&mut self, index: usize) {
        self.clients[index] = None;
        self.tally.ended += 1;
    }
}

fn connect_from(source: Ipv4Addr, addr: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.bind(&SocketAddrV4::new(source, 0).into())?;
    match socket.connect(&addr.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// What a browser sends, about as long; the same cookie for all, so that they share.
fn request(plan: &Connect, topic: u32) -> Vec<u8> {
    let path = plan.path.replace("{}", &topic.to_string());
    let addr = plan.addr;
    format!(
        "GET {path} HTTP/1.1\r\nHost: {addr}\r\nAccept: text/event-stream\r\nCache-Control: no-cache\r\n\
         Cookie: session=5f2b0c\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\n\
         Accept-Language: en-US,en;q=0.9\r\nConnection: keep-alive\r\n\r\n"
    )
    .into_bytes()
}
