//! Who may share what: the credential scope of a request, and the headers that requests made on its behalf carry.
//!
//! Never may one user's data reach another. A topic's key holds the scope, so two requests share a topic only when
//! everything that the app could tell them apart by is the same: the credential headers (`--credential-header`), unless
//! the route says `share=authorized` or `share=public`, and always the place they asked (`Host`, `Origin` and the
//! `X-Forwarded-*` that name it), because one app may serve several tenants.
//!
//! Credentials live in memory only. They are never logged or shown: `Debug` of every type here, and in `lenders`, hides
//! them.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use http::{HeaderMap, HeaderName, HeaderValue, header};

mod lenders;

pub use self::lenders::{Admitted, Lender, Lenders};
use crate::advice::traces::Badge;

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

#[cfg(test)]
mod tests;
