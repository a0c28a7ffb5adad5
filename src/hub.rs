//! The registry of live topics: one per thing watched, made with its first subscriber, kept for the linger after its last.
//!
//! No entry here, no request to the app: an entry owns its source, and goes only together with it. Whether a topic is
//! without subscribers is asked, and the entry removed, under the same lock; who leaves says which topic it meant, since
//! another may have taken the place under the same key.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::{
    metrics::{Metrics, RouteId},
    scope::{Lender, Lenders},
    shortlist::Shortlist,
    subscription::Subscription,
    topic::{self, Store, Topic, TopicKey},
};

/// What makes a topic's events. Dropping it ends all its requests to the app.
pub trait Source: Send + Sync {
    /// A subscriber came. `first` when there was none before: what is known may be old.
    fn joined(&self, first: bool);
    /// After [`Source::joined`], of one that doesn't bring the id of the end at which the job stands: it is not to be told
    /// of that end before the app has said that it still is true.
    fn confirm_end(&self) {}
    /// The last subscriber left; the topic lingers.
    fn idle(&self);
    /// So many subscribe from now on. Before [`Source::joined`] and [`Source::idle`]; for counts only.
    fn watched_by(&self, _subscribers: usize) {}
    /// How fast the app is being asked at present, for the admin side.
    fn pace(&self) -> Option<Duration>;
}

/// Starts the source of a new topic. The hub's lock is held meanwhile: the source may take locks of its own, but must not
/// call the hub.
pub trait StartSource: Send + Sync {
    /// The source begins when [`Source::joined`] is called.
    fn start(&self, topic: &Arc<Topic>, order: &Order) -> Box<dyn Source>;
}

/// All that is needed to watch something.
#[derive(Debug)]
pub struct Order {
    /// What to watch.
    pub key: Arc<TopicKey>,
    /// How its events are kept.
    pub store: Store,
    /// How long it outlives its last subscriber.
    pub linger: Duration,
    /// Whose credentials the source uses.
    pub lender: Arc<Lender>,
    /// Whether those are the only ones (one scope), or the lender is one of many whom the app has admitted.
    pub admitted: bool,
    /// The client's `Last-Event-ID`.
    pub last_event_id: Option<String>,
    /// Where the app's stream should begin if this makes a new topic: the same id, when it may be shown to the app.
    pub first_id: Option<String>,
}

/// How an order was met.
#[derive(Debug)]
pub enum Joined {
    /// A subscriber, to be settled and placed.
    Subscribed(Subscription),
    /// The client has seen everything of this topic to the end already.
    Finished(Arc<Topic>),
}

/// `--max-topics` is reached, and every topic has subscribers.
#[derive(Debug, thiserror::Error)]
#[error("all --max-topics {0} topics have subscribers")]
pub struct TooManyTopics(pub usize);

/// The registry.
pub struct Hub {
    metrics: Arc<Metrics>,
    sources: Box<dyn StartSource>,
    topics_max: usize,
    inner: Mutex<Inner>,
    /// Told when the earliest end of a linger may have changed; heard by [`Hub::run`].
    lingers: Notify,
}

#[derive(Default)]
struct Inner {
    /// Boxed, since a table that has just doubled has room for twice as many as there are.
    topics: HashMap<Arc<TopicKey>, Box<Slot>>,
    next_id: u64,
    /// Lingering topics by the end of their linger, and by the time they became idle; both hold the same topics.
    by_end: BTreeMap<(Instant, u64), Arc<TopicKey>>,
    by_idle: BTreeMap<(Instant, u64), Arc<TopicKey>>,
}

struct Slot {
    id: u64,
    topic: Arc<Topic>,
    source: Box<dyn Source>,
    linger: Duration,
    subscribers: usize,
    /// While nobody subscribes: since when, and until when it is kept.
    idle: Option<Box<(Instant, Instant)>>,
}

/// One topic as the admin side shows it.
#[derive(Debug)]
pub struct Listed {
    /// The topic.
    pub topic: Arc<Topic>,
    /// Clients attached.
    pub subscribers: usize,
    /// How fast the app is being asked.
    pub pace: Option<Duration>,
}

/// What the admin side shows of all topics.
#[derive(Debug, Default)]
pub struct TopicSurvey {
    /// How many there are.
    pub total: usize,
    /// Those with most subscribers, and the most first.
    pub busiest: Vec<Listed>,
    /// Clients attached to topics of each route, as far as there are any.
    by_route: Vec<usize>,
}

// === impl TopicSurvey ===

impl TopicSurvey {
    /// Clients attached to topics of a route.
    pub fn subscribers(&self, route: RouteId) -> usize {
        self.by_route.get(route.0).copied().unwrap_or_default()
    }
}

// === impl Hub ===

impl Hub {
    /// An empty registry of at most `topics_max` topics.
    pub fn new(topics_max: usize, sources: Box<dyn StartSource>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { metrics, sources, topics_max, inner: Mutex::default(), lingers: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code panics under this lock")
    }

    /// Attaches a client to what it wants to watch.
    ///
    /// # Errors
    /// When that would be one topic too many and none is idle.
    pub fn subscribe(self: &Arc<Self>, order: Order) -> Result<Joined, TooManyTopics> {
        // Topics that go are dropped after the lock: their sources cancel requests.
        let mut gone = Vec::new();
        let joined = self.subscribe_locked(order, &mut gone);
        drop(gone);
        joined
    }

    fn subscribe_locked(self: &Arc<Self>, order: Order, gone: &mut Vec<Slot>) -> Result<Joined, TooManyTopics> {
        let mut inner = self.lock();
        if let Some(id) = &order.last_event_id {
            let found = inner.topics.contains_key(&order.key);
            let standing = topic::standing(&order.key.target, id);
            self.metrics.route(order.key.route).traces.came_back(Instant::now(), order.linger, standing, found);
        }
        if let Some(slot) = inner.topics.get(&order.key)
            && slot.topic.is_dead()
        {
            let finished = order.last_event_id.as_deref().is_some_and(|id| slot.topic.is_finished_by(id));
            if finished {
                return Ok(Joined::Finished(Arc::clone(&slot.topic)));
            }
            // Its last subscribers keep the old topic; the newcomer begins anew.
            gone.extend(inner.remove(&order.key));
        }
        if order.admitted
            && let Some(slot) = inner.topics.get(&order.key)
            && !slot.topic.lenders().admit(&order.lender)
        {
            // It dies of its last lender's refusal in this moment; the app admitted this client after that one.
            gone.extend(inner.remove(&order.key));
        }
        if !inner.topics.contains_key(&order.key) {
            if inner.topics.len() >= self.topics_max {
                let longest_idle = inner.by_idle.values().next().cloned();
                let Some(key) = longest_idle else { return Err(TooManyTopics(self.topics_max)) };
                gone.extend(inner.remove(&key));
            }
            inner.insert(&order, self.sources.as_ref(), &self.metrics);
        }
        let Inner { topics, by_end, by_idle, .. } = &mut *inner;
        let slot = topics.get_mut(&order.key).expect("was there or has just been put there");
        if let Some((since, until)) = slot.idle.take().map(|idle| *idle) {
            by_idle.remove(&(since, slot.id));
            by_end.remove(&(until, slot.id));
        }
        slot.subscribers += 1;
        slot.source.watched_by(slot.subscribers);
        let lender = order.admitted.then_some(order.lender);
        // Before the source hears of it: what that publishes from then on is this subscriber's too.
        let mut cursor = slot.topic.join();
        slot.source.joined(slot.subscribers == 1);
        let has_end = order.last_event_id.as_deref().is_some_and(|id| slot.topic.is_finished_by(id));
        if slot.topic.is_ended() && !has_end {
            slot.source.confirm_end();
        }
        slot.topic.await_word(&mut cursor);
        Ok(Joined::Subscribed(Subscription::new(Arc::clone(self), Arc::clone(&slot.topic), slot.id, cursor, lender)))
    }

    /// Called by the subscription's drop alone.
    pub(crate) fn leave(&self, key: &TopicKey, topic_id: u64) {
        let mut gone = None;
        let mut inner = self.lock();
        let Inner { topics, by_end, by_idle, .. } = &mut *inner;
        if let Some(slot) = topics.get_mut(key).filter(|slot| slot.id == topic_id) {
            slot.subscribers -= 1;
            slot.source.watched_by(slot.subscribers);
            if let Some(standing) = slot.topic.standing().filter(|_| !slot.topic.is_ended()) {
                self.metrics.route(key.route).traces.left(Instant::now(), standing);
            }
            if slot.subscribers == 0 {
                if slot.topic.is_spent() {
                    gone = inner.remove(key);
                } else {
                    let since = Instant::now();
                    let until = since + slot.linger;
                    let key = slot.topic.key();
                    slot.idle = Some(Box::new((since, until)));
                    slot.source.idle();
                    by_idle.insert((since, topic_id), Arc::clone(key));
                    by_end.insert((until, topic_id), Arc::clone(key));
                    self.lingers.notify_one();
                }
            }
        }
        drop(inner);
        drop(gone);
    }

    /// Removes topics whose linger is over, until dropped. Owned by the app's run loop.
    pub async fn run(&self) {
        loop {
            let next = self.evict_expired(Instant::now());
            let changed = self.lingers.notified();
            match next {
                Some(at) => {
                    let _ = tokio::time::timeout_at(at, changed).await;
                }
                None => changed.await,
            }
        }
    }

    /// Removes the topics whose linger is over at `now`; the end of the next linger.
    fn evict_expired(&self, now: Instant) -> Option<Instant> {
        let mut gone = Vec::new();
        let mut inner = self.lock();
        while let Some((until, key)) = inner.by_end.first_key_value().map(|((until, _), key)| (*until, key.clone())) {
            if until > now {
                return Some(until);
            }
            gone.extend(inner.remove(&key));
        }
        drop(inner);
        drop(gone);
        None
    }

    /// How many topics there are.
    pub fn len(&self) -> usize {
        self.lock().topics.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many topics there may be.
    pub fn topics_max(&self) -> usize {
        self.topics_max
    }

    /// How many topics there are, and the `max` with most subscribers. One walk under the lock, in which nothing is
    /// allocated for a topic and no other lock is taken, but for those that are listed.
    pub fn survey(&self, max: usize) -> TopicSurvey {
        let inner = self.lock();
        let mut survey = TopicSurvey { total: inner.topics.len(), ..TopicSurvey::default() };
        let mut busiest = Shortlist::new(max);
        for (key, slot) in &inner.topics {
            if survey.by_route.len() <= key.route.0 {
                survey.by_route.resize(key.route.0 + 1, 0);
            }
            survey.by_route[key.route.0] += slot.subscribers;
            busiest.offer(slot.subscribers, &**slot);
        }
        survey.busiest = busiest.into_sorted().map(Slot::listed).collect();
        survey
    }

    /// The topics of a state that somebody watches.
    pub fn watched_states(&self) -> Vec<Arc<Topic>> {
        let inner = self.lock();
        let watched = inner.topics.values().filter(|slot| slot.subscribers > 0 && slot.topic.store() == Store::State);
        watched.map(|slot| Arc::clone(&slot.topic)).collect()
    }

    /// Every live topic.
    pub fn list(&self) -> Vec<Listed> {
        let inner = self.lock();
        inner.topics.values().map(|slot| slot.listed()).collect()
    }
}

// === impl Slot ===

impl Slot {
    fn listed(&self) -> Listed {
        Listed { topic: Arc::clone(&self.topic), subscribers: self.subscribers, pace: self.source.pace() }
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("topics_max", &self.topics_max).finish_non_exhaustive()
    }
}

// === impl Inner ===

impl Inner {
    fn insert(&mut self, order: &Order, sources: &dyn StartSource, metrics: &Arc<Metrics>) {
        let lenders = match order.admitted {
            true => Lenders::admitted(&order.lender),
            false => Lenders::fixed(Arc::clone(&order.lender)),
        };
        let topic = Topic::new(Arc::clone(&order.key), order.store, lenders, Arc::clone(metrics));
        if let (Store::Log { .. }, Some(id)) = (order.store, &order.first_id) {
            topic.begins_after(id);
        }
        let source = sources.start(&topic, order);
        let id = self.next_id;
        self.next_id += 1;
        let slot = Slot { id, topic, source, linger: order.linger, subscribers: 0, idle: None };
        self.topics.insert(Arc::clone(&order.key), Box::new(slot));
    }

    /// Takes a topic out, from all three tables.
    fn remove(&mut self, key: &TopicKey) -> Option<Slot> {
        let slot = self.topics.remove(key)?;
        if let Some((since, until)) = slot.idle.as_deref() {
            self.by_idle.remove(&(*since, slot.id));
            self.by_end.remove(&(*until, slot.id));
        }
        Some(*slot)
    }
}

#[cfg(test)]
pub(crate) mod tests;
