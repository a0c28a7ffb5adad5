//! How often the app is asked: once per job and interval, however many watch; and not at all when nobody does.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{
    PROGRESS, PROGRESS_PATH,
    app::{Answer, App, gaps},
    completed, progress, running, running_text,
    sidestream::Sidestream,
};

/// Gaps may be shorter than the interval by the jitter of 10 % and by what a loaded machine shifts between the two
/// ends of one; half an interval is what no correct program reaches in the mean.
fn assert_not_faster(seen: &[crate::harness::app::Seen], interval: Duration) {
    let gaps = gaps(seen);
    assert!(gaps.len() >= 4, "too few requests to judge: {}", gaps.len());
    let mean = gaps.iter().sum::<Duration>() / u32::try_from(gaps.len()).expect("few gaps");
    assert!(mean >= interval.mul_f64(0.85), "asked every {mean:?} in the mean, the interval is {interval:?}: {gaps:?}");
}

#[tokio::test]
async fn five_hundred_subscribers_of_one_job_cost_one_request_per_interval() {
    let app = App::start();
    let job = app.job("v1");
    job.answer(running(0));
    let route = "path=/api/progress/{id},poll=/api/videos/{id},interval=200ms,max-interval=200ms";
    let side = Sidestream::before(&app).route(route).start().await;

    let mut clients = JoinSet::new();
    for _ in 0..500 {
        let request = side.sse("/api/progress/v1").cookie("session=a");
        clients.spawn(async move {
            let mut client = request.open().await;
            assert_eq!(client.next_event().await.data, Some(running_text(0)));
            let mut last = String::new();
            while last != running_text(5) {
                last = client.next_event().await.data.expect("an event has data");
            }
            client
        });
    }
    side.until_metric("connections_active", &[("route", PROGRESS_PATH)], 500.0).await;
    for progress in 1..=5 {
        job.more_requests(2).await;
        job.answer(running(progress));
    }
    let clients = clients.join_all().await;

    assert_eq!(clients.len(), 500);
    assert_eq!(job.most_in_flight(), 1);
    assert_not_faster(&job.seen(), Duration::from_millis(200));
    assert_eq!(app.seen().len(), job.count(), "nothing but polls went to the app");
    let topics = side.metric("topics", &[("route", PROGRESS_PATH)]).await;
    assert!((topics - 1.0).abs() < 1e-9, "{topics} topics");
}

#[tokio::test]
async fn three_hundred_jobs_are_polled_one_by_one_and_not_in_step() {
    let app = App::start();
    let jobs = app.at("/api/videos/*");
    jobs.answer_with(|_| running(1).after(Duration::from_millis(10)));
    let interval = Duration::from_secs(1);
    let route = "path=/api/progress/{id},poll=/api/videos/{id},interval=1s,max-interval=1s";
    let side = Sidestream::before(&app).route(route).flag("--poll-concurrency", "16").start().await;

    let mut clients = JoinSet::new();
    for n in 0..300 {
        let request = side.sse(&format!("/api/progress/j{n}"));
        clients.spawn(async move {
            let mut client = request.open().await;
            client.next_event().await;
            client
        });
    }
    let _clients = clients.join_all().await;
    let first_round = jobs.count();
    jobs.requests(first_round + 1500).await;

    assert_eq!(jobs.most_in_flight(), 1, "a job was asked twice at once");
    assert!(app.most_in_flight() <= 16, "{} requests at once", app.most_in_flight());
    let seen = jobs.seen();
    for n in 0..300 {
        let path = format!("/api/videos/j{n}");
        let of_job: Vec<_> = seen.iter().filter(|seen| seen.path() == path).cloned().collect();
        assert_not_faster(&of_job, interval);
    }
    // The later rounds: in no twentieth of an interval more than a third of the jobs is asked.
    let times: Vec<_> = seen[first_round + 600..].iter().map(|seen| seen.at).collect();
    let busiest =
        times.iter().map(|start| times.iter().filter(|at| **at >= *start && **at < *start + interval / 20).count());
    let busiest = busiest.max().expect("there were requests");
    assert!(busiest <= 100, "{busiest} of 300 jobs were asked in the same 50 ms");
}

/// Thousand clients of one job in the same moment: single flight, also for the first answer.
#[tokio::test]
async fn subscribers_that_come_before_the_first_answer_share_it() {
    let app = App::start();
    app.job("v1").answer(completed().after(Duration::from_millis(300)));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;

    let mut clients = JoinSet::new();
    for _ in 0..50 {
        let request = side.sse("/api/progress/v1");
        clients.spawn(async move { request.open().await.rest().await });
    }
    for (events, _) in clients.join_all().await {
        assert_eq!(events.len(), 2, "the snapshot and done");
    }

    assert_eq!(app.job("v1").most_in_flight(), 1);
}

#[tokio::test]
async fn the_pace_slows_while_nothing_changes_and_returns_with_a_change() {
    let app = App::start();
    let job = app.job("v1");
    job.answer(running(0));
    let route = "path=/api/progress/{id},poll=/api/videos/{id},interval=100ms,max-interval=600ms";
    let side = Sidestream::before(&app).route(route).start().await;
    let mut client = side.sse("/api/progress/v1").open().await;
    client.next_event().await;

    // A request that is seen late makes the gap behind it shorter and the one before it longer; hence several of them.
    job.requests(9).await;
    let slow = gaps(&job.seen())[6..].iter().max().copied().expect("there were requests");
    let before_change = job.count();
    job.answer(running(1));
    client.next_event().await;
    job.requests(before_change + 5).await;
    let after_change = gaps(&job.seen())[before_change..].iter().min().copied().expect("there were requests");

    // 100 ms × 1.5⁵ is over the cap of 600 ms, less 10 % of jitter.
    assert!(slow >= Duration::from_millis(450), "still {slow:?} after seven answers without a change");
    assert!(after_change < slow / 2, "{after_change:?} after a change, {slow:?} before it");
}

#[tokio::test]
async fn polling_stops_when_the_last_client_left() {
    let app = App::start();
    let (left, watched) = (app.job("left"), app.job("watched"));
    left.answer(running(1));
    watched.answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let mut other = side.sse("/api/progress/watched").open().await;
    other.next_event().await;

    let mut client = side.sse("/api/progress/left").open().await;
    client.next_event().await;
    drop(client);
    side.until_metric("topics", &[], 1.0).await;
    let count = left.count();
    watched.more_requests(10).await;

    assert_eq!(left.count(), count);
    side.until_metric("connections_closed_total", &[("route", PROGRESS_PATH), ("reason", "client")], 1.0).await;
}

/// A reload of the page must not start from nothing.
#[tokio::test]
async fn a_client_that_returns_within_the_linger_finds_the_topic_alive() {
    let app = App::start();
    let job = app.job("v1");
    job.answer(running(1));
    let route = "path=/api/progress/{id},poll=/api/videos/{id},interval=20s,max-interval=20s,linger=1m";
    let side = Sidestream::before(&app).route(route).start().await;
    side.sse("/api/progress/v1").open().await.next_event().await;
    side.until_metric("connections_active", &[], 0.0).await;

    let again = side.sse("/api/progress/v1").open().await.next_event().await;

    assert_eq!(again.data, Some(running_text(1)));
    assert_eq!(job.count(), 1);
}

#[tokio::test]
async fn an_etag_is_sent_back_and_304_means_no_change() {
    let app = App::start();
    let job = app.job("v1");
    job.answer(running(1).etag("\"one\""));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let mut client = side.sse("/api/progress/v1").open().await;
    let first = client.next_event().await;

    job.requests(5).await;
    job.answer(running(2).etag("W/\"two\""));
    let second = client.next_event().await;
    job.more_requests(2).await;

    let seen = job.seen();
    assert_eq!(seen[0].header("if-none-match"), None);
    assert_eq!(seen[1].header("if-none-match"), Some("\"one\""));
    assert_eq!(seen.last().expect("there were requests").header("if-none-match"), Some("W/\"two\""));
    assert_eq!((first.data, second.data), (Some(running_text(1)), Some(running_text(2))));
    let labels = [("purpose", "poll"), ("outcome", "not_modified")];
    assert!(side.metric("upstream_requests_total", &labels).await >= 4.0);
    assert_eq!(side.metric("job_state_violations_total", &[]).await, 0.0);
}

/// `Retry-After` is a floor under the pace, whether it comes with an answer or with a refusal.
#[tokio::test]
async fn retry_after_is_a_floor() {
    let app = App::start();
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    app.job("calm").answer(running(1).header("Retry-After", "1"));
    app.job("busy").answers([running(1), Answer::text(503, "busy").header("Retry-After", "2"), running(2)]);

    let mut calm = side.sse("/api/progress/calm").open().await;
    calm.next_event().await;
    let mut busy = side.sse("/api/progress/busy").open().await;
    busy.next_event().await;
    let recovered = busy.next_event_but(&["upstream-error"]).await;
    app.job("calm").requests(3).await;

    assert_eq!(recovered.data, Some(running_text(2)));
    for gap in gaps(&app.job("calm").seen()) {
        assert!(gap >= Duration::from_millis(950), "{gap:?} after Retry-After: 1");
    }
    let gap = gaps(&app.job("busy").seen())[1];
    assert!(gap >= Duration::from_millis(1950), "{gap:?} after Retry-After: 2");
}

/// A poll topic is state: who reads slowly gets the latest, and costs neither memory nor the others' time.
#[tokio::test]
async fn a_slow_reader_gets_the_latest_and_not_the_backlog() {
    const CHANGES: usize = 60;
    let app = App::start();
    let job = app.job("v1");
    // Large snapshots, so that the kernel's buffers can't hold the backlog either.
    let answer = |n: usize| Answer::json(&json!({"status": "processing", "n": n, "pad": "x".repeat(500_000)}));
    job.answer(answer(0));
    let side = Sidestream::before(&app).route(&progress("max-age=0")).start().await;
    let mut slow = side.sse("/api/progress/v1").receive_buffer(4096).open().await;
    let mut quick = side.sse("/api/progress/v1").open().await;
    quick.next_event().await;

    for n in 1..=CHANGES {
        job.answer(answer(n));
        while quick.next_event().await.json()["n"] != n {}
    }
    let peak = side.memory("VmHWM");
    let mut numbers = Vec::new();
    while numbers.last() != Some(&(CHANGES as u64)) {
        numbers.push(slow.next_event().await.json()["n"].as_u64().expect("a number"));
    }

    assert!(numbers.is_sorted(), "{numbers:?}");
    assert!(numbers.len() < CHANGES / 2, "the slow reader got {} of {CHANGES} states", numbers.len());
    assert!(peak < 150 * 1024, "{peak} KiB for one slow reader");
}

/// The first requests of many topics share a bound, and no topic starves behind it.
#[tokio::test]
async fn one_hanging_job_does_not_hold_up_another() {
    let app = App::start();
    app.job("stuck").answer(Answer::hang());
    app.job("fine").answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).flag("--poll-concurrency", "2").start().await;
    let stuck = side.sse("/api/progress/stuck").send().await;
    app.job("stuck").requests(1).await;

    let mut fine = side.sse("/api/progress/fine").open().await;
    fine.next_event().await;
    app.job("fine").answer(running(2));
    let next = fine.next_event().await;

    assert_eq!(next.data, Some(running_text(2)));
    drop(stuck);
}
