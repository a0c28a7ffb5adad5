//! Streams on plain HTTP/1.x, once their head is decided: the sockets themselves, one shard of them per core.
//!
//! A stream here is an entry of a slab: a socket, a subscription, some times and flags. It has no task, no timer, no
//! queue and no lock. A shard is a thread with an epoll of its own; streams of one topic form a group in it, so that a
//! publish wakes each shard once, and heartbeats belong to the group. Everything else (`--max-age`, the drain, stale
//! streams, the admin side's list) is a walk over the slab.
//!
//! A thread and not a task, because a topic with fifteen thousand subscribers is over a hundred milliseconds of writes: the
//! kernel shares the cores fairly between that and the runtime's own threads, which accept, forward and poll meanwhile.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::oneshot;
use tracing::{error, warn};

mod account;
mod entry;
mod group;
mod run;

use crate::{
    connections::{Limits, Permit},
    metrics::{Metrics, RouteId},
    stream::body::Pacing,
    subscription::Subscription,
    survey::Survey,
};

/// How long the dashboard waits for a shard.
const PATIENCE: Duration = Duration::from_secs(2);

/// A stream whose socket has been taken over, on its way to a shard.
#[derive(Debug)]
pub struct Adopted {
    /// The client's socket; nothing of the answer has been written.
    pub socket: std::net::TcpStream,
    /// The answer's head.
    pub head: Vec<u8>,
    /// Whether frames are chunks (HTTP/1.1) or bare (HTTP/1.0, which ends with the connection).
    pub chunked: bool,
    /// Its place in its topic.
    pub subscription: Subscription,
    /// Its place among the open streams.
    pub permit: Permit,
    /// Its times.
    pub pacing: Arc<Pacing>,
}

/// What a shard is told.
enum Order {
    Adopt(Box<Adopted>),
    /// A group's topic has something new.
    Woken(group::GroupKey),
    /// End every stream at a random moment within this.
    Drain(Duration),
    /// Tell about the streams, but for those of a route.
    Survey(RouteId, oneshot::Sender<Survey>),
    Stop,
}

/// The write end of a shard.
#[derive(Debug)]
struct Inbox {
    /// Written by whoever has something for the shard, emptied by the shard, and `None` once that is no more. Bounded by
    /// what can be waiting: one order per connection being opened, one per topic (a group that has been woken is not woken
    /// again before it looked), one per second for the dashboard, which a stuck shard leaves lying until it is restarted.
    orders: Mutex<Option<Vec<Order>>>,
    /// How often the shard has looked. Written by the shard, read by the watch.
    turns: AtomicU64,
    waker: mio::Waker,
}

/// All shards.
#[derive(Debug)]
pub struct Shards {
    inboxes: Vec<Arc<Inbox>>,
    next: AtomicUsize,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

// === impl Shards ===

impl Shards {
    /// So many there are: one for each core that the process may use.
    pub fn per_core() -> usize {
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
    }

    /// Starts `count` shards. Each is a thread that ends with [`Shards::stop`].
    ///
    /// # Errors
    /// When the system gives no epoll or no thread.
    pub fn start(count: usize, limits: Limits, metrics: &Arc<Metrics>) -> io::Result<Arc<Self>> {
        let mut inboxes = Vec::new();
        let mut threads = Vec::new();
        for index in 0..count {
            let poll = mio::Poll::new()?;
            let inbox = Arc::new(Inbox {
                orders: Mutex::new(Some(Vec::new())),
                turns: AtomicU64::new(0),
                waker: mio::Waker::new(poll.registry(), run::WAKER)?,
            });
            let shard = run::Shard::new(poll, Arc::clone(&inbox), limits, Arc::clone(metrics));
            threads.push(std::thread::Builder::new().name(format!("shard-{index}")).spawn(move || shard.run())?);
            inboxes.push(inbox);
        }
        Ok(Arc::new(Self { inboxes, next: AtomicUsize::new(0), threads: Mutex::new(threads) }))
    }

    /// Gives a stream to the shard whose turn it is: the streams of one topic are spread over all cores.
    pub fn adopt(&self, adopted: Box<Adopted>) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.inboxes.len();
        let (before, from) = self.inboxes.split_at(turn);
        let mut order = Order::Adopt(adopted);
        // A shard that has failed is passed over.
        for inbox in from.iter().chain(before) {
            match inbox.send(order) {
                Ok(()) => return,
                Err(returned) => order = returned,
            }
        }
        error!("no shard is left; a stream is closed without an answer");
    }

    /// Ends every stream at a random moment within `time`.
    pub fn drain(&self, time: Duration) {
        for inbox in &self.inboxes {
            // A shard that is no more has no streams, here and below.
            let _ = inbox.send(Order::Drain(time));
        }
    }

    /// How often each shard has looked for orders so far.
    pub fn turns(&self) -> impl Iterator<Item = u64> {
        self.inboxes.iter().map(|inbox| inbox.turns.load(Ordering::Relaxed))
    }

    /// Keeps a shard from looking, until this is dropped.
    #[cfg(test)]
    pub(crate) fn hold(&self, shard: usize) -> impl Drop + '_ {
        self.inboxes[shard].lock()
    }

    /// Has every shard look, though there is nothing for it.
    pub fn wake(&self) {
        for inbox in &self.inboxes {
            inbox.wake();
        }
    }

    /// What is shown of the streams of all shards, but for those of the route `hidden`; those of a shard that does not
    /// answer are left out.
    pub async fn survey(&self, hidden: RouteId) -> Survey {
        let mut survey = Survey::default();
        let asked: Vec<_> = self
            .inboxes
            .iter()
            .map(|inbox| {
                let (tell, told) = oneshot::channel();
                let _ = inbox.send(Order::Survey(hidden, tell));
                told
            })
            .collect();
        for told in asked {
            // A stuck shard must not take the dashboard along that would show it.
            if let Ok(Ok(told)) = tokio::time::timeout(PATIENCE, told).await {
                survey.add(told);
            }
        }
        survey
    }

    /// Ends all shards, and whatever streams they still have, at once.
    pub fn stop(&self) {
        for inbox in &self.inboxes {
            let _ = inbox.send(Order::Stop);
        }
        let threads = std::mem::take(&mut *self.threads.lock().expect("no code panics under this lock"));
        for thread in threads {
            if thread.join().is_err() {
                error!("a shard has panicked");
            }
        }
    }
}

// === impl Inbox ===

impl Inbox {
    /// Leaves an order; gives it back when the shard is no more.
    fn send(&self, order: Order) -> Result<(), Order> {
        match &mut *self.lock() {
            Some(orders) => orders.push(order),
            None => return Err(order),
        }
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            // The eventfd of a living shard is always writable; the shard looks at its orders at its next tick anyway.
            warn!(%error, "a shard can't be woken");
        }
    }

    fn take(&self) -> Vec<Order> {
        let orders = self.lock().as_mut().map(std::mem::take).unwrap_or_default();
        self.turns.fetch_add(1, Ordering::Relaxed);
        orders
    }

    /// Takes no more. What still waits is dropped, or its streams would hang and those who asked wait for ever.
    fn close(&self) {
        let orders = self.lock().take();
        // Not under the lock: a stream that goes tells its topic and the hub.
        drop(orders);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Order>>> {
        self.orders.lock().expect("no code panics under this lock")
    }
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Adopt(_) => "Adopt",
            Self::Woken(_) => "Woken",
            Self::Drain(_) => "Drain",
            Self::Survey(..) => "Survey",
            Self::Stop => "Stop",
        })
    }
}
