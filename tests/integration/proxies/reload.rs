//! A proxy is reloaded while events are published.

use std::{cell::Cell, time::Duration};

use super::{stage::Stage, tab::Tab};
use crate::harness::{running, running_text};

/// How often the proxies are reloaded.
const RELOADS: usize = 2;

/// Time between two events while the proxies are reloaded: so many fall into each reload, and few enough that a tab
/// that is away for a moment doesn't fall out of the replay window.
const PACE: Duration = Duration::from_millis(5);

/// What a reload does to the streams that are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtReload {
    Cut,
    GoOn,
}

/// Reloads the proxies while events are published. Three tabs watch: one stays as long as it can, one leaves and
/// comes back in the middle of each reload, one watches a job. Each gets every event once and never an answer that
/// would end an `EventSource`.
pub(super) async fn reload(stage: &Stage) -> AtReload {
    let events = stage.app.events("/updates");
    stage.app.job("v2").answer(running(0));
    let stays = Tab::follow(stage.front.addr(), "/updates");
    let returns = Tab::follow(stage.front.addr(), "/updates");
    let polls = Tab::follow(stage.front.addr(), "/api/progress/v2");
    let stream = events.accept().await;
    // Who comes without an id gets only what comes later, so everybody has to be there first.
    stays.until_begun().await;
    returns.until_begun().await;
    polls.until_events(1).await;

    let cuts = stage.front.kinds().iter().any(|kind| kind.cuts_at_reload());
    let is_over = Cell::new(false);
    let reloads = async {
        // Who leaves before it has an id comes back as a newcomer.
        for tab in [&stays, &returns] {
            tab.until_events(1).await;
        }
        for round in 1..=RELOADS {
            let before = [&stays, &returns].map(|tab| tab.seen());
            returns.leave_and_return();
            stage.front.reload().await;
            returns.leave_and_return();
            returns.until("a new stream", |seen| seen.begun > before[1].begun).await;
            if cuts {
                stays.until("the reload to cut the streams", |seen| seen.ended >= round).await;
                stays.until("a new stream", |seen| seen.begun > before[0].begun).await;
            }
            for tab in [&stays, &returns, &polls] {
                tab.until_events(tab.seen().events.len() + 5).await;
            }
        }
        is_over.set(true);
    };
    let publish = async {
        let mut n = 0;
        while !is_over.get() {
            n += 1;
            stream.send(format!("id: {n}\ndata: event {n}\n\n")).await;
            stage.app.job("v2").answer(running(n));
            tokio::time::sleep(PACE).await;
        }
        n
    };
    let ((), last) = tokio::join!(reloads, publish);

    let all: Vec<_> = (1..=last).map(|n| format!("event {n}")).collect();
    for tab in [&stays, &returns] {
        tab.until("the last event", |seen| seen.events.last().is_some_and(|event| event.data == all[all.len() - 1]))
            .await;
        let got = tab.data();
        let lost: Vec<_> = all.iter().filter(|event| !got.contains(event)).collect();
        assert_eq!(lost, [""; 0], "events were lost");
        assert!(got == all, "{} events came as {}: doubled, or out of order", all.len(), got.len());
    }
    polls
        .until("the last status", |seen| seen.events.last().is_some_and(|event| event.data == running_text(last)))
        .await;
    let progress: Vec<_> = polls.data().iter().map(|data| progress_of(data)).collect();
    assert!(progress.is_sorted(), "a status came after a later one: {progress:?}");
    for tab in [&stays, &returns, &polls] {
        assert_eq!(tab.seen().refusals, [""; 0], "an EventSource would have given up");
    }
    let streams = returns.seen().begun;
    assert!(streams > RELOADS, "only {streams} streams in {RELOADS} reloads");
    match stays.seen().ended {
        0 => AtReload::GoOn,
        _ => AtReload::Cut,
    }
}

// === helpers ===

fn progress_of(status: &str) -> u64 {
    let status: serde_json::Value = serde_json::from_str(status).expect("a status is JSON");
    status["progress"].as_u64().expect("a status has a progress")
}
