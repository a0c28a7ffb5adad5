//! The app: marks whatever it answers, and changes its mind about people.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use super::marks::{EVE, Marks, Who};
use crate::harness::app::{Answer, App, Seen};

/// What the app thinks of people. Clones are the same.
#[derive(Clone)]
pub(super) struct Moods(Arc<Mutex<State>>);

struct State {
    rng: StdRng,
    /// Whom it refuses, and how, by what they are known as.
    refused: HashMap<String, u16>,
    /// When it last let in whom, by their mark for the target.
    welcomed: HashMap<String, Instant>,
    violations: Vec<String>,
    tally: BTreeMap<&'static str, u64>,
    events: u64,
}

// === impl Moods ===

impl Moods {
    /// Puts itself behind the paths of `app`.
    pub(super) fn new(app: &App, seed: u64) -> Self {
        let kinds = ["events", "refusals", "pages", "streams"];
        let moods = Self(Arc::new(Mutex::new(State {
            rng: StdRng::seed_from_u64(seed),
            refused: HashMap::new(),
            welcomed: HashMap::new(),
            violations: Vec::new(),
            tally: kinds.iter().map(|kind| (*kind, 0)).collect(),
            events: 0,
        })));
        for path in ["/own/*", "/members/*", "/public/*"] {
            let moods = moods.clone();
            app.at(path).answer_with(move |seen| moods.lock().answer(seen));
        }
        app.at("/page/*").answer_with(|seen| {
            let nonce = seen.header("x-nonce").unwrap_or_default();
            Answer::text(200, nonce).header("X-Mark", nonce).header("Set-Cookie", &format!("sid={nonce}"))
        });
        moods
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics under this lock")
    }

    /// Somebody's session expires, or is good again.
    pub(super) fn change(&self, who: &Who) {
        let mut state = self.lock();
        let known_as = who.marks("").own;
        if state.refused.remove(&known_as).is_none() {
            // 200 is a page to log in.
            let status = [401, 403, 302, 404, 200][state.rng.random_range(0..5)];
            state.refused.insert(known_as, status);
        }
    }

    pub(super) fn welcomed(&self, mark: &str) -> Option<Instant> {
        self.lock().welcomed.get(mark).copied()
    }

    /// Whether the app was asked about somebody on a shared route, and never let it in.
    pub(super) fn refused_for_ever(&self, who: &Who) -> bool {
        let state = self.lock();
        ["/members/jobs/v1", "/members/live/events"]
            .iter()
            .all(|path| !state.welcomed.contains_key(&who.marks(path).own))
    }

    pub(super) fn violation(&self, what: String) {
        self.lock().violations.push(what);
    }

    pub(super) fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    pub(super) fn count(&self, kind: &'static str, more: u64) {
        *self.lock().tally.get_mut(kind).expect("a kind that is counted") += more;
    }

    pub(super) fn tally(&self) -> BTreeMap<&'static str, u64> {
        self.lock().tally.clone()
    }
}

// === impl State ===

impl State {
    fn answer(&mut self, seen: &Seen) -> Answer {
        let marks = Marks::of(&seen.target, |name| seen.head.all(name));
        let known_as = Marks::of("", |name| seen.head.all(name)).own;
        if seen.target.starts_with("/public/") && ["cookie", "authorization"].iter().any(|it| seen.header(it).is_some())
        {
            self.violations.push(format!("credentials reached the app on a public route: {:?}", seen.head));
        }
        let is_shut_out = seen.target.starts_with("/members/") && known_as == EVE.marks("").own;
        let shut_out = [401, 200][self.rng.random_range(0..2)];
        if let Some(status) = is_shut_out.then_some(shut_out).or(self.refused.get(&known_as).copied()) {
            let refusal = Answer::html(&marks.own).status(status).header("X-Mark", &marks.own);
            let refusal = refusal.header("Set-Cookie", &format!("sid={}", marks.own));
            return match status {
                302 => refusal.header("Location", &format!("/login?as={}", marks.own)),
                _ => refusal,
            };
        }
        match self.rng.random_range(0..100) {
            0..3 => return Answer::text(503, &marks.own).header("X-Mark", &marks.own),
            3 => return Answer::text(200, &format!("{} and more of it", marks.own)).cut(),
            _ => {}
        }
        self.welcomed.insert(marks.own.clone(), Instant::now());
        let mark = if seen.target.starts_with("/own/") { &marks.own } else { &marks.all };
        self.events += 1;
        if !seen.target.contains("/events") {
            // Half of the time nothing has changed.
            let n = self.events / 2;
            let body = serde_json::json!({"status": "processing", "mark": mark, "n": n});
            return Answer::json(&body).header("Set-Cookie", &format!("sid={}", marks.own));
        }
        let mut stream =
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\nretry: 100\n".to_owned();
        for _ in 0..self.rng.random_range(1..5) {
            // Small numbers: everybody's ids are everybody else's.
            let id = self.rng.random_range(1..9);
            stream.push_str(&format!("id: {id}\ndata: {{\"mark\":\"{mark}\"}}\n\n"));
        }
        Answer::raw(&stream).close()
    }
}
