//! Flags, their twins in the environment, refusals in one sentence, and the subcommands.

use std::io::Write;

use rustix::process::Signal;

use crate::harness::{
    PROGRESS, PROGRESS_PATH,
    app::{Answer, App},
    running, running_text,
    sidestream::{Finished, Sidestream, binary, finish, run},
};

/// Each is refused with exit status 2 and a text that names the flag and the part at fault.
#[tokio::test]
async fn what_makes_no_sense_is_refused_by_name() {
    for (args, named) in [
        (&["--upstream", "ftp://127.0.0.1"][..], &["--upstream", "ftp://127.0.0.1"][..]),
        (&["--upstream", "https://127.0.0.1"], &["--upstream", "https://127.0.0.1"]),
        (&["--listen", "nowhere"], &["--listen", "nowhere"]),
        (&["--heartbeat-interval", "15"], &["--heartbeat-interval", "15"]),
        (&["--heartbeat-interval", "0s"], &["--heartbeat-interval"]),
        (&["--poll-interval", "soon"], &["--poll-interval", "soon"]),
        (&["--heartbeat-form", "loud"], &["--heartbeat-form", "loud"]),
        (&["--max-connections", "lots"], &["--max-connections"]),
        (&["--credential-header", "not a header"], &["--credential-header", "not a header"]),
        (&["--trusted-proxy", "10.0.0.0/99"], &["--trusted-proxy", "10.0.0.0/99"]),
        (&["--log-format", "xml"], &["--log-format", "xml"]),
        (&["--no-such-flag"], &["--no-such-flag"]),
        (&["--route", "path=/a/{id}"], &["--route", "path=/a/{id}"]),
        (&["--route", "poll=/b"], &["--route", "path"]),
        (&["--route", "path=/a/{id},poll=/b/{job}"], &["--route", "{job}"]),
        (&["--route", "path=/a/{id},poll=/b,subscribe=/c"], &["--route", "poll", "subscribe"]),
        (&["--route", "path=/a/{id},poll=/b/{id},colour=red"], &["--route", "colour"]),
        (&["--route", "path=/a/{id},poll=/b/{id},interval=often"], &["--route", "interval", "often"]),
        (&["--route", "path=/a/{id},poll=/b/{id},share=everyone"], &["--route", "share", "everyone"]),
        (&["--route", "path=/a/{id},poll=/b/{id},replay=latest"], &["--route", "replay"]),
        (&["--route", "path=a,poll=/b"], &["--route", "path"]),
        (&["--route", "path=/a/{id}/{id},poll=/b/{id}"], &["--route", "id"]),
        (&["--route", "path=/a,path=/b,poll=/c"], &["--route", "path"]),
        (&["--route", "path=/a,poll=/b,template=/no/such/file.json"], &["--route", "/no/such/file.json"]),
        (&["--route", "path=/a/{id},poll=/b/{id}", "--route", "path=/a/{x},poll=/c/{x}"], &["--route", "/a/{x}"]),
        (&["--stale-after", "60s", "--reap-after", "10s"], &["--reap-after"]),
        (&["--poll-interval", "10s", "--poll-max-interval", "1s"], &["--poll-max-interval"]),
    ] {
        let Finished { code, stderr, .. } = run(args.iter().copied()).await;

        assert_eq!(code, Some(2), "{args:?}: {stderr}");
        for part in named {
            assert!(stderr.contains(part), "{args:?} should name {part:?}: {stderr}");
        }
        assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    }
}

#[tokio::test]
async fn every_flag_has_a_twin_in_the_environment_and_the_flag_wins() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app)
        .env("SIDESTREAM_ROUTE", PROGRESS)
        .env("SIDESTREAM_RETRY", "60s")
        .env("SIDESTREAM_HEARTBEAT_INTERVAL", "100ms")
        .env("SIDESTREAM_HEARTBEAT_FORM", "comment-block")
        .flag("--heartbeat-form", "event")
        .start()
        .await;

    let mut client = side.sse("/api/progress/v1").open().await;
    let first = client.next_event().await;
    let ping = client.next_event().await;

    assert!(first.retry.is_some_and(|retry| retry >= 40_000), "{first:?}");
    assert_eq!(first.data, Some(running_text(1)));
    assert_eq!(ping.name.as_deref(), Some("ping"));

    let mut child = binary();
    child.env("SIDESTREAM_POLL_INTERVAL", "soon").stdout(std::process::Stdio::piped());
    let refused = finish(child.stderr(std::process::Stdio::piped()).spawn().expect("the binary starts")).await;
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("soon"), "{}", refused.stderr);
}

#[tokio::test]
async fn help_names_every_flag_with_its_default() {
    let help = run(["--help"]).await;

    assert_eq!(help.code, Some(0));
    for flag in [
        "--listen",
        "--upstream",
        "--admin-listen",
        "--route",
        "--heartbeat-interval",
        "--heartbeat-form",
        "--retry",
        "--max-age",
        "--linger",
        "--poll-interval",
        "--poll-max-interval",
        "--poll-timeout",
        "--poll-concurrency",
        "--not-found-grace",
        "--credential-header",
        "--max-connections",
        "--max-connections-per-ip",
        "--max-topics",
        "--stale-after",
        "--reap-after",
        "--drain",
        "--trusted-proxy",
        "--no-guard",
        "--log-format",
        "--log",
        "SIDESTREAM_POLL_INTERVAL",
        "0.0.0.0:8080",
        "http://127.0.0.1:3000",
        "127.0.0.1:9180",
        "10000",
    ] {
        assert!(help.stdout.contains(flag), "--help does not name {flag}");
    }
    for command in ["demo", "check", "healthcheck"] {
        assert!(help.stdout.contains(command), "--help does not name {command}");
    }
    assert_eq!(run(["--version"]).await.code, Some(0));
}

#[tokio::test]
async fn check_says_what_each_route_does_and_starts_nothing() {
    let routes =
        ["--route", "path=/api/progress/{id},poll=/api/videos/{id}", "--route", "path=/n,subscribe,share=public"];

    let fine = run(routes.iter().copied().chain(["check"])).await;
    let fine = if fine.code == Some(2) { run(["check"].into_iter().chain(routes)).await } else { fine };
    let broken = run(["check", "--route", "path=/a"]).await;

    assert_eq!(fine.code, Some(0), "{}", fine.stderr);
    for word in ["/api/progress/{id}", "/api/videos/{id}", "/n"] {
        assert!(fine.stdout.contains(word), "check does not name {word}: {}", fine.stdout);
    }
    assert_eq!(broken.code, Some(2), "{}", broken.stderr);
}

#[tokio::test]
async fn healthcheck_asks_the_admin_side() {
    let app = App::start();
    let side = Sidestream::before(&app).start().await;
    let admin = side.admin_addr().to_string();

    let healthy = run(["healthcheck", "--admin-listen", &admin]).await;
    drop(side);
    let gone = run(["healthcheck", "--admin-listen", &admin]).await;

    assert_eq!(healthy.code, Some(0), "{}", healthy.stderr);
    assert_eq!(gone.code, Some(1), "{}", gone.stderr);
}

/// The public side answers for the app, and an app may answer 200 to anything.
#[tokio::test]
async fn healthcheck_at_the_public_side_is_no_sign_of_health() {
    let app = App::start();
    app.at("/livez").answer(Answer::text(200, "ok\n"));
    let side = Sidestream::before(&app).start().await;

    let asked = run(["healthcheck", "--admin-listen", &side.addr().to_string()]).await;

    assert_eq!(asked.code, Some(1), "{}", asked.stderr);
    assert!(asked.stderr.contains("is not the admin side of a sidestream"), "{}", asked.stderr);
    assert_eq!(app.at("/livez").count(), 1);
}

#[tokio::test]
async fn an_address_in_use_is_a_run_time_failure_that_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = taken.local_addr().expect("an address").to_string();

    let failed = run(["--listen", &addr, "--admin-listen", "off"]).await;

    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    assert!(failed.stderr.contains(&addr), "{}", failed.stderr);
}

/// Two public addresses, and the same for a route given twice in the environment's way.
#[tokio::test]
async fn listen_may_be_given_twice() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let mut side = Sidestream::before(&app).route(PROGRESS).flag("--listen", "127.0.0.1:0").start().await;

    let first = side.addr().to_string();
    let line = side
        .log_line("the second address", |line| {
            line.contains("\"listening\"") && line.contains("\"public\"") && !line.contains(&first)
        })
        .await;
    let line: serde_json::Value = serde_json::from_str(&line).expect("the log is JSON");
    let second = line["addr"].as_str().and_then(|addr| addr.parse().ok()).expect("an address");
    let request = crate::harness::client::Request::new(second, "GET", "/api/progress/v1");
    let event = request.header("Accept", "text/event-stream").open().await.next_event().await;

    assert_eq!(event.data, Some(running_text(1)));
}

/// A comma inside a value is written `\,`.
#[tokio::test]
async fn a_comma_in_a_route_value_is_escaped() {
    let app = App::start();
    app.at("/status/a,b").answer(running(1));
    let side = Sidestream::before(&app).route(r"path=/x\,y,poll=/status/a\,b,interval=50ms").start().await;

    let event = side.sse("/x,y").open().await.next_event().await;

    assert_eq!(event.data, Some(running_text(1)));
}

/// The template file is read at the start; what is wrong in it is said then.
#[tokio::test]
async fn a_broken_template_is_refused_at_the_start() {
    for text in ["{not json", r#"{"a":"$no-slash"}"#] {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(text.as_bytes()).expect("the file can be written");
        let route = format!("path=/a/{{id}},poll=/b/{{id}},template={}", file.path().display());

        let refused = run(["--route", &route]).await;

        assert_eq!(refused.code, Some(2), "{text}: {}", refused.stderr);
        assert!(refused.stderr.contains("template"), "{text}: {}", refused.stderr);
    }
}

/// The text log is for people: the message, and the address, without braces.
#[tokio::test]
async fn the_text_log_says_where_it_listens() {
    let app = App::start();
    let mut child = binary()
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "off", "--log", "info", "--upstream"])
        .arg(format!("http://{}", app.addr()))
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let stderr = child.stderr.take().expect("stderr is piped");
    let read = tokio::task::spawn_blocking(move || {
        use std::io::BufRead;
        let lines = std::io::BufReader::new(stderr).lines().map_while(Result::ok);
        lines.take(50).find(|line| line.contains("listening"))
    });
    let line = crate::harness::within("a line about listening", read).await.expect("the reading thread lives");
    child.kill().expect("the child is ours");
    child.wait().expect("the child can be waited for");

    let line = line.expect("the program says where it listens");
    assert!(line.contains("127.0.0.1:") && !line.starts_with('{'), "{line}");
}

/// The demo needs nothing else: a page, jobs that stream, a dashboard, and an orderly end.
#[tokio::test]
async fn the_demo_runs_by_itself() {
    let mut demo = Sidestream::demo().start().await;
    let page = demo.get("/").header("Accept", "text/html").fetch().await;
    let request = demo.request("POST", "/api/videos").header("Content-Type", "application/json");
    let started =
        request.header("Origin", &format!("http://{}", demo.addr())).body(b"{\"kind\":\"quick\"}").fetch().await;
    assert_eq!(started.status(), 201, "{}", started.text());
    let video: serde_json::Value = serde_json::from_str(&started.text()).expect("JSON");
    let id = video["id"].as_str().expect("an id");

    let mut stream = demo.sse(&format!("/api/progress/{id}")).open().await;
    let event = stream.next_event().await;
    let dashboard = demo.admin("/").header("Connection", "close").fetch().await;
    demo.signal(Signal::TERM);

    assert_eq!(page.status(), 200);
    assert!(page.header("content-type").is_some_and(|value| value.starts_with("text/html")));
    assert_eq!(event.json()["id"], id);
    assert_eq!(dashboard.status(), 200);
    stream.read_to_end().await;
    assert_eq!(demo.wait_exit().await, Some(0));
}

/// The label of a route is its pattern, as the operator wrote it.
#[tokio::test]
async fn a_route_is_known_by_its_pattern() {
    let app = App::start();
    let side = Sidestream::before(&app).route(PROGRESS).start().await;

    assert_eq!(side.metric("connections_opened_total", &[("route", PROGRESS_PATH)]).await, 0.0);
    assert!(side.stats().await.to_string().contains(PROGRESS_PATH));
}
