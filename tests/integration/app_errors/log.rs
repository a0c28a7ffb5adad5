//! `--app-log`: an app that runs elsewhere. What can be done to a file is tried in `src/app_log/tests.rs`.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
};

use crate::harness::{app::App, sidestream::Sidestream};

const ERROR: &str = "TypeError [ERR_INVALID_STATE]: Invalid state: Controller is already closed\n    \
    at Timeout._onTimeout (/srv/app.js:4:39) {\n  code: 'ERR_INVALID_STATE'\n}\n";

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).expect("the log can be opened");
    file.write_all(text.as_bytes()).expect("the log can be written");
}

#[tokio::test]
async fn errors_in_the_log_are_counted_from_the_start_on_and_over_rotations() {
    let app = App::start();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = directory.path().join("app.log");
    append(&log, &ERROR.repeat(5));
    let side = Sidestream::before(&app).flag("--app-log", log.to_str().expect("UTF-8")).start().await;

    append(&log, &ERROR.repeat(2));
    side.until_metric("app_invalid_state_errors_total", &[], 2.0).await;
    append(&log, ERROR);
    fs::rename(&log, directory.path().join("app.log.1")).expect("the log can be renamed");
    append(&log, ERROR);
    side.until_metric("app_invalid_state_errors_total", &[], 4.0).await;
    fs::write(&log, "").expect("the log can be truncated");
    // Not the same bytes at the same place, which nobody could tell from those that were read.
    append(&log, &format!("ready in 12 ms\n{ERROR}"));

    side.until_metric("app_invalid_state_errors_total", &[], 5.0).await;
    let expected =
        serde_json::json!({"watched": "log", "running": null, "invalid_state_errors": 5, "exits": 0, "restarts": 0});
    assert_eq!(side.stats().await["app"], expected);
}

#[tokio::test]
async fn a_log_that_is_not_there_yet_is_waited_for() {
    let app = App::start();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = directory.path().join("app.log");
    let mut side = Sidestream::before(&app).flag("--app-log", log.to_str().expect("UTF-8")).start().await;
    side.log_line("a word about the missing log", |line| line.contains("there is no log of the app yet")).await;

    append(&log, ERROR);

    side.until_metric("app_invalid_state_errors_total", &[], 1.0).await;
}
