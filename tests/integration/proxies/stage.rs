//! A fake app, sidestream before it, one proxy or two before that; and what is tried on it.

use std::{net::SocketAddr, time::Duration};

use tokio::{net::TcpListener, time::Instant};

use super::{
    own::OwnStream,
    proxy::{Kind, Proxy, READ_TIMEOUT_SECONDS},
    reload::{self, AtReload},
    tab::Tab,
};
use crate::harness::{
    COMPLETED,
    app::{App, Stream},
    completed,
    metrics::Samples,
    running, running_text,
    sidestream::Sidestream,
};

/// A tenth of the proxies' read timeout. Of the defaults it is a quarter, 15 s to nginx's 60 s; what is left here is for a
/// machine under load.
const HEARTBEAT: Duration = Duration::from_millis(300);

/// So many heartbeats last longer than three of the proxies' read timeouts.
const HEARTBEATS: usize = 33;

/// Events that are sent one by one.
const EVENTS: u32 = 20;

/// How long the app's own event may be on its way: half a read timeout.
const PATIENCE: Duration = Duration::from_millis(READ_TIMEOUT_SECONDS as u64 * 500);

/// Far more than an event needs from end to end on this side of an ocean, and far less than the 200 ms for which Linux
/// holds a packet that a program said there is more for.
const LATE: Duration = Duration::from_millis(50);

/// The routes. The quiet ones differ from the others in their heartbeat only: it comes far later than any timeout here.
const ROUTES: [&str; 5] = [
    "path=/notifications,subscribe",
    "path=/api/progress/{id},poll=/api/videos/{id},interval=40ms,max-interval=40ms",
    "path=/updates,subscribe",
    "path=/quiet/notifications,subscribe,heartbeat=1h",
    "path=/quiet/progress/{id},poll=/api/videos/{id},interval=40ms,max-interval=40ms,heartbeat=1h",
];

/// The paths of the quiet routes, as their labels say it.
const QUIET: [&str; 2] = ["/quiet/notifications", "/quiet/progress/{id}"];

/// All that runs for one line of the matrix.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) app: App,
    pub(super) side: Sidestream,
    pub(super) front: Front,
}

/// One proxy, or two in a row: the inner one first.
#[derive(Debug)]
pub(super) struct Front {
    proxies: Vec<Proxy>,
}

/// How events get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    OneByOne,
    /// One by one, but each only after [`LATE`] and more.
    Late,
    /// Not until much more comes, or the end.
    HeldBack,
}

/// What was seen beside what every proxy must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Findings {
    /// The app's own stream through the same proxies.
    pub(super) alone: Delivery,
    /// The `Content-Encoding` that sidestream's stream came with.
    pub(super) encoding: Option<String>,
    pub(super) at_reload: AtReload,
}

/// One open stream of each kind, with its source.
struct Pair<'a> {
    stage: &'a Stage,
    subscribed: Tab,
    polled: Tab,
    stream: Stream,
}

// === impl Front ===

impl Front {
    /// Starts the proxies, the first one of `kinds` before `upstream`.
    pub(super) async fn start(kinds: &[Kind], upstream: SocketAddr) -> Self {
        let mut proxies: Vec<Proxy> = Vec::new();
        for kind in kinds {
            let behind = proxies.last().map_or(upstream, Proxy::addr);
            proxies.push(Proxy::start(*kind, behind).await);
        }
        Self { proxies }
    }

    /// Where clients connect.
    pub(super) fn addr(&self) -> SocketAddr {
        self.proxies.last().expect("a front has a proxy").addr()
    }

    /// Reloads one after the other.
    pub(super) async fn reload(&self) {
        for proxy in &self.proxies {
            proxy.reload().await;
        }
    }

    /// Which ones they are.
    pub(super) fn kinds(&self) -> Vec<Kind> {
        self.proxies.iter().map(Proxy::kind).collect()
    }
}

// === impl Stage ===

impl Stage {
    /// All of it, on these proxies.
    pub(super) async fn play(kinds: &[Kind]) -> Findings {
        let stage = Self::start(kinds).await;
        let mut pair = stage.one_by_one().await;
        let alone = stage.app_alone(&mut pair).await;
        tokio::join!(stage.outlives(&mut pair), stage.are_cut_without_heartbeats(), stage.ends());
        let encoding = pair.subscribed.seen().encoding;
        let at_reload = reload::reload(&stage).await;
        Findings { alone, encoding, at_reload }
    }

    /// Only how events of sidestream get through these proxies. Held back means: while [`EVENTS`] and more events came
    /// from sidestream directly, and as many were sent to the proxies, not one came through them.
    pub(super) async fn deliver(kinds: &[Kind]) -> Delivery {
        let stage = Self::start(kinds).await;
        let events = stage.app.events("/notifications");
        let witness = Tab::open(stage.side.addr(), "/notifications");
        let to_witness = events.accept().await;
        witness.until_begun().await;
        // The two share nothing: they asked different hosts, which may be different tenants of the app.
        let tab = Tab::open(stage.front.addr(), "/notifications");
        let to_tab = events.accept().await;
        let send = async |n: u32| {
            for stream in [&to_witness, &to_tab] {
                stream.send(format!("id: {n}\ndata: event {n}\n\n")).await;
            }
            witness.until_events(n as usize).await;
        };
        // Few enough that no buffer is filled by them.
        for n in 1..=EVENTS {
            send(n).await;
        }
        let from = witness.seen().heartbeats;
        witness.until("some time to pass", |seen| seen.heartbeats >= from + 3).await;
        if tab.seen().begun == 0 {
            // What did not come through has been sent: the witness had all of its events, the proxies have the others.
            let labels = [("route", "/notifications"), ("kind", "event")];
            let of_both = |samples: &Samples| samples.get("frames_sent_total", &labels) > f64::from(EVENTS);
            stage.side.until("the events that are held back", of_both).await;
            return Delivery::HeldBack;
        }
        let began = Instant::now();
        for n in EVENTS + 1..=2 * EVENTS {
            send(n).await;
            let event = format!("event {n}");
            tab.until(&event, |seen| seen.events.last().is_some_and(|last| last.data == event)).await;
        }
        if began.elapsed() > LATE * EVENTS { Delivery::Late } else { Delivery::OneByOne }
    }

    /// Starts everything.
    async fn start(kinds: &[Kind]) -> Self {
        let app = App::start();
        let mut builder =
            Sidestream::before(&app).flag("--heartbeat-interval", &format!("{}ms", HEARTBEAT.as_millis()));
        for route in ROUTES {
            builder = builder.route(route);
        }
        let side = builder.start().await;
        let front = Front::start(kinds, side.addr()).await;
        Self { app, side, front }
    }

    /// Opens a subscribe route and a poll route through the proxies and sends [`EVENTS`] events on each, the next one
    /// only when the one before has been received. Fails when an event doesn't come.
    async fn one_by_one(&self) -> Pair<'_> {
        let events = self.app.events("/notifications");
        self.app.job("v1").answer(running(1));
        let subscribed = Tab::open(self.front.addr(), "/notifications");
        let polled = Tab::open(self.front.addr(), "/api/progress/v1");
        let stream = events.accept().await;
        subscribed.until_begun().await;
        let mut pair = Pair { stage: self, subscribed, polled, stream };
        for _ in 0..EVENTS {
            pair.send().await;
        }
        pair
    }

    /// The streams of `pair` stay quiet for more than three read timeouts of the proxies, and then still deliver.
    async fn outlives(&self, pair: &mut Pair<'_>) {
        let from = [&pair.subscribed, &pair.polled].map(|tab| tab.seen().heartbeats);
        let began = Instant::now();
        for (tab, from) in [&pair.subscribed, &pair.polled].into_iter().zip(from) {
            tab.until("heartbeats through the proxy", |seen| {
                assert_eq!(seen.ended, 0, "the proxy cut a stream with heartbeats");
                seen.heartbeats >= from + HEARTBEATS
            })
            .await;
        }
        let timeouts = began.elapsed().as_secs_f32() / READ_TIMEOUT_SECONDS as f32;
        assert!(timeouts > 3.0, "only {timeouts} timeouts passed");
        pair.send().await;
        for tab in [&pair.subscribed, &pair.polled] {
            assert_eq!((tab.seen().begun, tab.seen().ended), (1, 0), "the stream is not the first one");
        }
    }

    /// The control of [`Self::outlives`]: the same streams without heartbeats are ended, and by the proxy.
    async fn are_cut_without_heartbeats(&self) {
        let events = self.app.events("/quiet/notifications");
        self.app.job("quiet").answer(running(1));
        let subscribed = Tab::open(self.front.addr(), "/quiet/notifications");
        let polled = Tab::open(self.front.addr(), "/quiet/progress/quiet");
        let stream = events.accept().await;
        subscribed.until_begun().await;
        stream.send("id: 1\ndata: event 1\n\n").await;
        for tab in [&subscribed, &polled] {
            tab.until("the proxy to cut a quiet stream", |seen| seen.ended == 1).await;
            let seen = tab.seen();
            // One comment may come at once, as the first bytes of a stream that has nothing to say yet.
            assert!(seen.events.len() == 1 && seen.heartbeats <= 1, "{seen:?}");
        }
        for path in QUIET {
            // "client": it was our peer that left, and our peer is the proxy.
            let labels = [("route", path), ("reason", "client")];
            self.side.until_metric("connections_closed_total", &labels, 1.0).await;
        }
    }

    /// A job that is over ends its stream in order, and the return of the client is answered with 204, which stops an
    /// `EventSource`.
    async fn ends(&self) {
        self.app.job("v3").answer(running(1));
        let tab = Tab::follow(self.front.addr(), "/api/progress/v3");
        tab.until_events(1).await;
        self.app.job("v3").answer(completed());
        tab.until("the answer to the return", |seen| !seen.refusals.is_empty()).await;
        assert!(tab.seen().refusals[0].starts_with("HTTP/1.1 204"), "{:?}", tab.seen());
        assert_eq!(tab.data(), [&running_text(1), COMPLETED, COMPLETED]);
    }

    /// How a stream of the app itself, with none of our headers, gets through the same proxies. Held back means: while
    /// [`EVENTS`] and more events came from sidestream through `pair`'s proxies, not one came of the app's own.
    async fn app_alone(&self, pair: &mut Pair<'_>) -> Delivery {
        let app = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let front = Front::start(&self.front.kinds(), app.local_addr().expect("a bound socket has an address")).await;
        let tab = Tab::open(front.addr(), "/own");
        let mut stream = OwnStream::accept(&app).await;
        stream.send("id: 1\ndata: own\n\n").await;
        let began = Instant::now();
        let mut others = 0;
        // A machine under load may be late with the one event, so it gets more time than the others need; but less than
        // the read timeout, which would end the stream.
        while tab.data().is_empty() && (others < EVENTS || began.elapsed() < PATIENCE) {
            pair.send_event().await;
            others += 1;
        }
        let delivery = if tab.data().is_empty() { Delivery::HeldBack } else { Delivery::OneByOne };
        // Held back, not lost: the end of the stream brings it.
        stream.close().await;
        tab.until_events(1).await;
        delivery
    }
}

// === impl Pair ===

impl Pair<'_> {
    /// One event on each, received.
    async fn send(&mut self) {
        self.send_event().await;
        let progress = u32::try_from(self.polled.seen().events.len()).expect("a few events") + 1;
        self.stage.app.job("v1").answer(running(progress));
        self.polled.until_events(progress as usize).await;
        assert_eq!(self.polled.data().last(), Some(&running_text(progress)));
    }

    /// One event on the subscribe route, received.
    async fn send_event(&mut self) {
        let n = self.subscribed.seen().events.len() + 1;
        self.stream.send(format!("id: {n}\ndata: event {n}\n\n")).await;
        self.subscribed.until_events(n).await;
        assert_eq!(self.subscribed.data().last(), Some(&format!("event {n}")));
    }
}
