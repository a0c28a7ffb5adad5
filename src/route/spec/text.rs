//! The grammar of a route's text: its keys, its commas, and what was probably meant by a misspelled key.

use crate::cli::spelling::nearest;

/// Which kinds of source a key makes sense for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fits {
    Both,
    Poll,
    Subscribe,
}

/// Every key, in the order in which they are listed to the user.
pub(super) const KEYS: [(&str, Fits); 17] = [
    ("path", Fits::Both),
    ("poll", Fits::Both),
    ("subscribe", Fits::Both),
    ("status", Fits::Both),
    ("done", Fits::Both),
    ("share", Fits::Both),
    ("errors", Fits::Both),
    ("template", Fits::Poll),
    ("replay", Fits::Subscribe),
    ("greeting", Fits::Subscribe),
    ("interval", Fits::Poll),
    ("max-interval", Fits::Poll),
    ("timeout", Fits::Both),
    ("heartbeat", Fits::Both),
    ("linger", Fits::Both),
    ("retry", Fits::Both),
    ("max-age", Fits::Both),
];

/// Splits a text that holds several routes at newlines and semicolons; the environment has no other way to repeat.
pub fn split_specs(text: &str) -> impl Iterator<Item = &str> {
    split_escaped(text, |c| matches!(c, '\n' | ';')).into_iter().map(str::trim).filter(|spec| !spec.is_empty())
}

/// Splits at separators that no backslash stands before. The backslashes stay.
pub(super) fn split_escaped(text: &str, is_separator: impl Fn(char) -> bool) -> Vec<&str> {
    let mut escaped = false;
    text.split(|c| {
        let splits = is_separator(c) && !escaped;
        escaped = c == '\\' && !escaped;
        splits
    })
    .collect()
}

/// Takes the backslash away before a separator or another backslash; any other is left, as in a Windows path.
pub(super) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match chars.peek() {
            Some(&next @ (',' | ';' | '\\')) if c == '\\' => {
                out.push(next);
                chars.next();
            }
            _ => out.push(c),
        }
    }
    out
}

/// What to do about an unknown key: the one that was probably meant, or all that there are. `previous` is the key before
/// it, and a `path` may be there already.
pub(super) fn cure(written: &str, has_value: bool, previous: Option<&str>, has_path: bool) -> String {
    const COMMA: &str = "a comma inside a value is written \\,";
    if !has_value && previous == Some("done") {
        return format!("; values of 'done' are joined with '|', and {COMMA}");
    }
    if written.starts_with('/') && !has_path {
        return format!(", did you mean 'path={written}'?");
    }
    let names = || KEYS.iter().map(|(key, _)| *key);
    // `heartbeat-interval` and `poll-timeout` are what the flags are called.
    let contained = || names().filter(|key| key.len() > 4 && written.contains(key)).max_by_key(|key| key.len());
    let all = || names().collect::<Vec<_>>().join(", ");
    match nearest(written, names(), 2).or_else(contained) {
        Some(key) => format!(", did you mean '{key}'?"),
        None if !has_value && previous.is_some() => format!("; {COMMA}, and the keys are: {}", all()),
        None => format!("; the keys are: {}", all()),
    }
}
