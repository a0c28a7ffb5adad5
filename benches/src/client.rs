//! The clients: worker processes, and the conductor's handle on them.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use hdrhistogram::Histogram;

use self::protocol::{Connect, Order, Reply, Tally, Values};
use crate::{Fault, clock::nanos, process::threads};

pub(crate) mod ear;
pub(crate) mod protocol;
pub(crate) mod wire;
pub(crate) mod worker;

/// Connections from one source address: far below the 28,000 ports it has.
const PER_SOURCE: usize = 4_000;
/// Streams in the making at once, per worker: with two of them below 128, the usual queue of a listener.
const WINDOW: usize = 50;

/// All the clients of one server.
#[derive(Debug)]
pub(crate) struct Clients {
    workers: Vec<Worker>,
}

#[derive(Debug)]
struct Worker {
    child: Child,
    orders: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
    opened: usize,
    /// The third number of its source addresses.
    net: u8,
}

/// Which streams to open.
#[derive(Clone, Debug)]
pub(crate) struct Streams<'a> {
    pub(crate) addr: SocketAddr,
    pub(crate) path: &'a str,
    pub(crate) first_topic: u32,
    pub(crate) is_topic_each: bool,
    pub(crate) count: usize,
    pub(crate) timeout: Duration,
}

/// How opening them went.
#[derive(Debug)]
pub(crate) struct Opened {
    /// From the first connect to the last first event.
    pub(crate) seconds: f64,
    pub(crate) to_first_event: Histogram<u32>,
}

impl Clients {
    /// Starts `count` processes.
    pub(crate) fn start(count: usize) -> Result<Self, Fault> {
        Self::start_from(count, 1)
    }

    /// The same, from source addresses that nobody else uses.
    pub(crate) fn start_from(count: usize, first_net: u8) -> Result<Self, Fault> {
        let program = std::env::current_exe()?;
        let mut workers = Vec::new();
        for net in (first_net..).take(count) {
            let mut child =
                Command::new(&program).arg("clients").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
            let orders = child.stdin.take();
            let replies = BufReader::new(child.stdout.take().ok_or("a worker has no stdout")?);
            workers.push(Worker { child, orders, replies, opened: 0, net });
        }
        Ok(Self { workers })
    }

    /// Opens streams, spread over the processes.
    pub(crate) fn open(&mut self, streams: &Streams<'_>) -> Result<Opened, Fault> {
        let began = nanos();
        let workers = self.workers.len();
        let mut first_topic = streams.first_topic;
        let mut asked = Vec::new();
        for (index, worker) in self.workers.iter_mut().enumerate() {
            let count = (streams.count + workers - 1 - index) / workers;
            let sources = worker.sources(count);
            let plan = Connect {
                addr: streams.addr,
                path: streams.path.to_owned(),
                first_topic,
                is_topic_each: streams.is_topic_each,
                count,
                window: WINDOW,
                sources,
                timeout_ms: streams.timeout.as_millis() as u64,
            };
            if streams.is_topic_each {
                first_topic += count as u32;
            }
            worker.opened += count;
            worker.send(&Order::Connect(plan))?;
            asked.push(worker);
        }
        let mut to_first_event = ear::histogram();
        for worker in asked {
            match worker.reply()? {
                Reply::Connected { to_first_event: values } => add(&mut to_first_event, &values),
                other => return Err(unexpected(other)),
            }
        }
        Ok(Opened { seconds: (nanos() - began) as f64 / 1e9, to_first_event })
    }

    /// Waits until every client has the event with this number, and tells how long after its stamp they had it.
    pub(crate) fn await_all(&mut self, seq: u64, timeout: Duration) -> Result<Histogram<u32>, Fault> {
        let mut latency = ear::histogram();
        for reply in self.ask(&Order::Await { seq, timeout_ms: timeout.as_millis() as u64 })? {
            match reply {
                Reply::Received { latency: values } => add(&mut latency, &values),
                other => return Err(unexpected(other)),
            }
        }
        Ok(latency)
    }

    /// What all have seen, and how late.
    pub(crate) fn tell(&mut self) -> Result<(Tally, Histogram<u32>), Fault> {
        let mut total = Tally::default();
        let mut latency = ear::histogram();
        for reply in self.ask(&Order::Tell)? {
            match reply {
                Reply::Told(tally) => {
                    add(&mut latency, &tally.latency);
                    total.streams += tally.streams;
                    total.events += tally.events;
                    total.beats += tally.beats;
                    total.lost += tally.lost;
                    total.doubled += tally.doubled;
                    total.reordered += tally.reordered;
                    total.odd += tally.odd;
                    total.ended += tally.ended;
                }
                other => return Err(unexpected(other)),
            }
        }
        Ok((total, latency))
    }

    /// Begins the histogram of all deliveries and the count of heartbeats anew.
    pub(crate) fn reset(&mut self) -> Result<(), Fault> {
        self.ask(&Order::Reset).map(drop)
    }

    /// Fails if any client has missed an event, had one twice or out of order, or was cut off.
    pub(crate) fn check(&mut self) -> Result<Tally, Fault> {
        let (tally, _) = self.tell()?;
        if tally.lost > 0 {
            return Err(Fault::from(format!("{} deliveries were lost", tally.lost)));
        }
        self.check_state()
    }

    /// The same for a topic whose state changes faster than some client may be served: the latest is enough for it, so
    /// numbers that were passed over are no loss.
    pub(crate) fn check_state(&mut self) -> Result<Tally, Fault> {
        let (tally, _) = self.tell()?;
        if tally.doubled + tally.reordered + tally.odd + tally.ended > 0 {
            let Tally { doubled, reordered, odd, ended, .. } = tally;
            return Err(Fault::from(format!(
                "deliveries went wrong: {doubled} doubled, {reordered} out of order, {odd} that nobody \
                 sent, {ended} streams ended by the server"
            )));
        }
        Ok(tally)
    }

    /// The CPU time all have used, in nanoseconds.
    pub(crate) fn cpu(&self) -> u64 {
        self.workers.iter().flat_map(|worker| threads(worker.child.id())).map(|thread| thread.nanos).sum()
    }

    /// All leave.
    pub(crate) fn close(&mut self) -> Result<(), Fault> {
        self.ask(&Order::Close).map(drop)
    }

    fn ask(&mut self, order: &Order) -> Result<Vec<Reply>, Fault> {
        for worker in &mut self.workers {
            worker.send(order)?;
        }
        // All are heard, also when one has failed, so that no answer is taken for that of a later question.
        let replies: Vec<_> = self.workers.iter_mut().map(Worker::reply).collect();
        replies.into_iter().collect()
    }
}

fn unexpected(reply: Reply) -> Fault {
    match reply {
        Reply::Failed(why) => Fault::from(why),
        other => Fault::from(format!("a worker answered something else: {other:?}")),
    }
}

fn add(histogram: &mut Histogram<u32>, values: &Values) {
    for (value, count) in values {
        // It is a copy of what a histogram with the same bounds held.
        let _ = histogram.record_n(*value, u32::try_from(*count).unwrap_or(u32::MAX));
    }
}

impl Worker {
    fn sources(&self, count: usize) -> Vec<Ipv4Addr> {
        let needed = (count.div_ceil(PER_SOURCE)).max(1) + self.opened / PER_SOURCE;
        (0..needed).map(|index| Ipv4Addr::new(127, 0, self.net, 2 + index as u8)).collect()
    }

    fn send(&mut self, order: &Order) -> Result<(), Fault> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        let orders = self.orders.as_mut().ok_or("a worker has gone")?;
        Ok(orders.write_all(&line)?)
    }

    fn reply(&mut self) -> Result<Reply, Fault> {
        let mut line = String::new();
        if self.replies.read_line(&mut line)? == 0 {
            return Err(Fault::from("a worker has gone".to_owned()));
        }
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The end of its stdin ends it.
        drop(self.orders.take());
        let _ = self.child.wait();
    }
}
