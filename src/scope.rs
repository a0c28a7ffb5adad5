//! Who may share what: the credential scope of a request, and the headers that requests made on its behalf carry.
//!
//! Never may one user's data reach another. A topic's key holds the scope, so two requests share a topic only when
//! everything that the app could tell them apart by is the same: the credential headers (`--credential-header`), unless
//! the route says `share=authorized` or `share=public`, and always the place they asked (`Host`, `Origin` and the
//! `X-Forwarded-*` that name it), because one app may serve several tenants.
//!
//! A client's address goes to the app with what is asked on its behalf, so that it answers as if the client had asked. It is
//! compared only where `--credential-header` names it: one user's tabs may have several.
//!
//! Credentials live in memory only. They are never logged or shown: `Debug` of every type here, and in `lenders`, hides
//! them.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::Arc,
};

use http::{HeaderMap, HeaderName, HeaderValue, header};

mod lenders;

pub use self::lenders::{Admitted, Lender, Lenders};
use crate::advice::traces::Badge;

/// Headers that name the place a client asked. They are part of every scope and go upstream in every mode.
const PLACE: [HeaderName; 4] = [header::HOST, header::ORIGIN, X_FORWARDED_HOST, X_FORWARDED_PROTO];
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Headers that name the client's address. They go upstream in every mode, and are part of no scope by themselves.
const ADDRESS: [HeaderName; 2] = [X_FORWARDED_FOR, HeaderName::from_static("x-real-ip")];
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Cookies and headers of one request that are compared, and the longest name of a cookie that may be shown.
const BADGES_MAX: usize = 32;
const COOKIE_NAME_MAX: usize = 48;

/// A keyed hash of what tells users apart. The key is random per process, so nobody outside can search for two
/// credentials that meet, and a scope means nothing in another process.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scope([u8; 16]);

/// The headers of one client that requests on its behalf carry: credentials, place and address, copied out of the request
/// so that the connection's buffers are not kept alive by them. Every topic has one, so they are packed.
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
    /// The headers that name the place, then those that hold credentials, then those that name the address and are none.
    names: Arc<[HeaderName]>,
    /// How many of them tell users apart.
    compared: usize,
}

// === impl Scopes ===

impl Scopes {
    /// Scopes told apart by `credential_headers`, under a fresh random key.
    pub fn new(credential_headers: Vec<HeaderName>) -> Self {
        // What names the place is in every scope anyway; named twice it would go to the app twice, and two `Host` are a
        // request that servers refuse.
        let credentials = credential_headers.into_iter().filter(|name| !PLACE.contains(name));
        let mut names: Vec<_> = PLACE.into_iter().chain(credentials).collect();
        let compared = names.len();
        names.extend(ADDRESS.into_iter().filter(|name| !names.contains(name)).collect::<Vec<_>>());
        Self { key: rand::random(), marks: RandomState::new(), names: names.into(), compared }
    }

    /// The scope and identity of a request of the client at `address`, with its credentials.
    pub fn with_credentials(&self, headers: &HeaderMap, address: IpAddr) -> (Scope, Identity) {
        self.of(headers, address, self.compared)
    }

    /// The same without its credentials: only the place it asked, and for the app its address.
    pub fn without_credentials(&self, headers: &HeaderMap, address: IpAddr) -> (Scope, Identity) {
        self.of(headers, address, PLACE.len())
    }

    fn of(&self, headers: &HeaderMap, address: IpAddr, compared: usize) -> (Scope, Identity) {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        let mut packed = Vec::new();
        // Lengths go in before the bytes, so that no value can pretend to be two.
        let mut feed = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        for (index, name) in self.names.iter().enumerate() {
            let is_compared = index < compared;
            if !is_compared && !ADDRESS.contains(name) {
                continue;
            }
            // As for forwarded requests: what a proxy says of the client stands, and else it is who asks us.
            let own = (*name == X_FORWARDED_FOR && !headers.contains_key(name)).then(|| address.to_string());
            let values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
            let values: Vec<_> = values.chain(own.as_deref().map(str::as_bytes)).collect();
            if is_compared {
                feed(name.as_str().as_bytes());
                feed(&(values.len() as u64).to_le_bytes());
                values.iter().for_each(|value| feed(value));
            }
            for value in values {
                packed.extend_from_slice(&index.to_le_bytes()[..INDEX]);
                packed.extend_from_slice(&value.len().to_le_bytes()[..LENGTH]);
                packed.extend_from_slice(value);
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
        let names = &self.names[PLACE.len()..self.compared];
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
    /// Puts the headers into a request to the app, and what forwarded requests are given where it is absent.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in self.headers() {
            let mut value = HeaderValue::from_bytes(value).expect("was a header value before");
            value.set_sensitive(true);
            headers.append(name, value);
        }
        if !headers.contains_key(X_FORWARDED_PROTO) {
            headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
        }
        if !headers.contains_key(X_FORWARDED_HOST)
            && let Some(host) = headers.get(header::HOST).cloned()
        {
            headers.insert(X_FORWARDED_HOST, host);
        }
    }

    /// Whether a page of another origin may have asked: browsers name the origin then.
    pub fn names_origin(&self) -> bool {
        self.headers().any(|(name, _)| *name == header::ORIGIN)
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
