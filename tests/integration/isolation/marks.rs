//! The users, and the marks on whatever is made for one of them.

use std::hash::{DefaultHasher, Hash, Hasher};

const CREDENTIALS: [&str; 2] = ["cookie", "authorization"];
const PLACE: [&str; 4] = ["host", "origin", "x-forwarded-host", "x-forwarded-proto"];

/// The headers of one user, as the app reads them. No two are the same person, however alike they look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Who(pub(super) &'static [(&'static str, &'static str)]);

/// Whom the app lets into nothing that is shared.
pub(super) const EVE: Who = Who(&[("host", "a"), ("cookie", "sid=eve")]);

pub(super) const ALL: &[Who] = &[
    Who(&[("host", "a"), ("cookie", "sid=ada")]),
    Who(&[("host", "a"), ("cookie", "sid=bob")]),
    EVE,
    Who(&[("host", "a")]),
    Who(&[("host", "a"), ("cookie", "")]),
    Who(&[("host", "a"), ("cookie", "sid=ada"), ("cookie", "sid=bob")]),
    Who(&[("host", "a"), ("cookie", "sid=bob"), ("cookie", "sid=ada")]),
    Who(&[("host", "a"), ("cookie", "sid=ada; sid=bob")]),
    Who(&[("host", "a"), ("cookie", "sid=bob; sid=ada")]),
    Who(&[("host", "a"), ("cookie", "sid=eve; sid=ada")]),
    Who(&[("host", "a"), ("authorization", "Bearer ada")]),
    Who(&[("host", "a"), ("authorization", "Bearer  ada")]),
    Who(&[("host", "a"), ("authorization", "bearer ada")]),
    Who(&[("host", "a"), ("authorization", "sid=ada")]),
    Who(&[("host", "a"), ("cookie", "sid=ada"), ("authorization", "Bearer bob")]),
    Who(&[("host", "b"), ("cookie", "sid=ada")]),
    Who(&[("host", "a"), ("x-forwarded-host", "b"), ("cookie", "sid=ada")]),
    Who(&[("host", "a"), ("x-forwarded-host", "b, a"), ("cookie", "sid=ada")]),
    Who(&[("host", "a"), ("x-forwarded-host", "b"), ("x-forwarded-host", "a"), ("cookie", "sid=ada")]),
    Who(&[("host", "a"), ("origin", "http://b"), ("cookie", "sid=ada")]),
    Who(&[("host", "b"), ("x-forwarded-host", "a")]),
];

/// What may be read by whom: `own-…` by one user alone, `all-…` by all of one place. Sixteen characters each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) own: String,
    pub(super) all: String,
}

// === impl Who ===

impl Who {
    /// The marks of what is made for it at `target`; on public routes it must be nobody to the app.
    pub(super) fn marks(&self, target: &str) -> Marks {
        let is_nobody = target.starts_with("/public/");
        Marks::of(target, |name| match is_nobody && CREDENTIALS.contains(&name) {
            true => Vec::new(),
            false => self.0.iter().filter(|(key, _)| *key == name).map(|(_, value)| *value).collect(),
        })
    }
}

// === impl Marks ===

impl Marks {
    pub(super) fn of<'a>(target: &str, values: impl Fn(&'static str) -> Vec<&'a str>) -> Self {
        // What the program adds where it is absent.
        let values = |name| match (name, values(name)) {
            ("x-forwarded-host", none) if none.is_empty() => values("host"),
            ("x-forwarded-proto", none) if none.is_empty() => vec!["http"],
            (_, some) => some,
        };
        let digits = |names: &[&'static str]| {
            let mut hasher = DefaultHasher::new();
            target.hash(&mut hasher);
            for name in names {
                values(name).hash(&mut hasher);
            }
            format!("{:012x}", hasher.finish() >> 16)
        };
        let everything: Vec<_> = CREDENTIALS.iter().chain(&PLACE).copied().collect();
        Self { own: format!("own-{}", digits(&everything)), all: format!("all-{}", digits(&PLACE)) }
    }

    /// Every mark in a text, and every nonce of a page.
    pub(super) fn find(text: &str) -> impl Iterator<Item = &str> {
        let starts = ["own-", "all-", "one-"].into_iter().flat_map(|kind| text.match_indices(kind));
        starts.filter_map(|(at, _)| text.get(at..at + 16))
    }
}
