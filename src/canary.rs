//! A stream of our own, again and again, on the way that every stream takes: the kernel's queue, the accept, hyper, the
//! take-over, a shard, its topic's first state and then news. What it proves can't be proven from inside.
//!
//! It knocks at the public side, so nothing of that is spared; but it is in nobody's books: no limit, no count, no series
//! and no list has it, and no request to the app is made. Its path is a random word that is good for one request while a
//! flight is under way, so nobody else can have such a stream. Any other request for such a path goes to the app.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::HeaderMap;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};
use tracing::trace;

use crate::{
    connections::Connections,
    event::{self, Event, Frame, HeartbeatForm},
    hub::{Hub, Joined, Order, Source, StartSource},
    metrics::{Metrics, RouteId, Transport},
    scope::{Lender, Scopes},
    stream::{Live, body::Pacing},
    topic::{Store, Topic, TopicKey},
};

/// What its paths begin with; an ordinary request is told from it by this alone.
const PREFIX: &str = "/.sidestream/canary/";
/// The pause between two flights.
const EVERY: Duration = Duration::from_secs(2);
/// One flight takes a millisecond; one that takes this long is not waited for any more.
const PATIENCE: Duration = Duration::from_secs(8);
/// A flight's answer: a head and two small events.
const ANSWER_MAX: u64 = 4096;
/// Its streams are over long before anything of this is due.
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// The canary, on both ends of its streams.
#[derive(Debug)]
pub struct Canary {
    route: RouteId,
    connections: Arc<Connections>,
    /// A hub of its own: its topic is none of those that are counted, listed and limited.
    hub: Arc<Hub>,
    scopes: Scopes,
    /// The path of the flight that is under way. Written by the flight, taken by the request that names it.
    expected: Mutex<Option<String>>,
    /// Flights that ended well so far.
    flights: AtomicU64,
}

/// Why a flight failed.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// There is no file left for its socket, here or at the accept.
    #[error("no file is left for a new connection")]
    NoFile,
    /// The network does not lead to our own address; that says nothing about us.
    #[error("the own address can't be reached ({0})")]
    Unreachable(io::Error),
    /// No connection, or it broke.
    #[error("a stream of its own failed ({0})")]
    Failed(io::Error),
    /// Nothing came in time.
    #[error("a stream of its own got nothing")]
    Silent,
}

/// A topic whose only events are the flights' own.
struct NoSource;

// === impl Canary ===

impl Canary {
    /// A canary that has not flown yet.
    pub fn new(connections: &Arc<Connections>, metrics: &Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            route: metrics.canary(),
            connections: Arc::clone(connections),
            hub: Hub::new(1, Box::new(NoSource), Arc::clone(metrics)),
            scopes: Scopes::new(Vec::new()),
            expected: Mutex::default(),
            flights: AtomicU64::new(0),
        })
    }

    fn expected(&self) -> MutexGuard<'_, Option<String>> {
        self.expected.lock().expect("no code panics under this lock")
    }

    /// Flights that ended well so far.
    pub fn flights(&self) -> u64 {
        self.flights.load(Ordering::Relaxed)
    }

    /// The stream for a request of its own, if it is one: each path is good once.
    pub fn claim(&self, path: &str) -> Option<Live> {
        let word = path.strip_prefix(PREFIX)?;
        self.expected().take_if(|expected| *expected == word)?;
        let (scope, identity) = self.scopes.without_credentials(&HeaderMap::new(), Ipv4Addr::LOCALHOST.into());
        let order = Order {
            key: Arc::new(TopicKey { route: self.route, target: "/".into(), scope }),
            store: Store::State,
            linger: NEVER,
            lender: Lender::new(scope, identity),
            admitted: false,
            last_event_id: None,
            first_id: None,
        };
        let Ok(Joined::Subscribed(subscription)) = self.hub.subscribe(order) else { return None };
        let permit = self.connections.uncounted(self.route, Transport::Http1);
        let pacing = Pacing {
            heartbeat: NEVER,
            heartbeat_frame: Frame::new(&[&HeartbeatForm::Comment.frame()]),
            retry: NEVER,
            max_age: None,
            is_checked: false,
        };
        Some(Live { subscription, permit, pacing: Arc::new(pacing) })
    }

    /// Flies again and again, to each of our addresses in turn, until dropped; `note` is told of every flight.
    pub async fn run(&self, addrs: &[SocketAddr], note: impl Fn(Result<(), Fault>)) {
        for addr in addrs.iter().cycle() {
            let flown = match tokio::time::timeout(PATIENCE, self.fly(knock_at(*addr))).await {
                Ok(flown) => flown,
                Err(_) => Err(Fault::Silent),
            };
            *self.expected() = None;
            if flown.is_ok() {
                trace!(%addr, "the canary is back");
                self.flights.fetch_add(1, Ordering::Relaxed);
            }
            note(flown);
            tokio::time::sleep(EVERY).await;
        }
    }

    /// One stream: its first state, and then news.
    async fn fly(&self, addr: SocketAddr) -> Result<(), Fault> {
        let (word, news) = (random_word(), random_word());
        *self.expected() = Some(word.clone());
        let mut stream = TcpStream::connect(addr).await.map_err(Fault::of)?;
        let request = format!("GET {PREFIX}{word} HTTP/1.1\r\nHost: sidestream\r\nAccept: text/event-stream\r\n\r\n");
        stream.write_all(request.as_bytes()).await.map_err(Fault::of)?;
        let mut answer = Vec::new();
        // The head and the chunk behind it leave in one write: the shard has the stream.
        read_until(&mut stream, &mut answer, "\r\n\r\n").await?;
        if !answer.starts_with(b"HTTP/1.1 200 ") {
            return Err(Fault::Failed(io::Error::other("it was answered by somebody else")));
        }
        let topic = self.hub.list().pop().map(|listed| listed.topic);
        let topic = topic.ok_or_else(|| Fault::Failed(io::Error::other("its topic has gone")))?;
        let frame = event::encoded(&Event { id: None, name: None, data: news.clone() });
        topic.snapshot(&news, frame, Instant::now(), None);
        read_until(&mut stream, &mut answer, &news).await
    }
}

impl StartSource for NoSource {
    fn start(&self, _topic: &Arc<Topic>, _order: &Order) -> Box<dyn Source> {
        Box::new(Self)
    }
}

impl Source for NoSource {
    fn joined(&self, _first: bool) {}

    fn idle(&self) {}

    fn pace(&self) -> Option<Duration> {
        None
    }
}

// === impl Fault ===

impl Fault {
    fn of(error: io::Error) -> Self {
        use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkDown, NetworkUnreachable, PermissionDenied};
        let no_file = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE];
        if error.raw_os_error().is_some_and(|raw| no_file.iter().any(|errno| errno.raw_os_error() == raw)) {
            return Self::NoFile;
        }
        match error.kind() {
            AddrNotAvailable | HostUnreachable | NetworkDown | NetworkUnreachable | PermissionDenied => {
                Self::Unreachable(error)
            }
            _ => Self::Failed(error),
        }
    }
}

/// Reads until the answer holds `wanted`.
async fn read_until(stream: &mut TcpStream, answer: &mut Vec<u8>, wanted: &str) -> Result<(), Fault> {
    while !answer.windows(wanted.len()).any(|window| window == wanted.as_bytes()) {
        let room = ANSWER_MAX.saturating_sub(answer.len() as u64);
        if stream.take(room).read_buf(answer).await.map_err(Fault::of)? == 0 {
            return Err(Fault::Failed(io::ErrorKind::UnexpectedEof.into()));
        }
    }
    Ok(())
}

/// Where to reach a listener from inside: one that listens everywhere listens on the loopback address, too.
fn knock_at(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

/// 128 random bits.
fn random_word() -> String {
    format!("{:032x}", rand::random::<u128>())
}

#[cfg(test)]
mod tests;
