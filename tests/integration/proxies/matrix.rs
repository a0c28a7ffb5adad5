//! The table of `docs/proxies.md`. Each test that plays a stage checks its own line of it, so that the docs say what was
//! seen and nothing else; with `UPDATE_DOCS=1` in the environment it writes the line instead.

use std::{collections::BTreeSet, fs, path::PathBuf, sync::Mutex};

use super::{
    Setup,
    proxy::Kind,
    reload::AtReload,
    stage::{Delivery, Findings},
};
use crate::harness::node::repository_file;

/// Which cell of a line is the version: what Debian ships moves on, so it is written and never compared.
const VERSION: usize = 1;

/// The docs are one file, and tests run beside each other.
static DOCS: Mutex<()> = Mutex::new(());

/// Checks or writes the line of a setup that does all it must.
pub(super) fn check(setup: &Setup, findings: &Findings) {
    let at_reload = match findings.at_reload {
        AtReload::Cut => "streams cut, nothing lost",
        AtReload::GoOn => "streams go on, nothing lost",
    };
    // The stage fails where these three are not so.
    let must = [events(Delivery::OneByOne), "lives", "cut by the proxy"];
    line(setup, &[&[events(findings.alone)], must.as_slice(), &[at_reload]].concat());
}

/// Checks or writes the line of a setup that only shows how events get through it.
pub(super) fn check_control(setup: &Setup, delivery: Delivery) {
    line(setup, &["", events(delivery), "", "", ""]);
}

fn events(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::OneByOne => "one by one",
        Delivery::Late => "one by one, but late",
        Delivery::HeldBack => "**held back**",
    }
}

fn line(setup: &Setup, seen: &[&str]) {
    let outermost = setup.kinds.last().expect("a setup has a proxy");
    let files: BTreeSet<_> = setup.kinds.iter().map(|kind| link(*kind)).collect();
    let mut cells = vec![setup.name.to_owned(), outermost.version(), files.into_iter().collect::<Vec<_>>().join(", ")];
    cells.extend(seen.iter().map(|cell| (*cell).to_owned()));

    let _one_at_a_time = DOCS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let path = docs();
    let text = fs::read_to_string(&path).expect("the docs are in the repository");
    let in_docs = text.lines().find(|line| cells_of(line).first() == Some(&setup.name));
    let in_docs = in_docs.unwrap_or_else(|| panic!("docs/proxies.md has no line {:?}", setup.name));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let ours = format!("| {} |", cells.join(" | "));
        fs::write(&path, text.replace(in_docs, &ours)).expect("the docs can be written");
        return;
    }
    let mut expected = cells_of(in_docs);
    assert_eq!(expected.len(), cells.len(), "not a line of the table: {in_docs}");
    expected[VERSION] = &cells[VERSION];
    assert_eq!(
        expected, cells,
        "docs/proxies.md says something else than was seen; UPDATE_DOCS=1 writes what was seen"
    );
}

/// The file as a link from the docs.
fn link(kind: Kind) -> String {
    let file = kind.file();
    let name = file.rsplit('/').next().unwrap_or(file);
    format!("[`{name}`](../{file})")
}

fn cells_of(line: &str) -> Vec<&str> {
    let inner = line.strip_prefix('|').and_then(|line| line.strip_suffix('|'));
    inner.map(|inner| inner.split('|').map(str::trim).collect()).unwrap_or_default()
}

fn docs() -> PathBuf {
    repository_file("docs/proxies.md")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxies::SETUPS;

    /// A line that no test checks would be a claim.
    #[test]
    fn the_table_has_the_lines_that_are_tested_and_no_others() {
        let text = fs::read_to_string(docs()).expect("the docs are in the repository");
        let lines = text.lines().map(cells_of).filter(|cells| !cells.is_empty());
        // The first two are the head of the table.
        let names: Vec<_> = lines.map(|cells| cells[0].to_owned()).skip(2).collect();

        assert_eq!(names, SETUPS.map(|setup| setup.name.to_owned()));
    }

    /// What users copy from the docs is what is tested: each block of code below a comment that names a file stands in
    /// that file, line for line.
    #[test]
    fn the_config_lines_in_the_docs_stand_in_the_tested_files() {
        let text = fs::read_to_string(docs()).expect("the docs are in the repository");
        let mut files = BTreeSet::new();
        for part in text.split("<!-- ").skip(1) {
            let (file, rest) = part.split_once(" -->\n").expect("a comment ends");
            let code = rest.strip_prefix("```").and_then(|rest| rest.split_once("```"));
            let code = code.unwrap_or_else(|| panic!("no code below {file}")).0;
            // The first line is the language.
            let code = code.split_once('\n').expect("a block has lines").1;
            let tested = fs::read_to_string(repository_file(file)).unwrap_or_else(|error| panic!("{file}: {error}"));

            assert!(!code.is_empty() && tested.contains(code), "{file} is not what the docs say:\n{code}");
            files.insert(file);
        }
        let all: BTreeSet<_> = SETUPS.iter().flat_map(|setup| setup.kinds).map(|kind| kind.file()).collect();
        assert_eq!(files, all, "the docs show each file");
    }
}
