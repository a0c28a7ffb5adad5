//! Clients that are slow on purpose, by the tool that is made for it: `slowhttptest`, some hundreds at once. The others
//! are served meanwhile, and nothing is left of them.

use std::process::{Child, Command, Stdio};

use crate::harness::{
    PROGRESS,
    app::{Answer, App},
    client::Client,
    eventually, running, running_text,
    sidestream::Sidestream,
};

/// How many at once.
const CLIENTS: usize = 300;

/// The tool with this kind of slowness, for longer than the test takes; it is ended with it.
fn slowhttptest(side: &Sidestream, target: &str, args: &[&str]) -> Child {
    let clients = CLIENTS.to_string();
    Command::new("slowhttptest")
        .args(["-c", &clients, "-r", &clients, "-l", "30", "-p", "5", "-v", "0", "-u"])
        .arg(format!("http://{}{target}", side.addr()))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("slowhttptest is installed (tests/run installs it)")
}

/// Another client's stream gets every change, and a newcomer is served.
async fn others_are_served(app: &App, side: &Sidestream, stream: &mut Client, from: u32) {
    for progress in from..from + 5 {
        app.job("v1").answer(running(progress));
        while stream.next_event().await.data != Some(running_text(progress)) {}
    }
    assert_eq!(side.get("/page").header("Connection", "close").fetch().await.status(), 200);
    side.sse("/api/progress/v1").open().await.next_event().await;
}

async fn slowness_harms_nobody(target: &str, args: &[&str], flags: &[(&str, &str)], ends_early: bool) {
    let app = App::start();
    app.job("v1").answer(running(1));
    app.at("/page").answer(Answer::text(200, "x"));
    app.at("/large").answer(Answer::filler(8 << 20));
    let mut builder = Sidestream::before(&app).route(PROGRESS);
    for (name, value) in flags {
        builder = builder.flag(name, value);
    }
    let side = builder.start().await;
    let mut stream = side.sse("/api/progress/v1").open().await;
    others_are_served(&app, &side, &mut stream, 10).await;
    let (files, memory) = (side.open_files(), side.memory("VmRSS"));

    let mut attack = slowhttptest(&side, target, args);
    eventually("the slow clients to be there", async || (side.open_files() >= files + CLIENTS * 9 / 10).then_some(()))
        .await;
    others_are_served(&app, &side, &mut stream, 20).await;
    let grown = side.memory("VmRSS").saturating_sub(memory);
    // A head and its buffer, twice over; a slow reader costs hyper's buffers on both sides.
    assert!(grown < 300 * CLIENTS as u64, "{grown} KiB for {CLIENTS} slow clients");
    if ends_early {
        eventually("the slow clients to be sent away", async || (side.open_files() < files + 20).then_some(())).await;
        assert!(attack.try_wait().expect("it can be waited for").is_none(), "the tool ended them by itself");
    }
    others_are_served(&app, &side, &mut stream, 30).await;

    // Both fail only when it has ended already.
    let _ = attack.kill();
    let _ = attack.wait();
    eventually("nothing to be left of them", async || (side.open_files() < files + 20).then_some(())).await;
    others_are_served(&app, &side, &mut stream, 40).await;
}

#[tokio::test]
#[ignore = "needs slowhttptest; tests/run runs it"]
async fn slow_heads_are_sent_away_and_harm_nobody() {
    let flags = [("--head-timeout", "2s")];
    slowness_harms_nobody("/page", &["-H", "-i", "1", "-x", "24", "-t", "GET"], &flags, true).await;
}

#[tokio::test]
#[ignore = "needs slowhttptest; tests/run runs it"]
async fn slow_bodies_harm_nobody() {
    slowness_harms_nobody("/page", &["-B", "-i", "1", "-x", "24", "-s", "8192", "-t", "POST"], &[], false).await;
}

#[tokio::test]
#[ignore = "needs slowhttptest; tests/run runs it"]
async fn slow_readers_of_downloads_harm_nobody() {
    slowness_harms_nobody("/large", &["-X", "-n", "1", "-w", "512", "-y", "1024", "-z", "32", "-t", "GET"], &[], false)
        .await;
}
