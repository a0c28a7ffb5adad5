//! What is remembered of a job's status, for people.

use std::sync::Arc;

/// The status field that was found, for people: the pointer, and the last values as the app wrote them. Most topics of a
/// route have the same past, and share this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusSeen {
    /// JSON pointer.
    pub pointer: String,
    /// The last different values, shortened, the newest last; there is one at least.
    values: Box<[Arc<str>]>,
}

/// So many values are kept of each topic.
const VALUES_MAX: usize = 8;

// === impl StatusSeen ===

impl StatusSeen {
    /// `value` at `pointer`, after what was there `before`.
    pub fn after(before: Option<&Self>, pointer: &str, value: &str) -> Self {
        let earlier = before.map_or(&[][..], |before| &before.values);
        let mut values: Vec<_> = earlier.iter().filter(|earlier| ***earlier != *value).cloned().collect();
        values.drain(..values.len().saturating_sub(VALUES_MAX - 1));
        values.push(value.into());
        Self { pointer: pointer.to_owned(), values: values.into() }
    }

    /// The last value.
    pub fn value(&self) -> &str {
        self.values.last().expect("there is one at least")
    }

    /// The last different values, the newest last.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(|value| &**value)
    }
}
