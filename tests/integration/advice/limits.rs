//! Limits that are near, and limits that are reached.

use super::{calm, eventually, only, opened, rules, text};
use crate::harness::{app::App, client::Client, running, sidestream::Sidestream};

async fn open(side: &Sidestream, jobs: std::ops::Range<u32>) -> Vec<Client> {
    let mut clients = Vec::new();
    for id in jobs {
        clients.push(opened(side.sse(&format!("/api/progress/v{id}"))).await);
    }
    clients
}

#[tokio::test]
async fn streams_near_their_limit_are_told_before_one_is_turned_away() {
    let app = App::start();
    app.job("*").answer(running(1));
    let side = Sidestream::before(&app).route(&calm("linger=1m")).flag("--max-connections", "5").start().await;
    let mut clients = open(&side, 0..3).await;
    assert_eq!(rules(&side).await, [""; 0], "three of five are not near");
    clients.extend(open(&side, 3..4).await);
    let near = only(&side, "connections-near-limit").await;
    clients.extend(open(&side, 4..5).await);
    assert_eq!(side.get("/api/progress/v9").fetch().await.status(), 503);
    let reached = only(&side, "connections-near-limit").await;

    assert!(text(&near, "evidence").starts_with("4 of 5 streams are open"), "{near}");
    assert!(text(&reached, "evidence").ends_with("1 times a client was turned away."), "{reached}");
    assert_eq!((text(&near, "severity"), text(&reached, "severity")), ("advice", "warning"));
    assert_eq!(text(&reached, "change"), "--max-connections 10");
}

#[tokio::test]
async fn topics_near_their_limit_are_told() {
    let app = App::start();
    app.job("*").answer(running(1));
    let side = Sidestream::before(&app).route(&calm("linger=1m")).flag("--max-topics", "5").start().await;
    let _clients = open(&side, 0..4).await;

    let found = only(&side, "topics-near-limit").await;
    assert!(text(&found, "evidence").starts_with("4 of 5 topics are kept"), "{found}");
}

#[tokio::test]
async fn an_address_that_may_have_no_more_is_told() {
    let app = App::start();
    app.job("*").answer(running(1));
    let side = Sidestream::before(&app).route(&calm("linger=1m")).flag("--max-connections-per-ip", "1").start().await;
    let _clients = open(&side, 0..1).await;
    assert_eq!(side.get("/api/progress/v9").fetch().await.status(), 503);

    only(&side, "address-limit-reached").await;
}

/// What the process may open bounds the streams, so both are near at once.
#[tokio::test]
async fn open_files_near_their_limit_are_told() {
    let app = App::start();
    app.job("*").answer(running(1));
    let side = Sidestream::before(&app).route(&calm("linger=1m")).open_files(64).start().await;
    let max = side.stats().await["limits"]["open_files"]["max"].as_u64().expect("a number");
    // All of one job: connections to the app are sockets, too.
    let mut clients = Vec::new();
    for _ in 0..max * 8 / 10 + 1 {
        clients.push(opened(side.sse("/api/progress/v1")).await);
    }

    eventually("files and streams near their limits", async || {
        let rules = rules(&side).await;
        ["connections-near-limit", "files-near-limit"]
            .iter()
            .all(|rule| rules.iter().any(|it| it == rule))
            .then_some(())
    })
    .await;
}
