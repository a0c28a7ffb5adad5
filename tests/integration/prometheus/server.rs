//! A real Prometheus as a child process, scraping every second, asked through its API.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{client::Request, eventually, within};

/// A running Prometheus with its data in a folder of its own; both go together.
#[derive(Debug)]
pub(super) struct Prometheus {
    child: Child,
    addr: SocketAddr,
    _folder: TempDir,
}

/// The programs of the package: unpacked by `tests/run`, or installed.
pub(super) fn program(variable: &str, name: &str) -> OsString {
    let beside = |promtool: OsString| Path::new(&promtool).with_file_name(name).into_os_string();
    env::var_os(variable).or_else(|| env::var_os("PROMTOOL").map(beside)).unwrap_or_else(|| name.into())
}

// === impl Prometheus ===

impl Prometheus {
    /// Starts on a free port with these rules, and scrapes the admin sides of `targets` every second.
    pub(super) async fn start(targets: &[SocketAddr], rules: &str) -> Self {
        let targets: Vec<_> = targets.iter().map(|addr| format!("'{addr}'")).collect();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: [rules.yml]\n\
             scrape_configs:\n  - job_name: sidestream\n    static_configs:\n      - targets: [{}]\n",
            targets.join(", ")
        );
        Self::with(&config, rules).await
    }

    /// Starts with a whole configuration; `rules` become `rules.yml` beside it.
    pub(super) async fn with(config: &str, rules: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("prometheus.yml"), config).expect("the file can be written");
        fs::write(path("rules.yml"), rules).expect("the file can be written");
        let mut child = Command::new(program("PROMETHEUS", "prometheus"))
            .arg(format!("--config.file={}", path("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", path("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("prometheus is installed (tests/run unpacks it)");
        let mut log = BufReader::new(child.stderr.take().expect("stderr is piped")).lines().map_while(Result::ok);
        let listening = tokio::task::spawn_blocking(move || {
            let mut said = Vec::new();
            for line in log.by_ref() {
                let addr = line.contains("msg=\"Listening on\"").then(|| line.split("address=").nth(1)).flatten();
                if let Some(addr) = addr.and_then(|addr| addr.trim().parse().ok()) {
                    // Whoever reads no further would block it in the end.
                    std::thread::spawn(move || log.for_each(drop));
                    return Ok(addr);
                }
                said.push(line);
            }
            Err(said.join("\n"))
        });
        let addr = within("Prometheus to listen", listening).await.expect("the reading thread lives");
        let addr = addr.unwrap_or_else(|said| panic!("Prometheus ended:\n{said}"));
        let server = Self { child, addr, _folder: folder };
        eventually("Prometheus to be ready", async || {
            let answer = server.get("/-/ready").await;
            (answer.0 == 200).then_some(())
        })
        .await;
        server
    }

    async fn get(&self, target: &str) -> (u16, String) {
        let answer = Request::new(self.addr, "GET", target).header("Connection", "close").fetch().await;
        (answer.status(), answer.text())
    }

    /// One answer of the API; an error of its own fails the test, with `what` was asked.
    async fn ask(&self, what: &str, target: &str) -> Value {
        let (status, text) = self.get(target).await;
        assert_eq!(status, 200, "{what}: {text}");
        let answer: Value = serde_json::from_str(&text).expect("the API answers JSON");
        assert_eq!(answer["status"], "success", "{what}: {text}");
        answer["data"].clone()
    }

    /// The labels and values of what an expression gives now.
    pub(super) async fn query(&self, expr: &str) -> Vec<(Value, f64)> {
        let target = format!("/api/v1/query?query={}", utf8_percent_encode(expr, NON_ALPHANUMERIC));
        let data = self.ask(expr, &target).await;
        assert_eq!(data["resultType"], "vector", "{expr}");
        let found = data["result"].as_array().expect("a vector is a list");
        let value = |sample: &Value| sample["value"][1].as_str().expect("a value is text").parse().expect("a number");
        found.iter().map(|sample| (sample["metric"].clone(), value(sample))).collect()
    }

    /// Asks until an expression gives something.
    pub(super) async fn until(&self, expr: &str) {
        eventually(expr, async || (!self.query(expr).await.is_empty()).then_some(())).await;
    }

    /// Every value of a label, of the series that match.
    pub(super) async fn label_values(&self, series: &str, label: &str) -> Vec<String> {
        let series = utf8_percent_encode(series, NON_ALPHANUMERIC);
        let values = self.ask(label, &format!("/api/v1/label/{label}/values?match[]={series}")).await;
        let values = values.as_array().expect("values are a list").iter();
        values.map(|value| value.as_str().expect("a value is text").to_owned()).collect()
    }

    /// Where each target is scraped, with its labels; waits until there are some.
    pub(super) async fn targets(&self) -> Vec<(String, Value)> {
        let found = eventually("targets", async || {
            let data = self.ask("the targets", "/api/v1/targets?state=active").await;
            data["activeTargets"].as_array().filter(|found| !found.is_empty()).cloned()
        });
        let url = |target: &Value| target["scrapeUrl"].as_str().expect("a target has an address").to_owned();
        found.await.iter().map(|target| (url(target), target["labels"].clone())).collect()
    }

    /// Every rule with its state, health and last error.
    pub(super) async fn rules(&self) -> Vec<Value> {
        let data = self.ask("the rules", "/api/v1/rules").await;
        let groups = data["groups"].as_array().expect("groups are a list").iter();
        groups.flat_map(|group| group["rules"].as_array().expect("rules are a list").clone()).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
