//! The hub and its topics against a model that is simple enough to be right, under random histories.

use std::task::{Context, Poll, Waker};

use proptest::prelude::*;

use super::*;
use crate::topic::{BURST, Delivery, REPLAY_EVENTS_MAX, Resumed};

mod step;

use self::step::{COOKIES, Claim, Step, TARGETS, step};

/// Fewer than there are keys, so that the limit is met.
const TOPICS_MAX: usize = 3;

/// A client, and what it must get.
struct Client {
    subscription: Subscription,
    cookie: usize,
    /// Its source's place among the fakes.
    source: usize,
    /// The last event published when it joined: of a log it gets what comes after, of a state the latest.
    from: u64,
    /// It came with an id that was known, and has seen `from` itself.
    is_back: bool,
    /// The app turned it away: the last event published before that.
    denied_at: Option<u64>,
    got: Vec<u64>,
    ended: bool,
    lagged: bool,
}

/// What is known of a source.
#[derive(Clone, Copy, Default)]
struct Published {
    events: u64,
    ended: bool,
    /// It came to its own end.
    finished: bool,
    refused: bool,
}

struct Model {
    bench: Bench,
    store: Store,
    /// One topic for all whom the app admits.
    is_authorized: bool,
    clients: Vec<Client>,
    published: Vec<Published>,
}

// === impl Model ===

impl Model {
    fn new(store: Store, is_authorized: bool) -> Self {
        Self { bench: Bench::new(TOPICS_MAX), store, is_authorized, clients: Vec::new(), published: Vec::new() }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Subscribe { target, cookie, id } => self.subscribe(target, cookie, id),
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
                            // A job that had ended runs again.
                            (published.ended, published.finished) = (false, false);
                        }
                        Store::Log { .. } => {
                            topic.event(Some(&text), frame(&text), Instant::now());
                            // As if it had been published a while ago: the window has its bounds.
                            topic.trim(Instant::now() + BURST);
                        }
                    }
                }
            }),
            Step::Trouble(who) => self.with_topic(who, |topic, _, _| topic.trouble(Some(frame("trouble")))),
            Step::Confirm(who) => self.with_topic(who, |topic, _, _| topic.confirm()),
            Step::Finish(who) => self.with_topic(who, |topic, published, _| {
                topic.finish();
                (published.ended, published.finished) = (true, true);
            }),
            Step::Gone(who) => self.with_topic(who, |topic, published, _| {
                topic.end(gone());
                (published.ended, published.finished) = (true, false);
            }),
            Step::Deny(who) => self.deny(who),
            Step::Drain => {
                while let Some(client) = self.clients.pop() {
                    self.check(client);
                }
            }
            Step::Refuse(who) => self.with_topic(who, |topic, published, _| {
                topic.refuse(refusal());
                published.refused = true;
            }),
            Step::Unsettle(who) => self.with_topic(who, |topic, _, _| topic.unsettle()),
            // Time is an argument here, so that the clock need not stand in between.
            Step::Wait(_) => {}
        }
    }

    fn subscribe(&mut self, target: usize, cookie: usize, claim: Claim) {
        let mut order = match self.is_authorized {
            true => self.bench.admitted_order(TARGETS[target], COOKIES[cookie], self.store),
            false => self.bench.order(TARGETS[target], COOKIES[cookie], self.store),
        };
        let key = order.key.clone();
        let before = self.source_of(&key).map(|source| self.published[source]).unwrap_or_default();
        let id = match claim {
            Claim::Nothing => None,
            Claim::Unknown => Some("unknown".to_owned()),
            Claim::Back(by) => Some(before.events.saturating_sub(by).to_string()),
            Claim::Of(who) => {
                let client = who.checked_rem(self.clients.len()).map(|who| &self.clients[who]);
                client.and_then(|client| client.got.last()).map(u64::to_string)
            }
        };
        order.last_event_id.clone_from(&id);
        let is_full = self.bench.hub.lock().topics.len() >= TOPICS_MAX;
        let all_watched = self.bench.hub.lock().topics.values().all(|slot| slot.subscribers > 0);
        let subscribed = self.bench.hub.subscribe(order);
        let mut subscription = match subscribed {
            Ok(Joined::Subscribed(subscription)) => subscription,
            Ok(Joined::Finished(_)) => {
                let has_seen_all = id.is_some_and(|id| id == before.events.to_string());
                return assert!(has_seen_all && before.finished, "sent away with something to see");
            }
            Err(_) => return assert!(is_full && all_watched, "turned away without need"),
        };
        let source = self.source_of(&key).expect("a source for the entry");
        self.published.resize(self.bench.fakes.lock().len(), Published::default());
        let published = self.published[source];
        // A log knows the events of its window and the one right before it, a state the one it is in.
        let window = if self.store == Store::State { 1 } else { REPLAY_EVENTS_MAX as u64 + 1 };
        let known = id.as_deref().and_then(|id| id.parse::<u64>().ok());
        let known = known.filter(|id| (1..=published.events).contains(id) && id + window > published.events);
        let expected = match known {
            Some(id) if id == published.events && published.finished => Resumed::Finished,
            Some(_) => Resumed::Here,
            None => Resumed::New,
        };
        assert_eq!(subscription.place(id.as_deref()), expected, "placed elsewhere");
        if expected == Resumed::Finished {
            return;
        }
        let from = known.unwrap_or(published.events);
        self.clients.push(Client {
            subscription,
            cookie,
            source,
            from,
            is_back: known.is_some(),
            denied_at: None,
            got: Vec::new(),
            ended: false,
            lagged: false,
        });
    }

    fn source_of(&self, key: &TopicKey) -> Option<usize> {
        self.bench.fakes.lock().iter().rposition(|fake| fake.is_alive && *fake.key == *key)
    }

    /// The app turns away whose turn it is to lend credentials: all of that user's streams end, and the topic with them if
    /// nobody else has any to lend.
    fn deny(&mut self, who: usize) {
        let clients = &mut self.clients;
        let is_authorized = self.is_authorized;
        let sources = self.bench.fakes.clone();
        let mut denied = None;
        let with_source = |topic: &Topic, published: &mut Published, _: Store| {
            let Some(lender) = topic.lenders().current() else { return };
            let others_remain = topic.lenders().deny(&lender, CloseReason::Denied);
            topic.nudge();
            denied = Some((lender.scope(), published.events));
            if others_remain {
                return;
            }
            if published.events > 0 {
                topic.end(End { frame: None, reason: CloseReason::Denied, finished: false });
                (published.ended, published.finished) = (true, false);
            } else {
                topic.refuse(refusal().told_to(lender.scope()));
                published.refused = true;
            }
        };
        let source = pick(&sources, who, &mut self.published, self.store, with_source);
        let (Some(source), Some((scope, events)), true) = (source, denied, is_authorized) else { return };
        for client in clients.iter_mut().filter(|client| client.source == source) {
            let order = self.bench.admitted_order(TARGETS[0], COOKIES[client.cookie], self.store);
            if order.lender.scope() == scope {
                client.denied_at.get_or_insert(events);
            }
        }
    }

    /// Something happens to a topic that has a source, unless nothing more can come of it.
    fn with_topic(&mut self, who: usize, happens: impl FnOnce(&Topic, &mut Published, Store)) {
        pick(&self.bench.fakes, who, &mut self.published, self.store, happens);
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
        if let Some(denied_at) = client.denied_at {
            assert!(client.ended || client.lagged, "who is turned away is told the end");
            assert!(client.got.iter().all(|event| *event <= denied_at), "nothing that came after");
        }
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
            Store::Log { .. } if client.denied_at.is_some() => {
                let until = client.from + client.got.len() as u64;
                assert!(client.got.iter().copied().eq(client.from + 1..=until), "no gap before it was turned away");
            }
            Store::Log { .. } => {
                let expected: Vec<u64> = (client.from + 1..=published.events).collect();
                assert_eq!(client.got, expected, "in order, once, without a gap");
            }
            // Who was told the end is not told of what a retried job does.
            Store::State if client.ended => {}
            Store::State => {
                // The same again only after an outage that was told, which ends with it.
                assert!(client.got.is_sorted(), "never back");
                let has_it = client.is_back && client.from == published.events && client.got.is_empty();
                let latest = (published.events > 0 && !has_it).then_some(&published.events);
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

/// Something happens to a topic that has a source, unless nothing more can come of it. Which source it was.
fn pick(
    fakes: &Fakes,
    who: usize,
    published: &mut [Published],
    store: Store,
    happens: impl FnOnce(&Topic, &mut Published, Store),
) -> Option<usize> {
    let alive: Vec<(usize, Arc<Topic>)> = {
        let fakes = fakes.lock();
        let alive = fakes.iter().enumerate().filter(|(_, fake)| fake.is_alive);
        alive.filter_map(|(index, fake)| Some((index, fake.topic.upgrade()?))).collect()
    };
    let (index, topic) = alive.get(who.checked_rem(alive.len())?)?;
    if topic.is_dead() {
        return None;
    }
    happens(topic, &mut published[*index], store);
    Some(*index)
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

fn run(store: Store, is_authorized: bool, steps: &[Step]) {
    let mut model = Model::new(store, is_authorized);
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
        run(LOG, false, &steps);
    }

    #[test]
    fn a_log_for_all_who_are_admitted_is_whole_for_those_who_stay(steps in prop::collection::vec(step(), 1..60)) {
        run(LOG, true, &steps);
    }

    #[test]
    fn a_state_for_all_who_are_admitted_ends_on_the_latest(steps in prop::collection::vec(step(), 1..60)) {
        run(Store::State, true, &steps);
    }

    #[test]
    fn every_subscriber_of_a_state_ends_on_the_latest(steps in prop::collection::vec(step(), 1..60)) {
        run(Store::State, false, &steps);
    }
}
