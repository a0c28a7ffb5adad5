//! The one wake-up that is on its way, under real threads.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use super::*;
use crate::{
    event::{Frame, HeartbeatForm},
    hub::tests::{Bench, frame, gone},
    shard::run::WAKER,
    topic::{Delivery, Store},
};

const ROUNDS: u64 = 4000;

fn pacing() -> Pacing {
    let heartbeat_frame = Frame::new(&[&HeartbeatForm::Comment.frame()]);
    let hour = Duration::from_secs(3600);
    Pacing { heartbeat: hour, heartbeat_frame, retry: hour, max_age: None, is_checked: false }
}

// A shard sleeps in its epoll. An order that is held back, because one seems to be on its way that has been taken already,
// would leave all streams of the topic without its news.
#[test]
fn a_group_is_woken_for_all_that_comes_after_its_last_look() {
    let bench = Bench::new(10);
    let mut member = bench.watch(Store::State);
    let topic = bench.topic();
    let mut poll = mio::Poll::new().unwrap();
    let waker = mio::Waker::new(poll.registry(), WAKER).unwrap();
    let inbox = Arc::new(Inbox { orders: Mutex::new(Some(Vec::new())), turns: 0.into(), waker });
    let (seen, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let key = GroupKey { index: 0, generation: 1 };
    let mut group = Group::new(key, Arc::clone(&topic), Arc::clone(&inbox), Arc::new(pacing()), Instant::now());
    let deadline = Instant::now() + Duration::from_secs(60);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut events = mio::Events::with_capacity(8);
            while !is_over.load(Ordering::SeqCst) {
                // Without an order nobody looks, so the time-out only lets a test end that has failed.
                poll.poll(&mut events, Some(Duration::from_millis(100))).unwrap();
                for order in inbox.take() {
                    assert!(matches!(order, Order::Woken(woken) if woken == key));
                    // As a shard does: first it asks to be woken again, then its members look.
                    group.listen();
                    while let Some(delivery) = member.try_next() {
                        let Delivery::Frame { frame, .. } = delivery else {
                            return is_over.store(true, Ordering::SeqCst);
                        };
                        let block = frame.block();
                        let text = std::str::from_utf8(&block).unwrap();
                        seen.store(text.strip_prefix("data: ").unwrap().trim_end().parse().unwrap(), Ordering::SeqCst);
                    }
                }
            }
        });
        for round in 1..=ROUNDS {
            let text = round.to_string();
            topic.snapshot(&text, frame(&text), Instant::now(), None);
            // Somebody was turned away: a wake-up without news, which must not swallow the next.
            if round % 3 == 0 {
                topic.nudge();
            }
            // In most rounds the next comes while the shard is still at this one.
            while round % 4 == 0 && seen.load(Ordering::SeqCst) < round {
                if Instant::now() > deadline {
                    is_over.store(true, Ordering::SeqCst);
                    panic!("the shard sleeps through round {round}");
                }
                thread::yield_now();
            }
        }
        topic.end(gone());
        while !is_over.load(Ordering::SeqCst) {
            let is_late = Instant::now() > deadline;
            is_over.fetch_or(is_late, Ordering::SeqCst);
            assert!(!is_late, "the shard sleeps through the end");
            thread::yield_now();
        }
    });
}
