//! By how much the others are delayed: `tests/bad-peers`.

use std::time::Duration;

use super::{
    Bad, Others,
    clients::{sip, stream, talk},
    upstreams::{pump, read_on},
};
use crate::harness::app::{Answer, App};

/// Times that a delivery may take longer beside a bad peer, as a median of all.
const RATIO: f64 = 2.0;

/// Deliveries of one measurement, each to every one of the others, and the time between two.
const EVENTS: u32 = 300;
const PAUSE: Duration = Duration::from_millis(3);

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// One kind of bad peer, started between two measurements.
async fn ratio(name: &str) -> f64 {
    let app = App::start();
    app.at("/job").answer(Answer::filler(1 << 40).header("Content-Type", "application/json"));
    app.at("/large").answer(Answer::filler(1 << 40));
    let events = app.events("/bad");
    let (side, mut others) = Others::start(&app, |flags| {
        flags
            .route("path=/bad,subscribe,linger=200ms")
            .route("path=/live,poll=/job,interval=50ms,max-interval=50ms,linger=200ms")
    })
    .await;
    let before = median(others.deliver(EVENTS, "some data", Some(PAUSE)).await);

    let mut bad = Bad::default();
    let mut held = Vec::new();
    match name {
        "clients that never read" => {
            for _ in 0..20 {
                held.push(stream(&side).send().await);
            }
        }
        "clients that read a byte a second" => {
            for _ in 0..20 {
                bad.spawn(sip(stream(&side)));
            }
        }
        "clients that talk on their stream" => bad.spawn(talk(stream(&side))),
        "clients that read no download" => {
            for _ in 0..20 {
                held.push(side.get("/large").receive_buffer(4096).send().await);
            }
        }
        "clients that say nothing" => {
            for _ in 0..300 {
                held.push(side.get("/").connect().await);
            }
        }
        "clients that reset at once" => {
            let request = stream(&side);
            bad.spawn(async move {
                for _ in 0..100_000 {
                    request.connect().await.reset();
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
        }
        "an app that trickles" | "an app that sends an endless event" => {
            bad.spawn(read_on(side.sse("/bad")));
            let is_drip = name == "an app that trickles";
            bad.spawn(async move {
                loop {
                    let stream = events.accept().await;
                    match is_drip {
                        true => {
                            while stream.try_send(":").await {
                                tokio::time::sleep(Duration::from_millis(1)).await;
                            }
                        }
                        false => {
                            pump(stream, "data: ", "x".repeat(64 * 1024)).await;
                        }
                    }
                }
            });
        }
        "an app that answers endless JSON" => bad.spawn(read_on(side.sse("/live"))),
        _ => panic!("nobody knows {name}"),
    }
    let with = median(others.deliver(EVENTS, "some data", Some(PAUSE)).await);
    let ratio = with.as_secs_f64() / before.as_secs_f64();
    println!("{name:<40} {:>8.0} us {:>8.0} us {ratio:>6.2}", before.as_secs_f64() * 1e6, with.as_secs_f64() * 1e6);
    ratio
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, and wants the machine for itself; tests/bad-peers runs it"]
async fn nobody_waits_twice_as_long_because_of_a_bad_peer() {
    println!("{:<40} {:>11} {:>11} {:>6}", "beside", "without", "with", "ratio");
    let mut worst = Vec::new();
    for name in [
        "clients that never read",
        "clients that read a byte a second",
        "clients that talk on their stream",
        "clients that read no download",
        "clients that say nothing",
        "clients that reset at once",
        "an app that trickles",
        "an app that sends an endless event",
        "an app that answers endless JSON",
    ] {
        let ratio = ratio(name).await;
        if ratio > RATIO {
            worst.push((name, ratio));
        }
    }
    assert!(worst.is_empty(), "over {RATIO}: {worst:?}");
}
