//! `curl -N`, and the parser that people write themselves: clients without a library, so what they see is the wire.

use std::process::Command;

use super::{
    PATIENCE,
    cutter::Cut,
    driver::Driver,
    matrix::Row,
    rows::{FEED, FEEDS, JOB, JOBS},
    world::World,
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
        world.net.cut(Cut::Fin);
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
