//! What can be wrong with a route.

use std::time::Duration;

use crate::cli::value::{ValueError, time};
use crate::route::pattern::PatternError;
use crate::route::target::TargetError;
use crate::template::TemplateError;

/// Why a route makes no sense. Each is the end of a sentence that begins with the flag and its text.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// `path=/a,,poll=/b`.
    #[error("there is nothing between two commas; write key=value pairs with one comma between them")]
    EmptyPart,
    /// A misspelled key.
    #[error("unknown key '{key}'{cure}")]
    UnknownKey {
        /// As written.
        key: String,
        /// A likely key, or all of them.
        cure: String,
    },
    /// The same key again.
    #[error("the key '{0}' is given twice; keep one of them")]
    KeyTwice(&'static str),
    /// Two routes with a comma between them.
    #[error("the key 'path' is given twice; keep one of them, or separate two routes by ';' or a newline")]
    PathTwice,
    /// A key without what it needs.
    #[error("the key '{0}' needs a value, as in {0}={1}")]
    NoValue(&'static str, &'static str),
    /// No `path`.
    #[error("the key 'path' is missing; add the path that browsers ask for, as in path=/api/progress/{{id}}")]
    NoPath,
    /// Neither `poll` nor `subscribe`.
    #[error(
        "there is no source; add poll=TARGET (a JSON status endpoint of the app) or subscribe (an event stream of it)"
    )]
    NoSource,
    /// Both of them.
    #[error("a route has one source; keep either poll or subscribe")]
    TwoSources,
    /// `poll` with `replay`, `subscribe` with `template`.
    #[error("the key '{key}' makes sense only with {wanted}; take it out, or use {wanted}")]
    DoesNotFit {
        /// The key.
        key: &'static str,
        /// The source that it would fit.
        wanted: &'static str,
    },
    /// A bad pattern.
    #[error("invalid path '{0}': {1}")]
    Path(String, PatternError),
    /// A bad target.
    #[error("invalid target '{0}': {1}")]
    Target(String, TargetError),
    /// The path captures what the target doesn't use: topics would be told apart by something that changes nothing.
    #[error(
        "the parameter {{{0}}} of the path is missing in the target '{1}'; use it there, or take it out of the path"
    )]
    Unused(String, String),
    /// The target uses what the path doesn't capture.
    #[error("the target '{1}' uses {{{0}}}, which the path doesn't have; its parameters are: {2}")]
    NotCaptured(String, String, String),
    /// `{rest}` for `{*rest}`, or the other way round.
    #[error("the parameter '{0}' must be written {1} in the target '{2}', as it is in the path")]
    OtherForm(String, String, String),
    /// A value that is none of a few.
    #[error("invalid value '{value}' for '{key}'; it is one of: {allowed}")]
    NotAllowed {
        /// The key.
        key: &'static str,
        /// As written.
        value: String,
        /// Those that would do.
        allowed: String,
    },
    /// A duration or number.
    #[error("invalid value '{value}' for '{key}': {error}")]
    Value {
        /// The key.
        key: &'static str,
        /// As written.
        value: String,
        /// What is wrong.
        error: ValueError,
    },
    /// A bad pointer.
    #[error(
        "invalid value '{0}' for 'status': a JSON pointer begins with '/', as in /data/status, with '~' written ~0 and \
         '/' in a name ~1"
    )]
    Pointer(String),
    /// `done=a||b`.
    #[error(
        "invalid value '{0}' for 'done': write the values that end a job with '|' between them, as in done=completed|failed"
    )]
    Done(String),
    /// An unreadable file.
    #[error("the template file '{0}' can't be read: {1}")]
    TemplateFile(String, std::io::Error),
    /// A file that is no template.
    #[error("the template file '{0}' is not a template: {1}")]
    Template(String, TemplateError),
    /// The slowest pace faster than the fastest.
    #[error(
        "max-interval ({}) is shorter than the interval ({}); give the route an interval that is not longer",
        time(*max_interval), time(*interval)
    )]
    Intervals {
        /// What the route begins with.
        interval: Duration,
        /// What it should slow down to.
        max_interval: Duration,
    },
    /// Admission would never be checked again.
    #[error(
        "share=authorized needs a max-age, for clients are admitted again when their stream reaches it; set max-age=10m \
         on the route"
    )]
    AuthorizedForEver,
}
