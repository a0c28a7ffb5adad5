//! What the app grants to pages of another origin: that they may read its answers, with credentials or without (CORS, in
//! the Fetch standard). Kept for the heads of streams, since a browser shows a page nothing of a stream without it.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::scope::Identity;

static NAMES: [HeaderName; 3] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
];

/// Longer values, and more lines, are left out: topics keep this, and no browser needs as much.
const VALUE_MAX: usize = 1024;
const LINES_MAX: usize = 6;

/// The headers of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant(Box<[(HeaderName, HeaderValue)]>);

// === impl Grant ===

impl Grant {
    /// What an answer of the app grants to the one for whom it was asked; nothing to who named no origin, and needs none.
    pub fn to(identity: &Identity, answer: &HeaderMap) -> Option<Self> {
        if !identity.names_origin() || !answer.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
            return None;
        }
        // All lines of each, as they are: an app that contradicts itself is to have no more granted than by its own answer.
        let all = NAMES.iter().flat_map(|name| answer.get_all(name).iter().map(move |value| (name, value)));
        let fits = all.filter(|(_, value)| value.len() <= VALUE_MAX).take(LINES_MAX);
        Some(Self::of(fits.map(|(name, value)| (name.clone(), copy(value)))))
    }

    /// For an answer without any data, to whoever asks for it.
    pub fn for_nothing(origin: &HeaderValue) -> Self {
        let yes = HeaderValue::from_static("true");
        Self::of([(NAMES[0].clone(), copy(origin)), (NAMES[1].clone(), yes)].into_iter())
    }

    /// The answer to another origin would be another one, so caches have to keep them apart.
    fn of(lines: impl Iterator<Item = (HeaderName, HeaderValue)>) -> Self {
        Self(lines.chain([(header::VARY, HeaderValue::from_static("Origin"))]).collect())
    }

    /// Line by line.
    pub fn lines(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// Puts it into a head.
    pub fn apply(&self, head: &mut HeaderMap) {
        for (name, value) in self.lines() {
            head.append(name, value.clone());
        }
    }
}

/// A clone would keep the whole buffer alive in which its message was read.
fn copy(value: &HeaderValue) -> HeaderValue {
    HeaderValue::from_bytes(value.as_bytes()).expect("was a header value before")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope::Scopes;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn granted(asked: &[(&'static str, &'static str)], answer: &HeaderMap) -> Option<Vec<String>> {
        let (_, identity) = Scopes::new(vec![header::COOKIE]).with_credentials(&headers(asked), [127, 0, 0, 1].into());
        let grant = Grant::to(&identity, answer)?;
        Some(grant.lines().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect())
    }

    #[test]
    fn it_is_the_apps_word_for_word_and_only_for_pages_of_another_origin() {
        let answer = headers(&[
            ("content-type", "application/json"),
            ("access-control-expose-headers", "x-a"),
            ("access-control-expose-headers", "x-b"),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-origin", "https://front.example"),
        ]);
        let lines = [
            "access-control-allow-origin: https://front.example",
            "access-control-allow-credentials: true",
            "access-control-expose-headers: x-a",
            "access-control-expose-headers: x-b",
            "vary: Origin",
        ];
        let asked = [("host", "a"), ("origin", "https://front.example")];
        assert_eq!(granted(&asked, &answer), Some(lines.map(str::to_owned).into()));
        assert_eq!(granted(&asked[..1], &answer), None);
        assert_eq!(granted(&asked, &headers(&[("access-control-allow-credentials", "true")])), None);
    }

    // Two topics in ten thousand may have such an app; all of them must fit.
    #[test]
    fn it_is_bounded() {
        let mut answer = headers(&[("access-control-allow-origin", "*")]);
        let long = HeaderValue::try_from("x".repeat(VALUE_MAX + 1)).unwrap();
        answer.append("access-control-expose-headers", long);
        let asked = [("origin", "https://front.example")];
        assert_eq!(granted(&asked, &answer).map(|lines| lines.len()), Some(2), "the origin, and what caches are told");
        for _ in 0..100 {
            answer.append("access-control-expose-headers", HeaderValue::from_static("x-a"));
        }
        assert_eq!(granted(&asked, &answer).map(|lines| lines.len()), Some(LINES_MAX + 1));
    }
}
