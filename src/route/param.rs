//! Parameters: the values that a path captured, and the text with `{name}` in it that they go into.

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Everything but the unreserved characters of RFC 3986, section 2.3: a value in a target can't be mistaken for syntax.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a browser encodes in a path before it sends it; a pattern is compared with what arrives.
const LITERAL: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`');

/// The parameters that a request's path and query hold, by name, decoded.
///
/// Every value is non-empty, neither `.` nor `..`, and free of `/`, `\` and control characters; that of a `{*rest}`
/// parameter is several such values joined with `/`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Params(Vec<(Box<str>, Box<str>)>);

/// A piece of a pattern or target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Text that stands for itself, already in the form it has on the wire.
    Literal(String),
    /// `{name}`.
    One(String),
    /// `{*name}`.
    Rest(String),
}

/// Why a text with parameters can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PieceError {
    /// `{id` or `id}`.
    #[error("a brace without its partner; a parameter is written {{id}}")]
    Brace,
    /// `{}`, `{my id}`.
    #[error("'{{{0}}}' is not a parameter; its name holds letters, digits and '_', as in {{id}} or {{*rest}}")]
    Name(String),
    /// `%zz`.
    #[error("a '%' must be followed by two hexadecimal digits; the character itself is written %25")]
    Percent,
    /// A backslash, a control character or a fragment.
    #[error("the character {0:?} can't be in a path")]
    Character(char),
}

// === impl Params ===

impl Params {
    /// The value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| **known == *name).map(|(_, value)| &**value)
    }

    /// Names and values, in the order of the pattern.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    pub(super) fn push(&mut self, name: &str, value: String) {
        self.0.push((name.into(), value.into()));
    }
}

impl<N: Into<Box<str>>, V: Into<Box<str>>> FromIterator<(N, V)> for Params {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

// === impl Piece ===

impl Piece {
    /// Takes a text apart at its braces. Adjacent literals don't occur.
    pub(super) fn parse_all(text: &str) -> Result<Vec<Self>, PieceError> {
        let mut pieces = Vec::new();
        let mut remaining = text;
        while let Some(open) = remaining.find('{') {
            push_literal(&mut pieces, &remaining[..open])?;
            let (inside, after) = remaining[open + 1..].split_once('}').ok_or(PieceError::Brace)?;
            pieces.push(Self::parameter(inside)?);
            remaining = after;
        }
        push_literal(&mut pieces, remaining)?;
        Ok(pieces)
    }

    fn parameter(inside: &str) -> Result<Self, PieceError> {
        let name = inside.strip_prefix('*').unwrap_or(inside);
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        match (is_name, inside.starts_with('*')) {
            (false, _) => Err(PieceError::Name(inside.to_owned())),
            (true, false) => Ok(Self::One(name.to_owned())),
            (true, true) => Ok(Self::Rest(name.to_owned())),
        }
    }

    /// The parameter's name, if this is one.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Literal(_) => None,
            Self::One(name) | Self::Rest(name) => Some(name),
        }
    }
}

fn push_literal(pieces: &mut Vec<Piece>, text: &str) -> Result<(), PieceError> {
    if text.contains('}') {
        return Err(PieceError::Brace);
    }
    if let Some(wrong) = text.chars().find(|c| c.is_control() || matches!(c, '\\' | '#')) {
        return Err(PieceError::Character(wrong));
    }
    let bytes = text.as_bytes();
    let is_escape = |at: usize| bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    if text.match_indices('%').any(|(at, _)| !is_escape(at)) {
        return Err(PieceError::Percent);
    }
    if !text.is_empty() {
        pieces.push(Piece::Literal(utf8_percent_encode(text, LITERAL).to_string()));
    }
    Ok(())
}

/// Whether a path segment would be taken for `.` or `..` by somebody who decodes it.
pub(super) fn is_dot_segment(raw: &str) -> bool {
    matches!(&*percent_decode_str(raw).collect::<Vec<_>>(), b"." | b"..")
}

/// Whether a decoded value can be put into a target without getting out of its place, there or in what the app makes
/// of it.
pub(super) fn is_safe(value: &str) -> bool {
    !matches!(value, "" | "." | "..") && !value.chars().any(|c| c.is_control() || matches!(c, '/' | '\\'))
}

/// The value that a raw path segment stands for, unless it is one that is never captured.
pub(super) fn decode(raw: &str) -> Option<String> {
    let value = percent_decode_str(raw).decode_utf8().ok()?;
    is_safe(&value).then(|| value.into_owned())
}

/// A value as it stands in a target.
pub(super) fn encode(value: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(value, VALUE)
}
