//! Somebody between cuts streams: after a silence, or at an age.

use std::time::Duration;

use tokio::{task::JoinSet, time::Instant};

use super::{calm, eventually, only, rules, text};
use crate::{
    harness::{PROGRESS_PATH, app::App, client::Request, running, sidestream::Sidestream},
    proxies,
};

/// Opens the stream again and again. Each time it is cut when nothing has come for `silence`, or at `age`, as somebody
/// in front would do it.
async fn cut_again_and_again(request: Request, silence: Duration, age: Duration) {
    loop {
        let mut client = request.open().await;
        let until = Instant::now() + age;
        while client.is_open() {
            let limit = until.min(Instant::now() + silence);
            if tokio::time::timeout_at(limit, client.more()).await.is_err() {
                break;
            }
        }
    }
}

/// Four such clients, each of a job of its own; they end when this goes.
fn clients(side: &Sidestream, silence: Duration, age: Duration) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for id in 0..4 {
        clients.spawn(cut_again_and_again(side.sse(&format!("/api/progress/v{id}")), silence, age));
    }
    clients
}

const NEVER: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_read_timeout_in_front_is_seen() {
    let app = App::start();
    app.job("*").answer(running(1));
    let side = Sidestream::before(&app).route(&calm("heartbeat=10m")).start().await;
    let _clients = clients(&side, Duration::from_secs(1), NEVER);

    let found = only(&side, "read-timeout-in-front").await;

    assert_eq!((text(&found, "severity"), text(&found, "route")), ("warning", PROGRESS_PATH));
    assert!(text(&found, "evidence").contains("after the last byte, though heartbeats come every 600s"), "{found}");
    assert!(text(&found, "change").starts_with("heartbeat="), "the route's own key is at fault: {found}");
}

/// Streams that are only passed through have their own way to their end.
#[tokio::test]
async fn a_read_timeout_in_front_of_a_pass_through_stream_is_seen() {
    let app = App::start();
    let events = app.events("/chat");
    let side = Sidestream::before(&app).flag("--heartbeat-interval", "10m").start().await;
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        clients.spawn(cut_again_and_again(side.sse("/chat"), Duration::from_secs(1), NEVER));
    }
    clients.spawn(async move {
        loop {
            // Open and silent, until the client is gone.
            drop(events.accept().await);
        }
    });

    let found = only(&side, "read-timeout-in-front").await;

    assert_eq!(text(&found, "route"), "(forwarded)");
    assert!(text(&found, "change").starts_with("--heartbeat-interval "), "{found}");
}

/// The same fault with the proxy that most have, which also says whom it speaks for.
#[tokio::test]
#[ignore = "needs nginx; tests/run runs it"]
async fn the_read_timeout_of_a_real_nginx_is_seen_and_that_nobody_trusts_it() {
    let app = App::start();
    app.job("*").answer(running(1));
    let side = Sidestream::before(&app).route(&calm("heartbeat=10m")).start().await;
    let (addr, _nginx) = proxies::nginx_before(side.addr()).await;
    let mut clients = JoinSet::new();
    for id in 0..6 {
        let request = Request::new(addr, "GET", &format!("/api/progress/v{id}")).header("Accept", "text/event-stream");
        clients.spawn(cut_again_and_again(request, NEVER, NEVER));
    }

    eventually("both to be told", async || {
        (rules(&side).await == ["read-timeout-in-front", "proxy-not-trusted"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_limit_on_the_age_of_streams_in_front_is_seen() {
    let app = App::start();
    app.job("*").answer(running(1));
    let side = Sidestream::before(&app).route(&calm("heartbeat=1300ms")).start().await;
    let _clients = clients(&side, NEVER, Duration::from_secs(2));

    let found = only(&side, "lifetime-limit-in-front").await;

    assert_eq!((text(&found, "severity"), text(&found, "route")), ("advice", PROGRESS_PATH));
    assert!(text(&found, "change").starts_with("--max-age "), "{found}");
}
