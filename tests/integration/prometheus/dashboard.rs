//! The Grafana dashboard, read as Grafana reads it: its panels, their expressions, its variables and what they become.

use std::{collections::BTreeMap, fs};

use serde_json::Value;

use super::server::Prometheus;
use crate::harness::node::repository_file;

/// The whole document.
#[derive(Debug)]
pub(super) struct Dashboard(Value);

/// One expression of a panel.
#[derive(Debug)]
pub(super) struct Expression {
    pub(super) panel: String,
    pub(super) text: String,
}

// === impl Dashboard ===

impl Dashboard {
    pub(super) fn read() -> Self {
        let text = fs::read_to_string(repository_file("deploy/grafana/sidestream.json")).expect("the file can be read");
        Self(serde_json::from_str(&text).expect("the dashboard is JSON"))
    }

    /// All panels, rows among them.
    pub(super) fn panels(&self) -> &[Value] {
        self.0["panels"].as_array().expect("panels are a list")
    }

    /// Every expression of every panel, and those of the annotations.
    pub(super) fn expressions(&self) -> Vec<Expression> {
        let of_panels = self.panels().iter().flat_map(|panel| {
            let targets = panel["targets"].as_array().map_or(&[][..], Vec::as_slice);
            targets.iter().map(|target| (text(&panel["title"]), text(&target["expr"])))
        });
        of_panels.map(|(panel, text)| Expression { panel, text }).collect()
    }

    /// What is drawn over the panels when there is something to draw.
    pub(super) fn annotations(&self) -> Vec<String> {
        self.0["annotations"]["list"].as_array().expect("a list").iter().map(|it| text(&it["expr"])).collect()
    }

    /// The variables with what Grafana puts in their place when "All" is chosen, found as Grafana finds it.
    pub(super) async fn variables(&self, prometheus: &Prometheus) -> BTreeMap<String, String> {
        // With a step of 5 s and a scrape each second.
        let mut known: BTreeMap<_, _> =
            [("__rate_interval", "6s"), ("__range", "30s")].map(|(name, is)| (name.to_owned(), is.to_owned())).into();
        for variable in self.0["templating"]["list"].as_array().expect("a list") {
            if variable["type"] != "query" {
                continue;
            }
            let query = filled(&text(&variable["query"]["query"]), &known);
            let asked = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (series, label) = asked.and_then(|asked| asked.rsplit_once(", ")).expect("label_values(series, label)");
            let values = prometheus.label_values(series, label).await;
            assert!(!values.is_empty(), "{query} finds nothing");
            known.insert(text(&variable["name"]), any_of(&values));
        }
        known
    }
}

/// An expression with the variables' values in their places.
pub(super) fn filled(expr: &str, variables: &BTreeMap<String, String>) -> String {
    let filled = variables.iter().fold(expr.to_owned(), |expr, (name, value)| expr.replace(&format!("${name}"), value));
    // What a regular expression ends with is no variable.
    assert!(!filled.contains("$job") && !filled.contains("$__"), "{filled}: a variable is left");
    filled
}

/// A pattern for any of these values, escaped as Grafana does it for a text within quotes.
fn any_of(values: &[String]) -> String {
    let escaped = values.iter().map(|value| {
        let escape = |c: char| match c {
            '\\' => r"\\\\".to_owned(),
            '$' | '^' | '*' | '{' | '}' | '[' | ']' | '\'' | '+' | '?' | '.' | '(' | ')' | '|' => format!(r"\\{c}"),
            _ => c.to_string(),
        };
        value.chars().map(escape).collect::<String>()
    });
    let escaped: Vec<_> = escaped.collect();
    if escaped.len() == 1 { escaped[0].clone() } else { format!("({})", escaped.join("|")) }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}
