//! What only a browser does to streams: several tabs, reloads, no network for a while; and what a user does who leaves
//! the tab of a finished job open.

use std::{fs, time::Duration};

use tokio::time::Instant;

use super::{
    cutter::Cut,
    driver::{Saw, Watcher},
    rows::{JOB, JOBS},
    world::{Browser, Client, World},
};
use crate::harness::{COMPLETED, PROGRESS_PATH, app::Answer, completed, node::repository_file, running, running_text};

/// The long `retry:` at the end of a job is at most a minute; the rest is for a busy machine.
const LONG_RETRY: Duration = Duration::from_secs(90);

#[tokio::test]
#[ignore = "needs node and chromium; tests/run runs it"]
async fn tabs_that_are_opened_reloaded_cut_off_and_closed_follow_one_job() {
    let world = World::new(|side| side.route(JOBS)).await;
    let job = world.app.job("v1");
    job.answer(running(1));
    let browser = Browser::start().await;
    let page = world.page("native", JOB);
    let mut tabs = Vec::new();
    for _ in 0..3 {
        tabs.push(browser.open(&page).await);
    }
    all_see(&mut tabs, 1).await;
    let on_route = [("route", PROGRESS_PATH)];
    world.side.until_metric("connections_active", &on_route, 3.0).await;
    assert_eq!(world.side.metric("topics", &on_route).await, 1.0);

    // A reload is a new page that knows nothing: it gets the state, and the others get nothing by it.
    browser.obey("reload", &tabs[0].0, "").await;
    assert_eq!(tabs[0].1.message().await.data, running_text(1));
    world.side.until_metric("connections_active", &on_route, 3.0).await;
    job.answer(running(2));
    all_see(&mut tabs, 2).await;

    // Away, and back with what changed meanwhile. The browser's own switch leaves open connections alone, which a real
    // loss of the network does not.
    browser.obey("offline", "all", "").await;
    world.net.cut(Cut::Rst);
    for (_, watcher) in &mut tabs {
        assert!(matches!(watcher.trouble().await, Saw::Error { closed: false, .. }), "the cut");
        assert!(matches!(watcher.trouble().await, Saw::Error { closed: false, .. }), "an attempt without a network");
    }
    world.side.until_metric("connections_active", &on_route, 0.0).await;
    job.answer(running(3));
    browser.obey("online", "all", "").await;
    all_see(&mut tabs, 3).await;

    browser.obey("close", &tabs[2].0.clone(), "").await;
    world.side.until_metric("connections_active", &on_route, 2.0).await;
    job.answer(completed());
    for (_, watcher) in &mut tabs[..2] {
        assert_eq!(watcher.message().await.data, COMPLETED);
        assert_eq!(watcher.message().await.event, "done");
    }

    let all = |numbers: &[u32]| numbers.iter().map(|n| running_text(*n)).collect::<Vec<_>>();
    let end = vec![COMPLETED.to_owned()];
    assert_eq!(tabs[0].1.data(), [all(&[1, 1, 2, 3]), end.clone()].concat(), "the reloaded one");
    assert_eq!(tabs[1].1.data(), [all(&[1, 2, 3]), end].concat());
    assert_eq!(tabs[2].1.data(), all(&[1, 2, 3]), "the closed one");
    assert_eq!(job.most_in_flight(), 1, "three tabs, one poll at a time");
}

async fn all_see(tabs: &mut [(String, Watcher)], progress: u32) {
    for (_, watcher) in tabs {
        assert_eq!(watcher.message().await.data, running_text(progress));
    }
}

/// The net under an app that doesn't close its EventSource at `done`: the client comes back, once and late, and is told
/// that it may stop. Those that don't understand 204 ask on, which is what the page says about them.
#[tokio::test]
#[ignore = "needs node and chromium, and up to a minute of waiting; tests/run runs it"]
async fn clients_that_ignore_done_come_back_after_the_long_retry() {
    let browser = Browser::start().await;
    let clients = [
        (Client::Page("native", browser.clone()), true),
        (Client::Node("eventsource.mjs"), true),
        (Client::Page("event-source-polyfill", browser.clone()), false),
        (Client::Page("reconnecting-eventsource", browser), false),
    ];
    let returns = clients.iter().map(|(client, stops)| Box::pin(comes_back_late(client, *stops)));

    futures_util::future::join_all(returns).await;
}

async fn comes_back_late(client: &Client, stops: bool) {
    let world = World::new(|side| side.route(JOBS)).await;
    world.app.job("v1").answer(completed());
    let mut watcher = world.watch(client, JOB).await;
    assert_eq!(watcher.message().await.data, COMPLETED);
    assert_eq!(watcher.message().await.event, "done");
    assert!(matches!(watcher.trouble().await, Saw::Error { closed: false, .. }), "{client:?}");
    let ended = Instant::now();

    world.net.until_requests_within(LONG_RETRY, JOB, 2).await;

    // The hint is at least 30 s; a second of it had passed when the stream ended.
    assert!(ended.elapsed() >= Duration::from_secs(28), "{client:?} was back after {:?}", ended.elapsed());
    if stops {
        assert!(matches!(watcher.trouble().await, Saw::Error { closed: true, .. }), "{client:?}");
    }
    assert_eq!(watcher.data(), [COMPLETED], "{client:?}");
}

/// What the page tells its readers to write: back after a clean end, gone after `done`, gone after 204.
#[tokio::test]
#[ignore = "needs node and chromium; tests/run runs it"]
async fn the_advice_for_fetch_event_source_holds() {
    let code =
        fs::read_to_string(repository_file("tests/clients/pages/advised-fetch-event-source.mjs")).expect("a file");
    let (_, code) = code.split_once("// --- shown\n").expect("a mark");
    let (code, _) = code.split_once("  // --- as far as here").expect("a mark");
    let code: String = code.lines().flat_map(|line| [line.strip_prefix("  ").unwrap_or(line), "\n"]).collect();
    let page = fs::read_to_string(repository_file("docs/clients.md")).expect("the page");
    assert!(page.contains(&code), "docs/clients.md should show\n{code}");

    let client = Client::Page("advised-fetch-event-source", Browser::start().await);
    let world = World::new(|side| side.route(&format!("{JOBS},max-age=1s"))).await;
    let job = world.app.job("v1");
    job.answer(running(1));
    let mut watcher = world.watch(&client, JOB).await;
    watcher.message().await;
    world.net.until_requests(JOB, 3).await;
    job.answer(running(2));
    assert_eq!(watcher.message().await.data, running_text(2));
    job.answer(completed());
    assert_eq!(watcher.message().await.data, COMPLETED);
    assert_eq!(watcher.trouble().await, Saw::End);
    assert_eq!(watcher.data(), [running_text(1), running_text(2), COMPLETED.to_owned()]);

    let world = World::new(|side| side.route(JOBS)).await;
    world.app.job("v1").answer(completed());
    world.net.hold_after(&format!("{COMPLETED}\n\n"));
    let mut watcher = world.watch(&client, JOB).await;
    assert_eq!(watcher.message().await.data, COMPLETED);
    world.net.cut(Cut::Fin);
    assert_eq!(watcher.trouble().await, Saw::End);
    assert_eq!(world.net.requests(JOB).len(), 2, "the cut one and the 204");
}

#[tokio::test]
#[ignore = "needs node and chromium; tests/run runs it"]
async fn the_advice_for_reconnecting_eventsource_holds() {
    let client = Client::Page("advised-reconnecting-eventsource", Browser::start().await);
    let world = World::new(|side| side.route(JOBS)).await;
    world.app.job("v1").answer(completed());
    let mut watcher = world.watch(&client, JOB).await;

    assert_eq!(watcher.message().await.data, COMPLETED);
    assert_eq!(watcher.message().await.event, "done");
    assert_eq!(watcher.trouble().await, Saw::End);

    // The client left by itself, within the second that the program leaves it.
    let closed = [("route", PROGRESS_PATH)];
    world.side.until_metric("connections_active", &closed, 0.0).await;
    assert_eq!(world.net.requests(JOB).len(), 1);
}

/// Not a fault of the library but a surprise: httpx gives up on a read after 5 s, and a quiet stream is quieter than that.
#[tokio::test]
#[ignore = "needs python3; tests/run runs it"]
async fn httpx_with_its_default_timeout_does_not_last_until_a_heartbeat() {
    let world = World::new(|side| side.route("path=/api/progress/{id},poll=/api/videos/{id},heartbeat=15s")).await;
    world.app.job("v1").answer(running(1));
    let client = Client::Python("httpx_sse_client.py", Some("--default-timeout"));
    let mut watcher = world.watch(&client, JOB).await;
    watcher.message().await;

    let trouble = watcher.trouble().await;

    assert!(matches!(&trouble, Saw::Error { text, .. } if text.starts_with("ReadTimeout")), "{trouble:?}");
}

/// A front end that has an origin of its own: without the app's grant in the head, or in that of an answer which only asks
/// to come back, the browser would close these streams for good.
#[tokio::test]
#[ignore = "needs node and chromium; tests/run runs it"]
async fn a_page_of_another_origin_keeps_its_streams_through_trouble_of_the_app() {
    let world = World::new(|side| side.route(JOBS).flag("--retry", "300ms")).await;
    let browser = Browser::start().await;
    // The page comes through the cutter, the stream from the program itself: another port, another origin.
    let page = |path: &str| world.page("native", &format!("http://{}{path}", world.side.addr()));
    let job = world.app.job("v1");
    job.answer(Answer::text(503, "in trouble"));
    let feed = world.app.events("/live");
    feed.header("Access-Control-Allow-Origin", "*");

    let (_, mut of_job) = browser.open(&page(JOB)).await;
    let (_, mut of_feed) = browser.open(&page("/live")).await;
    let is_open = |saw: Saw| matches!(saw, Saw::Error { closed: false, .. });
    feed.accept().await.send("data: one\n\n").await;
    assert_eq!(of_feed.message().await.data, "one");
    // It comes while the app is in trouble, and waits for a head that lets it in.
    job.requests(2).await;
    job.answer_with(|seen| {
        let origin = seen.header("origin").expect("a browser says where its page is from");
        running(1).header("Access-Control-Allow-Origin", origin)
    });
    assert_eq!(of_job.message().await.data, running_text(1));

    world.app.stop().await;
    assert!(is_open(of_feed.trouble().await), "the app's death");
    assert!(is_open(of_feed.trouble().await), "an attempt without an app");
    world.app.resume();
    feed.accept().await.send("data: two\n\n").await;
    assert_eq!(of_feed.message().await.data, "two");
}
