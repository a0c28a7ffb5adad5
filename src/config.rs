//! The configuration: what the command line says, checked as a whole.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::error::ErrorKind;
use http::HeaderName;
use http::uri::Authority;
use ipnet::IpNet;

use crate::child::AppCommand;
use crate::child::restart::RestartPolicy;
use crate::cli::value::time;
use crate::cli::{self, Cli, ListenOn, RunArgs};
use crate::event::HeartbeatForm;
use crate::route::{Route, RouteDefaults, SourceSpec, SpecError, split_specs};

mod upstream_addr;

pub use self::upstream_addr::{UpstreamAddr, UpstreamAddrError};

/// nginx (`proxy_read_timeout`), AWS's load balancers and HAProxy's usual settings cut what is silent for so long.
const PROXY_PATIENCE: Duration = Duration::from_secs(60);

/// An app that is asked more often than 20 times a second for each job has little time for anything else.
const FAST_POLL: Duration = Duration::from_millis(50);

const DEFAULT_POLL_MAX_INTERVAL: Duration = Duration::from_secs(5);

const DEFAULT_MAX_CONNECTIONS: usize = 10_000;

/// How the sidecar runs. Everything in it makes sense, alone and together; nobody checks it again.
#[derive(Clone, Debug)]
pub struct Config {
    /// The public side; never empty. Port 0 takes a free one.
    pub listen: Vec<ListenOn>,
    /// The app.
    pub upstream: UpstreamAddr,
    /// The admin side; `None` when it is off.
    pub admin_listen: Option<ListenOn>,
    /// The routes, no two of which match the same request.
    pub routes: Vec<Route>,
    /// What a heartbeat looks like.
    pub heartbeat_form: HeartbeatForm,
    /// The silence after which a heartbeat is sent on streams that no route names.
    pub heartbeat_interval: Duration,
    /// The `retry:` hint on streams that no route names.
    pub retry: Duration,
    /// Whether event streams that no route names are left as they are.
    pub no_guard: bool,
    /// Polls in flight at once; at least 1.
    pub poll_concurrency: usize,
    /// How long a first 404 is asked again; zero is not at all.
    pub not_found_grace: Duration,
    /// The request headers that tell users apart; never empty, each once.
    pub credential_headers: Vec<HeaderName>,
    /// Streams at once; at least 1. The limit of open files may lower it further.
    pub max_connections: usize,
    /// Whether that was given, and is not the default.
    pub max_connections_given: bool,
    /// Streams at once from one address; 0 is no limit.
    pub max_connections_per_ip: usize,
    /// Topics at once; at least 1.
    pub max_topics: usize,
    /// The time for a request's head, once it has begun.
    pub head_timeout: Duration,
    /// A stream whose peer acknowledges nothing for this long is stale; shorter than `reap_after`.
    pub stale_after: Duration,
    /// A stream whose peer takes nothing for this long is closed.
    pub reap_after: Duration,
    /// The time over which streams are ended; zero is at once.
    pub drain: Duration,
    /// The networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The app that we start; `None` when it runs elsewhere.
    pub command: Option<AppCommand>,
    /// When it is started again.
    pub app_restart: RestartPolicy,
    /// Where an app logs that runs elsewhere.
    pub app_log: Option<PathBuf>,
    /// What works but is probably not meant; one sentence each, to be logged at the start.
    pub warnings: Vec<String>,
}

/// Why flags make no sense together, or a route makes none.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A route.
    #[error("--route '{0}': {1}")]
    Route(String, SpecError),
    /// Two routes that one request would match.
    #[error("--route '{0}' and --route '{1}' both match some requests; make their paths differ in a fixed segment")]
    Overlap(String, String),
    /// One address for two listeners.
    #[error("--listen '{0}' and --{1} '{2}' are the same address; give each its own port")]
    SameAddress(ListenOn, &'static str, ListenOn),
    /// A loop, or the admin side in the place of the app.
    #[error("--upstream 'http://{0}' is where --{1} '{2}' listens; give the app and the sidecar different ports")]
    Loop(Authority, &'static str, SocketAddr),
    /// The slowest pace faster than the fastest.
    #[error(
        "--poll-max-interval '{}' is shorter than --poll-interval '{}'; make it at least as long",
        time(*max_interval), time(*interval)
    )]
    Intervals {
        /// The pace to begin with.
        interval: Duration,
        /// The pace to slow down to.
        max_interval: Duration,
    },
    /// Nothing would ever be stale.
    #[error(
        "--stale-after '{}' is not shorter than --reap-after '{}', so nothing would ever count as stale; make it shorter",
        time(*stale_after), time(*reap_after)
    )]
    Stale {
        /// Stale after this.
        stale_after: Duration,
        /// Closed after this.
        reap_after: Duration,
    },
    /// `--` with nothing behind it, or with an empty name.
    #[error("--: what starts the app is missing or empty; write it at the end, as in -- node build")]
    NoCommand,
    /// A policy for an app that is not ours.
    #[error(
        "--app-restart '{}': there is no app to start again; write what starts it at the end, as in -- node build",
        .0.as_str()
    )]
    NoApp(RestartPolicy),
    /// What can't be followed.
    #[error("--app-log '{}' {cure}", path.display())]
    AppLog {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what would be right.
        cure: &'static str,
    },
}

// === impl Config ===

impl Config {
    /// Checks what the command line says, and reads the routes with their template files.
    ///
    /// # Errors
    /// When a route or a combination of flags makes no sense; the text names the flag, what it says and the cure.
    pub fn new(args: &RunArgs) -> Result<Self, ConfigError> {
        let max_interval = args.poll_max_interval.unwrap_or(DEFAULT_POLL_MAX_INTERVAL.max(args.poll_interval));
        if max_interval < args.poll_interval {
            return Err(ConfigError::Intervals { interval: args.poll_interval, max_interval });
        }
        if args.stale_after >= args.reap_after {
            return Err(ConfigError::Stale { stale_after: args.stale_after, reap_after: args.reap_after });
        }
        let admin_listen = args.admin_listen.on();
        check_addresses(&args.listen, admin_listen, &args.upstream)?;

        let mut credential_headers: Vec<HeaderName> = Vec::new();
        for header in &args.credential_header {
            if !credential_headers.contains(header) {
                credential_headers.push(header.clone());
            }
        }

        let mut config = Self {
            listen: args.listen.clone(),
            upstream: args.upstream.clone(),
            admin_listen,
            routes: parse_routes(args, max_interval)?,
            heartbeat_form: args.heartbeat_form,
            heartbeat_interval: args.heartbeat_interval,
            retry: args.retry,
            no_guard: args.no_guard,
            poll_concurrency: args.poll_concurrency,
            not_found_grace: args.not_found_grace,
            credential_headers,
            max_connections: args.max_connections.unwrap_or(DEFAULT_MAX_CONNECTIONS),
            max_connections_given: args.max_connections.is_some(),
            max_connections_per_ip: args.max_connections_per_ip,
            max_topics: args.max_topics,
            head_timeout: args.head_timeout,
            stale_after: args.stale_after,
            reap_after: args.reap_after,
            drain: args.drain,
            trusted_proxies: args.trusted_proxy.clone(),
            command: app_command(args)?,
            app_restart: args.app_restart.unwrap_or(RestartPolicy::Never),
            app_log: args.app_log.as_deref().map(app_log).transpose()?,
            warnings: Vec::new(),
        };
        config.warnings = config.find_warnings().iter().map(|warning| args.twins.explain(warning)).collect();
        config.warnings.extend(cli::misspelled_variables());
        Ok(config)
    }

    /// The configuration that these arguments (without the program's name) and the environment stand for.
    ///
    /// # Errors
    /// As `main` would print them.
    pub fn from_args<I, T>(args: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString> + Clone,
    {
        let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        if cli::lacks_app(args.iter().cloned()) {
            return Err(refusal(&ConfigError::NoCommand.to_string()));
        }
        let cli = Cli::try_read(std::iter::once(OsString::from("sidestream")).chain(args))?;
        Self::new(&cli.run).map_err(|error| refusal(&cli.run.twins.explain(&error.to_string())))
    }

    fn find_warnings(&self) -> Vec<String> {
        let flag = self.heartbeat_interval;
        let own = self.routes.iter().filter(|route| route.heartbeat != flag).map(|route| {
            (format!("heartbeat={} of --route '{}'", time(route.heartbeat), route.path.as_str()), route.heartbeat)
        });
        let mut warnings = Vec::new();
        for (name, heartbeat) in std::iter::once((format!("--heartbeat-interval '{}'", time(flag)), flag)).chain(own) {
            if heartbeat >= PROXY_PATIENCE {
                warnings.push(format!(
                    "{name} is not shorter than the 60s after which nginx and most load balancers cut a silent stream; \
                     15s is safe"
                ));
            }
            if self.stale_after < heartbeat {
                warnings.push(format!(
                    "{name} is longer than --stale-after '{}', so a client that vanishes is noticed only with the \
                     heartbeat after that; make the heartbeat shorter",
                    time(self.stale_after)
                ));
            }
        }
        if self.no_guard && self.routes.is_empty() {
            warnings.push(
                "--no-guard without any --route leaves nothing to do but forward; add a --route or take it out"
                    .to_owned(),
            );
        }
        warnings.extend(self.routes.iter().flat_map(route_warnings));
        if let Some(log) = &self.app_log
            && let Some(folder) = log.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir())
        {
            warnings.push(format!(
                "--app-log '{}': there is no folder '{}', so nothing is counted until there is one",
                log.display(),
                folder.display()
            ));
        }
        // The app gets our environment as it is, and platforms set PORT to where the *outermost* process is to listen.
        let port = std::env::var("PORT").ok().and_then(|port| port.parse::<u16>().ok());
        if self.command.is_some()
            && port.is_some_and(|port| {
                self.listen.iter().any(|place| place.addr().is_some_and(|addr| addr.port() == port))
            })
        {
            warnings.push(
                "PORT in the environment is the port of --listen, and the app gets it too; give it its own, as in -- env \
                 PORT=3000 node build"
                    .to_owned(),
            );
        }
        warnings
    }
}

/// What a route says by itself.
fn route_warnings(route: &Route) -> Vec<String> {
    let name = route.path.as_str();
    let mut warnings: Vec<_> = route
        .path
        .foreign_parameters()
        .map(|(written, ours)| {
            format!("--route '{name}' takes '{written}' as it is written; a parameter would be written {ours}")
        })
        .collect();
    match &route.source {
        SourceSpec::Poll(poll) if poll.interval < FAST_POLL => warnings.push(format!(
            "the interval of --route '{name}' (its own or --poll-interval) is {}, so the app is asked up to {} times a \
             second for each job that changes; 1s is usual",
            time(poll.interval),
            Duration::from_secs(1).as_millis() / poll.interval.as_millis().max(1),
        )),
        SourceSpec::Subscribe(_) if route.linger.is_zero() => warnings.push(format!(
            "the linger of --route '{name}' (its own or --linger) is 0s, so whenever its last client leaves, if only \
             for a reload, the app's stream is closed, which is what makes apps write to closed streams; leave it out \
             for 5m"
        )),
        SourceSpec::Poll(_) | SourceSpec::Subscribe(_) => {}
    }
    warnings
}

fn app_command(args: &RunArgs) -> Result<Option<AppCommand>, ConfigError> {
    match (args.command.split_first(), args.app_restart) {
        (Some((program, _)), _) if program.is_empty() => Err(ConfigError::NoCommand),
        (Some((program, rest)), _) => Ok(Some(AppCommand { program: program.clone(), args: rest.to_vec() })),
        (None, Some(policy)) => Err(ConfigError::NoApp(policy)),
        (None, None) => Ok(None),
    }
}

/// It need not be there yet, but what is there must be a file: the start of a pipe would be the end of ours.
fn app_log(path: &Path) -> Result<PathBuf, ConfigError> {
    let refused = |cure| Err(ConfigError::AppLog { path: path.to_owned(), cure });
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => refused("is a directory; name the file in it that the app writes to"),
        Ok(found) if !found.is_file() => refused("is no regular file; name one that the app writes to"),
        _ => Ok(path.to_owned()),
    }
}

fn parse_routes(args: &RunArgs, max_interval: Duration) -> Result<Vec<Route>, ConfigError> {
    let defaults = RouteDefaults {
        heartbeat: args.heartbeat_interval,
        linger: args.linger,
        retry: args.retry,
        max_age: args.max_age,
        interval: args.poll_interval,
        max_interval,
        timeout: args.poll_timeout,
    };
    let mut parsed: Vec<(&str, Route)> = Vec::new();
    for spec in args.route.iter().flat_map(|text| split_specs(text)) {
        let route = Route::parse(spec, &defaults).map_err(|error| ConfigError::Route(spec.to_owned(), error))?;
        if let Some((other, _)) = parsed.iter().find(|(_, other)| other.path.overlaps(&route.path)) {
            return Err(ConfigError::Overlap((*other).to_owned(), spec.to_owned()));
        }
        parsed.push((spec, route));
    }
    Ok(parsed.into_iter().map(|(_, route)| route).collect())
}

fn check_addresses(listen: &[ListenOn], admin: Option<ListenOn>, upstream: &UpstreamAddr) -> Result<(), ConfigError> {
    for (index, place) in listen.iter().enumerate() {
        if let Some(other) = listen[index + 1..].iter().find(|other| collide(*place, **other)) {
            return Err(ConfigError::SameAddress(*place, "listen", *other));
        }
        // What systemd opens for the one side is not what it opens for the other.
        if let Some(admin) = admin.filter(|admin| place.addr().is_some() && collide(*place, *admin)) {
            return Err(ConfigError::SameAddress(*place, "admin-listen", admin));
        }
    }
    let sides = listen.iter().map(|place| ("listen", place)).chain(admin.iter().map(|place| ("admin-listen", place)));
    for (flag, addr) in sides.filter_map(|(flag, place)| Some((flag, place.addr()?))) {
        if upstream.is_at(addr) {
            return Err(ConfigError::Loop(upstream.authority.clone(), flag, addr));
        }
    }
    Ok(())
}

/// Whether two listeners can't both have their place.
fn collide(one: ListenOn, other: ListenOn) -> bool {
    match (one, other) {
        (ListenOn::At(one), ListenOn::At(other)) => are_same(one, other),
        (one, other) => one == other,
    }
}

/// Whether only one of two listeners can have this address. Two that take a free port (0) always get one.
fn are_same(one: SocketAddr, other: SocketAddr) -> bool {
    let same_family = one.is_ipv4() == other.is_ipv4();
    let either_takes_all = same_family && (one.ip().is_unspecified() || other.ip().is_unspecified());
    one.port() != 0 && one.port() == other.port() && (one.ip() == other.ip() || either_takes_all)
}

/// A refused configuration, as the parser of the command line would print it.
pub fn refusal(sentence: &str) -> clap::Error {
    // Raw: the usage of thirty flags below it would hide the sentence that matters.
    clap::Error::raw(ErrorKind::ValueValidation, format_args!("{sentence}\n"))
}

#[cfg(test)]
mod tests;
