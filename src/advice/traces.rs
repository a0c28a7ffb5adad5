//! What streams leave behind beside counts, so that advice can be made of it: bounded lists of what came last.
//!
//! Each is written under a short lock of its own, by whoever opens or closes a stream. Nothing is kept per stream: what a
//! stream's end has to tell is derived, at its end, from what is there.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::topic::StatusSeen;

/// So many of the last ends, visitors and departures are kept: enough for a share of them to mean something.
const KEPT_MAX: usize = 256;
/// Requests whose credentials are compared.
const BADGES_MAX: usize = 64;

/// A stream that its client ended, or somebody between.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct End {
    /// When.
    pub at: Instant,
    /// How long it had been open.
    pub lifetime: Duration,
    /// How long nothing had been sent to it.
    pub silence: Duration,
}

/// Who asked for a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// The address, as far as it is believed.
    pub address: IpAddr,
    /// It names others in `X-Forwarded-For`, and is not believed.
    pub names_others: bool,
}

/// One credential of a request: its name, and a keyed hash that tells whether it is the same as in another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Badge {
    /// The name of a cookie or a header; never a value.
    pub name: Box<str>,
    /// Means nothing outside of this process.
    pub mark: u64,
}

/// Clients that came back with a `Last-Event-ID` while their topic must still have lingered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Returns {
    /// They found it.
    pub found: u64,
    /// They did not.
    pub lost: u64,
}

/// What the streams of one route leave behind.
#[derive(Debug, Default)]
pub struct Traces {
    ends: Mutex<VecDeque<End>>,
    /// Clients that came back to a job of which they had seen the end.
    came_after_end: AtomicU64,
    returns: Mutex<Departures>,
    badges: Mutex<VecDeque<Vec<Badge>>>,
    /// The last status that was not a known word.
    unknown_status: Mutex<Option<Arc<StatusSeen>>>,
}

/// Who left lately, and where it stood; and who of them came back.
#[derive(Debug, Default)]
struct Departures {
    left: VecDeque<(Instant, u64)>,
    returns: Returns,
}

/// Who asked for streams lately, over all routes.
#[derive(Debug, Default)]
pub struct Visitors(Mutex<VecDeque<Visitor>>);

// === impl Traces ===

impl Traces {
    /// A client ended a stream that had been open for `lifetime` and had been sent nothing for `silence`.
    pub fn ended(&self, end: End) {
        push(&mut lock(&self.ends), end, KEPT_MAX);
    }

    /// The ends since `moment`, the oldest first.
    pub fn ends_since(&self, moment: Option<Instant>) -> Vec<End> {
        lock(&self.ends).iter().filter(|end| moment.is_none_or(|moment| end.at >= moment)).copied().collect()
    }

    /// A client left a topic that goes on; `standing` is where it stood (see [`crate::topic::standing`]).
    pub fn left(&self, at: Instant, standing: u64) {
        push(&mut lock(&self.returns).left, (at, standing), KEPT_MAX);
    }

    /// A client came with a `Last-Event-ID`, and its topic was `found` or had to be made. It counts only if somebody who
    /// stood there has left within the `linger`: after a restart nobody finds anything, nor does a laptop that slept.
    pub fn came_back(&self, now: Instant, linger: Duration, standing: u64, found: bool) {
        let mut departures = lock(&self.returns);
        let is_it = |left: &(Instant, u64)| left.1 == standing && now.duration_since(left.0) < linger;
        let Some(at) = departures.left.iter().position(is_it) else { return };
        departures.left.remove(at);
        match found {
            true => departures.returns.found += 1,
            false => departures.returns.lost += 1,
        }
    }

    /// Who came back so far.
    pub fn returns(&self) -> Returns {
        lock(&self.returns).returns
    }

    /// A client came back to a job of which it had seen the end.
    pub fn came_after_end(&self) {
        self.came_after_end.fetch_add(1, Ordering::Relaxed);
    }

    /// How many did so far.
    pub fn came_after_end_count(&self) -> u64 {
        self.came_after_end.load(Ordering::Relaxed)
    }

    /// The credentials of a request.
    pub fn badges_seen(&self, badges: Vec<Badge>) {
        push(&mut lock(&self.badges), badges, BADGES_MAX);
    }

    /// The credentials of the last requests.
    pub fn badges(&self) -> Vec<Vec<Badge>> {
        lock(&self.badges).iter().cloned().collect()
    }

    /// The app answered a status that is no known word.
    pub fn unknown_status(&self, seen: Option<Arc<StatusSeen>>) {
        *lock(&self.unknown_status) = seen;
    }

    /// The last such status.
    pub fn last_unknown_status(&self) -> Option<Arc<StatusSeen>> {
        lock(&self.unknown_status).clone()
    }
}

// === impl Visitors ===

impl Visitors {
    /// Somebody asked for a stream.
    pub fn came(&self, visitor: Visitor) {
        push(&mut lock(&self.0), visitor, KEPT_MAX);
    }

    /// Those who asked last.
    pub fn last(&self) -> Vec<Visitor> {
        lock(&self.0).iter().copied().collect()
    }
}

fn push<T>(kept: &mut VecDeque<T>, item: T, max: usize) {
    if kept.len() >= max {
        kept.pop_front();
    }
    kept.push_back(item);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no code panics under this lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_are_kept() {
        let (traces, began) = (Traces::default(), Instant::now());
        for second in 0..1000 {
            let at = began + Duration::from_secs(second);
            traces.ended(End { at, lifetime: Duration::ZERO, silence: Duration::ZERO });
            traces.left(at, 0);
            traces.badges_seen(Vec::new());
        }
        assert_eq!((traces.ends_since(None).len(), traces.badges().len()), (KEPT_MAX, BADGES_MAX));
        assert_eq!(traces.ends_since(Some(began + Duration::from_secs(990))).len(), 10);
    }

    // After a restart everybody comes back, and nobody finds a topic; that is nobody's fault.
    #[test]
    fn who_comes_back_counts_only_for_somebody_who_has_just_left() {
        let (traces, now) = (Traces::default(), Instant::now());
        let linger = Duration::from_secs(10);
        traces.came_back(now, linger, 7, false);
        assert_eq!(traces.returns(), Returns { found: 0, lost: 0 });

        traces.left(now, 7);
        traces.left(now, 9);
        traces.came_back(now + Duration::from_secs(3), linger, 7, true);
        traces.came_back(now + Duration::from_secs(3), linger, 7, false);
        assert_eq!(traces.returns(), Returns { found: 1, lost: 0 }, "one left, so one came back");

        traces.came_back(now + linger, linger, 9, false);
        assert_eq!(traces.returns().lost, 0, "its topic is gone by now, and should be");
        traces.left(now, 9);
        traces.came_back(now, linger, 9, false);
        assert_eq!(traces.returns().lost, 1);
    }
}
