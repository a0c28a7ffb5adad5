//! Flags, their twins in the environment, refusals in one sentence, and the subcommands.

use std::{io::Write, process::Stdio};

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
}

/// Runs the binary to its end with these variables.
async fn run_with(variables: &[(&str, &str)], args: &[&str]) -> Finished {
    let mut child = binary();
    child.args(args).envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(child.spawn().expect("the binary starts")).await
}

/// Who has written no flag looks for none.
#[tokio::test]
async fn what_the_environment_says_wrong_is_named_by_its_variable_too() {
    for (variable, args, sentence) in [
        (
            ("SIDESTREAM_POLL_INTERVAL", "soon"),
            &[][..],
            "invalid value 'soon' for 'SIDESTREAM_POLL_INTERVAL (--poll-interval <TIME>)': a duration is written",
        ),
        (
            ("SIDESTREAM_UPSTREAM", "ftp://x"),
            &["check", "--listen", ":1"],
            "invalid value 'ftp://x' for 'SIDESTREAM_UPSTREAM (--upstream <URL>)': the app",
        ),
        (
            ("SIDESTREAM_NO_GUARD", "maybe"),
            &["check"],
            "invalid value 'maybe' for 'SIDESTREAM_NO_GUARD (--no-guard)': write true or false",
        ),
        (
            ("SIDESTREAM_LOG_FORMAT", "xml"),
            &[],
            "invalid value 'xml' for 'SIDESTREAM_LOG_FORMAT (--log-format <FORMAT>)'",
        ),
        (
            ("SIDESTREAM_ROUTE", "path=/x"),
            &["check"],
            "or subscribe (an event stream of it) (--route is set by SIDESTREAM_ROUTE)\n",
        ),
        (
            ("SIDESTREAM_STALE_AFTER", "2m"),
            &[],
            "so nothing would ever count as stale; make it shorter (--stale-after is set by SIDESTREAM_STALE_AFTER)\n",
        ),
        // The flag wins, so it is the one at fault.
        (
            ("SIDESTREAM_POLL_INTERVAL", "1s"),
            &["--poll-interval", "soon"],
            "invalid value 'soon' for '--poll-interval <TIME>': ",
        ),
    ] {
        let refused = run_with(&[variable], args).await;
        assert_eq!(refused.code, Some(2), "{variable:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(sentence), "{variable:?} should say {sentence:?}: {}", refused.stderr);
    }
}

/// A compose file can't leave a variable out, only empty: `${X:-}`.
#[tokio::test]
async fn an_empty_variable_is_none() {
    let help = run(["--help"]).await.stdout;
    let twins =
        help.split("[env: ").skip(1).map(|rest| rest.split(['=', ']']).next().expect("a split has a first part"));
    let empty: Vec<_> = twins.map(|twin| (twin, "")).collect();
    assert!(empty.len() > 20, "{empty:?}");

    let check = run_with(&empty, &["check"]).await;

    assert_eq!((check.code, check.stdout), (Some(0), run(["check"]).await.stdout), "{}", check.stderr);
    assert_eq!(run_with(&empty, &["--help"]).await.stdout, help);
}

/// It has no effect, and its writer thinks that it has.
#[tokio::test]
async fn a_misspelled_variable_is_warned_of() {
    let sentence = "SIDESTREAM_HEARTBEAT_INTERVALL in the environment means nothing; SIDESTREAM_HEARTBEAT_INTERVAL is probably meant";
    let app = App::start();
    let mut side = Sidestream::before(&app).env("SIDESTREAM_HEARTBEAT_INTERVALL", "5s").start().await;

    let checked = run_with(&[("SIDESTREAM_HEARTBEAT_INTERVALL", "5s"), ("SIDESTREAM_ROUTES", "")], &["check"]).await;
    let others = run_with(&[("SIDESTREAM_SERVICE_HOST", "10.0.0.1"), ("SIDESTREAM_ROUTES", "")], &["check"]).await;

    let line = side.log_line("the warning", |line| line.contains(sentence)).await;
    assert!(line.contains("\"WARN\""), "{line}");
    let words = checked.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(&format!("Warnings {sentence}")) && !words.contains("SIDESTREAM_ROUTES"), "{words}");
    assert!(!others.stdout.contains("SIDESTREAM_"), "{}", others.stdout);
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

/// Where machines read the log, the reason of a failed start is one of its lines; also of one that fails for its routes.
#[tokio::test]
async fn a_start_that_fails_says_so_in_the_form_of_the_log() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = taken.local_addr().expect("an address").to_string();
    let taken = ["--listen", &addr, "--admin-listen", "off"];
    let misrouted = ["--route", "path=/x"];

    for (args, code, word) in [(&taken[..], 1, &*addr), (&misrouted[..], 2, "--route 'path=/x': there is no source")] {
        let failed = run(args.iter().copied().chain(["--log-format", "json"])).await;
        let line = failed.stderr.lines().last().expect("a line");
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{}", failed.stderr));
        assert_eq!((failed.code, &line["level"]), (Some(code), &"ERROR".into()), "{line}");
        assert_eq!(line["message"], "can't start");
        assert!(line["error"].as_str().is_some_and(|error| error.contains(word)), "{line}");

        // A log that is off leaves no reason untold.
        let silent = run(args.iter().copied().chain(["--log-format", "json", "--log", "off"])).await;
        assert_eq!(silent.code, Some(code));
        assert!(silent.stderr.starts_with("error: ") && silent.stderr.contains(word), "{}", silent.stderr);
    }
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
        .stderr(Stdio::piped())
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
