//! The real legacy app of `tests/apps/node-legacy` as a child process.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use super::client::Request;

/// A running Node app; killed when it goes.
#[derive(Debug)]
pub(crate) struct NodeApp {
    child: Child,
    addr: SocketAddr,
}

/// A file of the repository.
pub(crate) fn repository_file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Starts one of the servers of `tests/apps`, and waits for the line in which it says where it listens: what stands behind
/// the scheme.
pub(crate) async fn launch(script: &str, port: u16) -> (Child, String) {
    let mut child = Command::new("node")
        .arg(repository_file(script))
        .env("PORT", port.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node is installed (tests/run installs it)");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
    let first = tokio::task::spawn_blocking(move || lines.next()).await.expect("the reading thread lives");
    let first = first.expect("the server says where it listens").expect("its output is text");
    let place = first.strip_prefix("listening on http://").unwrap_or_else(|| panic!("not an address: {first:?}"));
    (child, place.to_owned())
}

// === impl NodeApp ===

impl NodeApp {
    /// Starts on a free port.
    pub(crate) async fn start() -> Self {
        Self::start_at(0).await
    }

    /// Starts on `port` and waits until it listens.
    pub(crate) async fn start_at(port: u16) -> Self {
        let (child, addr) = launch("tests/apps/node-legacy/server.js", port).await;
        Self { child, addr: addr.parse().expect("an address") }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Kills the process as an out-of-memory kill does, and waits until it is gone.
    pub(crate) fn kill(mut self) -> u16 {
        let port = self.addr.port();
        self.child.kill().expect("the child is ours");
        self.child.wait().expect("the child can be waited for");
        port
    }

    /// What the app counts about itself.
    pub(crate) async fn counters(&self) -> Value {
        let answer = Request::new(self.addr, "GET", "/debug/counters").header("Connection", "close").fetch().await;
        serde_json::from_str(&answer.text()).expect("the counters are JSON")
    }
}

impl Drop for NodeApp {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
