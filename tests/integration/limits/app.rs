//! What the app is asked for at once, and how much of its answer is taken.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::harness::{
    NOTIFICATIONS, NOTIFICATIONS_PATH, PROGRESS,
    app::{App, Endpoint},
    client::{Client, Request},
    progress, running, running_text,
    sidestream::Sidestream,
};

const CROWD: usize = 24;

/// Opens all these streams and waits for one event on each.
async fn open_all(requests: impl IntoIterator<Item = Request>) -> Vec<Client> {
    let mut clients = JoinSet::new();
    for request in requests {
        clients.spawn(async move {
            let mut client = request.open().await;
            client.next_event().await;
            client
        });
    }
    clients.join_all().await
}

fn slow(jobs: &Endpoint) {
    jobs.answer_with(|_| running(1).after(Duration::from_millis(20)));
}

async fn waits(side: &Sidestream, purpose: &str) -> f64 {
    side.metric("upstream_waits_total", &[("purpose", purpose)]).await
}

/// Who is due while all permits are out waits for its turn; nobody is left out.
#[tokio::test]
async fn polls_beyond_the_concurrency_wait_and_are_counted() {
    let app = App::start();
    slow(&app.at("/api/videos/*"));
    let side = Sidestream::before(&app).route(PROGRESS).flag("--poll-concurrency", "3").start().await;

    let _clients = open_all((0..CROWD).map(|n| side.sse(&format!("/api/progress/v{n}")))).await;

    assert!(app.most_in_flight() <= 3, "{} requests at once", app.most_in_flight());
    assert!(waits(&side, "poll").await > 0.0);
    assert_eq!(waits(&side, "authorize").await, 0.0);
}

/// A crowd at the door must not keep those inside from their news: admissions never take more than half of the permits,
/// so while they all hang, the polls go on.
#[tokio::test]
async fn admissions_beyond_their_half_wait_and_the_polls_go_on() {
    let app = App::start();
    let is_admission = |seen: &crate::harness::app::Seen| seen.header("cookie") != Some("user=inside");
    app.job("v1").answer_with(
        move |seen| {
            if is_admission(seen) { crate::harness::app::Answer::hang() } else { running(1) }
        },
    );
    let side =
        Sidestream::before(&app).route(&progress("share=authorized")).flag("--poll-concurrency", "4").start().await;
    let mut inside = side.sse("/api/progress/v1").cookie("user=inside").open().await;
    inside.next_event().await;

    let mut crowd = Vec::new();
    for n in 0..CROWD {
        crowd.push(side.sse("/api/progress/v1").cookie(&format!("user={n}")).send().await);
    }
    app.job("v1").until("two admissions", |seen| seen.iter().filter(|seen| is_admission(seen)).count() >= 2).await;
    let before = app.job("v1").count();
    app.job("v1").requests(before + 10).await;

    let admissions = app.job("v1").seen().iter().filter(|seen| is_admission(seen)).count();
    assert_eq!(admissions, 2, "half of four");
    assert!(waits(&side, "authorize").await >= (CROWD - 3) as f64);
    drop(crowd);
}

/// No platform waits longer than 30 s for the first byte, and a queue of admissions may be longer. So after 25 s a client
/// has its 200, with nothing of anybody's in it; it keeps its place, and is let in by the very answer it waited for.
#[tokio::test]
async fn an_admission_that_takes_too_long_for_a_status_goes_on_behind_a_200() {
    let app = App::start();
    app.job("v1").answers([running(1).after(Duration::from_secs(32)), running(2)]);
    let side = Sidestream::before(&app).route(&progress("share=authorized,timeout=1m")).start().await;

    let mut client = side.sse("/api/progress/v1").open().await;
    assert_eq!((client.status(), app.job("v1").count()), (200, 1));
    client.until("a heartbeat", |text| text.starts_with(":\n")).await;
    assert!(!client.text().contains("data"), "{:?}", client.text());

    assert_eq!(client.next_event().await.data, Some(running_text(2)));
    let samples = side.metrics().await;
    assert_eq!(samples.get("upstream_requests_total", &[("purpose", "authorize"), ("outcome", "ok")]), 1.0);
    assert_eq!(samples.get("upstream_requests_total", &[("purpose", "authorize")]), 1.0, "it was asked once");
}

/// After a restart of the app all its streams are opened anew; not all at once.
#[tokio::test]
async fn subscriptions_are_opened_a_few_at_a_time() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route(NOTIFICATIONS).flag("--poll-concurrency", "2").start().await;
    let mut crowd = Vec::new();
    for n in 0..CROWD {
        crowd.push(side.sse("/notifications").cookie(&format!("user={n}")).send().await);
    }

    for _ in 0..CROWD {
        events.accept().await.send("data: hello\n\n").await;
    }
    for wire in crowd {
        Client::read(wire, "GET").await.next_event().await;
    }

    assert_eq!(events.opened(), CROWD);
    assert!(waits(&side, "subscribe").await > 0.0);
}

/// An id over a KiB can't come back in a request's head. The events keep their place all the same, by ids of ours.
#[tokio::test]
async fn an_id_too_long_to_come_back_gives_way_to_one_of_ours_and_is_counted() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route("path=/notifications,subscribe").start().await;
    let mut client = side.sse("/notifications").open().await;
    let stream = events.accept().await;
    let long = "x".repeat(1025);

    stream.send(format!("id: {long}\ndata: a\n\ndata: b\n\nid: 3\ndata: c\n\n")).await;
    let got = [client.next_event().await, client.next_event().await, client.next_event().await];
    let ids: Vec<_> = got.iter().map(|event| event.id().to_owned()).collect();
    let mut back = side.sse("/notifications").last_event_id(&ids[0]).open().await;
    let missed = [back.next_event().await, back.next_event().await].map(|event| event.data);

    assert!(ids[0].starts_with("sidestream-") && ids[1].starts_with("sidestream-") && ids[2] == "3", "{ids:?}");
    assert_eq!(missed, [Some("b".to_owned()), Some("c".to_owned())]);
    let labels = [("route", NOTIFICATIONS_PATH), ("kind", "too_large")];
    assert_eq!(side.metric("job_state_violations_total", &labels).await, 1.0);
    // The app knows it, and hears it.
    stream.send(format!("id: {long}\ndata: d\n\n")).await;
    client.next_event().await;
    stream.cut().await;
    assert_eq!(events.accept().await.last_event_id(), Some(&*long));
}

/// One event of the app may hold a MiB. A longer one breaks the subscription off, which is opened anew.
#[tokio::test]
async fn an_event_over_one_mib_is_a_violation_and_the_stream_goes_on_anew() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route(NOTIFICATIONS).start().await;
    let mut client = side.sse("/notifications").open().await;
    let stream = events.accept().await;
    let line = format!("data: {}\n", "x".repeat(64 * 1024));
    while stream.try_send(&line).await {}

    events.accept().await.send("data: well again\n\n").await;

    assert_eq!(client.next_event_but(&["upstream-error"]).await.data.as_deref(), Some("well again"));
    let labels = [("route", NOTIFICATIONS_PATH), ("kind", "too_large")];
    assert_eq!(side.metric("job_state_violations_total", &labels).await, 1.0);
}
