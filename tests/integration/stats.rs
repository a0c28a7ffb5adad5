//! What the dashboard is told: `/api/stats`, and the same as a stream.

use std::collections::HashSet;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{
    NOTIFICATIONS, NOTIFICATIONS_PATH, PROGRESS, PROGRESS_PATH,
    app::{Answer, App},
    completed, eventually, progress, running,
    sidestream::Sidestream,
    within,
};

fn is_at_most(limit: &Value, expected_max: u64) -> bool {
    limit["max"] == expected_max && limit["now"].as_u64().is_some_and(|now| now <= expected_max)
}

/// An operator who sees only that something was turned away sees it too late.
#[tokio::test]
async fn the_limits_stand_beside_what_is_used_of_them() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app)
        .route(PROGRESS)
        .flag("--max-connections", "50")
        .flag("--max-topics", "7")
        .flag("--poll-concurrency", "3")
        .start()
        .await;
    let quiet = side.stats().await;
    let mut clients = Vec::new();
    for session in ["a", "b"] {
        let mut client = side.sse("/api/progress/v1").cookie(session).open().await;
        client.next_event().await;
        clients.push(client);
    }
    let limits = side.stats().await["limits"].clone();

    assert_eq!(limits["connections"], serde_json::json!({"now": 2, "max": 50}));
    assert_eq!(limits["topics"], serde_json::json!({"now": 2, "max": 7}));
    assert!(is_at_most(&limits["polls"], 3), "{limits}");
    let files = |limits: &Value| limits["open_files"]["now"].as_u64().expect("a number");
    assert!(files(&limits) >= files(&quiet["limits"]) + 2, "each stream is a file: {quiet} {limits}");
    assert!(files(&limits) < limits["open_files"]["max"].as_u64().expect("a number"));
    assert_eq!(quiet["drain"], Value::Null);
    assert_eq!(quiet["recommendations"], serde_json::json!([]));
}

/// Figures of the page and of a graph are the same thing seen twice.
#[tokio::test]
async fn the_latency_is_that_of_the_metrics() {
    let app = App::start();
    let job = app.job("v1");
    job.answers([running(1), running(2), completed()]);
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let before = side.stats().await["upstream"]["latency_seconds"]["poll"].clone();
    side.sse("/api/progress/v1").open().await.rest().await;
    let stats = side.stats().await;
    let samples = side.metrics().await;

    assert_eq!(before, serde_json::json!({"count": 0, "mean": null, "p50": null, "p95": null, "p99": null}));
    let poll = &stats["upstream"]["latency_seconds"]["poll"];
    assert_eq!(poll["count"].as_f64(), Some(samples.get("upstream_request_seconds_count", &[("purpose", "poll")])));
    let [mean, p50, p95, p99] = ["mean", "p50", "p95", "p99"].map(|name| poll[name].as_f64().expect("a number"));
    assert!(mean > 0.0 && p50 > 0.0 && p50 <= p95 && p95 <= p99, "{poll}");
    for purpose in ["subscribe", "authorize", "forward"] {
        assert_eq!(stats["upstream"]["latency_seconds"][purpose]["count"], 0);
    }
}

/// Where nobody listens one is refused in no time: a dead app would be the fastest of all.
#[tokio::test]
async fn who_does_not_answer_takes_no_time_and_who_is_waited_for_does() {
    let app = App::start();
    app.job("v1").answer(Answer::hang());
    app.at("/broken").answer(Answer::reset());
    let side = Sidestream::before(&app).route(PROGRESS).flag("--poll-timeout", "200ms").start().await;
    assert_eq!(side.get("/broken").fetch().await.status(), 502);
    app.stop().await;
    assert_eq!(side.get("/page").fetch().await.status(), 502);
    let client = side.sse("/api/progress/v1").open().await;
    let polls = async |outcome: &str| {
        eventually(outcome, async || {
            let stats = side.stats().await;
            (stats["upstream_requests"]["poll"][outcome] != 0).then_some(stats)
        })
        .await
    };

    let stats = polls("refused").await;
    for outcome in ["broken", "refused"] {
        assert_eq!(stats["upstream_requests"]["forward"][outcome], 1, "{outcome}");
    }
    for purpose in ["poll", "forward"] {
        assert_eq!(stats["upstream"]["latency_seconds"][purpose]["count"], 0, "{purpose}");
    }
    app.resume();
    let latency = polls("timeout").await["upstream"]["latency_seconds"]["poll"].clone();
    assert!(latency["mean"].as_f64().is_some_and(|mean| mean >= 0.2), "{latency}");
    drop(client);
}

/// Two tabs of one user: every poll answers the other one, too.
#[tokio::test]
async fn each_poll_spares_the_app_those_of_all_others_who_watch() {
    let app = App::start();
    let job = app.job("v1");
    job.answer(running(1));
    let side = Sidestream::before(&app).route(&progress("share=public")).start().await;
    let spared = ("upstream_requests_spared_total", [("route", PROGRESS_PATH)]);
    let mut first = side.sse("/api/progress/v1").open().await;
    first.next_event().await;
    job.more_requests(2).await;
    assert_eq!(side.metric(spared.0, &spared.1).await, 0.0, "one for one");

    let mut others = Vec::new();
    for _ in 0..3 {
        let mut client = side.sse("/api/progress/v1").open().await;
        client.next_event().await;
        others.push(client);
    }
    let (polls, before) = (job.count(), side.metric(spared.0, &spared.1).await);
    job.more_requests(4).await;
    drop((first, others));
    side.until_quiet().await;

    // The first and the last of these polls may have been counted for fewer, and one more may have been under way.
    let (polls, after) = ((job.count() - polls) as f64, side.metric(spared.0, &spared.1).await);
    assert!(
        after - before >= 3.0 * 3.0 && after - before <= (polls + 1.0) * 3.0,
        "{polls} polls spared {after} - {before}"
    );
    let stats = side.stats().await;
    assert_eq!(stats["upstream"]["spared_requests"].as_f64(), Some(after));
    assert_eq!(stats["routes"][0]["spared_requests"].as_f64(), Some(after));
}

/// A stream of the app that is open already need not be opened for the next tab, nor for a reload.
#[tokio::test]
async fn each_client_that_finds_its_stream_open_spares_the_app_one() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route("path=/notifications,subscribe,linger=1h").start().await;
    let first = side.sse("/notifications").open().await;
    events.accept().await;
    let second = side.sse("/notifications").open().await;
    drop((first, second));
    side.until_metric("connections_active", &[], 0.0).await;
    let reloaded = side.sse("/notifications").open().await;

    side.until_metric("upstream_requests_spared_total", &[("route", NOTIFICATIONS_PATH)], 2.0).await;
    drop(reloaded);
}

/// A gauge that stands at 0 for a stream of the app would say that what is shown is fresh.
#[tokio::test]
async fn the_age_of_the_data_is_told_of_polled_routes_alone() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let events = app.events(NOTIFICATIONS_PATH);
    let side = Sidestream::before(&app).route(PROGRESS).route(NOTIFICATIONS).start().await;
    let mut polled = side.sse("/api/progress/v1").open().await;
    polled.next_event().await;
    let subscribed = side.sse(NOTIFICATIONS_PATH).open().await;
    events.accept().await;

    let stats = side.stats().await;
    let age = |route: usize| &stats["routes"][route]["data_age_seconds"];
    assert!(age(0).is_number() && age(1).is_null() && age(2).is_null(), "{stats}");
    drop((polled, subscribed));
}

/// What a job went through tells more than where it is; and a list that grows with it would be a leak.
#[tokio::test]
async fn a_topic_shows_the_last_different_values_of_its_status() {
    let app = App::start();
    let job = app.job("v1");
    let at = |status: &str| Answer::json_text(&format!(r#"{{"status":"{status}"}}"#));
    job.answer(at("queued"));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let mut client = side.sse("/api/progress/v1").open().await;
    client.next_event().await;
    let values = async || side.stats().await["topics"]["listed"][0]["values"].clone();
    assert_eq!(values().await, serde_json::json!(["queued"]));

    for status in ["processing", "queued", "processing", "paused"] {
        job.answer(at(status));
        client.next_event().await;
    }
    assert_eq!(values().await, serde_json::json!(["queued", "processing", "paused"]));
    for step in 0..10 {
        job.answer(at(&format!("step {step}")));
        client.next_event().await;
    }
    let last: Vec<_> = (2..10).map(|step| format!("step {step}")).collect();
    assert_eq!(values().await, serde_json::json!(last));
}

/// So long that none of the streams comes to its moment by itself.
#[tokio::test]
async fn the_drain_shows_how_far_it_is() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).flag("--drain", "1000h").start().await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = side.sse("/api/progress/v1").open().await;
        client.next_event().await;
        clients.push(client);
    }
    side.signal(Signal::TERM);
    let begun = eventually("the drain", async || {
        let stats = side.stats().await;
        (stats["state"] == "draining" && !stats["drain"].is_null()).then(|| stats["drain"].clone())
    })
    .await;
    assert_eq!((&begun["streams_at_start"], &begun["streams_left"]), (&3.into(), &3.into()));
    assert!(begun["seconds_left"].as_f64().is_some_and(|left| left > 3_500_000.0 && left <= 3_600_000.0), "{begun}");

    clients.pop();
    let left = eventually("a stream to leave", async || {
        let drain = side.stats().await["drain"].clone();
        (drain["streams_left"] == 2).then_some(drain)
    })
    .await;
    assert_eq!(left["streams_at_start"], 3);
}

/// A wall of screens must not cost more than one.
#[tokio::test]
async fn all_who_watch_are_told_the_same_document() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).route(NOTIFICATIONS).start().await;
    // With a stream there are ages to tell, and no two documents are alike.
    let mut client = side.sse("/api/progress/v1").open().await;
    client.next_event().await;
    let open = async || side.admin("/api/stats/stream").open().await;
    let (mut one, mut other) = (open().await, open().await);
    let (mut told_one, mut told_other) = (HashSet::new(), HashSet::new());
    // One of them may have begun seconds before the other.
    within("a document that is told to both", async {
        while told_one.is_disjoint(&told_other) {
            told_one.insert(one.next_event().await.raw);
            told_other.insert(other.next_event().await.raw);
        }
    })
    .await;
}
