//! The table of `docs/clients.md`: each row is what a test saw, so the page and reality can't part.

use std::{
    fs,
    sync::{Mutex, PoisonError},
};

use crate::harness::node::repository_file;

/// The clients of the table, in its order.
pub(super) const CLIENTS: [&str; 9] = [
    "Chromium `EventSource`",
    "npm `eventsource`",
    "npm `event-source-polyfill`",
    "npm `reconnecting-eventsource`",
    "npm `@microsoft/fetch-event-source`",
    "PyPI `httpx-sse`",
    "PyPI `sseclient-py`",
    "`curl -N`",
    "a hand-written `split('\\n\\n')`",
];

const PAGE: &str = "docs/clients.md";
const HEADER: &str = "| Client | Heartbeat `comment` | `comment-block` | `event` | The connection is cut | The stream ends \
                      cleanly | The job ends | Back with the job's last id |";
/// Setting it writes the rows instead of comparing them.
const WRITE: &str = "SIDESTREAM_WRITE_DOCS";

/// Tests run beside each other, and each may write its row.
static WRITING: Mutex<()> = Mutex::new(());

/// What was seen of one client.
pub(super) struct Row {
    pub(super) client: &'static str,
    /// For `comment`, `comment-block`, `event`.
    pub(super) heartbeats: [String; 3],
    pub(super) cut: String,
    pub(super) clean_end: String,
    pub(super) job_end: String,
    pub(super) back: String,
}

// === impl Row ===

impl Row {
    /// Compares the row with the page's, or writes it there.
    pub(super) fn check(self) {
        let Self { client, heartbeats: [comment, block, event], cut, clean_end, job_end, back } = self;
        assert!(CLIENTS.contains(&client), "{client} has no place in the table");
        let row = format!("| {client} | {comment} | {block} | {event} | {cut} | {clean_end} | {job_end} | {back} |");
        // A test that failed under the lock has told why; the page is whole all the same.
        let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        let page = page();
        let known = page.lines().find(|line| is_row_of(line, client));
        if std::env::var_os(WRITE).is_none() {
            assert_eq!(known, Some(row.as_str()), "{PAGE} says otherwise; {WRITE}=1 writes what was seen");
            return;
        }
        let mut rows: Vec<String> = CLIENTS
            .iter()
            .filter_map(|other| page.lines().find(|line| *other != client && is_row_of(line, other)).map(str::to_owned))
            .collect();
        let before = |line: &String| CLIENTS.iter().position(|other| is_row_of(line, other));
        let at = rows.iter().position(|line| before(line) > CLIENTS.iter().position(|it| *it == client));
        rows.insert(at.unwrap_or(rows.len()), row);
        let rest: Vec<&str> = page.lines().filter(|line| !CLIENTS.iter().any(|it| is_row_of(line, it))).collect();
        let head = rest.iter().position(|line| *line == HEADER).expect("the page has the table's header") + 2;
        let lines: Vec<&str> = rest[..head]
            .iter()
            .copied()
            .chain(rows.iter().map(String::as_str))
            .chain(rest[head..].iter().copied())
            .collect();
        fs::write(repository_file(PAGE), lines.join("\n") + "\n").expect("the page can be written");
    }
}

fn page() -> String {
    fs::read_to_string(repository_file(PAGE)).expect("the page is there")
}

fn is_row_of(line: &str, client: &str) -> bool {
    line.starts_with(&format!("| {client} |"))
}

/// A client that is no longer tested must not keep its row, and none may be missing.
#[test]
fn the_table_has_one_row_per_client() {
    let page = page();
    let mut lines = page.lines().skip_while(|line| *line != HEADER);
    assert!(lines.next().is_some(), "the table's header is not what the tests fill: {HEADER}");
    let rows: Vec<&str> = lines.skip(1).take_while(|line| line.starts_with('|')).collect();

    assert_eq!(rows.len(), CLIENTS.len(), "{rows:#?}");
    for (row, client) in rows.iter().zip(CLIENTS) {
        assert!(is_row_of(row, client), "{client} should be {row:?}");
    }
}
