//! One history: the program's parts around an app in memory, and the clients, who check what they get.

use http_body_util::BodyExt;
use prometheus::Registry;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    app::App,
    user::{DECOYS, Marks, Who},
    *,
};
use crate::{
    config::Config,
    connections::Limits,
    event::HeartbeatForm,
    metrics::{Phase, RouteId},
    source::{Asker, Sources, schedule::Schedule},
    tcp::Lent,
    upstream::memory,
    wire::WireState,
};

/// Each kind of source in each mode of sharing; the app knows the mode by the path.
const ROUTES: &[&str] = &[
    "path=/own/{id},poll=/own/jobs/{id},share=credentials",
    "path=/members/{id},poll=/members/jobs/{id},share=authorized",
    "path=/public/{id},poll=/public/jobs/{id},share=public",
    "path=/own/live/events,subscribe",
    "path=/members/live/events,subscribe,share=authorized,greeting=1",
    "path=/public/live/events,subscribe,share=public,replay=latest",
];
const QUICK: &str = "interval=100ms,max-interval=300ms,timeout=3s,max-age=20s,heartbeat=2s";

/// The `max-age` with all the jitter that it may have on a shared route.
const AGE_MIN: Duration = Duration::from_secs(16);

/// What clients ask for, with the target that the app is asked for then.
const ASKED: &[(&str, &str)] = &[
    ("/own/v1", "/own/jobs/v1"),
    ("/own/v2", "/own/jobs/v2"),
    ("/own/v1?user=bob", "/own/jobs/v1"),
    ("/members/v1", "/members/jobs/v1"),
    ("/members/v1?sid=bob", "/members/jobs/v1"),
    ("/public/v1", "/public/jobs/v1"),
    ("/own/live/events", "/own/live/events"),
    ("/own/live/events?room=1", "/own/live/events?room=1"),
    ("/members/live/events", "/members/live/events"),
    ("/members/live/events?", "/members/live/events?"),
    ("/public/live/events", "/public/live/events"),
];

/// Routes, and their metrics.
type Kit = (Arc<[Route]>, Arc<Metrics>);

thread_local! {
    /// Made once for all histories of a thread: every gauge of one is back at zero before the next.
    static KITS: Vec<Kit> = ["linger=1s", "linger=5s", "linger=60s"].iter().map(|linger| kit(linger)).collect();
}

fn kit(linger: &str) -> Kit {
    let specs = ROUTES.iter().flat_map(|route| {
        let quick = if route.contains("poll=") { QUICK } else { "timeout=3s,max-age=20s,heartbeat=2s" };
        ["--route".to_owned(), format!("{route},{quick},{linger}")]
    });
    let routes = Config::from_args(specs).unwrap_or_else(|error| panic!("{error}")).routes;
    let names: Vec<_> = routes.iter().map(|route| route.path.as_str().to_owned()).collect();
    (routes.into(), Arc::new(Metrics::register(&Registry::new(), &names).unwrap()))
}

pub(super) struct World {
    pub(super) app: App,
    asked: Vec<(&'static str, &'static str)>,
    streams: Arc<Streams>,
    clients: JoinSet<()>,
    handles: Vec<AbortHandle>,
    walks: Vec<AbortHandle>,
    /// Ids that anybody has seen: the next who comes may claim any of them.
    ids: Arc<Mutex<Vec<String>>>,
    tally: Arc<Mutex<Tally>>,
}

/// One client, and what it may see.
struct Client {
    app: App,
    who: Who,
    path: &'static str,
    marks: Marks,
    began: u64,
    is_entering: bool,
    ids: Arc<Mutex<Vec<String>>>,
    tally: Arc<Mutex<Tally>>,
}

// === impl World ===

impl World {
    pub(super) fn new(rng: &mut StdRng, tally: &Arc<Mutex<Tally>>) -> Self {
        let app = App::new(rng.random());
        let (routes, metrics) = KITS.with(|kits| kits.choose(rng).expect("there are some").clone());
        // Sometimes fewer topics than there are wishes, so that lingering ones are taken for others.
        let topics_max = *[6, 10_000].choose(rng).expect("there are some");
        // Few things to watch, so that users meet.
        let asked = ASKED.choose_multiple(rng, 3).copied().collect();
        let upstream = memory::upstream(&app.door);
        let schedule = Schedule::new(8, Arc::clone(&metrics));
        let grace = Duration::from_millis(500);
        let parts = (Arc::clone(&routes), Arc::clone(&schedule), Arc::clone(&metrics));
        let sources = Sources::new(parts.0, upstream.clone(), parts.1, grace, parts.2);
        let hub = Hub::new(topics_max, Box::new(sources), Arc::clone(&metrics));
        let hour = Duration::from_secs(3600);
        let limits = Limits { connections: 1000, per_ip: 0, stale_after: hour, reap_after: hour };
        let asker = Asker::new(upstream, Arc::clone(&metrics));
        let admissions = Admissions::new(Arc::clone(&routes), asker, Arc::clone(&schedule), grace);
        let walks = {
            let hub = Arc::clone(&hub);
            [
                tokio::spawn(async move { hub.run().await }).abort_handle(),
                tokio::spawn(async move { schedule.run().await }).abort_handle(),
            ]
        };
        let streams = Arc::new(Streams {
            pacings: Pacing::of_all(&routes, HeartbeatForm::Comment),
            routes,
            hub,
            connections: Connections::new(limits, Arc::clone(&metrics)),
            scopes: Scopes::new(vec![header::COOKIE, header::AUTHORIZATION]),
            admissions,
            metrics,
        });
        Self {
            app,
            asked,
            streams,
            clients: JoinSet::new(),
            handles: Vec::new(),
            walks: walks.into(),
            ids: Arc::default(),
            tally: Arc::clone(tally),
        }
    }

    /// Somebody asks for a stream.
    pub(super) fn connect(&mut self, rng: &mut StdRng) {
        let who = Who::any(rng);
        let (path, target) = *self.asked.choose(rng).expect("there are some");
        let request = self.request(rng, who, path);
        let client = Client {
            app: self.app.clone(),
            who,
            path,
            marks: who.marks(target),
            began: self.app.now(),
            is_entering: true,
            ids: Arc::clone(&self.ids),
            tally: Arc::clone(&self.tally),
        };
        self.app.enters(&client.marks.own);
        let patience = Duration::from_millis(if rng.random_bool(0.2) { rng.random_range(1..3000) } else { 0 });
        self.handles.retain(|handle| !handle.is_finished());
        self.handles.push(self.clients.spawn(client.run(Arc::clone(&self.streams), request, patience)));
    }

    fn request(&self, rng: &mut StdRng, who: Who, path: &str) -> Request<()> {
        let claimed = match rng.random_range(0..10) {
            0..4 => None,
            4..6 => Some(["1", "7", "0", "..", "own-", "\u{e9}"][rng.random_range(0..6)].to_owned()),
            _ => self.ids.lock().unwrap().choose(rng).cloned(),
        };
        let mut uri = path.to_owned();
        let mut request = Request::builder();
        match claimed {
            Some(id) if rng.random_bool(0.3) => {
                let id: String = id.bytes().map(|byte| format!("%{byte:02x}")).collect();
                uri.push_str(&format!("{}lastEventId={id}", if uri.contains('?') { '&' } else { '?' }));
            }
            Some(id) => request = request.header("last-event-id", id),
            None => {}
        }
        request = request.uri(&uri).header("accept", "text/event-stream");
        for (name, value) in who.0 {
            request = request.header(*name, *value);
        }
        if rng.random_bool(0.3) {
            let (name, value) = *DECOYS.choose(rng).expect("there are some");
            request = request.header(name, value);
        }
        request.body(()).expect("a request")
    }

    /// Somebody leaves, wherever it stands.
    pub(super) fn leave(&mut self, rng: &mut StdRng) {
        if !self.handles.is_empty() {
            let who = rng.random_range(0..self.handles.len());
            self.handles.swap_remove(who).abort();
        }
    }

    /// Everybody goes; nothing may be left.
    pub(super) async fn finish(mut self) {
        self.clients.abort_all();
        while let Some(ended) = self.clients.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        assert_eq!(self.app.violations(), Vec::<String>::new());
        sleep(Duration::from_secs(100)).await;
        assert_eq!((self.streams.hub.list().len(), self.streams.connections.len()), (0, 0), "something was left");
        for (id, route) in self.streams.routes.iter().enumerate() {
            let metrics = self.streams.metrics.route(RouteId(id));
            let topics: i64 = Phase::ALL.iter().map(|phase| metrics.topics(*phase).get()).sum();
            assert_eq!((metrics.active(), topics), (0, 0), "gauges of {}", route.path.as_str());
        }
        for walk in self.walks {
            walk.abort();
        }
        self.app.stop();
    }
}

// === impl Client ===

impl Client {
    async fn run(mut self, streams: Arc<Streams>, request: Request<()>, patience: Duration) {
        let wanted = router::stream_request(&streams.routes, request.method(), request.uri(), request.headers());
        let wanted = wanted.expect("the path of a route");
        let conn =
            Arc::new(ConnState { wire: Arc::new(WireState::new(Lent::nothing())), abort: CancellationToken::new() });
        let client = super::Client { ip: [127, 0, 0, 1].into(), conn: Arc::clone(&conn) };
        let response = match streams.open(wanted, request, client).await {
            Opened::Answer(response) => response,
            Opened::Live(mut live) => {
                live.permit.open();
                streams.body(live, conn)
            }
        };
        let opened = tokio::time::Instant::now();
        let (head, mut body) = response.into_parts();
        let is_refusal = head.status != StatusCode::OK;
        self.check(&format!("{:?}", head.headers));
        for origin in head.headers.get_all("access-control-allow-origin") {
            if !self.who.all("origin").iter().any(|own| origin == own) {
                self.app.violation(format!("{:?} got the grant of {origin:?}", self.who));
            }
        }
        {
            let mut tally = self.tally.lock().unwrap();
            match head.status {
                StatusCode::OK => tally.streams += 1,
                StatusCode::NO_CONTENT => tally.finished += 1,
                _ => tally.refusals += 1,
            }
        }
        sleep(patience).await;
        let (mut got, mut has_ended) = (0, false);
        while let Some(frame) = body.frame().await {
            let bytes = frame.expect("streams end in good order").into_data().expect("data");
            let text = std::str::from_utf8(&bytes).expect("a stream is text");
            self.check(text);
            got += u64::from(text.contains("mark"));
            has_ended |= text.contains("event: done") || text.contains("event: gone");
            if let Some(id) = text.lines().find_map(|line| line.strip_prefix("id: ")) {
                self.ids.lock().unwrap().push(id.to_owned());
            }
        }
        // Of a job that all may watch, one lender's refusal ends nobody else's stream before its age.
        let is_early = got > 0 && !has_ended && opened.elapsed() < AGE_MIN && self.path.starts_with("/members/v");
        if is_early && self.app.turned_away(&self.marks.own) <= Some(self.began) {
            self.app.violation(format!("the stream of {:?} on {} ended by another's refusal", self.who, self.path));
        }
        let mut tally = self.tally.lock().unwrap();
        tally.events += got;
        tally.denied_in_the_middle += u64::from(!is_refusal && self.app.expelled(&self.marks.own) > Some(self.began));
    }

    /// Whatever a client gets, head or body, must be its own, or everybody's whom the app has let in.
    fn check(&mut self, text: &str) {
        let Self { app, who, path, marks, began, .. } = &*self;
        let began = *began;
        let told = |what: &str| app.violation(format!("{what}: {who:?} on {path} got {text:?}"));
        for mark in Marks::find(text) {
            match mark {
                _ if mark == marks.own => {}
                _ if mark == marks.all && path.starts_with("/public/") => {}
                _ if mark == marks.all && path.starts_with("/members/") => {
                    if app.welcomed(&marks.own) <= Some(began) {
                        told("data for one whom the app has not let in");
                    }
                    let at = text.rsplit_once("\"at\":").and_then(|(_, rest)| rest.split_once('}'));
                    let at: u64 = at.and_then(|(at, _)| at.parse().ok()).expect("data says when it was made");
                    if app.expelled(&marks.own).is_some_and(|expelled| began < expelled && expelled < at) {
                        told("data made after the app had turned it away");
                    }
                }
                _ => told("something of somebody else"),
            }
        }
        if self.is_entering && text.contains("mark") {
            self.is_entering = false;
            self.app.entered(&self.marks.own, false);
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if self.is_entering {
            self.app.entered(&self.marks.own, true);
        }
    }
}
