//! One row of the matrix per client: heartbeats in all forms, a cut, a clean end, the end of a job, and the way back.
//!
//! What every client must do is asserted here; where they differ, what was seen becomes the row's words.

use super::{
    cutter::{Cut, Cutter},
    driver::{Message, Saw, Watcher},
    matrix::Row,
    world::{Browser, Client, World},
};
use crate::harness::{COMPLETED, completed, running, running_text};

pub(super) const JOB: &str = "/api/progress/v1";
pub(super) const FEED: &str = "/notifications";
/// Long linger: in these tests it is the client that is away, and its topic has to wait for it.
pub(super) const JOBS: &str = "path=/api/progress/{id},poll=/api/videos/{id},interval=50ms,max-interval=100ms,linger=60s,\
                    heartbeat=100ms,retry=1s";
pub(super) const FEEDS: &str = "path=/notifications,subscribe,linger=60s,heartbeat=100ms,retry=1s";

/// How an app uses a client.
struct Subject {
    name: &'static str,
    client: Client,
    /// Asking again after an end is the app's own loop, not the library's.
    is_loop_of_app: bool,
}

#[tokio::test]
#[ignore = "needs node, python3 and chromium; tests/run runs it"]
async fn chromium_eventsource() {
    let client = Client::Page("native", Browser::start().await);
    Subject { name: "Chromium `EventSource`", client, is_loop_of_app: false }.fill_row().await;
}

#[tokio::test]
#[ignore = "needs node, python3 and chromium; tests/run runs it"]
async fn npm_eventsource() {
    let client = Client::Node("eventsource.mjs");
    Subject { name: "npm `eventsource`", client, is_loop_of_app: false }.fill_row().await;
}

#[tokio::test]
#[ignore = "needs node, python3 and chromium; tests/run runs it"]
async fn event_source_polyfill() {
    let client = Client::Page("event-source-polyfill", Browser::start().await);
    Subject { name: "npm `event-source-polyfill`", client, is_loop_of_app: false }.fill_row().await;
}

#[tokio::test]
#[ignore = "needs node, python3 and chromium; tests/run runs it"]
async fn reconnecting_eventsource() {
    let client = Client::Page("reconnecting-eventsource", Browser::start().await);
    Subject { name: "npm `reconnecting-eventsource`", client, is_loop_of_app: false }.fill_row().await;
}

#[tokio::test]
#[ignore = "needs node, python3 and chromium; tests/run runs it"]
async fn fetch_event_source() {
    let client = Client::Page("fetch-event-source", Browser::start().await);
    Subject { name: "npm `@microsoft/fetch-event-source`", client, is_loop_of_app: false }.fill_row().await;
}

#[tokio::test]
#[ignore = "needs node, python3 and chromium; tests/run runs it"]
async fn httpx_sse() {
    let client = Client::Python("httpx_sse_client.py", None);
    Subject { name: "PyPI `httpx-sse`", client, is_loop_of_app: true }.fill_row().await;
}

#[tokio::test]
#[ignore = "needs node, python3 and chromium; tests/run runs it"]
async fn sseclient_py() {
    let client = Client::Python("sseclient_client.py", None);
    Subject { name: "PyPI `sseclient-py`", client, is_loop_of_app: true }.fill_row().await;
}

// === impl Subject ===

impl Subject {
    async fn fill_row(self) {
        // Boxed, because together they are too large for the stack of a test.
        let (comment, block, event, (cut, job_end), (), clean_end, back) = tokio::join!(
            Box::pin(self.heartbeats("comment")),
            Box::pin(self.heartbeats("comment-block")),
            Box::pin(self.heartbeats("event")),
            Box::pin(self.follow_a_job()),
            Box::pin(self.follow_a_feed()),
            Box::pin(self.clean_end()),
            Box::pin(self.back_with_the_last_id()),
        );
        Row { client: self.name, heartbeats: [comment, block, event], cut, clean_end, job_end, back }.check();
    }

    /// What the app's code sees of heartbeats between events.
    async fn heartbeats(&self, form: &str) -> String {
        let world = World::new(|side| side.route(FEEDS).flag("--heartbeat-form", form)).await;
        let feed = world.app.events(FEED);
        let mut watcher = world.watch(&self.client, FEED).await;
        let stream = feed.accept().await;
        stream.send("id: 1\ndata: one\n\n").await;
        until_data(&mut watcher, "one").await;

        world.heartbeats(3).await;
        // In one piece: the second event has no heartbeat before it, so it arrives whatever became of the first.
        stream.send("id: 2\ndata: two\n\nid: 3\ndata: three\n\n").await;
        until_data(&mut watcher, "three").await;

        seen_of_heartbeats(&watcher)
    }

    /// Snapshot, changes, two cuts, and the end of a job; gives the words for the cut and for the end.
    async fn follow_a_job(&self) -> (String, String) {
        let world = World::new(|side| side.route(JOBS)).await;
        let job = world.app.job("v1");
        job.answer(running(1));
        let mut watcher = world.watch(&self.client, JOB).await;
        assert_eq!(watcher.message().await.data, running_text(1), "the snapshot");
        job.answer(running(2));
        assert_eq!(watcher.message().await.data, running_text(2), "a change");

        // A cut with a change in the time between.
        world.net.cut_and_shut(Cut::Rst);
        let cut = self.cut_in_words(&watcher.trouble().await);
        job.answer(running(3));
        world.net.open();
        assert_eq!(watcher.message().await.data, running_text(3), "the change while it was away");
        let how = way_back(&world.net, JOB);
        // And one without.
        world.net.cut(Cut::Fin);
        world.net.until_requests(JOB, 3).await;
        world.heartbeats(2).await;
        job.answer(running(4));
        assert_eq!(watcher.message().await.data, running_text(4), "nothing twice after a cut without a change");

        job.answer(completed());
        let last = watcher.message().await;
        let done = watcher.message().await;
        assert_eq!((last.event.as_str(), last.data.as_str()), ("message", COMPLETED));
        assert_eq!((done.event.as_str(), &done.data, &done.id), ("done", &last.data, &last.id));
        let end = self.end_in_words(&watcher.trouble().await);
        let mut expected: Vec<String> = (1..=4).map(running_text).collect();
        expected.push(COMPLETED.to_owned());
        assert_eq!(watcher.data(), expected, "every state once, in order");

        let by = if self.is_loop_of_app { "the app's loop comes back" } else { "comes back by itself" };
        (format!("{cut}; {by} with {how}; nothing lost or twice"), format!("last status, `done`, {end}"))
    }

    /// Events that the app named: each of them once, in order, whatever happened between.
    async fn follow_a_feed(&self) {
        let world = World::new(|side| side.route(FEEDS)).await;
        let feed = world.app.events(FEED);
        let mut watcher = world.watch(&self.client, FEED).await;
        let stream = feed.accept().await;
        for n in 1..=3 {
            stream.send(format!("id: e{n}\ndata: {n}\n\n")).await;
            let message = watcher.message().await;
            assert_eq!((message.id.as_str(), message.data), (format!("e{n}").as_str(), n.to_string()));
        }

        for (n, how) in [(4, Cut::Rst), (7, Cut::Fin)] {
            world.net.cut_and_shut(how);
            watcher.trouble().await;
            for n in n..n + 3 {
                stream.send(format!("id: e{n}\ndata: {n}\n\n")).await;
            }
            // The program has them all before the client is back, or they would come as news and prove nothing.
            let published = f64::from(n + 2);
            world.side.until_metric("events_published_total", &[], published).await;
            world.net.open();
            until_data(&mut watcher, &(n + 2).to_string()).await;
        }
        stream.send("id: e10\ndata: 10\n\n").await;
        until_data(&mut watcher, "10").await;

        let expected: Vec<String> = (1..=10).map(|n| n.to_string()).collect();
        assert_eq!(watcher.data(), expected, "every event once, in order");
        assert_eq!(feed.opened(), 1, "the app noticed nothing");
    }

    /// What becomes of a client whose stream the program ends in good order although its job goes on.
    async fn clean_end(&self) -> String {
        let world = World::new(|side| side.route(&format!("{JOBS},max-age=1s"))).await;
        let job = world.app.job("v1");
        job.answer(running(1));
        let mut watcher = world.watch(&self.client, JOB).await;
        watcher.message().await;

        let end = watcher.trouble().await;
        if end == Saw::End && !self.is_loop_of_app {
            // A promise that has resolved does so once: nothing comes after it.
            assert_eq!(world.net.requests(JOB).len(), 1);
            return "its promise resolves and **it never comes back**".to_owned();
        }
        world.net.until_requests(JOB, 2).await;
        world.heartbeats(2).await;
        job.answer(running(2));
        until_data(&mut watcher, &running_text(2)).await;
        assert_eq!(watcher.data(), [running_text(1), running_text(2)]);
        let how = way_back(&world.net, JOB);
        match end {
            Saw::End => format!("its iterator ends; the app's loop comes back with {how}"),
            _ => format!("comes back by itself with {how}"),
        }
    }

    /// What a client does with the 204 that says that its job is over.
    ///
    /// It was cut off between the last status and `done`, so it comes back soon and with the last id.
    async fn back_with_the_last_id(&self) -> String {
        let world = World::new(|side| side.route(JOBS)).await;
        world.app.job("v1").answer(completed());
        world.net.hold_after(&format!("{COMPLETED}\n\n"));
        let mut watcher = world.watch(&self.client, JOB).await;
        assert_eq!(watcher.message().await.data, COMPLETED);
        world.net.cut(Cut::Fin);

        let stops = async {
            loop {
                match watcher.next().await {
                    Saw::Error { closed: true, text } => return text,
                    Saw::End => return String::new(),
                    _ => {}
                }
            }
        };
        let words = tokio::select! {
            text = stops => match text.split_once(':') {
                Some((error, _)) if self.is_loop_of_app => format!("204: raises `{error}`"),
                _ if self.is_loop_of_app => "204: an iterator without events".to_owned(),
                _ => "204: stops for good".to_owned(),
            },
            () = world.net.until_requests(JOB, 4) => "204: **asks again for ever**".to_owned(),
        };
        assert_eq!(watcher.data(), [COMPLETED]);
        words
    }

    fn cut_in_words(&self, saw: &Saw) -> String {
        match saw {
            Saw::Error { closed: false, text } if self.is_loop_of_app => {
                format!("raises `{}`", text.split(':').next().unwrap_or_default())
            }
            Saw::Error { closed: false, .. } => "`error`".to_owned(),
            other => panic!("a cut is an error that the client survives, not {other:?}"),
        }
    }

    fn end_in_words(&self, saw: &Saw) -> &'static str {
        match saw {
            Saw::Error { closed: false, .. } => "`error`, and it means to come back",
            Saw::End if self.is_loop_of_app => "its iterator ends",
            Saw::End => "its promise resolves",
            Saw::Error { .. } | Saw::Open | Saw::Message(_) => panic!("no client ends like this: {saw:?}"),
        }
    }
}

/// Takes messages up to the one with this data.
pub(super) async fn until_data(watcher: &mut Watcher, data: &str) {
    while watcher.message().await.data != data {}
}

/// How the last request for `path` says where the client was.
fn way_back(net: &Cutter, path: &str) -> String {
    let requests = net.requests(path);
    let head = requests.last().expect("it came back").to_ascii_lowercase();
    let header = head.contains("\r\nlast-event-id:").then_some("`Last-Event-ID`");
    let query = head.lines().next().is_some_and(|line| line.contains("lasteventid=")).then_some("`?lastEventId=`");
    let ways: Vec<_> = header.into_iter().chain(query).collect();
    assert!(!ways.is_empty(), "it came back without a place: {head}");
    ways.join(" and ")
}

/// What stands between the events `one`, `two`, `three`, in words. A `zero` before them is for whom it may concern.
pub(super) fn seen_of_heartbeats(watcher: &Watcher) -> String {
    let messages = watcher.all().into_iter().filter_map(|saw| match saw {
        Saw::Message(message) => Some(message),
        _ => None,
    });
    let messages: Vec<Message> = messages.collect();
    let count = |data: &str| messages.iter().filter(|message| message.data == data).count();
    assert_eq!((count("one"), count("three")), (1, 1), "{messages:?}");
    let sent = ["zero", "one", "two", "three"];
    let others: Vec<_> = messages.iter().filter(|it| !sent.contains(&it.data.as_str())).collect();
    match (count("two"), others.as_slice()) {
        (1, []) => "unseen".to_owned(),
        (0, []) => "**the next event is lost**".to_owned(),
        (1, [first, ..]) if first.data.is_empty() => "**messages with empty data**".to_owned(),
        (1, [first, ..]) if first.event == "ping" && first.data == "{}" => "`ping` messages".to_owned(),
        _ => panic!("no words for {messages:?}"),
    }
}
