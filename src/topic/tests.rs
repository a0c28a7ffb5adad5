//! What readers of a topic get, whatever its source does.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures_util::FutureExt;

use super::*;
use crate::{
    hub::tests::{Bench, LOG, done, frame, gone, refusal},
    metrics::FrameKind,
    subscription::Subscription,
};

/// Tells how often it was woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

// === impl Topic ===

impl Topic {
    /// Readers that wait to be woken.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }
}

// === impl Bell ===

impl Bell {
    fn rung(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// The next thing for a reader, and what a glimpse says of it must be the same.
fn next(reader: &mut Subscription) -> Option<Delivery> {
    let glance = glance(reader);
    let next = match reader.poll_next(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(delivery) => Some(delivery),
        Poll::Pending => None,
    };
    match (&next, glance) {
        (_, None) | (None, Some(None)) => {}
        (Some(Delivery::Frame { frame, kind, at }), Some(Some(shown))) => {
            assert_eq!((frame.clone(), *kind, *at), shown)
        }
        (next, glance) => panic!("a glimpse shows {glance:?}, and next is {next:?}"),
    }
    next
}

/// What a glimpse says to a reader that stands where `reader` does, if it says it all.
fn glance(reader: &Subscription) -> Option<Option<(Frame, FrameKind, Instant)>> {
    let glimpse = reader.topic().glimpse()?;
    let Cursor { seq, joined_at, greeting, .. } = *reader.cursor();
    let mut cursor = Cursor { seq, joined_at, greeting, ..Cursor::default() };
    match glimpse.show(&mut cursor) {
        Glance::Ask => None,
        Glance::Nothing => Some(None),
        Glance::Next(kind) => {
            assert_eq!(glimpse.show(&mut cursor), Glance::Nothing, "it is the last");
            Some(Some((glimpse.frame, kind, glimpse.at)))
        }
    }
}

/// Everything there is for a reader, one word for each: the data, with a mark in front of what is no event of its time.
fn read(reader: &mut Subscription) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(delivery) = next(reader) {
        all.push(match delivery {
            Delivery::Frame { frame, kind, .. } => {
                let block = frame.block();
                let text = std::str::from_utf8(&block).unwrap();
                let text = text.strip_prefix("data: ").unwrap().trim_end();
                let mark = match kind {
                    FrameKind::Replay => "again ",
                    FrameKind::Control => "note ",
                    FrameKind::Event | FrameKind::Heartbeat => "",
                };
                format!("{mark}{text}")
            }
            Delivery::End(end) => {
                all.push(format!("end {}", end.reason.as_str()));
                break;
            }
            Delivery::Lagged => {
                all.push("lagged".into());
                break;
            }
        });
    }
    all
}

fn placed(bench: &Bench, store: Store, last_event_id: Option<&str>) -> Subscription {
    let mut reader = bench.watch(store);
    reader.place(last_event_id);
    reader
}

fn snapshot(topic: &Topic, id: &str, end: Option<End>) -> bool {
    topic.snapshot(id, frame(id), Instant::now(), end)
}

fn events(topic: &Topic, ids: std::ops::RangeInclusive<u32>) {
    for id in ids {
        let id = id.to_string();
        topic.event(Some(&id), frame(&id), Instant::now());
    }
}

fn is_settled(reader: &mut Subscription) -> bool {
    reader.settled().now_or_never().is_some()
}

// --- state ---

// A backlog of states that are no longer true is of no use to anybody.
#[tokio::test]
async fn a_slow_reader_of_state_gets_the_latest_and_not_the_backlog() {
    let bench = Bench::new(10);
    let mut reader = placed(&bench, Store::State, None);
    for id in ["1", "2", "3"] {
        assert!(snapshot(&bench.topic(), id, None));
    }
    assert_eq!(read(&mut reader), ["3"]);
}

#[tokio::test]
async fn the_same_state_again_is_no_news() {
    let bench = Bench::new(10);
    let mut reader = placed(&bench, Store::State, None);
    assert!(snapshot(&bench.topic(), "1", None));
    assert_eq!(read(&mut reader), ["1"]);
    assert!(!snapshot(&bench.topic(), "1", None));
    assert!(read(&mut reader).is_empty());
}

// How fresh the state of a newcomer is says nothing about how fast we deliver; so it must not be counted as delivered now.
#[tokio::test]
async fn a_newcomer_gets_the_state_that_is_known_as_a_replay_unless_it_has_it() {
    let bench = Bench::new(10);
    let _first = bench.watch(Store::State);
    snapshot(&bench.topic(), "1", None);

    assert_eq!(read(&mut placed(&bench, Store::State, None)), ["again 1"]);
    assert_eq!(read(&mut placed(&bench, Store::State, Some("unknown"))), ["again 1"]);
    let mut back = placed(&bench, Store::State, Some("1"));
    assert!(read(&mut back).is_empty());
    snapshot(&bench.topic(), "2", None);
    assert_eq!(read(&mut back), ["2"]);
}

#[tokio::test]
async fn the_last_state_comes_before_the_end_and_the_end_once() {
    let bench = Bench::new(10);
    let mut reader = placed(&bench, Store::State, None);
    snapshot(&bench.topic(), "1", Some(done()));
    assert_eq!(read(&mut reader), ["1", "end done"]);
    snapshot(&bench.topic(), "1", Some(done()));
    assert!(read(&mut reader).is_empty(), "a poll that says the same tells nobody twice");
}

#[tokio::test]
async fn who_has_seen_the_last_state_needs_nothing_more_and_others_get_it_with_its_end() {
    let bench = Bench::new(10);
    let _first = bench.watch(Store::State);
    snapshot(&bench.topic(), "1", None);
    assert_eq!(bench.watch(Store::State).place(Some("1")), Resumed::Here, "the job goes on");
    snapshot(&bench.topic(), "2", Some(done()));

    assert_eq!(bench.watch(Store::State).place(Some("2")), Resumed::Finished);
    assert_eq!(bench.watch(Store::State).place(Some("1")), Resumed::New);
    assert_eq!(read(&mut placed(&bench, Store::State, Some("1"))), ["again 2", "end done"]);
}

// A template may leave out what changed: the content is the same, and yet the job is over.
#[tokio::test]
async fn an_end_without_a_new_state_is_told() {
    let bench = Bench::new(10);
    let mut reader = placed(&bench, Store::State, None);
    snapshot(&bench.topic(), "1", None);
    assert_eq!(read(&mut reader), ["1"]);
    snapshot(&bench.topic(), "1", Some(done()));
    assert_eq!(read(&mut reader), ["end done"]);
}

#[tokio::test]
async fn a_retried_job_lives_on_and_its_old_end_is_forgotten() {
    let bench = Bench::new(10);
    let mut reader = placed(&bench, Store::State, None);
    let topic = bench.topic();
    snapshot(&topic, "done", Some(done()));
    assert!(topic.is_ended() && topic.is_finished_by("done") && !topic.is_dead());

    snapshot(&topic, "again", None);
    assert!(!topic.is_ended() && !topic.is_finished_by("done"));
    assert_eq!(read(&mut reader), ["again"], "who has not heard of the end yet never does");
    assert_eq!(bench.watch(Store::State).place(Some("done")), Resumed::New);
    assert_eq!(topic.view().phase, Phase::Live);
}

// A walk over many readers asks the topic once; whoever needs more is told to ask by itself.
#[tokio::test]
async fn a_glimpse_is_enough_for_readers_that_are_up_to_date_but_for_the_newest() {
    for store in [Store::State, LOG] {
        let bench = Bench::new(10);
        let mut reader = placed(&bench, store, None);
        let topic = bench.topic();
        assert!(topic.glimpse().is_none(), "nothing is known yet");
        let publish = |id: &str| match store {
            Store::State => assert!(snapshot(&topic, id, None)),
            Store::Log { .. } => drop(topic.event(Some(id), frame(id), Instant::now())),
        };
        for id in ["1", "2"] {
            publish(id);
            assert!(matches!(glance(&reader), Some(Some((_, FrameKind::Event, _)))), "{id}");
            assert_eq!(read(&mut reader), [id]);
            assert_eq!(glance(&reader), Some(None));
        }
        publish("3");
        publish("4");
        let expected: &[_] = if store == Store::State { &["4"] } else { &["3", "4"] };
        assert_eq!(glance(&reader).is_none(), store == LOG, "of a log both are to be delivered");
        assert_eq!(read(&mut reader), expected);
        topic.trouble(Some(frame("trouble")));
        assert!(topic.glimpse().is_none(), "there is a note to be told");
        assert_eq!(read(&mut reader), ["note trouble"]);
        topic.end(done());
        assert!(topic.glimpse().is_none());
    }
}

// --- log ---

#[tokio::test]
async fn every_event_comes_in_order_and_once() {
    let bench = Bench::new(10);
    let mut reader = placed(&bench, LOG, None);
    events(&bench.topic(), 1..=2);
    assert_eq!(read(&mut reader), ["1", "2"]);
    events(&bench.topic(), 3..=3);
    assert_eq!(read(&mut reader), ["3"]);
}

// The head of the app's stream and its first events often arrive together: then they are published before the subscriber
// whom the head let in has run again.
#[tokio::test]
async fn what_is_published_while_a_subscriber_waits_to_be_let_in_is_not_lost() {
    let bench = Bench::new(10);
    let mut reader = bench.watch(LOG);
    assert!(!is_settled(&mut reader));
    bench.topic().stream_began();
    events(&bench.topic(), 1..=2);
    assert!(is_settled(&mut reader));
    reader.place(None);
    assert_eq!(read(&mut reader), ["1", "2"]);
}

#[tokio::test]
async fn a_newcomer_to_a_log_gets_what_is_new_and_one_that_comes_back_what_it_missed() {
    let bench = Bench::new(10);
    let _first = bench.watch(LOG);
    events(&bench.topic(), 1..=3);
    let mut new = placed(&bench, LOG, None);
    let mut unknown = placed(&bench, LOG, Some("x"));
    let mut back = placed(&bench, LOG, Some("1"));
    events(&bench.topic(), 4..=4);
    assert_eq!(read(&mut new), ["4"]);
    assert_eq!(read(&mut unknown), ["4"]);
    assert_eq!(read(&mut back), ["again 2", "again 3", "4"]);
}

// A tab that opens a topic with its `Last-Event-ID` and is gone before the first event comes back with the same id, while
// the topic lingers. Its id is none of the window's, and still it is known what it has missed.
#[tokio::test]
async fn who_comes_back_to_where_the_topic_began_has_missed_all_of_it() {
    let bench = Bench::new(10);
    let mut order = bench.order("/jobs/1", "a", LOG);
    order.first_id = Some("7".to_owned());
    drop(bench.subscribe(order));
    events(&bench.topic(), 8..=9);
    let mut back = placed(&bench, LOG, Some("7"));
    let mut unknown = placed(&bench, LOG, Some("6"));
    events(&bench.topic(), 10..=10);
    assert_eq!(read(&mut back), ["again 8", "again 9", "10"]);
    assert_eq!(read(&mut unknown), ["10"]);
}

// Of what fell out of the window, the last event is not missed by whoever has it.
#[tokio::test]
async fn who_has_the_last_event_before_the_window_goes_on_at_its_beginning() {
    let bench = Bench::new(10);
    let _first = bench.watch(LOG);
    let last = u32::try_from(REPLAY_EVENTS_MAX).unwrap() + 2;
    events(&bench.topic(), 1..=last);
    bench.topic().trim(Instant::now() + BURST);
    let mut back = placed(&bench, LOG, Some("2"));
    let mut late = placed(&bench, LOG, Some("1"));
    assert_eq!(read(&mut back).len(), REPLAY_EVENTS_MAX);
    assert_eq!(read(&mut late), [""; 0]);
}

// An app that names only some events leaves several with one id; the client saw all of them, as far as anybody can tell.
#[tokio::test]
async fn among_events_with_one_id_a_reader_goes_on_after_the_last() {
    let bench = Bench::new(10);
    let _first = bench.watch(LOG);
    let topic = bench.topic();
    for (id, text) in [("a", "1"), ("a", "2"), ("b", "3")] {
        topic.event(Some(id), frame(text), Instant::now());
    }
    assert_eq!(read(&mut placed(&bench, LOG, Some("a"))), ["again 3"]);
}

#[tokio::test]
async fn newcomers_get_the_last_event_where_the_route_says_so() {
    let store = Store::Log { latest: true, greeting: 0 };
    let bench = Bench::new(10);
    let mut first = placed(&bench, store, None);
    events(&bench.topic(), 1..=3);
    let mut new = placed(&bench, store, None);
    events(&bench.topic(), 4..=4);
    assert_eq!(read(&mut first), ["1", "2", "3", "4"]);
    assert_eq!(read(&mut new), ["again 3", "4"]);
}

// Greeting, latest and live are cut from one stream: whatever the moment at which somebody comes, nothing twice, and
// nothing lost from then on.
#[tokio::test]
async fn greeting_latest_and_live_meet_without_gap_or_overlap() {
    let store = Store::Log { latest: true, greeting: 2 };
    for joins_after in 0..5 {
        for placed_after in joins_after..5 {
            let bench = Bench::new(10);
            let _first = bench.watch(store);
            events(&bench.topic(), 1..=joins_after);
            let mut reader = bench.watch(store);
            events(&bench.topic(), joins_after + 1..=placed_after);
            reader.place(None);
            events(&bench.topic(), placed_after + 1..=5);

            let expected: Vec<String> = (1..=5)
                .filter(|id| *id <= 2 || *id >= joins_after)
                .map(|id| if id <= joins_after { format!("again {id}") } else { id.to_string() })
                .collect();
            assert_eq!(read(&mut reader), expected, "joined after {joins_after}, placed after {placed_after}");
        }
    }
}

// The app greets each of its own connections; what it said on an old one is over when it has said it anew.
#[tokio::test]
async fn a_new_stream_of_the_app_brings_a_new_greeting() {
    let store = Store::Log { latest: false, greeting: 2 };
    let bench = Bench::new(10);
    let _first = bench.watch(store);
    events(&bench.topic(), 1..=3);
    let mut interrupted = placed(&bench, store, None);
    bench.topic().stream_began();
    assert_eq!(read(&mut placed(&bench, store, None)), ["again 1", "again 2"], "the old one, until there is a new one");
    events(&bench.topic(), 4..=4);
    assert_eq!(read(&mut placed(&bench, store, None)), ["again 4"]);
    assert_eq!(read(&mut interrupted), ["4"]);
}

#[tokio::test]
async fn a_reader_one_event_beyond_the_window_is_told_and_one_at_its_edge_is_served() {
    let bench = Bench::new(10);
    let mut beyond = placed(&bench, LOG, None);
    events(&bench.topic(), 1..=1);
    let mut edge = placed(&bench, LOG, None);
    let window = u32::try_from(REPLAY_EVENTS_MAX).unwrap();
    events(&bench.topic(), 2..=window + 1);
    bench.topic().trim(Instant::now() + BURST);
    assert_eq!(read(&mut beyond), ["lagged"]);
    let all = read(&mut edge);
    assert_eq!((all.len(), all[0].as_str()), (REPLAY_EVENTS_MAX, "2"));
}

#[tokio::test]
async fn the_window_is_bounded_in_bytes_and_always_holds_the_newest() {
    let bench = Bench::new(10);
    let mut reader = placed(&bench, LOG, None);
    let topic = bench.topic();
    let half = "x".repeat(REPLAY_BYTES_MAX / 2);
    for id in ["1", "2", "3"] {
        topic.event(Some(id), frame(&half), Instant::now());
    }
    assert!(!topic.trim(Instant::now() + BURST));
    assert_eq!(topic.lock().kept.log().unwrap().len(), 1);
    assert_eq!(topic.lock().kept.log().unwrap().bytes(), frame(&half).len());
    assert_eq!(read(&mut reader), ["lagged"]);
    let huge = frame(&"x".repeat(REPLAY_BYTES_MAX * 2));
    assert!(!topic.event(Some("4"), huge, Instant::now() + BURST));
    assert_eq!(topic.lock().kept.log().unwrap().len(), 1);
}

// An app that sends a history in one go is faster than any reader.
#[tokio::test]
async fn a_burst_is_kept_for_its_readers_for_a_while_and_within_bounds_of_its_own() {
    let bench = Bench::new(10);
    let [mut quick, mut slow] = [placed(&bench, LOG, None), placed(&bench, LOG, None)];
    let topic = bench.topic();
    let window = u32::try_from(REPLAY_EVENTS_MAX).unwrap();
    let all = 2 * window;
    events(&topic, 1..=all);
    assert_eq!(read(&mut quick).len(), 2 * REPLAY_EVENTS_MAX);
    assert!(topic.trim(Instant::now()), "it goes on");
    assert!(!topic.trim(Instant::now() + BURST), "it is over");
    assert_eq!(topic.lock().kept.log().unwrap().len(), REPLAY_EVENTS_MAX);
    assert_eq!(read(&mut slow), ["lagged"]);

    let half = "x".repeat(REPLAY_BYTES_MAX / 2);
    for _ in 0..100 {
        topic.event(None, frame(&half), Instant::now());
    }
    let bytes = topic.lock().kept.log().unwrap().bytes();
    assert!((REPLAY_BYTES_MAX..=8 * REPLAY_BYTES_MAX).contains(&bytes), "{bytes}");
}

#[tokio::test]
async fn what_is_left_of_a_log_comes_before_its_end() {
    let bench = Bench::new(10);
    let mut reader = placed(&bench, LOG, None);
    events(&bench.topic(), 1..=2);
    bench.topic().end(gone());
    assert_eq!(read(&mut reader), ["1", "2", "end done"]);
    assert!(bench.topic().is_spent());
}

// --- trouble ---

// A page that shows the error must be able to take it away again, also when the job stands where it stood.
#[tokio::test(start_paused = true)]
async fn the_same_state_is_told_again_after_an_outage_that_was_told() {
    let bench = Bench::new(10);
    let mut reader = bench.watch(Store::State);
    reader.place(None);
    let topic = bench.topic();
    topic.snapshot("1", frame("one"), Instant::now(), None);
    assert_eq!(read(&mut reader), ["one"]);

    topic.trouble(Some(frame("sorry")));
    assert_eq!(read(&mut reader), ["note sorry"]);
    topic.confirm();
    assert_eq!(read(&mut reader), ["one"]);

    topic.trouble(Some(frame("sorry")));
    topic.snapshot("1", frame("one"), Instant::now(), None);
    assert_eq!(read(&mut reader), ["one"]);

    topic.trouble(None);
    topic.confirm();
    assert!(read(&mut reader).is_empty(), "nobody was told, so nobody needs to be told again");
}

#[tokio::test]
async fn an_outage_is_told_once_to_everybody_who_is_there_or_comes_while_it_lasts() {
    for store in [Store::State, LOG] {
        let bench = Bench::new(10);
        let mut reader = placed(&bench, store, None);
        let topic = bench.topic();
        topic.trouble(Some(frame("sorry")));
        topic.trouble(Some(frame("sorry")));
        assert_eq!(read(&mut reader), ["note sorry"]);
        assert_eq!(read(&mut placed(&bench, store, None)), ["note sorry"]);

        topic.confirm();
        assert!(read(&mut placed(&bench, store, None)).is_empty(), "it is over");
        topic.trouble(Some(frame("again")));
        assert_eq!(read(&mut reader), ["note again"], "another outage");
    }
}

#[tokio::test]
async fn a_note_takes_its_place_among_the_events() {
    let bench = Bench::new(10);
    let mut reader = placed(&bench, LOG, None);
    events(&bench.topic(), 1..=1);
    bench.topic().trouble(Some(frame("sorry")));
    assert_eq!(read(&mut reader), ["1", "note sorry"]);
}

// A first connect while the app is down gets a stream that waits; a job that is over stays over.
#[tokio::test]
async fn trouble_lets_those_in_who_wait_and_takes_no_end_back() {
    let bench = Bench::new(10);
    let mut reader = bench.watch(Store::State);
    let topic = bench.topic();
    topic.trouble(None);
    assert!(is_settled(&mut reader));
    reader.place(None);
    assert!(read(&mut reader).is_empty());
    assert_eq!(topic.view().phase, Phase::Degraded);

    snapshot(&topic, "1", Some(done()));
    topic.unsettle();
    let mut newcomer = bench.watch(Store::State);
    topic.trouble(Some(frame("sorry")));
    assert_eq!(topic.view().phase, Phase::Ended);
    assert_eq!(read(&mut reader), ["1", "end done"]);
    assert!(!is_settled(&mut newcomer), "the end may be old");
    topic.let_in();
    assert!(is_settled(&mut newcomer));
    newcomer.place(None);
    assert_eq!(read(&mut newcomer), ["again 1", "end done"]);
}

// An answer that was on its way when somebody came may be older than what made it come: the next job has begun.
#[tokio::test]
async fn a_newcomer_hears_the_answer_to_a_question_that_was_put_after_it_came() {
    let bench = Bench::new(10);
    let _reader = bench.watch(Store::State);
    let topic = bench.topic();
    snapshot(&topic, "1", Some(done()));
    topic.unsettle();
    let mut before = bench.watch(Store::State);
    topic.asking();
    topic.unsettle();
    let mut meanwhile = bench.watch(Store::State);

    topic.confirm_ended();
    assert!(is_settled(&mut before) && !is_settled(&mut meanwhile) && !topic.is_settled());
    topic.asking();
    topic.confirm_ended();
    assert!(is_settled(&mut meanwhile) && topic.is_settled());

    // What was given up is no answer to those who come later.
    topic.unsettle();
    topic.let_in();
    assert!(is_settled(&mut bench.watch(Store::State)));
    topic.unsettle();
    assert!(!is_settled(&mut bench.watch(Store::State)));
}

#[tokio::test]
async fn a_refusal_goes_to_those_who_wait_and_ends_the_streams_that_are_open() {
    let bench = Bench::new(10);
    let mut open = placed(&bench, Store::State, None);
    let mut waits = bench.watch(Store::State);
    let topic = bench.topic();
    topic.refuse(refusal());
    assert!(matches!(waits.settled().now_or_never(), Some(Settled::Refused(_))));
    assert_eq!(read(&mut open), ["end denied"]);
    assert!(topic.is_dead() && topic.is_spent());
}

// --- wakers ---

#[tokio::test]
async fn whoever_waits_for_the_apps_word_hears_it_from_every_kind_of_answer() {
    let words: [fn(&Topic); 7] = [
        |topic| topic.confirm(),
        |topic| topic.confirm_ended(),
        |topic| topic.stream_began(),
        |topic| topic.trouble(None),
        |topic| topic.refuse(refusal()),
        |topic| topic.end(gone()),
        |topic| {
            topic.snapshot("1", frame("1"), Instant::now(), None);
        },
    ];
    for word in words {
        let bench = Bench::new(10);
        let reader = bench.watch(LOG);
        let topic = bench.topic();
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let mut settled = Box::pin(async {
            let mut reader = reader;
            reader.settled().await;
        });
        let mut cx = Context::from_waker(&waker);
        assert!(settled.as_mut().poll(&mut cx).is_pending());
        word(&topic);
        assert_eq!(bell.rung(), 1);
        assert!(settled.as_mut().poll(&mut cx).is_ready());
    }
}

// One place in the list for each reader, however often it is polled and by whichever task; none when it has gone. A key
// from before a wake-up may be somebody else's place by now.
#[tokio::test]
async fn a_reader_keeps_one_waker_and_takes_nobody_elses_away() {
    let bench = Bench::new(10);
    let mut one = placed(&bench, LOG, None);
    let mut two = placed(&bench, LOG, None);
    let topic = bench.topic();
    for _ in 0..3 {
        assert!(next(&mut one).is_none());
    }
    assert_eq!(topic.waiting(), 1);
    events(&topic, 1..=1);
    assert_eq!(topic.waiting(), 0);

    assert_eq!(read(&mut two), ["1"]);
    assert_eq!(topic.waiting(), 1);
    drop(one);
    assert_eq!(topic.waiting(), 1, "it was the other's");
    drop(two);
    assert_eq!(topic.waiting(), 0);
}

#[tokio::test]
async fn the_gauge_of_phases_follows_a_topic_and_lets_it_go() {
    let bench = Bench::new(10);
    let reader = bench.watch(Store::State);
    let topic = bench.topic();
    let in_phase = |phase| bench.metrics.route(RouteId(0)).topics(phase).get();
    assert_eq!(in_phase(Phase::Starting), 1);
    topic.trouble(None);
    assert_eq!((in_phase(Phase::Starting), in_phase(Phase::Degraded)), (0, 1));
    snapshot(&topic, "1", None);
    assert_eq!((in_phase(Phase::Degraded), in_phase(Phase::Live)), (0, 1));
    topic.end(gone());
    assert_eq!((in_phase(Phase::Live), in_phase(Phase::Ended)), (0, 1));
    drop((reader, topic));
    assert_eq!(bench.gauges(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_age_of_the_data_is_the_time_since_the_app_confirmed_it() {
    let bench = Bench::new(10);
    let _reader = bench.watch(Store::State);
    let topic = bench.topic();
    assert_eq!(topic.view().checked_at, None);
    snapshot(&topic, "1", None);
    tokio::time::advance(Duration::from_secs(3)).await;
    topic.trouble(None);
    assert_eq!(topic.view().checked_at.unwrap().elapsed(), Duration::from_secs(3));
    topic.confirm();
    assert_eq!(topic.view().checked_at.unwrap().elapsed(), Duration::ZERO);
}

// A topic is polled for hours, and most answers say nothing new: nobody is disturbed by them.
#[tokio::test]
async fn only_news_wakes_a_reader() {
    let bench = Bench::new(10);
    let topic = {
        let mut reader = placed(&bench, Store::State, None);
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let mut cx = Context::from_waker(&waker);
        let topic = bench.topic();
        assert!(reader.poll_next(&mut cx).is_pending());
        snapshot(&topic, "1", None);
        assert_eq!(bell.rung(), 1);
        assert!(reader.poll_next(&mut cx).is_ready() && reader.poll_next(&mut cx).is_pending());

        snapshot(&topic, "1", None);
        topic.confirm();
        topic.trouble(None);
        topic.trouble(None);
        topic.confirm();
        assert_eq!(bell.rung(), 0);

        topic.trouble(Some(frame("sorry")));
        assert_eq!(bell.rung(), 1);
        topic
    };
    assert_eq!(topic.waiting(), 0);
}

// Ids that are hashes are kept as such, and must still be told from others: by their case, their length, a digit.
#[tokio::test]
async fn an_id_is_known_again_by_its_very_letters() {
    let hash = "af1349b9f5f9a1a6a0404dea36dcc949";
    let upper = hash.to_uppercase();
    let ids = [hash, &upper, &hash[..31], "af1349b9f5f9a1a6a0404dea36dcc948", "af1349b9f5f9a1a6a0404dea36dcc94g", "7"];
    for kept in ids {
        let bench = Bench::new(10);
        let _first = bench.watch(Store::State);
        snapshot(&bench.topic(), kept, None);
        for asked in ids {
            let expected = if asked == kept { Resumed::Here } else { Resumed::New };
            assert_eq!(bench.watch(Store::State).place(Some(asked)), expected, "{kept} {asked}");
        }
    }
}
