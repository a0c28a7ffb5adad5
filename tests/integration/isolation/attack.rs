//! One connection after the other, each with requests of several users, as a proxy sends them or nobody ever should.

use std::sync::{Arc, Mutex};

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use tokio::time::{Duration, Instant, timeout};

use super::{
    marks::{ALL, Marks, Who},
    moods::Moods,
};
use crate::harness::{
    client::{Client, Request},
    sidestream::Sidestream,
    wire::{Framing, Wire},
    within,
};

/// What is asked for, and the target that the app is asked for then.
const ASKED: &[(&str, &str)] = &[
    ("/own/v1", "/own/jobs/v1"),
    ("/own/v1?sid=bob", "/own/jobs/v1"),
    ("http://b/own/v1", "/own/jobs/v1"),
    ("/members/v1", "/members/jobs/v1"),
    ("/members/v1?user=ada", "/members/jobs/v1"),
    ("/public/v1", "/public/jobs/v1"),
    ("/own/live/events", "/own/live/events"),
    ("/own/live/events?room=1", "/own/live/events?room=1"),
    ("/members/live/events", "/members/live/events"),
    ("/public/live/events", "/public/live/events"),
];

/// Headers that look like credentials, and are none on a stream.
const DECOYS: &[(&str, &str)] = &[
    ("X-Cookie", "sid=bob"),
    ("Cookie2", "sid=bob"),
    ("X-Forwarded-User", "bob"),
    ("Connection", "cookie"),
    ("Connection", "keep-alive, Authorization"),
    ("Forwarded", "host=b"),
    ("X-Original-URL", "/own/v2"),
    ("Keep-Alive", "timeout=60"),
];

pub(super) struct Attack {
    side: Arc<Sidestream>,
    moods: Moods,
    /// Ids that anybody has seen.
    ids: Mutex<Vec<String>>,
}

/// One request, and what its answer may hold.
struct Asking {
    request: Request,
    what: String,
    may_read: MayRead,
    is_page: bool,
}

#[derive(Clone)]
struct MayRead {
    own: String,
    all: Option<String>,
    /// On a shared route: only if the app has let it in since about then.
    welcomed_since: Option<Instant>,
}

// === impl Attack ===

impl Attack {
    pub(super) fn new(side: Arc<Sidestream>, moods: Moods) -> Self {
        Self { side, moods, ids: Mutex::default() }
    }

    /// One connection, from its first request to its end.
    pub(super) async fn connection(&self, rng: &mut StdRng) {
        let first = self.asking(rng);
        let mut wire = first.request.connect().await;
        match rng.random_range(0..4) {
            // Everything at once: the second is somebody else's, and stands behind a stream or a page.
            0 => {
                let second = self.asking(rng);
                let mut bytes = first.request.bytes();
                bytes.extend(second.request.bytes());
                if wire.send(&bytes).await.is_err() {
                    return;
                }
                if let Some(wire) = self.answer(rng, wire, &first).await {
                    self.answer(rng, wire, &second).await;
                }
            }
            // One after the other on a connection that is kept, as proxies do.
            _ => {
                let mut asking = first;
                for _ in 0..rng.random_range(1..6) {
                    if wire.send(&asking.request.bytes()).await.is_err() {
                        return;
                    }
                    let Some(kept) = self.answer(rng, wire, &asking).await else { return };
                    wire = kept;
                    asking = self.asking(rng);
                }
            }
        }
    }

    fn asking(&self, rng: &mut StdRng) -> Asking {
        let from = if rng.random_bool(0.6) { &ALL[..5] } else { ALL };
        let who = *from.choose(rng).expect("there are some");
        if rng.random_bool(0.3) {
            return self.page(rng, who);
        }
        let (path, target) = *ASKED.choose(rng).expect("there are some");
        let marks = who.marks(target);
        let may_read = MayRead {
            own: marks.own,
            all: (!path.contains("/own/")).then_some(marks.all),
            welcomed_since: path.contains("/members/").then(Instant::now),
        };
        let mut path = path.to_owned();
        let id = match rng.random_range(0..6) {
            0 | 1 => None,
            2 => Some(rng.random_range(0..9).to_string()),
            _ => self.ids.lock().expect("nobody panics under this lock").choose(rng).cloned(),
        };
        let in_query = rng.random_bool(0.3);
        if let (Some(id), true) = (&id, in_query) {
            path.push_str(&format!("{}lastEventId={id}", if path.contains('?') { '&' } else { '?' }));
        }
        let mut request = self.dressed(rng, who, "GET", &path).header("Accept", "text/event-stream");
        if let (Some(id), false) = (&id, in_query) {
            request = request.last_event_id(id);
        }
        Asking { request, what: format!("{who:?} on {path}"), may_read, is_page: false }
    }

    /// Something to forward; only it knows its nonce.
    fn page(&self, rng: &mut StdRng, who: Who) -> Asking {
        let nonce = format!("one-{:012x}", rng.random::<u64>() >> 16);
        let request = self.dressed(rng, who, "GET", "/page/1").header("X-Nonce", &nonce);
        let may_read = MayRead { own: nonce, all: None, welcomed_since: None };
        Asking { request, what: format!("{who:?} on a page"), may_read, is_page: true }
    }

    /// A request in its user's headers, oddly written.
    fn dressed(&self, rng: &mut StdRng, who: Who, method: &str, target: &str) -> Request {
        let mut request = self.side.request(method, target).without_host();
        for (name, value) in who.0 {
            let name: String = match rng.random_range(0..3) {
                0 => (*name).to_owned(),
                1 => name.to_ascii_uppercase(),
                _ => name.chars().map(|c| if rng.random() { c.to_ascii_uppercase() } else { c }).collect(),
            };
            let spaces = " ".repeat(rng.random_range(0..3));
            request = request.header(&name, &format!("{spaces}{value}{spaces}"));
        }
        if rng.random_bool(0.25) {
            let (name, value) = *DECOYS.choose(rng).expect("there are some");
            request = request.header(name, value);
        }
        match rng.random_range(0..6) {
            0 => request.http_1_0(),
            1 => request.http_1_0().header("Connection", "keep-alive"),
            _ => request,
        }
    }

    /// Reads one answer; the connection, if it can be used again.
    async fn answer(&self, rng: &mut StdRng, mut wire: Wire, asking: &Asking) -> Option<Wire> {
        // The other side may have closed already, as it has after a stream that was behind this one.
        if !wire.has_more() && within("an answer or the end", wire.fill()).await.unwrap_or(0) == 0 {
            return None;
        }
        let mut client = Client::read(wire, "GET").await;
        self.check(asking, &format!("{:?}", client.head));
        let is_stream = client.header("content-type") == Some("text/event-stream");
        match (is_stream, client.status()) {
            (true, 200) => {
                assert!(!asking.is_page, "a stream in place of {}", asking.what);
                self.moods.count("streams", 1);
                self.listen(rng, client, asking).await;
                return None;
            }
            (false, 200 | 502) if asking.is_page => self.moods.count("pages", 1),
            (false, 204) if !asking.is_page => {}
            (false, 302 | 401 | 403 | 404) if !asking.is_page => self.moods.count("refusals", 1),
            // A target and a `Host` that disagree are refused.
            (false, 400) if asking.what.contains("http://b/") => {}
            (_, status) => panic!("{status} for {}: {:?}", asking.what, client.head),
        }
        client.read_to_end().await;
        self.check(asking, &client.text());
        let is_kept = client.framing() != Framing::UntilClose && client.header("connection") != Some("close");
        is_kept.then(|| client.into_wire())
    }

    /// Some events of a stream, and one of the ways in which clients leave.
    async fn listen(&self, rng: &mut StdRng, mut client: Client, asking: &Asking) {
        let until = Instant::now() + Duration::from_millis(rng.random_range(0..400));
        let mut events = 0;
        while client.is_open()
            && let Ok(()) = timeout(until - Instant::now(), client.more()).await
        {
            events += client.text().matches("mark").count() as u64;
            if Instant::now() >= until {
                break;
            }
        }
        let text = client.text();
        self.check(asking, &text);
        let ids = text.lines().filter_map(|line| line.strip_prefix("id: ")).map(str::to_owned);
        self.ids.lock().expect("nobody panics under this lock").extend(ids.take(3));
        self.moods.count("events", events);
        if rng.random() {
            client.reset();
        }
    }

    fn check(&self, asking: &Asking, text: &str) {
        let MayRead { own, all, welcomed_since } = &asking.may_read;
        let told = |what: &str| self.moods.violation(format!("{what}: {} got {text:?}", asking.what));
        for mark in Marks::find(text) {
            if Some(mark) == all.as_deref() {
                // An admission counts for all who ask with the same credentials while it is on its way, which under load
                // takes its time.
                let slack = Duration::from_secs(4);
                let is_in = |since: Instant| self.moods.welcomed(own).is_some_and(|at| at + slack >= since);
                if !welcomed_since.is_none_or(is_in) {
                    told("data for one whom the app has not let in");
                }
            } else if mark != own {
                told("something of somebody else");
            }
        }
    }
}
