//! The parts of a run.

use std::time::Duration;

use crate::{
    Fault,
    app::App,
    args::Options,
    client::{Clients, Streams},
    peer::{PATH, Peer, Server, Setup},
};

pub(crate) mod curves;
pub(crate) mod fairness;
pub(crate) mod heartbeats;
pub(crate) mod naive;
pub(crate) mod requests;
pub(crate) mod streams;
pub(crate) mod topics;

/// Silence after which heartbeats are sent, unless a part is about them.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a broadcast may take: sidestream polls a job that has been quiet every five seconds.
const BROADCAST: Duration = Duration::from_secs(30);
/// How long opening streams may take.
const OPENING: Duration = Duration::from_secs(60);

/// A server with its clients.
struct Stage<'a> {
    setup: Setup<'a>,
    server: Server,
    clients: Clients,
    seq: u64,
}

impl<'a> Stage<'a> {
    /// Starts a server with one event in topic 0, and `workers` client processes.
    fn start(peer: Peer, setup: Setup<'a>, workers: usize) -> Result<Self, Fault> {
        let server = peer.start(setup)?;
        let stage = Self { setup, server, clients: Clients::start(workers)?, seq: 1 };
        stage.server.publish(setup, 1)?;
        Ok(stage)
    }

    fn streams(&self, count: usize) -> Streams<'static> {
        Streams { addr: self.server.addr, path: PATH, first_topic: 0, is_topic_each: false, count, timeout: OPENING }
    }

    /// Publishes the next event and waits until all have it.
    fn broadcast(&mut self) -> Result<hdrhistogram::Histogram<u32>, Fault> {
        self.seq += 1;
        self.server.publish(self.setup, self.seq)?;
        self.clients.await_all(self.seq, BROADCAST)
    }

    /// Checks that nothing was lost, and ends it all.
    fn finish(mut self) -> Result<(), Fault> {
        self.clients.check()?;
        self.clients.close()
    }
}

fn setup<'a>(options: &'a Options, app: &'a App) -> Setup<'a> {
    Setup { options, app, heartbeat: HEARTBEAT, route: "" }
}

fn sleep(seconds: f64) {
    std::thread::sleep(Duration::from_secs_f64(seconds));
}

/// Tells whoever watches the run.
fn say(text: &str) {
    eprintln!("  {text}");
}
