//! What a big topic's broadcasts do to everybody else: a small topic's events, new streams, forwarded requests.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use hdrhistogram::Histogram;
use memchr::memmem;

use super::{Stage, say, setup, sleep};
use crate::{
    Fault,
    app::{App, RESTLESS},
    args::Options,
    book::Book,
    client::{Clients, Streams, ear::histogram},
    clock::nanos,
    peer::{PATH, Peer, Setup},
    process::ThreadTime,
};

/// The table of this part.
pub(crate) const TABLE: &str = "fairness";

pub(crate) const QUIET: &str = "nothing else happens";
pub(crate) const LOUD: &str = "during broadcasts";
pub(crate) const EVENT: [&str; 2] = ["event of a topic with 10 subscribers, p50", "the same, p99"];
pub(crate) const SKIPPED: &str = "its states that some client did not see, as a newer one was there";
pub(crate) const CONNECT: [&str; 2] = ["new stream, connect to first block, p50", "new stream, p99"];
pub(crate) const FORWARD: [&str; 2] = ["small forwarded request, p50", "small forwarded request, p99"];
pub(crate) const BROADCASTS: &str = "broadcasts per second";
pub(crate) const SHARE: &str = "share of the busiest shard in the shards' CPU";

/// Both topics are polled ten times a second: the small one has that many events.
const PACE: &str = ",interval=100ms,max-interval=100ms";
const SMALL: usize = 10;
/// Pauses between two probes of a kind.
const CONNECT_PAUSE: Duration = Duration::from_millis(20);
const FORWARD_PAUSE: Duration = Duration::from_millis(10);
/// A probe that takes longer fails the run.
const PATIENCE: Duration = Duration::from_secs(10);

/// One run of this part.
pub(crate) fn run(options: &Options, book: &mut Book) -> Result<(), Fault> {
    let app = App::start(options.payload)?;
    let setup = Setup { route: PACE, ..setup(options, &app) };
    let mut stage = Stage::start(Peer::Sidestream, setup, options.workers)?;
    // In a process of its own, so that it is the server that keeps it waiting.
    let mut small = Clients::start_from(1, 100)?;
    small.open(&Streams { first_topic: RESTLESS, ..stage.streams(SMALL) })?;
    stage.clients.open(&stage.streams(options.streams))?;
    stage.broadcast()?;
    let seconds = options.pick(2.0, 5.0, 20.0);
    let mut skipped = 0;
    for (column, is_loud) in [(QUIET, false), (LOUD, true)] {
        sleep(1.0);
        small.reset()?;
        let threads = stage.server.process.threads();
        let stop = AtomicBool::new(false);
        let addr = stage.server.addr;
        let (connect, forward, broadcasts) = std::thread::scope(|scope| -> Result<_, Fault> {
            let connect = scope.spawn(|| probe(&stop, CONNECT_PAUSE, || connect(addr)));
            let mut kept = None;
            let forward = scope.spawn(|| probe(&stop, FORWARD_PAUSE, move || forward(addr, &mut kept)));
            let broadcasts = if is_loud {
                broadcast_for(&mut stage, seconds)
            } else {
                sleep(seconds);
                Ok(0)
            };
            stop.store(true, Ordering::Release);
            let connect = connect.join().map_err(|_| "the probe of connects has panicked")??;
            let forward = forward.join().map_err(|_| "the probe of forwarding has panicked")??;
            Ok((connect, forward, broadcasts?))
        })?;
        let (_, event) = small.tell()?;
        let tally = small.check_state()?;
        book.add(TABLE, column, SKIPPED, &[(tally.lost - skipped) as f64]);
        skipped = tally.lost;
        for (metrics, latency) in [(EVENT, &event), (CONNECT, &connect), (FORWARD, &forward)] {
            for (metric, quantile) in metrics.into_iter().zip([0.5, 0.99]) {
                book.add(TABLE, column, metric, &[latency.value_at_quantile(quantile) as f64 / 1e3]);
            }
        }
        let p99 = |latency: &Histogram<u32>| latency.value_at_quantile(0.99) as f64 / 1e3;
        let (event, connect, forward) = (p99(&event), p99(&connect), p99(&forward));
        say(&format!(
            "{column}: p99 of events {event:.1} ms, of new streams {connect:.1} ms, of forwarding {forward:.1} ms"
        ));
        if is_loud {
            let share = busiest(&threads, &stage.server.process.threads());
            book.add(TABLE, column, BROADCASTS, &[broadcasts as f64 / seconds]);
            book.add(TABLE, column, SHARE, &[share * 100.0]);
        }
    }
    small.close()?;
    stage.finish()
}

fn broadcast_for(stage: &mut Stage<'_>, seconds: f64) -> Result<u32, Fault> {
    let end = nanos() + (seconds * 1e9) as u64;
    let mut made = 0;
    while nanos() < end {
        stage.broadcast()?;
        made += 1;
    }
    Ok(made)
}

/// Does it again and again, and tells how long each took.
fn probe(
    stop: &AtomicBool,
    pause: Duration,
    mut once: impl FnMut() -> Result<(), Fault>,
) -> Result<Histogram<u32>, Fault> {
    let mut latency = histogram();
    while !stop.load(Ordering::Acquire) {
        let began = nanos();
        once()?;
        latency.saturating_record((nanos() - began) / 1_000);
        std::thread::sleep(pause);
    }
    Ok(latency)
}

fn connect(addr: SocketAddr) -> Result<(), Fault> {
    let mut socket = TcpStream::connect(addr)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let path = PATH.replace("{}", &RESTLESS.to_string());
    write!(
        socket,
        "GET {path} HTTP/1.1\r\nHost: {addr}\r\nAccept: text/event-stream\r\nCookie: session=5f2b0c\r\n\r\n"
    )?;
    read_until(&mut socket, b"data: ")
}

fn forward(addr: SocketAddr, kept: &mut Option<TcpStream>) -> Result<(), Fault> {
    let socket = match kept {
        Some(socket) => socket,
        None => kept.insert(TcpStream::connect(addr)?),
    };
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(format!("GET /small HTTP/1.1\r\nHost: {addr}\r\n\r\n").as_bytes())?;
    read_until(socket, br#"{"ok":true}"#)
}

fn read_until(socket: &mut TcpStream, mark: &[u8]) -> Result<(), Fault> {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while memmem::find(&text, mark).is_none() {
        match socket.read(&mut buffer)? {
            0 => return Err(Fault::from(format!("a probe was cut off: {}", String::from_utf8_lossy(&text)))),
            read => text.extend_from_slice(&buffer[..read]),
        }
    }
    Ok(())
}

/// The part that the busiest shard has of what all shards have used between two looks: 1 / shards, if they share evenly.
fn busiest(before: &[ThreadTime], after: &[ThreadTime]) -> f64 {
    let used: Vec<_> = after
        .iter()
        .filter(|thread| thread.name.starts_with("shard-"))
        .map(|thread| {
            let before = before.iter().find(|other| other.name == thread.name).map_or(0, |other| other.nanos);
            (thread.nanos - before) as f64
        })
        .collect();
    used.iter().copied().fold(0.0, f64::max) / used.iter().sum::<f64>()
}
