//! Tables.
use crate::{Fault, args::Options, book::Book, part::streams};

pub(crate) fn print(options: &Options, book: &Book) -> Result<(), Fault> {
    for peer in streams::peers(options) {
        println!("{}", peer.title());
        for metric in [
            streams::CONNECTS,
            streams::FIRST_P99,
            streams::IDLE,
            streams::IDLE_PSS,
            streams::AFTER,
            streams::AFTER_PSS,
            streams::SLAB,
            streams::BUFFERS,
            streams::BEATS_CPU,
            streams::CPU,
            streams::P50,
            streams::P99,
            streams::P999,
            streams::MAX,
            streams::FROM_FIRST_P50,
            streams::FROM_FIRST_P99,
        ] {
            if let Some(samples) = book.samples(streams::TABLE, peer.title(), metric) {
                println!("  {metric}: {:.2} {:?}", samples.median().unwrap_or(0.0), samples.range());
            }
        }
    }
    Ok(())
}
