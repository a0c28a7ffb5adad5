//! Everybody comes back at once: a proxy was reloaded, a network came back. No jitter here, so that it is as bad as it can
//! be: all connect in the same moment, each for its own topic and user.
//!
//! What is asserted are counts: everybody gets the latest of its own, and the app is asked no more than it must be, a few
//! requests at a time. What it took in memory and time is printed, for `tests/storm`, which runs this with thousands; the
//! environment says how many: `STORM_CLIENTS`, `STORM_TOPICS`, `STORM_DELAY_MS` for the app's answer.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Barrier,
    task::JoinSet,
    time::Instant,
};

use crate::harness::{
    app::{Answer, App},
    client::Request,
    sidestream::Sidestream,
};

/// Thousands on a busy machine; none of it is about speed.
const PATIENCE: Duration = Duration::from_secs(300);
/// What the app is asked at once; `--poll-concurrency`, as it is by default.
const CONCURRENCY: usize = 64;

/// What a storm consists of.
#[derive(Clone, Copy, Debug)]
struct Plan {
    clients: usize,
    topics: usize,
    delay: Duration,
}

impl Plan {
    fn from_env() -> Self {
        let number = |name: &str, default| {
            std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
        };
        let delay = number("STORM_DELAY_MS", 5) as u64;
        Self {
            clients: number("STORM_CLIENTS", 300),
            topics: number("STORM_TOPICS", 10),
            delay: Duration::from_millis(delay),
        }
    }

    /// Client `n` is user `n / topics` at topic `n % topics`.
    fn request(&self, side: &Sidestream, n: usize) -> Request {
        let (user, topic) = (n / self.topics, n % self.topics);
        side.sse(&format!("/api/progress/t{topic}")).cookie(&format!("user={user}"))
    }

    /// The data that client `n` must be shown.
    fn data(&self, share: &str, n: usize, round: u64) -> String {
        let (user, topic) = (n / self.topics, n % self.topics);
        let whose = if share == "credentials" { format!("user={user}") } else { "all".to_owned() };
        let path = format!("/api/videos/t{topic}");
        json!({ "status": "processing", "path": path, "whose": whose, "round": round }).to_string()
    }
}

/// Connects and reads up to the first event; its data, and the open stream.
async fn first_event(request: Request, side: std::net::SocketAddr) -> (String, TcpStream) {
    let mut socket = TcpStream::connect(side).await.expect("it listens");
    socket.write_all(&request.bytes()).await.expect("the request is taken");
    let mut seen = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&seen);
        if let Some(at) = text.find("data: ")
            && let Some((data, _)) = text[at + 6..].split_once('\n')
        {
            return (data.to_owned(), socket);
        }
        let read = socket.read_buf(&mut seen).await.expect("the stream is open");
        assert!(read > 0, "the stream ended after {:?}", String::from_utf8_lossy(&seen));
    }
}

/// All of them, each as soon as `starts` lets it; what each was shown.
async fn all(plan: Plan, side: &Sidestream, at_once: usize) -> Vec<(usize, String, TcpStream)> {
    let mut clients = JoinSet::new();
    let mut done = Vec::new();
    let barrier = Arc::new(Barrier::new(at_once));
    for n in 0..plan.clients {
        if clients.len() == at_once && at_once < plan.clients {
            done.push(clients.join_next().await.expect("there are some").expect("no client panics"));
        }
        let (request, addr, barrier) = (plan.request(side, n), side.addr(), Arc::clone(&barrier));
        clients.spawn(async move {
            if at_once == plan.clients {
                barrier.wait().await;
            }
            let (data, socket) = first_event(request, addr).await;
            (n, data, socket)
        });
    }
    done.extend(clients.join_all().await);
    done
}

/// Lets the kernel forget the peak of the memory so far.
fn forget_peak(side: &Sidestream) {
    fs::write(format!("/proc/{}/clear_refs", side.id()), "5").expect("the child is ours");
}

async fn storm(share: &'static str) {
    let plan = Plan::from_env();
    let round = Arc::new(AtomicU64::new(1));
    let app = App::start();
    let current = Arc::clone(&round);
    app.at("/api/videos/*").answer_with(move |seen| {
        let cookie = seen.header("cookie").unwrap_or_default();
        let whose = if share == "credentials" { cookie } else { "all" };
        let round = current.load(Ordering::SeqCst);
        let answer = json!({ "status": "processing", "path": seen.path(), "whose": whose, "round": round });
        Answer::json(&answer).after(plan.delay)
    });
    // Somebody who stays, on a route of its own.
    let ticks = Arc::new(AtomicU64::new(0));
    app.at("/api/ticks").answer_with(move |_| {
        Answer::json(&json!({ "status": "processing", "tick": ticks.fetch_add(1, Ordering::SeqCst) }))
    });
    let jobs = format!("path=/api/progress/{{id}},poll=/api/videos/{{id}},interval=1h,linger=0,share={share}");
    let side = Sidestream::before(&app)
        .route(&jobs)
        .route("path=/ticks,poll=/api/ticks,interval=100ms,max-interval=100ms")
        .flag("--poll-max-interval", "1h")
        .start()
        .await;
    let mut stays = side.sse("/ticks").open().await;
    stays.next_event().await;

    // A quiet state to compare with, reached without haste.
    let before = all(plan, &side, 32).await;
    forget_peak(&side);
    let quiet = side.memory("VmHWM");
    for (_, _, socket) in before {
        socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).expect("a socket takes SO_LINGER");
    }
    side.until_metric("connections_active", &[], 1.0).await;
    side.until("the topics to go", |samples| samples.total("topics") == 1.0).await;

    round.store(2, Ordering::SeqCst);
    forget_peak(&side);
    let (asked, began) = (app.at("/api/videos/*").count(), Instant::now());
    let stormed = tokio::spawn(async move {
        // The longest time without an event for somebody who stayed.
        let (mut last, mut worst) = (Instant::now(), Duration::ZERO);
        loop {
            stays.next_event().await;
            worst = worst.max(last.elapsed());
            last = Instant::now();
            if began.elapsed() > Duration::from_secs(1) {
                return (worst, stays);
            }
        }
    });
    let after = all(plan, &side, plan.clients).await;
    let took = began.elapsed();
    let (worst, _stays) = stormed.await.expect("the stream of who stayed goes on");
    let peak = side.memory("VmHWM");

    assert_eq!(after.len(), plan.clients);
    for (n, data, _) in &after {
        assert_eq!(*data, plan.data(share, *n, 2), "client {n} was shown something else");
    }
    side.until_metric("connections_active", &[], plan.clients as f64 + 1.0).await;
    let requests = app.at("/api/videos/*").count() - asked;
    let users = plan.clients.div_ceil(plan.topics);
    let due = match share {
        // One topic for each user and job.
        "credentials" => users * plan.topics,
        // Each is admitted, and then one asks for all.
        _ => users * plan.topics + plan.topics,
    };
    assert!(requests <= due, "{requests} requests to the app, of which {due} are needed");
    assert!(app.most_in_flight() <= CONCURRENCY, "{} requests at once", app.most_in_flight());
    let samples = side.metrics().await;
    assert_eq!(samples.get("connections_rejected_total", &[]), 0.0);
    println!(
        "storm of {} clients, {} topics, share={share}: quiet {quiet} KiB, peak {peak} KiB, all served after {:.2} s, \
         {requests} requests to the app, {} at once at most, who stayed waited {:.2} s at most",
        plan.clients,
        plan.topics,
        took.as_secs_f64(),
        app.most_in_flight(),
        worst.as_secs_f64(),
    );
    drop(after);
    side.until_metric("connections_active", &[], 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_users_each_with_a_topic_of_their_own_is_served_and_no_storm_for_the_app() {
    tokio::time::timeout(PATIENCE, storm("credentials")).await.expect("the storm is over in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_users_who_share_is_admitted_one_by_one_and_no_storm_for_the_app() {
    tokio::time::timeout(PATIENCE, storm("authorized")).await.expect("the storm is over in time");
}
