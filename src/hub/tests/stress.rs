//! The hub's and the topics' locks under real threads: joins, leaves, ends of lingers and wake-ups at once.
//!
//! Threads and many turns rather than loom: these locks stand around types of std, tokio and mio, and to put loom's in
//! their place would be a second program under test.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use super::*;

const THREADS: u64 = 4;
const TURNS: u64 = 3000;

/// Sources that see to it that they are called as they are promised to be.
#[derive(Clone, Default)]
struct Strict {
    alive: Arc<AtomicUsize>,
    started: Arc<AtomicUsize>,
}

struct StrictSource {
    alive: Arc<AtomicUsize>,
    is_watched: AtomicBool,
}

/// Wakes a thread.
struct Unpark {
    thread: Thread,
    is_rung: AtomicBool,
}

impl StartSource for Strict {
    fn start(&self, _: &Arc<Topic>, _: &Order) -> Box<dyn Source> {
        self.alive.fetch_add(1, Ordering::SeqCst);
        self.started.fetch_add(1, Ordering::SeqCst);
        Box::new(StrictSource { alive: Arc::clone(&self.alive), is_watched: AtomicBool::new(false) })
    }
}

impl Source for StrictSource {
    fn joined(&self, first: bool) {
        assert_eq!(first, !self.is_watched.swap(true, Ordering::SeqCst), "the first is the one before whom nobody was");
    }

    fn idle(&self) {
        assert!(self.is_watched.swap(false, Ordering::SeqCst), "nobody can leave twice");
    }

    fn pace(&self) -> Option<Duration> {
        None
    }
}

impl Drop for StrictSource {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.is_rung.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

// A source without an entry asks the app for nobody; an entry without one leaves its streams silent for ever.
#[test]
fn joins_leaves_and_ends_of_lingers_at_once_leave_no_source_and_no_count_behind() {
    let bench = Bench::new(10);
    let sources = Strict::default();
    let hub = Hub::new(3, Box::new(sources.clone()), Arc::clone(&bench.metrics));
    let order = |thread: u64, turn: u64| {
        let target = ["/jobs/1", "/jobs/2"][(turn % 2) as usize];
        let mut order = match thread % 2 {
            0 => bench.order(target, "a", LOG),
            _ => bench.admitted_order(target, ["a", "b"][(turn / 2 % 2) as usize], LOG),
        };
        order.linger = Duration::ZERO;
        order
    };
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let evicting = scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                hub.evict_expired(Instant::now());
                thread::yield_now();
            }
        });
        let joining: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (hub, order) = (&hub, &order);
                scope.spawn(move || {
                    let mut kept = Vec::new();
                    for turn in 0..TURNS {
                        // Over the limit while all are watched; that is an answer, too.
                        let Ok(Joined::Subscribed(subscription)) = hub.subscribe(order(thread, turn)) else { continue };
                        match (turn + thread) % 50 {
                            7 => subscription.topic().end(gone()),
                            23 => subscription.topic().refuse(refusal()),
                            _ => drop(subscription.topic().event(None, frame("x"), Instant::now())),
                        }
                        kept.push(subscription);
                        if kept.len() > (turn % 3) as usize {
                            kept.clear();
                        }
                    }
                })
            })
            .collect();
        for thread in joining {
            thread.join().unwrap();
        }
        is_over.store(true, Ordering::SeqCst);
        evicting.join().unwrap();
    });
    hub.evict_expired(Instant::now() + Duration::from_secs(1));

    let left = (hub.list().len(), sources.alive.load(Ordering::SeqCst), bench.gauges());
    assert_eq!(left, (0, 0, 0), "topics, sources, gauges");
    assert!(sources.started.load(Ordering::SeqCst) > 10, "topics came and went");
}

// A wake-up that is lost between a look and a sleep leaves a reader asleep with news before it.
#[test]
fn no_reader_sleeps_through_what_is_published_while_it_goes_to_sleep() {
    const ROUNDS: u64 = 2000;
    let bench = Bench::new(10);
    let first = bench.watch(Store::State);
    let topic = bench.topic();
    let seen: Vec<AtomicU64> = (0..3).map(|_| AtomicU64::new(0)).collect();
    let is_over = AtomicBool::new(false);
    let deadline = Instant::now() + Duration::from_secs(60);
    thread::scope(|scope| {
        for seen in &seen {
            let mut reader = bench.watch(Store::State);
            let is_over = &is_over;
            scope.spawn(move || {
                let bell = Arc::new(Unpark { thread: thread::current(), is_rung: AtomicBool::new(false) });
                let waker = Waker::from(Arc::clone(&bell));
                let mut cx = Context::from_waker(&waker);
                loop {
                    match reader.poll_next(&mut cx) {
                        // It looks again only when it was woken; the time-out lets a test end that has failed.
                        Poll::Pending => {
                            while !bell.is_rung.swap(false, Ordering::SeqCst) {
                                if is_over.load(Ordering::SeqCst) {
                                    return;
                                }
                                thread::park_timeout(Duration::from_millis(100));
                            }
                        }
                        Poll::Ready(crate::topic::Delivery::Frame { frame, .. }) => {
                            let block = frame.block();
                            let text = std::str::from_utf8(&block).unwrap();
                            let round = text.strip_prefix("data: ").unwrap().trim_end().parse().unwrap();
                            assert!(seen.swap(round, Ordering::SeqCst) < round, "never back");
                        }
                        Poll::Ready(_) => return,
                    }
                }
            });
        }
        for round in 1..=ROUNDS {
            let text = round.to_string();
            topic.snapshot(&text, frame(&text), Instant::now(), None);
            while seen.iter().any(|seen| seen.load(Ordering::SeqCst) < round) {
                if Instant::now() > deadline {
                    is_over.store(true, Ordering::SeqCst);
                    panic!("a reader sleeps through round {round}");
                }
                thread::yield_now();
            }
        }
        is_over.store(true, Ordering::SeqCst);
    });
    drop(first);
}
