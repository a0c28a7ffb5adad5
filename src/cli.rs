//! The command line: flags, their environment twins, and the help.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use http::HeaderName;
use ipnet::IpNet;

use crate::child::restart::RestartPolicy;
use crate::config::UpstreamAddr;
use crate::event::HeartbeatForm;
use crate::log::LogArgs;

mod environment;
mod listen_on;
pub(crate) mod spelling;
pub mod value;

pub use self::environment::Twins;
pub use self::listen_on::{AdminListen, ListenOn};
use self::spelling::nearest;

const ROUTE_HELP: &str = "\
Routes are key=value pairs joined with commas; a comma in a value is written \\, :
  path=PATTERN        public path: {id} is a segment, {*rest} all that follow;
                      ?id={id} asks for a query key
  poll=TARGET         path of the app that answers a job's status as JSON
  subscribe[=TARGET]  path of the app that is an event stream; without TARGET
                      the client's own path and query
  status=POINTER      where the status is, as in /data/status
                      [default: found by itself]
  done=A|B            values that end a job
                      [default: completed, failed and their like]
  share=WHO           credentials, authorized or public [default: credentials]
  errors=HOW          what clients get while the app is in trouble: event, data
                      or off [default: event]
  template=FILE       for poll: JSON in which \"$\" and \"$/pointer\" stand for the
                      answer and values in it [default: the answer itself]
  replay=WHAT         for subscribe: newcomers get the events they missed, or the
                      latest one [default: missed]
  greeting=N          for subscribe: newcomers get the stream's first N events
                      [default: 0]
  interval, max-interval, timeout, heartbeat, linger, retry, max-age
                      instead of the flag, for this route

Examples:
  sidestream --route 'path=/api/progress/{id},poll=/api/videos/{id}'
  sidestream --route path=/api/events,subscribe --upstream http://127.0.0.1:5173
  sidestream check --route 'path=/api/progress?id={id},poll=/api/videos/{id}'
  PORT=3000 sidestream --app-restart on-failure -- node build

Durations are written 15s, 500ms or 1m30s. Every flag can also be set by the
environment variable beside it, an empty one is as good as none; lists are
separated by commas there, several routes by newlines or ';'.";

/// A sidecar for Server-Sent Events: asks the app once, and keeps the streams of all its clients alive.
#[derive(Debug, Parser)]
#[command(
    name = "sidestream",
    version,
    max_term_width = 110,
    after_long_help = ROUTE_HELP,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What to do instead of running the sidecar.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How the sidecar runs.
    #[command(flatten)]
    pub run: RunArgs,
}

/// What to do instead of running the sidecar.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show it at work: a small app, the sidecar before it and the dashboard, with nothing to set up
    Demo(DemoArgs),
    /// Say in plain words what the flags and routes would do; start nothing
    #[command(after_long_help = ROUTE_HELP, max_term_width = 110)]
    Check(Box<RunArgs>),
    /// Ask a running sidecar whether it is well: exit status 0 if so
    Healthcheck(HealthcheckArgs),
}

/// The flags of the sidecar, also read by `check`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Address of the public side; repeatable; port 0 takes a free one, `systemd` the sockets it has opened
    #[arg(long, env = "SIDESTREAM_LISTEN", value_name = "ADDR", default_value = "0.0.0.0:8080", value_delimiter = ',',
        value_parser = value::listen_on, help_heading = "Listening")]
    pub listen: Vec<ListenOn>,

    /// Address of metrics, health and dashboard, or `off`; `systemd` is its socket called `admin`
    #[arg(
        long,
        env = "SIDESTREAM_ADMIN_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:9180",
        help_heading = "Listening"
    )]
    pub admin_listen: AdminListen,

    /// Network whose X-Forwarded-For is believed for limits and logs; repeatable
    #[arg(long, env = "SIDESTREAM_TRUSTED_PROXY", value_name = "CIDR", value_delimiter = ',',
        value_parser = value::network, help_heading = "Listening")]
    pub trusted_proxy: Vec<IpNet>,

    /// The app
    #[arg(
        long,
        env = "SIDESTREAM_UPSTREAM",
        value_name = "URL",
        default_value = "http://127.0.0.1:3000",
        help_heading = "Upstream"
    )]
    pub upstream: UpstreamAddr,

    /// A path whose requests become streams; repeatable; `--help` says how it is written
    #[arg(long, env = "SIDESTREAM_ROUTE", value_name = "SPEC", help_heading = "Routes")]
    pub route: Vec<String>,

    /// Leave event streams of the app that no route names as they are: no heartbeats, no counting
    #[arg(long, env = "SIDESTREAM_NO_GUARD", value_parser = value::switch, help_heading = "Routes")]
    pub no_guard: bool,

    /// Silence after which a heartbeat is sent; shorter than the proxies' 60s
    #[arg(long, env = "SIDESTREAM_HEARTBEAT_INTERVAL", value_name = "TIME", default_value = "15s",
        value_parser = value::positive_duration, help_heading = "Streams")]
    pub heartbeat_interval: Duration,

    /// What a heartbeat looks like
    #[arg(
        long,
        env = "SIDESTREAM_HEARTBEAT_FORM",
        value_name = "FORM",
        default_value = "comment",
        help_heading = "Streams"
    )]
    pub heartbeat_form: HeartbeatForm,

    /// After how long clients reconnect; varied by a third per connection
    #[arg(long, env = "SIDESTREAM_RETRY", value_name = "TIME", default_value = "3s",
        value_parser = value::positive_duration, help_heading = "Streams")]
    pub retry: Duration,

    /// Age at which a stream is ended and opened anew by its client; 0 is never
    #[arg(long, env = "SIDESTREAM_MAX_AGE", value_name = "TIME", default_value = "10m",
        value_parser = value::duration, help_heading = "Streams")]
    pub max_age: Duration,

    /// How long a topic outlives its last subscriber [default: 10s where it polls, 5m where it subscribes]
    #[arg(long, env = "SIDESTREAM_LINGER", value_name = "TIME", value_parser = value::duration,
        help_heading = "Streams")]
    pub linger: Option<Duration>,

    /// Pace of polling while the status changes
    #[arg(long, env = "SIDESTREAM_POLL_INTERVAL", value_name = "TIME", default_value = "1s",
        value_parser = value::positive_duration, help_heading = "Polling")]
    pub poll_interval: Duration,

    /// Pace it slows down to while the status stays [default: 5s, or --poll-interval if that is longer]
    #[arg(long, env = "SIDESTREAM_POLL_MAX_INTERVAL", value_name = "TIME", value_parser = value::positive_duration,
        help_heading = "Polling")]
    pub poll_max_interval: Option<Duration>,

    /// Time that a poll may take, or the admission of a client
    #[arg(long, env = "SIDESTREAM_POLL_TIMEOUT", value_name = "TIME", default_value = "10s",
        value_parser = value::positive_duration, help_heading = "Polling")]
    pub poll_timeout: Duration,

    /// Polls in flight at once, in the whole process
    #[arg(long, env = "SIDESTREAM_POLL_CONCURRENCY", value_name = "N", default_value = "64",
        value_parser = value::positive_number, help_heading = "Polling")]
    pub poll_concurrency: usize,

    /// How long a first 404 of a poll is asked again before it is believed; 0 is not at all
    #[arg(long, env = "SIDESTREAM_NOT_FOUND_GRACE", value_name = "TIME", default_value = "3s",
        value_parser = value::duration, help_heading = "Polling")]
    pub not_found_grace: Duration,

    /// Request header that tells users apart; repeatable, instead of these
    #[arg(long, env = "SIDESTREAM_CREDENTIAL_HEADER", value_name = "NAME", value_delimiter = ',',
        default_values = ["cookie", "authorization"], value_parser = value::credential_header,
        help_heading = "Credentials")]
    pub credential_header: Vec<HeaderName>,

    /// Streams at once, as far as the limit of open files allows [default: 10000]
    #[arg(long, env = "SIDESTREAM_MAX_CONNECTIONS", value_name = "N", value_parser = value::positive_number,
        help_heading = "Limits")]
    pub max_connections: Option<usize>,

    /// Streams at once from one address; 0 is no limit, as needed where all come through one proxy
    #[arg(long, env = "SIDESTREAM_MAX_CONNECTIONS_PER_IP", value_name = "N", default_value = "0",
        value_parser = value::number, help_heading = "Limits")]
    pub max_connections_per_ip: usize,

    /// Topics at once; the one idle longest makes room
    #[arg(long, env = "SIDESTREAM_MAX_TOPICS", value_name = "N", default_value = "10000",
        value_parser = value::positive_number, help_heading = "Limits")]
    pub max_topics: usize,

    /// Time for a request's head to be complete once it has begun
    #[arg(long, env = "SIDESTREAM_HEAD_TIMEOUT", value_name = "TIME", default_value = "20s",
        value_parser = value::positive_duration, help_heading = "Limits")]
    pub head_timeout: Duration,

    /// A client that acknowledges nothing of what is sent to it for this long counts as stale
    #[arg(long, env = "SIDESTREAM_STALE_AFTER", value_name = "TIME", default_value = "35s",
        value_parser = value::positive_duration, help_heading = "Life")]
    pub stale_after: Duration,

    /// A client that acknowledges nothing for this long is closed
    #[arg(long, env = "SIDESTREAM_REAP_AFTER", value_name = "TIME", default_value = "60s",
        value_parser = value::positive_duration, help_heading = "Life")]
    pub reap_after: Duration,

    /// Time over which streams are ended when the process is told to stop; 0 is at once
    #[arg(long, env = "SIDESTREAM_DRAIN", value_name = "TIME", default_value = "20s",
        value_parser = value::duration, help_heading = "Life")]
    pub drain: Duration,

    /// When the app of `-- COMMAND` is started again [default: never]
    #[arg(long, env = "SIDESTREAM_APP_RESTART", value_name = "WHEN", help_heading = "App")]
    pub app_restart: Option<RestartPolicy>,

    /// File in which an app that runs elsewhere logs: its invalid-state errors are counted, also over rotations
    #[arg(long, env = "SIDESTREAM_APP_LOG", value_name = "FILE", help_heading = "App")]
    pub app_log: Option<PathBuf>,

    /// What is logged, and how.
    #[command(flatten)]
    pub log: LogArgs,

    /// The app: started when the addresses are open, its output passed on and counted, its exit status ours
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,

    /// Which of the flags the environment has set; no flag of its own.
    #[arg(skip)]
    pub twins: Twins,
}

/// The flags of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Address of the sidecar's public side [default: 127.0.0.1:8080, or a free port if that is taken]
    #[arg(long, value_name = "ADDR", value_parser = value::listen_addr, help_heading = "Listening")]
    pub listen: Option<SocketAddr>,

    /// Address of metrics, health and dashboard [default: 127.0.0.1:9180, or a free port if that is taken]
    #[arg(long, value_name = "ADDR", value_parser = value::listen_addr, help_heading = "Listening")]
    pub admin_listen: Option<SocketAddr>,

    /// What is logged, and how.
    #[command(flatten)]
    pub log: LogArgs,
}

/// The flags of `healthcheck`.
#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    /// The --admin-listen of the sidecar to ask
    #[arg(long, env = "SIDESTREAM_ADMIN_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:9180")]
    pub admin_listen: AdminListen,
}

// === impl Cli ===

impl Cli {
    /// Reads the command line of the process and its environment; says what is wrong with it, and exits, if it makes no
    /// sense.
    pub fn read() -> Self {
        Self::try_read(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    /// The same for any arguments, that begin with the program's name.
    ///
    /// # Errors
    /// When they make no sense, or ask for help.
    pub fn try_read(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let args: Vec<_> = args.into_iter().collect();
        let command = || environment::without_empty(Self::command());
        match command().try_get_matches_from(&args) {
            Ok(matches) => {
                let mut cli = Self::from_arg_matches(&matches)?;
                match &mut cli.command {
                    Some(Command::Check(run)) => {
                        let matches = matches.subcommand_matches("check").expect("it was read from there");
                        run.twins = Twins::read(&Self::command(), matches);
                    }
                    Some(Command::Demo(_) | Command::Healthcheck(_)) => {}
                    None => cli.run.twins = Twins::read(&Self::command(), &matches),
                }
                Ok(cli)
            }
            // The help names all twins, also those that are empty now.
            Err(error) if error.kind() == ErrorKind::DisplayHelp => {
                Err(Self::command().try_get_matches_from(&args).err().unwrap_or(error))
            }
            Err(error) => Err(with_cure(error, &args)),
        }
    }
}

/// What the parser can't know: where a value came from, and what an argument was meant to be.
fn with_cure(mut error: clap::Error, args: &[OsString]) -> clap::Error {
    // The environment is read after the arguments, so what is wrong with it is wrong only with it.
    if environment::without_any(Cli::command()).try_get_matches_from(args).is_ok() {
        environment::name_variable(Cli::command(), &mut error);
        return error;
    }
    let (ErrorKind::UnknownArgument, Some(ContextValue::String(word))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
    else {
        return error;
    };
    if word.starts_with('-') { with_dash(word, args).unwrap_or(error) } else { with_tip(error) }
}

/// Of `--max-connections -1` the parser says that there is no flag `-1`. That is the flag's value, and the flag says what
/// is wrong with it. The argument may be longer than what the parser makes of it: of `-5s` it is `-5`.
fn with_dash(word: &str, args: &[OsString]) -> Option<clap::Error> {
    let is_it = |arg: &OsString| arg.to_str().is_some_and(|arg| arg.starts_with(word) && !arg.starts_with("--"));
    let at = args.iter().position(is_it)?;
    let (before, [flag, value, after @ ..]) = args.split_at(at.checked_sub(1)?) else { return None };
    let name = flag.to_str()?.strip_prefix("--").filter(|name| !name.is_empty())?;
    Cli::command().get_arguments().find(|arg| arg.get_long() == Some(name) && arg.get_action().takes_values())?;
    let mut joined = flag.clone();
    joined.push("=");
    joined.push(value);
    let joined = [before, &[joined], after].concat();
    environment::without_any(Cli::command()).try_get_matches_from(joined).err()
}

/// A word that stands alone is mostly the app without the two dashes, or a command behind its flags or misspelled.
fn with_tip(mut error: clap::Error) -> clap::Error {
    if let (ErrorKind::UnknownArgument, Some(ContextValue::String(word))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
    {
        let command = Cli::command();
        let app = format!("what starts the app comes behind two dashes: sidestream [OPTIONS] -- {word}");
        let tips = match nearest(word, command.get_subcommands().map(clap::Command::get_name), 2) {
            Some(name) if name == word => {
                vec![format!("a command comes before its flags: sidestream {name} [OPTIONS]")]
            }
            // deno is an app, and nearly demo.
            Some(name) => vec![format!("there is a command of a like name: sidestream {name} [OPTIONS]"), app],
            None => vec![app],
        };
        let tips = tips.into_iter().map(Into::into).collect();
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
    error
}

/// Variables that have no effect because their names are misspelled: a sentence for each.
pub fn misspelled_variables() -> Vec<String> {
    let set = std::env::vars_os().filter(|(_, value)| !value.is_empty());
    let names = set.filter_map(|(name, _)| name.into_string().ok());
    let mut found: Vec<_> = environment::misspelled(&Cli::command(), names).collect();
    found.sort();
    let sentence = |(name, meant)| format!("{name} in the environment means nothing; {meant} is probably meant");
    found.into_iter().map(sentence).collect()
}

/// Whether a command line ends with the `--` behind which the app was to stand. To the parser that is no app at all.
pub fn lacks_app(args: impl IntoIterator<Item = OsString>) -> bool {
    let mut args = args.into_iter();
    args.any(|arg| arg == "--") && args.next().is_none()
}

#[cfg(test)]
mod tests;
