//! What the tests stand on: the real binary as a child process, a scripted app on a real socket, and a client that
//! shows the bytes on the wire. Nothing here uses the library: the tests see what a user sees.

pub(crate) mod app;
pub(crate) mod client;
pub(crate) mod metrics;
pub(crate) mod node;
pub(crate) mod sidestream;
pub(crate) mod wire;

use std::{net::SocketAddr, time::Duration};

use tokio::net::TcpSocket;

/// The one deadline of every wait. It is generous because it is never what a test measures: a wait ends with its
/// event, and only a broken program runs into the deadline.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// Waits for `future` under [`DEADLINE`]; a miss fails the test and says what was waited for.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {DEADLINE:?} in vain for {what}"),
    }
}

/// Asks `probe` again until it has an answer, under [`DEADLINE`]. For things that have no event to wait for: a file
/// under `/proc`, the exit of a child, a counter behind HTTP.
pub(crate) async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    within(what, async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    })
    .await
}

/// A free port that stays ours: who binds it with `SO_REUSEADDR`, as every server does, gets it, as often as it likes; the
/// kernel's own choice of ports leaves it out.
pub(crate) fn reserve_port() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("a socket takes SO_REUSEADDR");
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let addr = socket.local_addr().expect("a bound socket has an address");
    (socket, addr)
}

/// The route that most tests watch, quick enough that no test waits for it.
pub(crate) const PROGRESS: &str =
    "path=/api/progress/{id},poll=/api/videos/{id},interval=50ms,max-interval=100ms,linger=200ms";

/// [`PROGRESS`] with further keys, which win over its own.
pub(crate) fn progress(keys: &str) -> String {
    let name = |pair: &str| pair.split('=').next().map(str::to_owned);
    let own = PROGRESS.split(',').filter(|own| keys.split(',').all(|key| name(key) != name(own)));
    own.chain([keys]).collect::<Vec<_>>().join(",")
}

/// The pattern of [`PROGRESS`], as it stands in labels.
pub(crate) const PROGRESS_PATH: &str = "/api/progress/{id}";

/// The answer of a job on its way.
pub(crate) fn running(progress: u32) -> app::Answer {
    app::Answer::json(&serde_json::json!({"id": "v1", "status": "processing", "progress": progress}))
}

/// The data of [`running`].
pub(crate) fn running_text(progress: u32) -> String {
    format!(r#"{{"id":"v1","status":"processing","progress":{progress}}}"#)
}

/// The answer of a job that is over.
pub(crate) fn completed() -> app::Answer {
    app::Answer::json_text(COMPLETED)
}

/// The data of [`completed`].
pub(crate) const COMPLETED: &str = r#"{"id":"v1","status":"completed","videoUrl":"/v1.mp4"}"#;

/// A subscribe route on the app's own path.
pub(crate) const NOTIFICATIONS: &str = "path=/notifications,subscribe,linger=300ms";

/// The pattern and the path of [`NOTIFICATIONS`].
pub(crate) const NOTIFICATIONS_PATH: &str = "/notifications";

/// Changes a job again and again, each time to an answer too long for any buffer to hold many of, until `is_full`: for
/// readers that don't read.
pub(crate) async fn fill(job: &app::Endpoint, mut is_full: impl AsyncFnMut() -> bool) {
    let mut turn = 0;
    eventually("the buffers to be full", async || {
        turn += 1;
        job.answer(filling(turn));
        is_full().await.then_some(())
    })
    .await;
}

/// An answer too long for any buffer to hold many of.
pub(crate) fn filling(turn: u32) -> app::Answer {
    let padding = "x".repeat(700 * 1024);
    app::Answer::json(&serde_json::json!({"id": "v1", "status": "processing", "turn": turn, "padding": padding}))
}
