//! A topic fed from the app's own event stream: one upstream connection, however many listen.
//!
//! A correct EventSource client: exact parsing, `Last-Event-ID`, `retry`, back-off. Unlike a browser's, it never gives up
//! on a server in trouble, because the streams behind it are open; it obeys when the app says that it is over (204) or
//! not allowed (401, 403). Every event goes on with the app's id where the app names its events, and with one of ours, an
//! epoch and a number, where it does not.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use http::{HeaderName, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    task::AbortHandle,
    time::Instant,
};
use tracing::debug;

mod last_word;

use self::last_word::{LastWord, Word};
use super::{Decision, PASSES_MAX, Shared, Trouble, read_refusal};
use crate::{
    backoff::{Backoff, jitter},
    event::{self, Event},
    grant::Grant,
    guard,
    hub::Source,
    metrics::{CloseReason, InvalidStateSide, Outcome, Purpose, Violation},
    route::{Route, SourceSpec, SubscribeSpec},
    scope::Lender,
    sse_decode::{Decoded, DecodedEvent, Decoder},
    status::Verdict,
    topic::{BURST, End, Topic},
    upstream::AnswerBody,
};

/// One event of the app may hold so many bytes; a longer one is a fault of the app, and its stream is opened anew.
pub const EVENT_BYTES_MAX: usize = 1024 * 1024;
/// How long an opening counts as one of `--poll-concurrency`. Some apps send no head before their first event: with 64 at
/// once and this, 10,000 of their streams are open again within 40 s, and quick apps are never held up.
const TURN: Duration = Duration::from_millis(250);
/// Back-off while the app is in trouble, and of streams that it ends while nobody watches.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// The pause before a stream that ended by itself is opened again, when the app names none (`retry:`). Short, since the
/// clients would notice; not nothing, since an app that ends each stream at once would be asked in a tight loop.
const REOPEN: Duration = Duration::from_secs(1);
/// What the app may ask for with `retry:`. At least a tenth of a second, or an app that says 0 and ends each stream at once
/// would be asked in a tight loop after all.
const REOPEN_ASKED: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// The source; dropping it closes the upstream connection.
#[derive(Debug)]
pub struct SubscribeSource {
    listener: Arc<Listener>,
    task: std::sync::Mutex<Option<AbortHandle>>,
}

struct Listener {
    topic: Arc<Topic>,
    shared: Arc<Shared>,
    first_id: Option<String>,
    /// Whether somebody watches. Written as clients come and go, read where a stream has ended.
    watched: watch::Sender<bool>,
    /// Which kinds of violation were told, or left out, in the log already, a bit for each: once per topic is enough.
    told: AtomicU8,
}

/// What one connection after the other adds up to.
struct Progress {
    /// The app's last event id, for our `Last-Event-ID`.
    last_id: String,
    /// The connection that is open has named an event: from then on its ids count, an empty one too. Until then the last
    /// one of the connection before is in force, as it is in a browser.
    is_named: bool,
    /// `last_id` is the app's and not a client's.
    is_apps: bool,
    epoch: u32,
    numbered: u64,
    reopen: Duration,
    backoff: Backoff,
    /// Grows with each stream that the app ends while nobody watches.
    unwatched: Backoff,
    /// Whether the app has spoken on this topic before.
    seen: bool,
    /// Whether the app has said that the job is over.
    last_word: LastWord,
    /// How often another lender was tried at once, since a stream was opened.
    passed_on: u8,
}

/// What follows an attempt.
enum Next {
    Again(Duration),
    /// The app has ended its stream, or it broke.
    Reopen,
    Over,
}

/// Prepares the subscription for `topic`; it begins when somebody joins.
pub(super) fn start(shared: Arc<Shared>, topic: Arc<Topic>, first_id: Option<String>) -> SubscribeSource {
    SubscribeSource { listener: Arc::new(Listener::new(shared, topic, first_id)), task: std::sync::Mutex::default() }
}

// === impl SubscribeSource ===

impl Source for SubscribeSource {
    fn joined(&self, _first: bool) {
        self.listener.watched.send_replace(true);
        let mut task = self.task.lock().expect("no code panics under this lock");
        if task.is_none() {
            // Owned by this source, which aborts it; it ends by itself when the app ends the topic.
            let listener = Arc::clone(&self.listener);
            *task = Some(tokio::spawn(async move { listener.run().await }).abort_handle());
        } else {
            // A stream that the app need not open once more.
            self.listener.shared.metrics.route(self.listener.topic.key().route).requests_spared.inc();
        }
    }

    // The connection is kept through the linger: closing it is what sets off the fault in naive apps.
    fn idle(&self) {
        self.listener.watched.send_replace(false);
    }

    fn pace(&self) -> Option<Duration> {
        None
    }
}

impl Drop for SubscribeSource {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().expect("no code panics under this lock").take() {
            task.abort();
        }
    }
}

// === impl Listener ===

impl Listener {
    fn new(shared: Arc<Shared>, topic: Arc<Topic>, first_id: Option<String>) -> Self {
        Self { topic, shared, first_id, watched: watch::Sender::new(false), told: AtomicU8::new(0) }
    }

    fn route(&self) -> &Route {
        &self.shared.routes[self.topic.key().route.0]
    }

    fn spec(&self) -> &SubscribeSpec {
        match &self.route().source {
            SourceSpec::Subscribe(spec) => spec,
            SourceSpec::Poll(_) => unreachable!("a subscribe source is made for subscribe routes only"),
        }
    }

    async fn run(&self) {
        let mut progress = Progress::after(self.first_id.clone());
        loop {
            match self.listen_once(&mut progress).await {
                Next::Again(pause) => tokio::time::sleep(pause).await,
                Next::Reopen => self.rest(&mut progress).await,
                Next::Over => return,
            }
        }
    }

    /// The pause before a stream that has ended is opened again: short, since clients would notice. While there are none
    /// it grows, for the window of those who may return is not worth a request each second for the whole linger.
    async fn rest(&self, progress: &mut Progress) {
        tokio::time::sleep(jitter(progress.reopen, 0.1)).await;
        let mut watched = self.watched.subscribe();
        let somebody = watched.wait_for(|is_watched| *is_watched);
        if tokio::time::timeout(progress.unwatched.next(), somebody).await.is_ok() {
            progress.unwatched.reset();
        }
    }

    /// One connection, from request to end.
    async fn listen_once(&self, progress: &mut Progress) -> Next {
        let Some(lender) = self.topic.lenders().current() else {
            // Whoever could lend credentials has left; the next who is admitted may come any moment, while we linger.
            return Next::Again(REOPEN);
        };
        let mut headers: Vec<(HeaderName, HeaderValue)> = vec![
            (header::ACCEPT, HeaderValue::from_static("text/event-stream")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (header::ACCEPT_ENCODING, HeaderValue::from_static("identity")),
        ];
        if !progress.last_id.is_empty()
            && let Ok(id) = HeaderValue::from_bytes(progress.last_id.as_bytes())
        {
            headers.push((HeaderName::from_static("last-event-id"), id));
        }
        let opening = self.shared.schedule.opening().await;
        let counted = self.shared.asker.count(Purpose::Subscribe);
        let target = self.topic.key().path_and_query();
        // Not `--poll-timeout`: an app that sends its head with its first event is well, and to close its stream over and
        // over is the very thing that harms it.
        let within = self.spec().begins_within.unwrap_or(Duration::MAX);
        let asked = self.shared.asker.get(&target, lender.identity(), &headers, within);
        let answer = match take_turn(opening, asked).await {
            Ok(answer) => answer,
            Err(error) => {
                debug!(%error, "subscription failed");
                counted.ended(error.outcome());
                return self.trouble(progress, Trouble::from(&error));
            }
        };
        let status = answer.status();
        counted.ended(Outcome::of_status(status));
        match Decision::of(&answer, &target) {
            Decision::Yes if status == StatusCode::NO_CONTENT => self.over(progress, &lender, answer).await,
            Decision::Yes => match fault(&answer) {
                Some((kind, what)) => {
                    self.violation(kind, what);
                    self.unreadable(progress, &lender, kind)
                }
                None => {
                    progress.seen = true;
                    progress.passed_on = 0;
                    self.topic.grants(Grant::to(lender.identity(), answer.headers()));
                    self.topic.stream_began();
                    self.shared.bulletins.well(self.topic.key().route);
                    self.read(progress, answer.into_body()).await
                }
            },
            Decision::Unchanged | Decision::Trouble => self.trouble(progress, Trouble::Status(status)),
            Decision::No | Decision::Elsewhere if progress.seen => self.trouble(progress, Trouble::Status(status)),
            decision => self.refused(progress, &lender, decision, answer).await,
        }
    }

    /// Reads a stream to its end.
    async fn read(&self, progress: &mut Progress, mut body: AnswerBody) -> Next {
        let mut decoder = Decoder::new(EVENT_BYTES_MAX);
        let mut decoded = Vec::new();
        progress.is_named = false;
        let began = Instant::now();
        let mut is_crowded = self.topic.trim(began);
        progress.last_word.stream_began(began);
        let clean = loop {
            let frame = match is_crowded {
                false => body.frame().await,
                // When nothing comes for so long, the burst is over, and its readers have it.
                true => match tokio::time::timeout(BURST, body.frame()).await {
                    Ok(frame) => frame,
                    Err(_) => {
                        is_crowded = self.topic.trim(Instant::now());
                        continue;
                    }
                },
            };
            // An outage is over with an event, or with a stream that lives, however quiet it is. Not with its mere beginning:
            // an app that cuts each one at once would be asked in a tight loop.
            if began.elapsed() > BACKOFF.1 {
                progress.backoff.reset();
                progress.unwatched.reset();
            }
            let chunk = match frame {
                None => break true,
                Some(Err(error)) => {
                    debug!(%error, "the app's stream broke");
                    break false;
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(chunk) => chunk,
                    Err(_trailers) => continue,
                },
            };
            let at = Instant::now();
            let fits = decoder.push(&chunk, &mut decoded).is_ok();
            for item in decoded.drain(..) {
                match item {
                    Decoded::Retry(retry) => progress.reopen = retry.clamp(REOPEN_ASKED.0, REOPEN_ASKED.1),
                    Decoded::Event(event) => is_crowded = self.publish(progress, event, at),
                }
            }
            progress.note_id(None, decoder.last_event_id());
            if !fits {
                // Nobody knows what it said.
                progress.last_word = LastWord::default();
                self.violation(Violation::TooLarge, "an event of the app is over 1 MiB");
                return self.trouble(progress, Trouble::Answer("too_large"));
            }
        };
        if progress.last_word.stream_ended(Instant::now()) && clean {
            self.topic.end(End { frame: None, reason: CloseReason::Done, finished: true });
            return Next::Over;
        }
        if !clean || decoder.is_mid_event() {
            self.shared.metrics.route(self.topic.key().route).invalid_state(InvalidStateSide::Upstream);
        }
        // Not an outage yet: the clients don't notice unless the next attempt fails.
        Next::Reopen
    }

    /// True while a burst is kept beyond the bounds of the window.
    fn publish(&self, progress: &mut Progress, event: DecodedEvent, at: Instant) -> bool {
        progress.backoff.reset();
        let SubscribeSpec { status, greeting, .. } = self.spec();
        let found = status.detect_event(event.name.as_deref(), &event.data);
        let word = match found.verdict {
            // Asked only where it matters, since the data is read once more for it.
            Verdict::Missing if !progress.last_word.is_said() => Word::Nothing,
            Verdict::Missing if !status.is_called_running(event.name.as_deref(), &event.data) => Word::Nothing,
            Verdict::Missing | Verdict::Running | Verdict::Unknown => Word::GoesOn,
            Verdict::Succeeded | Verdict::Failed | Verdict::Ended => Word::Over,
        };
        // What the operator has named counts in a greeting too.
        let greeting = if status.done.is_some() { 0 } else { *greeting };
        // The time of now, not of the chunk: it is the app's end that must come soon, and not how soon events are passed on.
        if progress.last_word.heard(word, greeting, Instant::now()) {
            self.shared.detected.tell(self.topic.key().route, self.route(), &found);
        }
        let seen = self.shared.detected.seen(self.topic.key().route, &found, self.topic.status().as_ref());
        if seen.is_some() {
            self.topic.status_seen(seen);
        }
        progress.note_id(event.id.as_deref(), &event.last_event_id);
        if event.id.as_ref().is_some_and(|id| id.len() > event::ID_BYTES_MAX) {
            self.violation(Violation::TooLarge, "an id of the app is too long to come back; its events get ours");
        }
        let (id, place) = match event::as_returned(&progress.last_id).filter(|_| progress.is_apps) {
            // Where the app names only some events, an unnamed one keeps the id before it, on our wire too.
            Some(place) => (event.id, place.to_owned()),
            // Else clients could not say where they are, or would say it in a way in which we don't know it again.
            None => {
                let own = progress.own_id();
                (Some(own.clone()), own)
            }
        };
        let frame = event::encoded(&Event { id, name: event.name, data: event.data });
        self.topic.event(Some(&place), frame, at)
    }

    /// 204: the app wants no more of this.
    async fn over(&self, progress: &Progress, lender: &Lender, answer: http::Response<AnswerBody>) -> Next {
        if progress.seen {
            self.topic.end(End { frame: None, reason: CloseReason::Done, finished: true });
        } else {
            self.refuse_with(lender, answer).await;
        }
        Next::Over
    }

    async fn refused(
        &self,
        progress: &Progress,
        lender: &Lender,
        decision: Decision,
        answer: http::Response<AnswerBody>,
    ) -> Next {
        let missing = decision == Decision::Missing;
        let reason = if missing { CloseReason::Done } else { CloseReason::Denied };
        let others_remain = self.topic.lenders().deny(lender, reason);
        self.topic.nudge();
        if others_remain {
            return Next::Again(Duration::ZERO);
        }
        self.shared.bulletins.refused(self.topic.key().route, answer.status());
        if progress.seen {
            self.topic.end(End { frame: missing.then(event::gone), reason, finished: false });
        } else {
            self.refuse_with(lender, answer).await;
        }
        Next::Over
    }

    async fn refuse_with(&self, lender: &Lender, answer: http::Response<AnswerBody>) {
        let refusal = read_refusal(answer, self.spec().timeout).await;
        self.topic.refuse(refusal.told_to(lender.scope()));
    }

    /// What came is no event stream. It may be a login page, which says nothing of the app's health: others' credentials are
    /// tried before anybody is told of an outage.
    fn unreadable(&self, progress: &mut Progress, lender: &Lender, kind: Violation) -> Next {
        let others_remain = self.topic.lenders().pass_on(lender);
        if others_remain && progress.passed_on < PASSES_MAX {
            progress.passed_on += 1;
            return Next::Again(Duration::ZERO);
        }
        self.trouble(progress, Trouble::Answer(kind.as_str()))
    }

    fn trouble(&self, progress: &mut Progress, trouble: Trouble) -> Next {
        self.topic.trouble(trouble.notice(self.route().errors));
        self.shared.bulletins.trouble(self.topic.key().route, trouble);
        Next::Again(progress.backoff.next())
    }

    fn violation(&self, kind: Violation, what: &'static str) {
        self.shared.metrics.route(self.topic.key().route).violation(kind);
        let bit = 1 << (kind as u8);
        if self.told.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            self.shared.bulletins.violation(&self.topic, kind, what, None);
        }
    }
}

// === impl Progress ===

impl Progress {
    /// The app has not been asked yet; its stream is to go on after `first_id`, if there is one.
    fn after(first_id: Option<String>) -> Self {
        Self {
            last_id: first_id.unwrap_or_default(),
            is_named: false,
            is_apps: false,
            epoch: rand::random(),
            numbered: 0,
            reopen: REOPEN,
            backoff: Backoff::new(BACKOFF.0, BACKOFF.1),
            unwatched: Backoff::new(BACKOFF.0, BACKOFF.1),
            seen: false,
            last_word: LastWord::default(),
            passed_on: 0,
        }
    }

    /// The next id of ours.
    fn own_id(&mut self) -> String {
        self.numbered += 1;
        event::own_id(self.epoch, self.numbered)
    }

    /// The app's stream holds `in_force` now, and has just named an event `own`, if it has.
    fn note_id(&mut self, own: Option<&str>, in_force: &str) {
        self.is_named |= own.is_some() || !in_force.is_empty();
        if self.is_named {
            self.is_apps = true;
            in_force.clone_into(&mut self.last_id);
        }
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("topic", self.topic.key()).finish_non_exhaustive()
    }
}

/// Waits for an answer, and lets the next subscription be opened when it is there or has taken its turn's time.
async fn take_turn<T>(opening: OwnedSemaphorePermit, asked: impl Future<Output = T>) -> T {
    let mut asked = pin!(asked);
    match tokio::time::timeout(TURN, asked.as_mut()).await {
        Ok(answer) => answer,
        Err(_) => {
            drop(opening);
            asked.await
        }
    }
}

/// What keeps us from reading an answer as an event stream.
fn fault(answer: &http::Response<AnswerBody>) -> Option<(Violation, &'static str)> {
    if !guard::is_event_stream(answer.headers()) {
        Some((Violation::WrongContentType, "the app's answer is no event stream"))
    } else if guard::is_encoded(answer.headers()) {
        Some((Violation::Encoded, "the app's event stream is compressed, though `identity` was asked for"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
