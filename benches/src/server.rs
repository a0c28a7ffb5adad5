//! Servers that are measured and written here: the bare write loop, and a streaming body per client on hyper.
//!
//! Both take `GET` as a stream and `POST` as an event to publish, print the address they listen on, and end with stdin.

use std::{io::Read, net::SocketAddr, time::Duration};

use crate::payload;

pub(crate) mod floor;
pub(crate) mod hyper;

/// The line by which a server says where it listens.
pub(crate) const LISTENING: &str = "listening on ";

/// How one of these servers runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerArgs {
    /// Silence after which a heartbeat is sent.
    pub(crate) heartbeat: Duration,
    pub(crate) threads: usize,
}

/// A comment, as short as sidestream's.
const HEARTBEAT: &[u8] = b":\n";

fn say_where(addr: SocketAddr) {
    println!("{LISTENING}{addr}");
}

/// The event that a published JSON becomes, if it has a stamp.
fn event(json: &[u8]) -> Option<Vec<u8>> {
    payload::stamp(json).map(|stamp| payload::event(stamp, json))
}

/// Returns when stdin ends: the conductor is gone, or has no more use for this server.
fn wait_for_stdin() {
    let mut ignored = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut ignored);
}
