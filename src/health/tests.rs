//! Who is called stuck, and who is not. The shards are real threads; one is really held.

use super::*;
use crate::{
    connections::{Connections, Limits},
    files::Plan,
    hub::tests::Bench,
};

fn health(files: u64) -> Arc<Health> {
    let bench = Bench::new(1);
    let hour = Duration::from_secs(3600);
    let limits = Limits { connections: 1, per_ip: 0, stale_after: hour, reap_after: hour };
    let metrics = &bench.metrics;
    let shards = Shards::start(2, limits, metrics).unwrap();
    let canary = Canary::new(&Connections::new(limits, Arc::clone(metrics)), metrics);
    let files = Files::new(Plan::new(Some(files), 1, 1, 2));
    Health::new(shards, Schedule::new(1, Arc::clone(metrics)), canary, files)
}

/// Beats often enough to call anybody stuck who does not turn meanwhile; the shards from `first` on and the schedule do.
async fn beat(health: &Health, first: usize) {
    let schedule = Arc::clone(&health.schedule);
    let running = tokio::spawn(async move { schedule.run().await });
    // Who is held may have been on its way through a turn.
    for _ in 0..SILENCE_MAX + 2 {
        let (shards, polls): (Vec<_>, _) = (health.shards.turns().skip(first).collect(), health.schedule.turns());
        health.beat();
        while health.schedule.turns() == polls
            || health.shards.turns().skip(first).zip(&shards).any(|(now, before)| now == *before)
        {
            tokio::task::yield_now().await;
        }
    }
    running.abort();
}

// A thread that waits for a lock for ever is what a stuck one looks like from outside.
#[tokio::test]
async fn a_shard_that_is_held_is_stuck_and_its_neighbour_is_not() {
    let health = health(1000);
    health.vitals().is_caged = true;
    let held = health.shards.hold(0);
    beat(&health, 1).await;
    assert_eq!(health.live(), Err(Sick::Shard(0)));
    assert_eq!(health.ready(), Err(Sick::Shard(0)));

    drop(held);
    beat(&health, 0).await;
    assert_eq!((health.live(), health.ready()), (Ok(()), Ok(())));
    health.shards.stop();
}

#[tokio::test]
async fn a_schedule_that_does_not_run_is_stuck_unless_it_waits_for_permits() {
    let health = health(1000);
    health.vitals().is_caged = true;
    let silent = async || {
        for _ in 0..SILENCE_MAX + 2 {
            let turns: Vec<_> = health.shards.turns().collect();
            health.beat();
            while health.shards.turns().zip(&turns).any(|(now, before)| now == *before) {
                tokio::task::yield_now().await;
            }
        }
        health.live()
    };
    let full = health.schedule.admission().await;
    assert_eq!(silent().await, Ok(()));
    drop(full);
    assert_eq!(silent().await, Err(Sick::Schedule));
    health.shards.stop();
}

#[tokio::test]
async fn a_canary_that_does_not_come_back_is_told_with_its_reason() {
    let health = health(1000);
    beat(&health, 0).await;
    let silent = Sick::Canary("a stream of its own got nothing".into());
    assert_eq!((health.live(), health.ready()), (Err(silent.clone()), Err(silent)));

    health.note(Err(Fault::Failed(std::io::ErrorKind::ConnectionRefused.into())));
    assert_eq!(health.live(), Err(Sick::Canary("a stream of its own failed (connection refused)".into())));

    // The network's fault, and no sign of ours.
    health.note(Err(Fault::Unreachable(std::io::ErrorKind::NetworkUnreachable.into())));
    assert_eq!((health.live(), health.ready()), (Ok(()), Ok(())));
    health.shards.stop();
}

// Ending the program would end the streams of those who have their files.
#[tokio::test]
async fn without_files_it_lives_and_is_not_ready() {
    let health = health(8);
    beat(&health, 0).await;
    health.files.accepted(true);
    health.note(Err(Fault::Silent));
    let no_file = Err(Sick::Canary("no file is left for a new connection".into()));
    assert_eq!((health.live(), health.ready()), (Ok(()), no_file));

    health.files.accepted(false);
    health.note(Err(Fault::Silent));
    assert!(health.live().is_err());
    let _sockets: Vec<_> = (0..8).map(|_| health.files.opened()).collect();
    assert_eq!(health.live(), Ok(()));
    assert!(health.ready().is_err());
    health.shards.stop();
}

// By the clock, everything was silent for a minute when a machine wakes up, and all at once.
#[tokio::test(start_paused = true)]
async fn only_a_watch_that_does_not_beat_at_all_is_judged_by_the_clock() {
    let health = health(1000);
    tokio::time::advance(BEATEN_WITHIN).await;
    assert_eq!(health.live(), Ok(()));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(health.live(), Err(Sick::Watch));
    health.shards.stop();
}
