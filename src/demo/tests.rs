//! The app over real sockets, with a client that holds its connections, as the sidecar does.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::session::Session;
use super::*;

/// A generous end to every wait: only a test that fails gets there.
const DEADLINE: Duration = Duration::from_secs(30);

/// The times of a demo that is watched by a test: a quick job takes 70 ms.
const HURRIED: Pace = Pace {
    speed: 100,
    downtime: Duration::from_millis(50),
    count_every: Duration::from_millis(10),
    look_every: Duration::from_millis(5),
    heartbeat: Duration::from_millis(50),
};

/// A running app and a client of it.
struct Running {
    addr: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    cookie: Option<String>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

// === impl Running ===

impl Running {
    async fn start(pace: Pace) -> Self {
        Self::watched_by(pace, 0).await
    }

    async fn watched_by(pace: Pace, streams: u64) -> Self {
        let app = DemoApp::bind_with(pace).await.unwrap();
        let (addr, shutdown) = (app.addr(), CancellationToken::new());
        let task = tokio::spawn(app.run(shutdown.clone(), Arc::new(move || streams)));
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { addr, client, cookie: None, shutdown, task }
    }

    /// A second user of the same app.
    fn another_user(&self) -> Self {
        Self {
            addr: self.addr,
            client: self.client.clone(),
            cookie: Some(Session::fresh().cookie()),
            shutdown: self.shutdown.clone(),
            task: tokio::spawn(async {}),
        }
    }

    async fn send(&self, method: Method, path: &str, kind: Option<&str>, body: &str) -> Response<Incoming> {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.addr));
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie.split(';').next().unwrap());
        }
        let request = request.body(Full::from(body.to_owned())).unwrap();
        timeout(DEADLINE, self.client.request(request)).await.expect("an answer in time").expect("an answer")
    }

    async fn get(&self, path: &str) -> Response<Incoming> {
        self.send(Method::GET, path, None, "").await
    }

    async fn get_json(&self, path: &str) -> Value {
        json_body(self.get(path).await).await
    }

    async fn start_job(&self, kind: &str) -> Value {
        let body = format!(r#"{{"kind":"{kind}"}}"#);
        let response = self.send(Method::POST, "/api/videos", Some("application/json"), &body).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        json_body(response).await
    }

    /// Asks for the job again and again, as the front end of such an app would, until `wanted` is its status.
    async fn statuses_until(&self, id: &str, wanted: &str) -> Vec<Value> {
        let ask = async {
            let mut seen = Vec::new();
            while seen.last().is_none_or(|last: &Value| last["status"] != wanted) {
                seen.push(self.get_json(&format!("/api/videos/{id}")).await);
            }
            seen
        };
        timeout(DEADLINE, ask).await.expect("the job gets there")
    }

    async fn restart(&self) {
        let response = self.send(Method::POST, "/api/demo/restart", Some("application/json"), "{}").await;
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        json_body(response).await;
    }

    async fn end(self) {
        self.shutdown.cancel();
        timeout(DEADLINE, self.task).await.expect("the app ends in time").expect("the app does not panic");
    }
}

async fn json_body(response: Response<Incoming>) -> Value {
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

/// The next piece of an event stream that holds an event.
async fn next_event(body: &mut Incoming) -> Value {
    loop {
        let frame = timeout(DEADLINE, body.frame()).await.expect("a frame in time").expect("no end").expect("no cut");
        let text = String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
        if let Some(data) = text.strip_prefix("data: ") {
            return serde_json::from_str(data.trim_end()).unwrap();
        }
    }
}

#[tokio::test]
async fn a_started_job_can_be_asked_for_until_it_is_completed() {
    let app = Running::start(HURRIED).await;

    let job = app.start_job("quick").await;
    assert_eq!((&job["kind"], &job["status"]), (&Value::from("quick"), &Value::from("queued")));
    let seen = app.statuses_until(job["id"].as_str().unwrap(), "completed").await;

    let last = seen.last().unwrap();
    assert_eq!(last["progress"], 100);
    assert_eq!(last["videoUrl"], "/videos/v1.mp4");
    assert!(seen.iter().all(|status| status["id"] == job["id"] && status["title"] == job["title"]));
    app.end().await;
}

#[tokio::test]
async fn a_failing_job_says_why_and_has_no_video() {
    let app = Running::start(HURRIED).await;

    let job = app.start_job("failing").await;
    let seen = app.statuses_until(job["id"].as_str().unwrap(), "failed").await;

    let last = seen.last().unwrap();
    assert_eq!(last["progress"], 63);
    assert_eq!(last["message"], "The encoder ran out of disk space");
    assert_eq!(last.get("videoUrl"), None);
    app.end().await;
}

#[tokio::test]
async fn an_unknown_job_is_not_found() {
    let app = Running::start(HURRIED).await;
    for path in ["/api/videos/v1", "/api/videos/", "/api/videos/v1/x", "/nothing"] {
        assert_eq!(app.get(path).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
    app.end().await;
}

// Only JSON is taken: a form on a foreign page, which a browser sends without asking us, must start and stop nothing.
#[tokio::test]
async fn what_a_foreign_page_could_send_is_refused() {
    let app = Running::start(HURRIED).await;
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
        for path in ["/api/videos", "/api/demo/restart"] {
            let response = app.send(Method::POST, path, kind, r#"{"kind":"quick"}"#).await;
            assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{path} {kind:?}");
        }
    }
    assert_eq!(app.get_json("/api/videos").await, Value::Array(Vec::new()));
    assert_eq!(app.get_json("/api/demo/stats").await["restarts"], 0);
    app.end().await;
}

#[tokio::test]
async fn a_job_that_makes_no_sense_is_refused_with_a_sentence() {
    let app = Running::start(HURRIED).await;
    let long = format!(r#"{{"kind":"quick","title":"{}"}}"#, "x".repeat(2000));
    for (body, status) in [
        (r#"{"kind":"fast"}"#, StatusCode::BAD_REQUEST),
        ("", StatusCode::BAD_REQUEST),
        (long.as_str(), StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let response = app.send(Method::POST, "/api/videos", Some("application/json"), body).await;
        assert_eq!(response.status(), status, "{body:.40}");
        assert!(json_body(response).await["error"].is_string());
    }
    app.end().await;
}

#[tokio::test]
async fn a_known_path_names_the_methods_it_answers() {
    let app = Running::start(HURRIED).await;
    for (path, allowed) in
        [("/", "GET"), ("/api/videos", "GET, POST"), ("/api/videos/v1", "GET, DELETE"), ("/api/demo/restart", "POST")]
    {
        let response = app.send(Method::PUT, path, None, "").await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(response.headers()[header::ALLOW], allowed, "{path}");
    }
    app.end().await;
}

#[tokio::test]
async fn only_requests_for_the_status_of_one_job_are_counted() {
    let app = Running::start(HURRIED).await;
    app.start_job("stuck").await;
    for path in ["/", "/app.js", "/api/videos", "/api/videos/v1", "/api/videos/v1", "/api/videos/v2", "/api/demo/stats"]
    {
        app.get(path).await;
    }
    assert_eq!(app.get_json("/api/demo/stats").await["statusReads"], 3);
    app.end().await;
}

#[tokio::test]
async fn each_open_progress_stream_counts_as_one_request_per_turn() {
    let app = Running::watched_by(HURRIED, 7).await;

    let stats = timeout(DEADLINE, async {
        loop {
            let stats = app.get_json("/api/demo/stats").await;
            if stats["statusReadsWithoutSidecar"].as_u64().unwrap() > 20 {
                break stats;
            }
        }
    });

    let stats = stats.await.expect("the streams are counted again and again");
    assert_eq!(stats["statusReadsWithoutSidecar"].as_u64().unwrap() % 7, 0);
    assert_eq!(stats["progressStreams"], 7);
    assert_eq!(stats["statusReads"], 0);
    app.end().await;
}

#[tokio::test]
async fn a_user_is_told_when_a_job_starts_ends_and_is_removed() {
    let app = Running::start(HURRIED).await;
    let response = app.get("/api/notifications/sse").await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut stream = response.into_body();

    app.start_job("quick").await;
    let started = next_event(&mut stream).await;
    assert_eq!((&started["type"], &started["video"]["id"]), (&Value::from("video-started"), &Value::from("v1")));

    let ended = next_event(&mut stream).await;
    assert_eq!((&ended["type"], &ended["video"]["status"]), (&Value::from("video-ended"), &Value::from("completed")));

    let removed = app.send(Method::DELETE, "/api/videos/v1", None, "").await;
    assert_eq!(removed.status(), StatusCode::NO_CONTENT);
    let gone = next_event(&mut stream).await;
    assert_eq!((&gone["type"], &gone["video"]["id"]), (&Value::from("video-removed"), &Value::from("v1")));
    app.end().await;
}

#[tokio::test]
async fn a_user_is_told_nothing_of_the_jobs_of_another() {
    let app = Running::start(HURRIED).await;
    let other = app.another_user();
    let mut stream = other.get("/api/notifications/sse").await.into_body();

    app.start_job("stuck").await;
    other.start_job("stuck").await;

    // Both jobs are in the library by now, so the first news would be of the other's, were it told at all.
    assert_eq!(next_event(&mut stream).await["video"]["id"], "v2");
    assert_eq!(other.get_json("/api/videos").await.as_array().unwrap().len(), 1);
    app.end().await;
}

#[tokio::test]
async fn a_quiet_notification_stream_says_hello_and_then_pings() {
    let app = Running::start(HURRIED).await;
    let mut stream = app.get("/api/notifications/sse").await.into_body();
    for expected in [": hello\n\n", ": ping\n\n", ": ping\n\n"] {
        let frame = timeout(DEADLINE, stream.frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), expected);
    }
    app.end().await;
}

#[tokio::test]
async fn the_count_of_notification_streams_returns_to_zero_when_they_are_left() {
    let app = Running::start(HURRIED).await;
    let streams = [app.get("/api/notifications/sse").await, app.get("/api/notifications/sse").await];
    assert_eq!(app.get_json("/api/demo/stats").await["notificationStreams"], 2);

    drop(streams);

    let zero = async { while app.get_json("/api/demo/stats").await["notificationStreams"] != 0 {} };
    timeout(DEADLINE, zero).await.expect("the app notices that the streams are left");
    app.end().await;
}

#[tokio::test]
async fn a_restart_cuts_the_streams_refuses_connections_and_keeps_the_jobs() {
    let downtime = Duration::from_millis(500);
    let app = Running::start(Pace { downtime, ..HURRIED }).await;
    app.start_job("stuck").await;
    let mut stream = app.get("/api/notifications/sse").await.into_body();

    app.restart().await;

    // The stream is cut in the middle of its body, not ended.
    let cut = async { while let Some(Ok(_)) = stream.frame().await {} };
    timeout(DEADLINE, cut).await.expect("the stream is cut");
    let refused = TcpStream::connect(app.addr).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    let back = async { while TcpStream::connect(app.addr).await.is_err() {} };
    timeout(DEADLINE, back).await.expect("the app comes back on the same address");

    assert_eq!(app.get_json("/api/videos/v1").await["kind"], "stuck");
    assert_eq!(app.get_json("/api/demo/stats").await["restarts"], 1);
    app.restart().await;
    app.end().await;
}

#[tokio::test]
async fn the_end_of_the_app_leaves_no_connection_and_no_listener() {
    let app = Running::start(HURRIED).await;
    let addr = app.addr;
    let mut stream = app.get("/api/notifications/sse").await.into_body();

    app.end().await;

    let cut = async { while let Some(Ok(_)) = stream.frame().await {} };
    timeout(DEADLINE, cut).await.expect("the stream is cut");
    TcpStream::connect(addr).await.unwrap_err();
}

#[tokio::test]
async fn the_page_gives_out_a_session_once_and_forbids_all_but_itself() {
    let mut app = Running::start(HURRIED).await;
    let response = app.get("/").await;
    assert!(response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().starts_with("default-src 'none';"));
    let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap().to_owned();

    app.cookie = Some(cookie);

    assert_eq!(app.get("/").await.headers().get(header::SET_COOKIE), None);
    app.end().await;
}

// The page must work where there is no network, and under its own policy, which allows nothing inline.
#[test]
fn the_page_asks_nobody_else_and_has_nothing_inline() {
    let (page, script, style) = (include_str!("page.html"), include_str!("app.js"), include_str!("app.css"));
    for text in [page, script, style] {
        for foreign in ["http://", "https://", "src=\"//", "@import", "url("] {
            assert!(!text.contains(foreign), "{foreign}");
        }
    }
    for inline in ["<style", " style=", " onclick=", "javascript:", "<script>"] {
        assert!(!page.contains(inline), "{inline}");
    }
    for file in ["/app.js", "/app.css", "/icon.svg"] {
        assert!(page.contains(&format!("\"{file}\"")), "{file}");
    }
}

// A slip in an id would show as a dead button only.
#[test]
fn every_element_the_script_looks_for_is_on_the_page() {
    let (page, script) = (include_str!("page.html"), include_str!("app.js"));
    let ids: Vec<_> = script.split("byId('").skip(1).filter_map(|rest| rest.split('\'').next()).collect();
    assert!(ids.len() > 20);
    for id in ids {
        assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
    }
}

#[tokio::test]
async fn the_dashboards_address_reaches_the_page() {
    let app = DemoApp::bind_with(HURRIED).await.unwrap().with_dashboard("http://127.0.0.1:9180/".to_owned());
    assert_eq!(app.api.dashboard.as_deref(), Some("http://127.0.0.1:9180/"));
}
