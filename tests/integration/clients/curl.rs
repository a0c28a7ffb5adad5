//! `curl -N`, and the parser that people write themselves: clients without a library, so what they see is the wire.

use std::process::Command;

use super::{
    PATIENCE,
    cutter::Cut,
    driver::{Driver, Saw},
    matrix::Row,
    rows::{FEED, FEEDS, JOB, JOBS, seen_of_heartbeats, until_data},
    world::{Client, World},
};
use crate::harness::{COMPLETED, completed, running, running_text};

/// A curl that prints the stream as it comes.
fn curl(world: &World, path: &str, last_event_id: Option<&str>) -> std::sync::Arc<Driver> {
    let mut command = Command::new("curl");
    command.args(["-N", "-s", "-S", "--max-time"]).arg(PATIENCE.as_secs().to_string());
    if let Some(id) = last_event_id {
        command.arg("-H").arg(format!("Last-Event-ID: {id}"));
    }
    command.arg(world.net.url(path));
    Driver::start(command)
}

async fn until_line(curl: &Driver, line: &str) {
    curl.find(line, 0, |it| it.as_str() == Some(line)).await;
}

fn id_line(text: &str) -> &str {
    text.lines().rev().find_map(|line| line.strip_prefix("id: ")).expect("an id")
}

#[tokio::test]
#[ignore = "needs curl; tests/run runs it"]
async fn curl_n() {
    let mut heartbeats = Vec::new();
    for (form, bytes, words) in [
        ("comment", ":\n:\n", "`:` lines"),
        ("comment-block", ":\n\n:\n\n", "`:` lines"),
        ("event", "event: ping\ndata: {}\n\nevent: ping\n", "`ping` events"),
    ] {
        let world = World::new(|side| side.route(FEEDS).flag("--heartbeat-form", form)).await;
        let feed = world.app.events(FEED);
        let curl = curl(&world, FEED, None);
        let stream = feed.accept().await;
        world.heartbeats(3).await;
        stream.send("id: 1\ndata: one\n\n").await;
        until_line(&curl, "data: one").await;
        let text = curl.text();
        assert!(text.contains(bytes), "{form}: {text:?}");
        heartbeats.push(words.to_owned());
        curl.kill();
    }

    let world = World::new(|side| side.route(JOBS)).await;
    let job = world.app.job("v1");
    job.answer(running(1));
    let first = curl(&world, JOB, None);
    until_line(&first, &format!("data: {}", running_text(1))).await;
    world.net.cut(Cut::Rst);
    let cut = first.exit_code().await.expect("curl ends by itself");
    let seen = first.text();
    job.answer(running(2));
    let second = curl(&world, JOB, Some(id_line(&seen)));
    until_line(&second, &format!("data: {}", running_text(2))).await;
    job.answer(completed());
    let end = second.exit_code().await.expect("curl ends by itself");
    let seen = second.text();
    assert!(!seen.contains(&running_text(1)), "nothing twice: {seen:?}");
    let id = id_line(&seen);
    assert!(seen.contains(&format!("id: {id}\ndata: {COMPLETED}\n\n")), "{seen:?}");
    assert!(seen.ends_with(&format!("event: done\nid: {id}\ndata: {COMPLETED}\n\n")), "{seen:?}");
    let third = curl(&world, JOB, Some(id));
    let back = third.exit_code().await.expect("curl ends by itself");
    assert_eq!(third.text(), "", "204 has nothing to print");

    let world = World::new(|side| side.route(&format!("{JOBS},max-age=1s"))).await;
    world.app.job("v1").answer(running(1));
    let clean = curl(&world, JOB, None).exit_code().await.expect("curl ends by itself");

    Row {
        client: "`curl -N`",
        heartbeats: heartbeats.try_into().expect("three forms"),
        cut: format!("exit {cut}; `-H 'Last-Event-ID: …'` resumes; nothing lost or twice"),
        clean_end: format!("exit {clean}"),
        job_end: format!("last status, `done`, exit {end}"),
        back: format!("204: exit {back}, no output"),
    }
    .check();
}

/// Such a parser works for streams of bare `data:` lines, so for those that are passed through, and that is where the
/// form of heartbeats decides. On routes it sees nothing, since every event there has an id.
#[tokio::test]
#[ignore = "needs node; tests/run runs it"]
async fn a_parser_written_by_hand() {
    let client = Client::Node("hand_parser.mjs");
    let mut heartbeats = Vec::new();
    let mut ends = Vec::new();
    for (form, is_cut) in [("comment", false), ("comment-block", true), ("event", true)] {
        let flags = [("--heartbeat-form", form), ("--heartbeat-interval", "100ms")];
        let world = World::new(|side| flags.iter().fold(side, |side, (name, value)| side.flag(name, value))).await;
        let feed = world.app.events("/chat");
        let mut watcher = world.watch(&client, "/chat").await;
        let stream = feed.accept().await;
        // A heartbeat may have come already, which takes the first event; the second has none before it.
        stream.send("data: zero\n\ndata: one\n\n").await;
        until_data(&mut watcher, "one").await;
        world.heartbeats(3).await;
        stream.send("data: two\n\ndata: three\n\n").await;
        until_data(&mut watcher, "three").await;
        heartbeats.push(seen_of_heartbeats(&watcher));
        if is_cut {
            world.net.cut(Cut::Rst)
        } else {
            stream.close().await
        }
        ends.push(match watcher.trouble().await {
            Saw::End => "its loop ends",
            _ => "its loop throws",
        });
    }

    let world = World::new(|side| side.route(JOBS)).await;
    world.app.job("v1").answer(completed());
    let mut watcher = world.watch(&client, JOB).await;
    assert_eq!(watcher.trouble().await, Saw::End);
    assert_eq!(watcher.data(), Vec::<String>::new());

    Row {
        client: "a hand-written `split('\\n\\n')`",
        heartbeats: heartbeats.try_into().expect("three forms"),
        cut: format!("{}; it knows no id", ends[1]),
        clean_end: ends[0].to_owned(),
        job_end: "**sees no event of a route**: their blocks begin with `retry:` or `id:`".to_owned(),
        back: "it never comes back".to_owned(),
    }
    .check();
}
