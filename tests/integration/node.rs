//! A real legacy app behind the program: Node, plain `http`, the mistakes of its kind; a real `curl`; a real browser.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::harness::{
    client::{Client, Request},
    eventually,
    node::{NodeApp, repository_file},
    reserve_port,
    sidestream::{Sidestream, finish},
};

const PROGRESS: &str = "path=/api/progress/{id},poll=/api/videos/{id},interval=200ms,max-interval=200ms,linger=200ms";
const NOTIFICATIONS: &str = "path=/api/notifications/sse,subscribe";

/// Starts a video through the sidecar and gives its id.
async fn start_video(side: &Sidestream) -> String {
    let answer = side.request("POST", "/api/videos").body(b"{}").fetch().await;
    assert_eq!(answer.status(), 201, "{}", answer.text());
    let video: Value = serde_json::from_str(&answer.text()).expect("JSON");
    video["id"].as_str().expect("an id").to_owned()
}

fn number(counters: &Value, name: &str) -> i64 {
    counters[name].as_i64().unwrap_or_else(|| panic!("no counter {name}: {counters}"))
}

#[tokio::test]
#[ignore = "needs node and curl; tests/run runs it"]
async fn curl_n_shows_the_contract_from_the_head_to_done() {
    let app = NodeApp::start().await;
    let side = Sidestream::before_addr(app.addr()).route(PROGRESS).route(NOTIFICATIONS).start().await;
    let id = start_video(&side).await;

    let curl = Command::new("curl")
        .args(["-N", "-s", "-S", "-i", "--max-time", "25"])
        .arg(format!("http://{}/api/progress/{id}", side.addr()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("curl is installed (tests/run installs it)");
    let seen = finish(curl).await;

    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    let (head, body) = seen.stdout.split_once("\r\n\r\n").expect("curl -i shows the head");
    let head = head.to_ascii_lowercase();
    for line in ["http/1.1 200 ok", "content-type: text/event-stream", "x-accel-buffering: no", "vary: accept"] {
        assert!(head.lines().any(|it| it == line), "no {line:?} in {head:?}");
    }
    assert!(body.starts_with("retry: "), "{body:?}");
    assert!(body.matches("\"status\":\"processing\"").count() >= 2, "{body}");
    let done = body.split("\n\n").find(|block| block.contains("event: done")).expect("a done block");
    assert!(done.contains(&format!("\"videoUrl\":\"/videos/{id}.mp4\"")), "{done:?}");
    assert!(body.ends_with(&format!("{done}\n\n")), "{body:?}");
}

#[tokio::test]
#[ignore = "needs node; tests/run runs it"]
async fn fifty_tabs_of_one_video_cost_the_app_one_read_per_interval() {
    let app = NodeApp::start().await;
    let side = Sidestream::before_addr(app.addr()).route(PROGRESS).start().await;
    let id = start_video(&side).await;

    let mut tabs = JoinSet::new();
    for _ in 0..50 {
        let request = side.sse(&format!("/api/progress/{id}")).cookie("session=ada");
        tabs.spawn(async move { request.open().await.rest().await.0 });
    }
    for events in tabs.join_all().await {
        assert_eq!(events.last().and_then(|event| event.name.as_deref()), Some("done"));
    }

    // A video takes ten steps of 200 ms and its end one poll more; 50 tabs that poll for themselves would read 500 times
    // and more. The margin is for a machine on which those two seconds take six.
    let reads = number(&app.counters().await, "statusReads");
    assert!((5..=40).contains(&reads), "{reads} reads");
    assert_eq!(number(&app.counters().await, "openControllers"), 0);
}

/// The fault that sidestream exists for, first without it and then with it.
#[tokio::test]
#[ignore = "needs node; tests/run runs it"]
async fn tabs_that_close_no_longer_hit_the_apps_closed_controllers() {
    let app = NodeApp::start().await;
    let side =
        Sidestream::before_addr(app.addr()).route(PROGRESS).route(&format!("{NOTIFICATIONS},greeting=1")).start().await;
    let id = start_video(&side).await;
    let paths = [format!("/api/progress/{id}"), "/api/notifications/sse".to_owned()];

    let mut tabs = Vec::new();
    for path in paths.iter().cycle().take(40) {
        let mut tab = side.sse(path).cookie("session=ada").open().await;
        tab.next_event().await;
        tabs.push(tab);
    }
    let with_tabs = app.counters().await;
    drop(tabs);
    side.until_metric("connections_active", &[], 0.0).await;
    let after = app.counters().await;

    assert_eq!(number(&with_tabs, "openControllers"), 1, "one subscription for twenty tabs");
    assert_eq!(number(&after, "openControllers"), 1, "the subscription lingers");
    assert_eq!(number(&after, "invalidStateErrors"), 0);

    let direct = Request::new(app.addr(), "GET", &paths[0]).open().await;
    direct.reset();
    eventually("the naive app to hit its closed controller", async || {
        (number(&app.counters().await, "invalidStateErrors") > 0).then_some(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs node; tests/run runs it"]
async fn the_notifications_of_two_sessions_stay_apart() {
    let app = NodeApp::start().await;
    let side = Sidestream::before_addr(app.addr()).route(&format!("{NOTIFICATIONS},greeting=1")).start().await;

    for session in ["ada", "bob", "ada", "bob"] {
        let cookie = format!("session={session}");
        let mut tab = side.sse("/api/notifications/sse").cookie(&cookie).open().await;
        let hello = tab.next_event().await.json();
        assert_eq!((&hello["type"], &hello["session"]), (&Value::from("connected"), &Value::from(session)));
    }

    assert_eq!(number(&app.counters().await, "openControllers"), 2);
}

/// An out-of-memory kill of the app: no client loses its stream, and all go on with the new process.
#[tokio::test]
#[ignore = "needs node; tests/run runs it"]
async fn a_sigkill_and_restart_of_the_app_costs_none_of_200_streams() {
    // Nobody else gets the port between its two lives.
    let (_reservation, addr) = reserve_port();
    let app = NodeApp::start_at(addr.port()).await;
    let side = Sidestream::before_addr(app.addr()).route(PROGRESS).route(NOTIFICATIONS).start().await;
    let id = start_video(&side).await;
    let mut opening = JoinSet::new();
    for n in 0..200 {
        let path = if n % 2 == 0 { format!("/api/progress/{id}") } else { "/api/notifications/sse".to_owned() };
        let request = side.sse(&path).cookie(&format!("session={}", n % 20));
        opening.spawn(async move { (n, request.open().await) });
    }
    let mut clients = opening.join_all().await;
    for (_, client) in clients.iter_mut().filter(|(n, _)| n % 2 == 0) {
        client.next_event().await;
    }
    side.until_metric("connections_active", &[], 200.0).await;

    let port = app.kill();
    side.until("the app's death to be felt", |samples| {
        samples.get("upstream_requests_total", &[("outcome", "refused")]) > 0.0
    })
    .await;
    assert_eq!(side.metric("connections_active", &[]).await, 200.0);
    let app = NodeApp::start_at(port).await;

    for (n, client) in &mut clients {
        if *n % 2 == 0 {
            // The video has gone on meanwhile, as jobs of another worker do.
            until_named(client, "done").await;
        } else {
            client.until("the new process's hello", |body| body.contains("connected")).await;
        }
    }
    eventually("one subscription per session again", async || {
        (number(&app.counters().await, "openControllers") == 10).then_some(())
    })
    .await;
}

async fn until_named(client: &mut Client, name: &str) {
    while client.next_event().await.name.as_deref() != Some(name) {}
}

/// A browser without a window, on loopback only.
struct Browser {
    child: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    fn open(url: &str) -> Self {
        let profile = tempfile::tempdir().expect("a temporary directory");
        let child = Command::new(browser_path())
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--disable-extensions", "--metrics-recording-only", "--mute-audio"])
            .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("--remote-debugging-port=0")
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromium is installed (tests/run installs it)");
        Self { child, _profile: profile }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its helper processes end with it; both calls fail only when it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn browser_path() -> String {
    let installed = |path: &&str| Path::new(path).exists();
    let known = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome", "/snap/bin/chromium"];
    let found = known.iter().find(|path| installed(path)).map(|path| (*path).to_owned());
    std::env::var("CHROMIUM").ok().or(found).expect("chromium is installed (tests/run installs it)")
}

/// The page of the app, as it is, in a real browser: it starts a video, follows it, and tells the app what it shows.
async fn page_reaches_the_end(app: &NodeApp, side: &Sidestream) {
    let _browser = Browser::open(&format!("http://{}/#start", side.addr()));
    let shown = eventually("the page to show the end of its video", async || {
        app.counters().await["frontEnd"].as_str().map(str::to_owned)
    })
    .await;
    assert!(shown.starts_with("done: /videos/v1-"), "the page shows {shown:?}");
}

#[tokio::test]
#[ignore = "needs node and chromium; tests/run runs it"]
async fn the_front_end_needs_no_change_behind_a_template() {
    let app = NodeApp::start().await;
    let template = repository_file("tests/apps/node-legacy/progress-template.json");
    let route = format!("{PROGRESS},template={}", template.display());
    let side = Sidestream::before_addr(app.addr()).route(&route).start().await;

    page_reaches_the_end(&app, &side).await;

    assert_eq!(number(&app.counters().await, "invalidStateErrors"), 0);
    assert!(side.metric("events_published_total", &[]).await >= 2.0);
}

#[tokio::test]
#[ignore = "needs node and chromium; tests/run runs it"]
async fn the_front_end_needs_no_change_behind_a_subscription() {
    let app = NodeApp::start().await;
    let side = Sidestream::before_addr(app.addr()).route("path=/api/progress/{id},subscribe").start().await;

    page_reaches_the_end(&app, &side).await;

    assert!(side.metric("events_published_total", &[]).await >= 2.0);
}

/// And without any route at all: forwarding alone must not break what worked.
#[tokio::test]
#[ignore = "needs node and chromium; tests/run runs it"]
async fn the_front_end_needs_no_change_behind_a_plain_pass_through() {
    let app = NodeApp::start().await;
    let side = Sidestream::before_addr(app.addr()).start().await;

    page_reaches_the_end(&app, &side).await;

    assert_eq!(side.metric("connections_opened_total", &[]).await, 1.0);
}
