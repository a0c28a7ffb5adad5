//! Who may watch a shared topic, on `share=authorized` routes: each client asks the app itself, with its own credentials.
//!
//! An answer counts for the client that asked, and for those who ask with the same credentials while that one request is
//! on its way; it is not kept. Clients are asked again when their stream reaches its `--max-age` and they come back.
//!
//! A status alone lets nobody in: apps that answer strangers with a page to log in often do so with 200. The answer must be
//! what the route is made of, too: JSON, or an event stream.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use http::{HeaderName, HeaderValue, header};
use tokio::time::Instant;
use tracing::warn;

use crate::{
    backoff::Backoff,
    guard, json,
    metrics::{Outcome, Purpose, RouteId, Violation},
    refusal::Refusal,
    route::{Route, SourceSpec},
    scope::{Identity, Scope},
    source::{Asker, Decision, Trouble, read_body, read_refusal, schedule::Schedule},
    topic::TopicKey,
    upstream::AnswerBody,
};

/// The pause before a 404 is asked again within the grace.
const NOT_FOUND_PAUSE: Duration = Duration::from_millis(500);

/// The app's word on one client.
#[derive(Clone, Debug)]
pub enum Admission {
    /// It may watch.
    Admitted,
    /// It may not.
    Refused(Arc<Refusal>),
    /// The app can't say.
    Trouble(Trouble),
}

type Asking = Shared<BoxFuture<'static, Admission>>;
type AskingKey = (TopicKey, Scope);

/// Asks the app about clients.
pub struct Admissions {
    routes: Arc<[Route]>,
    asker: Asker,
    /// Admissions take the same permits as polls, so that a storm of clients is no storm for the app.
    schedule: Arc<Schedule>,
    not_found_grace: Duration,
    /// Requests on their way, for those who ask with the same credentials meanwhile.
    asking: Mutex<HashMap<AskingKey, WeakShared<BoxFuture<'static, Admission>>>>,
    /// For each route, whether the log has told of an answer that lets nobody in: once is enough.
    told: Box<[AtomicBool]>,
}

// === impl Admissions ===

impl Admissions {
    /// Nobody has asked yet.
    pub fn new(routes: Arc<[Route]>, asker: Asker, schedule: Arc<Schedule>, not_found_grace: Duration) -> Arc<Self> {
        let told = routes.iter().map(|_| AtomicBool::new(false)).collect();
        Arc::new(Self { routes, asker, schedule, not_found_grace, asking: Mutex::default(), told })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AskingKey, WeakShared<BoxFuture<'static, Admission>>>> {
        self.asking.lock().expect("no code panics under this lock")
    }

    /// Asks once.
    pub async fn ask(self: &Arc<Self>, key: &TopicKey, scope: Scope, identity: &Identity) -> Admission {
        let asking_key = (key.clone(), scope);
        // Declared before the shared future, so dropped after it: only then can the last asker clear the entry.
        let _leave = Leave { admissions: self, key: &asking_key };
        let asking = self.join_or_start(&asking_key, identity);
        asking.await
    }

    /// Asks, with back-off, until the app has spoken.
    pub async fn persist(self: Arc<Self>, key: Arc<TopicKey>, scope: Scope, identity: Identity) -> Admission {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        loop {
            tokio::time::sleep(backoff.next()).await;
            match self.ask(&key, scope, &identity).await {
                Admission::Trouble(_) => {}
                spoken => return spoken,
            }
        }
    }

    fn join_or_start(self: &Arc<Self>, key: &AskingKey, identity: &Identity) -> Asking {
        let mut asking = self.lock();
        if let Some(joined) = asking.get(key).and_then(WeakShared::upgrade) {
            return joined;
        }
        let (this, identity, topic) = (Arc::clone(self), identity.clone(), key.0.clone());
        let started = async move { this.request(&topic, &identity).await }.boxed().shared();
        asking.extend(started.downgrade().map(|weak| (key.clone(), weak)));
        started
    }

    async fn request(&self, key: &TopicKey, identity: &Identity) -> Admission {
        let target = key.path_and_query();
        let (accept, timeout, grace) = match &self.routes[key.route.0].source {
            SourceSpec::Poll(spec) => ("application/json", spec.timeout, self.not_found_grace),
            SourceSpec::Subscribe(spec) => ("text/event-stream", spec.timeout, Duration::ZERO),
        };
        let headers: [(HeaderName, HeaderValue); 2] = [
            (header::ACCEPT, HeaderValue::from_static(accept)),
            (header::ACCEPT_ENCODING, HeaderValue::from_static("identity")),
        ];
        let began = Instant::now();
        loop {
            let turn = self.schedule.admission().await;
            let counted = self.asker.count(Purpose::Authorize);
            let asked_at = Instant::now();
            let answer = match self.asker.get(&target, identity, &headers, timeout).await {
                Ok(answer) => answer,
                Err(error) => {
                    counted.ended(error.outcome());
                    return Admission::Trouble(Trouble::from(&error));
                }
            };
            let status = answer.status();
            let decision = Decision::of(&answer, &target);
            if decision == Decision::Yes && status != http::StatusCode::NO_CONTENT {
                let (outcome, admission) = self.read(key.route, answer, asked_at + timeout).await;
                counted.ended(outcome);
                return admission;
            }
            counted.ended(Outcome::of_status(status));
            match decision {
                Decision::Trouble | Decision::Unchanged => return Admission::Trouble(Trouble::Status(status)),
                // "Nothing yet" to a poll: neither a yes nor a no. A stream that is over is the app's own decision.
                Decision::Yes if self.is_polled(key.route) => return Admission::Trouble(Trouble::Status(status)),
                Decision::Missing if status == http::StatusCode::NOT_FOUND && began.elapsed() < grace => {
                    drop(turn);
                    tokio::time::sleep(NOT_FOUND_PAUSE).await;
                }
                _ => return Admission::Refused(Arc::new(read_refusal(answer, timeout).await)),
            }
        }
    }
}

impl Admissions {
    /// What an answer with a good status means, and how the request is counted.
    async fn read(&self, route: RouteId, answer: http::Response<AnswerBody>, until: Instant) -> (Outcome, Admission) {
        let outcome = Outcome::of_status(answer.status());
        let is_fit = match &self.routes[route.0].source {
            // What follows the head is not waited for.
            SourceSpec::Subscribe(_) => guard::is_event_stream(answer.headers()),
            SourceSpec::Poll(_) => match read_body(answer.into_body(), until).await {
                Ok(body) => json::read(&body).is_some(),
                Err(unread) => return (unread.outcome(), Admission::Trouble(unread.into())),
            },
        };
        let admission = if is_fit { Admission::Admitted } else { Admission::Trouble(self.unfit(route)) };
        (outcome, admission)
    }

    fn is_polled(&self, route: RouteId) -> bool {
        matches!(self.routes[route.0].source, SourceSpec::Poll(_))
    }

    /// Counts an answer that lets nobody in, and tells of it once for each route.
    fn unfit(&self, route: RouteId) -> Trouble {
        let kind = match &self.routes[route.0].source {
            SourceSpec::Poll(_) => Violation::NotJson,
            SourceSpec::Subscribe(_) => Violation::WrongContentType,
        };
        self.asker.violation(route, kind);
        if !self.told[route.0].swap(true, Ordering::Relaxed) {
            warn!(
                route = self.routes[route.0].path.as_str(),
                kind = kind.as_str(),
                "a client is not let in: the app neither refuses it (401, 403) nor answers as the route has it"
            );
        }
        Trouble::Answer(kind.as_str())
    }
}

impl std::fmt::Debug for Admissions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admissions").finish_non_exhaustive()
    }
}

/// Clears the entry of a request that is over or that nobody waits for any more.
struct Leave<'a> {
    admissions: &'a Admissions,
    key: &'a AskingKey,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let mut asking = self.admissions.lock();
        let is_over =
            asking.get(self.key).is_some_and(|weak| weak.upgrade().is_none_or(|asking| asking.peek().is_some()));
        if is_over {
            asking.remove(self.key);
        }
    }
}
