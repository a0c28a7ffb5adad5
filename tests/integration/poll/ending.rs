//! How jobs end, and what their clients get when they come back.

use std::time::Duration;

use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

use crate::harness::{
    COMPLETED, PROGRESS, PROGRESS_PATH,
    app::{Answer, App, gaps},
    client::{End, Event},
    completed, progress, running, running_text,
    sidestream::Sidestream,
};

/// Polls that are too far apart to happen by themselves in a test.
const RARELY: &str = "interval=10m,max-interval=10m,linger=10m";

/// Message, `done` with the same id and data, a second for the client to close, the end. The long `retry:` is the net
/// under clients that ignore all of it.
#[tokio::test]
async fn the_end_of_a_job_is_its_snapshot_then_done_then_the_end() {
    let app = App::start();
    let job = app.job("v1");
    job.answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let mut client = side.sse("/api/progress/v1").open().await;
    client.next_event().await;

    let before = Instant::now();
    job.answer(completed());
    let message = client.next_block().await;
    let done = client.next_block().await;
    let end = client.expect_end().await;

    assert_eq!(message.raw, format!("id: {}\ndata: {COMPLETED}\n\n", message.id()));
    assert_eq!(done.name.as_deref(), Some("done"));
    assert_eq!((&done.id, &done.data), (&message.id, &message.data));
    assert!(done.retry.expect("done has retry") >= 15_000, "{:?}", done.raw);
    // A lower bound only: a client needs some time to close by itself.
    assert!(before.elapsed() >= Duration::from_millis(900), "the stream ended at once");
    assert_eq!(end, End::Clean);
    side.until_metric("connections_closed_total", &[("route", PROGRESS_PATH), ("reason", "done")], 1.0).await;
}

/// The one in-band "stop" of the protocol: an `EventSource` that gets 204 comes back no more.
#[tokio::test]
async fn a_client_that_returns_with_the_terminal_id_gets_204() {
    let app = App::start();
    app.job("v1").answer(completed());
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let id = finished_id(&side).await;

    let by_header = side.sse("/api/progress/v1").last_event_id(&id).fetch().await;
    let by_query = side.sse(&format!("/api/progress/v1?lastEventId={id}")).fetch().await;

    assert_eq!((by_header.status(), by_header.received()), (204, 0));
    assert_eq!((by_query.status(), by_query.received()), (204, 0));
}

/// The id is a hash of the content: another replica, or the same one after its linger or a restart, knows it again.
#[tokio::test]
async fn the_terminal_id_is_known_to_a_fresh_process() {
    let app = App::start();
    app.job("v1").answer(completed());
    let first = Sidestream::before(&app).route(PROGRESS).start().await;
    let id = finished_id(&first).await;
    first.until_quiet().await;
    let after_linger = first.sse("/api/progress/v1").last_event_id(&id).fetch().await;
    drop(first);

    let second = Sidestream::before(&app).route(PROGRESS).start().await;
    let after_restart = second.sse("/api/progress/v1").last_event_id(&id).fetch().await;

    assert_eq!(after_linger.status(), 204);
    assert_eq!(after_restart.status(), 204);
}

#[tokio::test]
async fn a_job_that_ended_before_its_first_subscriber_is_told_in_full() {
    let app = App::start();
    app.job("v1").answer(completed());
    let side = Sidestream::before(&app).route(PROGRESS).start().await;

    let mut client = side.sse("/api/progress/v1").open().await;
    let first = client.next_block().await;
    let done = client.next_block().await;
    let end = client.expect_end().await;

    assert!(first.retry.is_some());
    assert_eq!((first.name, first.data.as_deref()), (None, Some(COMPLETED)));
    assert_eq!((done.name.as_deref(), &done.id, done.data.as_deref()), (Some("done"), &first.id, Some(COMPLETED)));
    assert_eq!(end, End::Clean);
}

/// A new page load knows no id; a foreign or broken one is never an error.
#[tokio::test]
async fn a_finished_job_is_told_again_to_a_client_without_its_id_or_with_a_foreign_one() {
    let app = App::start();
    app.job("v1").answer(completed());
    let side = Sidestream::before(&app).route(PROGRESS).start().await;

    for id in ["", "0000", "00000000000000000000000000000000", "../../x", "\u{fffd}", &"a".repeat(4000)] {
        let mut client = side.sse("/api/progress/v1").last_event_id(id).open().await;
        assert_eq!(client.status(), 200, "for the id {id:?}");
        let (events, end) = client.rest().await;
        assert_eq!(names(&events), [None, Some("done")], "for the id {id:?}");
        assert_eq!(end, End::Clean);
    }
}

#[tokio::test]
async fn every_known_word_for_an_end_ends_the_job_and_no_word_for_waiting_does() {
    let app = App::start();
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let ends = [
        json!({"status": "SUCCESS"}),
        json!({"state": "timed-out"}),
        json!({"job": {"status": "Cancelled"}}),
        json!({"data": {"task_status": "succeed"}}),
        json!({"phase": "Failed"}),
        json!({"status": {"state": "errored"}}),
        json!({"done": true, "result": 1}),
        json!({"finished": true}),
    ];
    let waits = [
        json!({"status": "cancelling"}),
        json!({"status": "finalizing"}),
        json!({"status": "paused"}),
        json!({"status": "queued"}),
        json!({"done": false}),
    ];
    for (n, value) in ends.iter().chain(&waits).enumerate() {
        app.job(&format!("j{n}")).answer(Answer::json(value));
    }

    for (n, value) in ends.iter().enumerate() {
        let (events, _) = side.sse(&format!("/api/progress/j{n}")).open().await.rest().await;
        assert_eq!(names(&events), [None, Some("done")], "{value}");
    }
    for (n, value) in waits.iter().enumerate() {
        let id = format!("j{}", ends.len() + n);
        let mut client = side.sse(&format!("/api/progress/{id}")).open().await;
        client.next_event().await;
        app.job(&id).more_requests(3).await;
        assert!(!client.text().contains("event: done"), "{value}");
    }
}

#[tokio::test]
async fn the_routes_own_status_and_done_values_are_what_counts() {
    let app = App::start();
    let side = Sidestream::before(&app).route(&progress(r"status=/meta/step,done=shipped|lost")).start().await;
    app.job("v1").answer(Answer::json(&json!({"status": "completed", "meta": {"step": "packing"}})));

    let mut client = side.sse("/api/progress/v1").open().await;
    client.next_event().await;
    app.job("v1").more_requests(3).await;
    app.job("v1").answer(Answer::json(&json!({"status": "processing", "meta": {"step": "Shipped"}})));
    let (events, _) = client.rest().await;

    assert_eq!(names(&events), [None, Some("done")]);
}

/// A session that runs out in the middle must not look like the end of the job.
#[tokio::test]
async fn a_redirect_to_a_login_page_in_the_middle_ends_the_stream_without_done_and_the_return_is_redirected() {
    for status in [302, 303, 307] {
        let app = App::start();
        app.job("v1").answer(running(1));
        let side = Sidestream::before(&app).route(PROGRESS).start().await;
        let mut client = side.sse("/api/progress/v1").open().await;
        client.next_event().await;

        app.job("v1").answer(Answer::text(status, "").header("Location", "/login?next=%2Fapi%2Fvideos%2Fv1"));
        let (events, _) = client.rest().await;
        let again = side.sse("/api/progress/v1").fetch().await;

        assert_eq!(events, [], "{status}");
        assert_eq!((again.status(), again.header("location")), (status, Some("/login?next=%2Fapi%2Fvideos%2Fv1")));
    }
}

/// A job that the app forgets is over; the client must not wait for ever.
#[tokio::test]
async fn a_job_that_vanishes_ends_with_gone() {
    for status in [404, 410] {
        let app = App::start();
        app.job("v1").answer(running(1));
        let side = Sidestream::before(&app).route(PROGRESS).flag("--not-found-grace", "100ms").start().await;
        let mut client = side.sse("/api/progress/v1").open().await;
        client.next_event().await;

        app.job("v1").answer(Answer::text(status, "deleted"));
        let gone = client.next_event().await;

        assert_eq!(gone.name.as_deref(), Some("gone"), "after a {status}");
        assert_eq!(client.expect_end().await, End::Clean);
    }
}

/// 202-style jobs redirect to their result when they are done; following it would fetch the result itself.
#[tokio::test]
async fn a_redirect_while_polling_means_done_and_is_not_followed() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let mut client = side.sse("/api/progress/v1").open().await;
    client.next_event().await;

    app.job("v1").answer(Answer::text(303, "").header("Location", "/results/v1"));
    let (events, end) = client.rest().await;

    assert_eq!(events.last().and_then(|event| event.name.as_deref()), Some("done"));
    assert_eq!(end, End::Clean);
    assert_eq!(app.at("/results/v1").count(), 0);
}

/// A session that expires takes the streams of its scope along; the return of the client gets the app's own answer.
#[tokio::test]
async fn a_401_later_ends_the_stream_and_the_return_gets_the_401() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let mut client = side.sse("/api/progress/v1").cookie("session=a").open().await;
    client.next_event().await;

    app.job("v1").answer(Answer::text(401, "log in"));
    let (events, _) = client.rest().await;
    let again = side.sse("/api/progress/v1").cookie("session=a").fetch().await;

    assert!(events.iter().all(|event| event.name.is_some()), "no message after the refusal: {events:?}");
    assert_eq!((again.status(), again.text().as_str()), (401, "log in"));
    // A return that is refused or told 204 was no stream.
    side.until_metric("connections_closed_total", &[("reason", "denied")], 1.0).await;
}

/// The retry button: the same id runs again after its end. That is counted, and the topic lives on.
#[tokio::test]
async fn a_job_that_runs_again_after_its_end_is_streamed_again_and_counted() {
    let app = App::start();
    app.job("v1").answer(completed());
    let route = progress("linger=1m");
    let side = Sidestream::before(&app).route(&route).start().await;
    finished_id(&side).await;

    app.job("v1").answer(running(7));
    let mut restarted = side.sse("/api/progress/v1").open().await;
    assert_eq!(restarted.next_event().await.data, Some(running_text(7)));
    app.job("v1").answer(running(8));
    let next = client_message(&mut restarted).await;
    app.job("v1").answer(completed());
    let (events, _) = restarted.rest().await;

    assert_eq!(next.data, Some(running_text(8)));
    assert_eq!(names(&events), [None, Some("done")]);
    let labels = [("route", PROGRESS_PATH), ("kind", "regression")];
    side.until_metric("job_state_violations_total", &labels, 1.0).await;
}

async fn client_message(client: &mut crate::harness::client::Client) -> Event {
    client.next_event_but(&["done"]).await
}

/// Watches the job to its end and gives the id of its last message.
async fn finished_id(side: &Sidestream) -> String {
    let (events, _) = side.sse("/api/progress/v1").open().await.rest().await;
    assert_eq!(names(&events), [None, Some("done")]);
    events[0].id().to_owned()
}

fn names(events: &[Event]) -> Vec<Option<&str>> {
    events.iter().map(|event| event.name.as_deref()).collect()
}

/// A redirect ends a job too. What it says after that is news, also if it is what it said before.
#[tokio::test]
async fn a_job_that_runs_again_after_a_redirect_is_streamed_again() {
    let app = App::start();
    app.job("v1").answer(running(7));
    let side = Sidestream::before(&app).route(&progress("linger=1m")).start().await;
    let mut client = side.sse("/api/progress/v1").open().await;
    client.next_event().await;
    app.job("v1").answer(Answer::text(303, "").header("Location", "/v1.mp4"));
    let (events, _) = client.rest().await;
    assert_eq!(names(&events), [Some("done")]);

    app.job("v1").answer(running(7));
    let labels = [("route", PROGRESS_PATH), ("kind", "regression")];
    let mut restarted = side.sse("/api/progress/v1").open().await;
    assert_eq!(restarted.next_event().await.data, Some(running_text(7)));
    assert_eq!(side.metric("job_state_violations_total", &labels).await, 1.0);
    app.job("v1").answer(running(8));

    assert_eq!(client_message(&mut restarted).await.data, Some(running_text(8)));
}

/// One path for the latest job: the next one may begin while the topic of the one before lingers. Whoever knows the end is
/// sent away meanwhile, and costs nothing.
#[tokio::test]
async fn a_finished_job_is_not_told_again_when_the_next_has_begun() {
    let app = App::start();
    let job = app.job("v1");
    job.answer(completed());
    let side = Sidestream::before(&app).route(&progress(RARELY)).start().await;
    let id = finished_id(&side).await;
    job.answer(running(7));

    let back = side.sse("/api/progress/v1").last_event_id(&id).fetch().await;
    assert_eq!((back.status(), job.count()), (204, 1), "what is known was true a moment ago");
    let mut client = side.sse("/api/progress/v1").open().await;
    let next = client.next_event().await;

    assert_eq!((next.name, next.data), (None, Some(running_text(7))));
    assert_eq!(job.count(), 2);
}

/// A page that was reloaded at the end is told it with the app's word, and many pages share that word.
#[tokio::test]
async fn newcomers_to_an_ended_job_get_the_end_once_the_app_confirms_it_and_share_the_question() {
    let app = App::start();
    let job = app.job("v1");
    job.answer(completed());
    let route = progress("interval=1s,max-interval=1s,linger=10m");
    let side = Sidestream::before(&app).route(&route).start().await;
    finished_id(&side).await;

    let mut clients = JoinSet::new();
    for _ in 0..30 {
        let request = side.sse("/api/progress/v1");
        clients.spawn(async move { request.open().await.rest().await });
    }
    for (events, end) in clients.join_all().await {
        assert_eq!((names(&events), end), (vec![None, Some("done")], End::Clean));
    }

    let confirmed = &job.seen()[1..];
    assert!(!confirmed.is_empty());
    // The pause counts from the answer before, so no delay makes a gap shorter.
    let too_soon = gaps(confirmed).into_iter().find(|gap| *gap < Duration::from_millis(990));
    assert_eq!(too_soon, None, "{} questions", confirmed.len());
}

/// A hiccup of the app between two jobs must not bring back the end of the first.
#[tokio::test]
async fn a_newcomer_to_an_ended_job_waits_out_a_moment_of_trouble() {
    let app = App::start();
    app.job("v1").answers([completed(), Answer::text(503, "busy"), Answer::reset(), running(7)]);
    let side = Sidestream::before(&app).route(&progress("linger=10m")).start().await;
    finished_id(&side).await;

    let next = side.sse("/api/progress/v1").open().await.next_event().await;

    assert_eq!((next.name, next.data), (None, Some(running_text(7))));
}

#[tokio::test]
async fn a_newcomer_to_an_ended_job_gets_what_is_known_when_the_app_wants_to_be_left_alone() {
    let app = App::start();
    let job = app.job("v1");
    job.answers([completed(), Answer::text(503, "busy").header("Retry-After", "600")]);
    let side = Sidestream::before(&app).route(&progress("linger=10m")).start().await;
    let id = finished_id(&side).await;

    for _ in 0..2 {
        assert_eq!(finished_id(&side).await, id);
    }
    assert_eq!(job.count(), 2, "the second had to do without the app");
}
