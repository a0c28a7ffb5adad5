//! What is logged, and how: to stderr, as text or JSON, and the same only so often.

pub(crate) mod allowance;
pub(crate) mod outage;

use std::{io::IsTerminal, time::Duration};

use clap::{Args, ValueEnum};
use tracing::{Level, Metadata};
use tracing_subscriber::{EnvFilter, Layer, filter::filter_fn, layer::SubscriberExt, util::SubscriberInitExt};

use crate::cli::value::ValueError;

/// What the targets of our own events begin with.
const CRATE: &str = env!("CARGO_CRATE_NAME");

/// The flags of logging.
#[derive(Clone, Debug, Args)]
pub struct LogArgs {
    /// How log lines are written, to stderr
    #[arg(
        long,
        env = "SIDESTREAM_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text",
        help_heading = "Logging"
    )]
    pub log_format: LogFormat,

    /// What is logged: a level, or directives such as info,sidestream::source=debug; of libraries never more than
    /// warnings
    #[arg(long = "log", env = "SIDESTREAM_LOG", value_name = "FILTER", default_value = "info",
        value_parser = filter_text, help_heading = "Logging")]
    pub log_filter: String,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object per line, for machines
    Json,
}

/// Makes every event of `tracing` from now on a line on stderr. Meant to be called once, by `main`; when somebody has
/// set up logging before, theirs stays.
pub fn init(args: &LogArgs) {
    let filter = EnvFilter::builder().parse_lossy(&args.log_filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match args.log_format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    // As a layer of its own, so that no directive opens what it closes.
    let clamp = filter_fn(is_harmless);
    if let Err(error) = tracing_subscriber::registry().with(clamp).with(filter).with(lines).try_init() {
        tracing::debug!(%error, "logging was already set up");
    }
}

/// A time as it stands in a line: in seconds, to the millisecond.
pub(crate) fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

/// Says why the program can't start: by a line like all others where machines read them, else by a sentence for people. It
/// is said also where the filter lets no line pass.
pub fn fatal(args: &LogArgs, sentence: &str) {
    if args.log_format == LogFormat::Json && tracing::enabled!(Level::ERROR) {
        tracing::error!(error = sentence, "can't start");
    } else {
        eprintln!("error: {sentence}");
    }
}

/// What we say ourselves holds no secrets. The finer levels of libraries would: there HTTP libraries print whole heads,
/// with cookies in them.
fn is_harmless(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let is_ours = target == CRATE || target.strip_prefix(CRATE).is_some_and(|rest| rest.starts_with("::"));
    is_ours || *metadata.level() <= Level::WARN
}

/// Sees to it that the text means what it seems to: `tracing` takes a misspelled level for the name of a module.
fn filter_text(text: &str) -> Result<String, ValueError> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_known = |directive: &str| {
        let directive = directive.trim();
        directive.contains(['=', '[']) || LEVELS.iter().any(|level| directive.eq_ignore_ascii_case(level))
    };
    let is_valid = text.split(',').all(is_known) && EnvFilter::try_new(text).is_ok();
    if is_valid { Ok(text.to_owned()) } else { Err(ValueError::LogFilter) }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    struct Line(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Line {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn levels_and_directives_are_filters() {
        for text in ["info", "DEBUG", "off", "warn,sidestream::source=debug", "sidestream=trace, info"] {
            assert_eq!(filter_text(text).as_deref(), Ok(text));
        }
    }

    // Nobody reads nanoseconds, and a drain is no measurement.
    #[test]
    fn times_are_rounded_to_milliseconds() {
        let text = |nanos| seconds(Duration::from_nanos(nanos)).to_string();
        assert_eq!([11_286_201_477, 30_000_000_000, 499_999, 0].map(text), ["11.286", "30", "0", "0"]);
    }

    // Every library that logs finer than that is one upgrade away from printing what it was given.
    #[test]
    fn of_libraries_only_warnings_are_let_through() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&lines);
        let layer = tracing_subscriber::fmt::layer().with_writer(move || Line(Arc::clone(&written)));
        let subscriber =
            tracing_subscriber::registry().with(filter_fn(is_harmless)).with(EnvFilter::new("trace")).with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::trace!("ours");
            tracing::warn!(target: "hyper", "theirs, a warning");
            tracing::info!(target: "hyper::proto", "theirs, secret");
            tracing::trace!(target: "sidestreamer", "of a like name, secret");
        });
        let text = String::from_utf8(lines.lock().unwrap().clone()).unwrap();
        assert!(text.contains("ours") && text.contains("a warning") && !text.contains("secret"), "{text}");
    }

    // `EnvFilter` alone would take it for a module of that name and log nothing at all.
    #[test]
    fn a_misspelled_level_is_refused() {
        for text in ["inof", "", "info,", "sidestream::source=loud"] {
            assert!(filter_text(text).is_err(), "{text:?} was taken");
        }
    }
}
