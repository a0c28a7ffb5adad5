//! The pattern of a route's public path.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::param::{Params, Piece, PieceError, decode, is_dot_segment, is_safe};

/// A path pattern such as `/api/progress/{id}`, `/files/{*rest}` or `/api/progress?id={id}`.
///
/// It is compared with the path as it was sent; only what a parameter captures is decoded, once. A query that the
/// pattern names must hold each of its keys exactly once, in any order, among any others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    text: String,
    segments: Vec<Segment>,
    query: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    /// `{name}`, perhaps with text around it as in `{id}.json`.
    One {
        before: String,
        name: String,
        after: String,
    },
    /// `{*name}`: one or more segments up to the end.
    Rest(String),
}

/// A key that the query must hold; key and literal value are decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Literal(String),
    Parameter(String),
}

/// Why a pattern can't be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Anything but a path.
    #[error("a path begins with '/'")]
    NoSlash,
    /// `/a/../b`.
    #[error("'.' and '..' can't be segments of a path, clients resolve them before they ask")]
    DotSegment,
    /// `{a}-{b}`.
    #[error("a segment can hold only one parameter")]
    TwoInSegment,
    /// `/{*rest}/x`.
    #[error("{{*{0}}} must be the whole last segment of the path")]
    RestNotLast(String),
    /// `/{id}/{id}`.
    #[error("the parameter {{{0}}} occurs twice, give each its own name")]
    NameTwice(String),
    /// `?`, `?=1`, `?{a}=1`.
    #[error("a query is written ?key=value or ?key={{id}}, several joined with '&'")]
    Query,
    /// `?id=x{id}`.
    #[error("in a query a parameter must be the whole value, as in ?{0}={{id}}")]
    QueryValue(String),
    /// `?id=1&id=2`.
    #[error("the query names '{0}' twice, and a stream request may hold it only once")]
    KeyTwice(String),
    /// The text itself.
    #[error(transparent)]
    Piece(#[from] PieceError),
}

// === impl PathPattern ===

impl PathPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When `text` doesn't begin with `/`, or its parameters or query are not what they must be.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let (path, query) = match text.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (text, None),
        };
        let path = path.strip_prefix('/').ok_or(PatternError::NoSlash)?;
        let segments = path.split('/').map(Segment::parse).collect::<Result<Vec<_>, _>>()?;
        let requirements = query.into_iter().flat_map(|query| query.split('&')).map(Requirement::parse);
        let pattern = Self { text: text.to_owned(), segments, query: requirements.collect::<Result<Vec<_>, _>>()? };
        pattern.check()?;
        Ok(pattern)
    }

    fn check(&self) -> Result<(), PatternError> {
        if let Some((_, before_last)) = self.segments.split_last()
            && let Some(Segment::Rest(name)) = before_last.iter().find(|segment| matches!(segment, Segment::Rest(_)))
        {
            return Err(PatternError::RestNotLast(name.clone()));
        }
        if let Some(name) = first_repeated(self.names()) {
            return Err(PatternError::NameTwice(name.to_owned()));
        }
        match first_repeated(self.query.iter().map(|requirement| &*requirement.key)) {
            Some(key) => Err(PatternError::KeyTwice(key.to_owned())),
            None => Ok(()),
        }
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of the parameters, those of the path before those of the query.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let of_path = self.segments.iter().filter_map(Segment::name);
        of_path.chain(self.query.iter().filter_map(|requirement| match &requirement.value {
            Value::Literal(_) => None,
            Value::Parameter(name) => Some(&**name),
        }))
    }

    /// The name of the `{*rest}` parameter, if there is one.
    pub fn rest_name(&self) -> Option<&str> {
        match self.segments.last() {
            Some(Segment::Rest(name)) => Some(name),
            _ => None,
        }
    }

    /// What stands for itself here and would be a parameter in the patterns of others (Express, nginx, SvelteKit, Next):
    /// each as written, with what it would be here.
    pub fn foreign_parameters(&self) -> impl Iterator<Item = (&str, String)> {
        let path = self.text.split('?').next().unwrap_or_default();
        path.split('/').filter_map(|segment| Some((segment, foreign_parameter(segment)?)))
    }

    /// The parameters of a request's raw path and query, or `None` if the pattern is not theirs.
    ///
    /// A parameter never captures what is empty, `.`, `..` or not UTF-8, or holds a `/`, `\` or control character once
    /// decoded: such a request is not ours, and the app answers it as it always did.
    pub fn matches(&self, path: &str, query: Option<&str>) -> Option<Params> {
        let mut params = Params::default();
        let mut remaining = Some(path.strip_prefix('/')?);
        for segment in &self.segments {
            let raw = remaining?;
            if let Segment::Rest(name) = segment {
                params.push(name, decode_rest(raw)?);
                remaining = None;
                break;
            }
            let (head, tail) = match raw.split_once('/') {
                Some((head, tail)) => (head, Some(tail)),
                None => (raw, None),
            };
            if let Some((name, value)) = segment.capture(head)? {
                params.push(name, value);
            }
            remaining = tail;
        }
        if remaining.is_some() {
            return None;
        }
        for requirement in &self.query {
            if let Some((name, value)) = requirement.capture(query?)? {
                params.push(name, value);
            }
        }
        Some(params)
    }

    /// Whether some request would match both patterns; if in doubt, yes.
    pub fn overlaps(&self, other: &Self) -> bool {
        paths_overlap(&self.segments, &other.segments)
            && self.query.iter().all(|one| other.query.iter().all(|another| one.can_agree(another)))
    }
}

// === impl Segment ===

impl Segment {
    fn parse(text: &str) -> Result<Self, PatternError> {
        let mut pieces = Piece::parse_all(text)?.into_iter();
        let mut before = String::new();
        let mut next = pieces.next();
        if let Some(Piece::Literal(literal)) = next {
            before = literal;
            next = pieces.next();
        }
        let name = match next {
            None if is_dot_segment(&before) => return Err(PatternError::DotSegment),
            None => return Ok(Self::Literal(before)),
            Some(Piece::Rest(name)) if before.is_empty() && pieces.next().is_none() => return Ok(Self::Rest(name)),
            Some(Piece::Rest(name)) => return Err(PatternError::RestNotLast(name)),
            Some(Piece::One(name)) => name,
            Some(Piece::Literal(_)) => unreachable!("literals are never adjacent"),
        };
        match (pieces.next(), pieces.next()) {
            (None, _) => Ok(Self::One { before, name, after: String::new() }),
            (Some(Piece::Literal(after)), None) => Ok(Self::One { before, name, after }),
            _ => Err(PatternError::TwoInSegment),
        }
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::Literal(_) => None,
            Self::One { name, .. } | Self::Rest(name) => Some(name),
        }
    }

    /// `None`: not this segment. `Some(None)`: it is, and there is nothing to capture.
    fn capture(&self, raw: &str) -> Option<Option<(&str, String)>> {
        match self {
            Self::Literal(literal) => (literal == raw).then_some(None),
            Self::One { before, name, after } => {
                let value = decode(raw.strip_prefix(&**before)?.strip_suffix(&**after)?)?;
                Some(Some((name, value)))
            }
            Self::Rest(name) => Some(Some((name, decode(raw)?))),
        }
    }

    /// Whether some one raw segment would match both.
    fn can_agree(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Literal(literal), segment) | (segment, Self::Literal(literal)) => segment.capture(literal).is_some(),
            (Self::Rest(_), _) | (_, Self::Rest(_)) => true,
            (Self::One { before: b1, after: a1, .. }, Self::One { before: b2, after: a2, .. }) => {
                // The longer beginning, any letter, the longer end: a segment of both.
                (b1.starts_with(&**b2) || b2.starts_with(&**b1)) && (a1.ends_with(&**a2) || a2.ends_with(&**a1))
            }
        }
    }
}

// === impl Requirement ===

impl Requirement {
    fn parse(text: &str) -> Result<Self, PatternError> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        if key.is_empty() || Piece::parse_all(key)?.iter().any(|piece| piece.name().is_some()) {
            return Err(PatternError::Query);
        }
        let key = decode_query(key).ok_or(PatternError::Query)?.into_owned();
        let value = match &*Piece::parse_all(value)? {
            [] => Value::Literal(String::new()),
            [Piece::Literal(literal)] => Value::Literal(decode_query(literal).ok_or(PatternError::Query)?.into_owned()),
            [Piece::One(name)] => Value::Parameter(name.clone()),
            _ => return Err(PatternError::QueryValue(key)),
        };
        Ok(Self { key, value })
    }

    fn capture(&self, query: &str) -> Option<Option<(&str, String)>> {
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        // Which of two values the app would take is its own business, so a repeated key is not ours.
        let mut values = pairs.filter(|(key, _)| decode_query(key).is_some_and(|key| key == self.key));
        let (_, value) = values.next()?;
        if values.next().is_some() {
            return None;
        }
        let value = decode_query(value)?;
        match &self.value {
            Value::Literal(literal) => (*literal == value).then_some(None),
            Value::Parameter(name) => is_safe(&value).then(|| Some((&**name, value.into_owned()))),
        }
    }

    /// Whether one query could meet both. Different keys can always stand side by side.
    fn can_agree(&self, other: &Self) -> bool {
        self.key != other.key
            || match (&self.value, &other.value) {
                (Value::Literal(one), Value::Literal(another)) => one == another,
                (Value::Literal(literal), Value::Parameter(_)) | (Value::Parameter(_), Value::Literal(literal)) => {
                    is_safe(literal)
                }
                (Value::Parameter(_), Value::Parameter(_)) => true,
            }
    }
}

fn paths_overlap(one: &[Segment], another: &[Segment]) -> bool {
    match (one, another) {
        ([], []) => true,
        ([rest @ Segment::Rest(_), ..], others) | (others, [rest @ Segment::Rest(_), ..]) => {
            !others.is_empty() && others.iter().all(|other| rest.can_agree(other))
        }
        ([first, one @ ..], [other, another @ ..]) => first.can_agree(other) && paths_overlap(one, another),
        ([], _) | (_, []) => false,
    }
}

fn foreign_parameter(segment: &str) -> Option<String> {
    let is_name = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let bracketed = segment.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if matches!(segment, "*" | "**") {
        Some("{*rest}".to_owned())
    } else if let Some(name) = bracketed.and_then(|inside| inside.strip_prefix("...")).filter(|name| is_name(name)) {
        Some(format!("{{*{name}}}"))
    } else {
        let name = segment.strip_prefix(':').or(bracketed).filter(|name| is_name(name))?;
        Some(format!("{{{name}}}"))
    }
}

fn decode_rest(raw: &str) -> Option<String> {
    Some(raw.split('/').map(decode).collect::<Option<Vec<_>>>()?.join("/"))
}

/// Decodes a query's key or value, in which `+` is a space (WHATWG URL, application/x-www-form-urlencoded).
fn decode_query(raw: &str) -> Option<Cow<'_, str>> {
    if raw.contains('+') {
        return Some(percent_decode_str(&raw.replace('+', " ")).decode_utf8().ok()?.into_owned().into());
    }
    percent_decode_str(raw).decode_utf8().ok()
}

fn first_repeated<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if seen.contains(&name) {
            return Some(name);
        }
        seen.push(name);
    }
    None
}

#[cfg(test)]
mod tests;
