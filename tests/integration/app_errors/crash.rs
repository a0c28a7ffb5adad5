//! The crash that the program exists for, in a real Node app that is our child.

use std::{fs, net::SocketAddr, path::PathBuf};

use tokio::net::TcpSocket;

use crate::harness::{
    PROGRESS_PATH, client::Client, eventually, progress, reserve_port, sidestream::Sidestream, within,
};

/// An app whose `/naive` is a stream as everybody writes it. Its job tells in which life of the process it was asked.
const APP: &str = r#"
const http = require('node:http');
const { Readable } = require('node:stream');
http.createServer((req, res) => {
  if (req.url === '/naive') {
    const stream = new ReadableStream({
      start(controller) {
        setInterval(() => controller.enqueue('data: tick\n\n'), 20);
      },
    });
    res.setHeader('Content-Type', 'text/event-stream');
    const reader = stream.getReader();
    res.on('close', () => reader.cancel());
    const pump = () => reader.read().then(({ done, value }) => done || (res.write(value), pump()));
    return pump();
  }
  res.setHeader('Content-Type', 'application/json');
  res.end(JSON.stringify({ id: 'v1', status: 'processing', life: process.pid }));
}).listen(process.env.PORT, '127.0.0.1', () => console.log('up'));
"#;

/// The app as a file, and a port for it.
struct Naive {
    directory: tempfile::TempDir,
    addr: SocketAddr,
    /// Held for its drop alone: nobody else gets the port, also between two lives of the app.
    _reservation: TcpSocket,
}

impl Naive {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join("app.js"), APP).expect("the app can be written");
        let (reservation, addr) = reserve_port();
        Self { directory, addr, _reservation: reservation }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("app.js")
    }
}

/// Opens the naive stream and leaves it: the timer's next `enqueue` ends the process.
async fn crash(side: &Sidestream) {
    let mut tab = side.sse("/naive").open().await;
    tab.until("a tick", |text| text.contains("tick")).await;
    tab.reset();
}

/// Waits for an answer of another life than `before`. Outages are told by an event of their own.
async fn next_life(client: &mut Client, before: Option<i64>) -> Option<i64> {
    let answers = async {
        loop {
            let event = client.next_event().await;
            let life = if event.name.is_none() { event.json()["life"].as_i64() } else { None };
            if life.is_some() && life != before {
                break life;
            }
        }
    };
    within("the next life", answers).await
}

#[tokio::test]
#[ignore = "needs node; tests/run runs it"]
async fn the_crash_counts_once_the_app_comes_back_and_no_stream_ends() {
    let naive = Naive::new();
    let mut side = Sidestream::before_addr(naive.addr)
        .route(&progress("share=public"))
        .flag("--app-restart", "on-failure")
        .env("PORT", &naive.addr.port().to_string())
        .app(&["node", naive.path().to_str().expect("UTF-8")])
        .start()
        .await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(side.sse("/api/progress/v1").open().await);
    }
    let mut life = next_life(&mut clients[0], None).await;

    for deaths in [1.0, 2.0] {
        crash(&side).await;
        side.until_metric("app_restarts_total", &[], deaths).await;
        assert_eq!(side.metric("app_invalid_state_errors_total", &[]).await, deaths);
        assert_eq!(side.metric("app_exits_total", &[("reason", "error")]).await, deaths);
        // The same stream goes on with the next process.
        life = next_life(&mut clients[0], life).await;
    }

    assert_eq!(side.metric("app_exits_total", &[]).await, 2.0);
    let path = [("route", PROGRESS_PATH)];
    assert_eq!(side.metric("connections_active", &path).await, 5.0);
    assert_eq!(side.metric("connections_closed_total", &path).await, 0.0);
    drop(clients);
    side.signal(rustix::process::Signal::TERM);
    assert_eq!(side.wait_exit().await, Some(0), "{}", side.log_text());
}

// Whoever runs us then starts us and the app anew, as it would have the app.
#[tokio::test]
#[ignore = "needs node; tests/run runs it"]
async fn without_a_restart_the_crash_is_our_end_and_is_printed_as_ever() {
    let naive = Naive::new();
    let mut side = Sidestream::before_addr(naive.addr)
        .env("PORT", &naive.addr.port().to_string())
        .app(&["node", naive.path().to_str().expect("UTF-8")])
        .start()
        .await;
    eventually("the app to listen", async || (side.get("/").fetch().await.status() == 200).then_some(())).await;

    crash(&side).await;

    assert_eq!(side.wait_exit().await, Some(1), "{}", side.log_text());
    side.log_line("the end of the report", |line| line.starts_with("Node.js v")).await;
    let log = side.log_text();
    for line in [
        "      throw new ERR_INVALID_STATE.TypeError('Controller is already closed');",
        "TypeError [ERR_INVALID_STATE]: Invalid state: Controller is already closed",
        "  code: 'ERR_INVALID_STATE'",
    ] {
        assert!(log.lines().any(|printed| printed == line), "no {line:?} in:\n{log}");
    }
}
