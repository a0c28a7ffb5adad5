//! What is logged, and how: to stderr, as text or JSON.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::cli::value::ValueError;

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

    /// What is logged: a level, or directives such as info,sidestream::hub=debug
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
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let result = match args.log_format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).try_init(),
    };
    if let Err(error) = result {
        tracing::debug!(%error, "logging was already set up");
    }
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
    use super::filter_text;

    #[test]
    fn levels_and_directives_are_filters() {
        for text in ["info", "DEBUG", "off", "warn,sidestream::hub=debug", "sidestream=trace, info"] {
            assert_eq!(filter_text(text).as_deref(), Ok(text));
        }
    }

    // `EnvFilter` alone would take it for a module of that name and log nothing at all.
    #[test]
    fn a_misspelled_level_is_refused() {
        for text in ["inof", "", "info,", "sidestream::hub=loud"] {
            assert!(filter_text(text).is_err(), "{text:?} was taken");
        }
    }
}
