//! The users, and how whatever is made for one of them is marked.

use super::*;

/// What the app can tell a requester by: credentials, then the place. The same list as the program's, written again.
const CREDENTIALS: [&str; 2] = ["cookie", "authorization"];
const PLACE: [&str; 4] = ["host", "origin", "x-forwarded-host", "x-forwarded-proto"];

/// The headers of one requester. No two of these are the same person to the app, however alike they look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Who(pub(super) &'static [(&'static str, &'static str)]);

const ALL: &[Who] = &[
    Who(&[("host", "a"), ("cookie", "sid=ada")]),
    Who(&[("host", "a"), ("cookie", "sid=bob")]),
    Who(&[("host", "a")]),
    Who(&[("host", "a"), ("cookie", "")]),
    // Duplicates, and one line that holds the same texts, in either order.
    Who(&[("host", "a"), ("cookie", "sid=ada"), ("cookie", "sid=bob")]),
    Who(&[("host", "a"), ("cookie", "sid=bob"), ("cookie", "sid=ada")]),
    Who(&[("host", "a"), ("cookie", "sid=ada; sid=bob")]),
    Who(&[("host", "a"), ("cookie", "sid=bob; sid=ada")]),
    Who(&[("host", "a"), ("cookie", "sid=adasid=bob")]),
    Who(&[("host", "a"), ("cookie", "sid=ada"), ("cookie", "")]),
    // The other header, odd spaces, both.
    Who(&[("host", "a"), ("authorization", "sid=ada")]),
    Who(&[("host", "a"), ("authorization", "Bearer ada")]),
    Who(&[("host", "a"), ("authorization", "Bearer  ada")]),
    Who(&[("host", "a"), ("authorization", "bearer ada")]),
    Who(&[("host", "a"), ("cookie", "sid=ada"), ("authorization", "Bearer bob")]),
    Who(&[("host", "a"), ("cookie", "sid=bob"), ("authorization", "Bearer ada")]),
    // The same person in another place is another person, and a place that is claimed in other words is another place.
    Who(&[("host", "b"), ("cookie", "sid=ada")]),
    Who(&[("host", "a"), ("x-forwarded-host", "b"), ("cookie", "sid=ada")]),
    Who(&[("host", "a"), ("x-forwarded-host", "b"), ("x-forwarded-host", "a"), ("cookie", "sid=ada")]),
    Who(&[("host", "a"), ("x-forwarded-host", "b, a"), ("cookie", "sid=ada")]),
    Who(&[("host", "a"), ("origin", "b"), ("cookie", "sid=ada")]),
    Who(&[("host", "a"), ("origin", "c"), ("cookie", "sid=ada")]),
    Who(&[("host", "a"), ("x-forwarded-proto", "b"), ("cookie", "sid=ada")]),
    Who(&[("host", "b"), ("x-forwarded-host", "a")]),
];

/// Headers that look like credentials and are none: they may change nothing, and never reach the app.
pub(super) const DECOYS: &[(&str, &str)] = &[
    ("x-cookie", "sid=bob"),
    ("cookie2", "sid=bob"),
    ("proxy-authorization", "Bearer bob"),
    ("x-forwarded-user", "bob"),
    ("connection", "cookie, authorization"),
    ("forwarded", "host=b"),
    ("x-original-url", "/own/jobs/v2"),
    ("x-http-method-override", "POST"),
];

// === impl Who ===

impl Who {
    /// Mostly one of the first few, so that they meet.
    pub(super) fn any(rng: &mut StdRng) -> Self {
        let from = if rng.random_bool(0.7) { &ALL[..3] } else { ALL };
        *from.choose(rng).expect("there are some")
    }

    pub(super) fn all(&self, name: &str) -> Vec<&'static str> {
        self.0.iter().filter(|(key, _)| *key == name).map(|(_, value)| *value).collect()
    }

    /// The marks of what is made for it at `target`. On public routes it must be nobody to the app.
    pub(super) fn marks(&self, target: &str) -> Marks {
        let is_nobody = target.starts_with("/public/");
        Marks::of(target, |name| match is_nobody && CREDENTIALS.contains(&name) {
            true => Vec::new(),
            false => self.all(name).into_iter().map(str::to_owned).collect(),
        })
    }

    /// What it is known by at the app, whatever it asks for.
    pub(super) fn known_as(&self) -> String {
        self.marks("").own
    }
}

/// How data is marked: every text that the app makes carries one of these, and they can't be confused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    /// For one requester alone: `own-` and twelve digits.
    pub(super) own: String,
    /// For all of one place: `all-` and twelve digits.
    pub(super) all: String,
}

/// The length of a mark.
pub(super) const MARK: usize = 16;

// === impl Marks ===

impl Marks {
    pub(super) fn of(target: &str, values: impl Fn(&str) -> Vec<String>) -> Self {
        // What the program adds where it is absent.
        let values = |name: &str| match (name, values(name)) {
            ("x-forwarded-host", none) if none.is_empty() => values("host"),
            ("x-forwarded-proto", none) if none.is_empty() => vec!["http".to_owned()],
            (_, some) => some,
        };
        let digits = |names: &[&str]| {
            let read: Vec<_> = names.iter().map(|name| values(name)).collect();
            blake3::hash(format!("{target} {read:?}").as_bytes()).to_hex()[..MARK - 4].to_owned()
        };
        let everything: Vec<_> = CREDENTIALS.iter().chain(&PLACE).copied().collect();
        Self { own: format!("own-{}", digits(&everything)), all: format!("all-{}", digits(&PLACE)) }
    }

    /// Every mark in a text.
    pub(super) fn find(text: &str) -> impl Iterator<Item = &str> {
        let starts = text.match_indices("own-").chain(text.match_indices("all-"));
        starts.filter_map(|(at, _)| text.get(at..at + MARK))
    }
}
