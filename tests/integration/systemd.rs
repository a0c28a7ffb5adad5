//! systemd runs the program: it is told when we serve, how we are and when we leave, keeps our sockets while nobody
//! serves them, and starts us anew when we are stuck.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
};

use self::manager::Manager;
use crate::harness::{
    PROGRESS,
    app::{Answer, App},
    client::Request,
    eventually, running,
    sidestream::{binary, finish, run},
};

mod manager;

/// A port that is free for now.
fn free_addr() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port")
}

fn upstream(app: &App) -> String {
    format!("http://{}", app.addr())
}

fn stream(addr: SocketAddr) -> Request {
    Request::new(addr, "GET", "/api/progress/v1").header("Accept", "text/event-stream")
}

#[tokio::test]
#[ignore = "needs root and systemd; tests/run installs it"]
async fn a_start_is_over_when_we_serve_and_the_status_says_for_how_many() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let flags =
        ["--listen", "127.0.0.1:0", "--admin-listen", "off", "--upstream", &upstream(&app), "--route", PROGRESS];
    let manager = Manager::start(&flags, &[("WatchdogSec", "2s")], None).await;

    manager.ctl(&["start", "sidestream"]).await;
    let public = manager.public().expect("it serves when systemd says that it is started");
    let mut client = stream(public).open().await;
    client.next_event().await;

    manager.until("StatusText", |text| text == "serving, streams: 1").await;
    // The watchdog is told again and again, or it would have restarted us.
    for _ in 0..3 {
        let told = manager.property("WatchdogTimestampMonotonic").await;
        manager.until("WatchdogTimestampMonotonic", |now| now != told).await;
    }
    assert_eq!(manager.property("NRestarts").await, "0");
}

#[tokio::test]
#[ignore = "needs root and systemd; tests/run installs it"]
async fn who_is_stuck_is_started_anew() {
    let settings = [("WatchdogSec", "2s"), ("TimeoutStopSec", "1s"), ("RestartSec", "0")];
    let flags = ["--listen", "127.0.0.1:0", "--admin-listen", "off"];
    let manager = Manager::start(&flags, &settings, None).await;
    manager.ctl(&["start", "sidestream"]).await;
    let first = manager.property("MainPID").await;

    manager.ctl(&["kill", "--signal=STOP", "--kill-whom=main", "sidestream"]).await;

    manager.until("NRestarts", |count| count != "0").await;
    manager.until("ActiveState", |state| state == "active").await;
    assert_ne!(manager.property("MainPID").await, first);
}

#[tokio::test]
#[ignore = "needs root and systemd; tests/run installs it"]
async fn over_a_restart_of_ours_nobody_is_refused() {
    let app = App::start();
    app.job("v1").answer(running(1));
    let addr = free_addr();
    let flags = [
        "--listen",
        "systemd",
        "--admin-listen",
        "off",
        "--upstream",
        &upstream(&app),
        "--route",
        PROGRESS,
        "--drain",
        "1s",
    ];
    let manager = Manager::start(&flags, &[], Some(addr)).await;
    manager.ctl(&["start", "sidestream.socket"]).await;
    assert_eq!(manager.property("ActiveState").await, "inactive", "it is started by the first who comes");
    let mut client = stream(addr).open().await;
    client.next_event().await;

    let restart = async {
        manager.ctl(&["restart", "sidestream"]).await;
    };
    let knock = async {
        loop {
            drop(tokio::net::TcpStream::connect(addr).await.expect("nobody is refused"));
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = restart => {}
        () = knock => {}
    }

    client.read_to_end().await;
    stream(addr).open().await.next_event().await;
    assert_eq!(manager.log().matches("\"drained\"").count(), 1, "{}", manager.log());
}

#[tokio::test]
#[ignore = "needs root and systemd; tests/run installs it"]
async fn a_drain_may_take_longer_than_systemd_would_wait() {
    let app = App::start();
    app.at("/slow").answer(Answer::hang());
    let flags = ["--listen", "127.0.0.1:0", "--admin-listen", "off", "--upstream", &upstream(&app), "--drain", "3s"];
    let manager = Manager::start(&flags, &[("TimeoutStopSec", "1s")], None).await;
    manager.ctl(&["start", "sidestream"]).await;
    let public = manager.public().expect("it serves");
    let _waits = Request::new(public, "GET", "/slow").send().await;
    app.at("/slow").requests(1).await;

    manager.ctl(&["stop", "sidestream"]).await;

    assert_eq!(manager.property("Result").await, "success", "{}", manager.log());
    assert!(manager.log().contains("the time for the drain is over"), "{}", manager.log());
}

/// `systemd-socket-activate` opens sockets, and starts the program when the first client comes.
async fn activated(args: &[&str], flags: &[&str]) -> String {
    let addrs = [free_addr(), free_addr()];
    let mut command = Command::new("systemd-socket-activate");
    for addr in addrs {
        command.arg(format!("--listen={addr}"));
    }
    command.args(args).arg(binary().get_program()).args(flags).stdin(Stdio::null()).stdout(Stdio::piped());
    let child = command.stderr(Stdio::piped()).spawn().expect("tests/run installs it");
    let _knock = eventually("somebody who listens", async || TcpStream::connect(addrs[1]).ok()).await;
    let finished = finish(child).await;
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    finished.stderr
}

#[tokio::test]
#[ignore = "needs systemd; tests/run installs it"]
async fn sockets_that_no_flag_takes_are_refused() {
    for (args, flags, expected) in [
        (&[][..], &["--listen=127.0.0.1:0", "--admin-listen=off"][..], "no flag takes it; add --listen systemd"),
        (&["--fdname=web:admin"], &["--listen=systemd", "--admin-listen=off"], "add --admin-listen systemd, or"),
        (&["--fdname=admin:admin"], &["--listen=systemd"], "systemd has opened two sockets called 'admin'"),
        (&[], &["--listen=systemd", "--admin-listen=systemd"], "systemd has opened no socket called admin; enable"),
    ] {
        let said = activated(args, flags).await;
        assert!(said.contains(expected), "{flags:?}: {said}");
    }
}

#[tokio::test]
async fn without_a_socket_it_says_so() {
    let nothing = run(["--listen", "systemd", "--admin-listen", "off"]).await;
    let file = format!(
        "LISTEN_FDS=1 LISTEN_FDNAMES=web exec {} --listen systemd 3</dev/null",
        binary().get_program().display()
    );
    let file = Command::new("sh").args(["-c", &file]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let file = finish(file.expect("a shell")).await;

    assert_eq!(nothing.code, Some(1));
    let sentence =
        "--listen systemd: systemd has opened no socket for it; enable the socket's unit, or give an address";
    assert!(nothing.stderr.contains(sentence), "{}", nothing.stderr);
    assert!(file.stderr.contains("systemd calls something 'web' that is no TCP listener"), "{}", file.stderr);
}

#[tokio::test]
async fn the_app_does_not_hear_what_systemd_says_to_us() {
    let mut command = binary();
    command.env("NOTIFY_SOCKET", "/nowhere").env("WATCHDOG_USEC", "1000000").env("LISTEN_FDNAMES", "web");
    command.args(["--listen", "127.0.0.1:0", "--admin-listen", "off", "--log", "off", "--", "sh", "-c"]);
    command.arg("echo \"<$NOTIFY_SOCKET$WATCHDOG_USEC$LISTEN_FDNAMES>\"");

    let finished = finish(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")).await;

    assert_eq!(finished.stdout, "<>\n", "{}", finished.stderr);
}
