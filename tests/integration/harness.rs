//! What the tests stand on: the real binary as a child process, a scripted app on a real socket, and a client that
//! shows the bytes on the wire. Nothing here uses the library: the tests see what a user sees.

pub(crate) mod app;
pub(crate) mod client;
pub(crate) mod metrics;
pub(crate) mod node;
pub(crate) mod sidestream;
pub(crate) mod wire;

use std::time::Duration;

/// The one deadline of every wait. It is generous because it is never what a test measures: a wait ends with its
/// event, and only a broken program runs into the deadline.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

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
