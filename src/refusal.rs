//! A decision of the app against a client, kept to be told in the app's own words: 401, 403, 404, a redirect, 204.

use std::{fmt, sync::Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::scope::Scope;

/// An answer of the app that takes the place of a stream. Its `Debug` keeps what the app said to that client to itself.
pub struct Refusal {
    /// Its status.
    pub status: StatusCode,
    /// Its end-to-end headers, without cookies.
    pub headers: HeaderMap,
    /// Its body, whole.
    pub body: Bytes,
    /// `Set-Cookie` of the answer: given away once. Several clients may wait for one answer, and those without any
    /// credentials are not the same person; two of them must not get the same new session.
    cookies: Mutex<Vec<HeaderValue>>,
    /// Whose request was refused, when the topic is shared with others; `None` while it is not said.
    told_to: Option<Scope>,
}

// === impl Refusal ===

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusal").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Refusal {
    /// Keeps what a client may see of an answer. `headers` must not hold hop-by-hop headers any more.
    pub fn new(status: StatusCode, mut headers: HeaderMap, body: Bytes) -> Self {
        let cookies = headers.get_all(header::SET_COOKIE).iter().cloned().collect();
        // The body is sent anew, and its length with it.
        for name in [header::SET_COOKIE, header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
            headers.remove(name);
        }
        Self { status, headers, body, cookies: Mutex::new(cookies), told_to: None }
    }

    /// Says whose request it was that the app refused.
    pub fn told_to(mut self, scope: Scope) -> Self {
        self.told_to = Some(scope);
        self
    }

    /// Whether somebody of `scope` may read it: nobody may read what the app said to another.
    pub fn is_for(&self, scope: Scope) -> bool {
        self.told_to == Some(scope)
    }

    /// The cookies, for the first who asks.
    pub fn take_cookies(&self) -> Vec<HeaderValue> {
        std::mem::take(&mut *self.cookies.lock().expect("no code panics under this lock"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_session_is_given_to_one_client_only() {
        let mut headers = HeaderMap::new();
        headers.append(header::SET_COOKIE, HeaderValue::from_static("s=1"));
        headers.append(header::SET_COOKIE, HeaderValue::from_static("t=2"));
        let refusal = Refusal::new(StatusCode::UNAUTHORIZED, headers, Bytes::new());

        assert_eq!(refusal.take_cookies().len(), 2);
        assert!(refusal.take_cookies().is_empty());
        assert!(!refusal.headers.contains_key(header::SET_COOKIE));
    }
}
