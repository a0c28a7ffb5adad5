//! The fake app: a real HTTP/1.1 server on a real socket, scripted by the test and counting what it is asked.
//!
//! It speaks HTTP by hand, because half of what the tests need from it is what no library lets a server do: an answer
//! cut in the middle, a reset, an event stream fed byte by byte. A panic in it, also one because the peer broke HTTP,
//! fails the test when the [`App`] goes.

mod answer;
mod events;

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::{
    answer::Answer,
    events::{Events, Stream},
};
use super::{
    wire::{Framing, Head, Wire},
    within,
};

/// The app. Clones are the same app.
#[derive(Clone, Debug)]
pub(crate) struct App {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

/// One path of the app and what it answers.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    path: String,
    shared: Arc<Shared>,
}

/// A request as the app saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query, as on the wire.
    pub(crate) target: String,
    pub(crate) head: Head,
    /// Which connection it came on, counted from the start of the app.
    pub(crate) connection: usize,
    pub(crate) at: Instant,
    /// The body, when it is small.
    pub(crate) body: Vec<u8>,
    pub(crate) body_bytes: u64,
    pub(crate) trailers: Head,
    /// How its answer went.
    pub(crate) fate: Fate,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Running,
    Answered,
    /// The peer closed before its answer was whole.
    Cancelled,
}

/// Shared by the test, which scripts and reads, and the tasks of the connections, which count and answer.
struct Shared {
    state: Mutex<State>,
    /// Moves with every change of `state`, to wake those who wait for one.
    changes: watch::Sender<u64>,
    /// Held for its drop alone: bound to the app's port and never listening, it keeps the port ours between a stop and
    /// the next start.
    _reservation: TcpSocket,
}

#[derive(Default)]
struct State {
    plans: HashMap<String, Plan>,
    seen: Vec<Seen>,
    in_flight: HashMap<String, Load>,
    all_in_flight: Load,
    connections: usize,
    panics: Vec<String>,
    running: Option<Running>,
}

/// How many at once, now and at most.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    now: usize,
    most: usize,
}

/// What a path does.
#[derive(Clone)]
enum Plan {
    /// These in order, and the last one for ever.
    Script(Vec<Answer>),
    /// Whatever the test computes.
    With(Arc<dyn Fn(&Seen) -> Answer + Send + Sync>),
    /// An event stream fed by the test.
    Events(Arc<events::Feed>),
}

struct Running {
    stop: CancellationToken,
    tasks: TaskTracker,
}

// === impl App ===

impl App {
    /// Starts on a port of its own.
    pub(crate) fn start() -> Self {
        let reservation = TcpSocket::new_v4().expect("a socket");
        reservation.set_reuseport(true).expect("a socket takes SO_REUSEPORT");
        reservation.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let addr = reservation.local_addr().expect("a bound socket has an address");
        let shared = Shared { state: Mutex::default(), changes: watch::Sender::new(0), _reservation: reservation };
        let app = Self { addr, shared: Arc::new(shared) };
        app.resume();
        app
    }

    /// Has a port where nothing listens yet.
    pub(crate) async fn start_stopped() -> Self {
        let app = Self::start();
        app.stop().await;
        app
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Listens again after a [`App::stop`], on the same port.
    pub(crate) fn resume(&self) {
        let socket = TcpSocket::new_v4().expect("a socket");
        // The reservation never listens; the port is refused while only it is there, and nobody else gets it.
        socket.set_reuseport(true).expect("a socket takes SO_REUSEPORT");
        socket.bind(self.addr).expect("the port is reserved for us");
        let listener = socket.listen(4096).expect("a bound socket listens");
        let running = Running { stop: CancellationToken::new(), tasks: TaskTracker::new() };
        running.tasks.spawn(accept(listener, Arc::clone(&self.shared), running.stop.clone(), running.tasks.clone()));
        self.shared.change(|state| state.running = Some(running));
    }

    /// Goes away at once, as a killed process does: the port refuses, every connection closes where it stands.
    pub(crate) async fn stop(&self) {
        let running = self.shared.change(|state| state.running.take()).expect("the app runs");
        running.stop.cancel();
        running.tasks.close();
        within("the app's connections to close", running.tasks.wait()).await;
    }

    /// The path `/api/videos/<id>`, where the tests keep their jobs.
    pub(crate) fn job(&self, id: &str) -> Endpoint {
        self.at(&format!("/api/videos/{id}"))
    }

    /// One path; a trailing `*` stands for anything. An endpoint without an answer is a 404.
    pub(crate) fn at(&self, path: &str) -> Endpoint {
        Endpoint { path: path.to_owned(), shared: Arc::clone(&self.shared) }
    }

    /// An event stream at `path`.
    pub(crate) fn events(&self, path: &str) -> Events {
        let feed = Arc::new(events::Feed::default());
        self.shared.change(|state| state.plans.insert(path.to_owned(), Plan::Events(Arc::clone(&feed))));
        Events::new(self.at(path), feed)
    }

    /// Every request so far, on every path.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.lock().seen.clone()
    }

    /// The most requests that were waiting for their answers at one time.
    pub(crate) fn most_in_flight(&self) -> usize {
        self.shared.lock().all_in_flight.most
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.lock().connections
    }

    /// Connections that it has not closed yet.
    pub(crate) fn open_connections(&self) -> usize {
        // One task accepts.
        self.shared.lock().running.as_ref().map_or(0, |running| running.tasks.len() - 1)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // The tasks of the connections hold `Shared`, not `App`: the last `App` is the test's own.
        if std::thread::panicking() {
            return;
        }
        let panics = self.shared.lock().panics.clone();
        assert!(panics.is_empty(), "the fake app panicked: {panics:?}");
    }
}

// === impl Endpoint ===

impl Endpoint {
    /// Answers every request like this from now on.
    pub(crate) fn answer(&self, answer: Answer) {
        self.answers([answer]);
    }

    /// Answers with these in order, and with the last one for ever.
    pub(crate) fn answers(&self, answers: impl IntoIterator<Item = Answer>) {
        let answers: Vec<_> = answers.into_iter().collect();
        assert!(!answers.is_empty(), "a script has an answer");
        self.plan(Plan::Script(answers));
    }

    /// Answers with what `compute` makes of the request.
    pub(crate) fn answer_with(&self, compute: impl Fn(&Seen) -> Answer + Send + Sync + 'static) {
        self.plan(Plan::With(Arc::new(compute)));
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let state = self.shared.lock();
        state.seen.iter().filter(|seen| self.covers(seen)).cloned().collect()
    }

    /// How many requests came so far.
    pub(crate) fn count(&self) -> usize {
        self.shared.lock().seen.iter().filter(|seen| self.covers(seen)).count()
    }

    /// The most requests for one path that were waiting for their answers at one time.
    pub(crate) fn most_in_flight(&self) -> usize {
        let state = self.shared.lock();
        let loads = state.in_flight.iter().filter(|(path, _)| covers(&self.path, path));
        loads.map(|(_, load)| load.most).max().unwrap_or(0)
    }

    /// Waits until `count` requests came in all.
    pub(crate) async fn requests(&self, count: usize) {
        let what = format!("{count} requests for {}", self.path);
        self.shared.until(&what, || self.count() >= count).await;
    }

    /// Waits for `count` requests more than there are now: the way to let an interval pass without looking at a clock.
    pub(crate) async fn more_requests(&self, count: usize) {
        self.requests(self.count() + count).await;
    }

    /// Waits until `is_true` of the requests.
    pub(crate) async fn until(&self, what: &str, is_true: impl Fn(&[Seen]) -> bool) {
        self.shared.until(what, || is_true(&self.seen())).await;
    }

    fn plan(&self, plan: Plan) {
        self.shared.change(|state| state.plans.insert(self.path.clone(), plan));
    }

    fn covers(&self, seen: &Seen) -> bool {
        covers(&self.path, seen.path())
    }
}

// === impl Seen ===

impl Seen {
    /// The target without its query.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics under this lock")
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let out = change(&mut self.lock());
        self.changes.send_modify(|count| *count += 1);
        out
    }

    async fn until(&self, what: &str, is_true: impl Fn() -> bool) {
        let mut changes = self.changes.subscribe();
        within(what, async {
            while !is_true() {
                changes.changed().await.expect("the sender is in self");
            }
        })
        .await;
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

// === connections ===

/// Accepts until `stop`. Owned by `tasks`, as the connections are.
async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken, tasks: TaskTracker) {
    loop {
        let socket = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted.expect("the fake app can accept").0,
        };
        let connection = shared.change(|state| {
            state.connections += 1;
            state.connections
        });
        let (shared, stop) = (Arc::clone(&shared), stop.clone());
        tasks.spawn(async move {
            let serve = AssertUnwindSafe(serve(socket, connection, Arc::clone(&shared))).catch_unwind();
            let served = tokio::select! {
                () = stop.cancelled() => return,
                served = serve => served,
            };
            if let Err(panic) = served {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                shared.change(|state| state.panics.push(text.unwrap_or_default()));
            }
        });
    }
}

/// Serves one connection until it closes. Errors of the socket end it without a word: the peer may leave at any time.
async fn serve(socket: TcpStream, connection: usize, shared: Arc<Shared>) {
    socket.set_nodelay(true).expect("a socket takes TCP_NODELAY");
    let mut wire = Wire::new(socket);
    while let Ok(Some(head)) = wire.head().await {
        let Some((request, waiting)) = Request::begin(head, connection, &shared) else {
            panic!("not a request line");
        };
        let index = request.index;
        let Ok(()) = request.read_body(&mut wire).await else {
            request.end(Fate::Cancelled);
            return;
        };
        let seen = shared.lock().seen[index].clone();
        let kept = match request.plan(&seen) {
            Planned::Answer(answer) => answer.write(&mut wire, &seen, waiting).await,
            Planned::Events(feed) => {
                // An open stream is no request waiting for its answer.
                drop(waiting);
                feed.serve(wire, &seen, &shared).await;
                return;
            }
        };
        let is_cancelled = matches!(kept, answer::Written::PeerLeft);
        request.end(if is_cancelled { Fate::Cancelled } else { Fate::Answered });
        match kept {
            answer::Written::KeepAlive => {}
            answer::Written::Reset => return wire.reset(),
            answer::Written::Close | answer::Written::PeerLeft => return,
        }
    }
}

/// A request in progress.
struct Request<'a> {
    shared: &'a Shared,
    index: usize,
    path: String,
}

/// A request that waits for its answer; counted as in flight while this lives.
struct Waiting<'a> {
    shared: &'a Shared,
    path: String,
}

enum Planned {
    Answer(Answer),
    Events(Arc<events::Feed>),
}

impl<'a> Request<'a> {
    fn begin(head: Head, connection: usize, shared: &'a Shared) -> Option<(Self, Waiting<'a>)> {
        let mut words = head.first_line.split(' ').map(str::to_owned);
        let (method, target) = (words.next()?, words.next()?);
        let seen = Seen {
            method,
            target,
            head,
            connection,
            at: Instant::now(),
            body: Vec::new(),
            body_bytes: 0,
            trailers: Head::default(),
            fate: Fate::Running,
        };
        let path = seen.path().to_owned();
        let index = shared.change(|state| {
            state.in_flight.entry(path.clone()).or_default().enter();
            state.all_in_flight.enter();
            state.seen.push(seen);
            state.seen.len() - 1
        });
        Some((Self { shared, index, path: path.clone() }, Waiting { shared, path }))
    }

    /// Reads the body: all of it is counted, the first MiB is kept.
    async fn read_body(&self, wire: &mut Wire) -> std::io::Result<()> {
        let head = self.shared.lock().seen[self.index].head.clone();
        if head.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
            wire.send(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        match head.framing() {
            None | Some(Framing::UntilClose) => {}
            Some(Framing::Length(length)) => {
                let mut left = length;
                while left > 0 {
                    let bytes = wire.some(usize::try_from(left).expect("a length fits")).await?;
                    left -= bytes.len() as u64;
                    self.add_body(&bytes);
                }
            }
            Some(Framing::Chunked) => loop {
                match wire.chunk().await? {
                    Ok(bytes) => self.add_body(&bytes),
                    Err(trailers) => {
                        self.shared.change(|state| state.seen[self.index].trailers = trailers);
                        return Ok(());
                    }
                }
            },
        }
        Ok(())
    }

    fn add_body(&self, bytes: &[u8]) {
        let mut state = self.shared.lock();
        let seen = &mut state.seen[self.index];
        seen.body_bytes += bytes.len() as u64;
        if seen.body.len() < 1 << 20 {
            seen.body.extend_from_slice(bytes);
        }
    }

    /// What the path does now; the exact path wins over one with a `*`.
    fn plan(&self, seen: &Seen) -> Planned {
        let mut state = self.shared.lock();
        let key = if state.plans.contains_key(&self.path) {
            Some(self.path.clone())
        } else {
            state.plans.keys().filter(|key| covers(key, &self.path)).max_by_key(|key| key.len()).cloned()
        };
        let Some(plan) = key.and_then(|key| state.plans.get_mut(&key)) else {
            return Planned::Answer(Answer::text(404, "no such page\n"));
        };
        match plan {
            Plan::Script(answers) if answers.len() > 1 => Planned::Answer(answers.remove(0)),
            Plan::Script(answers) => Planned::Answer(answers[0].clone()),
            Plan::Events(feed) => Planned::Events(Arc::clone(feed)),
            Plan::With(compute) => {
                let compute = Arc::clone(compute);
                drop(state);
                Planned::Answer(compute(seen))
            }
        }
    }

    fn end(&self, fate: Fate) {
        self.shared.change(|state| state.seen[self.index].fate = fate);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.in_flight.entry(self.path.clone()).or_default().now -= 1;
            state.all_in_flight.now -= 1;
        });
    }
}

impl Load {
    fn enter(&mut self) {
        self.now += 1;
        self.most = self.most.max(self.now);
    }
}

fn covers(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => pattern == path,
    }
}

/// The gaps between consecutive requests, in order.
pub(crate) fn gaps(seen: &[Seen]) -> Vec<Duration> {
    seen.windows(2).map(|pair| pair[1].at - pair[0].at).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::harness::client::{End, Request};

    #[tokio::test]
    async fn a_script_is_followed_and_its_last_answer_stays() {
        let app = App::start();
        app.job("v1").answers([Answer::json(&json!({"n": 1})), Answer::text(503, "later")]);

        let statuses = [
            Request::new(app.addr(), "GET", "/api/videos/v1").fetch().await.status(),
            Request::new(app.addr(), "GET", "/api/videos/v1").fetch().await.status(),
            Request::new(app.addr(), "GET", "/api/videos/v1").fetch().await.status(),
        ];

        assert_eq!(statuses, [200, 503, 503]);
        assert_eq!(app.job("v1").count(), 3);
    }

    #[tokio::test]
    async fn an_etag_is_answered_with_304() {
        let app = App::start();
        app.job("v1").answer(Answer::json(&json!({"n": 1})).etag("\"a\""));

        let again = Request::new(app.addr(), "GET", "/api/videos/v1").header("If-None-Match", "\"a\"").fetch().await;

        assert_eq!(again.status(), 304);
    }

    #[tokio::test]
    async fn the_port_refuses_while_the_app_is_stopped_and_serves_when_it_is_back() {
        let app = App::start();
        app.at("/").answer(Answer::text(200, "hello"));
        app.stop().await;
        let refused = TcpStream::connect(app.addr()).await.expect_err("nothing listens");
        app.resume();

        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        assert_eq!(Request::new(app.addr(), "GET", "/").fetch().await.text(), "hello");
    }

    #[tokio::test]
    async fn a_stream_carries_the_tests_bytes_and_ends_as_the_test_says() {
        let app = App::start();
        let events = app.events("/sse");
        let mut client = Request::new(app.addr(), "GET", "/sse").open().await;
        let stream = events.accept().await;
        stream.send("id: 7\ndata: a\r").await;
        stream.send("\ndata: b\n\n").await;

        let event = client.next_event().await;
        stream.close().await;

        assert_eq!((event.id(), event.data.as_deref()), ("7", Some("a\nb")));
        assert_eq!(client.expect_end().await, End::Clean);
        assert_eq!((events.open(), events.opened()), (0, 1));
    }

    #[tokio::test]
    async fn a_cut_answer_is_seen_as_cut() {
        let app = App::start();
        app.at("/").answer(Answer::text(200, "half of this").cut());

        let mut client = Request::new(app.addr(), "GET", "/").open().await;

        assert_eq!(client.read_to_end().await, End::Cut);
    }

    #[tokio::test]
    async fn a_client_that_leaves_a_hanging_request_is_noticed() {
        let app = App::start();
        app.at("/").answer(Answer::hang());
        let client = Request::new(app.addr(), "GET", "/").send().await;
        app.at("/").requests(1).await;
        drop(client);

        app.at("/").until("the request to be cancelled", |seen| seen[0].fate == Fate::Cancelled).await;
    }
}
