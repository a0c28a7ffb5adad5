//! Isolation under attack, over real sockets: users who look alike, proxies that put different users on one connection,
//! requests pipelined behind streams, ids of others, an app that changes its mind and restarts. Whatever the app makes is
//! marked with whose it is, and a mark in the wrong hands is a failure.
//!
//! The same with the program's parts in memory, in thousands of histories, is in `src/stream/tests.rs`. Both read
//! `SIDESTREAM_INTERLEAVINGS` and `SIDESTREAM_SEED`; `tests/isolation` tries them for minutes.

use std::{sync::Arc, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::task::JoinSet;

use crate::harness::{app::App, sidestream::Sidestream};

mod attack;
mod marks;
mod moods;

use self::{
    attack::Attack,
    marks::{ALL, EVE},
    moods::Moods,
};

/// Connections in the short form.
const CONNECTIONS: u64 = 400;
/// Connections at once.
const AT_ONCE: u64 = 12;

/// Both kinds of source in the three modes of sharing; the app knows the mode by the path.
const ROUTES: &[&str] = &[
    "path=/own/{id},poll=/own/jobs/{id},interval=20ms,max-interval=50ms",
    "path=/members/{id},poll=/members/jobs/{id},share=authorized,interval=20ms,max-interval=50ms",
    "path=/public/{id},poll=/public/jobs/{id},share=public,interval=20ms,max-interval=50ms",
    "path=/own/live/events,subscribe",
    "path=/members/live/events,subscribe,share=authorized,greeting=1",
    "path=/public/live/events,subscribe,share=public",
];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_of_one_user_reaches_another_whatever_connections_carry() {
    let (first, count) = (number("SIDESTREAM_SEED", rand::random()), number("SIDESTREAM_INTERLEAVINGS", CONNECTIONS));
    eprintln!("SIDESTREAM_SEED={first} SIDESTREAM_INTERLEAVINGS={count}");
    let app = App::start();
    let moods = Moods::new(&app, first);
    let mut side = Sidestream::before(&app);
    for route in ROUTES {
        side = side.route(&format!("{route},linger=300ms,timeout=2s"));
    }
    let side = Arc::new(side.start().await);

    let mut workers = JoinSet::new();
    for worker in 0..AT_ONCE {
        let attack = Attack::new(Arc::clone(&side), moods.clone());
        workers.spawn(async move {
            for seed in (worker..count).step_by(AT_ONCE as usize).map(|index| first.wrapping_add(index)) {
                attack.connection(&mut StdRng::seed_from_u64(seed)).await;
            }
        });
    }
    let mut rng = StdRng::seed_from_u64(first);
    while let Err(_elapsed) = tokio::time::timeout(Duration::from_millis(40), workers.join_next()).await {
        match rng.random_range(0..30) {
            0 => {
                app.stop().await;
                tokio::time::sleep(Duration::from_millis(rng.random_range(0..200))).await;
                app.resume();
            }
            _ => moods.change(&ALL[rng.random_range(0..ALL.len())]),
        }
    }
    workers.join_all().await;

    assert_eq!(moods.violations(), Vec::<String>::new(), "SIDESTREAM_SEED={first}");
    let tally = moods.tally();
    eprintln!("{count} connections from seed {first}: {tally:?}");
    if count >= CONNECTIONS {
        assert!(tally.iter().all(|(_, seen)| *seen > 0), "a test that saw none of a kind proves nothing: {tally:?}");
    }
    assert!(moods.refused_for_ever(&EVE), "nobody was tried who may never see a thing");
    side.until_quiet().await;
}
