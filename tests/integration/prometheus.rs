//! What `deploy/prometheus` and `deploy/grafana` say, against a real Prometheus that scrapes a real run: every expression
//! works and finds something ([`dashboard`]), every alert fires where its fault is and nowhere else ([`faults`]). That
//! they also keep their times and thresholds is what promtool tries with made-up series.

mod dashboard;
mod faults;
pub(crate) mod rules;
mod server;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use self::{
    dashboard::{Dashboard, filled},
    server::{Prometheus, program},
};
use crate::harness::{
    NOTIFICATIONS, NOTIFICATIONS_PATH, PROGRESS,
    app::{Answer, App},
    node::repository_file,
    progress, running,
    sidestream::Sidestream,
};

/// These look at the clock only: on a machine that stands still for a second, they are right to worry about a run that is
/// well.
const OF_TIME: [&str; 3] = ["SidestreamHeartbeatsLate", "SidestreamDataTooOld", "SidestreamDown"];

/// Runs promtool in `deploy/prometheus`; whatever it complains about fails the test.
fn promtool(args: &[&str]) -> String {
    let output = Command::new(program("PROMTOOL", "promtool"))
        .args(args)
        .current_dir(repository_file("deploy/prometheus"))
        .output()
        .expect("promtool is installed (tests/run unpacks it)");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "promtool {args:?}: {said}");
    said
}

#[test]
#[ignore = "needs promtool; tests/run runs it"]
fn promtool_takes_the_rules_and_the_scrape_configs() {
    let said = promtool(&["check", "rules", "sidestream.rules.yml"]);
    assert!(said.contains(&format!("SUCCESS: {} rules found", rules::alerts().len())), "{said}");
    // Debian's Prometheus knows no Kubernetes; that file's rules are played below.
    for config in ["prometheus.yml", "scrape-docker.yml"] {
        promtool(&["check", "config", config]);
    }
}

/// What Docker and Kubernetes would tell of their containers is told by hand; which of them become targets, at which
/// address and with which labels, is the files' doing.
#[tokio::test]
#[ignore = "needs prometheus; tests/run runs it"]
async fn the_scrape_configs_find_containers_and_pods_at_their_admin_side() {
    let told = |file: &str, from: &str, targets: &[&str]| {
        let text = fs::read_to_string(repository_file(&format!("deploy/prometheus/{file}"))).expect("it can be read");
        let (before, rest) = text.split_once(&format!("    {from}:\n")).expect("the file says where it looks");
        let (_, after) = rest.split_once("    relabel_configs:\n").expect("the file says what it takes");
        let targets: String = targets.iter().map(|target| format!("      - {target}\n")).collect();
        format!("{before}    static_configs:\n{targets}    relabel_configs:\n{after}")
    };
    let pod = |name: &str, phase: &str, scrape: &str| {
        format!(
            "{{targets: ['127.0.0.2:3000'], labels: {{__meta_kubernetes_pod_annotation_sidestream_io_scrape: '{scrape}', \
             __meta_kubernetes_pod_annotation_sidestream_io_port: '9180', __meta_kubernetes_pod_phase: '{phase}', \
             __meta_kubernetes_pod_ip: '127.0.0.2', __meta_kubernetes_namespace: 'shop', \
             __meta_kubernetes_pod_name: '{name}'}}}}"
        )
    };
    let pods = [pod("web-1", "Running", "true"), pod("db-1", "Running", ""), pod("web-0", "Succeeded", "true")];
    let container = "{targets: ['127.0.0.3:3000'], labels: {__meta_docker_network_ip: '127.0.0.3', \
                     __meta_docker_container_name: '/web'}}";
    let kubernetes = told("scrape-kubernetes.yml", "kubernetes_sd_configs", &pods.each_ref().map(String::as_str));
    let docker = told("scrape-docker.yml", "docker_sd_configs", &[container]);

    let mut found = Vec::new();
    for config in [kubernetes, docker] {
        found.extend(Prometheus::with(&config, "").await.targets().await);
    }

    let expected = [
        (
            "127.0.0.2:9180",
            serde_json::json!({"job": "sidestream-kubernetes", "instance": "shop/web-1", "namespace": "shop", "pod": "web-1"}),
        ),
        ("127.0.0.3:9180", serde_json::json!({"job": "sidestream-docker", "instance": "web"})),
    ];
    let expected = expected.map(|(addr, labels)| (format!("http://{addr}/metrics"), labels));
    assert_eq!(found, expected);
}

/// On made-up series, with the real times: on its fault each alert fires, in time and not before it; close to the lines,
/// in restarts and deploys none does.
#[test]
#[ignore = "needs promtool; tests/run runs it"]
fn every_alert_fires_on_its_fault_and_all_stay_quiet_without_one() {
    promtool(&["test", "rules", "sidestream.test.yml"]);
}

/// An alert that nobody tried may never fire.
#[test]
fn every_alert_has_its_trial_before_and_after_its_time() {
    let trials = fs::read_to_string(repository_file("deploy/prometheus/sidestream.test.yml")).expect("it can be read");
    let mut tried: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for trial in trials.split("- alertname: ").skip(1) {
        let (name, rest) = trial.split_once('\n').expect("a trial has more than a name");
        let (quiet, firing) = tried.entry(name).or_default();
        let expected = rest.split("- name: ").next().expect("a split has a first part");
        let is_quiet = expected.contains("exp_alerts: []");
        *if is_quiet { quiet } else { firing } += 1;
        assert!(is_quiet || expected.contains("exp_annotations:"), "{name}: {expected}");
    }

    let alerts = rules::alerts();
    assert_eq!(tried.keys().copied().collect::<Vec<_>>(), alerts.keys().map(String::as_str).collect::<Vec<_>>());
    for (name, (quiet, firing)) in tried {
        assert!(quiet > 0 && firing > 0, "{name}: {quiet} trials before its time, {firing} after it");
    }
}

#[test]
fn every_alert_says_what_is_wrong_how_bad_it_is_and_where_to_read_on() {
    for (name, text) in rules::alerts() {
        assert!(name.starts_with("Sidestream"), "{name}");
        for key in ["expr:", "summary:", "description:"] {
            assert!(text.contains(&format!("  {key}")), "{name} has no {key}");
        }
        let severity = text.lines().find_map(|line| line.trim().strip_prefix("severity: "));
        assert!(severity.is_some_and(|it| ["critical", "warning"].contains(&it)), "{name}: {severity:?}");
        let runbook = format!("runbook_url: docs/runbook.md#{}", name.to_lowercase());
        assert!(text.contains(&runbook), "{name} has no {runbook}");
    }
}

/// What Grafana would put right or leave out in silence.
#[test]
fn the_dashboard_is_in_order() {
    let dashboard = Dashboard::read();
    let (mut ids, mut titles, mut taken) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
    for panel in dashboard.panels() {
        let title = panel["title"].as_str().expect("a panel has a title");
        assert!(ids.insert(panel["id"].as_u64()), "{title}: the id is another panel's");
        assert!(titles.insert(title), "two panels are called {title}");
        let place = |key: &str| panel["gridPos"][key].as_u64().expect("a panel has a place");
        let (x, y, w, h) = (place("x"), place("y"), place("w"), place("h"));
        assert!(x + w <= 24, "{title} hangs over the edge");
        for cell in (y..y + h).flat_map(|row| (x..x + w).map(move |column| (row, column))) {
            if let Some(other) = taken.insert(cell, title) {
                panic!("{title} lies on {other}");
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(panel["description"].as_str().is_some_and(|it| it.ends_with('.')), "{title} is not explained");
        assert!(panel["fieldConfig"]["defaults"].is_object(), "{title} has no unit");
        for target in panel["targets"].as_array().expect("a panel asks something") {
            for it in [panel, target] {
                assert_eq!(it["datasource"]["uid"], "${datasource}", "{title} asks a source that others don't have");
            }
        }
    }
    assert!(dashboard.expressions().len() > 40, "the panels are found");
}

/// Alerts and panels name series that exist, and every series is on some panel: one that nobody sees helps nobody.
#[tokio::test]
async fn the_dashboard_shows_every_series_and_no_other() {
    let app = App::start();
    let side = Sidestream::before(&app).route(PROGRESS).route(NOTIFICATIONS).start().await;
    let samples = side.metrics().await;
    let exported: BTreeSet<_> = samples.names().filter(|name| name.starts_with("sidestream_")).collect();

    let dashboard = Dashboard::read();
    let shown: Vec<_> = dashboard.expressions().into_iter().map(|expression| expression.text).collect();
    let shown: BTreeSet<_> = shown.iter().flat_map(|text| series_in(text)).collect();
    let alerted = rules::alerts();
    let alerted: BTreeSet<_> = alerted.values().flat_map(|text| series_in(text)).collect();

    let unknown: Vec<_> = shown.union(&alerted).filter(|name| !exported.contains(*name)).collect();
    assert!(unknown.is_empty(), "no such series: {unknown:?}");
    // Of a histogram the buckets are enough.
    let is_part = |name: &str| name.ends_with("_sum") || name.ends_with("_count");
    let missing: Vec<_> = exported.iter().filter(|name| !shown.contains(*name) && !is_part(name)).collect();
    let left_out = ["sidestream_requests_refused_total"];
    assert_eq!(missing, left_out.iter().collect::<Vec<_>>(), "on no panel");
}

/// What no answer has is no latency: on a graph, and in the runbook, a dead app would be fast.
#[test]
fn who_asks_how_long_the_app_takes_leaves_out_what_it_did_not_answer() {
    let runbook = fs::read_to_string(repository_file("docs/runbook.md")).expect("it can be read");
    let panels = Dashboard::read().expressions().into_iter().map(|expression| expression.text);
    let asked = panels.chain(runbook.lines().map(str::to_owned));
    let asked: Vec<_> = asked.filter(|text| text.contains("upstream_request_seconds_bucket")).collect();

    assert_eq!(asked.len(), 3, "{asked:?}");
    for text in asked {
        assert!(text.contains(r#"outcome!~"refused|broken|cancelled""#), "{text}");
    }
}

/// The names of our own series in an expression.
fn series_in(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("sidestream_") && *word != "sidestream_io")
}

/// Each panel shows something while clients come, go, and get news; and nothing is alarming about that.
#[tokio::test]
#[ignore = "needs prometheus; tests/run runs it"]
async fn every_panel_shows_something_on_a_healthy_run() {
    let app = App::start();
    let count = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&count);
    app.job("v1").answer_with(move |_| running(counted.fetch_add(1, Ordering::Relaxed)));
    app.job("quiet").answer(running(1));
    app.at("/page").answer(Answer::text(200, "a page"));
    let feed = app.events(NOTIFICATIONS_PATH);
    let side = Sidestream::before(&app).route(&progress("heartbeat=100ms")).route(NOTIFICATIONS).start().await;
    let prometheus = Prometheus::start(&[side.admin_addr()], &rules::text()).await;
    let mut clients = Vec::new();
    for path in ["/api/progress/v1", "/api/progress/v1", "/api/progress/quiet", NOTIFICATIONS_PATH] {
        clients.push(side.sse(path).open().await);
    }
    let stream = feed.accept().await;

    // Tabs that come and go, until Prometheus has seen enough for a rate of each.
    let traffic = async {
        loop {
            stream.send("data: news\n\n").await;
            side.sse("/api/progress/v1").open().await.next_event().await;
            side.get("/page").fetch().await;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let seen = async {
        let scrapes = "count_over_time(sidestream_build_info[1m]) >= 6";
        prometheus.until(scrapes).await;
        prometheus.until("sum(rate(sidestream_connections_closed_total[5s])) > 0").await;
        prometheus.until("sum(rate(sidestream_heartbeat_lateness_seconds_count[5s])) > 0").await;
        let variables = Dashboard::read().variables(&prometheus).await;
        for expression in Dashboard::read().expressions() {
            let expr = filled(&expression.text, &variables);
            let found = prometheus.query(&expr).await;
            let is_shown = found.iter().any(|(_, value)| value.is_finite());
            assert!(is_shown, "{}: {expr} gives {found:?}", expression.panel);
        }
        for expr in Dashboard::read().annotations() {
            prometheus.query(&filled(&expr, &variables)).await;
        }
        prometheus.rules().await
    };
    let rules = tokio::select! {
        () = traffic => unreachable!("tabs come and go for ever"),
        rules = seen => rules,
    };

    assert_eq!(rules.len(), rules::alerts().len());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        let is_of_time = OF_TIME.iter().any(|name| rule["name"] == *name);
        assert!(rule["state"] == "inactive" || is_of_time, "{rule}");
    }
}
