//! Who counts as dead: peers that acknowledge nothing, told from those that are quiet or slow. The program reads it from
//! the kernel, so the peers here are silent in the kernel, too.

use socket2::{SockFilter, SockRef};

use crate::harness::{client::Client, sidestream::Sidestream};

mod half_open;
mod namespace;
mod slow;

/// Streams that were closed as stale.
async fn reaped(side: &Sidestream) -> f64 {
    side.metric("connections_closed_total", &[("reason", "stale")]).await
}

/// One number of every listed stream; `None` where it has none.
async fn listed(side: &Sidestream, field: &str) -> Vec<Option<f64>> {
    let stats = side.stats().await;
    let streams = stats["streams"]["listed"].as_array().expect("streams are listed");
    streams.iter().map(|stream| stream[field].as_f64()).collect()
}

/// From now on the peer is gone without a word: its socket drops every packet, so not even the kernel acknowledges.
pub(crate) fn go_dark(client: &mut Client) {
    // One instruction of classic BPF: return 0, that is, keep no byte of any packet.
    let drop_all = SockFilter::new(0x06, 0, 0, 0);
    SockRef::from(&client.wire().socket).attach_filter(&[drop_all]).expect("a socket takes a filter");
}

/// The peer is there again.
fn come_back(client: &mut Client) {
    SockRef::from(&client.wire().socket).detach_filter().expect("it has a filter");
}
