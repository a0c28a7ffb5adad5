//! Isolation under attack, in memory and on a clock that only moves when everybody waits: users who come and go with
//! credentials that expire, an app that restarts, refuses, hangs and breaks off, and every byte checked for whose it is.
//!
//! One history is some dozens of steps drawn from a seed. `SIDESTREAM_INTERLEAVINGS` says how many histories are tried
//! (`tests/isolation` tries them for minutes), `SIDESTREAM_SEED` where their seeds begin. A failure names its seed, and
//! the history comes back with it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tokio::time::sleep;

use super::*;
use crate::backoff;

mod app;
mod asked;
mod patience;
mod user;
mod world;

use self::{user::Who, world::World};

/// Histories in the short form.
const HISTORIES: u64 = 100;

/// What all histories together have seen: a test that sees nothing proves nothing.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) streams: u64,
    pub(super) events: u64,
    pub(super) refusals: u64,
    pub(super) denied_in_the_middle: u64,
    pub(super) finished: u64,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// One history, and what is left of it at its end.
fn history(seed: u64, tally: &Arc<Mutex<Tally>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        // The program's own jitter comes out of the seed, too.
        backoff::seeded::start(seed);
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = World::new(&mut rng, tally);
        for _ in 0..rng.random_range(20..60) {
            step(&mut world, &mut rng).await;
            match rng.random_range(0..4) {
                0 => {}
                1 => sleep(Duration::from_millis(rng.random_range(0..30))).await,
                _ => {
                    for _ in 0..rng.random_range(1..6) {
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
        world.finish().await;
    });
}

async fn step(world: &mut World, rng: &mut StdRng) {
    match rng.random_range(0..100) {
        0..45 => world.connect(rng),
        45..62 => world.leave(rng),
        62..74 => world.app.change_mind(Who::any(rng)),
        74..78 => world.app.stop(),
        78..84 => world.app.resume(),
        84..87 => world.app.set_trouble(rng.random()),
        87..97 => sleep(Duration::from_millis(rng.random_range(0..2000))).await,
        _ => sleep(Duration::from_secs(rng.random_range(2..20))).await,
    }
}

#[test]
fn no_byte_of_one_user_reaches_another_in_any_history() {
    let (first, count) = (number("SIDESTREAM_SEED", rand::random()), number("SIDESTREAM_INTERLEAVINGS", HISTORIES));
    let tally = Arc::new(Mutex::new(Tally::default()));
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let tally = Arc::clone(&tally);
            scope.spawn(move || {
                for seed in (thread..count).step_by(threads as usize).map(|index| first.wrapping_add(index)) {
                    let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| history(seed, &tally)));
                    if tried.is_err() {
                        panic!("this history failed: SIDESTREAM_SEED={seed} SIDESTREAM_INTERLEAVINGS=1");
                    }
                }
            });
        }
    });
    let tally = tally.lock().unwrap();
    println!("{count} histories from seed {first}: {tally:?}");
    if count >= HISTORIES {
        let Tally { streams, events, refusals, denied_in_the_middle, finished: _ } = &*tally;
        for (what, seen) in [
            ("streams", streams),
            ("events", events),
            ("refusals", refusals),
            ("denials in the middle", denied_in_the_middle),
        ] {
            assert!(*seen > 0, "a test that saw no {what} proves nothing");
        }
    }
}
