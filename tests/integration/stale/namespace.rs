//! Peers behind a real network that fails: a namespace of their own at the end of a veth pair, whose link goes down or
//! whose packets are dropped. No FIN, no RST, and nothing in the program's own network changes.

use std::{
    fmt::Write as _,
    fs::File,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::fd::AsFd,
    process::Command,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::time::Instant;

use super::{listed, reaped};
use crate::harness::{
    DEADLINE, NOTIFICATIONS, NOTIFICATIONS_PATH, PROGRESS, app::App, client::Request, metrics::Samples, running,
    running_text, sidestream::Sidestream,
};

/// A network with one cable to ours; it goes with this.
struct Network {
    name: String,
    /// Our end of the cable; the other one is called the same with a `p` behind it.
    cable: String,
    ours: Ipv4Addr,
}

/// The times of one run.
struct Times {
    heartbeat: Duration,
    stale_after: Duration,
    reap_after: Duration,
}

// === impl Network ===

impl Network {
    /// `None`, and a line that says so, for users who may not make one.
    fn new() -> Option<Self> {
        static COUNT: AtomicU16 = AtomicU16::new(0);
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: only root can make network namespaces; tests/run as root runs this test");
            return None;
        }
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // 198.18.0.0/15 is set aside for tests of networks (RFC 2544); each network here takes four addresses of it.
        let place = (process.wrapping_mul(4).wrapping_add(u32::from(count)) % (1 << 15)) * 4;
        let ours = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + place + 1);
        // A device's name has 15 letters at most.
        let network = Self { name: format!("stale-{process}-{count}"), cable: format!("st{process}-{count}"), ours };
        let Self { name, cable, ours } = &network;
        let theirs = Ipv4Addr::from(u32::from(*ours) + 1);
        for command in [
            format!("netns add {name}"),
            format!("link add {cable} type veth peer name {cable}p netns {name}"),
            format!("addr add {ours}/30 dev {cable}"),
            format!("link set {cable} up"),
            format!("-n {name} addr add {theirs}/30 dev {cable}p"),
            format!("-n {name} link set {cable}p up"),
        ] {
            ip(&command);
        }
        Some(network)
    }

    /// Sends these requests from inside, and waits for the first bytes of each stream.
    fn open(&self, requests: Vec<Request>) -> Vec<TcpStream> {
        let file = File::open(format!("/run/netns/{}", self.name)).expect("the namespace has a name");
        // A thread of its own, which ends inside: no other test runs on it.
        let inside = std::thread::spawn(move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter");
            requests.iter().map(open).collect()
        });
        inside.join().expect("everybody is connected")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // What may be missing after a failed beginning is no further failure.
        for command in [format!("link del {}", self.cable), format!("netns del {}", self.name)] {
            let _ = Command::new("ip").args(command.split(' ')).output();
        }
    }
}

/// Runs `ip` of iproute2.
fn ip(command: &str) {
    let output = Command::new("ip").args(command.split(' ')).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {command}: {}", String::from_utf8_lossy(&output.stderr));
}

fn open(request: &Request) -> TcpStream {
    let mut socket = TcpStream::connect(request.addr()).expect("the program listens on the cable");
    socket.set_read_timeout(Some(DEADLINE)).expect("a time-out");
    socket.write_all(&request.bytes()).expect("the request is taken");
    let (mut seen, mut bytes) = (Vec::new(), [0; 4096]);
    // Heartbeats come for ever, so a time-out alone would not end this.
    let begun = Instant::now();
    while !seen.windows(5).any(|end| end.starts_with(b"\r\n\r\n")) {
        assert!(begun.elapsed() < DEADLINE, "no stream: {}", String::from_utf8_lossy(&seen));
        let read = socket.read(&mut bytes).expect("the first bytes come");
        assert!(read > 0, "the stream ended: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&bytes[..read]);
    }
    socket
}

// === impl Times ===

impl Times {
    /// Short ones; with `STALE_TIMES=default` those of the flags' defaults, which take a minute.
    fn new() -> Self {
        match std::env::var("STALE_TIMES").as_deref() {
            Ok("default") => Self {
                heartbeat: Duration::from_secs(15),
                stale_after: Duration::from_secs(35),
                reap_after: Duration::from_secs(60),
            },
            _ => Self {
                heartbeat: Duration::from_millis(500),
                stale_after: Duration::from_secs(2),
                reap_after: Duration::from_secs(6),
            },
        }
    }
}

/// Cuts a crowd off, streams of every kind, and measures when that is noticed.
async fn cut_off(how: &str, cut: impl FnOnce(&Network)) {
    const EACH: usize = 12;
    let Some(network) = Network::new() else { return };
    let times = Times::new();
    let app = App::start();
    app.job("v1").answer(running(1));
    let (notifications, chat) = (app.events(NOTIFICATIONS_PATH), app.events("/chat"));
    let time = |time: Duration| format!("{}ms", time.as_millis());
    let mut side = Sidestream::before(&app)
        .route(PROGRESS)
        .route(NOTIFICATIONS)
        .flag("--heartbeat-interval", &time(times.heartbeat))
        .flag("--stale-after", &time(times.stale_after))
        .flag("--reap-after", &time(times.reap_after))
        .flag("--listen", &format!("{}:0", network.ours))
        .start()
        .await;
    let line = side.log_line("a listener on the cable", |line| line.contains(&format!("\"{}:", network.ours))).await;
    let line: serde_json::Value = serde_json::from_str(&line).expect("the log is JSON");
    let addr: SocketAddr = line["addr"].as_str().and_then(|addr| addr.parse().ok()).expect("an address");
    let sse = |target: &str| Request::new(addr, "GET", target).header("Accept", "text/event-stream");

    let mut neighbour = side.sse("/api/progress/v1").open().await;
    neighbour.next_event().await;
    let mut requests = Vec::new();
    for _ in 0..EACH {
        requests.push(sse("/api/progress/v1"));
        requests.push(sse("/api/progress/v1").http_1_0());
        requests.push(sse(NOTIFICATIONS_PATH));
        requests.push(sse("/chat"));
    }
    let count = requests.len();
    let serving = tokio::spawn(async move {
        let mut streams = vec![notifications.accept().await];
        for _ in 0..EACH {
            let stream = chat.accept().await;
            stream.send("data: a\n\n").await;
            streams.push(stream);
        }
        streams
    });
    let (network, peers) = tokio::task::spawn_blocking(move || {
        let peers = network.open(requests);
        (network, peers)
    })
    .await
    .expect("all are connected");
    let streams = serving.await.expect("the app serves everybody");

    let cut_at = Instant::now();
    cut(&network);
    let count = f64::from(u32::try_from(count).expect("some dozens"));
    let until = async |what: &str, is_true: &dyn Fn(&Samples) -> bool| {
        let wait = async {
            while !is_true(&side.metrics().await) {
                tokio::time::sleep(Duration::from_millis(15)).await;
            }
            cut_at.elapsed()
        };
        tokio::time::timeout(times.reap_after + DEADLINE, wait).await.unwrap_or_else(|_| panic!("waited for {what}"))
    };
    let first = until("somebody to be stale", &|samples| samples.total("connections_stale") > 0.0).await;
    let all = until("all to be stale", &|samples| samples.total("connections_stale") == count).await;
    let blocked = listed(&side, "blocked_seconds").await;
    assert_eq!(reaped(&side).await, 0.0, "all are counted before the first is closed");
    let gone = until("all to be gone", &|samples| samples.total("connections_active") == 1.0).await;
    assert_eq!(reaped(&side).await, count);
    side.until_metric("connections_stale", &[], 0.0).await;
    app.job("v1").answer(running(2));
    assert_eq!(neighbour.next_event().await.data, Some(running_text(2)));
    assert!(blocked.iter().all(Option::is_none), "writes notice nothing: {blocked:?}");

    let mut told = String::new();
    let _ = write!(told, "{count} peers cut off ({how}), heartbeat {:?}, ", times.heartbeat);
    let _ = write!(told, "--stale-after {:?}: first counted {first:.2?} after the cut, ", times.stale_after);
    let _ = write!(told, "all {all:.2?}; --reap-after {:?}: all gone {gone:.2?} after it", times.reap_after);
    println!("{told}");
    drop((peers, streams));
}

/// The cable is pulled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root: makes a network namespace"]
async fn peers_whose_link_goes_down_are_stale_and_then_gone() {
    cut_off("link down", |Network { name, cable, .. }| ip(&format!("-n {name} link set {cable}p down"))).await;
}

/// The peers live and hear us, but nothing that they say arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root: makes a network namespace"]
async fn peers_whose_packets_are_dropped_are_stale_and_then_gone() {
    cut_off("packets dropped", |Network { name, ours, .. }| ip(&format!("-n {name} route add blackhole {ours}/32")))
        .await;
}
