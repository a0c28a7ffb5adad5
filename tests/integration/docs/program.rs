//! What the program says of itself: its flags from `--help`, its series from `/metrics`.

use std::collections::{BTreeMap, BTreeSet};

use crate::harness::{
    NOTIFICATIONS, PROGRESS,
    app::App,
    running,
    sidestream::{Sidestream, run},
};

/// A flag, as `--help` tells it.
#[derive(Debug, Default)]
pub(super) struct Flag {
    /// The variable of the environment that stands for it.
    pub(super) twin: Option<String>,
    pub(super) default: Option<String>,
}

/// The values of each label of a series.
pub(super) type Labels = BTreeMap<String, BTreeSet<String>>;

/// The flags of the program, or of one of its commands.
pub(super) async fn flags(command: &[&str]) -> BTreeMap<String, Flag> {
    let help = run(command.iter().copied().chain(["--help"])).await;
    assert_eq!(help.code, Some(0), "{}", help.stderr);
    let mut flags = BTreeMap::new();
    // A flag's name stands at most 6 columns from the left, its text further right, and is wrapped there.
    let mut pieces: Vec<(String, String)> = Vec::new();
    for line in help.stdout.lines() {
        let text = line.trim_start();
        match text.find("--") {
            Some(at) if line.len() - text.len() <= 6 && text.starts_with('-') => {
                let name = text[at..].split(' ').next().expect("a split has a first part");
                pieces.push((name.to_owned(), String::new()));
            }
            _ if line.starts_with("          ") => {
                if let Some((_, about)) = pieces.last_mut() {
                    about.extend([text, " "]);
                }
            }
            _ => {}
        }
    }
    for (name, about) in pieces {
        let marked = |mark: &str| {
            let (_, rest) = about.split_once(mark)?;
            Some(rest.split_once(']').expect("a mark has an end").0.to_owned())
        };
        let twin = marked("[env: ").map(|twin| twin.trim_end_matches('=').to_owned());
        flags.insert(name, Flag { twin, default: marked("[default: ") });
    }
    flags
}

/// The keys of a route: those that are listed to who misspells one, and those that `--help` explains.
pub(super) async fn route_keys() -> (Vec<String>, Vec<String>) {
    let refused = run(["check", "--route", "path=/x,colour=red"]).await;
    let (_, keys) = refused.stderr.split_once("the keys are: ").expect("the refusal lists the keys");
    let help = run(["--help"]).await;
    let (_, explained) = help.stdout.split_once("Routes are key=value").expect("--help explains routes");
    // Two spaces, the keys, their value; what they mean stands further right.
    let lines = explained.lines().take_while(|line| !line.is_empty());
    let lines = lines.filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    let names = lines.flat_map(|line| line.split("  ").next().into_iter().flat_map(|names| names.split(", ")));
    let explained = names.map(|name| name.split(['=', '[']).next().expect("a split has a first part").to_owned());
    (keys.trim().split(", ").map(str::to_owned).collect(), explained.collect())
}

/// Every series of a running program by its name without the prefix, and the names of all fields of `/api/stats`.
pub(super) async fn series_and_stats() -> (BTreeMap<String, Labels>, BTreeSet<String>) {
    let app = App::start();
    app.job("v1").answer(running(1));
    let side = Sidestream::before(&app).route(PROGRESS).route(NOTIFICATIONS).start().await;
    let mut client = side.sse("/api/progress/v1").open().await;
    client.next_event().await;

    let text = side.admin("/metrics").header("Connection", "close").fetch().await.text();
    let mut series: BTreeMap<String, Labels> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE sidestream_") {
            series.entry(rest.split(' ').next().expect("a type has a name").to_owned()).or_default();
        }
    }
    for line in text.lines().filter_map(|line| line.strip_prefix("sidestream_")) {
        let Some((name, labels)) = line.split_once('{') else { continue };
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        let family = family.filter(|family| series.contains_key(*family)).unwrap_or(name);
        let known = series.get_mut(family).expect("every series has a type");
        let (labels, _) = labels.rsplit_once('}').expect("labels have an end");
        for label in labels.split("\",") {
            let (key, value) = label.split_once("=\"").expect("a label has a value");
            if key != "le" {
                known.entry(key.to_owned()).or_default().insert(value.trim_end_matches('"').to_owned());
            }
        }
    }
    let mut fields = BTreeSet::new();
    collect_fields(&side.stats().await, &mut fields);
    (series, fields)
}

fn collect_fields(value: &serde_json::Value, into: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                into.insert(name.clone());
                collect_fields(value, into);
            }
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| collect_fields(value, into)),
        _ => {}
    }
}
