//! What the app is asked for depends on topics and pace, not on who watches.

use super::{Stage, say, setup, sleep};
use crate::{Fault, app::App, args::Options, book::Book, peer::Peer};

/// The table of this part.
pub(crate) const TABLE: &str = "requests";

pub(crate) const QUIET: &str = "answers that stay the same";
pub(crate) const RESTLESS: &str = "a new answer each time";
pub(crate) const SECONDS: &str = "seconds";

/// Subscribers of the two columns.
pub(crate) fn subscribers(options: &Options) -> [usize; 2] {
    [1, options.streams.min(10_000)]
}

/// One run of this part.
pub(crate) fn run(options: &Options, book: &mut Book) -> Result<(), Fault> {
    let seconds = options.pick(3.0, 6.0, 30.0);
    for subscribers in subscribers(options) {
        let app = App::start(options.payload)?;
        let mut stage = Stage::start(Peer::Sidestream, setup(options, &app), options.workers)?;
        stage.clients.open(&stage.streams(subscribers))?;
        for (metric, is_restless) in [(RESTLESS, true), (QUIET, false)] {
            app.set_restless(is_restless);
            // The pace takes four polls to find its place again.
            sleep(options.pick(1.0, 2.0, 12.0));
            let before = app.requests();
            sleep(seconds);
            let requests = (app.requests() - before) as f64;
            say(&format!("{subscribers} subscribers, {metric}: {requests} requests in {seconds} s"));
            book.add(TABLE, subscribers.to_string(), metric, &[requests]);
        }
        book.add(TABLE, subscribers.to_string(), SECONDS, &[seconds]);
        stage.finish()?;
    }
    Ok(())
}
