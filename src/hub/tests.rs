//! The registry against sources that do nothing by themselves; other modules' tests use them too.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Weak,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, header};
use prometheus::Registry;

use super::*;
use crate::{
    event::Frame,
    metrics::{CloseReason, Phase, RouteId},
    refusal::Refusal,
    scope::Scopes,
    topic::{Delivery, End, Settled},
};

mod model;
mod stress;

/// Where the clients are.
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A hub with its fakes, and clients to send to it.
pub(crate) struct Bench {
    pub(crate) hub: Arc<Hub>,
    pub(crate) fakes: Fakes,
    pub(crate) metrics: Arc<Metrics>,
    registry: Registry,
    scopes: Scopes,
}

/// The sources that were started, in their order. Cloned, it is the same list.
#[derive(Clone, Default)]
pub(crate) struct Fakes(Arc<Mutex<Vec<Fake>>>);

/// What became of one source.
pub(crate) struct Fake {
    pub(crate) key: Arc<TopicKey>,
    pub(crate) topic: Weak<Topic>,
    pub(crate) is_alive: bool,
    /// `first` of every [`Source::joined`].
    pub(crate) joins: Vec<bool>,
    /// Who came without the end of a job that is over.
    pub(crate) unaware: usize,
    pub(crate) idles: usize,
}

struct FakeSource {
    fakes: Fakes,
    index: usize,
}

// === impl Bench ===

impl Bench {
    pub(crate) fn new(topics_max: usize) -> Self {
        let registry = Registry::new();
        let metrics = Arc::new(Metrics::register(&registry, &["/jobs/{id}".to_owned()]).unwrap());
        let fakes = Fakes::default();
        let hub = Hub::new(topics_max, Box::new(fakes.clone()), Arc::clone(&metrics));
        Self { hub, fakes, metrics, registry, scopes: Scopes::new(vec![header::COOKIE]) }
    }

    /// An order of a client with this cookie.
    pub(crate) fn order(&self, target: &str, cookie: &'static str, store: Store) -> Order {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_static(cookie));
        let (scope, identity) = self.scopes.with_credentials(&headers, LOCAL);
        Order {
            key: Arc::new(TopicKey { route: RouteId(0), target: target.into(), scope }),
            store,
            linger: Duration::from_secs(10),
            lender: Lender::new(scope, identity),
            admitted: false,
            last_event_id: None,
            first_id: None,
        }
    }

    /// The same of a client that the app has admitted to a topic for all.
    pub(crate) fn admitted_order(&self, target: &str, cookie: &'static str, store: Store) -> Order {
        let mut order = self.order(target, cookie, store);
        Arc::make_mut(&mut order.key).scope = self.scopes.without_credentials(&HeaderMap::new(), LOCAL).0;
        order.admitted = true;
        order
    }

    pub(crate) fn subscribe(&self, order: Order) -> Subscription {
        match self.hub.subscribe(order) {
            Ok(Joined::Subscribed(subscription)) => subscription,
            other => panic!("no subscription but {other:?}"),
        }
    }

    /// A subscriber of the one topic that most tests need.
    pub(crate) fn watch(&self, store: Store) -> Subscription {
        self.subscribe(self.order("/jobs/1", "a", store))
    }

    /// The topic of the source that was started last.
    pub(crate) fn topic(&self) -> Arc<Topic> {
        let fakes = self.fakes.lock();
        fakes.last().and_then(|fake| fake.topic.upgrade()).expect("a live topic")
    }

    /// How often a histogram was told something, and the sum of it, over all labels.
    pub(crate) fn observed(&self, name: &str) -> (u64, f64) {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).expect("a registered name");
        let histograms = family.get_metric().iter().map(|metric| metric.get_histogram());
        histograms.fold((0, 0.0), |(count, sum), each| (count + each.get_sample_count(), sum + each.get_sample_sum()))
    }

    /// Topics in whatever phase.
    pub(crate) fn gauges(&self) -> i64 {
        Phase::ALL.iter().map(|phase| self.metrics.route(RouteId(0)).topics(*phase).get()).sum()
    }
}

// === impl Fakes ===

impl Fakes {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Vec<Fake>> {
        self.0.lock().unwrap()
    }

    pub(crate) fn alive(&self) -> usize {
        self.lock().iter().filter(|fake| fake.is_alive).count()
    }
}

impl StartSource for Fakes {
    fn start(&self, topic: &Arc<Topic>, order: &Order) -> Box<dyn Source> {
        let mut fakes = self.lock();
        let topic = Arc::downgrade(topic);
        fakes.push(Fake { key: order.key.clone(), topic, is_alive: true, joins: Vec::new(), unaware: 0, idles: 0 });
        Box::new(FakeSource { fakes: self.clone(), index: fakes.len() - 1 })
    }
}

impl Source for FakeSource {
    fn joined(&self, first: bool) {
        self.fakes.lock()[self.index].joins.push(first);
    }

    fn confirm_end(&self) {
        self.fakes.lock()[self.index].unaware += 1;
    }

    fn idle(&self) {
        self.fakes.lock()[self.index].idles += 1;
    }

    fn pace(&self) -> Option<Duration> {
        None
    }
}

impl Drop for FakeSource {
    fn drop(&mut self) {
        self.fakes.lock()[self.index].is_alive = false;
    }
}

pub(crate) const LOG: Store = Store::Log { latest: false, greeting: 0 };

pub(crate) fn frame(text: &str) -> Frame {
    Frame::new(&[format!("data: {text}\n\n").as_bytes()])
}

pub(crate) fn done() -> End {
    End { frame: Some(frame("done")), reason: CloseReason::Done, finished: true }
}

pub(crate) fn gone() -> End {
    End { frame: Some(frame("gone")), reason: CloseReason::Done, finished: false }
}

pub(crate) fn refusal() -> Refusal {
    Refusal::new(http::StatusCode::UNAUTHORIZED, HeaderMap::new(), Bytes::new())
}

// However many tabs watch, the app sees one.
#[tokio::test]
async fn those_who_want_the_same_share_one_source_and_others_do_not() {
    let bench = Bench::new(10);
    let _one = bench.watch(Store::State);
    let _two = bench.watch(Store::State);
    assert_eq!(bench.fakes.alive(), 1);
    assert_eq!(bench.fakes.lock()[0].joins, [true, false]);

    let _another_job = bench.subscribe(bench.order("/jobs/2", "a", Store::State));
    let _another_user = bench.subscribe(bench.order("/jobs/1", "b", Store::State));
    assert_eq!(bench.fakes.alive(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_topic_outlives_its_last_subscriber_by_the_linger_and_no_longer() {
    let bench = Bench::new(10);
    let hub = Arc::clone(&bench.hub);
    let run = tokio::spawn(async move { hub.run().await });
    drop(bench.watch(Store::State));

    tokio::time::sleep(Duration::from_millis(9_990)).await;
    assert_eq!((bench.fakes.alive(), bench.fakes.lock()[0].idles), (1, 1));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!((bench.fakes.alive(), bench.gauges(), bench.hub.list().len()), (0, 0, 0));
    run.abort();
}

// The linger of one that came back must not take the topic away under it.
#[tokio::test(start_paused = true)]
async fn who_comes_back_within_the_linger_finds_the_same_topic_and_stops_the_clock() {
    let bench = Bench::new(10);
    let hub = Arc::clone(&bench.hub);
    let run = tokio::spawn(async move { hub.run().await });
    drop(bench.watch(Store::State));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let back = bench.watch(Store::State);

    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.fakes.alive(), 1);
    assert_eq!(bench.fakes.lock()[0].joins, [true, true]);

    drop(back);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(bench.fakes.alive(), 0);
    run.abort();
}

// A long linger must not hide a short one that begins later.
#[tokio::test(start_paused = true)]
async fn a_shorter_linger_that_begins_later_ends_first() {
    let bench = Bench::new(10);
    let hub = Arc::clone(&bench.hub);
    let run = tokio::spawn(async move { hub.run().await });
    let long = Order { linger: Duration::from_secs(300), ..bench.order("/jobs/1", "a", LOG) };
    drop(bench.subscribe(long));
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(bench.subscribe(bench.order("/jobs/2", "a", Store::State)));

    tokio::time::sleep(Duration::from_secs(11)).await;
    let alive: Vec<bool> = bench.fakes.lock().iter().map(|fake| fake.is_alive).collect();
    assert_eq!(alive, [true, false]);
    run.abort();
}

#[tokio::test(start_paused = true)]
async fn one_topic_too_many_takes_the_place_of_the_longest_idle_and_never_of_one_that_is_watched() {
    let bench = Bench::new(2);
    let first = bench.subscribe(bench.order("/jobs/1", "a", Store::State));
    let second = bench.subscribe(bench.order("/jobs/2", "a", Store::State));
    assert!(bench.hub.subscribe(bench.order("/jobs/3", "a", Store::State)).is_err());

    drop(second);
    tokio::time::advance(Duration::from_secs(1)).await;
    drop(first);
    let _third = bench.subscribe(bench.order("/jobs/3", "a", Store::State));
    let alive: Vec<bool> = bench.fakes.lock().iter().map(|fake| fake.is_alive).collect();
    assert_eq!(alive, [true, false, true], "the second had been idle for longer");
}

// Its subscribers leave at their own pace, and must not count against the one that took its place.
#[tokio::test]
async fn a_refused_topic_makes_room_for_a_new_one_and_who_leaves_it_late_harms_nobody() {
    let bench = Bench::new(10);
    let old = bench.watch(Store::State);
    bench.topic().refuse(refusal());
    let mut new = bench.watch(Store::State);

    assert_eq!(bench.fakes.lock().len(), 2);
    assert!(!bench.fakes.lock()[0].is_alive, "nobody needs the refused one's source");
    drop(old);
    assert_eq!(bench.hub.list()[0].subscribers, 1);
    assert!(new.settled().now_or_never().is_none(), "the new one waits for the app's word");
}

#[tokio::test]
async fn a_topic_that_was_taken_away_does_not_linger() {
    let bench = Bench::new(10);
    let one = bench.watch(Store::State);
    bench.topic().end(gone());
    drop(one);
    assert_eq!((bench.fakes.alive(), bench.gauges()), (0, 0));
}

#[tokio::test]
async fn a_stream_that_is_over_sends_those_away_who_saw_its_end_and_begins_anew_for_others() {
    let bench = Bench::new(10);
    let _one = bench.watch(LOG);
    let topic = bench.topic();
    topic.event(Some("7"), frame("last"), Instant::now());
    topic.end(End { frame: None, ..done() });

    let seen = Order { last_event_id: Some("7".into()), ..bench.order("/jobs/1", "a", LOG) };
    assert!(matches!(bench.hub.subscribe(seen), Ok(Joined::Finished(_))));
    assert_eq!(bench.fakes.lock().len(), 1);
    let unseen = Order { last_event_id: Some("6".into()), ..bench.order("/jobs/1", "a", LOG) };
    assert!(matches!(bench.hub.subscribe(unseen), Ok(Joined::Subscribed(_))));
    assert_eq!(bench.fakes.lock().len(), 2);
}

#[tokio::test]
async fn a_source_hears_of_those_who_do_not_know_the_end_of_a_job_that_is_over() {
    let bench = Bench::new(10);
    let come = |id: Option<&str>| {
        let order = bench.order("/jobs/1", "a", Store::State);
        let subscription = bench.subscribe(Order { last_event_id: id.map(str::to_owned), ..order });
        (subscription, bench.fakes.lock()[0].unaware)
    };
    let (_one, unaware) = come(None);
    bench.topic().snapshot("1", frame("1"), Instant::now(), None);
    let (_two, while_it_runs) = come(None);
    bench.topic().snapshot("2", frame("2"), Instant::now(), Some(done()));

    let (_knows, with_the_end) = come(Some("2"));
    let (_does_not, without) = come(Some("1"));
    let (_new, new) = come(None);
    assert_eq!([unaware, while_it_runs, with_the_end, without, new], [0, 0, 0, 1, 2]);
}

// Both were let in before, and wait for the first word on the topic. It is a refusal of each, one after the other: the
// last one's ends the topic, and it may hold a new session.
#[tokio::test]
async fn the_words_of_a_refusal_are_not_for_one_who_was_turned_away_before() {
    let bench = Bench::new(10);
    let mut ada = bench.subscribe(bench.admitted_order("/jobs/1", "a", Store::State));
    let mut bob = bench.subscribe(bench.admitted_order("/jobs/1", "b", Store::State));
    let topic = bench.topic();
    for others_remain in [true, false] {
        let lender = topic.lenders().current().unwrap();
        assert_eq!(topic.lenders().deny(&lender, CloseReason::Denied), others_remain);
        if !others_remain {
            topic.refuse(refusal().told_to(lender.scope()));
        }
    }

    assert!(matches!(bob.settled().now_or_never(), Some(Settled::Refused(_))), "bob reads the answer to him");
    assert!(matches!(ada.settled().now_or_never(), Some(Settled::Open)), "ada does not");
    assert!(matches!(ada.try_next(), Some(Delivery::End(_))), "her stream ends instead");
}

// The refusal holds one user's words, cookies and all. Who was admitted by the app, and joins while the source still reads
// them, must get a topic that has heard nothing of it.
#[tokio::test]
async fn a_refusal_of_the_last_lender_never_reaches_a_client_who_was_admitted_after_it() {
    let bench = Bench::new(10);
    let _turned_away = bench.subscribe(bench.admitted_order("/jobs/1", "a", Store::State));
    let topic = bench.topic();
    let lender = topic.lenders().current().unwrap();
    assert!(!topic.lenders().deny(&lender, CloseReason::Denied), "nobody else is there");

    let mut admitted = bench.subscribe(bench.admitted_order("/jobs/1", "b", Store::State));
    topic.refuse(refusal());

    assert!(admitted.settled().now_or_never().is_none(), "it waits for the app's word on itself");
    assert_eq!(bench.fakes.alive(), 1);
    bench.topic().snapshot("1", frame("1"), Instant::now(), None);
    assert!(matches!(admitted.settled().now_or_never(), Some(Settled::Open)));
}

// The budgets behind DESIGN 9's figure for a polled topic with one subscriber, in bytes; its group has its own in `shard`.
// Each is there ten thousand times, and what only few topics need is boxed.
#[test]
fn a_topic_with_its_poller_stays_within_its_budgets() {
    for (name, size, budget) in [
        ("a topic", size_of::<Topic>(), 272),
        ("its key", size_of::<TopicKey>(), 40),
        ("its poller", size_of::<crate::source::poll::Poller>(), 144),
        ("its place in the hub", size_of::<Slot>(), 64),
        ("its lender", size_of::<Lender>(), 56),
        ("its frame", size_of::<Frame>(), 32),
    ] {
        assert!(size <= budget, "{name} is {size} bytes");
    }
}
