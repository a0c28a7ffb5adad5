//! What a configuration will do, in plain words: the output of `check`.

use std::fmt::Write;

use crate::child::restart::RestartPolicy;
use crate::cli::{ListenOn, value::time};
use crate::config::Config;
use crate::event::HeartbeatForm;
use crate::files::Plan;
use crate::route::{ErrorStyle, PollSpec, Replay, Route, Share, SourceSpec, SubscribeSpec};
use crate::status::StatusRule;

/// Fits a terminal of 100 columns.
const WIDTH: usize = 98;

const INDENT: &str = "  ";

/// Says what the sidecar would do with this configuration in a process that may open so many files (`None`: as many as it
/// likes) and has so many shards; a text of several paragraphs, wrapped for a terminal.
pub fn describe(config: &Config, open_files: Option<u64>, shards: usize) -> String {
    let plan = Plan::new(open_files, config.max_connections, config.poll_concurrency, shards);
    let mut text = String::new();
    paragraph(&mut text, "", &addresses(config));
    for (index, route) in config.routes.iter().enumerate() {
        let _ = writeln!(text, "\nRoute {}: {}", index + 1, route.path.as_str());
        for sentence in route_sentences(route, config) {
            paragraph(&mut text, INDENT, &sentence);
        }
    }
    text.push_str("\nEverything else\n");
    paragraph(&mut text, INDENT, &everything_else(config));
    if config.command.is_some() || config.app_log.is_some() {
        text.push_str("\nThe app\n");
    }
    for sentence in app(config) {
        paragraph(&mut text, INDENT, &sentence);
    }
    text.push_str("\nLimits\n");
    for sentence in limits(config, &plan) {
        paragraph(&mut text, INDENT, &sentence);
    }
    let mut warnings = config.warnings.clone();
    warnings.extend(plan.warning(config.max_connections_given));
    if !warnings.is_empty() {
        text.push_str("\nWarnings\n");
        for warning in &warnings {
            paragraph(&mut text, INDENT, &format!("{warning}."));
        }
    }
    text
}

fn addresses(config: &Config) -> String {
    let name = |place: &ListenOn| match place {
        ListenOn::At(addr) => addr.to_string(),
        ListenOn::Systemd => "the sockets that systemd opens".to_owned(),
    };
    let listen: Vec<_> = config.listen.iter().map(name).collect();
    let admin = match config.admin_listen {
        Some(ListenOn::At(addr)) => format!("Metrics, health and the dashboard are on http://{addr}."),
        Some(ListenOn::Systemd) => {
            "Metrics, health and the dashboard are on the socket that systemd opens and calls 'admin'.".to_owned()
        }
        None => "The admin side is off: no metrics, no health, no dashboard.".to_owned(),
    };
    format!("Listens on {} and stands before the app at http://{}. {admin}", and(&listen), config.upstream.authority)
}

fn route_sentences(route: &Route, config: &Config) -> Vec<String> {
    let mut sentences = vec![request(route)];
    match &route.source {
        SourceSpec::Poll(poll) => {
            sentences.push(poll_source(route, poll, config));
            sentences.push(poll_end(&poll.status));
        }
        SourceSpec::Subscribe(subscribe) => {
            sentences.push(subscribe_source(route, subscribe, config));
            sentences.push(subscribe_end(&subscribe.status));
        }
    }
    sentences.push(sharing(route, config));
    sentences.push(stream_life(route));
    sentences.push(trouble(route.errors));
    sentences
}

fn request(route: &Route) -> String {
    let path = route.path.as_str();
    if route.takes_any_accept() {
        format!(
            "GET {path} is answered with an event stream when the client accepts text/event-stream or names no \
             preference; any other request there goes to the app."
        )
    } else {
        format!(
            "GET {path} is answered with an event stream when the client accepts text/event-stream; as this is also \
             the path that is polled, any other request there goes to the app."
        )
    }
}

fn poll_source(route: &Route, poll: &PollSpec, config: &Config) -> String {
    let pace = if poll.interval == poll.max_interval {
        format!("every {}", time(poll.interval))
    } else {
        format!(
            "every {} while it changes, slowing to {} while it does not",
            time(poll.interval),
            time(poll.max_interval)
        )
    };
    let shape =
        if poll.template.is_some() { "in the shape of the template" } else { "as the app wrote it, on one line" };
    format!(
        "Polls GET {} of http://{} {}, {pace}, and waits {} for an answer. Every change is sent to all who watch, \
         {shape}.",
        poll.target.as_str(),
        config.upstream.authority,
        how_often(route),
        time(poll.timeout),
    )
}

fn subscribe_source(route: &Route, subscribe: &SubscribeSpec, config: &Config) -> String {
    let target = match &subscribe.target {
        Some(target) => format!("GET {}", target.as_str()),
        None => "the client's own path and query".to_owned(),
    };
    let newcomers = match (subscribe.greeting, subscribe.replay) {
        (0, Replay::Missed) => "the events it missed, by its Last-Event-ID".to_owned(),
        (0, Replay::Latest) => "the last event".to_owned(),
        (n, Replay::Missed) => format!("{} and then those it missed, by its Last-Event-ID", first_events(n)),
        (n, Replay::Latest) => format!("{} and then the last one", first_events(n)),
    };
    let patience = match subscribe.begins_within {
        Some(limit) => format!("waits {} for the app to begin its answer", time(limit)),
        None => "lets the app begin its answer when it likes".to_owned(),
    };
    format!(
        "Subscribes to {target} of http://{} {}, reconnects by itself with what it saw last, and {patience}. Every \
         event is sent to all subscribers; a newcomer gets {newcomers}.",
        config.upstream.authority,
        how_often(route),
    )
}

fn first_events(greeting: usize) -> String {
    if greeting == 1 { "the stream's first event".to_owned() } else { format!("the stream's first {greeting} events") }
}

/// What one topic is, in the words of the route.
fn how_often(route: &Route) -> String {
    let mut things = match &route.source {
        SourceSpec::Subscribe(SubscribeSpec { target: None, .. }) => vec!["path".to_owned(), "query".to_owned()],
        _ if route.path.names().next().is_none() => Vec::new(),
        SourceSpec::Poll(_) => vec!["job".to_owned()],
        SourceSpec::Subscribe(_) => vec!["path".to_owned()],
    };
    if route.share == Share::Credentials {
        things.push("user".to_owned());
    }
    if things.is_empty() { "once for all".to_owned() } else { format!("once per {}", and(&things)) }
}

fn poll_end(rule: &StatusRule) -> String {
    match (&rule.pointer, &rule.done) {
        (None, None) => "Ends at a status such as completed or failed, found by itself.".to_owned(),
        (None, Some(done)) => format!("Ends at the status {}, found by itself.", or(done)),
        (Some(pointer), None) => format!("Ends at a status such as completed or failed, found at {pointer}."),
        (Some(pointer), Some(done)) => format!("Ends at the status {}, found at {pointer}.", or(done)),
    }
}

fn subscribe_end(rule: &StatusRule) -> String {
    let place = rule.pointer.as_ref().map_or("in its name or data".to_owned(), |pointer| format!("at {pointer}"));
    let status = rule.done.as_ref().map_or("a status such as completed or failed".to_owned(), |done| or(done));
    format!("Ends when the app closes the stream within 10s after an event with {status} {place}, or answers 204.")
}

fn sharing(route: &Route, config: &Config) -> String {
    let names: Vec<_> = config.credential_headers.iter().map(|name| name.as_str().to_owned()).collect();
    let headers = and(&names);
    let admitted_again =
        route.max_age.map_or(String::new(), |age| format!(", and is made again at least every {}", time(age)));
    match (route.share, &route.source) {
        (Share::Credentials, _) => {
            format!("Users are told apart by {headers}: tabs of one user share, two users never do.")
        }
        (Share::Authorized, SourceSpec::Poll(_)) => format!(
            "All whom the app admits share: each newcomer's own request, with their {headers}, decides{admitted_again}."
        ),
        (Share::Authorized, SourceSpec::Subscribe(_)) => format!(
            "All whom the app admits share: each newcomer's own request, with their {headers}, \
             decides{admitted_again}. For that each newcomer opens one stream at the app and closes it as soon as the \
             app has answered."
        ),
        (Share::Public, _) => format!(
            "ATTENTION: share=public sends no {} to the app and compares none: everybody who asks gets the same \
             stream.",
            or(&names)
        ),
    }
}

fn stream_life(route: &Route) -> String {
    let age = match route.max_age {
        Some(age) => format!("a stream is ended after {} and opened anew by its client", time(age)),
        None => "a stream may live for ever".to_owned(),
    };
    let linger = if route.linger.is_zero() {
        "the source stops when the last client leaves".to_owned()
    } else {
        format!("the source goes on for {} after the last client has left", time(route.linger))
    };
    format!(
        "A heartbeat is sent after {} of silence; clients reconnect after about {}; {age}; {linger}.",
        time(route.heartbeat),
        time(route.retry),
    )
}

fn trouble(style: ErrorStyle) -> String {
    let told = match style {
        ErrorStyle::Event => "get one 'upstream-error' event",
        ErrorStyle::Data => "get one message {\"type\":\"error\",…}",
        ErrorStyle::Off => "are not told",
    };
    format!("While the app is in trouble clients stay connected and {told}.")
}

fn everything_else(config: &Config) -> String {
    if config.no_guard {
        return "Is forwarded to the app untouched, event streams too (--no-guard).".to_owned();
    }
    let form = match config.heartbeat_form {
        HeartbeatForm::Comment | HeartbeatForm::CommentBlock => "a comment",
        HeartbeatForm::Event => "a 'ping' event",
    };
    format!(
        "Is forwarded to the app untouched. Event streams among its answers are passed on one to one, with {form} as \
         heartbeat between events after {} of silence.",
        time(config.heartbeat_interval),
    )
}

fn app(config: &Config) -> Vec<String> {
    let mut sentences = Vec::new();
    if let Some(command) = &config.command {
        let again = match config.app_restart {
            RestartPolicy::Never => "When it ends, so does the sidecar, with its exit status.",
            RestartPolicy::OnFailure => {
                "When it ends with a status other than 0 or by a signal, it is started again after a pause of up to 30s; \
                 with 0, the sidecar ends too."
            }
            RestartPolicy::Always => "However it ends, it is started again after a pause of up to 30s.",
        };
        sentences.push(format!(
            "Is started once the addresses are open, as: {command}. What it prints is passed on, and its invalid-state \
             errors are counted there. {again} When the process is told to stop, the app is told after the streams have \
             ended, and killed 8s later."
        ));
    }
    if let Some(log) = &config.app_log {
        sentences.push(format!("Invalid-state errors are counted in its log, {}, from now on.", log.display()));
    }
    sentences
}

fn limits(config: &Config, plan: &Plan) -> Vec<String> {
    let per_ip = match config.max_connections_per_ip {
        0 => "with no limit per address".to_owned(),
        limit => format!("at most {limit} of them from one address"),
    };
    let proxies: Vec<_> = config.trusted_proxies.iter().map(ToString::to_string).collect();
    let believed = if proxies.is_empty() {
        "X-Forwarded-For is believed from nobody.".to_owned()
    } else {
        format!("X-Forwarded-For is believed from {}.", and(&proxies))
    };
    let grace = if config.not_found_grace.is_zero() {
        String::new()
    } else {
        format!(" A job's first 404 is asked again for {}.", time(config.not_found_grace))
    };
    let drain =
        if config.drain.is_zero() { "ended at once".to_owned() } else { format!("ended over {}", time(config.drain)) };
    vec![
        format!("{} streams, {per_ip}; {} topics. {believed}", plan.streams_max, config.max_topics),
        format!("{} polls in flight at once.{grace}", config.poll_concurrency),
        format!("A request's head has {} once it has begun.", time(config.head_timeout)),
        format!(
            "A client that acknowledges nothing counts as stale after {} and is closed after {}. When the process is \
             told to stop, streams are {drain}.",
            time(config.stale_after),
            time(config.reap_after),
        ),
    ]
}

fn and(items: &[String]) -> String {
    joined(items, "and")
}

fn or(items: &[String]) -> String {
    joined(items, "or")
}

fn joined(items: &[String], word: &str) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} {word} {last}", first.join(", ")),
    }
}

/// Appends a text with line breaks between words where it would grow too wide.
fn paragraph(out: &mut String, indent: &str, text: &str) {
    let mut column = 0;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if column > 0 && column + 1 + width > WIDTH {
            out.push('\n');
            column = 0;
        }
        let gap = if column == 0 { indent } else { " " };
        out.push_str(gap);
        out.push_str(word);
        column += gap.len() + width;
    }
    out.push('\n');
}

#[cfg(test)]
mod tests;
