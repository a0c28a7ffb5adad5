//! The docs say what is there: every flag, key, series, file and command that they name exists, and none that exists is
//! left out. What they say about it is for people to judge.

mod page;
mod program;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
};

use self::{
    page::{Page, expanded, files_below, root, spans},
    program::Labels,
};
use crate::{
    harness::sidestream::{binary, finish},
    prometheus::rules::alerts,
};

/// Asserts that two lists hold the same, and says what is missing on which side.
fn assert_same<'a>(
    what: &str,
    docs: impl IntoIterator<Item = &'a String>,
    program: impl IntoIterator<Item = &'a String>,
) {
    let (docs, program): (BTreeSet<_>, BTreeSet<_>) = (docs.into_iter().collect(), program.into_iter().collect());
    let missing: Vec<_> = program.difference(&docs).collect();
    let invented: Vec<_> = docs.difference(&program).collect();
    assert!(missing.is_empty() && invented.is_empty(), "{what}: not in the docs {missing:?}, only there {invented:?}");
}

#[tokio::test]
async fn the_readme_has_every_flag_with_its_default_and_no_other() {
    let known = program::flags(&[]).await;
    let known: BTreeMap<_, _> = known.into_iter().filter(|(name, _)| name != "--help" && name != "--version").collect();
    let mut documented: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in Page::read("README.md").table("flag") {
        let (flags, defaults) = (spans(&row[0]), spans(&row[1]));
        if flags.len() == 1 {
            documented.insert(flags[0].clone(), defaults);
        } else {
            assert_eq!(flags.len(), defaults.len(), "each of {flags:?} has one default");
            documented.extend(flags.into_iter().zip(defaults).map(|(flag, default)| (flag, vec![default])));
        }
    }

    assert_same("flags", documented.keys(), known.keys());
    for (name, flag) in &known {
        let twin = format!("SIDESTREAM_{}", name.trim_start_matches('-').to_uppercase().replace('-', "_"));
        assert_eq!(flag.twin.as_deref(), Some(&*twin), "{name}");
        // Where the help has words beside a default, the README may have others; what begins with a digit is a value.
        let words = flag.default.as_deref().unwrap_or_default().split([' ', ',']).filter(|word| !word.is_empty());
        let words: Vec<_> = words.map(str::to_owned).collect();
        let values: Vec<_> = documented[name].iter().filter(|value| *value != "off").cloned().collect();
        assert_eq!(words.first(), values.first(), "the default of {name}");
        assert!(
            values.iter().all(|value| words.contains(value)),
            "{name}: {values:?} in the README, {words:?} in --help"
        );
        let said = words.iter().filter(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        assert_same(
            &format!("defaults of {name}"),
            values.iter().filter(|value| value.starts_with(|c: char| c.is_ascii_digit())),
            said,
        );
    }
}

#[tokio::test]
async fn the_readme_has_every_key_of_a_route_and_no_other() {
    let keys = Page::read("README.md").table("key").into_iter().flat_map(|row| spans(&row[0]));
    let keys: Vec<_> =
        keys.map(|key| key.split(['=', '[']).next().expect("a split has a first part").to_owned()).collect();

    let (known, helped) = program::route_keys().await;
    assert_same("keys of a route", &keys, &known);
    assert_same("keys of a route in --help", &helped, &known);
}

/// Names, labels and the values of labels, both ways; then what the prose says of them.
#[tokio::test]
async fn the_readme_has_every_series_with_its_labels_and_no_other() {
    let (series, stats) = program::series_and_stats().await;
    let mut documented: BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
    for row in Page::read("README.md").table("series") {
        for name in spans(&row[0]) {
            documented.insert(name, (spans(&row[1]).into_iter().collect(), spans(&row[2]).into_iter().collect()));
        }
    }
    // The text of a route and the version are no words of the docs.
    let is_word = |label: &str| label != "route" && label != "version";

    documented.remove("build_info").expect("build_info is documented");
    assert_same("series", documented.keys(), series.keys().filter(|name| *name != "build_info"));
    for (name, labels) in series.iter().filter(|(name, _)| *name != "build_info") {
        let (documented_labels, words) = &documented[name];
        assert_same(&format!("labels of {name}"), documented_labels, labels.keys());
        // Beside values of labels only the events of our own are called by such names.
        let values: BTreeSet<_> = labels.values().flatten().collect();
        let is_name = |word: &&String| word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        let invented: Vec<_> = words.iter().filter(is_name).filter(|word| !values.contains(word)).collect();
        assert!(invented.iter().all(|word| ["done", "gone"].contains(&word.as_str())), "{name} is never {invented:?}");
        for (label, values) in labels.iter().filter(|(label, _)| is_word(label)) {
            // A series with the labels of another may leave their explanation to it.
            let of_all = documented.values().filter(|(labels, _)| labels.contains(label)).flat_map(|(_, words)| words);
            let explained: BTreeSet<_> =
                if words.is_disjoint(values) { of_all.collect() } else { words.iter().collect() };
            let missing: Vec<_> = values.iter().filter(|value| !explained.contains(value)).collect();
            assert!(missing.is_empty(), "{name}: {label} is said to be {explained:?}, and can be {missing:?}");
        }
    }
    for page in Page::all() {
        for span in page.spans() {
            if let Err(what) = names_series(&span, &series, &stats) {
                panic!("{}: `{span}`: {what}", page.path);
            }
        }
    }
}

/// What looks like the name of a series, with or without labels, must be one.
fn names_series(span: &str, series: &BTreeMap<String, Labels>, stats: &BTreeSet<String>) -> Result<(), String> {
    let (name, labels) = match span.split_once('{') {
        Some((name, labels)) if labels.contains("=\"") => (name, labels.trim_end_matches('}')),
        _ if ["_total", "_seconds"].iter().any(|end| span.ends_with(end)) => (span, ""),
        _ => return Ok(()),
    };
    let name = name.trim_start_matches("sidestream_");
    if !name.chars().all(|c| c.is_ascii_lowercase() || c == '_') || stats.contains(name) {
        return Ok(());
    }
    let known = series.get(name).ok_or("there is no such series")?;
    for label in labels.split(',').filter(|label| !label.is_empty()) {
        let (key, value) = label.split_once('=').ok_or("a label has no value")?;
        let values = known.get(key).ok_or("there is no such label")?;
        if !values.contains(value.trim_matches('"')) {
            return Err(format!("{key} is one of {values:?}"));
        }
    }
    Ok(())
}

/// What people copy into the graph.
#[tokio::test]
async fn queries_in_the_docs_name_series_that_exist() {
    let (series, _) = program::series_and_stats().await;
    let mut named = 0;
    for page in Page::all() {
        for block in page.blocks().into_iter().filter(|block| block.language == "promql") {
            let words = block.text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for name in words.filter_map(|word| word.strip_prefix("sidestream_")) {
                let family =
                    ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
                assert!(series.contains_key(family), "{}: there is no sidestream_{name}", page.path);
                named += 1;
            }
        }
    }
    assert!(named > 20, "only {named} series are named");
}

#[test]
fn every_alert_has_its_section_in_the_runbook_and_no_other() {
    let sections =
        Page::read("docs/runbook.md").anchors().into_iter().filter(|anchor| anchor.starts_with("sidestream"));
    let alerts: Vec<_> = alerts().into_keys().map(|name| name.to_lowercase()).collect();
    assert_same("alerts", &sections.collect::<Vec<_>>(), &alerts);
}

#[test]
fn links_lead_somewhere() {
    for page in Page::all() {
        for link in page.links() {
            if link.starts_with("http") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let folder = Path::new(&page.path).parent().expect("a file has a folder");
            let file = if file.is_empty() { Path::new(&page.path).to_owned() } else { folder.join(file) };
            assert!(root().join(&file).exists(), "{}: there is no {link}", page.path);
            if !anchor.is_empty() {
                let anchors = Page::read(file.to_str().expect("names are UTF-8")).anchors();
                assert!(anchors.iter().any(|known| known == anchor), "{}: {link} is none of {anchors:?}", page.path);
            }
        }
    }
}

/// `src/topic.rs`, `tests/soak --minutes 10`, `deploy/proxies`, `Cargo.toml`: what looks like a file of the repository.
#[tokio::test]
async fn files_and_flags_that_the_docs_name_exist() {
    let mut flags: BTreeSet<String> = BTreeSet::new();
    for command in [&[][..], &["check"], &["demo"], &["healthcheck"]] {
        flags.extend(program::flags(command).await.into_keys());
    }
    for script in ["tests", "benches"].into_iter().flat_map(files_below).filter_map(script) {
        let words = script.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        flags.extend(words.filter(|word| word.starts_with("--")).map(str::to_owned));
    }

    let pages = Page::all().into_iter().map(|page| (page.spans(), page.path));
    // In the files that people copy, what is said to people stands in comments.
    let copied = files_below("deploy").into_iter().map(|path| {
        let path = path.to_str().expect("names are UTF-8").to_owned();
        let text = Page::read(&path).text;
        let comments = text.lines().filter_map(|line| line.trim_start().strip_prefix('#')).map(str::to_owned);
        (comments.collect(), path)
    });
    for (texts, path) in pages.chain(copied) {
        for token in texts.iter().flat_map(|text| text.split_whitespace()) {
            let token = token.trim_matches(|c: char| matches!(c, ',' | '.' | ';' | ':' | '(' | ')' | '"' | '\''));
            if let Some(name) = token.strip_prefix("--").filter(|name| !name.is_empty()) {
                let name = name.split('=').next().expect("a split has a first part");
                assert!(flags.contains(&format!("--{name}")), "{path}: no program and no script has a flag --{name}");
            }
            for file in expanded(token).into_iter().filter(|file| is_of_the_repository(file)) {
                assert!(exists(&file, &path), "{path}: there is no {file}");
            }
        }
    }
}

/// The text of what is run by itself; tests in Rust give flags that must be refused.
fn script(path: std::path::PathBuf) -> Option<String> {
    let is_script = path.extension().is_none_or(|extension| ["py", "mjs"].iter().any(|it| extension == *it));
    fs::read_to_string(root().join(path)).ok().filter(|_| is_script)
}

fn is_of_the_repository(name: &str) -> bool {
    let is_below = ["src/", "tests/", "benches/", "deploy/", "docs/", "fuzz/"].iter().any(|top| name.starts_with(top));
    let is_file = [".toml", ".md", ".lock"].iter().any(|end| name.ends_with(end)) && !name.contains('/');
    (is_below && !name.contains("/target")) || is_file
}

/// From the root or from the page's own folder; a module may be named without its ending.
fn exists(name: &str, page: &str) -> bool {
    let folder = Path::new(page).parent().expect("a file has a folder");
    // Of a pattern only what stands before it is looked at.
    let name =
        name.split(['*', '<', '{']).next().expect("a split has a first part").split("::").next().unwrap_or_default();
    [root().to_owned(), root().join(folder)]
        .iter()
        .any(|base| base.join(name).exists() || base.join(format!("{name}.rs")).exists())
}

/// A command or long form that nobody knows of is not run.
#[test]
fn the_readme_names_every_command_of_the_tests_and_benches() {
    let readme = Page::read("README.md").spans();
    let is_command = |path: &std::path::PathBuf| {
        let is_run = path.parent() == Some(Path::new("tests")) || path.ends_with("run");
        let mode = fs::metadata(root().join(path)).expect("the file is there").permissions().mode();
        is_run && mode & 0o100 != 0
    };
    let commands: Vec<_> = ["tests", "benches"].into_iter().flat_map(files_below).filter(is_command).collect();

    assert!(commands.len() > 5, "{commands:?}");
    for command in commands {
        let command = command.to_str().expect("names are UTF-8");
        assert!(
            readme.iter().any(|span| span.split(' ').next() == Some(command)),
            "the README does not name {command}"
        );
    }
}

#[test]
fn the_map_of_the_architecture_has_every_file_of_src_and_no_other() {
    let rows = Page::read("ARCHITECTURE.md").table("file").into_iter();
    let named: Vec<_> = rows.flat_map(|row| spans(&row[0])).flat_map(|span| expanded(&span)).collect();
    let modules: Vec<_> = files_below("src")
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| path.with_extension("").strip_prefix("src").expect("it is below src").display().to_string())
        // Tests stand beside what they test.
        .filter(|module| module != "lib" && module.split('/').all(|part| part != "tests"))
        .collect();

    assert_same("files of src", &named, &modules);
}

/// `sidestream check` takes every command line that the docs show, with the files that they show.
#[tokio::test]
async fn the_command_lines_of_the_docs_are_accepted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut tried = 0;
    for page in Page::all() {
        for block in page.blocks() {
            if block.language == "json" {
                fs::write(folder.path().join("progress-template.json"), &block.text).expect("the file can be written");
            }
            if !["sh", "console"].contains(&&*block.language) {
                continue;
            }
            for line in block.text.replace("\\\n", " ").lines() {
                let words = words(line.trim_start_matches("$ "));
                let Some((program, args)) = words.split_first().filter(|(program, _)| program.ends_with("sidestream"))
                else {
                    continue;
                };
                if args.first().is_some_and(|arg| !arg.starts_with('-')) {
                    continue;
                }
                let mut check = binary();
                check.arg("check").args(args).current_dir(folder.path());
                let child = check.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
                let said = finish(child).await;
                assert_eq!(said.code, Some(0), "{}: {program} {args:?}: {}", page.path, said.stderr);
                tried += 1;
            }
        }
    }
    assert!(tried > 5, "only {tried} command lines were found");
}

/// The words of a line of shell that has no other quotes than single ones.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().filter(|word| *word != "&").map(str::to_owned));
        }
    }
    words
}
