//! When a poller asks and when it rests, seen from inside; what it makes of answers is tested through the program.

use futures_util::FutureExt;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::{
    hub::tests::{Bench, done, frame},
    scope::Lender,
    source::tests::{shared, shared_before},
    topic::Store,
    upstream::{memory, tests::read_head},
};

const INTERVAL: Duration = Duration::from_secs(1);

/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:9";

fn source(bench: &Bench, topic: &Arc<Topic>) -> PollSource {
    start(shared(bench, "path=/jobs/{id},poll=/api/jobs/{id},interval=1s", NOWHERE), Arc::clone(topic))
}

// === impl PollSource ===

impl PollSource {
    /// The number of the appointment that counts: it grows with each that is made.
    fn turn(&self) -> u64 {
        self.0.turn.load(Ordering::Acquire)
    }

    /// How long until the next poll of an ended job may be made.
    fn due(&self) -> Duration {
        self.0.lock().until_confirmed(spec(self.0.route()))
    }

    /// A poll is on its way.
    fn depart(&self) {
        self.0.lock().in_flight = Some(tokio::spawn(std::future::pending::<()>()).abort_handle());
    }
}

/// A source of a job that is over, as the app has said in its last answer.
fn ended_source(bench: &Bench, topic: &Arc<Topic>) -> PollSource {
    topic.snapshot("1", frame("1"), Instant::now(), Some(done()));
    let source = source(bench, topic);
    source.0.lock().terminal = true;
    source.0.watched.store(true, Ordering::Release);
    source.0.done(Next::Rest);
    source
}

/// Somebody joins who doesn't bring the id of the end.
fn comes_unaware(source: &PollSource) {
    source.joined(false);
    source.confirm_end();
}

/// One more subscriber; its hub knows nothing of the source under test.
fn newcomer(bench: &Bench) -> crate::subscription::Subscription {
    bench.subscribe(bench.order("/api/jobs/1", "a", Store::State))
}

// The poll finds nobody to ask for, because the one it was due for has left; in the same moment somebody joins, sees a poll
// on its way, and relies on it.
#[tokio::test(start_paused = true)]
async fn a_client_that_joins_while_a_poll_finds_nobody_to_ask_for_is_not_forgotten() {
    let bench = Bench::new(10);
    let left = bench.subscribe(bench.admitted_order("/api/jobs/1", "a", Store::State));
    let topic = bench.topic();
    drop(left);
    let source = source(&bench, &topic);
    source.depart();
    let next = source.0.poll_once().now_or_never().expect("there is nothing to wait for");

    let lender: Arc<Lender> = bench.admitted_order("/api/jobs/1", "b", Store::State).lender;
    assert!(topic.lenders().admit(&lender));
    source.joined(true);
    let before = source.turn();
    source.0.done(next);

    assert_eq!(source.turn(), before + 1, "there is a new appointment");
}

// A poll may end without a word on the topic: its lender was turned away, say, and another takes over.
#[tokio::test(start_paused = true)]
async fn a_newcomer_to_an_ended_job_never_waits_for_a_poll_that_nobody_makes() {
    let bench = Bench::new(10);
    let _watching = bench.subscribe(bench.order("/api/jobs/1", "a", Store::State));
    let topic = bench.topic();
    topic.snapshot("1", frame("1"), Instant::now(), Some(done()));
    let source = source(&bench, &topic);
    topic.unsettle();
    source.0.done(Next::After(Duration::ZERO));

    let before = source.turn();
    source.joined(true);
    assert_eq!(source.turn(), before + 1, "there is a new appointment");
}

// What was just said about a job that is over is good enough for the next tab, so that reloads are no storm for the app.
#[tokio::test(start_paused = true)]
async fn an_ended_job_is_asked_about_again_for_newcomers_but_not_faster_than_the_interval() {
    let bench = Bench::new(10);
    let mut watching = bench.subscribe(bench.order("/api/jobs/1", "a", Store::State));
    let topic = bench.topic();
    topic.snapshot("1", frame("1"), Instant::now(), Some(done()));
    let source = source(&bench, &topic);
    source.0.done(Next::Rest);

    // One that knows the end.
    source.joined(true);
    assert_eq!(source.turn(), 0);
    assert!(watching.settled().now_or_never().is_some());
    tokio::time::advance(INTERVAL).await;
    source.joined(false);
    assert_eq!(source.turn(), 1);
    assert!(newcomer(&bench).settled().now_or_never().is_none(), "newcomers wait for the app's word");
}

// On the same path the next job may have begun.
#[tokio::test(start_paused = true)]
async fn who_does_not_know_the_end_waits_until_the_app_has_confirmed_it() {
    let bench = Bench::new(10);
    let _watching = bench.subscribe(bench.order("/api/jobs/1", "a", Store::State));
    let topic = bench.topic();
    let source = ended_source(&bench, &topic);

    comes_unaware(&source);
    assert_eq!(source.due(), Duration::ZERO, "the first is not made to wait");
    let mut first = newcomer(&bench);
    assert!(first.settled().now_or_never().is_none());

    // One that comes while the app answers may not be told what it said before.
    source.depart();
    source.0.lock().begin();
    topic.asking();
    comes_unaware(&source);
    let mut second = newcomer(&bench);
    topic.confirm_ended();
    source.0.done(Next::Rest);
    assert!(first.settled().now_or_never().is_some());
    assert!(second.settled().now_or_never().is_none());
    assert_eq!(source.due(), INTERVAL, "the next question keeps its distance");
}

// Ten thousand newcomers are one request each interval.
#[tokio::test(start_paused = true)]
async fn newcomers_who_do_not_know_the_end_share_one_question_an_interval() {
    let bench = Bench::new(10);
    let _watching = bench.subscribe(bench.order("/api/jobs/1", "a", Store::State));
    let topic = bench.topic();
    let source = ended_source(&bench, &topic);
    let began = Instant::now();

    for questions in 0..10 {
        for _ in 0..100 {
            comes_unaware(&source);
        }
        assert!(!topic.is_settled());
        tokio::time::advance(source.due()).await;
        assert_eq!(began.elapsed(), INTERVAL * questions);
        source.0.lock().begin();
        topic.asking();
        topic.confirm_ended();
        source.0.done(Next::Rest);
        assert!(topic.is_settled(), "nobody waits, so nobody asks");
    }
}

// Who knows no end is told of none that may be old while the app has a hiccup; but nobody waits for one that is gone.
#[tokio::test(start_paused = true)]
async fn an_app_in_trouble_is_asked_again_about_an_ended_job_a_few_times() {
    let bench = Bench::new(10);
    let _watching = bench.subscribe(bench.order("/api/jobs/1", "a", Store::State));
    let topic = bench.topic();
    let source = ended_source(&bench, &topic);
    comes_unaware(&source);
    let mut newcomer = newcomer(&bench);
    let began = Instant::now();

    let mut questions = 0;
    loop {
        questions += 1;
        topic.asking();
        let next = source.0.trouble(Trouble::Refused);
        source.0.done(next);
        let Next::After(pause) = next else { break };
        assert!((INTERVAL..=PATIENCE).contains(&pause), "{pause:?}");
        assert!(newcomer.settled().now_or_never().is_none());
        assert!(source.due() >= pause, "{:?}", source.due());
        tokio::time::advance(pause).await;
    }
    assert!(questions > 4, "{questions} within {:?}", began.elapsed());
    assert!(newcomer.settled().now_or_never().is_some(), "what is known has to do");
    comes_unaware(&source);
    assert!(topic.is_settled(), "the next ones don't wait at all");
}

// `Retry-After` is the app's plea for mercy, and clients that come and go must not talk it over.
#[tokio::test(start_paused = true)]
async fn newcomers_do_not_make_it_ask_before_the_app_allows_it() {
    let bench = Bench::new(10);
    let _watching = bench.subscribe(bench.order("/api/jobs/1", "a", Store::State));
    let topic = bench.topic();
    topic.snapshot("1", frame("1"), Instant::now(), Some(done()));
    let source = source(&bench, &topic);
    source.0.done(Next::Rest);
    source.0.lock().set_not_before(Some(Instant::now() + INTERVAL * 60));

    tokio::time::advance(INTERVAL * 49).await;
    comes_unaware(&source);
    assert_eq!(source.turn(), 0, "what is known has to do");
    tokio::time::advance(INTERVAL).await;
    comes_unaware(&source);
    assert_eq!((source.turn(), source.due()), (1, PATIENCE), "who can wait does");
    tokio::time::advance(PATIENCE).await;
    source.joined(true);
    assert_eq!((source.turn(), source.due()), (2, Duration::ZERO));
}

// A page in place of JSON may be one for this lender alone; but an app that gives pages to all must not be asked with the
// credentials of thousands.
#[tokio::test(start_paused = true)]
async fn what_is_no_json_gives_the_turn_to_another_lender_a_few_times() {
    let bench = Bench::new(10);
    let _readers = ["a", "b"].map(|cookie| bench.subscribe(bench.admitted_order("/api/jobs/1", cookie, Store::State)));
    let door = memory::App::default();
    let mut connections = door.listen();
    let app = tokio::spawn(async move {
        let mut cookies = String::new();
        for body in ["<p>", "<p>", "{}", "<p>", "<p>", "<p>", "<p>", "<p>"] {
            let mut connection = connections.recv().await.unwrap();
            let head = read_head(&mut connection).await;
            cookies.extend(head.split("cookie: ").nth(1).and_then(|rest| rest.chars().next()));
            let length = body.len();
            let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
            connection.write_all(answer.as_bytes()).await.unwrap();
        }
        cookies
    });
    let shared = shared_before(&bench, "path=/jobs/{id},poll=/api/jobs/{id},share=authorized", memory::upstream(&door));
    let source = start(shared, bench.topic());
    for failures in [0, 0, 0, 0, 0, 0, 1, 2] {
        source.0.poll_once().await;
        assert_eq!(source.0.lock().unwell.as_ref().map_or(0, |unwell| unwell.backoff.attempts()), failures);
    }
    assert_eq!(app.await.unwrap(), "abaababa");
}

async fn any_permit() -> OwnedSemaphorePermit {
    Arc::new(tokio::sync::Semaphore::new(1)).acquire_owned().await.unwrap()
}

// One more poll of a job that nobody watches is one too many when a thousand tabs were closed at once.
#[tokio::test(start_paused = true)]
async fn an_appointment_made_while_the_last_client_left_is_let_go() {
    let bench = Bench::new(10);
    let _watching = bench.subscribe(bench.order("/api/jobs/1", "a", Store::State));
    let source = source(&bench, &bench.topic());
    source.joined(true);
    source.idle();
    source.0.appoint(Duration::ZERO);

    let permit = any_permit().await;
    Arc::clone(&source.0).poll(source.turn(), permit);
    assert!(source.0.lock().in_flight.is_none());

    source.joined(true);
    let permit = any_permit().await;
    Arc::clone(&source.0).poll(source.turn(), permit);
    assert!(source.0.lock().in_flight.is_some());
}
