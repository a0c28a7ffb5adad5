//! `-- COMMAND`: nothing changes for the app, nor for whoever reads what it prints.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdout, Command, Stdio},
};

use crate::harness::{
    app::App,
    eventually,
    sidestream::{Finished, Sidestream, binary, finish, run},
};

/// Flags of a sidecar that is only there for its app.
pub(super) const ALONE: [&str; 4] = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];

/// Runs the program around a shell script, to the end of both.
async fn around(flags: &[&str], script: &str) -> Finished {
    run(ALONE.iter().chain(flags).copied().chain(["--log", "warn", "--", "sh", "-c", script])).await
}

/// Starts the program around a shell script, and gives its input and output.
fn piped(script: &str) -> (Child, ChildStdout) {
    let mut program = binary();
    program.args(ALONE).args(["--log", "warn", "--", "sh", "-c", script]);
    let mut child =
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let stdout = child.stdout.take().expect("stdout is piped");
    (child, stdout)
}

/// Reads in a thread that may block.
async fn blocking<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> T {
    crate::harness::within("the app's output", tokio::task::spawn_blocking(read)).await.expect("the thread lives")
}

#[tokio::test]
async fn what_the_app_prints_goes_on_byte_for_byte() {
    // Every byte there is, no line end at the end, and more than a pipe holds.
    let script = "i=0; while [ $i -lt 256 ]; do printf \"\\\\$(printf %03o $i)\"; i=$((i+1)); done; \
                  head -c 300000 /dev/zero | tr '\\0' x; printf '\\033[31mred' >&2";
    let (child, mut stdout) = piped(script);

    let bytes = blocking(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).map(|_| bytes)
    });
    let bytes = bytes.await.expect("the pipe can be read");
    let finished = finish(child).await;

    let expected: Vec<u8> = (0..=255).chain(std::iter::repeat_n(b'x', 300_000)).collect();
    assert!(bytes == expected, "{} bytes", bytes.len());
    assert!(finished.stderr.contains("\u{1b}[31mred"), "{:?}", finished.stderr);
    assert_eq!(finished.code, Some(0));
}

// A prompt that waits for its answer: each side waits for the other if anything is kept back.
#[tokio::test]
async fn a_line_that_is_not_ended_goes_on_at_once_and_input_comes_through() {
    let (mut child, mut stdout) = piped("printf 'name? '; read name; echo \"hello $name\"");

    let (prompt, mut stdout) = blocking(move || {
        let mut prompt = [0; 6];
        stdout.read_exact(&mut prompt).expect("the prompt comes");
        (prompt, stdout)
    })
    .await;
    assert_eq!(&prompt, b"name? ");
    child.stdin.take().expect("stdin is piped").write_all(b"ada\n").expect("the app reads");
    let rest = blocking(move || {
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).map(|_| rest)
    });

    assert_eq!(rest.await.expect("the rest comes"), "hello ada\n");
    assert_eq!(finish(child).await.code, Some(0));
}

// As without us: the app stands still in its write, and nothing piles up.
#[tokio::test]
async fn an_app_that_prints_faster_than_somebody_reads_has_to_wait() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let count = directory.path().join("count");
    // A MiB at a time: the pipes and the one read in between hold less than that.
    let script = format!(
        "i=0; while [ $i -lt 8 ]; do i=$((i+1)); head -c 1048576 /dev/zero; echo $i > {}; done",
        count.display()
    );
    let (child, mut stdout) = piped(&script);
    let written = || std::fs::read_to_string(&count).ok().and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0);

    let mut seen = 0;
    let mut chunk = vec![0; 64 * 1024];
    for mib in 1..=8 {
        assert!(written() < mib, "{} MiB were taken from the app, {seen} bytes were read", written());
        while seen < mib * 1024 * 1024 {
            seen += stdout.read(&mut chunk).expect("the pipe can be read") as u64;
        }
        eventually("the app to go on", async || (written() >= mib).then_some(())).await;
    }

    assert_eq!(finish(child).await.code, Some(0));
}

// `node build | head -1`
#[tokio::test]
async fn an_app_whose_output_nobody_reads_any_more_is_told_as_ever() {
    let (child, stdout) = piped("while echo line; do :; done 2>/dev/null; exit 9");

    drop(stdout);

    let finished = finish(child).await;
    // By SIGPIPE, as a shell is; or by the error, where it is ignored.
    assert!(matches!(finished.code, Some(141 | 9)), "{finished:?}");
}

#[tokio::test]
async fn the_app_gets_our_environment_directory_and_limits() {
    let script = "echo $SIDESTREAM_RETRY:$MINE:$(pwd):$(ulimit -Sn):$0:$1";
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = binary();
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -Sn 100 && exec \"$0\" \"$@\""]).arg(program.get_program());
    shell.args(ALONE).args(["--", "sh", "-c", script, "app", "--listen"]);
    shell.env("SIDESTREAM_RETRY", "7s").env("MINE", "yes").current_dir(directory.path());
    let child = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().expect("it starts");

    let finished = finish(child).await;

    let here = directory.path().canonicalize().expect("the directory is there");
    assert_eq!(finished.stdout, format!("7s:yes:{}:100:app:--listen\n", here.display()), "{}", finished.stderr);
}

#[tokio::test]
async fn the_end_of_the_app_is_ours() {
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -ABRT $$", 134)] {
        let finished = around(&[], script).await;
        assert_eq!(finished.code, Some(code), "{script}: {}", finished.stderr);
    }
    let again = around(&["--app-restart", "on-failure"], "exit 0").await;
    assert_eq!(again.code, Some(0), "{}", again.stderr);
}

#[tokio::test]
async fn a_command_that_can_not_be_run_is_named_and_not_tried_again() {
    for (command, code, says) in [
        ("no-such-app", 127, "there is no such command in PATH"),
        ("/no/such/app", 127, "there is no such file"),
        ("/etc/passwd", 126, "it can't be executed"),
    ] {
        let flags = ["--app-restart", "on-failure", "--", command, "--secret"];
        let finished = run(ALONE.into_iter().chain(flags)).await;
        assert_eq!(finished.code, Some(code), "{}", finished.stderr);
        assert!(finished.stderr.contains(&format!("error: -- {command}: {says}")), "{}", finished.stderr);
        assert!(!finished.stderr.contains("--secret"), "arguments may hold passwords: {}", finished.stderr);
    }
}

#[tokio::test]
async fn what_makes_no_sense_of_an_app_is_refused() {
    for (args, says) in [
        (&["--"][..], "--: what starts the app is missing"),
        (&["check", "--"], "--: what starts the app is missing"),
        (&["--", ""], "--: what starts the app is missing"),
        (&["--app-restart", "always"], "--app-restart 'always': there is no app to start again"),
        (&["--app-restart", "often", "--", "node"], "--app-restart"),
        (&["--app-log", "/"], "--app-log '/' is a directory"),
    ] {
        let finished = run(args.iter().copied()).await;
        assert_eq!(finished.code, Some(2), "{args:?}: {}", finished.stderr);
        assert!(finished.stderr.contains(says), "{args:?}: {}", finished.stderr);
    }
}

// Else a start that fails would leave an app without a sidecar.
#[tokio::test]
async fn the_app_is_started_when_the_addresses_are_ours() {
    let app = App::start();
    let taken = app.addr().to_string();
    let flags = ["--listen", &taken, "--admin-listen", "off", "--", "sh", "-c", "echo started"];

    let finished = run(flags).await;

    assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), ""), "{}", finished.stderr);
}

#[tokio::test]
async fn deaths_are_counted_by_their_kind() {
    let app = App::start();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let lives = directory.path().join("lives");
    let script = format!(
        "echo . >> {0}; case $(wc -l < {0}) in 1) exit 3;; 2) kill -9 $$;; 3) exit 0;; esac; exec sleep 60",
        lives.display()
    );
    let side = Sidestream::before(&app).flag("--app-restart", "always").app(&["sh", "-c", &script]).start().await;

    side.until_metric("app_restarts_total", &[], 3.0).await;

    for reason in ["ok", "error", "signal"] {
        assert_eq!(side.metric("app_exits_total", &[("reason", reason)]).await, 1.0, "{reason}");
    }
    let app = eventually("the fourth life", async || {
        let stats = side.stats().await;
        (stats["app"]["running"] == true).then(|| stats["app"].clone())
    })
    .await;
    let expected = serde_json::json!(
        {"watched": "child", "running": true, "invalid_state_errors": 0, "exits": 3, "restarts": 3});
    assert_eq!(app, expected);
}

#[tokio::test]
async fn without_an_app_of_ours_nothing_is_known_of_it() {
    let app = App::start();
    let side = Sidestream::before(&app).start().await;

    let expected = serde_json::json!(
        {"watched": null, "running": null, "invalid_state_errors": 0, "exits": 0, "restarts": 0});
    assert_eq!(side.stats().await["app"], expected);
}

/// One line of what a child prints.
pub(super) async fn first_line(stdout: ChildStdout) -> (String, BufReader<ChildStdout>) {
    let mut reader = BufReader::new(stdout);
    blocking(move || {
        let mut line = String::new();
        reader.read_line(&mut line).expect("the app prints text");
        (line.trim_end().to_owned(), reader)
    })
    .await
}
