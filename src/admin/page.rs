//! The dashboard's files, as they are: no build step, nothing from elsewhere. They are part of the program.

/// A file of the page.
#[derive(Debug)]
pub(super) struct File {
    /// Where it is asked for.
    pub(super) path: &'static str,
    pub(super) content_type: &'static str,
    pub(super) body: &'static [u8],
}

/// The page's own rules: nothing from elsewhere, no code or style in the text, and nobody else may frame it.
pub(super) const CSP: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
                              base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                              require-trusted-types-for 'script'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
// Browsers take a module only under this type.
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Names a file once: where it is asked for is where it lies.
macro_rules! files {
    ($($name:literal $content_type:ident,)+) => {
        &[$(File { path: concat!("/", $name), content_type: $content_type, body: include_bytes!($name) },)+]
    };
}

/// All but the page itself, which is at `/`.
const FILES: &[File] = files! {
    "page.css" CSS,
    "page.js" SCRIPT,
    "page/advice.js" SCRIPT,
    "page/chart.js" SCRIPT,
    "page/charts.js" SCRIPT,
    "page/figures.js" SCRIPT,
    "page/head.js" SCRIPT,
    "page/history.js" SCRIPT,
    "page/icon.svg" SVG,
    "page/lately.js" SCRIPT,
    "page/limits.js" SCRIPT,
    "page/live.js" SCRIPT,
    "page/plot.js" SCRIPT,
    "page/samples.js" SCRIPT,
    "page/scroll.js" SCRIPT,
    "page/table.js" SCRIPT,
    "page/tables.js" SCRIPT,
    "page/topics.js" SCRIPT,
    "page/verdict.js" SCRIPT,
    "page/words.js" SCRIPT,
};

const PAGE: File = File { path: "/", content_type: HTML, body: include_bytes!("page.html") };

/// The file at a path of the admin side.
pub(super) fn at(path: &str) -> Option<&'static File> {
    if path == PAGE.path { Some(&PAGE) } else { FILES.iter().find(|file| file.path == path) }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// A module that isn't served leaves the page blank, and no compiler says so.
    #[test]
    fn every_file_of_the_folder_is_served_and_every_import_leads_to_one() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin/page");
        for entry in fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name();
            assert!(at(&format!("/page/{}", name.to_str().unwrap())).is_some(), "{name:?}");
        }
        for file in FILES.iter().filter(|file| file.content_type == SCRIPT) {
            let text = std::str::from_utf8(file.body).unwrap();
            for (_, rest) in text.match_indices(" from '").map(|(at, mark)| text.split_at(at + mark.len())) {
                let name = rest.split('\'').next().unwrap().trim_start_matches("./");
                let path = if name.starts_with("page/") { format!("/{name}") } else { format!("/page/{name}") };
                assert!(at(&path).is_some(), "{} asks for {name}", file.path);
            }
        }
    }

    /// The rules would leave it without effect in the browser, in silence.
    #[test]
    fn nothing_is_inline_and_nothing_comes_from_elsewhere() {
        let html = std::str::from_utf8(PAGE.body).unwrap();
        for inline in [" style=", "<style", " onclick=", "<script>", "javascript:", "://"] {
            assert!(!html.contains(inline), "{inline}");
        }
        for file in FILES.iter().filter(|file| file.content_type != SVG) {
            // The name of SVG is no address.
            let text = std::str::from_utf8(file.body).unwrap().replace("http://www.w3.org/2000/svg", "");
            for word in ["://", "innerHTML", "setAttribute('style'", "@import", "eval("] {
                assert!(!text.contains(word), "{}: {word}", file.path);
            }
        }
    }
}
