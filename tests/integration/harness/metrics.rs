//! The text of `/metrics`, parsed just far enough to ask for one value.

use std::collections::BTreeMap;

/// All samples of one scrape.
#[derive(Clone, Debug)]
pub(crate) struct Samples(Vec<Sample>);

#[derive(Clone, Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

// === impl Samples ===

impl Samples {
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(lines.map(Sample::parse).collect())
    }

    /// The sum over the series of `sidestream_<name>` that carry these labels. No such series is a failure: a metric
    /// that is documented and missing is a fault of its own.
    pub(crate) fn get(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let found = self.matching(name, labels);
        assert!(!found.is_empty(), "there is no series sidestream_{name} {labels:?}");
        found.iter().map(|sample| sample.value).sum()
    }

    /// The same sum, 0 without such a series: for gauges of routes where a test has none.
    pub(crate) fn total(&self, name: &str) -> f64 {
        self.matching(name, &[]).iter().map(|sample| sample.value).sum()
    }

    /// Whether there is such a series.
    pub(crate) fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        !self.matching(name, labels).is_empty()
    }

    /// The names of all series, without labels.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|sample| sample.name.as_str())
    }

    /// The names of the program's own series that are not 0.
    pub(crate) fn moved(&self) -> impl Iterator<Item = &str> {
        let moved = self.0.iter().filter(|sample| sample.name.starts_with("sidestream_") && sample.value != 0.0);
        moved.map(|sample| sample.name.as_str())
    }

    /// Every value of one label.
    pub(crate) fn label_values(&self, label: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(move |sample| sample.labels.get(label)).map(String::as_str)
    }

    fn matching(&self, name: &str, labels: &[(&str, &str)]) -> Vec<&Sample> {
        let full = format!("sidestream_{name}");
        self.0
            .iter()
            .filter(|sample| sample.name == full)
            .filter(|sample| labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|it| it == value)))
            .collect()
    }
}

// === impl Sample ===

impl Sample {
    fn parse(line: &str) -> Self {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("not a sample: {line:?}"));
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, parse_labels(labels.strip_suffix('}').expect("labels end with a brace"))),
            None => (series, BTreeMap::new()),
        };
        let value = value.parse().unwrap_or_else(|_| panic!("not a number: {line:?}"));
        Self { name: name.to_owned(), labels, value }
    }
}

/// `a="x",b="y"`. A comma or a brace may stand inside a value (`{id}` does), so it goes by the quotes.
fn parse_labels(mut text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    while let Some((name, rest)) = text.split_once("=\"") {
        let end = rest.find('"').expect("a label's value is closed");
        labels.insert(name.trim_start_matches(',').to_owned(), rest[..end].to_owned());
        text = &rest[end + 1..];
    }
    labels
}
