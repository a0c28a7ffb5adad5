//! The app in trouble: streams stay, one event per outage says so, broken answers are counted and never sent on.

use std::time::Duration;

use serde_json::json;

use crate::harness::{
    PROGRESS, PROGRESS_PATH,
    app::{Answer, App},
    progress, running, running_text,
    sidestream::Sidestream,
};

fn violations(kind: &str) -> [(&str, &str); 2] {
    [("route", PROGRESS_PATH), ("kind", kind)]
}

#[tokio::test]
async fn an_outage_is_told_once_and_the_next_snapshot_simply_arrives() {
    let app = App::start();
    let job = app.job("v1");
    job.answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let mut client = side.sse("/api/progress/v1").open().await;
    client.next_event().await;

    for outage in 1..=2 {
        job.answer(Answer::text(500, "secret stack trace"));
        let told = client.next_event().await;
        job.more_requests(2).await;
        job.answer(running(10 + outage));
        let next = client.next_event().await;

        assert_eq!(told.name.as_deref(), Some("upstream-error"), "outage {outage}");
        assert!(told.json().is_object(), "{:?}", told.data);
        assert_eq!(told.id, None, "an error is no position in the stream");
        assert!(!told.raw.contains("secret"), "{:?}", told.raw);
        assert_eq!((next.name, next.data), (None, Some(running_text(10 + outage))), "outage {outage}");
    }
    assert!(side.metric("upstream_requests_total", &[("purpose", "poll"), ("outcome", "server_error")]).await >= 6.0);
    assert_eq!(side.metric("connections_active", &[]).await, 1.0);
}

/// Front ends that parse every message expect the error in the shape of one.
#[tokio::test]
async fn errors_data_tells_an_outage_as_an_unnamed_message() {
    let app = App::start();
    app.job("v1").answers([running(1), Answer::text(502, "bad")]);
    let side = Sidestream::before(&app).route(&progress("errors=data")).start().await;
    let mut client = side.sse("/api/progress/v1").open().await;
    client.next_event().await;

    let told = client.next_event().await;

    assert_eq!(told.name, None);
    assert_eq!(told.json()["type"], "error");
    assert!(told.json()["message"].is_string(), "{:?}", told.data);
}

#[tokio::test]
async fn errors_off_tells_nothing() {
    let app = App::start();
    let job = app.job("v1");
    job.answer(running(1));
    let side = Sidestream::before(&app).route(&progress("errors=off")).start().await;
    let mut client = side.sse("/api/progress/v1").open().await;
    client.next_event().await;

    job.answer(Answer::text(500, "oops"));
    job.more_requests(3).await;
    job.answer(running(2));
    let next = client.next_event().await;

    assert_eq!(next.data, Some(running_text(2)));
}

/// Whatever breaks: refused, reset, cut, too slow. The stream stays and heartbeats go on.
#[tokio::test]
async fn every_way_to_fail_leaves_the_stream_open() {
    let app = App::start();
    let job = app.job("v1");
    job.answer(running(0));
    let route = progress("heartbeat=100ms,timeout=3s");
    let side = Sidestream::before(&app).route(&route).start().await;
    let mut client = side.sse("/api/progress/v1").open().await;
    client.next_event().await;

    let faults =
        [Answer::reset(), running(9).cut(), Answer::hang(), Answer::text(504, "slow"), Answer::text(429, "easy")];
    for (n, fault) in (1..).zip(faults) {
        job.answer(fault);
        let told = client.next_event().await;
        let heartbeats = client.text().matches(":\n").count();
        client.until("a heartbeat in the outage", |text| text.matches(":\n").count() > heartbeats).await;
        job.answer(running(n));
        let next = client.next_event().await;
        assert_eq!((told.name.as_deref(), next.data), (Some("upstream-error"), Some(running_text(n))), "fault {n}");
    }
    app.stop().await;
    let told = client.next_event().await;
    job.answer(running(77));
    app.resume();
    let next = client.next_event().await;

    assert_eq!((told.name.as_deref(), next.data), (Some("upstream-error"), Some(running_text(77))));
    let samples = side.metrics().await;
    for outcome in ["broken", "timeout", "refused", "server_error", "client_error", "ok"] {
        let count = samples.get("upstream_requests_total", &[("purpose", "poll"), ("outcome", outcome)]);
        assert!(count >= 1.0, "no poll was counted as {outcome}");
    }
}

/// A login page is HTML with 200: it is neither data nor an end.
#[tokio::test]
async fn a_login_page_in_place_of_json_is_counted_and_not_sent() {
    let app = App::start();
    let job = app.job("v1");
    job.answers([Answer::html("<html>{\"status\":\"completed\"}</html>"), running(1)]);
    let side = Sidestream::before(&app).route(PROGRESS).start().await;

    let mut client = side.sse("/api/progress/v1").open().await;
    let snapshot = client.next_event_but(&["upstream-error"]).await;

    assert_eq!(client.status(), 200);
    assert_eq!(snapshot.data, Some(running_text(1)));
    assert!(!client.text().contains("html"), "{:?}", client.text());
    assert_eq!(side.metric("job_state_violations_total", &violations("wrong_content_type")).await, 1.0);
}

#[tokio::test]
async fn broken_json_is_counted_and_not_sent() {
    let app = App::start();
    let job = app.job("v1");
    job.answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;

    let mut client = side.sse("/api/progress/v1").open().await;
    client.next_event().await;
    // The outage lasts until it has been told: what is over before is not.
    job.answers([Answer::json_text("{\"status\":\"comple"), Answer::text(503, "busy")]);
    let told = client.next_event().await;
    job.answer(running(2));
    let next = client.next_event().await;

    assert_eq!(told.name.as_deref(), Some("upstream-error"));
    assert_eq!(next.data, Some(running_text(2)));
    assert_eq!(side.metric("job_state_violations_total", &violations("not_json")).await, 1.0);
}

/// With a length and without one; the memory stays flat because the rest is not read.
#[tokio::test]
async fn a_body_over_one_mib_is_refused() {
    let app = App::start();
    let large = json!({"status": "processing", "pad": "x".repeat(1 << 20)}).to_string();
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
        large.len()
    );
    let job = app.job("v1");
    job.answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;

    let mut client = side.sse("/api/progress/v1").open().await;
    let mut data = Vec::new();
    // Once each, and the next only when the one before has arrived: state that is replaced before is never sent.
    for next in [[Answer::json_text(&large), running(2)], [Answer::raw(&chunked), running(3)]] {
        data.push(client.next_event_but(&["upstream-error"]).await.data.expect("a snapshot has data"));
        job.answers(next);
    }
    data.push(client.next_event_but(&["upstream-error"]).await.data.expect("a snapshot has data"));

    assert_eq!(data, [running_text(1), running_text(2), running_text(3)]);
    assert_eq!(side.metric("job_state_violations_total", &violations("too_large")).await, 2.0);
}

/// An answer just under the bound is an answer.
#[tokio::test]
async fn a_body_of_almost_one_mib_is_sent() {
    let app = App::start();
    let pad = "x".repeat((1 << 20) - 100);
    app.job("v1").answer(Answer::json(&json!({"status": "processing", "pad": pad})));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;

    let event = side.sse("/api/progress/v1").open().await.next_event().await;

    assert_eq!(event.json()["pad"], pad);
}

#[tokio::test]
async fn an_unknown_or_missing_status_is_sent_and_counted_and_logged_once_per_topic() {
    let app = App::start();
    let job = app.job("v1");
    let odd = |word: &str| Answer::json(&json!({"status": word}));
    job.answer(odd("frobnicating"));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;

    let mut client = side.sse("/api/progress/v1").open().await;
    let mut data = Vec::new();
    // The next only when the one before has arrived: state that is replaced before is never sent.
    for next in [odd("frobnicating2"), Answer::json(&json!({"progress": 1})), running(1)] {
        data.push(client.next_event().await.data.expect("a snapshot has data"));
        job.answer(next);
    }
    client.next_event().await;

    assert_eq!(data, [r#"{"status":"frobnicating"}"#, r#"{"status":"frobnicating2"}"#, r#"{"progress":1}"#]);
    assert!(side.metric("job_state_violations_total", &violations("unknown_status")).await >= 1.0);
    assert!(side.metric("job_state_violations_total", &violations("missing_status")).await >= 1.0);
    let log = side.log_text();
    let lines = log.lines().filter(|line| line.contains("unknown_status")).count();
    assert_eq!(lines, 1, "one line per topic and kind:\n{log}");
}

/// A compressed answer that nobody asked for must not go out as data, and none may be asked for.
#[tokio::test]
async fn polls_ask_for_plain_bodies() {
    let app = App::start();
    let job = app.job("v1");
    job.answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;

    side.sse("/api/progress/v1").header("Accept-Encoding", "gzip, br").open().await.next_event().await;

    assert_eq!(job.seen()[0].header("accept-encoding"), Some("identity"));
}

/// It is not broken JSON, and whoever looks for the cause should not have to guess.
#[tokio::test]
async fn a_compressed_answer_is_trouble_with_a_name_of_its_own() {
    let app = App::start();
    let job = app.job("v1");
    let zipped = Answer::json_bytes(b"\x1f\x8b\x08\0").header("Content-Encoding", "gzip");
    job.answers([running(1), zipped]);
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let mut client = side.sse("/api/progress/v1").open().await;
    client.next_event().await;

    let told = client.next_event().await;
    job.answer(running(2).header("Content-Encoding", "Identity"));
    let next = client.next_event().await;

    assert_eq!((told.name.as_deref(), &told.json()["reason"]), (Some("upstream-error"), &json!("encoded")));
    assert_eq!(next.data, Some(running_text(2)));
    assert!(side.metric("job_state_violations_total", &violations("encoded")).await >= 1.0);
    assert_eq!(side.metric("job_state_violations_total", &violations("not_json")).await, 0.0);
    let log = side.log_text();
    assert!(log.contains("is compressed"), "{log}");
}

/// 204 is "nothing new" in some polling APIs, from the first answer on.
#[tokio::test]
async fn an_answer_without_content_is_nothing_new_and_no_trouble() {
    let app = App::start();
    let job = app.job("v1");
    job.answer(Answer::raw("HTTP/1.1 204 No Content\r\n\r\n"));
    let side = Sidestream::before(&app).route(&progress("heartbeat=50ms")).start().await;

    let mut client = side.sse("/api/progress/v1").open().await;
    client.until("a heartbeat", |text| text.contains(":\n")).await;
    job.requests(5).await;
    job.answer(running(1));
    let first = client.next_event().await;
    job.answer(Answer::raw("HTTP/1.1 204 No Content\r\n\r\n"));
    job.more_requests(3).await;
    job.answer(running(2));
    let second = client.next_event().await;

    assert_eq!([first.name, second.name], [None, None]);
    assert_eq!([first.data, second.data], [Some(running_text(1)), Some(running_text(2))]);
    assert_eq!(side.metric("job_state_violations_total", &[]).await, 0.0);
}

/// An app that is down when its user comes may answer the first time with a refusal. Nobody is let in on old data.
#[tokio::test]
async fn a_client_that_waited_out_an_outage_is_refused_by_the_app_when_it_is_back() {
    let app = App::start_stopped().await;
    app.job("v1").answer(Answer::text(403, "not yours"));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;

    let mut client = side.sse("/api/progress/v1").open().await;
    assert_eq!(client.status(), 200);
    app.resume();
    let (events, _) = client.rest().await;
    let again = side.sse("/api/progress/v1").fetch().await;

    assert!(events.iter().all(|event| event.name.is_some()), "no data without admission: {events:?}");
    assert_eq!((again.status(), again.text().as_str()), (403, "not yours"));
}

/// Back-off: an app in trouble is not asked at the pace of a healthy one.
#[tokio::test]
async fn an_app_that_keeps_failing_is_asked_less_and_less() {
    let app = App::start();
    let job = app.job("v1");
    job.answers([running(1), Answer::text(500, "oops")]);
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let mut client = side.sse("/api/progress/v1").open().await;
    client.next_event().await;

    job.requests(5).await;

    // Three pauses of up to 1, 2 and 4 s: not over the two or three of the healthy pace only by a miracle.
    let total: Duration = crate::harness::app::gaps(&job.seen()[1..]).iter().sum();
    assert!(total >= Duration::from_millis(300), "four failures within {total:?}");
}
