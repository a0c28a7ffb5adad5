//! Whose credentials a topic may use, and whose turn it is.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicU8, Ordering},
    },
};

use super::{Identity, Scope};
use crate::metrics::CloseReason;

/// A client whose credentials a topic may use: the one it was made for, or, on `share=authorized` routes, any that the
/// app has admitted.
pub struct Lender {
    scope: Scope,
    identity: Identity,
    /// 0 while welcome, otherwise the reason its streams end, plus one. Written by the source, read by the streams.
    denied: AtomicU8,
}

/// The clients whose credentials a topic may use, in the order they came.
#[derive(Debug)]
pub enum Lenders {
    /// One scope is all it has; held for the topic's whole life.
    Fixed(Arc<Lender>),
    /// Written by admissions and elections.
    Admitted(Box<Mutex<Admitted>>),
}

/// The clients that the app has admitted to one topic.
#[derive(Debug)]
pub struct Admitted {
    /// A lender that left is taken out at the next election, or when the list would have to grow.
    lenders: Vec<Weak<Lender>>,
    /// The last one was turned away, and the topic ends with the app's words to it: they are not for anybody else.
    is_closed: bool,
}

// === impl Lender ===

impl Lender {
    /// A lender that no source has turned away yet.
    pub fn new(scope: Scope, identity: Identity) -> Arc<Self> {
        Arc::new(Self { scope, identity, denied: AtomicU8::new(0) })
    }

    /// The headers to send on its behalf.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whose they are.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Why its streams must end, if the app turned it away.
    pub fn denied(&self) -> Option<CloseReason> {
        let code = self.denied.load(Ordering::Acquire);
        CloseReason::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }

    fn deny(&self, reason: CloseReason) {
        self.denied.store(reason as u8 + 1, Ordering::Release);
    }
}

impl fmt::Debug for Lender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lender").field("scope", &self.scope).field("denied", &self.denied()).finish_non_exhaustive()
    }
}

// === impl Lenders ===

impl Lenders {
    /// One scope for the topic's whole life.
    pub fn fixed(lender: Arc<Lender>) -> Self {
        Self::Fixed(lender)
    }

    /// Whoever the app admits, while they stay; `first` is the first of them.
    pub fn admitted(first: &Arc<Lender>) -> Self {
        let admitted = Admitted { lenders: vec![Arc::downgrade(first)], is_closed: false };
        Self::Admitted(Box::new(Mutex::new(admitted)))
    }

    /// Adds a client that the app has just admitted; it counts for as long as the caller keeps it. False when it came too
    /// late: the topic ends with the last lender, and this client needs another.
    #[must_use]
    pub fn admit(&self, lender: &Arc<Lender>) -> bool {
        let Self::Admitted(admitted) = self else { return true };
        let mut admitted = lock(admitted);
        if admitted.is_closed {
            return false;
        }
        // On a topic whose source seldom needs an election, a stream that stays open for days, clients come and go
        // between two of them.
        if admitted.lenders.len() == admitted.lenders.capacity() {
            admitted.lenders.retain(|lender| lender.strong_count() > 0);
        }
        admitted.lenders.push(Arc::downgrade(lender));
        true
    }

    /// The lender whose turn it is: the first that is still here and welcome.
    pub fn current(&self) -> Option<Arc<Lender>> {
        match self {
            Self::Fixed(lender) => Some(Arc::clone(lender)),
            Self::Admitted(admitted) => lock(admitted).elect(),
        }
    }

    /// The app turned `lender` away: every client of its scope is denied. True when somebody else can take its place,
    /// so that only that scope's streams have to end; otherwise nobody is admitted any more.
    pub fn deny(&self, lender: &Lender, reason: CloseReason) -> bool {
        let Self::Admitted(admitted) = self else { return false };
        lender.deny(reason);
        let mut admitted = lock(admitted);
        for other in admitted.lenders.iter().filter_map(Weak::upgrade) {
            if other.scope == lender.scope {
                other.deny(reason);
            }
        }
        admitted.is_closed = admitted.elect().is_none();
        !admitted.is_closed
    }

    /// What the app answers `lender` can't be read: it is not denied anything, but the clients of other scopes have their
    /// turns before those of its own. True when there is somebody.
    pub fn pass_on(&self, lender: &Lender) -> bool {
        let Self::Admitted(admitted) = self else { return false };
        let mut admitted = lock(admitted);
        admitted.lenders.sort_by_cached_key(|other| other.upgrade().is_some_and(|other| other.scope == lender.scope));
        admitted.elect().is_some_and(|next| next.scope != lender.scope)
    }
}

fn lock(admitted: &Mutex<Admitted>) -> MutexGuard<'_, Admitted> {
    admitted.lock().expect("no code panics under this lock")
}

// === impl Admitted ===

impl Admitted {
    fn elect(&mut self) -> Option<Arc<Lender>> {
        let is_welcome = |lender: &Arc<Lender>| lender.denied().is_none();
        let mut places = self.lenders.iter().enumerate();
        let found = places.find_map(|(place, lender)| Some((place, lender.upgrade().filter(is_welcome)?)));
        // Whoever stands before it will not be welcome again.
        self.lenders.drain(..found.as_ref().map_or(self.lenders.len(), |(place, _)| *place));
        found.map(|(_, lender)| lender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope::tests::{LOCAL, headers, scopes};

    #[test]
    fn another_admitted_client_takes_over_from_a_denied_one() {
        let scopes = scopes();
        let lender = |cookie: &'static str| {
            let (scope, identity) = scopes.with_credentials(&headers(&[("cookie", cookie)]), LOCAL);
            Lender::new(scope, identity)
        };
        let (a, a2, b) = (lender("a"), lender("a"), lender("b"));
        let lenders = Lenders::admitted(&a);
        assert!(lenders.admit(&a2) && lenders.admit(&b));

        assert!(lenders.deny(&a, CloseReason::Denied));

        assert_eq!(a2.denied(), Some(CloseReason::Denied), "the whole scope is denied");
        assert_eq!(b.denied(), None);
        assert!(Arc::ptr_eq(&lenders.current().unwrap(), &b));
        assert!(!lenders.deny(&b, CloseReason::Done), "nobody is left");
        assert_eq!(b.denied(), Some(CloseReason::Done));
        assert!(!lenders.admit(&lender("c")), "the topic ends with b");
    }

    // A session that is over may be answered with a login page, and status 200.
    #[test]
    fn another_client_has_the_turn_of_one_whose_answers_make_no_sense() {
        let scopes = scopes();
        let lender = |cookie: &'static str| {
            let (scope, identity) = scopes.with_credentials(&headers(&[("cookie", cookie)]), LOCAL);
            Lender::new(scope, identity)
        };
        let (a, a2) = (lender("a"), lender("a"));
        let lenders = Lenders::admitted(&a);
        assert!(lenders.admit(&a2));
        assert!(!lenders.pass_on(&a), "nobody else is there");
        let (b, c) = (lender("b"), lender("c"));
        assert!(lenders.admit(&b) && lenders.admit(&c));

        for (of, next) in [(&a, &b), (&b, &c), (&c, &a), (&a2, &b)] {
            assert!(lenders.pass_on(of));
            assert!(Arc::ptr_eq(&lenders.current().unwrap(), next));
        }
        assert!([&a, &a2, &b, &c].iter().all(|lender| lender.denied().is_none()));
        assert!(!Lenders::fixed(Arc::clone(&a)).pass_on(&a), "nobody else may be asked for");
    }

    #[test]
    fn a_lender_that_left_is_not_asked_again() {
        let (scope, identity) = scopes().with_credentials(&headers(&[("cookie", "a")]), LOCAL);
        let lender = Lender::new(scope, identity);
        let lenders = Lenders::admitted(&lender);
        assert!(lenders.current().is_some());

        drop(lender);

        assert!(lenders.current().is_none());
    }

    // A stream of the app that stays open for days needs no election, while clients come and go.
    #[test]
    fn those_who_left_do_not_pile_up() {
        let (scope, identity) = scopes().with_credentials(&headers(&[("cookie", "a")]), LOCAL);
        let stays = Lender::new(scope, identity.clone());
        let lenders = Lenders::admitted(&stays);
        for _ in 0..1000 {
            assert!(lenders.admit(&Lender::new(scope, identity.clone())));
        }
        let Lenders::Admitted(admitted) = &lenders else { panic!("a topic for all") };
        assert!(lock(admitted).lenders.len() < 10);
        assert!(Arc::ptr_eq(&lenders.current().unwrap(), &stays));
    }
}
