//! All streams on one topic: connects, memory at rest and after, heartbeats, and what a broadcast costs.

use crate::{
    Fault,
    app::App,
    args::{Options, Size},
    book::Book,
    kernel,
    peer::Peer,
};

use super::{Stage, say, setup, sleep};

/// The table of this part.
pub(crate) const TABLE: &str = "streams";

/// Those who have their first event before anything is measured.
const WARM: usize = 200;
/// Between the last read of a client and the look at the server's clock: it may still be on its way out of the loop.
const SETTLE: f64 = 0.05;
const MIB: f64 = 1024.0 * 1024.0;

pub(crate) const CONNECTS: &str = "connects per second";
pub(crate) const FIRST_P99: &str = "connect to first event, p99";
pub(crate) const WARM_MEMORY: &str = "memory with 200 streams (RSS)";
pub(crate) const IDLE: &str = "memory per idle stream (RSS)";
pub(crate) const IDLE_PSS: &str = "the same, shared pages once (PSS)";
pub(crate) const AFTER: &str = "memory per stream after traffic (RSS)";
pub(crate) const AFTER_PSS: &str = "the same, shared pages once (PSS), after traffic";
pub(crate) const SLAB: &str = "kernel objects per stream, both ends";
pub(crate) const BUFFERS: &str = "kernel TCP buffers per idle stream, both ends";
pub(crate) const BEATS_CPU: &str = "CPU while idle, heartbeats every 15 s";
pub(crate) const CPU: &str = "CPU per delivery";
pub(crate) const CLIENT_CPU: &str = "the clients' own CPU per delivery";
pub(crate) const P50: &str = "broadcast p50";
pub(crate) const P99: &str = "broadcast p99";
pub(crate) const P999: &str = "broadcast p99.9";
pub(crate) const MAX: &str = "broadcast max";
pub(crate) const FROM_FIRST_P50: &str = "p50 after the first client";
pub(crate) const FROM_FIRST_P99: &str = "p99 after the first client";

/// Who takes part.
pub(crate) fn peers(options: &Options) -> Vec<Peer> {
    let all: &[_] = match options.size {
        Size::Smoke => &[Peer::Sidestream, Peer::Hyper, Peer::Floor],
        _ => &[Peer::Sidestream, Peer::Nchan, Peer::Node, Peer::Hyper, Peer::Floor],
    };
    all.iter().copied().filter(|peer| options.peers.is_empty() || options.peers.contains(peer)).collect()
}

/// What is measured besides the broadcasts, and how often they are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) streams: usize,
    pub(crate) rounds: usize,
    /// Seconds of heartbeats; 0 leaves them out.
    pub(crate) idle: f64,
}

/// One run of this part.
pub(crate) fn run(options: &Options, book: &mut Book) -> Result<(), Fault> {
    let plan = Plan { streams: options.streams, rounds: options.pick(3, 4, 15), idle: options.pick(0.0, 0.0, 45.0) };
    for peer in peers(options) {
        measure(options, peer, plan, TABLE, peer.title(), book)
            .map_err(|fault| format!("{}: {fault}", peer.title()))?;
    }
    Ok(())
}

/// One server with that many streams; its figures go into a column of a table.
pub(crate) fn measure(
    options: &Options,
    peer: Peer,
    plan: Plan,
    table: &'static str,
    column: &str,
    book: &mut Book,
) -> Result<(), Fault> {
    let app = App::start(options.payload)?;
    let mut stage = Stage::start(peer, setup(options, &app), options.workers)?;
    let mut add = |metric, single: &[f64]| book.add(table, column, metric, single);
    let streams = plan.streams as f64;

    stage.clients.open(&stage.streams(WARM.min(plan.streams)))?;
    for _ in 0..2 {
        stage.broadcast()?;
    }
    sleep(options.pick(0.2, 1.0, 1.0));
    let (memory, kernel) = (stage.server.process.memory(), kernel::now());
    let opened = stage.clients.open(&stage.streams(plan.streams))?;
    add(CONNECTS, &[streams / opened.seconds]);
    add(FIRST_P99, &[opened.to_first_event.value_at_quantile(0.99) as f64 / 1e3]);
    sleep(options.pick(0.5, 2.0, 2.0));
    let (idle, held) = (stage.server.process.memory(), kernel::now());
    add(WARM_MEMORY, &[memory.rss / MIB]);
    add(IDLE, &[(idle.rss - memory.rss) / streams]);
    add(IDLE_PSS, &[(idle.pss - memory.pss) / streams]);
    add(SLAB, &[(held.slab - kernel.slab) / streams]);
    add(BUFFERS, &[(held.buffers - kernel.buffers) / streams]);

    if plan.idle > 0.0 {
        add(BEATS_CPU, &[heartbeats(&mut stage, plan)?]);
    }

    for _ in 0..2 {
        stage.broadcast()?;
    }
    let (mut rounds, mut client_cpu) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        sleep(SETTLE);
        let before = (stage.server.process.cpu(), stage.clients.cpu());
        let latency = stage.broadcast()?;
        sleep(SETTLE);
        let each = |now: u64, before: u64| now.saturating_sub(before) as f64 / 1e3 / latency.len() as f64;
        let cpu = each(stage.server.process.cpu(), before.0);
        client_cpu.push(each(stage.clients.cpu(), before.1));
        rounds.push((cpu, latency));
    }
    add(CPU, &rounds.iter().map(|(cpu, _)| *cpu).collect::<Vec<_>>());
    add(CLIENT_CPU, &client_cpu);
    let mut add_quantile = |metric, quantile, from_first: bool| {
        let values = rounds.iter().map(|(_, latency)| {
            let first = if from_first { latency.min() } else { 0 };
            latency.value_at_quantile(quantile).saturating_sub(first) as f64 / 1e3
        });
        add(metric, &values.collect::<Vec<_>>());
    };
    add_quantile(P50, 0.5, false);
    add_quantile(P99, 0.99, false);
    add_quantile(P999, 0.999, false);
    add_quantile(MAX, 1.0, false);
    add_quantile(FROM_FIRST_P50, 0.5, true);
    add_quantile(FROM_FIRST_P99, 0.99, true);

    sleep(options.pick(0.2, 1.0, 1.0));
    let after = stage.server.process.memory();
    add(AFTER, &[(after.rss - memory.rss) / streams]);
    add(AFTER_PSS, &[(after.pss - memory.pss) / streams]);
    let (cpu, latency) = &rounds[rounds.len() / 2];
    say(&format!(
        "{}: {} streams, {:.0} connects/s, {:.1} MiB and {:.0} bytes each, then {:.0}; {cpu:.1} µs and p50 {:.0} ms, p99 {:.0} ms in one of {} broadcasts",
        peer.title(),
        plan.streams,
        streams / opened.seconds,
        memory.rss / MIB,
        (idle.rss - memory.rss) / streams,
        (after.rss - memory.rss) / streams,
        latency.value_at_quantile(0.5) as f64 / 1e3,
        latency.value_at_quantile(0.99) as f64 / 1e3,
        rounds.len()
    ));
    stage.finish()
}

/// CPU in milliseconds per second while nothing but heartbeats is sent. Fails if somebody gets none.
fn heartbeats(stage: &mut Stage<'_>, plan: Plan) -> Result<f64, Fault> {
    stage.clients.reset()?;
    let before = stage.server.process.cpu();
    sleep(plan.idle);
    let cpu = stage.server.process.cpu().saturating_sub(before) as f64 / 1e6 / plan.idle;
    let (tally, _) = stage.clients.tell()?;
    // A round may be cut by either end of the window.
    let owed = (plan.idle / super::HEARTBEAT.as_secs_f64()).floor() - 1.0;
    let got = tally.beats as f64 / tally.streams as f64;
    if got < owed {
        return Err(Fault::from(format!("each stream is owed {owed} heartbeats, {got:.2} came")));
    }
    Ok(cpu)
}
