//! Real frameworks behind the program: the legacy SvelteKit and Next.js apps of `tests/apps`, under a churn of tabs and
//! in a real browser. The work is done by scripts that also run by hand; these tests run them on this build.

use std::process::Command;

use crate::harness::node::repository_file;

/// Runs one command of the repository on the program under test; it bounds its own time.
pub(crate) fn run(command: &str, args: &[&str]) {
    let output = Command::new(command)
        .args(args)
        .current_dir(repository_file(""))
        .env("SIDESTREAM_BIN", env!("CARGO_BIN_EXE_sidestream"))
        .output()
        .unwrap_or_else(|error| panic!("{command} can be started (tests/run installs it): {error}"));
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    println!("{stdout}");
    assert!(output.status.success(), "{command} {args:?}: {}\n{stderr}", output.status);
}

/// The reason why the program exists: the script fails when the apps alone don't show their fault, too.
#[test]
#[ignore = "needs node, npm and nginx; tests/run runs it"]
fn naive_apps_fail_alone_and_not_behind_routes() {
    run("tests/proof", &[]);
}

#[test]
#[ignore = "needs node, npm and chromium; tests/run runs it"]
fn front_ends_written_against_the_legacy_streams_work_unchanged() {
    run("tests/apps/build", &[]);
    run("node", &["tests/browser/apps.mjs"]);
}
