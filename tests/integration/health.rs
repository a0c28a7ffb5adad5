//! `/livez` and `/readyz` mean it: well under load, not well when something is stuck, and the canary behind them leaves no
//! trace.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use tokio::task::JoinSet;

use crate::harness::{
    PROGRESS, PROGRESS_PATH,
    app::{Answer, App},
    eventually, progress, running, running_text,
    sidestream::{Sidestream, run},
};

async fn asked(side: &Sidestream, path: &str) -> (u16, String) {
    let answer = side.admin(path).header("Connection", "close").fetch().await;
    (answer.status(), answer.text().trim_end().to_owned())
}

async fn until_answered(side: &Sidestream, path: &str, expected: (u16, &str)) {
    let what = format!("{path} to be {expected:?}");
    eventually(&what, async || {
        let (status, text) = asked(side, path).await;
        ((status, text.as_str()) == expected).then_some(())
    })
    .await;
}

/// Waits for so many of the canary's flights more.
async fn flights(side: &Sidestream, more: usize) {
    let count = || side.log_text().matches("the canary is back").count();
    let wanted = count() + more;
    eventually("the canary", async || (count() >= wanted).then_some(())).await;
}

/// It takes the way of every stream, and is in nobody's books: no series, no list, no limit, no request to the app; and
/// its path, seen from outside, is the app's like any other.
#[tokio::test]
async fn the_canary_leaves_no_trace() {
    let app = App::start();
    app.at("/*").answer(Answer::text(404, "the app's own"));
    let mut side = Sidestream::before(&app)
        .route(PROGRESS)
        .flag("--max-connections", "1")
        .flag("--max-connections-per-ip", "1")
        .flag("--max-topics", "1")
        .log("info,sidestream::canary=trace")
        .start()
        .await;
    flights(&side, 2).await;
    let samples = side.metrics().await;
    let stats = side.stats().await;

    // The version and the limits are there from the start; its socket is one, and may have been counted in the flight.
    let is_given =
        |name: &str| ["sidestream_build_info", "sidestream_sockets"].contains(&name) || name.ends_with("_max");
    let moved: Vec<_> = samples.moved().filter(|name| !is_given(name)).collect();
    assert_eq!(moved, Vec::<&str>::new());
    side.until_metric("sockets", &[], 0.0).await;
    assert!(samples.label_values("route").all(|route| !route.contains("canary")));
    assert_eq!((&stats["streams"]["total"], &stats["topics"]["total"]), (&0.into(), &0.into()));
    assert_eq!(stats["routes"].as_array().map(Vec::len), Some(2), "the route and what is forwarded");
    assert!(app.seen().is_empty());
    let forged = side.sse(&format!("/.sidestream/canary/{:032x}", 1)).fetch().await;
    assert_eq!((forged.status(), forged.text().as_str()), (404, "the app's own"));
    side.signal(Signal::TERM);
    assert_eq!(side.wait_exit().await, Some(0));
    assert!(side.log_text().contains("\"drained\""), "{}", side.log_text());
}

/// A busy process is no sick one, or it would be ended when it is needed most.
#[tokio::test]
async fn under_load_it_stays_live_and_ready() {
    let app = App::start();
    let pad = "x".repeat(20_000);
    app.at("/api/videos/*").answer_with(move |seen| {
        Answer::json(&serde_json::json!({"status": "processing", "at": format!("{:?}", seen.at), "pad": pad}))
    });
    let side = Sidestream::before(&app)
        .route(&progress("interval=20ms,max-interval=20ms"))
        .log("info,sidestream::canary=trace")
        .start()
        .await;
    let mut load = JoinSet::new();
    for n in 0..200 {
        let request = side.sse(&format!("/api/progress/v{}", n % 10));
        load.spawn(async move {
            let mut client = request.open().await;
            client.drain().await;
        });
    }
    side.until_metric("connections_active", &[("route", PROGRESS_PATH)], 200.0).await;

    let back = side.log_text().matches("the canary is back").count();
    eventually("four flights under load", async || {
        for path in ["/livez", "/readyz"] {
            let (status, text) = asked(&side, path).await;
            assert_eq!(status, 200, "{path}: {text}");
        }
        (side.log_text().matches("the canary is back").count() >= back + 4).then_some(())
    })
    .await;
    load.abort_all();
}

/// Nobody new can be served, so it is not ready; but those who are there are, so nobody should end it. It is ready again
/// when there are files.
#[tokio::test]
async fn without_a_file_for_a_new_client_it_is_live_and_not_ready() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let mut client = side.sse("/api/progress/v1").open().await;
    client.next_event().await;
    // The admin side's connection is made while there are files: asking goes on when there are none.
    let mut admin = side.admin("/readyz").connect().await;
    let pid = Pid::from_raw(i32::try_from(side.id()).expect("a pid fits")).expect("a pid is not 0");
    assert_eq!(asked_again(&mut admin, &side, "/readyz").await, (200, "ready".to_owned()));
    // The limit is on the number of a new file, and those below are in use: counting the open ones would leave the holes
    // between them.
    let none = Rlimit { current: Some(3), ..getrlimit(Resource::Nofile) };
    let old = prlimit(Some(pid), Resource::Nofile, none).expect("the child is ours");

    let reason = (503, "no file is left for a new connection".to_owned());
    eventually("readyz to say so", async || (asked_again(&mut admin, &side, "/readyz").await == reason).then_some(()))
        .await;
    assert_eq!(asked_again(&mut admin, &side, "/livez").await, (200, "ok".to_owned()));
    app.job("v1").answer(running(2));
    assert_eq!(client.next_event().await.data, Some(running_text(2)));

    prlimit(Some(pid), Resource::Nofile, old).expect("the child is ours");
    until_answered(&side, "/readyz", (200, "ready")).await;
}

/// Asks on a connection that stays.
async fn asked_again(admin: &mut crate::harness::wire::Wire, side: &Sidestream, path: &str) -> (u16, String) {
    admin.send(&side.admin(path).bytes()).await.expect("the admin side takes it");
    let head = admin.head().await.expect("a head").expect("an answer");
    let length: usize = head.header("content-length").and_then(|value| value.parse().ok()).expect("a length");
    let mut body = Vec::new();
    while body.len() < length {
        body.extend(admin.some(length - body.len()).await.expect("the body"));
    }
    let status = head.first_line.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, String::from_utf8_lossy(&body).trim_end().to_owned())
}

/// A thread of the program that is stopped by a debugger's means, until this goes.
struct Stopped(Child);

impl Stopped {
    /// Stops the thread of this name.
    async fn new(side: &Sidestream, name: &str) -> Self {
        let script = "import ctypes, sys\n\
            ptrace = ctypes.CDLL(None).ptrace\n\
            ptrace.argtypes = [ctypes.c_long] * 4\n\
            tid = int(sys.argv[1])\n\
            assert ptrace(0x4206, tid, 0, 0) == 0, 'PTRACE_SEIZE is refused'\n\
            assert ptrace(0x4207, tid, 0, 0) == 0, 'PTRACE_INTERRUPT is refused'\n\
            print('stopped', flush=True)\n\
            sys.stdin.read()\n";
        // A thread takes its name when it first runs.
        let tid = eventually("a thread of this name", async || {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", side.id())).expect("the child runs");
            let mut tids = tasks.flatten().filter_map(|task| task.file_name().into_string().ok());
            tids.find(|tid| {
                let comm = std::fs::read_to_string(format!("/proc/{}/task/{tid}/comm", side.id()));
                comm.is_ok_and(|comm| comm.trim_end() == name)
            })
        })
        .await;
        // Where Yama is on, only root may trace what is not its own child.
        let sudo: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["sudo", "-n"] };
        let words: Vec<_> = sudo.iter().copied().chain(["python3", "-c", script, &tid]).collect();
        let mut tracer = Command::new(words[0])
            .args(&words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is installed, and sudo for who is not root");
        let mut line = String::new();
        let said = BufReader::new(tracer.stdout.take().expect("stdout is piped")).read_line(&mut line);
        assert_eq!((said.is_ok(), line.trim_end()), (true, "stopped"), "may threads be traced here?");
        Self(tracer)
    }
}

impl Drop for Stopped {
    /// The tracer ends with its input, and the kernel lets the thread go with its tracer.
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// The admin side answers, all else runs, and one shard stands still, its streams with it: that is not live.
#[tokio::test]
#[ignore = "needs python3 and root or sudo; tests/run runs it"]
async fn a_shard_that_stands_still_is_not_called_live() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).start().await;
    let stopped = Stopped::new(&side, "shard-0").await;

    until_answered(&side, "/livez", (503, "shard 0 is stuck")).await;
    assert_eq!(asked(&side, "/readyz").await, (503, "shard 0 is stuck".to_owned()));
    let check = run(["healthcheck", "--admin-listen", &side.admin_addr().to_string()]).await;
    assert_eq!(check.code, Some(1));
    assert!(check.stderr.contains("503") && check.stderr.contains("shard 0 is stuck"), "{}", check.stderr);

    drop(stopped);
    until_answered(&side, "/livez", (200, "ok")).await;
    until_answered(&side, "/readyz", (200, "ready")).await;
}
