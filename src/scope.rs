//! Who may share what: the credential scope of a request, and the headers that requests made on its behalf carry.
//!
//! Never may one user's data reach another. A topic's key holds the scope, so two requests share a topic only when
//! everything that the app could tell them apart by is the same: the credential headers (`--credential-header`), unless
//! the route says `share=authorized` or `share=public`, and always the place they asked (`Host`, `Origin` and the
//! `X-Forwarded-*` that name it), because one app may serve several tenants.
//!
//! Credentials live in memory only. They are never logged or shown: `Debug` of every type here hides them.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicU8, Ordering},
    },
};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::{advice::traces::Badge, metrics::CloseReason};

/// Headers that name the place a client asked. They are part of every scope and go upstream in every mode.
const PLACE: [HeaderName; 4] = [
    header::HOST,
    header::ORIGIN,
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
];

/// Cookies and headers of one request that are compared, and the longest name of a cookie that may be shown.
const BADGES_MAX: usize = 32;
const COOKIE_NAME_MAX: usize = 48;

/// A keyed hash of what tells users apart. The key is random per process, so nobody outside can search for two
/// credentials that meet, and a scope means nothing in another process.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scope([u8; 16]);

/// The headers of one client that requests on its behalf carry: credentials and place, copied out of the request so that
/// the connection's buffers are not kept alive by them. Every topic has one, so they are packed.
#[derive(Clone, Default)]
pub struct Identity {
    /// All names there may be.
    names: Arc<[HeaderName]>,
    /// Header after header: the index of its name, the length of its value, the value.
    packed: Box<[u8]>,
}

/// Bytes of a name's index and of a value's length: no list of names and no head of a request is longer than these can say.
const INDEX: usize = 2;
const LENGTH: usize = 4;

/// Makes scopes out of request headers.
pub struct Scopes {
    key: [u8; 32],
    /// Another random key, for [`Scopes::badges`].
    marks: RandomState,
    /// The headers that name the place, then those that hold credentials.
    names: Arc<[HeaderName]>,
}

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

// === impl Scopes ===

impl Scopes {
    /// Scopes told apart by `credential_headers`, under a fresh random key.
    pub fn new(credential_headers: Vec<HeaderName>) -> Self {
        // What names the place is in every scope anyway; named twice it would go to the app twice, and two `Host` are a
        // request that servers refuse.
        let credentials = credential_headers.into_iter().filter(|name| !PLACE.contains(name));
        Self { key: rand::random(), marks: RandomState::new(), names: PLACE.into_iter().chain(credentials).collect() }
    }

    /// The scope and identity of a request with its credentials.
    pub fn with_credentials(&self, headers: &HeaderMap) -> (Scope, Identity) {
        self.of(headers, self.names.len())
    }

    /// The scope and identity of a request without its credentials: only the place it asked.
    pub fn without_credentials(&self, headers: &HeaderMap) -> (Scope, Identity) {
        self.of(headers, PLACE.len())
    }

    fn of(&self, headers: &HeaderMap, first_names: usize) -> (Scope, Identity) {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        let mut packed = Vec::new();
        // Lengths go in before the bytes, so that no value can pretend to be two.
        let mut feed = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        for (index, name) in self.names[..first_names].iter().enumerate() {
            let values = headers.get_all(name);
            feed(name.as_str().as_bytes());
            feed(&(values.iter().count() as u64).to_le_bytes());
            for value in values {
                feed(value.as_bytes());
                packed.extend_from_slice(&index.to_le_bytes()[..INDEX]);
                packed.extend_from_slice(&value.len().to_le_bytes()[..LENGTH]);
                packed.extend_from_slice(value.as_bytes());
            }
        }
        let mut scope = [0; 16];
        scope.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        (Scope(scope), Identity { names: Arc::clone(&self.names), packed: packed.into() })
    }
}

impl Scopes {
    /// What tells users apart, piece by piece and without a value: which cookies and headers there are, and whether they
    /// are the same as in another request.
    pub fn badges(&self, headers: &HeaderMap) -> Vec<Badge> {
        let names = &self.names[PLACE.len()..];
        let values =
            names.iter().flat_map(|name| headers.get_all(name).iter().map(move |value| (name, value.as_bytes())));
        values.flat_map(|(name, value)| self.badges_of(name, value)).take(BADGES_MAX).collect()
    }

    fn badges_of(&self, name: &HeaderName, value: &[u8]) -> Vec<Badge> {
        let badge = |name: &str, value: &[u8]| Badge { name: name.into(), mark: self.marks.hash_one((name, value)) };
        if name != header::COOKIE {
            return vec![badge(name.as_str(), value)];
        }
        // What has no name, or one that is no name, could be a value.
        let pairs = value.split(|byte| *byte == b';').filter_map(|pair| {
            let at = pair.iter().position(|byte| *byte == b'=')?;
            let name = std::str::from_utf8(pair[..at].trim_ascii()).ok().filter(|name| is_cookie_name(name))?;
            Some(badge(name, pair[at + 1..].trim_ascii()))
        });
        pairs.collect()
    }
}

/// Letters, digits and the signs that people use in names (RFC 6265 has a few more).
fn is_cookie_name(name: &str) -> bool {
    let is_sign = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (1..=COOKIE_NAME_MAX).contains(&name.len()) && name.chars().all(is_sign)
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scopes").field("names", &self.names).finish_non_exhaustive()
    }
}

// === impl Scope ===

impl Scope {
    /// A short name for something of this scope. The whole scope goes in, which nobody outside knows, so that the name of
    /// job 7 can't be found by trying.
    pub fn name(&self, of: &str) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        hasher.update(of.as_bytes());
        hasher.finalize().to_hex()[..12].to_owned()
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Enough to tell topics apart on the admin side; it is a keyed hash, and leads back to nobody.
        for byte in &self.0[..4] {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

// === impl Identity ===

impl Identity {
    /// Puts the headers into a request to the app.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in self.headers() {
            let mut value = HeaderValue::from_bytes(value).expect("was a header value before");
            value.set_sensitive(true);
            headers.append(name, value);
        }
    }

    fn headers(&self) -> impl Iterator<Item = (&HeaderName, &[u8])> {
        let mut rest = &*self.packed;
        std::iter::from_fn(move || {
            let (index, length) = (number::<INDEX>(&mut rest)?, number::<LENGTH>(&mut rest)?);
            Some((&self.names[index], rest.split_off(..length)?))
        })
    }
}

/// The number at the front, taken off.
fn number<const BYTES: usize>(packed: &mut &[u8]) -> Option<usize> {
    let (digits, rest) = packed.split_first_chunk::<BYTES>()?;
    *packed = rest;
    Some(digits.iter().rev().fold(0, |number, digit| (number << 8) | usize::from(*digit)))
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.headers().count()).finish()
    }
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

    fn scopes() -> Scopes {
        Scopes::new(vec![header::COOKIE, header::AUTHORIZATION])
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn the_same_credentials_are_one_scope_and_others_are_not() {
        let scopes = scopes();
        let scope = |pairs: &[(&'static str, &'static str)]| scopes.with_credentials(&headers(pairs)).0;

        assert_eq!(scope(&[("cookie", "s=a"), ("accept", "x")]), scope(&[("cookie", "s=a"), ("accept", "y")]));
        assert_ne!(scope(&[("cookie", "s=a")]), scope(&[("cookie", "s=b")]));
        assert_ne!(scope(&[("cookie", "s=a")]), scope(&[]));
        assert_ne!(scope(&[("cookie", "s=a")]), scope(&[("authorization", "s=a")]));
    }

    // Two header lines and one line that holds both texts reach the app differently, so they are different people.
    #[test]
    fn duplicates_can_not_pretend_to_be_one_value() {
        let scopes = scopes();
        let scope = |pairs: &[(&'static str, &'static str)]| scopes.with_credentials(&headers(pairs)).0;

        assert_ne!(scope(&[("cookie", "a"), ("cookie", "b")]), scope(&[("cookie", "a; b")]));
        assert_ne!(scope(&[("cookie", "a"), ("cookie", "b")]), scope(&[("cookie", "b"), ("cookie", "a")]));
        assert_ne!(scope(&[("cookie", "ab"), ("cookie", "")]), scope(&[("cookie", "a"), ("cookie", "b")]));
    }

    #[test]
    fn tenants_of_one_app_never_share_even_without_credentials() {
        let scopes = scopes();
        let public = |host: &'static str| scopes.without_credentials(&headers(&[("host", host), ("cookie", "s=a")])).0;

        assert_ne!(public("a.example"), public("b.example"));
        assert_eq!(public("a.example"), public("a.example"));
    }

    #[test]
    fn public_identities_carry_no_credentials() {
        let (_, identity) = scopes().without_credentials(&headers(&[("host", "h"), ("cookie", "s=a")]));
        let mut out = HeaderMap::new();
        identity.apply(&mut out);

        assert_eq!(out.get("host").unwrap(), "h");
        assert!(out.get("cookie").is_none());
    }

    // An app refuses a request with two hosts.
    #[test]
    fn a_place_that_is_named_as_a_credential_goes_to_the_app_once() {
        let scopes = Scopes::new(vec![header::HOST, HeaderName::from_static("x-forwarded-host"), header::COOKIE]);
        let sent = headers(&[("host", "h"), ("x-forwarded-host", "f"), ("cookie", "s=a")]);
        let (_, identity) = scopes.with_credentials(&sent);
        let mut out = HeaderMap::new();
        identity.apply(&mut out);

        assert_eq!(out, sent);
    }

    // The name of a cookie is told to the operator; its value is not even kept.
    #[test]
    fn credentials_are_compared_by_name_and_mark() {
        let scopes = scopes();
        let badges = |cookie: &'static str| scopes.badges(&headers(&[("cookie", cookie), ("authorization", "b")]));
        let (one, other) = (badges("lang=en; stamp=1"), badges("lang=en;stamp=2; hunter2; =hunter2; a b=hunter2"));

        let names = |badges: &[Badge]| badges.iter().map(|badge| badge.name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(&one), ["lang", "stamp", "authorization"]);
        assert_eq!(names(&other), names(&one));
        let same: Vec<_> = one.iter().zip(&other).map(|(one, other)| one == other).collect();
        assert_eq!(same, [true, false, true]);
        assert!(!format!("{other:?}").contains("hunter2"));
    }

    #[test]
    fn nothing_here_shows_a_secret() {
        let (scope, identity) = scopes().with_credentials(&headers(&[("cookie", "s=hunter2")]));
        let lender = Lender::new(scope, identity.clone());

        let mut sent = HeaderMap::new();
        identity.apply(&mut sent);
        let shown = format!("{identity:?} {lender:?} {:?} {:?}", scopes(), sent);
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn another_admitted_client_takes_over_from_a_denied_one() {
        let scopes = scopes();
        let lender = |cookie: &'static str| {
            let (scope, identity) = scopes.with_credentials(&headers(&[("cookie", cookie)]));
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

    #[test]
    fn a_lender_that_left_is_not_asked_again() {
        let (scope, identity) = scopes().with_credentials(&headers(&[("cookie", "a")]));
        let lender = Lender::new(scope, identity);
        let lenders = Lenders::admitted(&lender);
        assert!(lenders.current().is_some());

        drop(lender);

        assert!(lenders.current().is_none());
    }
    // A stream of the app that stays open for days needs no election, while clients come and go.
    #[test]
    fn those_who_left_do_not_pile_up() {
        let (scope, identity) = scopes().with_credentials(&headers(&[("cookie", "a")]));
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
