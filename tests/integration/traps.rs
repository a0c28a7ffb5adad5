//! The traps of DESIGN 10 that no other module has a test of its own for, under the name they are known by.

use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{
    PROGRESS, PROGRESS_PATH,
    app::{Answer, App},
    eventually, fill, progress, running, running_text,
    sidestream::Sidestream,
    within,
};

/// *Dead peers counted as active.* A peer that takes nothing any more is stale after a while, and then its stream ends;
/// the others notice nothing. Two threads, since the seconds in which it is stale must not go by while the reader that lives
/// reads what is large.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_takes_nothing_is_counted_as_stale_and_then_closed() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app)
        .route(&progress("heartbeat=100ms"))
        .flag("--stale-after", "500ms")
        .flag("--reap-after", "6s")
        .start()
        .await;
    let mut alive = side.sse("/api/progress/v1").open().await;
    alive.next_event().await;
    let mut dead = side.sse("/api/progress/v1").receive_buffer(4096).open().await;
    dead.next_event().await;

    let reading = tokio::spawn(async move {
        while alive.next_event().await.data.as_deref() != Some(running_text(2).as_str()) {}
        alive
    });
    let stale = [("route", PROGRESS_PATH)];
    fill(&app.job("v1"), async || side.metric("connections_stale", &stale).await == 1.0).await;
    let labels = [("route", PROGRESS_PATH), ("reason", "stale")];
    side.until_metric("connections_closed_total", &labels, 1.0).await;
    side.until_metric("connections_stale", &stale, 0.0).await;
    app.job("v1").answer(running(2));

    let _alive = within("the reader's last event", reading).await.expect("the reader is well");
    assert_eq!(side.metric("connections_active", &stale).await, 1.0);
}

/// The same for a stream that is only passed through: its upstream is let go.
#[tokio::test]
async fn a_reader_of_a_pass_through_stream_that_takes_nothing_is_closed_and_its_upstream_too() {
    let app = App::start();
    let events = app.events("/chat");
    let side = Sidestream::before(&app)
        .flag("--heartbeat-interval", "100ms")
        .flag("--stale-after", "500ms")
        .flag("--reap-after", "1s")
        .start()
        .await;
    let mut dead = side.sse("/chat").open().await;
    let stream = events.accept().await;
    stream.send("data: a\n\n").await;
    dead.next_event().await;

    // More than all buffers on the way hold; sending waits for whoever takes it, until the stream is closed.
    let line = format!("data: {}\n\n", "x".repeat(64 * 1024));
    while stream.try_send(&line).await {}

    side.until_quiet().await;
    side.until_metric("connections_closed_total", &[("reason", "stale")], 1.0).await;
}

/// A connection that is quiet but acknowledges is healthy, however long it is quiet.
#[tokio::test]
async fn a_quiet_peer_that_acknowledges_is_not_stale() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app)
        .route(&progress("heartbeat=5s"))
        .flag("--stale-after", "200ms")
        .flag("--reap-after", "400ms")
        .start()
        .await;
    let mut client = side.sse("/api/progress/v1").open().await;
    client.next_event().await;

    // Many intervals of the sweep pass while nothing at all is sent.
    app.job("v1").more_requests(20).await;
    app.job("v1").answer(running(2));

    assert_eq!(client.next_event().await.data, Some(running_text(2)));
    assert_eq!(side.metric("connections_closed_total", &[("reason", "stale")]).await, 0.0);
}

/// *One slow client blocks the others*, and: writes that stay blocked are stale, though the peer's kernel answers.
#[tokio::test]
async fn a_reader_that_takes_nothing_blocks_nobody_and_is_closed() {
    let app = App::start();
    let job = app.job("v1");
    let answer = |n: u32| Answer::json(&json!({"status": "processing", "n": n, "pad": "x".repeat(900_000)}));
    job.answer(answer(0));
    let side =
        Sidestream::before(&app).route(PROGRESS).flag("--stale-after", "2s").flag("--reap-after", "6s").start().await;
    let _stuck = side.sse("/api/progress/v1").receive_buffer(4096).open().await;
    let mut quick = side.sse("/api/progress/v1").open().await;
    quick.next_event().await;

    let labels = [("route", PROGRESS_PATH), ("reason", "stale")];
    let mut n = 0;
    within("the stuck reader to be closed", async {
        while side.metric("connections_closed_total", &labels).await == 0.0 {
            n += 1;
            job.answer(answer(n));
            while quick.next_event().await.json()["n"] != n {}
        }
    })
    .await;

    assert_eq!(side.metric("connections_active", &[("route", PROGRESS_PATH)]).await, 1.0);
}

/// *Unchanged result skips the sleep: hot loop.* Counted against the clock of another job.
#[tokio::test]
async fn an_unchanged_answer_makes_no_hot_loop() {
    let app = App::start();
    app.job("same").answer(running(1));
    app.job("etag").answer(running(1).etag("\"x\""));
    app.job("zero").answer(running(1).header("Retry-After", "0"));
    app.at("/api/videos/clock")
        .answer_with(|seen| Answer::json(&json!({"status": "processing", "at": format!("{:?}", seen.at)})));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let mut clients = Vec::new();
    for id in ["same", "etag", "zero", "clock"] {
        let mut client = side.sse(&format!("/api/progress/{id}")).open().await;
        client.next_event().await;
        clients.push(client);
    }

    app.job("clock").more_requests(20).await;

    let clock = app.job("clock").count();
    for id in ["same", "etag", "zero"] {
        let count = app.job(id).count();
        // The clock changes with each answer and so keeps the first pace; the others may only be slower.
        assert!(count <= clock + clock / 2 + 3, "{id} was asked {count} times, the changing job {clock} times");
    }
}

/// *An upstream error ends everybody's stream*, also the streams of jobs that are well.
#[tokio::test]
async fn the_trouble_of_one_job_is_its_own() {
    let app = App::start();
    app.job("bad").answer(Answer::text(500, "oops"));
    app.job("good").answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let bad = side.sse("/api/progress/bad").open().await;
    let mut good = side.sse("/api/progress/good").open().await;
    good.next_event().await;

    app.job("bad").requests(2).await;
    app.job("good").answer(running(2));

    assert_eq!(good.next_event().await.data, Some(running_text(2)));
    assert!(!good.text().contains("upstream-error"));
    assert_eq!(bad.status(), 200);
    assert_eq!(side.metric("connections_active", &[("route", PROGRESS_PATH)]).await, 2.0);
}

/// *File descriptors run out: accept must back off, not spin*, and serve again when there are some.
#[tokio::test]
async fn without_file_descriptors_it_waits_without_spinning_and_recovers() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let mut before = side.sse("/api/progress/v1").open().await;
    before.next_event().await;
    let pid = Pid::from_raw(i32::try_from(side.id()).expect("a pid fits")).expect("a pid is not 0");
    // Room for a few files more than are open now; the limit is on the highest number.
    let limit = side.open_files() as u64 + 8;
    let old = prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(limit), ..getrlimit(Resource::Nofile) });
    let old = old.expect("the child is ours");

    let mut crowd = Vec::new();
    for _ in 0..64 {
        crowd.push(tokio::net::TcpStream::connect(side.addr()).await.expect("the kernel's queue takes it"));
    }
    let ticks = side.cpu_ticks();
    // A busy loop would burn a second of CPU in a second; the polls of one job take next to none of it.
    app.job("v1").more_requests(10).await;
    let burnt = side.cpu_ticks() - ticks;
    app.job("v1").answer(running(2));
    let still_served = before.next_event().await;
    prlimit(Some(pid), Resource::Nofile, old).expect("the child is ours");
    drop(crowd);
    let mut after = side.sse("/api/progress/v1").open().await;

    assert!(burnt < 60, "{burnt} ticks of 10 ms in ten polls");
    assert_eq!(still_served.data, Some(running_text(2)));
    assert_eq!(after.next_event().await.data, Some(running_text(2)));
    let log = side.log_text();
    assert!(log.lines().filter(|line| line.contains("accept")).count() < 200, "the log is flooded");
}

/// *Counters drift after chaos.* Everything at once, and then every gauge at zero.
#[tokio::test]
async fn after_chaos_every_gauge_is_zero() {
    let app = App::start();
    app.at("/api/videos/*").answer_with(|seen| match seen.at.elapsed().subsec_nanos() % 7 {
        0 => Answer::text(500, "oops"),
        1 => Answer::reset(),
        2 => Answer::html("<html>"),
        3 => Answer::json(&json!({"status": "completed"})),
        4 => running(1).after(Duration::from_millis(20)),
        5 => Answer::text(404, "gone"),
        _ => running(2),
    });
    let side = Sidestream::before(&app)
        .route(&progress("heartbeat=30ms,max-age=400ms"))
        .flag("--not-found-grace", "50ms")
        .start()
        .await;

    let mut tasks = JoinSet::new();
    for n in 0..60_u64 {
        let request = side.sse(&format!("/api/progress/v{}", n % 9)).cookie(&format!("s={}", n % 4));
        tasks.spawn(async move {
            for round in 0..8 {
                match (n + round) % 4 {
                    0 => request.send().await.reset(),
                    1 => drop(request.open().await),
                    2 => {
                        let mut client = request.open().await;
                        client.half_close().await;
                        client.reset();
                    }
                    _ => {
                        request.open().await.read_to_end().await;
                    }
                }
            }
        });
    }
    tasks.spawn({
        let app = app.clone();
        async move {
            for _ in 0..3 {
                app.at("/api/videos/*").more_requests(30).await;
                app.stop().await;
                app.resume();
            }
        }
    });
    tasks.join_all().await;

    side.until_quiet().await;
    eventually("opened and closed to agree", async || {
        let samples = side.metrics().await;
        (samples.get("connections_opened_total", &[]) == samples.get("connections_closed_total", &[])).then_some(())
    })
    .await;
}

/// *503 kills EventSource for good.* Whatever the app does, a stream request of a route gets none.
#[tokio::test]
async fn an_event_source_never_gets_a_5xx() {
    let app = App::start();
    let side = Sidestream::before(&app).route(&progress("timeout=200ms")).start().await;
    let faults = [
        Answer::text(500, "oops"),
        Answer::text(503, "busy").header("Retry-After", "1"),
        Answer::reset(),
        Answer::hang(),
        Answer::html("<html>"),
        Answer::json_text("{"),
        Answer::text(418, "tea"),
        Answer::text(429, "slow down"),
    ];

    for (n, fault) in faults.into_iter().enumerate() {
        app.job(&format!("v{n}")).answer(fault);
        let client = side.sse(&format!("/api/progress/v{n}")).open().await;
        assert!(client.status() < 500, "fault {n} became a {}", client.status());
    }
}

/// *Upstream not cancelled when the client leaves*, for an ordinary answer in its middle.
#[tokio::test]
async fn an_aborted_download_is_aborted_at_the_app() {
    let app = App::start();
    app.at("/large").answer(Answer::filler(1 << 40));
    let side = Sidestream::before(&app).start().await;
    let mut client = side.get("/large").open().await;
    within("the first bytes", client.wire().some(1)).await.expect("the download runs");

    client.reset();

    let large = app.at("/large");
    large.until("the download to be cancelled", |seen| seen[0].fate == crate::harness::app::Fate::Cancelled).await;
}
