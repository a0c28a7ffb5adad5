//! One bad peer harms nobody: whatever a client or the app does on one connection, the streams of the others get every
//! event, in order, and the memory stays where it was.
//!
//! [`long_form`] measures by how much they are delayed.

mod clients;
mod long_form;
mod upstreams;

use std::time::Duration;

use tokio::{
    task::{JoinHandle, JoinSet},
    time::Instant,
};

use crate::harness::{
    app::{App, Stream},
    client::Client,
    sidestream::{Builder, Sidestream},
};

/// Memory that may be added to the program by all bad peers of a test together, in KiB. What one of them can hold is
/// hyper's 64 KiB for each direction and side, and one event of 1 MiB; a leak or a missing bound is hundreds of MiB.
const GROWTH: u64 = 96 * 1024;

/// How many streams are watched for harm.
const OTHERS: usize = 4;

/// The streams that must not be harmed: all of one topic, fed by the test.
struct Others {
    app: Stream,
    clients: Vec<Client>,
    sent: u32,
}

/// What goes on beside them; ends when it is dropped.
#[derive(Default)]
struct Bad(JoinSet<()>);

// === impl Others ===

impl Others {
    /// With the program in front of `app`.
    async fn start(app: &App, flags: impl FnOnce(Builder) -> Builder) -> (Sidestream, Self) {
        let events = app.events("/notifications");
        let side = flags(Sidestream::before(app).route("path=/notifications,subscribe,linger=300ms")).start().await;
        let mut clients = Vec::new();
        for _ in 0..OTHERS {
            clients.push(side.sse("/notifications").open().await);
        }
        let mut others = Self { app: events.accept().await, clients, sent: 0 };
        // The first deliveries find everything in place for the later ones.
        others.deliver(10, "", None).await;
        (side, others)
    }

    /// Sends events one after the other, each when everybody has got the one before: so nobody falls out of the window
    /// who has not been harmed. Gives the time that each took to reach each.
    async fn deliver(&mut self, count: u32, padding: &str, pause: Option<Duration>) -> Vec<Duration> {
        let mut times = Vec::new();
        for _ in 0..count {
            self.sent += 1;
            let data = format!("{} {padding}", self.sent);
            let since = Instant::now();
            self.app.send(format!("data: {data}\n\n")).await;
            for client in &mut self.clients {
                let event = client.next_event().await;
                times.push(since.elapsed());
                assert!(event.data.as_deref() == Some(&*data), "event {} came as {:?}", self.sent, event.data);
            }
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
        }
        times
    }
}

// === impl Bad ===

impl Bad {
    fn spawn(&mut self, bad: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(bad);
    }

    /// Waits for those that come to their end by themselves, or by the program's doing.
    async fn all_ended(&mut self) {
        crate::harness::within("the bad peers to end", async { while self.0.join_next().await.is_some() {} }).await;
    }
}

/// The program's memory, to be compared later.
fn memory(side: &Sidestream) -> u64 {
    side.memory("VmRSS")
}

fn assert_flat(side: &Sidestream, before: u64) {
    let grown = memory(side).saturating_sub(before);
    assert!(grown < GROWTH, "the memory grew by {grown} KiB");
}

/// Waits for something that a limit of the program ends.
async fn ended<T>(what: &str, task: JoinHandle<T>) -> T {
    crate::harness::within(what, task).await.expect("the bad peer is well")
}
