//! The alert rules as a file of text, read just far enough: which alerts there are, and where each begins and ends.

use std::{collections::BTreeMap, fs};

use crate::harness::node::repository_file;

/// The file that operators copy.
pub(crate) fn text() -> String {
    fs::read_to_string(repository_file("deploy/prometheus/sidestream.rules.yml")).expect("the file can be read")
}

/// Each alert's text, by its name.
pub(crate) fn alerts() -> BTreeMap<String, String> {
    let text = text();
    let blocks = text.split("- alert: ").skip(1);
    blocks.map(|block| (block.lines().next().expect("a name").to_owned(), block.to_owned())).collect()
}

/// The same rules for a run of seconds: nothing has to last, rates look back over 5 or 10 s, and three lines are moved
/// to where a run of seconds gets to.
pub(super) fn sharpened() -> String {
    let mut rules = text();
    for (window, shorter) in [("[2m]", "[5s]"), ("[5m]", "[10s]"), ("[15m]", "[10s]")] {
        rules = rules.replace(window, shorter);
    }
    let moved = [
        ("data_age_seconds > 60", "data_age_seconds > 4"),
        ("_timestamp_seconds > 15", "_timestamp_seconds > -60"),
        ("[30m])) > 2.5", "[30m])) > 0.5"),
    ];
    for (line, nearer) in moved {
        assert!(rules.contains(line), "{line} is not in the rules");
        rules = rules.replace(line, nearer);
    }
    let lines = rules.lines().map(|line| match line.split_once("for: ") {
        Some((before, _)) if before.trim().is_empty() => format!("{before}for: 0s"),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}
