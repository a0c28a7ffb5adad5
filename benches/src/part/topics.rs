//! Many topics with one subscriber each: their memory, and whether they are all polled in time.

use super::{Stage, say, setup, sleep};
use crate::{
    Fault,
    app::App,
    args::Options,
    book::Book,
    client::Streams,
    peer::{Peer, Setup},
};

/// The table of this part.
pub(crate) const TABLE: &str = "topics";

pub(crate) const PER_TOPIC: &str = "memory per topic, beside stream and snapshot";
pub(crate) const MARGINAL: &str = "memory per further topic, from the column before to this";
pub(crate) const PER_STREAM: &str = "memory per stream, if all watch one topic";
pub(crate) const QUIET: Polls = Polls {
    wanted: "polls wanted per second, answers unchanged",
    made: "polls made per second, answers unchanged",
    each: "CPU per poll, unchanged",
    cpu: "CPU in all, unchanged",
};
pub(crate) const RESTLESS: Polls = Polls {
    wanted: "polls wanted per second, each a new answer",
    made: "polls made per second, each a new answer",
    each: "CPU per poll, parse and delivery included",
    cpu: "CPU in all, each a new answer",
};

/// The rows about polls of one kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Polls {
    pub(crate) wanted: &'static str,
    pub(crate) made: &'static str,
    pub(crate) each: &'static str,
    pub(crate) cpu: &'static str,
}

/// All topics at the same pace, whether their jobs change or not.
const PACE: &str = ",interval=1s,max-interval=1s";

/// Numbers of topics, one column each.
pub(crate) fn counts(options: &Options) -> Vec<usize> {
    let counts = options.pick(vec![100], vec![1_000], vec![1_000, 5_000, 10_000]);
    counts.into_iter().filter(|count| *count <= options.streams).collect()
}

/// One run of this part.
pub(crate) fn run(options: &Options, book: &mut Book) -> Result<(), Fault> {
    // What topics hold together so far: the first ones also pay for connections to the app and their buffers.
    let mut before: Option<(usize, f64)> = None;
    for count in counts(options) {
        let column = count.to_string();
        let app = App::start(options.payload)?;
        let setup = Setup { route: PACE, ..setup(options, &app) };
        let (stage, per_stream) = opened(setup, count, false)?;
        stage.finish()?;
        let (mut stage, per_both) = opened(setup, count, true)?;
        let per_topic = per_both - per_stream - options.payload as f64;
        book.add(TABLE, &*column, PER_STREAM, &[per_stream]);
        book.add(TABLE, &*column, PER_TOPIC, &[per_topic]);
        let all = per_topic * count as f64;
        if let Some((fewer, of_fewer)) = before.replace((count, all)) {
            book.add(TABLE, &*column, MARGINAL, &[(all - of_fewer) / (count - fewer) as f64]);
        }
        say(&format!("{count} topics: {per_topic:.0} bytes each beside the stream ({per_stream:.0}) and the snapshot"));
        for (polls, is_restless) in [(QUIET, false), (RESTLESS, true)] {
            app.set_restless(is_restless);
            measure(&mut stage, polls, options, &column, book)?;
        }
        app.set_restless(false);
        stage.finish()?;
    }
    Ok(())
}

/// A server with so many streams, and what each of them has added to its memory.
fn opened(setup: Setup<'_>, count: usize, is_topic_each: bool) -> Result<(Stage<'_>, f64), Fault> {
    let mut stage = Stage::start(Peer::Sidestream, setup, setup.options.workers)?;
    stage.clients.open(&stage.streams(200.min(count)))?;
    sleep(1.0);
    let empty = stage.server.process.memory();
    let streams = Streams { first_topic: 1, is_topic_each, ..stage.streams(count) };
    stage.clients.open(&streams)?;
    // Some rounds of polls, so that all that a topic comes to hold is there.
    sleep(setup.options.pick(1.5, 3.0, 5.0));
    let per_stream = (stage.server.process.memory().rss - empty.rss) / count as f64;
    Ok((stage, per_stream))
}

fn measure(stage: &mut Stage<'_>, polls: Polls, options: &Options, column: &str, book: &mut Book) -> Result<(), Fault> {
    let seconds = options.pick(2.0, 3.0, 10.0);
    sleep(1.5);
    let (made, cpu) = (stage.setup.app.requests(), stage.server.process.cpu());
    sleep(seconds);
    let made = (stage.setup.app.requests() - made) as f64;
    let cpu = (stage.server.process.cpu() - cpu) as f64;
    // The warm streams watch one more.
    let wanted = column.parse::<f64>()? + 1.0;
    let figures = [
        (polls.wanted, wanted),
        (polls.made, made / seconds),
        (polls.each, cpu / 1e3 / made),
        (polls.cpu, cpu / 1e6 / seconds),
    ];
    for (metric, value) in figures {
        book.add(TABLE, column, metric, &[value]);
    }
    say(&format!(
        "{column} topics: {:.0} polls/s of {wanted:.0} wanted, {:.1} µs each, {:.0} ms of CPU per second",
        made / seconds,
        cpu / 1e3 / made,
        cpu / 1e6 / seconds
    ));
    stage.clients.check().map(drop)
}
