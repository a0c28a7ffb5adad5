//! How the costs of a stream and of a delivery grow with the number of streams.

use super::streams::{Plan, measure};
use crate::{Fault, args::Options, book::Book, peer::Peer};

/// The table of this part.
pub(crate) const TABLE: &str = "curves";

/// Who takes part.
pub(crate) const PEERS: [Peer; 3] = [Peer::Sidestream, Peer::Nchan, Peer::Floor];

/// Numbers of streams, ascending.
pub(crate) fn sizes(options: &Options) -> Vec<usize> {
    let sizes = options.pick(vec![100, 500], vec![500, 2_000], vec![1_000, 5_000, 10_000, 15_000]);
    sizes.into_iter().filter(|size| *size <= options.streams).collect()
}

/// The column of a server with so many streams.
pub(crate) fn column(peer: Peer, streams: usize) -> String {
    format!("{} {streams}", peer.title())
}

/// One run of this part.
pub(crate) fn run(options: &Options, book: &mut Book) -> Result<(), Fault> {
    for peer in PEERS {
        for streams in sizes(options) {
            let plan = Plan { streams, rounds: options.pick(2, 2, 8), idle: 0.0 };
            measure(options, peer, plan, TABLE, &column(peer, streams), book)?;
        }
    }
    Ok(())
}
