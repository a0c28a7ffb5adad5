//! Signals: who gets them, in which order both leave, and who is left behind.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::child::{ALONE, first_line};
use crate::harness::{
    PROGRESS,
    app::{Answer, App},
    client::Client,
    eventually, running,
    sidestream::{Sidestream, binary, finish},
};

/// How a shell waits for signals without losing one: dash does, if it comes while it starts a program.
const WAIT: &str = "sleep 60 >/dev/null 2>&1 & while :; do wait $!; done";

/// A directory in which an app leaves notes.
struct Notes(tempfile::TempDir);

impl Notes {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Waits until a note is written, to its end of line.
    async fn written(&self, name: &str) -> String {
        let what = format!("the note {name}");
        eventually(&what, async || Some(self.read(name)).filter(|note| note.ends_with('\n'))).await
    }

    /// A shell script that notes its number as `pid`, and each of these signals by its name; SIGTERM ends it.
    fn taker(&self, signals: &[&str]) -> String {
        let traps: String = signals
            .iter()
            .map(|name| format!("trap 'echo {name} >> {}' {name}; ", self.path(name).display()))
            .collect();
        format!(
            "{traps}trap 'echo TERM >> {}; exit 0' TERM; echo $$ > {}; {WAIT}",
            self.path("TERM").display(),
            self.path("pid").display()
        )
    }

    /// The number in `name`, once it is there.
    async fn pid(&self, name: &str) -> Pid {
        let pid = self.written(name).await.trim().parse().expect("a number");
        Pid::from_raw(pid).expect("not zero")
    }
}

/// It has ended, or is only waited for by somebody who never looks.
fn is_gone(pid: Pid) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.ok().is_none_or(|stat| stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('Z')))
}

async fn until_gone(pid: Pid) {
    eventually("the process to be gone", async || is_gone(pid).then_some(())).await;
}

#[tokio::test]
async fn the_app_is_told_to_end_only_when_the_drain_is_over() {
    let (app, notes) = (App::start(), Notes::new());
    app.job("v1").answer(running(1));
    app.at("/slow").answer(Answer::text(200, "made it").after(Duration::from_millis(700)));
    let script = notes.taker(&[]);
    let builder = Sidestream::before(&app).route(PROGRESS).flag("--drain", "4s");
    let mut side = builder.flag("--app-restart", "always").app(&["sh", "-c", &script]).start().await;
    let pid = notes.pid("pid").await;
    let mut stream = side.sse("/api/progress/v1").open().await;
    stream.next_event().await;
    let slow = side.get("/slow").send().await;
    app.at("/slow").requests(1).await;

    side.signal(Signal::TERM);
    let mut answer = Client::read(slow, "GET").await;
    answer.read_to_end().await;
    assert!(answer.text().ends_with("made it"), "{}", answer.text());
    stream.read_to_end().await;
    let code = side.wait_exit().await;

    // The app's end is in the log after that of the drain, and it was told once.
    assert_eq!((code, notes.read("TERM").as_str()), (Some(0), "TERM\n"), "{}", side.log_text());
    side.log_line("the end of the app", |line| line.contains("the app has ended")).await;
    let log = side.log_text();
    let at = |words: &str| log.find(words).unwrap_or_else(|| panic!("no {words:?} in the log"));
    assert!(at("\"drained\"") < at("the app has ended"), "{log}");
    assert!(is_gone(pid));
}

#[tokio::test]
async fn an_app_that_ends_badly_when_told_is_seen_in_our_status() {
    for (last, code) in [("exit 5", 5), ("trap - TERM; kill -TERM $$", 0), ("exit 143", 0)] {
        let (app, notes) = (App::start(), Notes::new());
        let script = format!("trap '{last}' TERM; echo > {}; {WAIT}", notes.path("up").display());
        let mut side = Sidestream::before(&app).app(&["sh", "-c", &script]).start().await;
        notes.written("up").await;

        side.signal(Signal::TERM);

        assert_eq!(side.wait_exit().await, Some(code), "{last}: {}", side.log_text());
    }
}

#[tokio::test]
async fn a_second_signal_does_not_leave_the_app_behind() {
    let (app, notes) = (App::start(), Notes::new());
    app.job("v1").answer(running(1));
    let script = format!("trap '' TERM; echo $$ > {}; {WAIT}", notes.path("pid").display());
    let builder = Sidestream::before(&app).route(PROGRESS).flag("--drain", "10m");
    let mut side = builder.app(&["sh", "-c", &script]).start().await;
    let pid = notes.pid("pid").await;
    let _stream = side.sse("/api/progress/v1").open().await;

    side.signal(Signal::INT);
    side.log_line("the drain", |line| line.contains("\"draining\"")).await;
    side.signal(Signal::INT);

    assert_eq!(side.wait_exit().await, Some(1), "{}", side.log_text());
    assert!(is_gone(pid));
}

#[tokio::test]
async fn signals_for_the_app_are_handed_on() {
    let (app, notes) = (App::start(), Notes::new());
    let script = notes.taker(&["HUP", "QUIT", "USR1", "USR2"]);
    let mut side = Sidestream::before(&app).app(&["sh", "-c", &script]).start().await;
    notes.pid("pid").await;

    // Those that are ignored here, under nohup say, stay so: see below.
    let ours = fs::read_to_string("/proc/self/status").expect("Linux has it");
    let all = [(Signal::HUP, "HUP"), (Signal::QUIT, "QUIT"), (Signal::USR1, "USR1"), (Signal::USR2, "USR2")];
    for (signal, name) in all.into_iter().filter(|(signal, _)| !is_ignored(&ours, *signal)) {
        side.signal(signal);
        assert_eq!(notes.written(name).await, format!("{name}\n"));
    }
    assert_eq!(side.metric("app_exits_total", &[]).await, 0.0);
    side.signal(Signal::TERM);
    assert_eq!(side.wait_exit().await, Some(0));
}

/// Whether a `/proc/<pid>/status`, or the line that counts, says that a signal is ignored.
fn is_ignored(status: &str, signal: Signal) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("there is a mask");
    let mask = u64::from_str_radix(mask.trim(), 16).expect("it is hexadecimal");
    mask >> (signal.as_raw() - 1) & 1 == 1
}

// `nohup sidestream -- node build`
#[tokio::test]
async fn what_was_ignored_at_our_start_stays_ignored() {
    let ours = fs::read_to_string("/proc/self/status").expect("Linux has it");
    for (trap, expected) in [("trap '' HUP; ", true), ("", is_ignored(&ours, Signal::HUP))] {
        let program = binary();
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &format!("{trap}exec \"$0\" \"$@\"")]).arg(program.get_program()).args(ALONE);
        shell.args(["--", "grep", "SigIgn", "/proc/self/status"]);
        let child = shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let finished = finish(child.expect("it starts")).await;

        assert_eq!(is_ignored(&finished.stdout, Signal::HUP), expected, "{finished:?}");
    }
}

// An out-of-memory kill: the next sidecar's app would find its port taken. The kernel tells the app each time that it gets
// another parent, which may first be a thread of ours that dies a moment later.
#[tokio::test]
async fn the_app_does_not_outlive_us() {
    let (app, notes) = (App::start(), Notes::new());
    let mut side = Sidestream::before(&app).app(&["sh", "-c", &notes.taker(&[])]).start().await;
    let pid = notes.pid("pid").await;

    side.signal(Signal::KILL);
    side.wait_exit().await;

    notes.written("TERM").await;
    until_gone(pid).await;
}

// `npm start` runs a shell that runs Node, and may be the only one to die.
#[tokio::test]
async fn what_the_app_leaves_behind_is_ended_before_it_is_started_again() {
    let (app, notes) = (App::start(), Notes::new());
    let first = notes.path("first");
    let second = notes.path("second");
    let script = format!(
        "if [ -e {0} ]; then kill -0 $(cat {0}) 2>/dev/null && echo taken > {1} || echo free > {1}; exec sleep 60; fi; \
         sh -c 'trap \"\" TERM; echo $$ > {0}; exec sleep 60' >/dev/null 2>&1 & while [ ! -s {0} ]; do sleep 0.02; done; \
         exit 1",
        first.display(),
        second.display()
    );
    let mut side =
        Sidestream::before(&app).flag("--app-restart", "on-failure").app(&["sh", "-c", &script]).start().await;

    let left = notes.pid("first").await;
    let found = notes.written("second").await;

    // Whoever reaps it where the tests run may be late, and then its number is still there.
    assert!(found == "free\n" || is_gone(left), "{found}");
    side.signal(Signal::TERM);
    assert_eq!(side.wait_exit().await, Some(0));
}

// The terminal tells both at once, and the app is gone long before our drain would be. It does not hear a SIGTERM, which
// a slow machine may send before it has ended. The user's shell, whichever it is, gives its place to the program: one that
// stayed in between would be interrupted too, and its end would be the one that is seen.
#[tokio::test]
async fn ctrl_c_in_a_terminal_ends_both_in_good_order_and_at_once() {
    let notes = Notes::new();
    let app = format!(
        "trap '' TERM; trap 'echo INT >> {}; exit 130' INT; echo $$ > {}; {WAIT}",
        notes.path("INT").display(),
        notes.path("pid").display()
    );
    fs::write(notes.path("app.sh"), app).expect("the script can be written");
    let program = binary();
    let line = format!(
        "exec {} {} --app-restart on-failure --drain 10m -- sh {}",
        program.get_program().to_string_lossy(),
        ALONE.join(" "),
        notes.path("app.sh").display()
    );
    let mut terminal = std::process::Command::new("script");
    terminal.env("SHELL", "/bin/sh");
    terminal.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut terminal = terminal.spawn().expect("script is part of every Debian");
    let mut keys = terminal.stdin.take().expect("stdin is piped");
    let pid = notes.pid("pid").await;

    keys.write_all(b"\x03").expect("the terminal takes keys");
    let finished = finish(terminal).await;

    assert_eq!(finished.code, Some(0), "{}", finished.stdout);
    assert_eq!(notes.read("INT"), "INT\n", "{}", finished.stdout);
    assert!(is_gone(pid));
    drop(keys);
}

// By the number that it prints, as a supervisor's file of numbers has it.
#[tokio::test]
async fn an_app_that_is_killed_from_outside_is_a_death_by_signal() {
    let mut program = binary();
    program.args(ALONE).args(["--log", "warn", "--", "sh", "-c", "echo $$; exec sleep 60"]);
    let mut child = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let (line, _stdout) = first_line(child.stdout.take().expect("stdout is piped")).await;

    kill_process(Pid::from_raw(line.parse().expect("a number")).expect("not zero"), Signal::KILL).expect("it runs");

    assert_eq!(finish(child).await.code, Some(137));
}
