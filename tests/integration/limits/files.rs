//! Open files: how many streams they allow, and what happens when they run short. The limit is set from outside, before
//! the program starts; [`crate::traps`] takes them away while it runs.

use std::process::Stdio;

use tokio::net::TcpStream;

use crate::harness::{
    NOTIFICATIONS, PROGRESS, PROGRESS_PATH,
    app::{Answer, App},
    client::Client,
    eventually, running, running_text,
    sidestream::{Sidestream, binary_within, files_for_itself, finish},
};

/// Files for 16 streams: see `files::Plan`.
const FILES: u32 = 64;
const STREAMS: usize = 16;

/// Streams that 256 files allow: half of what the program does not keep for itself; a quarter is for polls, and one for
/// those who are told to come back.
fn left_of_256() -> usize {
    let sockets = 256 - files_for_itself();
    sockets - 2 * (sockets / 4)
}

async fn rejected_for_files(side: &Sidestream) -> f64 {
    side.metric("connections_rejected_total", &[("reason", "file_limit")]).await
}

/// A line that names both numbers; a warning where one of them was asked for, or where so little is left.
#[tokio::test]
async fn the_start_says_what_the_limit_of_files_leaves_of_max_connections() {
    let app = App::start();
    let by_default = Sidestream::before(&app).open_files(256).start().await;
    let given = Sidestream::before(&app).open_files(256).flag("--max-connections", "5000").start().await;
    let enough = Sidestream::before(&app).open_files(256).flag("--max-connections", "50").start().await;

    let line = |side: &Sidestream| {
        let text = side.log_text();
        text.lines().find(|line| line.contains("is lowered to")).map(str::to_owned)
    };
    let (by_default, given) = (line(&by_default).expect("a line"), line(&given).expect("a line"));
    let left = left_of_256();
    let lowered = format!("10000 (the default) is lowered to {left},");
    assert!(by_default.contains("\"WARN\"") && by_default.contains(&lowered), "{by_default}");
    assert!(by_default.contains("may open 256 files"), "{by_default}");
    let lowered = format!("'5000' is lowered to {left},");
    assert!(given.contains("\"WARN\"") && given.contains(&lowered), "{given}");
    assert_eq!(line(&enough), None);
}

#[tokio::test]
async fn check_says_it_too() {
    let child = binary_within(256).arg("check").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let said = finish(child.expect("the binary starts")).await;

    let words = said.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(said.code, Some(0));
    let left = left_of_256();
    assert!(words.contains(&format!("{left} streams, with no limit per address")), "{words}");
    assert!(words.contains(&format!("--max-connections 10000 (the default) is lowered to {left},")), "{words}");
}

/// The streams that fit are served; the next are told to come back, in the way that each kind of client understands; and
/// there is a file to tell them with.
#[tokio::test]
async fn beyond_what_the_files_allow_clients_are_told_to_come_back() {
    let app = App::start();
    app.job("v1").answer(running(1));
    app.at("/page").answer(Answer::text(200, "page"));
    let side = Sidestream::before(&app).route(PROGRESS).open_files(FILES).flag("--poll-concurrency", "8").start().await;
    let mut streams = Vec::new();
    let mut turned_away = loop {
        let mut client = side.sse("/api/progress/v1").open().await;
        client.until("the first bytes", |text| text.contains('\n')).await;
        if !client.text().contains("data: ") {
            break client;
        }
        streams.push(client);
        assert!(streams.len() <= STREAMS, "more streams than files for them");
    };
    let page = side.get("/page").fetch().await;
    let post = side.request("POST", "/page").header("Accept", "text/event-stream").body(b"x").fetch().await;

    turned_away.read_to_end().await;
    let hint: u64 = turned_away.text().trim_start_matches("retry: ").trim_end().parse().expect("a hint alone");
    assert!((15_000..45_000).contains(&hint), "{hint}");
    for answer in [&page, &post] {
        assert_eq!((answer.status(), answer.header("connection")), (503, Some("close")));
        assert!(answer.header("retry-after").is_some_and(|value| value.parse::<u64>().is_ok()));
    }
    assert!(streams.len() >= STREAMS - 4, "only {} streams", streams.len());
    assert!(rejected_for_files(&side).await >= 3.0);
    assert_eq!(app.at("/page").count(), 0);
    app.job("v1").answer(running(2));
    for client in &mut streams {
        assert_eq!(client.next_event().await.data, Some(running_text(1)));
        assert_eq!(client.next_event().await.data, Some(running_text(2)));
    }
    drop(streams);
    side.until_quiet().await;
    eventually("the page to be served again", async || (side.get("/page").fetch().await.status() == 200).then_some(()))
        .await;
}

/// A crowd that says nothing takes no more than its share: the streams live, and the app's restart, after which every
/// connection to it has to be made anew, is survived because files were kept for that.
#[tokio::test]
async fn a_crowd_of_idle_clients_takes_no_file_from_polls_and_subscriptions() {
    let app = App::start();
    let job = app.job("v1");
    job.answer(running(1));
    let events = app.events("/notifications");
    let side = Sidestream::before(&app).route(PROGRESS).route(NOTIFICATIONS).open_files(FILES).start().await;
    let mut polled = side.sse("/api/progress/v1").open().await;
    polled.next_event().await;
    let subscribed = side.sse("/notifications").send().await;
    events.accept().await.send("data: a\n\n").await;
    let mut subscribed = Client::read(subscribed, "GET").await;
    subscribed.next_event().await;

    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(TcpStream::connect(side.addr()).await.expect("the kernel's queue takes it"));
    }
    side.until("the accept to back off", |samples| {
        samples.get("connections_rejected_total", &[("reason", "file_limit")]) >= 3.0
    })
    .await;
    assert!(side.open_files() < FILES as usize, "no file is left");
    app.stop().await;
    app.resume();
    job.answer(running(2));
    events.accept().await.send("data: b\n\n").await;

    assert_eq!(polled.next_event_but(&["upstream-error"]).await.data, Some(running_text(2)));
    assert_eq!(subscribed.next_event_but(&["upstream-error"]).await.data.as_deref(), Some("b"));
    assert_eq!(side.metric("connections_active", &[("route", PROGRESS_PATH)]).await, 1.0);
    drop(crowd);
    // Those who wait in the kernel's queue are accepted first, and until they have gone a newcomer is told to come back.
    eventually("a newcomer to be served", async || {
        let mut after = side.sse("/api/progress/v1").open().await;
        while after.is_open() && !after.text().contains("data: ") {
            after.more().await;
        }
        after.text().contains(&running_text(2)).then_some(())
    })
    .await;
    let text = side.log_text();
    assert!(text.lines().filter(|line| line.contains("can't accept")).count() < 10, "the log is flooded: {text}");
}
