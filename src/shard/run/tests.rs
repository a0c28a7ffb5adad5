//! A shard without its thread: its turns are taken by hand, on real sockets and a clock that the test sets.

use std::{
    io::{ErrorKind, Read},
    net::TcpStream,
};

use super::{tick::TICK, walk::BATCH, *};
use crate::{
    connections::Connections,
    event::HeartbeatForm,
    hub::tests::{Bench, LOG, done, frame},
    metrics::{InvalidStateSide, RouteId, Transport},
    route::{Route, RouteDefaults},
    shard::{Adopted, Shards},
    stream::body::Pacing,
    subscription::Subscription,
    topic::Store,
};

const HOUR: Duration = Duration::from_secs(3600);
const HEARTBEAT: Duration = Duration::from_secs(15);
/// More members than one batch of a walk takes.
const CROWD: usize = BATCH + 24;

fn pacing() -> Pacing {
    let defaults = RouteDefaults { heartbeat: HEARTBEAT, max_age: Duration::ZERO, ..RouteDefaults::usual() };
    Pacing::new(&Route::parse("path=/jobs/{id},poll=/api/jobs/{id}", &defaults).unwrap(), HeartbeatForm::Comment)
}

fn limits() -> Limits {
    Limits { connections: 1000, per_ip: 0, stale_after: Duration::from_secs(35), reap_after: HOUR }
}

/// One shard and what is around it.
struct Stand {
    bench: Bench,
    connections: Arc<Connections>,
    shard: Shard,
    began: Instant,
}

/// The client's end of a stream.
struct Peer {
    socket: TcpStream,
    /// Where its stream is in the shard's slab.
    key: usize,
}

// === impl Stand ===

impl Stand {
    fn new() -> Self {
        let bench = Bench::new(10);
        let connections = Connections::new(limits(), Arc::clone(&bench.metrics));
        let poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), WAKER).unwrap();
        let inbox = Arc::new(Inbox { orders: std::sync::Mutex::new(Some(Vec::new())), turns: 0.into(), waker });
        let shard = Shard::new(poll, inbox, limits(), Arc::clone(&bench.metrics));
        Self { bench, connections, shard, began: Instant::now() }
    }

    /// A stream on its way to a shard, and its client.
    fn stream(&self, mut subscription: Subscription) -> (Adopted, TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        peer.set_nonblocking(true).unwrap();
        subscription.place(None);
        let permit = self.connections.permit(RouteId(0), [127, 0, 0, 1].into(), Transport::Http1).unwrap();
        (
            Adopted {
                socket,
                head: b"head ".to_vec(),
                chunked: false,
                subscription,
                permit,
                pacing: Arc::new(pacing()),
            },
            peer,
        )
    }

    /// A stream in the shard.
    fn adopt(&mut self, subscription: Subscription) -> Peer {
        let (adopted, socket) = self.stream(subscription);
        let key = self.shard.entries.vacant_key();
        self.shard.adopt(adopted, self.began);
        Peer { socket, key }
    }

    /// A crowd that has had its first bytes, and waits.
    fn crowd(&mut self) -> Vec<Peer> {
        let subscriptions: Vec<_> = (0..CROWD).map(|_| self.bench.watch(LOG)).collect();
        let mut peers: Vec<_> = subscriptions.into_iter().map(|subscription| self.adopt(subscription)).collect();
        self.turn(Duration::ZERO);
        for peer in &mut peers {
            assert_eq!(peer.hear(), "head :\n");
        }
        peers
    }

    /// Publishes one event.
    fn publish(&self, text: &str) {
        self.bench.topic().event(Some(text), frame(text), Instant::now());
    }

    /// One turn of the shard, so long after the beginning, with what its sockets say now.
    fn turn(&mut self, after: Duration) {
        let mut events = Events::with_capacity(EVENTS);
        self.shard.poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        self.shard.turn(&events, self.began + after);
        self.check();
    }

    /// Turns until nobody is left to be served.
    fn turn_out(&mut self, after: Duration) {
        self.turn(after);
        while !self.shard.walks.is_empty() {
            self.turn(after);
        }
    }

    /// What must be true between any two steps.
    fn check(&self) {
        let Shard { entries, groups, by_topic, walks, heartbeats, .. } = &self.shard;
        let members: usize = groups.iter().map(|(_, group)| group.members.len()).sum();
        assert_eq!(members, entries.len(), "every stream is a member of one group");
        for (key, entry) in entries {
            assert_eq!(groups[entry.group as usize].members[entry.place as usize] as usize, key);
        }
        assert_eq!((by_topic.len(), heartbeats.len()), (groups.len(), groups.len()));
        for (index, group) in groups {
            assert!(!group.members.is_empty());
            assert_eq!(by_topic[&group.topic.addr()], index);
            assert!(heartbeats.contains(&(group.heartbeat_at, index)));
            let queued = walks.iter().filter(|key| **key == group.key).count();
            assert_eq!(queued, usize::from(group.walk.is_some()), "a group with a walk to do stands in line once");
        }
        if !groups.is_empty() {
            assert!(self.shard.wait(self.began).is_some(), "with streams it never sleeps without an end");
        }
    }
}

// === impl Peer ===

impl Peer {
    /// What has come since.
    fn hear(&mut self) -> String {
        let mut heard = Vec::new();
        match self.socket.read_to_end(&mut heard) {
            Ok(_) => heard.extend_from_slice(b"(end)"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        String::from_utf8(heard).unwrap()
    }
}

// When thousands come back in the same second, news for those who stayed must not wait until all of them are in.
#[tokio::test]
async fn a_storm_of_newcomers_is_let_in_by_turns_and_news_go_between() {
    let mut stand = Stand::new();
    let subscription = stand.bench.watch(LOG);
    let mut stays = stand.adopt(subscription);
    stand.turn(Duration::ZERO);
    assert_eq!(stays.hear(), "head :\n");
    let mut peers = Vec::new();
    for _ in 0..2 * NEWCOMERS + 1 {
        let (adopted, peer) = stand.stream(stand.bench.watch(LOG));
        stand.shard.inbox.send(Order::Adopt(Box::new(adopted))).unwrap();
        peers.push(peer);
    }
    stand.publish("news");

    let mut inside = Vec::new();
    while !stand.shard.newcomers.is_empty() || inside.is_empty() {
        stand.turn(Duration::ZERO);
        inside.push(stand.shard.entries.len() - 1);
        // While there are more, the loop does not sleep.
        assert!(stand.shard.newcomers.is_empty() || stand.shard.wait(stand.began) == Some(Duration::ZERO));
    }

    assert_eq!(inside, [NEWCOMERS, 2 * NEWCOMERS, 2 * NEWCOMERS + 1]);
    assert!(stays.hear().contains("news"));
}

// The budgets behind DESIGN 9's figures, in bytes. An entry holds its permit and its subscription; a group is the topic's
// share, so even a topic with one stream stays within 420 in its shard.
#[test]
fn a_stream_and_a_group_stay_within_their_budgets() {
    for (name, size, budget) in [
        ("an entry", size_of::<Entry>(), 256),
        ("its permit", size_of::<crate::connections::Permit>(), 64),
        ("its subscription", size_of::<Subscription>(), 96),
        ("a group", size_of::<Group>(), 160),
        ("an order", size_of::<Order>(), 24),
    ] {
        assert!(size <= budget, "{name} is {size} bytes");
    }
}

/// Has every stream looked at.
fn sweep(stand: &mut Stand, after: Duration) {
    for _ in 0..stand.shard.sweep().1 {
        stand.shard.tick(stand.began + after);
    }
}

// A shard without streams sleeps until it is told something, and nobody would count again.
#[tokio::test]
async fn the_last_stream_takes_its_staleness_with_it() {
    let mut stand = Stand::new();
    let subscription = stand.bench.watch(Store::State);
    let peer = stand.adopt(subscription);
    let metrics = Arc::clone(&stand.bench.metrics);
    let stale = || metrics.route(RouteId(0)).stale();

    stand.shard.entries[peer.key].block(stand.began);
    sweep(&mut stand, Duration::from_secs(1));
    assert_eq!(stale(), 0);
    sweep(&mut stand, Duration::from_secs(60));
    assert_eq!(stale(), 1);
    stand.shard.after(peer.key, Served::Over);
    assert_eq!(stale(), 0);
    assert!(stand.connections.is_empty() && stand.bench.hub.list()[0].subscribers == 0);
    assert_eq!(stand.bench.topic().waiting(), 0);
}

// The canary's topic and the first of the public side have the same number, each in its hub. In one group the one's events
// would wake nobody of the other's, or worse.
#[tokio::test]
async fn topics_of_two_hubs_never_share_a_group() {
    let mut stand = Stand::new();
    let other = Bench::new(1);
    let (ours, theirs) = (stand.bench.watch(LOG), other.watch(LOG));
    assert_eq!(ours.topic_id(), theirs.topic_id());
    let (mut ours, mut theirs) = (stand.adopt(ours), stand.adopt(theirs));
    stand.turn(Duration::ZERO);
    assert_eq!((ours.hear(), theirs.hear()), ("head :\n".to_owned(), "head :\n".to_owned()));
    stand.publish("ours");
    stand.turn_out(Duration::ZERO);
    assert!(ours.hear().ends_with("\ndata: ours\n\n") && theirs.hear().is_empty());
    other.topic().event(Some("theirs"), frame("theirs"), Instant::now());
    stand.turn_out(Duration::ZERO);
    assert!(ours.hear().is_empty() && theirs.hear().ends_with("\ndata: theirs\n\n"));
}

// The kernel is asked about those who were sent something, once in an interval, and no more when it has answered.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_sweep_comes_to_everybody_once_and_leaves_alone_who_has_acknowledged() {
    let mut stand = Stand::new();
    let peers = stand.crowd();
    let wanting = |stand: &Stand| stand.shard.entries.iter().filter(|(_, entry)| entry.wants_look()).count();
    // But for those whom the tick in the turn has come to already.
    let most = peers.len() - peers.len() / 10;
    assert!(wanting(&stand) >= most, "everybody was sent the first bytes");

    let began = Instant::now();
    while wanting(&stand) > 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "{} are still in doubt", wanting(&stand));
        sweep(&mut stand, began.elapsed());
    }
    stand.turn_out(HEARTBEAT);
    assert!(wanting(&stand) >= most, "and a heartbeat");
}

// Should no sweep come, and only then: a sweep reaps long before.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_kernel_is_the_backstop_of_the_sweep() {
    let mut stand = Stand::new();
    let subscription = stand.bench.watch(LOG);
    let peer = stand.adopt(subscription);
    let socket = socket2::SockRef::from(&*stand.shard.entries[peer.key].socket()).try_clone().unwrap();
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(HOUR * 5));

    let drop_all = socket2::SockFilter::new(0x06, 0, 0, 0);
    socket2::SockRef::from(&peer.socket).attach_filter(&[drop_all]).unwrap();
    crate::tcp::set_user_timeout(&socket, Some(Duration::from_millis(300))).unwrap();
    stand.publish("news");
    let began = Instant::now();
    while !stand.shard.entries.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(20), "the kernel holds on to it");
        tokio::task::yield_now().await;
        stand.turn(Duration::ZERO);
    }

    let counted = stand.bench.metrics.route(RouteId(0));
    assert_eq!((counted.closed_count(CloseReason::Stale), counted.closed_count(CloseReason::Client)), (1, 0));
}

// A member that leaves gives its index to the last one, so a walk that went upwards would pass over somebody.
#[tokio::test]
async fn members_that_leave_in_the_middle_of_a_walk_cost_nobody_an_event() {
    let mut stand = Stand::new();
    let mut peers = stand.crowd();
    stand.publish("news");
    stand.turn(Duration::ZERO);
    assert!(!stand.shard.walks.is_empty(), "the crowd is more than one batch");

    // Some who were served, some who were not, the first, the last.
    let leavers = [0, 3, 20, CROWD - BATCH, 100, CROWD - 1];
    for leaver in leavers {
        stand.shard.after(peers[leaver].key, Served::Over);
        stand.check();
    }
    stand.turn_out(Duration::ZERO);

    for (index, peer) in peers.iter_mut().enumerate() {
        let heard = peer.hear();
        let was_served = index >= CROWD - BATCH;
        assert_eq!(
            heard.matches("data: news").count(),
            usize::from(was_served || !leavers.contains(&index)),
            "{index}"
        );
        assert_eq!(heard.ends_with("(end)"), leavers.contains(&index), "{index}");
    }
}

// Those at whom the walk has been already are not waiting in the topic: only the walk after it brings them the rest.
#[tokio::test]
async fn what_is_published_during_a_walk_reaches_everybody_once_and_in_order() {
    let mut stand = Stand::new();
    let mut peers = stand.crowd();
    stand.publish("one");
    stand.turn(Duration::ZERO);
    stand.publish("two");
    stand.publish("three");
    stand.turn_out(Duration::ZERO);

    for peer in &mut peers {
        let heard = peer.hear();
        let data: Vec<_> = heard.lines().filter(|line| line.starts_with("data")).collect();
        assert_eq!(data, ["data: one", "data: two", "data: three"]);
    }
    let counted = stand.bench.metrics.route(RouteId(0));
    assert_eq!((counted.active(), stand.bench.topic().waiting()), (CROWD as i64, 1), "one waker for all");
}

// What is new is worth more than a heartbeat, and is one.
#[tokio::test]
async fn news_overtake_a_round_of_heartbeats_and_take_its_place() {
    let mut stand = Stand::new();
    let mut peers = stand.crowd();
    stand.turn(HEARTBEAT);
    stand.publish("news");
    stand.turn_out(HEARTBEAT);

    for (index, peer) in peers.iter_mut().enumerate() {
        let heard = peer.hear();
        assert!(heard.contains("data: news"), "{index}: {heard:?}");
        assert_eq!(heard.starts_with(":\n"), index >= CROWD - BATCH, "{index}: {heard:?}");
    }
    stand.turn_out(HEARTBEAT * 2 - TICK);
    assert!(peers.iter_mut().all(|peer| peer.hear().is_empty()), "the silence began with the news");
    stand.turn_out(HEARTBEAT * 2);
    assert!(peers.iter_mut().all(|peer| peer.hear() == ":\n"));
}

// All members of a topic are woken when the app turns one of them away. On a quiet topic that many leave, that must not
// put the heartbeat off again and again, or proxies cut those who stay.
#[tokio::test]
async fn a_wake_up_without_news_does_not_put_the_heartbeat_off() {
    let mut stand = Stand::new();
    let mut peers = stand.crowd();
    for second in [5, 10, 14] {
        // Nor is an outage news of which nobody is told.
        stand.bench.topic().trouble(None);
        stand.bench.topic().nudge();
        stand.turn_out(Duration::from_secs(second));
    }
    assert!(peers.iter_mut().all(|peer| peer.hear().is_empty()));

    // One more in the middle of the round itself.
    stand.turn(HEARTBEAT);
    stand.bench.topic().nudge();
    stand.turn_out(HEARTBEAT);
    stand.turn_out(HEARTBEAT + TICK);

    for (index, peer) in peers.iter_mut().enumerate() {
        assert!(peer.hear().starts_with(":\n"), "{index} got no heartbeat");
    }
}

// Groups are kept in places that are used again; a wake-up of the one before must not move the one after.
#[tokio::test]
async fn a_wake_up_for_a_group_that_is_gone_finds_nobody() {
    let mut stand = Stand::new();
    let old = stand.bench.watch(LOG);
    let old_topic = stand.bench.topic();
    let mut left = stand.adopt(old);
    let old_key = stand.shard.groups[0].key;
    old_topic.event(Some("1"), frame("late"), Instant::now());
    // Its order waits in the inbox while the last member leaves and a stream of another topic takes the place.
    stand.shard.after(left.key, Served::Over);
    let other = stand.bench.subscribe(stand.bench.order("/jobs/2", "a", LOG));
    let mut peer = stand.adopt(other);
    let key = stand.shard.groups[0].key;
    assert_eq!((key.index, key.generation), (old_key.index, old_key.generation + 1));

    stand.turn(Duration::ZERO);

    assert!(stand.shard.groups[0].walk.is_none() && stand.shard.walks.is_empty());
    assert_eq!((left.hear().as_str(), peer.hear().as_str()), ("head :\n(end)", "head :\n"));
    assert_eq!((old_topic.waiting(), stand.bench.topic().waiting()), (0, 1));
}

// The walk's queue may name a group whose members have all left since.
#[tokio::test]
async fn a_group_that_empties_in_the_middle_of_its_walk_is_forgotten() {
    let mut stand = Stand::new();
    let peers = stand.crowd();
    stand.publish("news");
    stand.turn(Duration::ZERO);
    for peer in &peers {
        stand.shard.after(peer.key, Served::Over);
    }
    assert_eq!(stand.shard.wait(stand.began), Some(Duration::ZERO), "the queue is looked at once more");

    stand.turn(Duration::ZERO);

    assert_eq!(stand.shard.wait(stand.began), None);
    assert!(stand.connections.is_empty());
}

// The kernel takes what it has room for, in the middle of a frame or of several; the client must not notice.
#[tokio::test]
async fn a_reader_that_stops_and_goes_on_gets_every_byte_in_order() {
    let mut stand = Stand::new();
    let (adopted, mut socket) = stand.stream(stand.bench.watch(LOG));
    socket2::SockRef::from(&adopted.socket).set_send_buffer_size(4096).unwrap();
    stand.shard.adopt(adopted, stand.began);
    stand.publish("0");
    stand.turn_out(Duration::ZERO);
    let mut expected = String::from("data: 0\n\n");
    let mut heard = Vec::new();

    // Many that fit into the replay window together, then one that is larger than any buffer.
    let many: Vec<_> = (1..=80).map(|n| format!("{n} {}", "x".repeat(3000))).collect();
    let large = vec![format!("81 {}", "y".repeat(800 * 1024))];
    for texts in [many, large] {
        for text in &texts {
            expected.push_str(&format!("data: {text}\n\n"));
            stand.publish(text);
        }
        stand.turn_out(Duration::ZERO);
        assert!(stand.shard.entries[0].is_blocked(), "it takes no more");
        let hint = |heard: &[u8]| heard.windows(4).position(|window| window == b"data").unwrap_or_default();
        while heard.len() < hint(&heard) + expected.len() {
            // Odd sizes, so that it stops everywhere in a frame.
            let mut some = [0; 4099];
            match socket.read(&mut some) {
                Ok(count) => heard.extend_from_slice(&some[..count]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            stand.turn_out(Duration::ZERO);
        }
        assert!(!stand.shard.entries[0].is_blocked(), "it has taken everything");
    }

    let heard = String::from_utf8(heard).unwrap();
    let (hint, events) = heard.strip_prefix("head :\n").unwrap().split_once('\n').unwrap();
    assert!(hint.starts_with("retry: "), "{hint}");
    assert!(events == expected, "{} of {} bytes", events.len(), expected.len());
}

// The end of a stream: the client hears it in order, and the books are closed before it can.
#[tokio::test]
async fn a_stream_that_is_over_ends_within_the_second() {
    let mut stand = Stand::new();
    let subscription = stand.bench.watch(Store::State);
    let mut peer = stand.adopt(subscription);
    stand.bench.topic().snapshot("1", frame("last"), Instant::now(), Some(done()));
    stand.turn_out(Duration::ZERO);
    let heard = peer.hear();
    assert!(heard.contains("data: last\n\n") && heard.ends_with("data: done\n\n"), "{heard:?}");
    stand.turn(Duration::from_millis(900));
    assert_eq!(peer.hear(), "");

    stand.turn(Duration::from_millis(1100));

    assert_eq!(peer.hear(), "(end)");
    let counted = stand.bench.metrics.route(RouteId(0));
    assert_eq!((counted.closed_count(CloseReason::Done), counted.active()), (1, 0));
    assert_eq!(counted.invalid_state_count(InvalidStateSide::Client), 0);
}

// A stream that is handed over while the drain begins ends with the others, whichever order comes first.
#[tokio::test]
async fn a_stream_that_arrives_around_the_beginning_of_the_drain_is_drained() {
    for drained_first in [true, false] {
        let mut stand = Stand::new();
        let (adopted, socket) = stand.stream(stand.bench.watch(LOG));
        let time = Duration::from_secs(10);
        stand.connections.drain(time);
        let adopt = Order::Adopt(Box::new(adopted));
        let orders = if drained_first { [Order::Drain(time), adopt] } else { [adopt, Order::Drain(time)] };
        for order in orders {
            stand.shard.inbox.send(order).unwrap();
        }
        stand.turn(Duration::ZERO);
        let (at, reason) = stand.shard.entries[0].ends_at.unwrap();
        assert_eq!(reason, CloseReason::Drain);
        assert!(at <= stand.began + time + Duration::from_secs(1));

        stand.turn(time + Duration::from_secs(2));

        let heard = Peer { socket, key: 0 }.hear();
        assert!(heard.starts_with("head :\nretry: ") && heard.ends_with("(end)"), "{heard:?}");
        assert!(stand.connections.is_empty());
    }
}

// Orders that nobody will take any more would be streams that hang, with their places taken for ever.
#[tokio::test]
async fn a_shard_that_ends_lets_go_of_what_it_has_and_what_was_on_its_way() {
    let mut stand = Stand::new();
    let inside = stand.bench.watch(LOG);
    let mut inside = stand.adopt(inside);
    let (adopted, waiting) = stand.stream(stand.bench.watch(LOG));
    let inbox = Arc::clone(&stand.shard.inbox);
    inbox.send(Order::Adopt(Box::new(adopted))).unwrap();
    let (tell, told) = tokio::sync::oneshot::channel();
    inbox.send(Order::Survey(RouteId(9), tell)).unwrap();

    drop(stand.shard);

    assert!(told.await.is_err(), "whoever asked goes on");
    assert!(matches!(inbox.send(Order::Stop), Err(Order::Stop)), "nothing is taken any more");
    assert_eq!((inside.hear().as_str(), Peer { socket: waiting, key: 0 }.hear().as_str()), ("head :\n(end)", "(end)"));
    assert!(stand.connections.is_empty());
    let counted = stand.bench.metrics.route(RouteId(0));
    assert_eq!((counted.closed_count(CloseReason::Error), counted.active()), (1, 0));
}

// A fault of ours in one shard is not the end of the others, nor of the streams that come after.
#[tokio::test]
async fn a_shard_that_panics_is_passed_over() {
    let stand = Stand::new();
    let shards = Shards::start(2, limits(), &stand.bench.metrics).unwrap();
    let (mut adopted, _peer) = stand.stream(stand.bench.watch(LOG));
    // No flag can say this: the sum of now and it is more than the clock can hold.
    Arc::make_mut(&mut adopted.pacing).heartbeat = Duration::MAX;
    shards.adopt(Box::new(adopted));
    // The stream goes while the shard unwinds, its inbox only at the end of that.
    while !stand.connections.is_empty() || shards.inboxes.iter().all(|inbox| inbox.lock().is_some()) {
        tokio::task::yield_now().await;
    }

    let _peers: Vec<_> = (0..4)
        .map(|_| {
            let (adopted, peer) = stand.stream(stand.bench.watch(LOG));
            shards.adopt(Box::new(adopted));
            peer
        })
        .collect();

    assert_eq!(shards.survey(RouteId(9)).await.total, 4);
    shards.drain(HOUR);
    shards.stop();
    assert!(stand.connections.is_empty());
    assert_eq!(shards.survey(RouteId(9)).await.total, 0);
    assert_eq!(stand.bench.metrics.route(RouteId(0)).closed_count(CloseReason::Drain), 4);
}
