//! The template of a request to the app.

use std::fmt::Write;

use http::uri::PathAndQuery;

use super::param::{Params, Piece, PieceError, encode, is_dot_segment, is_safe};
use super::pattern::PathPattern;

/// A path of the app with parameters in it, such as `/api/videos/{id}` or `/api/status?job={id}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    text: String,
    path: Vec<Piece>,
    /// With its `?`; empty when there is none.
    query: Vec<Piece>,
}

/// Why a target can't be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// `http://…`.
    #[error("a target is a path of the app; its host and port belong to --upstream")]
    Url,
    /// Anything else but a path.
    #[error("a path begins with '/'")]
    NoSlash,
    /// `/a/../b`.
    #[error("'.' and '..' can't be segments of a target, write the path they lead to")]
    DotSegment,
    /// `/x{*rest}`.
    #[error("{{*{0}}} must be a whole segment of the path or a whole value of the query")]
    Rest(String),
    /// More than a request line can take.
    #[error("the text is not a path and query that HTTP can carry")]
    Unusable,
    /// The text itself.
    #[error(transparent)]
    Piece(#[from] PieceError),
}

/// Why a target can't be filled in with some parameters. Those that the route's own pattern captured fit, unless
/// they are too long.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FillError {
    /// The parameters belong to another pattern.
    #[error("no value for the parameter {{{0}}}")]
    Missing(String),
    /// A value that would get out of its place.
    #[error("the value of {{{0}}} can't be put into a path")]
    Unsafe(String),
    /// 64 KiB is the most that an HTTP target can hold here.
    #[error("the target is too long with its parameters filled in")]
    TooLong,
}

// === impl Target ===

impl Target {
    /// Reads a target.
    ///
    /// # Errors
    /// When `text` doesn't begin with `/`, or could not be sent.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        if text.contains("://") && !text.starts_with('/') {
            return Err(TargetError::Url);
        }
        if !text.starts_with('/') {
            return Err(TargetError::NoSlash);
        }
        let (path, query) = text.split_at(text.find('?').unwrap_or(text.len()));
        if path.split('/').any(is_dot_segment) {
            return Err(TargetError::DotSegment);
        }
        let rest_stands_alone = |part: &str| match Piece::parse_all(part) {
            Ok(pieces) if pieces.len() > 1 => pieces.into_iter().find_map(|piece| match piece {
                Piece::Rest(name) => Some(name),
                Piece::Literal(_) | Piece::One(_) => None,
            }),
            _ => None,
        };
        let values = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
        if let Some(name) = path.split('/').chain(values).find_map(rest_stands_alone) {
            return Err(TargetError::Rest(name));
        }
        let target = Self { text: text.to_owned(), path: Piece::parse_all(path)?, query: Piece::parse_all(query)? };
        let sample: Params = target.names().map(|name| (name, "x")).collect();
        target.fill(&sample).map_err(|_| TargetError::Unusable)?;
        Ok(target)
    }

    /// The target as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of the parameters, in order; one that occurs twice comes twice.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.pieces().filter_map(Piece::name)
    }

    /// The names of those parameters that are written `{*name}`.
    pub fn rest_names(&self) -> impl Iterator<Item = &str> {
        self.pieces().filter_map(|piece| match piece {
            Piece::Rest(name) => Some(&**name),
            Piece::Literal(_) | Piece::One(_) => None,
        })
    }

    fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.path.iter().chain(&self.query)
    }

    /// The path and query to ask the app for.
    ///
    /// # Errors
    /// When a parameter is missing, would get out of its place, or makes the target longer than 64 KiB.
    pub fn fill(&self, params: &Params) -> Result<PathAndQuery, FillError> {
        let mut filled = String::with_capacity(self.text.len() + 32);
        for piece in &self.path {
            push(&mut filled, piece, params, |out, segments| {
                for (index, segment) in segments.split('/').enumerate() {
                    out.push_str(if index == 0 { "" } else { "/" });
                    push_encoded(out, segment);
                }
            })?;
        }
        for piece in &self.query {
            push(&mut filled, piece, params, push_encoded)?;
        }
        PathAndQuery::from_maybe_shared(filled).map_err(|_| FillError::TooLong)
    }

    /// Whether the target is the very path that `pattern` stands for: then a request there that doesn't ask for an
    /// event stream may be meant for the app's JSON.
    pub fn is_same_path(&self, pattern: &PathPattern) -> bool {
        let split = |text: &str| match text.split_once('?') {
            Some((path, query)) => (path.to_owned(), query.to_owned()),
            None => (text.to_owned(), String::new()),
        };
        let (path, query) = split(&self.text);
        let (wanted_path, wanted_query) = split(pattern.as_str());
        let has_pair = |wanted: &str| wanted.is_empty() || query.split('&').any(|pair| pair == wanted);
        path == wanted_path && wanted_query.split('&').all(has_pair)
    }
}

/// Appends a piece; `push_rest` says how the value of a `{*name}` is written in this part of the target.
fn push(
    out: &mut String,
    piece: &Piece,
    params: &Params,
    push_rest: impl Fn(&mut String, &str),
) -> Result<(), FillError> {
    let value = |name: &str| params.get(name).ok_or_else(|| FillError::Missing(name.to_owned()));
    match piece {
        Piece::Literal(literal) => out.push_str(literal),
        Piece::One(name) if is_safe(value(name)?) => push_encoded(out, value(name)?),
        Piece::Rest(name) if value(name)?.split('/').all(is_safe) => push_rest(out, value(name)?),
        Piece::One(name) | Piece::Rest(name) => return Err(FillError::Unsafe(name.clone())),
    }
    Ok(())
}

fn push_encoded(out: &mut String, value: &str) {
    write!(out, "{}", encode(value)).expect("a String takes any text");
}

#[cfg(test)]
mod tests;
