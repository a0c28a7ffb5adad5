//! The app: answers everybody with what is theirs, marked as such, in moods that change.

use std::collections::HashMap;

use tokio::{
    io::{AsyncWriteExt, DuplexStream},
    task::JoinSet,
    time::Instant,
};

use super::{asked::Asked, *};
use crate::upstream::memory;

/// The app. Clones are the same.
#[derive(Clone)]
pub(super) struct App {
    pub(super) door: memory::App,
    state: Arc<Mutex<State>>,
    /// Its connections, which end with it.
    running: Arc<Mutex<JoinSet<()>>>,
}

struct State {
    rng: StdRng,
    /// Moves with everything that happens.
    now: u64,
    is_up: bool,
    is_troubled: bool,
    /// Whom it refuses, and how, by what they are known as.
    refused: HashMap<String, u16>,
    /// The last body of each poll, to answer the same again.
    bodies: HashMap<String, String>,
    /// When it last said yes to whom, by their mark for the target.
    welcomed: HashMap<String, u64>,
    /// Clients of a mark that are on their way in, and until when one that gave up may still be answered.
    entering: HashMap<String, (usize, Option<Instant>)>,
    /// When it last said no to a mark.
    turned_away: HashMap<String, u64>,
    /// When a poll or a subscription of a mark was turned away while no client of it was on its way in.
    expelled: HashMap<String, u64>,
    violations: Vec<String>,
}

enum Plan {
    Json(String),
    Stream,
    Refuse(u16),
    NotModified(String),
    Trouble,
    Broken,
    Hang,
}

// === impl App ===

impl App {
    pub(super) fn new(seed: u64) -> Self {
        let state = State {
            rng: StdRng::seed_from_u64(seed),
            now: 0,
            is_up: false,
            is_troubled: false,
            refused: HashMap::new(),
            bodies: HashMap::new(),
            welcomed: HashMap::new(),
            entering: HashMap::new(),
            turned_away: HashMap::new(),
            expelled: HashMap::new(),
            violations: Vec::new(),
        };
        let app = Self { door: memory::App::default(), state: Arc::new(Mutex::new(state)), running: Arc::default() };
        app.resume();
        app
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn stop(&self) {
        self.door.close();
        self.lock().is_up = false;
        self.running.lock().unwrap().abort_all();
    }

    pub(super) fn resume(&self) {
        if std::mem::replace(&mut self.lock().is_up, true) {
            return;
        }
        let mut connections = self.door.listen();
        let app = self.clone();
        self.running.lock().unwrap().spawn(async move {
            while let Some(pipe) = connections.recv().await {
                let served = app.clone().serve(pipe);
                app.running.lock().unwrap().spawn(served);
            }
        });
    }

    pub(super) fn set_trouble(&self, is_troubled: bool) {
        self.lock().is_troubled = is_troubled;
    }

    /// Somebody's session expires, or is good again.
    pub(super) fn change_mind(&self, who: Who) {
        let mut state = self.lock();
        if state.refused.remove(&who.known_as()).is_none() {
            // 200 is a page to log in.
            let status = *[401, 401, 403, 302, 404, 200].choose(&mut state.rng).expect("there are some");
            state.refused.insert(who.known_as(), status);
        }
    }

    /// Tells what should never have happened.
    pub(super) fn violation(&self, what: String) {
        self.lock().violations.push(what);
    }

    pub(super) fn violations(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().violations)
    }

    /// The time, in things that happened.
    pub(super) fn now(&self) -> u64 {
        self.lock().tick()
    }

    /// When it last said yes to a mark.
    pub(super) fn welcomed(&self, mark: &str) -> Option<u64> {
        self.lock().welcomed.get(mark).copied()
    }

    /// When it last said no to a mark.
    pub(super) fn turned_away(&self, mark: &str) -> Option<u64> {
        self.lock().turned_away.get(mark).copied()
    }

    /// When it last turned a mark away in the middle.
    pub(super) fn expelled(&self, mark: &str) -> Option<u64> {
        self.lock().expelled.get(mark).copied()
    }

    pub(super) fn enters(&self, mark: &str) {
        self.lock().entering.entry(mark.to_owned()).or_default().0 += 1;
    }

    /// It is in, or has given up; then its request may be answered still.
    pub(super) fn entered(&self, mark: &str, has_given_up: bool) {
        let mut state = self.lock();
        let entering = state.entering.get_mut(mark).expect("it was on its way in");
        entering.0 -= 1;
        if has_given_up {
            entering.1 = Some(Instant::now() + Duration::from_secs(5));
        }
    }

    async fn serve(self, mut pipe: DuplexStream) {
        let mut read = Vec::new();
        while let Some(asked) = Asked::read(&mut pipe, &mut read).await {
            let (early, delay) = {
                let mut state = self.lock();
                let plan = state.plan(&asked);
                let delay = if state.rng.random_bool(0.5) { 0 } else { state.rng.random_range(1..300) };
                // What was decided early may be old when it is said.
                (state.rng.random_bool(0.5).then_some(plan), delay)
            };
            sleep(Duration::from_millis(delay)).await;
            let (plan, answer) = {
                let mut state = self.lock();
                let plan = early.unwrap_or_else(|| state.plan(&asked));
                let answer = state.speak(&asked, &plan);
                (plan, answer)
            };
            match plan {
                Plan::Hang => return std::future::pending().await,
                Plan::Stream => {
                    let _ = pipe.write_all(answer.as_bytes()).await;
                    return self.stream(pipe, &asked).await;
                }
                Plan::Broken => {
                    let _ = pipe.write_all(&answer.as_bytes()[..answer.len() / 2]).await;
                    return;
                }
                _ if pipe.write_all(answer.as_bytes()).await.is_err() => return,
                _ => {}
            }
        }
    }

    async fn stream(self, mut pipe: DuplexStream, asked: &Asked) {
        loop {
            let (pause, event) = {
                let mut state = self.lock();
                let pause = state.rng.random_range(1..150);
                let event = match state.rng.random_range(0..100) {
                    0..6 => None,
                    _ => Some(state.event(asked)),
                };
                (pause, event)
            };
            sleep(Duration::from_millis(pause)).await;
            let Some(event) = event else {
                let is_clean = self.lock().rng.random();
                if is_clean {
                    let _ = pipe.write_all(b"0\r\n\r\n").await;
                }
                return;
            };
            let chunk = format!("{:x}\r\n{event}\r\n", event.len());
            if pipe.write_all(chunk.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

// === impl State ===

impl State {
    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    fn plan(&mut self, asked: &Asked) -> Plan {
        if asked.is_public() && asked.has_credentials() {
            self.violations.push(format!("credentials reached the app on a public route: {:?}", asked.headers));
        }
        let mood = self.rng.random_range(0..100);
        if self.is_troubled && mood < 80 {
            return Plan::Trouble;
        }
        match mood {
            96 => return Plan::Trouble,
            97 => return Plan::Broken,
            98 => return Plan::Hang,
            // The end of a stream, or somebody's own 404.
            99 => return Plan::Refuse(if asked.is_stream() { 204 } else { 404 }),
            _ => {}
        }
        if let Some(status) = self.refused.get(&asked.known_as()) {
            return Plan::Refuse(*status);
        }
        if asked.is_stream() {
            return Plan::Stream;
        }
        let key = format!("{} {}", asked.target, asked.mark());
        if let Some(body) = self.bodies.get(&key).cloned()
            && self.rng.random_bool(0.4)
        {
            let tag = format!("\"{}\"", &blake3::hash(body.as_bytes()).to_hex()[..8]);
            if asked.header("if-none-match") == Some(&tag) {
                return Plan::NotModified(tag);
            }
            return Plan::Json(body);
        }
        let status = if self.rng.random_bool(0.05) { "completed" } else { "processing" };
        let body = format!(r#"{{"status":"{status}","mark":"{}","at":{}}}"#, asked.mark(), self.tick());
        self.bodies.insert(key, body.clone());
        Plan::Json(body)
    }

    /// The bytes of an answer, at the moment at which it is given.
    fn speak(&mut self, asked: &Asked, plan: &Plan) -> String {
        let now = self.tick();
        let own = asked.marks().own;
        let grant = asked.header("origin").map(|origin| format!("Access-Control-Allow-Origin: {origin}\r\n"));
        let grant = grant.unwrap_or_default();
        match plan {
            Plan::Hang => String::new(),
            Plan::Trouble => format!("HTTP/1.1 503 x\r\nx-mark: {own}\r\nContent-Length: {}\r\n\r\n{own}", own.len()),
            Plan::NotModified(tag) => {
                self.welcomed.insert(own, now);
                format!("HTTP/1.1 304 x\r\nETag: {tag}\r\n\r\n")
            }
            Plan::Stream => {
                self.welcomed.insert(own.clone(), now);
                format!(
                    "HTTP/1.1 200 x\r\nContent-Type: text/event-stream\r\nSet-Cookie: sid={own}\r\n{grant}\
                     Transfer-Encoding: chunked\r\n\r\n"
                )
            }
            Plan::Json(body) => {
                self.welcomed.insert(own.clone(), now);
                let tag = &blake3::hash(body.as_bytes()).to_hex()[..8];
                format!(
                    "HTTP/1.1 200 x\r\nContent-Type: application/json\r\nSet-Cookie: sid={own}\r\nETag: \"{tag}\"\r\n\
                     {grant}Content-Length: {}\r\n\r\n{body}",
                    body.len()
                )
            }
            Plan::Refuse(200) => format!(
                "HTTP/1.1 200 x\r\nContent-Type: text/html\r\nSet-Cookie: sid={own}\r\nContent-Length: {}\r\n\r\n<p>{own}",
                own.len() + 3
            ),
            Plan::Refuse(status) => {
                self.turned_away.insert(own.clone(), now);
                let (entering, until) = self.entering.get(&own).copied().unwrap_or_default();
                if entering == 0 && until.is_none_or(|until| until < Instant::now()) {
                    self.expelled.insert(own.clone(), now);
                }
                let location = if *status == 302 { format!("Location: /login?as={own}\r\n") } else { String::new() };
                let (length, body) = match status {
                    204 => (String::new(), ""),
                    _ => (format!("Content-Length: {}\r\n", own.len()), own.as_str()),
                };
                format!("HTTP/1.1 {status} x\r\n{location}Set-Cookie: sid={own}\r\nx-mark: {own}\r\n{length}\r\n{body}")
            }
            Plan::Broken => format!(
                "HTTP/1.1 200 x\r\nContent-Type: application/json\r\nx-mark: {own}\r\nContent-Length: 900\r\n\r\n{own}"
            ),
        }
    }

    fn event(&mut self, asked: &Asked) -> String {
        let at = self.tick();
        // Small numbers, so that everybody's ids are everybody else's.
        let id = self.rng.random_range(1..20);
        let id = if self.rng.random_bool(0.7) { format!("id: {id}\n") } else { String::new() };
        format!("{id}data: {{\"mark\":\"{}\",\"at\":{at}}}\n\n", asked.mark())
    }
}
