//! A topic as its source has it: what the app says, and how it ends.
//!
//! Whatever readers are to get takes the next number and wakes them. An answer that only confirms what they have wakes
//! nobody but those who wait to be let in.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    End, StatusSeen, Store, Topic,
    kept::{Entry, Id, Log},
};
use crate::{
    event::{self, Frame},
    grant::Grant,
    metrics::{CloseReason, Phase},
    refusal::Refusal,
};

// === impl Topic ===

impl Topic {
    /// What a good answer grants to pages of another origin. To be said before what the answer brings: that lets clients
    /// in, who look for it at once.
    pub fn grants(&self, grant: Option<Grant>) {
        let mut inner = self.lock();
        // Nearly always the same again, and then nothing is allocated that stays.
        if inner.grant.as_deref() != grant.as_ref() {
            inner.grant = grant.map(Arc::new);
        }
    }

    /// The job's latest status, and its end if this is the last. The same id again only confirms it. True when
    /// subscribers get something new.
    pub fn snapshot(&self, id: &str, frame: Frame, at: Instant, end: Option<End>) -> bool {
        let mut inner = self.lock();
        let was_told = inner.recovered(at);
        let known = inner.kept.newest().is_some_and(|entry| entry.id.is(id));
        if !known {
            let seq = inner.next_seq();
            // State, not a log: only the newest is kept, so a reader that was away gets the latest.
            inner.kept.replace(Entry { seq, id: Id::new(id), frame, at });
            self.metrics.route(self.key.route).events_published.inc();
            inner.end = None;
        } else if was_told {
            inner.tell_again(at);
        }
        let mut is_news = !known;
        match end {
            // The same end again keeps its place: whoever got it is not told twice.
            Some(end) if inner.end.is_none() => {
                let seq = inner.next_seq();
                inner.end = Some(Box::new((seq, end)));
                is_news = true;
            }
            Some(_) => {}
            None => inner.end = None,
        }
        if inner.end.is_some() {
            inner.phase.set(Phase::Ended);
        }
        if is_news {
            inner.wake();
        }
        !known
    }

    /// One event of the app's stream, with the id it carries on our wire. True while a burst is kept beyond the bounds of the
    /// window, to be [trimmed](Topic::trim) when it is over.
    pub fn event(&self, id: Option<&str>, frame: Frame, at: Instant) -> bool {
        let mut inner = self.lock();
        inner.recovered(at);
        let seq = inner.next_seq();
        let entry = Entry { seq, id: id.map_or(Id::None, Id::new), frame, at };
        let greeting = match self.store {
            Store::State => 0,
            Store::Log { greeting, .. } => greeting,
        };
        if !inner.kept.push(entry, greeting) {
            self.metrics.route(self.key.route).greeting_cuts.inc();
        }
        self.metrics.route(self.key.route).events_published.inc();
        inner.wake();
        inner.kept.log().is_some_and(Log::is_crowded)
    }

    /// Lets go of what a burst has left beyond the bounds of the window, as of `now`. True while there still is some.
    pub fn trim(&self, now: Instant) -> bool {
        let mut inner = self.lock();
        let Some(log) = inner.kept.log_mut() else { return false };
        log.trim(now);
        log.is_crowded()
    }

    /// The app answered as expected, with nothing new.
    pub fn confirm(&self) {
        let mut inner = self.lock();
        let now = Instant::now();
        if inner.recovered(now) && self.store == Store::State {
            inner.tell_again(now);
        }
    }

    /// The app answered that a job which is over still is.
    pub fn confirm_ended(&self) {
        let mut inner = self.lock();
        inner.settle();
        inner.checked_at = Some(Instant::now());
    }

    /// A new stream of the app begins; its first events are a new greeting.
    pub fn stream_began(&self) {
        let mut inner = self.lock();
        if let Some(log) = inner.kept.log_mut() {
            log.begin_greeting();
        }
        inner.recovered(Instant::now());
    }

    /// The app is in trouble. Streams stay open, and are told once per outage if there is a `notice`.
    ///
    /// A job that is over stays so, and who waits for its end to be confirmed goes on waiting, until the source asks again
    /// or gives it up with [`Topic::let_in`].
    pub fn trouble(&self, notice: Option<Frame>) {
        let mut inner = self.lock();
        if inner.phase.current() == Phase::Ended {
            return;
        }
        inner.settle();
        if inner.phase.current() != Phase::Degraded {
            inner.phase.set(Phase::Degraded);
            inner.notice = None;
            if let Some(frame) = notice {
                let seq = inner.next_seq();
                inner.notice = Some(Box::new(Entry { seq, id: Id::None, frame, at: Instant::now() }));
                inner.wake();
            }
        }
    }

    /// The app decided against whoever asks. Nobody gets data from this topic any more.
    pub fn refuse(&self, refusal: Refusal) {
        let mut inner = self.lock();
        inner.refusal = Some(Arc::new(refusal));
        inner.phase.set(Phase::Ended);
        inner.wake();
    }

    /// It is over; subscribers get what is left and then `end`.
    pub fn end(&self, end: End) {
        let mut inner = self.lock();
        inner.answered = inner.asked;
        inner.notice = None;
        inner.phase.set(Phase::Ended);
        inner.checked_at = Some(Instant::now());
        let seq = inner.next_seq();
        inner.end = Some(Box::new((seq, end)));
        inner.wake();
    }

    /// The job is over, by another sign than its status: subscribers are told `done` with the latest status.
    pub fn finish(&self) {
        let frame = self.lock().kept.newest().map(|entry| event::done(&entry.frame));
        self.end(End { frame, reason: CloseReason::Done, finished: true });
    }

    /// What is known is too old for a newcomer: the source asks again, and newcomers wait for the answer to a question that
    /// is not put to the app yet.
    pub fn unsettle(&self) {
        let mut inner = self.lock();
        inner.awaited = inner.asked.saturating_add(1);
    }

    /// The app is being asked from now on: whoever came before hears the answer to its own question.
    pub fn asking(&self) {
        let mut inner = self.lock();
        inner.asked = inner.asked.saturating_add(1);
    }

    /// What is known has to do for those who wait: the app can't be asked, or not soon enough.
    pub fn let_in(&self) {
        let mut inner = self.lock();
        inner.asked = inner.asked.max(inner.awaited);
        inner.settle();
    }

    /// Whether newcomers are let in at once.
    pub fn is_settled(&self) -> bool {
        self.lock().is_settled()
    }

    /// The status field found.
    pub fn status(&self) -> Option<Arc<StatusSeen>> {
        self.lock().status.clone()
    }

    /// Remembers the status field found, for people.
    pub fn status_seen(&self, status: Option<Arc<StatusSeen>>) {
        self.lock().status = status;
    }

    /// Wakes all subscribers to look at what else concerns them: a lender was denied.
    pub fn nudge(&self) {
        self.lock().wake();
    }
}
