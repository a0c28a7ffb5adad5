//! A driver of `tests/clients` as a child process, and what it says that its app's code sees.

use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, mpsc},
};

use serde_json::Value;
use tokio::sync::watch;

use super::PATIENCE;
use crate::harness::{eventually, node::repository_file};

/// A running driver.
///
/// It ends with its stdin. It is not killed, so that a browser can close its own processes; the last resort, for one that
/// doesn't listen, is a kill by its id.
#[derive(Debug)]
pub(super) struct Driver {
    child: Mutex<Child>,
    stdin: Mutex<Option<ChildStdin>>,
    lines: Arc<Mutex<Vec<Value>>>,
    changes: watch::Receiver<usize>,
    /// Nothing is ever sent: the thread that reads the lines holds the other end, and lets go when they end.
    over: Mutex<mpsc::Receiver<()>>,
}

/// What one client sees, in order; of a browser, what one tab sees.
#[derive(Debug)]
pub(super) struct Watcher {
    driver: Arc<Driver>,
    tab: Option<String>,
    next: usize,
}

/// One thing that the app's code sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Saw {
    Open,
    Message(Message),
    /// `closed`: the client says that it will not come back.
    Error {
        closed: bool,
        text: String,
    },
    /// The client is through: its promise or its iterator has ended.
    End,
}

/// One message as the app's code gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) event: String,
    pub(super) id: String,
    pub(super) data: String,
}

/// The time that a driver has to end by itself.
const CLOSING: std::time::Duration = std::time::Duration::from_secs(10);

/// Where `tests/clients/install` puts the Python packages.
pub(super) fn python() -> PathBuf {
    installed("tests/.cache/clients/venv/bin/python")
}

/// A file that `tests/clients/install` makes; a missing one fails the test.
pub(super) fn installed(path: &str) -> PathBuf {
    let file = repository_file(path);
    assert!(file.exists(), "{path} is missing: run tests/clients/install (tests/run does)");
    file
}

/// A driver in Node.
pub(super) fn node(script: &str) -> Command {
    installed("tests/clients/node_modules");
    let mut command = Command::new("node");
    command.arg(repository_file(&format!("tests/clients/{script}")));
    command
}

// === impl Driver ===

impl Driver {
    /// Starts a driver; `command` is complete but for its pipes.
    pub(super) fn start(mut command: Command) -> Arc<Self> {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap_or_else(|error| {
                panic!("{command:?} does not start (tests/run installs what it needs): {error}")
            });
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (count, changes) = watch::channel(0);
        let (reading, over) = mpsc::channel::<()>();
        let written = Arc::clone(&lines);
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        // The thread ends with the pipe, at the latest by the child's death.
        std::thread::spawn(move || {
            let _reading = reading;
            for line in stdout.lines() {
                let Ok(line) = line else { return };
                let line = serde_json::from_str(&line).unwrap_or_else(|_| Value::String(line));
                written.lock().expect("nobody panics under this lock").push(line);
                count.send_modify(|count| *count += 1);
            }
        });
        let stdin = Mutex::new(child.stdin.take());
        Arc::new(Self { child: Mutex::new(child), stdin, lines, changes, over: Mutex::new(over) })
    }

    /// Sends one line.
    pub(super) fn order(&self, line: &str) {
        let mut stdin = self.stdin.lock().expect("nobody panics under this lock");
        let stdin = stdin.as_mut().expect("stdin is open until the driver goes");
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).expect("the driver reads its stdin");
    }

    /// Waits for the first line, from `from` on, that `is_it`, and gives its place.
    pub(super) async fn find(&self, what: &str, from: usize, is_it: impl Fn(&Value) -> bool) -> (usize, Value) {
        let mut changes = self.changes.clone();
        let found = tokio::time::timeout(PATIENCE, async {
            let mut from = from;
            loop {
                let is_over = changes.has_changed().is_err();
                {
                    let lines = self.lines.lock().expect("nobody panics under this lock");
                    if let Some(at) = lines.iter().skip(from).position(&is_it) {
                        return (from + at, lines[from + at].clone());
                    }
                    assert!(!is_over, "the driver ended without {what}; it saw {lines:#?}");
                    from = lines.len();
                }
                // An error says that the driver is over; its lines are looked at once more then.
                let _ = changes.changed().await;
            }
        });
        match found.await {
            Ok(found) => found,
            Err(_) => panic!("waited {PATIENCE:?} in vain for {what}; after {:#?}", self.lines()),
        }
    }

    /// Kills it as an out-of-memory kill does.
    pub(super) fn kill(&self) {
        let mut child = self.lock_child();
        child.kill().expect("the child is ours");
        child.wait().expect("the child can be waited for");
    }

    /// Waits for its own end.
    pub(super) async fn exit_code(&self) -> Option<i32> {
        let status = eventually("the driver to end", async || {
            self.lock_child().try_wait().expect("the child can be waited for")
        });
        status.await.code()
    }

    /// The lines that are no JSON, so far, each with its line end.
    pub(super) fn text(&self) -> String {
        self.lines().iter().filter_map(Value::as_str).flat_map(|line| [line, "\n"]).collect()
    }

    /// How many lines so far `is_it` holds for.
    pub(super) fn count(&self, is_it: impl Fn(&Value) -> bool) -> usize {
        self.lines().iter().filter(|line| is_it(line)).count()
    }

    /// Waits for one line more than `count` that `is_it` holds for.
    pub(super) async fn find_nth(&self, what: &str, count: usize, is_it: impl Fn(&Value) -> bool) {
        let mut from = 0;
        for _ in 0..=count {
            from = self.find(what, from, &is_it).await.0 + 1;
        }
    }

    fn lock_child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().expect("nobody panics under this lock")
    }

    fn lines(&self) -> Vec<Value> {
        self.lines.lock().expect("nobody panics under this lock").clone()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.stdin.lock().expect("nobody panics under this lock").take();
        // Ends with the pipe, or with our patience; in either case there is nothing to receive.
        let _ = self.over.lock().expect("nobody panics under this lock").recv_timeout(CLOSING);
        let mut child = self.lock_child();
        // Both fail only when it has ended, which is what they are for.
        let _ = child.kill();
        let _ = child.wait();
    }
}

// === impl Watcher ===

impl Watcher {
    /// The only client of a driver.
    pub(super) fn of(driver: Arc<Driver>) -> Self {
        Self { driver, tab: None, next: 0 }
    }

    /// One tab of a browser.
    pub(super) fn of_tab(driver: Arc<Driver>, tab: String) -> Self {
        Self { driver, tab: Some(tab), next: 0 }
    }

    /// The next thing seen.
    pub(super) async fn next(&mut self) -> Saw {
        let tab = self.tab.clone().map_or(Value::Null, Value::from);
        let is_it = |line: &Value| line["tab"] == tab && saw(line).is_some();
        let (at, line) = self.driver.find("the client to see something", self.next, is_it).await;
        self.next = at + 1;
        saw(&line).expect("it was one")
    }

    /// The next message, over everything else.
    pub(super) async fn message(&mut self) -> Message {
        loop {
            if let Saw::Message(message) = self.next().await {
                return message;
            }
        }
    }

    /// The next error or end, over everything else.
    pub(super) async fn trouble(&mut self) -> Saw {
        loop {
            match self.next().await {
                saw @ (Saw::Error { .. } | Saw::End) => return saw,
                Saw::Open | Saw::Message(_) => {}
            }
        }
    }

    /// Everything seen so far.
    pub(super) fn all(&self) -> Vec<Saw> {
        let tab = self.tab.clone().map_or(Value::Null, Value::from);
        self.driver.lines().iter().filter(|line| line["tab"] == tab).filter_map(saw).collect()
    }

    /// The data of all unnamed messages so far.
    pub(super) fn data(&self) -> Vec<String> {
        let messages = self.all().into_iter().filter_map(|saw| match saw {
            Saw::Message(message) if message.event == "message" => Some(message.data),
            _ => None,
        });
        messages.collect()
    }
}

/// What a line of a driver means.
fn saw(line: &Value) -> Option<Saw> {
    let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    match line["saw"].as_str()? {
        "open" => Some(Saw::Open),
        "message" => Some(Saw::Message(Message { event: text("event"), id: text("id"), data: text("data") })),
        "error" => Some(Saw::Error { closed: line["closed"] == true, text: text("text") }),
        "end" => Some(Saw::End),
        "page-error" => panic!("the page failed: {line}"),
        _ => None,
    }
}
