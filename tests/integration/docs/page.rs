//! A page of the repository, read just far enough to be checked: prose, code, links, headings, tables.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A file of Markdown.
#[derive(Debug)]
pub(super) struct Page {
    /// Where it stands, from the root of the repository.
    pub(super) path: String,
    pub(super) text: String,
}

/// A fenced block.
#[derive(Debug)]
pub(super) struct Code {
    pub(super) language: String,
    pub(super) text: String,
}

/// The root of the repository.
pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a folder, but what is built or installed there.
pub(super) fn files_below(folder: &str) -> Vec<PathBuf> {
    const BUILT: [&str; 6] = ["target", "node_modules", ".cache", ".svelte-kit", ".next", "build"];
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}")) {
        let path = entry.expect("the folder can be read").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("names are UTF-8");
        let below = format!("{folder}/{name}");
        if !path.is_dir() {
            found.push(PathBuf::from(below));
        } else if !BUILT.contains(&name) {
            found.extend(files_below(&below));
        }
    }
    found.sort();
    found
}

// === impl Page ===

impl Page {
    pub(super) fn read(path: &str) -> Self {
        let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.to_owned(), text }
    }

    /// Every page that people read.
    pub(super) fn all() -> Vec<Self> {
        let is_page = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
        let below = ["docs", "benches", "deploy"].into_iter().flat_map(files_below).filter(is_page);
        let above = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(PathBuf::from);
        above.into_iter().chain(below).map(|path| Self::read(path.to_str().expect("names are UTF-8"))).collect()
    }

    /// The text outside fenced blocks, and the blocks.
    fn split(&self) -> (String, Vec<Code>) {
        let (mut prose, mut blocks) = (String::new(), Vec::new());
        let mut open: Option<Code> = None;
        for line in self.text.lines() {
            match (line.trim_start().strip_prefix("```"), &mut open) {
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(language), None) => {
                    open = Some(Code { language: language.to_owned(), text: String::new() });
                }
                (None, Some(block)) => block.text.extend([line, "\n"]),
                (None, None) => prose.extend([line, "\n"]),
            }
        }
        assert!(open.is_none(), "{}: a block of code has no end", self.path);
        (prose, blocks)
    }

    pub(super) fn blocks(&self) -> Vec<Code> {
        self.split().1
    }

    /// What stands between backticks in the prose; a span may go on in the next line.
    pub(super) fn spans(&self) -> Vec<String> {
        let prose = self.split().0;
        prose.split("\n\n").flat_map(spans).collect()
    }

    /// The targets of links and pictures.
    pub(super) fn links(&self) -> Vec<String> {
        let prose = self.split().0;
        let targets = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        targets.map(|(target, _)| target.to_owned()).collect()
    }

    /// The names by which headings can be linked to, as GitHub makes them.
    pub(super) fn anchors(&self) -> Vec<String> {
        let prose = self.split().0;
        let headings =
            prose.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
        headings
            .map(|heading| {
                let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
                kept.collect::<String>().to_lowercase().replace(' ', "-")
            })
            .collect()
    }

    /// The cells of the table whose first line begins with `head`.
    pub(super) fn table(&self, head: &str) -> Vec<Vec<String>> {
        let start = format!("| {head} |");
        let mut lines = self.text.lines().skip_while(|line| !line.starts_with(&start)).skip(2).peekable();
        assert!(lines.peek().is_some(), "{} has no table {head:?}", self.path);
        lines.take_while(|line| line.starts_with('|')).map(cells).collect()
    }
}

/// The texts between backticks.
pub(super) fn spans(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn cells(line: &str) -> Vec<String> {
    // An escaped bar is part of its cell.
    let line = line.trim().trim_matches('|').replace("\\|", "\u{0}");
    line.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect()
}

/// `a/{b,c}` stands for `a/b` and `a/c`.
pub(super) fn expanded(text: &str) -> Vec<String> {
    let Some((before, rest)) = text.split_once('{') else { return vec![text.to_owned()] };
    let Some((names, after)) = rest.split_once('}') else { return vec![text.to_owned()] };
    names.split(',').map(|name| format!("{before}{name}{after}")).collect()
}
