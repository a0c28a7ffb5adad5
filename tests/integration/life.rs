//! Drain, restart, limits, ages: how streams live when everything around them changes.

use std::{collections::BTreeSet, time::Duration};

use rustix::process::Signal;
use sidestream::shutdown::is_ignored;
use tokio::{net::TcpStream, task::JoinSet, time::Instant};

use crate::harness::{
    NOTIFICATIONS, PROGRESS, PROGRESS_PATH,
    app::{Answer, App, Fate},
    client::{Client, End},
    eventually, progress, running, running_text,
    sidestream::Sidestream,
};

/// Opens `count` streams and waits until each has its snapshot.
async fn open_streams(side: &Sidestream, count: usize) -> Vec<Client> {
    let mut clients = JoinSet::new();
    for n in 0..count {
        let request = side.sse("/api/progress/v1").cookie(&format!("session={}", n % 10));
        clients.spawn(async move {
            let mut client = request.open().await;
            client.next_event().await;
            client
        });
    }
    let clients = clients.join_all().await;
    side.until_metric("connections_active", &[("route", PROGRESS_PATH)], count as f64).await;
    clients
}

/// All at once would be a reconnect storm for whoever takes over: a hint each, and ends spread over the drain time.
#[tokio::test]
async fn sigterm_with_500_streams_hints_each_spreads_the_ends_and_exits_0() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let mut side = Sidestream::before(&app).route(PROGRESS).flag("--drain", "3s").start().await;
    let clients = open_streams(&side, 500).await;

    let begun = Instant::now();
    side.signal(Signal::TERM);
    let mut ends = JoinSet::new();
    for mut client in clients {
        ends.spawn(async move {
            let before = client.text().len();
            let end = client.read_to_end().await;
            (begun.elapsed(), client.text()[before..].to_owned(), end)
        });
    }
    let ends = ends.join_all().await;
    let code = side.wait_exit().await;

    assert_eq!(code, Some(0), "{}", side.log_text());
    let mut hints = BTreeSet::new();
    for (_, last_words, end) in &ends {
        assert_eq!(*end, End::Clean);
        let hint = last_words.split("retry: ").nth(1).unwrap_or_else(|| panic!("no hint in {last_words:?}"));
        hints.insert(hint.lines().next().map(str::to_owned));
    }
    assert!(hints.len() > 10, "the hints bring all back together: {hints:?}");
    let mut times: Vec<_> = ends.iter().map(|(after, ..)| *after).collect();
    times.sort();
    // Far less than the 3 s: a machine under load sees many ends at once, but not nearly all.
    let spread = times[490] - times[10];
    assert!(spread >= Duration::from_millis(500), "the middle 480 of 500 streams ended within {spread:?}");
}

#[tokio::test]
async fn while_draining_it_is_alive_but_not_ready_and_takes_no_connection() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let mut side = Sidestream::before(&app).route(PROGRESS).flag("--drain", "20s").start().await;
    eventually("readiness", async || (side.admin("/readyz").fetch().await.status() == 200).then_some(())).await;
    assert_eq!(side.admin("/livez").fetch().await.status(), 200);
    let _clients = open_streams(&side, 100).await;

    side.signal(Signal::TERM);
    eventually("readiness to go", async || (side.admin("/readyz").fetch().await.status() == 503).then_some(())).await;
    eventually("connections to be refused", async || TcpStream::connect(side.addr()).await.err()).await;
    let live = side.admin("/livez").fetch().await;

    assert_eq!(live.status(), 200);
    side.until("the first streams to be drained", |samples| {
        samples.get("connections_closed_total", &[("route", PROGRESS_PATH), ("reason", "drain")]) >= 1.0
    })
    .await;
    side.signal(Signal::TERM);
    side.wait_exit().await;
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let app = App::start();
    app.job("v1").answer(running(1));
    for signal in [Signal::TERM, Signal::INT] {
        let mut side = Sidestream::before(&app).route(PROGRESS).flag("--drain", "10m").start().await;
        let mut clients = open_streams(&side, 10).await;
        side.signal(signal);
        eventually("readiness to go", async || (side.admin("/readyz").fetch().await.status() == 503).then_some(()))
            .await;

        side.signal(signal);
        side.wait_exit().await;

        for client in &mut clients {
            client.read_to_end().await;
        }
    }
}

#[tokio::test]
async fn a_forwarded_request_may_finish_during_the_drain() {
    let app = App::start();
    app.at("/slow").answer(Answer::text(200, "made it").after(Duration::from_millis(700)));
    let mut side = Sidestream::before(&app).flag("--drain", "20s").start().await;
    let slow = side.get("/slow").send().await;
    app.at("/slow").requests(1).await;

    side.signal(Signal::TERM);
    let mut answer = Client::read(slow, "GET").await;
    answer.read_to_end().await;

    assert_eq!((answer.status(), answer.text().as_str()), (200, "made it"));
    assert_eq!(side.wait_exit().await, Some(0));
}

/// Without anybody to wait for, the drain is no delay.
#[tokio::test]
async fn an_idle_process_leaves_without_waiting_for_the_drain_time() {
    let app = App::start();
    let mut signals = vec![Signal::TERM, Signal::INT];
    // Of a terminal that has gone, too, unless whoever runs these tests has it ignored.
    signals.extend((!is_ignored(Signal::HUP)).then_some(Signal::HUP));
    for signal in signals {
        let mut side = Sidestream::before(&app).route(PROGRESS).flag("--drain", "10m").start().await;
        let _idle_keep_alive = TcpStream::connect(side.addr()).await.expect("it listens");

        side.signal(signal);

        assert_eq!(side.wait_exit().await, Some(0), "{signal:?}");
    }
}

#[tokio::test]
async fn a_restart_of_the_app_costs_none_of_200_streams() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app).route(&progress("heartbeat=200ms")).start().await;
    let mut clients = open_streams(&side, 200).await;

    app.stop().await;
    side.until("polls to fail", |samples| {
        samples.get("upstream_requests_total", &[("purpose", "poll"), ("outcome", "refused")]) >= 10.0
    })
    .await;
    app.job("v1").answer(running(2));
    app.resume();

    for client in &mut clients {
        let next = client.next_event_but(&["upstream-error"]).await;
        assert_eq!(next.data, Some(running_text(2)));
    }
    let samples = side.metrics().await;
    assert_eq!(samples.get("connections_active", &[("route", PROGRESS_PATH)]), 200.0);
    assert_eq!(samples.get("connections_closed_total", &[("route", PROGRESS_PATH)]), 0.0);
}

#[tokio::test]
async fn a_stream_ends_at_its_max_age_and_its_client_goes_on_where_it_was() {
    let app = App::start();
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route("path=/notifications,subscribe,max-age=3s").start().await;
    let mut client = side.sse("/notifications").open().await;
    let stream = events.accept().await;
    stream.send("id: 1\ndata: a\n\n").await;
    client.next_event().await;

    let end = client.read_to_end().await;
    stream.send("id: 2\ndata: b\n\n").await;
    let mut back = side.sse("/notifications").last_event_id("1").open().await;
    let missed = back.next_event().await;

    assert_eq!(end, End::Clean);
    assert_eq!(missed.data.as_deref(), Some("b"));
    assert_eq!(events.opened(), 1);
    let labels = [("route", "/notifications"), ("reason", "max_age")];
    assert!(side.metric("connections_closed_total", &labels).await >= 1.0);
}

#[tokio::test]
async fn max_age_0_is_off() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).flag("--max-age", "0").start().await;
    let mut client = side.sse("/api/progress/v1").open().await;
    client.next_event().await;

    app.job("v1").more_requests(5).await;
    app.job("v1").answer(running(2));

    assert_eq!(client.next_event().await.data, Some(running_text(2)));
}

/// An `EventSource` gets 200 and a long hint, since a 503 would kill it; others get the 503 they understand.
#[tokio::test]
async fn over_the_limit_an_event_source_is_sent_away_softly_and_others_with_503() {
    let app = App::start();
    app.job("v1").answer(running(1));
    app.at("/page").answer(Answer::text(200, "page"));
    let side = Sidestream::before(&app).route(PROGRESS).flag("--max-connections", "2").start().await;
    let first = open_streams(&side, 2).await;

    let mut hints = BTreeSet::new();
    for _ in 0..6 {
        let mut soft = side.sse("/api/progress/v1").open().await;
        let end = soft.read_to_end().await;
        assert_eq!((soft.status(), soft.header("content-type"), end), (200, Some("text/event-stream"), End::Clean));
        let text = soft.text();
        let hint = text.strip_prefix("retry: ").unwrap_or_else(|| panic!("not a hint: {text:?}"));
        hints.insert(hint.trim_end().parse::<u64>().unwrap_or_else(|_| panic!("more than a hint: {text:?}")));
    }
    let hard = side.get("/api/progress/v1").header("Accept", "*/*").fetch().await;
    let page = side.get("/page").fetch().await;
    let rejected = side.metric("connections_rejected_total", &[("reason", "max_connections")]).await;
    drop(first);
    side.until_metric("connections_active", &[], 0.0).await;
    let mut again = side.sse("/api/progress/v1").open().await;

    assert!(hints.iter().all(|hint| (15_000..=45_000).contains(hint)), "{hints:?}");
    assert!(hints.len() > 1, "all come back together: {hints:?}");
    assert_eq!(hard.status(), 503);
    let wait: u64 = hard.header("retry-after").and_then(|value| value.parse().ok()).expect("Retry-After in seconds");
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(page.status(), 200, "the limit is for streams");
    assert_eq!(rejected, 7.0);
    assert_eq!(again.next_event().await.data, Some(running_text(1)));
}

#[tokio::test]
async fn max_connections_per_ip_believes_only_trusted_proxies() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let limited = || Sidestream::before(&app).route(PROGRESS).flag("--max-connections-per-ip", "1");
    let trusting = limited().flag("--trusted-proxy", "127.0.0.0/8").start().await;
    let naive = limited().start().await;
    let status_of = async |side: &Sidestream, from: &str| {
        let client = side.get("/api/progress/v1").header("X-Forwarded-For", from).open().await;
        (client.status(), client)
    };

    let (one, _one) = status_of(&trusting, "203.0.113.1").await;
    let (same, _same) = status_of(&trusting, "203.0.113.1").await;
    let (two, _two) = status_of(&trusting, "203.0.113.2").await;
    let (_, _first) = status_of(&naive, "203.0.113.1").await;
    let (forged, _forged) = status_of(&naive, "203.0.113.2").await;

    assert_eq!((one, same, two), (200, 503, 200));
    assert_eq!(forged, 503, "anybody can write X-Forwarded-For");
    assert_eq!(trusting.metric("connections_rejected_total", &[("reason", "max_connections_per_ip")]).await, 1.0);
}

/// The longest-idle lingering topic makes room; a topic with clients never does.
#[tokio::test]
async fn max_topics_evicts_what_only_lingers_and_refuses_otherwise() {
    let app = App::start();
    let events = app.events("/own");
    let side = Sidestream::before(&app).route("path=/own,subscribe,linger=1h").flag("--max-topics", "2").start().await;
    let old = side.sse("/own?n=1").open().await;
    let of_old = events.accept().await;
    let _kept = side.sse("/own?n=2").open().await;
    let of_kept = events.accept().await;
    drop(old);
    side.until_metric("connections_active", &[], 1.0).await;

    let _new = side.sse("/own?n=3").open().await;
    of_old.closed().await;
    let mut refused = side.sse("/own?n=4").open().await;
    refused.read_to_end().await;

    assert!(of_kept.is_open());
    assert_eq!(refused.status(), 200);
    assert!(refused.text().starts_with("retry: "), "{:?}", refused.text());
    assert_eq!(side.metric("connections_rejected_total", &[("reason", "max_topics")]).await, 1.0);
    assert_eq!(events.opened(), 3);
}

/// A slot leaks where the end of a client is only noticed by a later write.
#[tokio::test]
async fn two_thousand_connects_that_reset_before_the_first_byte_leave_nothing() {
    let app = App::start();
    app.at("/api/videos/*").answer(running(1));
    let _events = app.events("/notifications");
    let side = Sidestream::before(&app).route(PROGRESS).route(NOTIFICATIONS).start().await;
    side.sse("/api/progress/warm").open().await.next_event().await;
    side.until_quiet().await;
    let files = side.open_files();

    let mut batch = JoinSet::new();
    for n in 0..2000 {
        let request = match n % 4 {
            0 => side.sse("/api/progress/v1"),
            1 => side.sse(&format!("/api/progress/v{n}")),
            2 => side.sse("/notifications").cookie(&format!("s={n}")),
            _ => side.sse("/api/progress/v1").cookie(&format!("s={n}")),
        };
        batch.spawn(async move { request.send().await.reset() });
        if batch.len() >= 100 {
            batch.join_next().await.expect("the batch is not empty").expect("no panic");
        }
    }
    batch.join_all().await;

    side.until_quiet().await;
    eventually("the files to be closed", async || (side.open_files() <= files + 10).then_some(())).await;
    // Some of the resets may not have been looked at when everything else was quiet.
    side.until("opened and closed to agree", |samples| {
        samples.get("connections_opened_total", &[]) == samples.get("connections_closed_total", &[])
    })
    .await;
}

/// A connection that never sends a request, or only half of one, is nobody's stream.
#[tokio::test]
async fn connections_without_a_request_hold_nothing() {
    let app = App::start();
    app.job("v1").answer(running(1));
    // What is pipelined behind a stream hides its FIN; the next heartbeat finds it.
    let side = Sidestream::before(&app).route(&progress("heartbeat=100ms")).start().await;
    let mut idle = Vec::new();
    for _ in 0..50 {
        idle.push(TcpStream::connect(side.addr()).await.expect("it listens"));
    }
    let mut half = side.sse("/api/progress/v1").send().await;
    half.send(b"GET /api/progress/v1 HT").await.expect("the socket is open");

    let mut client = side.sse("/api/progress/v1").open().await;
    client.next_event().await;
    drop((idle, half, client));

    side.until_quiet().await;
}

/// The hanging first poll of a topic whose only client left is given up with the topic.
#[tokio::test]
async fn a_client_that_leaves_before_the_first_answer_takes_its_requests_along() {
    let app = App::start();
    let (polled, forwarded) = (app.job("v1"), app.at("/page"));
    polled.answer(Answer::hang());
    forwarded.answer(Answer::hang());
    let side = Sidestream::before(&app).route(PROGRESS).start().await;

    let stream = side.sse("/api/progress/v1").send().await;
    let page = side.get("/page").send().await;
    polled.requests(1).await;
    forwarded.requests(1).await;
    side.until_metric("topics", &[("route", PROGRESS_PATH), ("phase", "starting")], 1.0).await;
    drop(page);
    stream.reset();

    forwarded.until("the page's request to be cancelled", |seen| seen[0].fate == Fate::Cancelled).await;
    polled.until("the poll to be cancelled", |seen| seen[0].fate == Fate::Cancelled).await;
    side.until_quiet().await;
    assert!(side.metric("upstream_requests_total", &[("purpose", "forward"), ("outcome", "cancelled")]).await >= 1.0);
}

/// A half-close says "I send no more", which is what every client of a stream does in effect; some say it with a FIN.
/// Either reading is allowed, but the slot must not stay behind.
#[tokio::test]
async fn a_half_closed_client_leaves_no_slot_behind() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let mut client = side.sse("/api/progress/v1").open().await;
    client.next_event().await;

    client.half_close().await;
    drop(client);

    side.until_quiet().await;
}
