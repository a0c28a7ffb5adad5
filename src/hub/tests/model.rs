//! The hub and its topics against a model that is simple enough to be right, under random histories.

use std::task::{Context, Poll, Waker};

use proptest::prelude::*;

use super::*;
use crate::topic::{Delivery, REPLAY_EVENTS_MAX};

/// Keys that meet often: two jobs of two users.
const TARGETS: [&str; 2] = ["/jobs/1", "/jobs/2"];
const COOKIES: [&str; 2] = ["a", "b"];
/// Fewer than there are keys, so that the limit is met.
const TOPICS_MAX: usize = 3;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Subscribe {
        target: usize,
        cookie: usize,
    },
    /// Somebody leaves; which, modulo those who are there.
    Leave(usize),
    /// Somebody reads all there is.
    Read(usize),
    /// A source publishes so many events.
    Publish(usize, usize),
    Trouble(usize),
    Confirm(usize),
    Finish(usize),
    Gone(usize),
    Refuse(usize),
    Unsettle(usize),
    Wait(u64),
}

/// A client, and what it must get.
struct Client {
    subscription: Subscription,
    /// Its source's place among the fakes.
    source: usize,
    /// The last event published when it joined: of a log it gets what comes after, of a state the latest.
    from: u64,
    got: Vec<u64>,
    ended: bool,
    lagged: bool,
}

/// What is known of a source.
#[derive(Clone, Copy, Default)]
struct Published {
    events: u64,
    ended: bool,
    refused: bool,
}

struct Model {
    bench: Bench,
    store: Store,
    clients: Vec<Client>,
    published: Vec<Published>,
}

fn step() -> impl Strategy<Value = Step> {
    let any_one = 0_usize..8;
    prop_oneof![
        6 => (0..TARGETS.len(), 0..COOKIES.len()).prop_map(|(target, cookie)| Step::Subscribe { target, cookie }),
        4 => any_one.clone().prop_map(Step::Leave),
        6 => any_one.clone().prop_map(Step::Read),
        6 => (any_one.clone(), 1_usize..4).prop_map(|(who, count)| Step::Publish(who, count)),
        1 => any_one.clone().prop_map(|who| Step::Publish(who, REPLAY_EVENTS_MAX + 1)),
        1 => any_one.clone().prop_map(Step::Trouble),
        1 => any_one.clone().prop_map(Step::Confirm),
        1 => any_one.clone().prop_map(Step::Finish),
        1 => any_one.clone().prop_map(Step::Gone),
        1 => any_one.clone().prop_map(Step::Refuse),
        1 => any_one.prop_map(Step::Unsettle),
        2 => (1_u64..8).prop_map(Step::Wait),
    ]
}

// === impl Model ===

impl Model {
    fn new(store: Store) -> Self {
        Self { bench: Bench::new(TOPICS_MAX), store, clients: Vec::new(), published: Vec::new() }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Subscribe { target, cookie } => self.subscribe(target, cookie),
            Step::Leave(who) => {
                if !self.clients.is_empty() {
                    let client = self.clients.swap_remove(who % self.clients.len());
                    self.check(client);
                }
            }
            Step::Read(who) => {
                let count = self.clients.len();
                if let Some(client) = self.clients.get_mut(who.checked_rem(count).unwrap_or_default()) {
                    read(client);
                }
            }
            Step::Publish(who, count) => self.with_topic(who, |topic, published, store| {
                for _ in 0..count {
                    published.events += 1;
                    let text = published.events.to_string();
                    match store {
                        Store::State => {
                            topic.snapshot(&text, frame(&text), Instant::now(), None);
                            published.ended = false;
                        }
                        Store::Log { .. } => topic.event(Some(&text), frame(&text), Instant::now()),
                    }
                }
            }),
            Step::Trouble(who) => self.with_topic(who, |topic, _, _| topic.trouble(Some(frame("trouble")))),
            Step::Confirm(who) => self.with_topic(who, |topic, _, _| topic.confirm()),
            Step::Finish(who) => self.with_topic(who, |topic, published, _| {
                topic.finish();
                published.ended = true;
            }),
            Step::Gone(who) => self.with_topic(who, |topic, published, _| {
                topic.end(gone());
                published.ended = true;
            }),
            Step::Refuse(who) => self.with_topic(who, |topic, published, _| {
                topic.refuse(refusal());
                published.refused = true;
            }),
            Step::Unsettle(who) => self.with_topic(who, |topic, _, _| topic.unsettle()),
            // Time is an argument here, so that the clock need not stand in between.
            Step::Wait(_) => {}
        }
    }

    fn subscribe(&mut self, target: usize, cookie: usize) {
        let order = self.bench.order(TARGETS[target], COOKIES[cookie], self.store);
        let key = order.key.clone();
        let is_full = self.bench.hub.lock().topics.len() >= TOPICS_MAX;
        let all_watched = self.bench.hub.lock().topics.values().all(|slot| slot.subscribers > 0);
        let subscribed = self.bench.hub.subscribe(order);
        let mut subscription = match subscribed {
            Ok(Joined::Subscribed(subscription)) => subscription,
            Ok(Joined::Finished) => panic!("nobody comes with an id"),
            Err(_) => return assert!(is_full && all_watched, "turned away without need"),
        };
        let source = {
            let fakes = self.bench.fakes.lock();
            fakes.iter().rposition(|fake| fake.is_alive && fake.key == key).expect("a source for the entry")
        };
        self.published.resize(self.bench.fakes.lock().len(), Published::default());
        subscription.place(None);
        let from = self.published[source].events;
        self.clients.push(Client { subscription, source, from, got: Vec::new(), ended: false, lagged: false });
    }

    /// Something happens to a topic that has a source, unless nothing more can come of it.
    fn with_topic(&mut self, who: usize, happens: impl FnOnce(&Topic, &mut Published, Store)) {
        let alive: Vec<(usize, Arc<Topic>)> = {
            let fakes = self.bench.fakes.lock();
            let alive = fakes.iter().enumerate().filter(|(_, fake)| fake.is_alive);
            alive.filter_map(|(index, fake)| Some((index, fake.topic.upgrade()?))).collect()
        };
        if let Some((index, topic)) = alive.get(who.checked_rem(alive.len()).unwrap_or_default())
            && !topic.is_dead()
        {
            happens(topic, &mut self.published[*index], self.store);
        }
    }

    /// What holds at every moment: each entry has its own live source, nothing else has one, the tables agree.
    fn check_tables(&self) {
        let inner = self.bench.hub.lock();
        assert!(inner.topics.len() <= TOPICS_MAX);
        let idle = inner.topics.values().filter(|slot| slot.subscribers == 0).count();
        assert_eq!((inner.by_end.len(), inner.by_idle.len()), (idle, idle));
        for (key, slot) in &inner.topics {
            assert_eq!(slot.idle.is_some(), slot.subscribers == 0);
            let fakes = self.bench.fakes.lock();
            let own: Vec<_> = fakes.iter().enumerate().filter(|(_, fake)| fake.is_alive && fake.key == *key).collect();
            assert_eq!(own.len(), 1, "one live source for each entry");
            let watching = self.clients.iter().filter(|client| client.source == own[0].0).count();
            assert_eq!(slot.subscribers, watching);
        }
        assert_eq!(self.bench.fakes.alive(), inner.topics.len(), "no source without an entry");
    }

    /// Reads what is left, and compares it with what the client must have got.
    fn check(&self, mut client: Client) {
        read(&mut client);
        let published = self.published[client.source];
        if client.lagged {
            assert!(matches!(self.store, Store::Log { .. }), "state never lags");
            let until = client.from + client.got.len() as u64;
            return assert!(client.got.iter().copied().eq(client.from + 1..=until), "no gap that nobody tells");
        }
        if published.refused {
            return assert!(client.ended, "a refused topic ends its streams");
        }
        assert!(client.ended || !published.ended, "an end is told");
        match self.store {
            Store::Log { .. } => {
                let expected: Vec<u64> = (client.from + 1..=published.events).collect();
                assert_eq!(client.got, expected, "in order, once, without a gap");
            }
            // Who was told the end is not told of what a retried job does.
            Store::State if client.ended => {}
            Store::State => {
                // The same again only after an outage that was told, which ends with it.
                assert!(client.got.is_sorted(), "never back");
                let latest = (published.events > 0).then_some(&published.events);
                assert_eq!(client.got.last(), latest, "the latest in the end");
            }
        }
    }

    fn finish(mut self, now: Instant) {
        while let Some(client) = self.clients.pop() {
            self.check(client);
            self.check_tables();
        }
        let topics: Vec<Weak<Topic>> = self.bench.fakes.lock().iter().map(|fake| Weak::clone(&fake.topic)).collect();
        for topic in topics.iter().filter_map(Weak::upgrade) {
            assert_eq!(topic.waiting(), 0, "nobody is left who waits");
        }
        assert_eq!(self.bench.hub.evict_expired(now + Duration::from_secs(3600)), None);
        assert_eq!((self.bench.fakes.alive(), self.bench.gauges()), (0, 0));
        assert!(topics.iter().all(|topic| topic.strong_count() == 0), "nothing holds a topic");
    }
}

fn read(client: &mut Client) {
    let mut cx = Context::from_waker(Waker::noop());
    while !client.ended && !client.lagged {
        match client.subscription.poll_next(&mut cx) {
            Poll::Pending => return,
            Poll::Ready(Delivery::End(_)) => client.ended = true,
            Poll::Ready(Delivery::Lagged) => client.lagged = true,
            Poll::Ready(Delivery::Frame { frame, .. }) => {
                let text = String::from_utf8(frame.block().to_vec()).unwrap();
                client.got.extend(text.strip_prefix("data: ").unwrap().trim_end().parse::<u64>());
            }
        }
    }
}

fn run(store: Store, steps: &[Step]) {
    let mut model = Model::new(store);
    let mut now = Instant::now();
    for step in steps {
        model.take(step);
        if let Step::Wait(seconds) = step {
            now += Duration::from_secs(*seconds);
            model.bench.hub.evict_expired(now);
        }
        model.check_tables();
    }
    model.finish(now);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_log_reaches_every_subscriber_whole_or_tells_it_otherwise(steps in prop::collection::vec(step(), 1..60)) {
        run(LOG, &steps);
    }

    #[test]
    fn every_subscriber_of_a_state_ends_on_the_latest(steps in prop::collection::vec(step(), 1..60)) {
        run(Store::State, &steps);
    }
}
