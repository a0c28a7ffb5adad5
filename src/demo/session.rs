//! Who is asking: a random cookie, given out with the page.

use http::HeaderMap;
use http::header::COOKIE;

const NAME: &str = "sidestream_demo";

/// The user of one browser, or everybody without a cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session(String);

// === impl Session ===

impl Session {
    pub(super) fn fresh() -> Self {
        Self(format!("{:032x}", rand::random::<u128>()))
    }

    /// Those who send no cookie are one user, so that `curl` can use the whole app.
    pub(super) fn anonymous() -> Self {
        Self(String::new())
    }

    /// The session the request's cookie names. Anything we can't have given out counts as no cookie.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(name, value)| *name == NAME && value.len() == 32 && value.bytes().all(|b| b.is_ascii_hexdigit()))
            .map(|(_, value)| Self(value.to_owned()))
    }

    /// The value of the `Set-Cookie` that gives the session to a browser, until the browser is closed.
    pub(super) fn cookie(&self) -> String {
        format!("{NAME}={}; Path=/; HttpOnly; SameSite=Lax", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(cookie: &str) -> Option<Session> {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, cookie.parse().unwrap());
        Session::of(&headers)
    }

    #[test]
    fn a_session_comes_back_from_the_cookie_it_was_sent_as() {
        let session = Session::fresh();
        let cookie = session.cookie();
        let pair = cookie.split(';').next().unwrap();
        assert_eq!(sent(&format!("theme=dark; {pair}; x=y")), Some(session));
    }

    #[test]
    fn a_cookie_we_never_gave_out_is_no_session() {
        assert_eq!(sent("sidestream_demo=1"), None);
        assert_eq!(sent("sidestream_demo=zz2d3c4b5a69788796a5b4c3d2e1f001"), None);
        assert_eq!(sent("other=0f2d3c4b5a69788796a5b4c3d2e1f001"), None);
    }
}
