//! What the operator sees: every series from the start, each moved by what it counts, nothing else in the labels.

use std::{io::Write, process::Stdio};

use crate::harness::{
    NOTIFICATIONS, PROGRESS, PROGRESS_PATH,
    app::{Answer, App},
    completed, fill, progress, running,
    sidestream::{Sidestream, files_for_itself},
};

/// `rate()` sees the first event only if the series was there before it.
#[tokio::test]
async fn every_series_of_every_route_exists_from_the_start_at_0() {
    let app = App::start();
    let side = Sidestream::before(&app).route(PROGRESS).route(NOTIFICATIONS).start().await;
    let samples = side.metrics().await;

    for route in [PROGRESS_PATH, "/notifications"] {
        let route = ("route", route);
        let zero = |name: &str, labels: &[(&str, &str)]| {
            let labels: Vec<_> = labels.iter().copied().chain([route]).collect();
            assert_eq!(samples.get(name, &labels), 0.0, "{name} {labels:?}");
        };
        zero("connections_active", &[("transport", "http1")]);
        zero("connections_stale", &[]);
        zero("connections_opened_total", &[]);
        for reason in ["client", "done", "stale", "slow", "max_age", "drain", "upstream", "denied", "error"] {
            zero("connections_closed_total", &[("reason", reason)]);
        }
        for side in ["client", "upstream"] {
            zero("invalid_state_errors_total", &[("side", side)]);
        }
        for kind in
            ["unknown_status", "missing_status", "not_json", "wrong_content_type", "too_large", "encoded", "regression"]
        {
            zero("job_state_violations_total", &[("kind", kind)]);
        }
        for phase in ["starting", "live", "degraded", "ended"] {
            zero("topics", &[("phase", phase)]);
        }
        zero("events_published_total", &[]);
        for kind in ["event", "heartbeat", "replay", "control"] {
            zero("frames_sent_total", &[("kind", kind)]);
        }
        zero("sent_bytes_total", &[]);
        zero("replay_misses_total", &[]);
        zero("greeting_cuts_total", &[]);
        zero("upstream_requests_spared_total", &[]);
        zero("delivery_seconds_count", &[]);
        zero("data_age_seconds", &[]);
    }
    for reason in ["max_connections", "max_connections_per_ip", "max_topics", "drain", "file_limit"] {
        assert_eq!(samples.get("connections_rejected_total", &[("reason", reason)]), 0.0);
    }
    for reason in ["head_too_large", "head_timeout", "malformed"] {
        assert_eq!(samples.get("requests_refused_total", &[("reason", reason)]), 0.0);
    }
    for purpose in ["poll", "subscribe", "authorize"] {
        assert_eq!(samples.get("upstream_waits_total", &[("purpose", purpose)]), 0.0);
    }
    for purpose in ["poll", "subscribe", "authorize", "forward"] {
        for outcome in ["ok", "not_modified", "client_error", "server_error", "refused", "timeout", "cancelled"] {
            let labels = [("purpose", purpose), ("outcome", outcome)];
            assert_eq!(samples.get("upstream_requests_total", &labels), 0.0);
            assert_eq!(samples.get("upstream_request_seconds_count", &labels), 0.0);
        }
    }
    for code in ["1xx", "2xx", "3xx", "4xx", "5xx"] {
        assert_eq!(samples.get("http_requests_total", &[("code", code)]), 0.0);
    }
    assert_eq!(samples.get("heartbeat_lateness_seconds_count", &[]), 0.0);
    assert_eq!(samples.get("drain_deadline_timestamp_seconds", &[]), 0.0);
    assert_eq!(samples.get("build_info", &[]), 1.0);
    assert!(samples.names().any(|name| name == "process_open_fds"));
    assert!(samples.names().any(|name| name == "process_resident_memory_bytes"));
    assert!(samples.has("build_info", &[("version", env!("CARGO_PKG_VERSION"))]));
}

#[tokio::test]
async fn a_stream_moves_what_counts_streams_and_puts_the_gauges_back() {
    let app = App::start();
    let job = app.job("v1");
    job.answer(running(1));
    let side = Sidestream::before(&app).route(&progress("heartbeat=100ms,linger=5s")).start().await;
    let route = ("route", PROGRESS_PATH);

    let mut client = side.sse("/api/progress/v1").open().await;
    client.next_event().await;
    side.until_metric("topics", &[route, ("phase", "live")], 1.0).await;
    let open = side.metrics().await;
    client.until("heartbeats", |body| body.matches(":\n").count() > 1).await;
    job.answer(Answer::text(500, "oops"));
    client.next_event().await;
    side.until_metric("topics", &[route, ("phase", "degraded")], 1.0).await;
    job.answer(completed());
    side.until_metric("topics", &[route, ("phase", "ended")], 1.0).await;
    client.rest().await;
    side.until_quiet().await;
    let closed = side.metrics().await;

    assert_eq!(open.get("connections_active", &[route, ("transport", "http1")]), 1.0);
    assert_eq!(open.get("connections_opened_total", &[route]), 1.0);
    assert_eq!(closed.get("connections_closed_total", &[route, ("reason", "done")]), 1.0);
    assert_eq!(closed.get("events_published_total", &[route]), 2.0);
    assert_eq!(closed.get("frames_sent_total", &[route, ("kind", "event")]), 2.0);
    assert!(closed.get("frames_sent_total", &[route, ("kind", "heartbeat")]) >= 2.0);
    assert!(closed.get("frames_sent_total", &[route, ("kind", "control")]) >= 2.0, "upstream-error and done");
    assert!(closed.get("heartbeat_lateness_seconds_count", &[]) >= 2.0);
    assert!(closed.get("delivery_seconds_count", &[route]) >= 2.0);
    assert!(closed.get("upstream_request_seconds_count", &[("purpose", "poll"), ("outcome", "ok")]) >= 2.0);
    assert_eq!(closed.get("http_requests_total", &[("code", "2xx")]), 1.0);
    let sent = closed.get("sent_bytes_total", &[route]);
    assert_eq!(sent, client.received() as f64, "bytes of frames, without HTTP framing");
}

/// The snapshot's age grows while the app can't confirm it, and is gone with the last reader.
#[tokio::test]
async fn the_age_of_the_data_grows_in_an_outage() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let mut client = side.sse("/api/progress/v1").open().await;
    client.next_event().await;
    app.stop().await;

    side.until("the data to age", |samples| samples.get("data_age_seconds", &[("route", PROGRESS_PATH)]) > 1.0).await;
    drop(client);
    side.until_metric("data_age_seconds", &[("route", PROGRESS_PATH)], 0.0).await;
}

/// The scraper's memory must not grow with what users type into their address bars.
#[tokio::test]
async fn random_paths_make_no_new_series() {
    let app = App::start();
    app.at("/*").answer(Answer::text(404, "no"));
    let side = Sidestream::before(&app).route(PROGRESS).flag("--not-found-grace", "50ms").start().await;
    let before = side.metrics().await.names().count();

    for n in 0..50 {
        side.get(&format!("/random/{n}?q={n}")).fetch().await;
        side.request(&format!("M{n}"), "/x").fetch().await;
    }
    for n in 0..5 {
        side.sse(&format!("/api/progress/secret-id-{n}")).fetch().await;
    }
    let samples = side.metrics().await;

    assert_eq!(samples.names().count(), before);
    assert!(samples.label_values("route").all(|route| !route.contains("secret-id")));
    assert_eq!(samples.get("http_requests_total", &[("code", "4xx")]), 105.0);
}

/// Guarded pass-through streams have no route of their own, but are streams all the same.
#[tokio::test]
async fn a_pass_through_stream_is_counted() {
    let app = App::start();
    let events = app.events("/chat");
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let mut client = side.sse("/chat").open().await;
    let stream = events.accept().await;
    stream.send("data: a\n\n").await;
    client.next_event().await;

    side.until_metric("connections_active", &[], 1.0).await;
    stream.send("data: ha").await;
    client.until("the half", |body| body.ends_with("ha")).await;
    stream.cut().await;
    client.read_to_end().await;

    side.until_metric("connections_active", &[], 0.0).await;
    side.until_metric("invalid_state_errors_total", &[("side", "upstream")], 1.0).await;
    side.until_metric("connections_closed_total", &[("reason", "upstream")], 1.0).await;
    assert_eq!(side.metric("connections_opened_total", &[]).await, 1.0);
}

/// The fault that kills Node apps, here a number: the client goes while bytes are on their way to it.
#[tokio::test]
async fn a_write_to_a_client_that_has_gone_is_counted() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app).route(&progress("heartbeat=100ms")).start().await;
    let mut client = side.sse("/api/progress/v1").open().await;
    client.next_event().await;
    fill(&app.job("v1"), async || !side.stats().await["streams"]["listed"][0]["blocked_seconds"].is_null()).await;

    client.reset();

    let labels = [("side", "client"), ("route", PROGRESS_PATH)];
    side.until_metric("invalid_state_errors_total", &labels, 1.0).await;
    side.until_quiet().await;
}

#[tokio::test]
async fn the_admin_side_has_health_dashboard_and_stats() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let mut client = side.sse("/api/progress/v1").open().await;
    client.next_event().await;

    let page = side.admin("/").header("Connection", "close").fetch().await;
    let metrics = side.admin("/metrics").header("Connection", "close").fetch().await;
    let missing = side.admin("/no-such-page").header("Connection", "close").fetch().await;
    let mut live = side.admin("/api/stats/stream").header("Accept", "text/event-stream").open().await;
    let first = live.next_event().await;

    assert_eq!(page.status(), 200);
    assert!(page.header("content-type").is_some_and(|value| value.starts_with("text/html")));
    assert!(!page.text().contains("https://"), "the dashboard needs no other host");
    assert!(metrics.header("content-type").is_some_and(|value| value.starts_with("text/plain")));
    assert_eq!(missing.status(), 404);
    assert_eq!(live.header("content-type"), Some("text/event-stream"));
    assert!(first.json().is_object());
    assert!(side.stats().await.is_object());
}

/// The admin side may be reached by a browser: nothing on it may change anything, and nothing of the app is on it.
#[tokio::test]
async fn the_two_sides_are_apart() {
    let app = App::start();
    app.at("/*").answer(Answer::text(200, "the app"));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;

    let metrics_in_public = side.get("/metrics").fetch().await;
    let app_in_admin = side.admin("/api/progress/v1").header("Connection", "close").fetch().await;

    assert_eq!(metrics_in_public.text(), "the app");
    assert_eq!(app_in_admin.status(), 404);
}

/// An alert about a limit needs both numbers: how much there is, and how much there may be.
#[tokio::test]
async fn the_limits_are_told_beside_what_is_used_of_them() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app)
        .route(PROGRESS)
        .flag("--max-connections", "7")
        .flag("--max-topics", "5")
        .open_files(1024)
        .start()
        .await;

    let at_rest = side.metrics().await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = side.sse("/api/progress/v1").open().await;
        client.next_event().await;
        clients.push(client);
    }
    side.until("the sockets of three clients", |samples| samples.get("sockets", &[]) >= 3.0).await;
    drop(clients);
    side.until_quiet().await;
    side.until("their sockets to be closed", |samples| samples.get("sockets", &[]) < 3.0).await;

    assert_eq!(at_rest.get("connections_max", &[]), 7.0);
    assert_eq!(at_rest.get("topics_max", &[]), 5.0);
    let kept_back = files_for_itself() + 2 * 64;
    assert_eq!(at_rest.get("sockets_max", &[]), (1024 - kept_back) as f64, "what the README says is kept back");
}

/// Who looks from elsewhere sees a drain, and whether it is late.
#[tokio::test]
async fn the_end_of_the_drain_is_told_while_it_lasts() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).flag("--drain", "1h").start().await;
    let mut client = side.sse("/api/progress/v1").open().await;
    client.next_event().await;
    let now = || std::time::SystemTime::UNIX_EPOCH.elapsed().expect("the epoch is over").as_secs_f64();

    let before = now();
    side.signal(rustix::process::Signal::TERM);
    side.until("the drain to begin", |samples| samples.get("drain_deadline_timestamp_seconds", &[]) > 0.0).await;
    let after = now();
    let deadline = side.metric("drain_deadline_timestamp_seconds", &[]).await;

    assert!((before + 3600.0..=after + 3602.0).contains(&deadline), "{before} {deadline} {after}");
}

#[tokio::test]
#[ignore = "needs promtool; tests/run runs it"]
async fn promtool_has_nothing_to_say() {
    let app = App::start();
    app.job("v1").answer(completed());
    let side = Sidestream::before(&app).route(PROGRESS).route(NOTIFICATIONS).start().await;
    side.sse("/api/progress/v1").open().await.rest().await;
    let text = side.admin("/metrics").header("Connection", "close").fetch().await.text();

    let promtool = std::env::var_os("PROMTOOL").unwrap_or_else(|| "promtool".into());
    let mut child = std::process::Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed (tests/run installs it)");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(text.as_bytes()).expect("promtool reads");
    drop(stdin);
    let output = child.wait_with_output().expect("promtool ends");

    let said = [output.stdout, output.stderr].concat();
    assert_eq!((String::from_utf8_lossy(&said).as_ref(), output.status.code()), ("", Some(0)));
}
