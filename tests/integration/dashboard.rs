//! The dashboard of the admin side: its files from outside, and the page itself in a real browser.

use crate::{
    apps::run,
    harness::{app::App, client::Request, sidestream::Sidestream},
};

/// What the browser is told to refuse, should anything foreign ever get into the page.
#[tokio::test]
async fn every_file_of_the_page_is_served_under_strict_rules() {
    let app = App::start();
    let side = Sidestream::before(&app).start().await;
    let fetch =
        async |path: &str| Request::new(side.admin_addr(), "GET", path).header("Connection", "close").fetch().await;

    let page = fetch("/").await.text();
    let named = |mark: &str| -> Vec<_> {
        page.match_indices(mark).filter_map(|(at, _)| page[at + mark.len()..].split('"').next()).collect()
    };
    let files =
        [named("src=\""), named("<link rel=\"icon\" href=\""), named("<link rel=\"stylesheet\" href=\"")].concat();

    assert_eq!(files.len(), 3, "{files:?}");
    for (path, content_type) in [
        ("/", "text/html"),
        ("/page.css", "text/css"),
        ("/page.js", "text/javascript"),
        ("/page/live.js", "text/javascript"),
    ] {
        let answer = fetch(path).await;
        let rules = answer.header("content-security-policy").expect("there are rules").to_owned();
        assert_eq!(answer.status(), 200, "{path}");
        assert!(answer.header("content-type").is_some_and(|it| it.starts_with(content_type)), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert!(rules.starts_with("default-src 'none'") && rules.contains("frame-ancestors 'none'"), "{rules}");
        for open in ["unsafe", "*", "data:", "http"] {
            assert!(!rules.contains(open), "{path}: {rules}");
        }
    }
    for path in files {
        assert_eq!(fetch(&format!("/{path}")).await.status(), 200, "{path}");
    }
    assert_eq!(fetch("/page/../admin.rs").await.status(), 404);
}

/// Figures, restart, readers with a keyboard or a phone, secrets, load: what each is held to stands in the script.
#[test]
#[ignore = "needs node, npm and chromium; tests/run runs it"]
fn the_page_is_right_readable_and_usable_in_a_browser() {
    run("tests/apps/build", &["tests/browser"]);
    run("node", &["tests/browser/dashboard.mjs"]);
}
