//! Node as legacy apps use it: each client with timers of its own. It is given more clients until it can't keep its pace.

use super::{BROADCAST, Stage, say, setup, sleep};
use crate::{Fault, app::App, args::Options, book::Book, peer::Peer};

/// The table of this part.
pub(crate) const TABLE: &str = "naive";

pub(crate) const BORNE: &str = "streams it bears";
pub(crate) const MEMORY: &str = "memory per stream (RSS)";
pub(crate) const REQUESTS: &str = "reads of the status per second";
pub(crate) const IDLE_CPU: &str = "CPU while nothing happens";
pub(crate) const P50: &str = "event p50";
pub(crate) const P99: &str = "event p99";

/// Of the reads it wants to make, it has to make so many.
const PACE: f64 = 0.9;

/// What one step has shown.
struct Step {
    memory: f64,
    requests: f64,
    cpu: f64,
    p50: f64,
    p99: f64,
}

/// One run of this part.
pub(crate) fn run(options: &Options, book: &mut Book) -> Result<(), Fault> {
    let app = App::start(options.payload)?;
    let setup = setup(options, &app);
    let mut stage = Stage::start(Peer::Naive, setup, options.workers)?;
    let (step, window) = options.pick((100, 1.0), (500, 2.0), (1_000, 5.0));
    let empty = stage.server.process.memory();
    let mut streams = 0;
    let mut last = None;
    while streams < options.streams {
        let more = step.min(options.streams - streams);
        stage.clients.open(&stage.streams(more))?;
        streams += more;
        sleep(1.5);
        let (cpu, requests) = (stage.server.process.cpu(), app.requests());
        sleep(window);
        let requests = (app.requests() - requests) as f64 / window;
        let cpu = (stage.server.process.cpu() - cpu) as f64 / 1e6 / window;
        if requests < PACE * streams as f64 {
            streams -= more;
            break;
        }
        stage.seq += 1;
        stage.server.publish(setup, stage.seq)?;
        let latency = stage.clients.await_all(stage.seq, BROADCAST)?;
        let [p50, p99] = [0.5, 0.99].map(|quantile| latency.value_at_quantile(quantile) as f64 / 1e3);
        let memory = (stage.server.process.memory().rss - empty.rss) / streams as f64;
        last = Some(Step { memory, requests, cpu, p50, p99 });
    }
    let Some(Step { memory, requests, cpu, p50, p99 }) = last else {
        return Err(Fault::from(format!("Node bears fewer than {step} clients with timers of their own")));
    };
    let figures =
        [(BORNE, streams as f64), (MEMORY, memory), (REQUESTS, requests), (IDLE_CPU, cpu), (P50, p50), (P99, p99)];
    for (metric, value) in figures {
        book.add(TABLE, Peer::Naive.title(), metric, &[value]);
    }
    say(&format!(
        "Node with timers per client bears {streams} streams: {requests:.0} reads/s, {cpu:.0} ms of CPU per second"
    ));
    stage.finish()
}
