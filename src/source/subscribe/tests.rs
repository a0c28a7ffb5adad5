//! The subscription against an app that is a socket and a script.

use std::{future::poll_fn, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::Instant,
};

use super::*;
use crate::{
    hub::tests::{Bench, LOG},
    source::tests::{shared, shared_before},
    topic::{Delivery, Resumed},
    upstream::{
        memory,
        tests::{listen, read_head, within},
    },
};

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";

/// The next request; it is answered with `words`, and the end of the stream.
async fn answer(app: &TcpListener, words: &str) -> String {
    let (mut stream, _) = within(app.accept()).await.unwrap();
    let head = within(read_head(&mut stream)).await;
    stream.write_all(format!("{HEAD}{words}").as_bytes()).await.unwrap();
    end(stream).await;
    head
}

async fn end(mut stream: TcpStream) {
    stream.shutdown().await.unwrap();
    // The other side closes when it has read the end; to close first, with something unread, would be a reset.
    let _ = within(stream.read_u8()).await;
}

async fn listening(bench: &Bench) -> (SubscribeSource, TcpListener) {
    let (app, address) = listen().await;
    let shared = shared(bench, "path=/events,subscribe=/api/events", &address.to_string());
    let source = start(shared, bench.topic(), None);
    source.joined(true);
    (source, app)
}

fn sends(head: &str, id: &str) -> bool {
    head.contains(&format!("\r\nlast-event-id: {id}\r\n"))
}

// A stream that is cut before its first event, after a comment say, must not make us forget where we were: the events
// since then would be lost to everybody.
#[tokio::test]
async fn the_place_in_the_apps_stream_survives_a_connection_without_events() {
    let bench = Bench::new(10);
    let _reader = bench.watch(LOG);
    let (_source, app) = listening(&bench).await;
    assert!(!answer(&app, "retry: 1\nid: 7\ndata: x\n\n").await.contains("last-event-id"));
    assert!(sends(&answer(&app, ": hello\n\n").await, "7"));
    assert!(sends(&answer(&app, "data: unnamed\n\n").await, "7"));
    assert!(sends(&answer(&app, "id: 8\n\n").await, "7"));
    assert!(sends(&answer(&app, "").await, "8"), "an id counts without an event too");
}

// A browser keeps the last id over a reconnection, and gives it to what has none. An id of ours in its place would be
// worth nothing to the app when the client comes back.
#[tokio::test]
async fn an_unnamed_event_after_a_reconnection_keeps_the_id_before_it() {
    let bench = Bench::new(10);
    let mut reader = bench.watch(LOG);
    let (_source, app) = listening(&bench).await;
    answer(&app, "retry: 1\nid: 7\ndata: x\n\n").await;
    answer(&app, "data: y\n\n").await;
    within(reader.settled()).await;
    reader.place(None);
    for expected in ["id: 7\ndata: x\n\n", "data: y\n\n"] {
        let Delivery::Frame { frame, .. } = within(poll_fn(|cx| reader.poll_next(cx))).await else { panic!("an end") };
        assert_eq!(frame.block(), expected);
    }
    let back = bench.watch(LOG).place(Some("7"));
    assert_eq!(back, Resumed::Here);
}

// Blanks around a header's value are no part of it, so a client with the id ` 7 ` comes back with `7`.
#[tokio::test]
async fn who_comes_back_without_the_blanks_around_its_id_has_its_place() {
    let bench = Bench::new(10);
    let mut reader = bench.watch(LOG);
    let (_source, app) = listening(&bench).await;
    answer(&app, "retry: 1\nid:  7 \ndata: x\n\n").await;
    within(reader.settled()).await;
    reader.place(None);
    let Delivery::Frame { frame, .. } = within(poll_fn(|cx| reader.poll_next(cx))).await else { panic!("an end") };
    assert_eq!(frame.block(), "id:  7 \ndata: x\n\n", "the app's id is as it was");
    assert_eq!(bench.watch(LOG).place(Some("7")), Resumed::Here);
}

#[tokio::test]
async fn an_id_that_is_not_ascii_goes_back_to_the_app() {
    let bench = Bench::new(10);
    let _reader = bench.watch(LOG);
    let (_source, app) = listening(&bench).await;
    answer(&app, "retry: 1\nid: zürich-7\ndata: x\n\n").await;
    assert!(sends(&answer(&app, "").await, "zürich-7"));
}

// It may forget on the app's own word.
#[tokio::test]
async fn an_empty_id_takes_the_place_back() {
    let bench = Bench::new(10);
    let _reader = bench.watch(LOG);
    let (_source, app) = listening(&bench).await;
    answer(&app, "retry: 1\nid: 7\ndata: x\n\nid\ndata: y\n\n").await;
    assert!(!answer(&app, "").await.contains("last-event-id"));
}

/// A listener on `route` whose app is behind `door`.
fn listener(bench: &Bench, route: &str, door: &memory::App) -> Listener {
    Listener::new(shared_before(bench, route, memory::upstream(door)), bench.topic(), None)
}

/// What follows a stream that says `words` and ends so long after them.
async fn next_after(route: &str, words: &'static str, then: Duration) -> Next {
    let bench = Bench::new(10);
    let _reader = bench.watch(LOG);
    let door = memory::App::default();
    let mut connections = door.listen();
    tokio::spawn(async move {
        let mut connection = connections.recv().await.unwrap();
        connection.write_all(format!("{HEAD}{words}").as_bytes()).await.unwrap();
        tokio::time::sleep(then).await;
    });
    listener(&bench, route, &door).listen_once(&mut Progress::after(None)).await
}

// A feed that ends after a notification called `success`, or a hello called `ready`, is no job that is over: its clients
// would never hear of it again.
#[tokio::test(start_paused = true)]
async fn only_the_last_word_on_a_job_makes_the_end_of_a_stream_the_end_of_the_job() {
    const FEED: &str = "path=/feed,subscribe=/feed";
    const GREETED: &str = "path=/feed,subscribe=/feed,greeting=1";
    const NAMED: &str = "path=/feed,subscribe=/feed,greeting=1,done=ready";
    const COMPLETED: &str = "data: {\"type\":\"completed\"}\n\n";
    const FOLLOWED: &str = "data: {\"type\":\"completed\"}\n\nevent: close\ndata: {}\n\ndata: [DONE]\n\n";
    const TAKEN_BACK: &str = "data: {\"type\":\"completed\"}\n\nevent: progress\ndata: 7\n\n";
    const TOAST: &str = "data: {\"type\":\"connected\"}\n\ndata: {\"type\":\"success\",\"title\":\"saved\"}\n\n";
    const HELLO: &str = "event: ready\ndata: {\"userId\":7}\n\n";
    let (at_once, soon, later) = (Duration::ZERO, Duration::from_secs(9), Duration::from_secs(60));
    for (route, words, then, is_over) in [
        (FEED, COMPLETED, at_once, true),
        (FEED, COMPLETED, soon, true),
        (FEED, FOLLOWED, soon, true),
        (FEED, TAKEN_BACK, at_once, false),
        (GREETED, TOAST, later, false),
        (GREETED, HELLO, at_once, false),
        (FEED, HELLO, at_once, true),
        (NAMED, HELLO, at_once, true),
    ] {
        let next = next_after(route, words, then).await;
        assert_eq!(matches!(next, Next::Over), is_over, "{route} {words:?}, {then:?} later");
    }
}

// Frameworks send the head of an answer with the first byte of its body, which is the first event.
#[tokio::test(start_paused = true)]
async fn the_head_may_come_with_the_first_event_however_late_unless_the_route_says_otherwise() {
    for (route, event) in [("path=/feed,subscribe=/feed", true), ("path=/feed,subscribe=/feed,timeout=59s", false)] {
        let bench = Bench::new(10);
        let mut reader = bench.watch(LOG);
        let door = memory::App::default();
        let mut connections = door.listen();
        tokio::spawn(async move {
            let mut connection = connections.recv().await.unwrap();
            tokio::time::sleep(Duration::from_secs(60)).await;
            let _ = connection.write_all(format!("{HEAD}data: x\n\n").as_bytes()).await;
        });
        listener(&bench, route, &door).listen_once(&mut Progress::after(None)).await;
        within(reader.settled()).await;
        reader.place(None);
        let Delivery::Frame { frame, .. } = within(poll_fn(|cx| reader.poll_next(cx))).await else { panic!("an end") };
        assert_eq!(frame.block().ends_with(b"data: x\n\n"), event, "{route}: {:?}", frame.block());
    }
}

// Hours after an outage the next one is a new one, also where the app had nothing to say in between.
#[tokio::test(start_paused = true)]
async fn a_stream_that_lives_ends_an_outage_though_it_says_nothing() {
    const TROUBLE: &str = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let bench = Bench::new(10);
    let _reader = bench.watch(LOG);
    let door = memory::App::default();
    let mut connections = door.listen();
    tokio::spawn(async move {
        let (short, long) = (BACKOFF.1 - Duration::from_secs(1), BACKOFF.1 + Duration::from_secs(1));
        let answers = [(TROUBLE, Duration::ZERO), (TROUBLE, Duration::ZERO), (HEAD, short), (HEAD, long)];
        for (head, lives_for) in answers {
            let mut connection = connections.recv().await.unwrap();
            connection.write_all(head.as_bytes()).await.unwrap();
            tokio::time::sleep(lives_for).await;
        }
    });
    let listener = listener(&bench, "path=/events,subscribe=/api/events", &door);
    let mut progress = Progress::after(None);
    for failures in [1, 2, 2, 0] {
        listener.listen_once(&mut progress).await;
        assert_eq!(progress.backoff.attempts(), failures);
    }
}

// The first one's session is over, and the app says so with a page and status 200. Nobody need hear of that; but an app that
// gives pages to all must not be asked with the credentials of thousands.
#[tokio::test(start_paused = true)]
async fn what_is_no_event_stream_gives_the_turn_to_another_lender() {
    const PAGE: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let bench = Bench::new(10);
    let _readers = ["a", "b", "c"].map(|cookie| bench.subscribe(bench.admitted_order("/api/events", cookie, LOG)));
    let door = memory::App::default();
    let mut connections = door.listen();
    let app = tokio::spawn(async move {
        let mut cookies = String::new();
        for answer in [PAGE, PAGE, HEAD, PAGE, PAGE, PAGE, PAGE, PAGE] {
            let mut connection = connections.recv().await.unwrap();
            let head = read_head(&mut connection).await;
            cookies.extend(head.split("cookie: ").nth(1).and_then(|rest| rest.chars().next()));
            connection.write_all(answer.as_bytes()).await.unwrap();
        }
        cookies
    });
    let listener = listener(&bench, "path=/events,subscribe=/api/events,share=authorized", &door);
    let mut progress = Progress::after(None);
    for failures in [0, 0, 0, 0, 0, 0, 1, 2] {
        listener.listen_once(&mut progress).await;
        assert_eq!(progress.backoff.attempts(), failures);
    }
    assert_eq!(app.await.unwrap(), "abccabca");
}

// `retry: 0` of an app that ends each stream at once would be a loop as fast as two programs can go.
#[tokio::test]
async fn no_wish_of_the_app_makes_a_tight_loop() {
    let bench = Bench::new(10);
    let _reader = bench.watch(LOG);
    let (_source, app) = listening(&bench).await;
    answer(&app, "retry: 0\ndata: x\n\n").await;
    let began = Instant::now();
    for _ in 0..4 {
        answer(&app, "").await;
    }
    assert!(began.elapsed() >= Duration::from_millis(250), "{:?}", began.elapsed());
}

/// A subscription to an app that ends each stream at once, and the requests that it gets.
fn short_lived(bench: &Bench) -> (SubscribeSource, mpsc::Receiver<Instant>) {
    let door = memory::App::default();
    let mut connections = door.listen();
    let (asked, requests) = mpsc::channel(1024);
    tokio::spawn(async move {
        while let Some(mut connection) = connections.recv().await {
            let _ = asked.send(Instant::now()).await;
            connection.write_all(format!("{HEAD}retry: 0\n\ndata: tick\n\n").as_bytes()).await.unwrap();
        }
    });
    let shared = shared_before(bench, "path=/events,subscribe=/api/events", memory::upstream(&door));
    (start(shared, bench.topic(), None), requests)
}

// A topic lingers for minutes, an hour if its route says so; nobody gets what the app is asked for meanwhile.
#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_again_and_again_is_opened_less_and_less_often_while_nobody_watches() {
    let bench = Bench::new(10);
    let _reader = bench.watch(LOG);
    let (source, mut requests) = short_lived(&bench);
    source.joined(true);
    for _ in 0..50 {
        within(requests.recv()).await.unwrap();
    }
    source.idle();
    tokio::time::sleep(Duration::from_secs(300)).await;
    let count = std::iter::from_fn(|| requests.try_recv().ok()).count();
    // Twenty on average, as half of 30 s lie between two.
    assert!((5..100).contains(&count), "{count} requests for nobody in five minutes");
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_back_has_the_stream_opened_at_once() {
    let bench = Bench::new(10);
    let _reader = bench.watch(LOG);
    let (source, mut requests) = short_lived(&bench);
    source.joined(true);
    source.idle();
    // Until a pause is one that only nobody's streams have.
    let mut rests = false;
    while !rests {
        tokio::time::sleep(Duration::from_secs(1)).await;
        rests = requests.try_recv().is_err();
    }
    let joined = Instant::now();
    source.joined(true);
    for what in ["at once", "as it is watched now"] {
        let at = within(requests.recv()).await.unwrap();
        assert!(at - joined < Duration::from_millis(500), "{what}: {:?}", at - joined);
    }
}
