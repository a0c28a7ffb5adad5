//! Event streams of libraries that nobody here wrote, as the sources of subscribe routes: npm `better-sse` on Node's http,
//! PyPI `sse-starlette` under uvicorn and hypercorn, with CRLF line ends and comments of its own.

use std::{process::Command, sync::Arc};

use serde_json::{Value, json};

use super::driver::{Driver, node, python};
use crate::harness::{
    client::{Client, End, Event, Request},
    node::repository_file,
    reserve_port,
    sidestream::Sidestream,
};

const EVENTS: &str = "path=/events,subscribe,linger=60s,heartbeat=100ms";

#[derive(Clone, Copy, Debug)]
enum Server {
    BetterSse,
    StarletteUvicorn,
    StarletteHypercorn,
}

/// A running app.
struct Upstream {
    driver: Arc<Driver>,
    port: u16,
    streams: usize,
}

#[tokio::test]
#[ignore = "needs node; tests/run runs it"]
async fn better_sse_is_a_source() {
    is_a_source(Server::BetterSse).await;
}

#[tokio::test]
#[ignore = "needs python3; tests/run runs it"]
async fn sse_starlette_under_uvicorn_is_a_source() {
    is_a_source(Server::StarletteUvicorn).await;
}

#[tokio::test]
#[ignore = "needs python3; tests/run runs it"]
async fn sse_starlette_under_hypercorn_is_a_source() {
    is_a_source(Server::StarletteHypercorn).await;
}

/// Most apps say something at once, in one packet with the head, and a front end waits for it.
#[tokio::test]
#[ignore = "needs node and python3; tests/run runs it"]
async fn the_first_event_reaches_the_client_that_made_the_stream_open() {
    for server in [Server::BetterSse, Server::StarletteUvicorn, Server::StarletteHypercorn] {
        let upstream = Upstream::start(server, 0).await;
        let side = Sidestream::before_addr(([127, 0, 0, 1], upstream.port).into()).route(EVENTS).start().await;

        let users = (0..10).map(|user| side.sse("/events").cookie(&format!("session={user}")));
        let users = futures_util::future::join_all(users.map(|request| async move {
            let first = request.open().await.next_event().await;
            assert_eq!(first.json(), json!({"type": "connected"}), "{server:?}");
        }));
        users.await;
    }
}

/// No route names it, so it is passed through: its own bytes, line ends included, and our heartbeats between its events.
#[tokio::test]
#[ignore = "needs node and python3; tests/run runs it"]
async fn behind_the_guard_their_streams_stay_their_own() {
    for server in [Server::BetterSse, Server::StarletteUvicorn, Server::StarletteHypercorn] {
        let upstream = Upstream::start_with(server, 0, Some("quiet")).await;
        let addr = ([127, 0, 0, 1], upstream.port).into();
        let side = Sidestream::before_addr(addr).flag("--heartbeat-interval", "100ms").start().await;
        let mut direct = Request::new(addr, "GET", "/events").header("Accept", "text/event-stream").open().await;
        let mut guarded = side.sse("/events").open().await;
        let content_type = guarded.header("content-type").expect("a stream has a type");
        assert!(content_type.starts_with("text/event-stream"), "{server:?}: {content_type}");
        assert_eq!(guarded.header("x-accel-buffering"), Some("no"));

        for (n, text) in ["one", "two\nlines", "three é"].into_iter().enumerate() {
            guarded.until("heartbeats", |body| body.ends_with(":\n:\n")).await;
            upstream.order(&json!({"push": text, "id": n.to_string(), "name": "progress"}));
            let is_whole = |body: &str| body.contains(&format!("id: {n}\r\n")) || body.contains(&format!("id:{n}\n"));
            direct.until("the event", is_whole).await;
            guarded.until("the event", is_whole).await;
        }
        guarded.until("heartbeats behind the last event", |body| body.ends_with(":\n:\n")).await;
        let heartbeats = |text: &str| text.split_inclusive('\n').filter(|line| *line != ":\n").collect::<String>();
        direct.until("the same", |body| body == heartbeats(&guarded.text())).await;

        drop(guarded);
        upstream.driver.find("the app to learn that its reader has left", 0, |line| line["saw"] == "left").await;
    }
}

/// Names, ids, data of several lines, foreign comments, a killed and restarted app, an end.
async fn is_a_source(server: Server) {
    // Nobody else gets the port between the app's two lives.
    let (_reservation, addr) = reserve_port();
    let mut upstream = Upstream::start(server, addr.port()).await;
    let side = Sidestream::before_addr(([127, 0, 0, 1], upstream.port).into()).route(EVENTS).start().await;
    let mut client = side.sse("/events").open().await;
    assert_eq!(upstream.stream().await, "");

    upstream.order(&json!({"push": {"n": 1}, "id": "one"}));
    upstream.order(&json!({"push": "two\nlines, é", "id": "two", "name": "progress"}));
    let one = news(&mut client).await;
    assert_eq!((one.id(), one.json()), ("one", json!({"n": 1})));
    // better-sse names every event, also those that are plain messages; to an EventSource that is the same.
    assert!(matches!(one.name.as_deref(), None | Some("message")), "{one:?}");
    let two = news(&mut client).await;
    assert_eq!((two.id(), two.name.as_deref()), ("two", Some("progress")));
    let text = "two\nlines, é";
    let expected = if matches!(server, Server::BetterSse) { json!(text).to_string() } else { text.to_owned() };
    assert_eq!(two.data.as_deref(), Some(expected.as_str()));

    // Two of our heartbeats are ten of the app's pings.
    let before = client.text().len();
    client.until("heartbeats", |body| body[before..].matches(":\n").count() >= 2).await;
    assert!(client.text().lines().all(|line| !line.starts_with(':') || line == ":"), "{:?}", client.text());
    assert!(!client.text().contains('\r'));

    let port = upstream.kill();
    let mut upstream = Upstream::start(server, port).await;
    assert_eq!(upstream.stream().await, "two");
    upstream.order(&json!({"push": {"n": 3}, "id": "three"}));
    assert_eq!(news(&mut client).await.id(), "three");

    // The app's last word, and its end: the topic is over, and a client that has it all is told so.
    upstream.order(&json!({"push": {"status": "completed"}, "id": "four"}));
    assert_eq!(news(&mut client).await.id(), "four");
    upstream.order(&json!({"end": true}));
    let (rest, end) = client.rest().await;
    assert_eq!(end, End::Clean);
    assert!(rest.iter().all(|event| event.data.is_none()), "{rest:?}");
    let back = side.sse("/events").last_event_id("four").fetch().await;
    assert_eq!(back.status(), 204);
}

/// The next event that is no greeting of the app and no notice of ours.
async fn news(client: &mut Client) -> Event {
    loop {
        let event = client.next_event_but(&["upstream-error"]).await;
        if event.id.as_deref() != Some("hello") {
            return event;
        }
    }
}

// === impl Upstream ===

impl Upstream {
    /// Starts on `port`, or on any if that is 0.
    async fn start(server: Server, port: u16) -> Self {
        Self::start_with(server, port, None).await
    }

    async fn start_with(server: Server, port: u16, flag: Option<&str>) -> Self {
        let starlette = |server: &str| {
            let mut command = Command::new(python());
            command.arg(repository_file("tests/clients/apps/sse_starlette_app.py")).arg(server);
            command
        };
        let mut command = match server {
            Server::BetterSse => node("apps/better_sse.mjs"),
            Server::StarletteUvicorn => starlette("uvicorn"),
            Server::StarletteHypercorn => starlette("hypercorn"),
        };
        command.arg(port.to_string()).args(flag);
        let driver = Driver::start(command);
        let (_, line) = driver.find("the app to listen", 0, |line| line["saw"] == "listening").await;
        let port = line["port"].as_u64().and_then(|port| port.try_into().ok()).expect("a port");
        Self { driver, port, streams: 0 }
    }

    /// Waits for the next stream to be opened; gives the `Last-Event-ID` it was opened with.
    async fn stream(&mut self) -> String {
        let (at, line) = self.driver.find("a stream to be opened", self.streams, |line| line["saw"] == "stream").await;
        self.streams = at + 1;
        line["last"].as_str().expect("an id, if only an empty one").to_owned()
    }

    fn order(&self, order: &Value) {
        self.driver.order(&order.to_string());
    }

    fn kill(&self) -> u16 {
        self.driver.kill();
        self.port
    }
}
