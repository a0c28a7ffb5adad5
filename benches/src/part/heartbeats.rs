//! An hour's worth of heartbeats in some minutes: what is left of it in memory.

use std::time::Duration;

use super::{Stage, say, setup, sleep};
use crate::{
    Fault,
    app::App,
    args::Options,
    book::Book,
    peer::{Peer, Setup},
};

/// The table of this part.
pub(crate) const TABLE: &str = "heartbeats";

pub(crate) const BEFORE: &str = "memory per stream before";
pub(crate) const AFTER: &str = "memory per stream after";
pub(crate) const BEATS: &str = "heartbeats per stream";

/// An hour has 240 of them at 15 s.
const HOUR: u32 = 240;
const PACE: Duration = Duration::from_millis(500);

/// One run of this part.
pub(crate) fn run(options: &Options, book: &mut Book) -> Result<(), Fault> {
    let beats = options.pick(10, 16, HOUR);
    let app = App::start(options.payload)?;
    let setup = Setup { heartbeat: PACE, ..setup(options, &app) };
    let mut stage = Stage::start(Peer::Sidestream, setup, options.workers)?;
    stage.clients.open(&stage.streams(200.min(options.streams)))?;
    sleep(1.0);
    let empty = stage.server.process.memory();
    stage.clients.open(&stage.streams(options.streams))?;
    sleep(1.0);
    let per_stream = |stage: &Stage<'_>| (stage.server.process.memory().rss - empty.rss) / options.streams as f64;
    let before = per_stream(&stage);
    stage.clients.reset()?;
    sleep((PACE * beats).as_secs_f64());
    let tally = stage.clients.check()?;
    let after = per_stream(&stage);
    let got = tally.beats as f64 / tally.streams as f64;
    // An event in between is a heartbeat, too; there are none. The last one may still be on its way.
    if got < 0.95 * f64::from(beats) {
        return Err(Fault::from(format!("each stream is owed {beats} heartbeats, {got:.1} came")));
    }
    for (metric, value) in [(BEFORE, before), (AFTER, after), (BEATS, got)] {
        book.add(TABLE, Peer::Sidestream.title(), metric, &[value]);
    }
    say(&format!("{got:.0} heartbeats: {before:.0} bytes per stream before, {after:.0} after"));
    stage.finish()
}
