//! What a stream's client gets, and when, on a clock that only moves when everybody waits.

use std::future::poll_fn;

use futures_util::FutureExt;
use http_body::Body;
use tokio::{io::AsyncWrite, net::TcpStream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    connections::{ConnState, Connections, Limits},
    hub::tests::{Bench, LOG, done, frame, gone, refusal},
    metrics::Transport,
    route::Share,
    scope::Lender,
    topic::{BURST, REPLAY_EVENTS_MAX, Store},
    wire::Wire,
};

const HEARTBEAT: Duration = Duration::from_secs(15);

/// One stream and what is around it.
struct Stand {
    bench: Bench,
    connections: Arc<Connections>,
    body: StreamBody,
    wire: Wire,
    began: Instant,
    _peer: std::net::TcpStream,
}

fn connections(bench: &Bench) -> Arc<Connections> {
    let hour = Duration::from_secs(3600);
    let limits = Limits { connections: 10, per_ip: 0, stale_after: hour, reap_after: hour };
    Connections::new(limits, Arc::clone(&bench.metrics))
}

/// Two ends of a connection, made without waiting: the clock stands still, and nothing else may move it.
fn socket() -> (std::net::TcpStream, Wire) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, _) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    (peer, Wire::new(TcpStream::from_std(socket).unwrap()))
}

fn pacing(max_age: Option<Duration>) -> Pacing {
    let heartbeat_frame = Frame::new(&[&HeartbeatForm::Comment.frame()]);
    Pacing { heartbeat: HEARTBEAT, heartbeat_frame, retry: Duration::from_secs(3), max_age, is_checked: false }
}

// === impl Stand ===

impl Stand {
    fn new(store: Store, max_age: Option<Duration>) -> Self {
        let bench = Bench::new(10);
        let mut subscription = bench.watch(store);
        subscription.place(None);
        Self::watching(bench, Watching::Topic(subscription), max_age)
    }

    fn watching(bench: Bench, watching: Watching, max_age: Option<Duration>) -> Self {
        let connections = connections(&bench);
        let (peer, wire) = socket();
        let conn = Arc::new(ConnState { wire: wire.state(), abort: CancellationToken::new() });
        let seat = connections.permit(RouteId(0), [127, 0, 0, 1].into(), Transport::Http1).unwrap().listed(conn);
        let body = StreamBody::new(watching, seat, Arc::new(pacing(max_age)), Arc::clone(&bench.metrics));
        Self { bench, connections, body, wire, began: Instant::now(), _peer: peer }
    }

    fn snapshot(&self, id: &str, end: Option<End>) {
        self.bench.topic().snapshot(id, frame(id), Instant::now(), end);
    }

    /// The next frame, and how long after the beginning it came.
    async fn next(&mut self) -> (Option<String>, Duration) {
        let frame = poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await;
        let text = frame.map(|frame| String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap());
        (text, self.began.elapsed())
    }

    async fn text(&mut self) -> String {
        self.next().await.0.expect("more of the stream")
    }

    fn poll(&mut self) -> Poll<Option<Bytes>> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let polled = Pin::new(&mut self.body).poll_frame(&mut cx);
        polled.map(|frame| frame.map(|frame| frame.unwrap().into_data().unwrap()))
    }

    /// The peer takes no more bytes, as far as anybody here can see: the runtime has not reported the socket yet.
    fn block(&mut self) {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut self.wire).poll_write(&mut cx, b"x").is_pending());
    }

    async fn unblock(&mut self) {
        poll_fn(|cx| Pin::new(&mut self.wire).poll_write(cx, b"x")).await.unwrap();
        poll_fn(|cx| Pin::new(&mut self.wire).poll_flush(cx)).await.unwrap();
    }

    /// The heartbeats that were timed, and by how many seconds they were late in all.
    fn lateness(&self) -> (u64, f64) {
        self.bench.observed("sidestream_heartbeat_lateness_seconds")
    }

    /// The stream is let go; what it is counted as.
    fn close(self) -> Vec<CloseReason> {
        let Self { bench, body, .. } = self;
        let route = bench.metrics.route(RouteId(0));
        assert_eq!(route.active(), 1);
        drop(body);
        assert_eq!((route.active(), bench.hub.list().iter().map(|topic| topic.subscribers).sum()), (0, 0));
        CloseReason::ALL.iter().copied().filter(|reason| route.closed_count(*reason) > 0).collect()
    }
}

fn retry_of(text: &str) -> u64 {
    text.strip_prefix("retry: ").and_then(|text| text.split_once('\n')).unwrap().0.parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_first_bytes_leave_at_once_and_a_heartbeat_after_every_silence() {
    let mut stand = Stand::new(Store::State, None);
    for beats in 0..4 {
        assert_eq!(stand.next().await, (Some(":\n".into()), HEARTBEAT * beats));
    }
}

// The heartbeat is for silence: what has just been sent keeps the proxies content by itself.
#[tokio::test(start_paused = true)]
async fn an_event_puts_the_heartbeat_off() {
    let mut stand = Stand::new(LOG, None);
    assert_eq!(stand.text().await, ":\n");
    tokio::time::advance(Duration::from_secs(10)).await;
    stand.bench.topic().event(None, frame("x"), Instant::now());
    assert!(stand.text().await.ends_with("data: x\n\n"));
    assert_eq!(stand.next().await, (Some(":\n".into()), Duration::from_secs(25)));
}

// A `retry:` in a block of its own makes some clients deliver an empty message, and once is enough.
#[tokio::test(start_paused = true)]
async fn the_hint_stands_in_the_first_block_with_data_and_nowhere_else() {
    let mut stand = Stand::new(LOG, None);
    assert_eq!(stand.text().await, ":\n");
    for text in ["x", "y"] {
        stand.bench.topic().event(None, frame(text), Instant::now());
    }
    let first = stand.text().await;
    assert!((2_010..=3_990).contains(&retry_of(&first)), "{first}");
    assert!(first.ends_with("\ndata: x\n\n") && first.lines().count() == 3, "{first}");
    assert_eq!(stand.text().await, "data: y\n\n");
}

#[tokio::test(start_paused = true)]
async fn a_known_state_is_the_first_thing_that_leaves() {
    let bench = Bench::new(10);
    let _other = bench.watch(Store::State);
    bench.topic().snapshot("1", frame("1"), Instant::now(), None);
    let mut subscription = bench.watch(Store::State);
    subscription.place(None);
    let mut stand = Stand::watching(bench, Watching::Topic(subscription), None);
    assert!(stand.text().await.ends_with("data: 1\n\n"));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_job_is_its_last_state_then_done_with_a_long_hint_then_a_second_then_the_end() {
    let mut stand = Stand::new(Store::State, None);
    stand.snapshot("1", Some(done()));
    assert!(stand.text().await.ends_with("data: 1\n\n"));
    let last = stand.text().await;
    assert!((30_000..60_000).contains(&retry_of(&last)), "{last}");
    assert!(last.ends_with("\ndata: done\n\n"), "{last}");
    assert_eq!(stand.next().await, (None, CLOSING));
    assert_eq!(stand.close(), [CloseReason::Done]);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_gone_ends_like_one_that_is_done() {
    let mut stand = Stand::new(Store::State, None);
    stand.bench.topic().end(gone());
    assert!(stand.text().await.ends_with("\ndata: gone\n\n"));
    assert_eq!(stand.next().await, (None, CLOSING));
}

// An app's own stream has its own last words, and no `done` of ours; but a browser would be back in a moment.
#[tokio::test(start_paused = true)]
async fn an_end_without_words_is_a_long_hint() {
    let mut stand = Stand::new(LOG, None);
    stand.bench.topic().end(End { frame: None, ..done() });
    let last = stand.text().await;
    assert_eq!(last, format!("retry: {}\n", retry_of(&last)));
    assert!(retry_of(&last) >= 30_000);
    assert_eq!(stand.next().await, (None, CLOSING));
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_full_age_ends_without_a_word() {
    let age = Duration::from_secs(600);
    let mut stand = Stand::new(Store::State, Some(age));
    let mut ended = stand.next().await;
    while ended.0.as_deref() == Some(":\n") {
        ended = stand.next().await;
    }
    assert_eq!(ended.0, None);
    assert!((age.mul_f64(0.9)..=age.mul_f64(1.1)).contains(&ended.1), "{ended:?}");
    assert_eq!(stand.close(), [CloseReason::MaxAge]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_fell_out_of_the_window_is_closed_as_slow() {
    let mut stand = Stand::new(LOG, None);
    assert_eq!(stand.text().await, ":\n");
    for _ in 0..=REPLAY_EVENTS_MAX {
        stand.bench.topic().event(None, frame("x"), Instant::now());
    }
    stand.bench.topic().trim(Instant::now() + BURST);
    assert_eq!(stand.next().await.0, None);
    assert_eq!(stand.close(), [CloseReason::Slow]);
}

// A reader of state that takes nothing for a while gets what is true now; what it missed is of no use to anybody.
#[tokio::test(start_paused = true)]
async fn a_blocked_reader_gets_no_heartbeats_and_the_latest_state_when_it_reads_again() {
    let mut stand = Stand::new(Store::State, None);
    assert_eq!(stand.text().await, ":\n");
    stand.block();
    for id in ["1", "2", "3"] {
        stand.snapshot(id, None);
        tokio::time::advance(HEARTBEAT).await;
        assert!(stand.poll().is_pending());
    }
    stand.unblock().await;
    assert!(stand.text().await.ends_with("data: 3\n\n"));
    assert!(stand.poll().is_pending());
}

fn admission(bench: &Bench, ask: Admission) -> Watching {
    let order = bench.admitted_order("/jobs/1", "b", Store::State);
    let join = Joining {
        hub: Arc::clone(&bench.hub),
        key: order.key,
        store: order.store,
        linger: order.linger,
        lender: order.lender,
        share: Share::Authorized,
        last_event_id: None,
    };
    let ask = async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        ask
    };
    Watching::Admission { ask: ask.boxed(), notice: Some(frame("sorry")), join: Box::new(join) }
}

// The app was down when it came, so its stream is open already when the app lets it in. What is known of the job may be old
// all the same, and it waits for the app's word like any newcomer: a retried job must not look finished.
#[tokio::test(start_paused = true)]
async fn a_client_that_was_admitted_late_gets_nothing_old() {
    let bench = Bench::new(10);
    let _other = bench.subscribe(bench.admitted_order("/jobs/1", "a", Store::State));
    let topic = bench.topic();
    topic.snapshot("old", frame("old"), Instant::now(), Some(done()));
    topic.unsettle();
    let watching = admission(&bench, Admission::Admitted);
    let mut stand = Stand::watching(bench, watching, None);
    assert_eq!(stand.next().await, (Some("data: sorry\n\n".into()), Duration::ZERO));
    assert_eq!(stand.next().await, (Some(":\n".into()), HEARTBEAT));

    topic.asking();
    topic.snapshot("new", frame("new"), Instant::now(), None);
    assert!(stand.text().await.ends_with("data: new\n\n"));
    assert_eq!(stand.next().await.0, Some(":\n".into()));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_turned_away_late_gets_the_end_of_its_stream() {
    let bench = Bench::new(10);
    let watching = admission(&bench, Admission::Refused(Arc::new(refusal())));
    let mut stand = Stand::watching(bench, watching, None);
    assert_eq!(stand.text().await, "data: sorry\n\n");
    assert_eq!(stand.next().await, (None, Duration::from_secs(1)));
    assert_eq!(stand.close(), [CloseReason::Denied]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_the_app_turned_away_gets_nothing_more_and_the_others_stay() {
    let bench = Bench::new(10);
    let mut turned_away = bench.subscribe(bench.admitted_order("/jobs/1", "a", Store::State));
    let mut other = bench.subscribe(bench.admitted_order("/jobs/1", "b", Store::State));
    let topic = bench.topic();
    let lender: Arc<Lender> = topic.lenders().current().unwrap();
    turned_away.place(None);
    other.place(None);
    let mut stand = Stand::watching(bench, Watching::Topic(turned_away), None);
    assert_eq!(stand.text().await, ":\n");

    assert!(topic.lenders().deny(&lender, CloseReason::Denied));
    topic.snapshot("1", frame("1"), Instant::now(), None);

    assert_eq!(stand.next().await.0, None);
    assert!(matches!(poll_fn(|cx| other.poll_next(cx)).await, Delivery::Frame { .. }));
    drop(other);
    assert_eq!(stand.close(), [CloseReason::Denied]);
}

// The stream sleeps when the drain begins, and its own timer is far away. What comes after the hint is the end: a stream
// that repeated its hint would never be done, and as fast as the client reads.
#[tokio::test(start_paused = true)]
async fn the_drain_ends_a_sleeping_stream_in_time_with_one_hint() {
    let mut stand = Stand::new(Store::State, None);
    assert_eq!(stand.text().await, ":\n");
    let connections = Arc::clone(&stand.connections);
    let drain = Duration::from_secs(10);
    let ((hint, after), ()) = tokio::join!(stand.next(), async {
        tokio::task::yield_now().await;
        connections.drain(drain);
    });
    let hint = hint.unwrap();
    assert_eq!(hint, format!("retry: {}\n", retry_of(&hint)));
    assert!((2_010..=3_990).contains(&retry_of(&hint)) && after <= drain, "{hint} {after:?}");
    assert_eq!(stand.next().await.0, None);
    assert_eq!(stand.next().await.0, None);
    assert_eq!(stand.close(), [CloseReason::Drain]);
}

// It was told to stay away for long; a drain that finds it in its last second must not tell it otherwise.
#[tokio::test(start_paused = true)]
async fn a_drain_leaves_a_stream_alone_that_has_had_its_end() {
    let mut stand = Stand::new(Store::State, None);
    stand.snapshot("1", Some(done()));
    stand.text().await;
    assert!(stand.text().await.ends_with("\ndata: done\n\n"));
    stand.connections.drain(Duration::ZERO);
    assert_eq!(stand.next().await, (None, CLOSING));
    assert_eq!(stand.close(), [CloseReason::Done]);
}

// How late heartbeats are tells how busy this program is; a peer that takes nothing is another matter.
#[tokio::test(start_paused = true)]
async fn a_heartbeat_held_back_for_a_blocked_reader_does_not_count_as_late() {
    let mut stand = Stand::new(Store::State, None);
    assert_eq!(stand.text().await, ":\n");
    stand.block();
    tokio::time::advance(HEARTBEAT * 4).await;
    assert!(stand.poll().is_pending());
    stand.unblock().await;
    assert_eq!(stand.text().await, ":\n");
    assert_eq!(stand.lateness(), (1, 0.0));
    assert_eq!(stand.text().await, ":\n");
    assert_eq!(stand.lateness(), (2, 0.0));
}
