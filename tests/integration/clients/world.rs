//! Where a client lives in these tests: the scripted app, the program, and the cutter in front of both.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{
    cutter::Cutter,
    driver::{Driver, Watcher, installed, node, python},
};
use crate::harness::{
    app::{Answer, App, Seen},
    node::repository_file,
    sidestream::{Builder, Sidestream},
};

/// An app, the program before it, and the network before that.
pub(super) struct World {
    pub(super) app: App,
    pub(super) side: Sidestream,
    pub(super) net: Cutter,
}

/// A client, not yet started.
#[derive(Clone, Debug)]
pub(super) enum Client {
    /// A page of `tests/clients/pages` in a tab of this browser.
    Page(&'static str, Browser),
    /// A script in Node.
    Node(&'static str),
    /// A script in Python.
    Python(&'static str, Option<&'static str>),
}

/// A running Chromium. Clones are the same browser.
#[derive(Clone, Debug)]
pub(super) struct Browser {
    driver: Arc<Driver>,
    tabs: Arc<AtomicUsize>,
}

// === impl World ===

impl World {
    /// Starts with what `flags` adds.
    pub(super) async fn new(flags: impl FnOnce(Builder) -> Builder) -> Self {
        let app = App::start();
        app.at("/clients/*").answer_with(page_file);
        let side = flags(Sidestream::before(&app)).start().await;
        let net = Cutter::before(side.addr()).await;
        Self { app, side, net }
    }

    /// Waits until the program has sent `count` heartbeats more than now: they are on their way before whatever comes
    /// after this.
    pub(super) async fn heartbeats(&self, count: u32) {
        let labels = [("kind", "heartbeat")];
        let wanted = self.side.metric("frames_sent_total", &labels).await + f64::from(count);
        self.side.until("heartbeats to be sent", |samples| samples.get("frames_sent_total", &labels) >= wanted).await;
    }

    /// A client of a path.
    pub(super) async fn watch(&self, client: &Client, path: &str) -> Watcher {
        match client {
            Client::Page(name, browser) => browser.open(&self.page(name, path)).await.1,
            Client::Node(script) => {
                let mut command = node(script);
                command.arg(self.net.url(path));
                Watcher::of(Driver::start(command))
            }
            Client::Python(script, flag) => {
                let mut command = Command::new(python());
                command.arg(repository_file(&format!("tests/clients/{script}"))).arg(self.net.url(path)).args(*flag);
                Watcher::of(Driver::start(command))
            }
        }
    }

    /// The address of a page that watches `path` with the client of this name.
    pub(super) fn page(&self, name: &str, path: &str) -> String {
        self.net.url(&format!("/clients/page.html?client={name}&stream={path}"))
    }
}

/// The app's own static files: its pages come through the program too.
fn page_file(seen: &Seen) -> Answer {
    let name = seen.path().trim_start_matches("/clients/");
    let root = if name.starts_with("node_modules/") { "tests/clients" } else { "tests/clients/pages" };
    // Bundlers let a module leave out `.js`, browsers don't; fetch-event-source does leave it out.
    let name = if Path::new(name).extension().is_some() { name.to_owned() } else { format!("{name}.js") };
    let Ok(bytes) = fs::read(repository_file(root).join(&name)) else {
        return Answer::text(404, "no such file");
    };
    let text = String::from_utf8(bytes).expect("a page is text");
    let content_type = if name.ends_with(".html") { "text/html" } else { "text/javascript" };
    Answer::json_text(&text).header("Content-Type", content_type)
}

// === impl Browser ===

impl Browser {
    pub(super) async fn start() -> Self {
        installed("tests/clients/node_modules");
        let driver = Driver::start(node("chromium.mjs"));
        driver.find("the browser", 0, |line| line["saw"] == "ready").await;
        Self { driver, tabs: Arc::default() }
    }

    /// A new tab, by its name.
    pub(super) async fn open(&self, url: &str) -> (String, Watcher) {
        let tab = format!("tab-{}", self.tabs.fetch_add(1, Ordering::SeqCst));
        self.obey("open", &tab, url).await;
        (tab.clone(), Watcher::of_tab(Arc::clone(&self.driver), tab))
    }

    /// Gives a command about a tab and waits until it is carried out.
    pub(super) async fn obey(&self, command: &str, tab: &str, url: &str) {
        let is_it =
            |line: &serde_json::Value| line["saw"] == "obeyed" && line["command"] == command && line["tab"] == tab;
        let obeyed = self.driver.count(is_it);
        self.driver.order(&format!("{command} {tab} {url}"));
        self.driver.find_nth(&format!("the browser to {command}"), obeyed, is_it).await;
    }
}
