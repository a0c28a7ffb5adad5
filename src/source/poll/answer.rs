//! One poll: the request, and what its answer means for the topic and for the time of the next.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use tokio::time::Instant;
use tracing::debug;

use super::{BodyHash, JITTER, NOT_FOUND_PAUSE, Next, PATIENCE, Poller, confirm_pause, spec};
use crate::{
    backoff::jitter,
    event::{self, Event, content_id},
    grant::Grant,
    guard::is_encoded,
    json,
    metrics::{CloseReason, Outcome, Purpose, Violation},
    scope::Lender,
    source::{Decision, Trouble, Unread, read_body, read_refusal, retry_after},
    status::{Detection, Verdict},
    topic::End,
    upstream::AnswerBody,
};

/// The hash of no body: what is known was said in another way.
const NO_BODY: BodyHash = [0; 16];

/// An answer that was read whole.
pub(super) struct Answer {
    status: StatusCode,
    etag: Option<Box<[u8]>>,
    is_json: bool,
    grant: Option<Grant>,
    body: Bytes,
    at: Instant,
}

/// How one request ended.
pub(super) enum Asked {
    Answer(Answer),
    Refused(Decision, http::Response<AnswerBody>),
    TooLarge,
    /// Its body is compressed.
    Encoded,
    Trouble(Trouble),
}

// === impl Poller ===

impl Poller {
    pub(super) async fn ask(&self, lender: &Lender) -> Asked {
        let timeout = spec(self.route()).timeout;
        let until = Instant::now() + timeout;
        let mut headers: Vec<(HeaderName, HeaderValue)> = vec![
            (header::ACCEPT, HeaderValue::from_static("application/json")),
            // Without it an app may compress (RFC 9110, section 12.5.3), and some do.
            (header::ACCEPT_ENCODING, HeaderValue::from_static("identity")),
        ];
        if let Some(etag) = &self.lock().etag {
            let etag = HeaderValue::from_bytes(etag).expect("was a header value before");
            headers.push((header::IF_NONE_MATCH, etag));
        }
        let asker = &self.shared.asker;
        let counted = asker.count(Purpose::Poll);
        let target = self.topic.key().path_and_query();
        let answer = match asker.get(&target, lender.identity(), &headers, timeout).await {
            Ok(answer) => answer,
            Err(error) => {
                debug!(%error, "poll failed");
                counted.ended(error.outcome());
                return Asked::Trouble(Trouble::from(&error));
            }
        };
        let status = answer.status();
        self.lock().set_not_before(retry_after(answer.headers()).map(|after| Instant::now() + after));
        match Decision::of(&answer, &target) {
            Decision::Yes | Decision::Unchanged => {}
            Decision::Trouble => {
                counted.ended(Outcome::of_status(status));
                return Asked::Trouble(Trouble::Status(status));
            }
            decision => {
                counted.ended(Outcome::of_status(status));
                return Asked::Refused(decision, answer);
            }
        }
        if status != StatusCode::NOT_MODIFIED && is_encoded(answer.headers()) {
            counted.ended(Outcome::of_status(status));
            return Asked::Encoded;
        }
        let (parts, body) = answer.into_parts();
        let body = match read_body(body, until).await {
            Ok(body) => body,
            Err(unread) => {
                counted.ended(unread.outcome());
                return match unread {
                    Unread::TooLarge => Asked::TooLarge,
                    unread => Asked::Trouble(unread.into()),
                };
            }
        };
        counted.ended(Outcome::of_status(status));
        Asked::Answer(Answer {
            status,
            // A clone of the value would keep the connection's read buffer alive.
            etag: parts.headers.get(header::ETAG).map(|etag| etag.as_bytes().into()),
            is_json: is_json(parts.headers.get(header::CONTENT_TYPE)),
            grant: Grant::to(lender.identity(), &parts.headers),
            body,
            at: Instant::now(),
        })
    }

    pub(super) fn answered(&self, lender: &Lender, answer: &Answer, is_first: bool) -> Next {
        let hash = body_hash(&answer.body);
        let mut state = self.lock();
        let unchanged = match answer.status {
            // There is nothing to tell, or not yet.
            StatusCode::NO_CONTENT => true,
            StatusCode::NOT_MODIFIED => state.body_hash.is_some(),
            _ => state.body_hash == Some(hash),
        };
        if unchanged {
            state.recover();
            let spec = spec(self.route());
            let pace = state.slower(spec);
            let terminal = state.terminal;
            drop(state);
            self.shared.bulletins.well(self.topic.key().route);
            self.grant(answer);
            self.confirm(terminal);
            return if terminal { Next::Rest } else { Next::After(pace) };
        }
        drop(state);

        let Some(json) = json::read(&answer.body) else {
            if !answer.is_json {
                // Counted only: of what says that it is no JSON, and is none, one line says enough.
                self.route_metrics().violation(Violation::WrongContentType);
            }
            self.violation(Violation::NotJson, "the answer is not JSON", None);
            return self.unreadable(lender, Trouble::Answer("not_json"));
        };
        if !answer.is_json {
            self.violation(Violation::WrongContentType, "the answer's Content-Type is not JSON", None);
        }
        self.changed(answer, hash, &json, is_first)
    }

    /// What pages of another origin may do with the streams of this topic.
    fn grant(&self, answer: &Answer) {
        // A 304 need not say again what the answer said that it stands for.
        if answer.grant.is_some() || answer.status != StatusCode::NOT_MODIFIED {
            self.topic.grants(answer.grant.clone());
        }
    }

    /// The app said the same again. For a job that had ended that settles those who waited for its word.
    fn confirm(&self, terminal: bool) {
        if terminal { self.topic.confirm_ended() } else { self.topic.confirm() }
    }

    fn changed(&self, answer: &Answer, hash: BodyHash, json: &serde_json::Value, is_first: bool) -> Next {
        let spec = spec(self.route());
        let data = match &spec.template {
            Some(template) => template.fill(json),
            None => event::on_one_line(&answer.body),
        };
        let id = content_id(&data);
        let terminal = self.judge(&spec.status.detect(json));
        let frame = event::encoded(&Event { id: Some(id.clone()), name: None, data });
        let end = terminal.then(|| End { frame: Some(event::done(&frame)), reason: CloseReason::Done, finished: true });
        self.grant(answer);

        let mut state = self.lock();
        if std::mem::replace(&mut state.terminal, terminal) && !terminal {
            drop(state);
            self.violation(Violation::Regression, "the job had ended and runs again", None);
            state = self.lock();
        }
        state.body_hash = Some(hash);
        state.etag.clone_from(&answer.etag);
        state.recover();
        state.pace = spec.interval;
        drop(state);
        self.shared.bulletins.well(self.topic.key().route);

        self.topic.snapshot(&id, frame, answer.at, end);
        if terminal {
            return Next::Rest;
        }
        // Topics that began together, after a restart say, must not go on in step: the second poll finds a place of
        // its own within half an interval more, and the jitter keeps them apart from then on.
        let pause = if is_first { jitter(spec.interval.mul_f64(1.25), 0.2) } else { jitter(spec.interval, JITTER) };
        Next::After(pause)
    }

    /// Whether the status found ends the job; whatever is odd about it is counted.
    fn judge(&self, found: &Detection) -> bool {
        let before = self.topic.status();
        self.topic.status_seen(self.shared.detected.seen(self.topic.key().route, found, before.as_ref()));
        match found.verdict {
            Verdict::Unknown => {
                self.route_metrics().traces.unknown_status(self.topic.status());
                self.violation(Violation::UnknownStatus, "the status is not a known word", found.value.as_deref());
            }
            Verdict::Missing => self.violation(Violation::MissingStatus, "no status was found in the answer", None),
            _ => self.shared.detected.tell(self.topic.key().route, self.route(), found),
        }
        found.verdict.is_terminal()
    }

    /// The app decided against this request.
    pub(super) async fn refused(
        &self,
        lender: &Lender,
        decision: Decision,
        answer: http::Response<AnswerBody>,
    ) -> Next {
        let status = answer.status();
        let was_seen = self.lock().body_hash.is_some();
        match decision {
            Decision::Missing if !was_seen && status == StatusCode::NOT_FOUND => {
                let first = *self.lock().unwell().first_not_found.get_or_insert_with(Instant::now);
                if first.elapsed() < self.shared.not_found_grace {
                    // Often asked for before it is stored.
                    return Next::After(NOT_FOUND_PAUSE.min(spec(self.route()).interval));
                }
            }
            Decision::No if was_seen => return self.trouble(Trouble::Status(status)),
            _ => {}
        }
        if was_seen && decision == Decision::Elsewhere {
            let mut state = self.lock();
            state.terminal = true;
            // What it said before was no end: if it says that again, the job runs again.
            state.body_hash = Some(NO_BODY);
            state.etag = None;
            drop(state);
            self.topic.finish();
            return Next::Rest;
        }
        let missing = decision == Decision::Missing;
        let reason = if missing { CloseReason::Done } else { CloseReason::Denied };
        let others_remain = self.topic.lenders().deny(lender, reason);
        self.topic.nudge();
        if others_remain {
            // Only this lender's streams end; somebody else's credentials take over at once.
            return Next::After(Duration::ZERO);
        }
        self.shared.bulletins.refused(self.topic.key().route, status);
        if was_seen {
            self.topic.end(End { frame: missing.then(event::gone), reason, finished: false });
        } else {
            let refusal = read_refusal(answer, spec(self.route()).timeout).await;
            self.topic.refuse(refusal.told_to(lender.scope()));
        }
        Next::Rest
    }

    /// The answer may be a login page, which says nothing of the app's health: others' credentials are tried before anybody
    /// is told of an outage.
    fn unreadable(&self, lender: &Lender, trouble: Trouble) -> Next {
        let others_remain = self.topic.lenders().pass_on(lender);
        if others_remain && self.lock().unwell().may_pass_on() {
            return Next::After(Duration::ZERO);
        }
        self.trouble(trouble)
    }

    pub(super) fn trouble(&self, trouble: Trouble) -> Next {
        self.topic.trouble(trouble.notice(self.route().errors));
        self.shared.bulletins.trouble(self.topic.key().route, trouble);
        let mut state = self.lock();
        let terminal = state.terminal;
        let backoff = &mut state.unwell().backoff;
        if backoff.attempts() == 0 {
            debug!(reason = trouble.reason(), "the app does not answer a poll; streams stay open");
        }
        let pause = backoff.next();
        if !terminal {
            return Next::After(pause);
        }
        // Who waits to hear whether the job is still over goes on waiting, but not for long.
        let spec = spec(self.route());
        let again = Instant::now() + pause.max(confirm_pause(spec));
        let not_before = state.not_before().max(Some(again));
        state.set_not_before(not_before);
        let wait = state.until_confirmed(spec);
        drop(state);
        if wait <= PATIENCE && !self.topic.is_settled() {
            return Next::After(wait);
        }
        self.topic.let_in();
        Next::Rest
    }

    /// Counts it, and tells it once for each kind, if others have not told it often enough. `value` is the app's text, so
    /// it is no part of the message.
    pub(super) fn violation(&self, kind: Violation, what: &'static str, value: Option<&str>) {
        self.route_metrics().violation(kind);
        let bit = 1 << (kind as u8);
        let mut state = self.lock();
        let is_new = state.logged & bit == 0;
        state.logged |= bit;
        drop(state);
        if is_new {
            self.shared.bulletins.violation(&self.topic, kind, what, value);
        }
    }
}

fn body_hash(body: &[u8]) -> BodyHash {
    let mut half = BodyHash::default();
    half.copy_from_slice(&blake3::hash(body).as_bytes()[..16]);
    half
}

/// `application/json`, `text/json` or `application/…+json`.
fn is_json(content_type: Option<&HeaderValue>) -> bool {
    let text = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media.ends_with("/json") || media.ends_with("+json")
}
