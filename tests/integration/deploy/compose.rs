//! `deploy/compose`: five containers that know each other by name.

use std::{fs, process::Command};

use super::{beside, check, said, seconds, text, texts, yaml};
use crate::harness::node::repository_file;

const FOLDER: &str = "deploy/compose";

fn compose() -> serde_json::Value {
    yaml("deploy/compose/compose.yaml").remove(0)
}

#[test]
#[ignore = "needs docker-compose; tests/run installs it"]
fn compose_takes_the_file() {
    let is_plugin = Command::new("docker").args(["compose", "version"]).output().is_ok_and(|it| it.status.success());
    let mut command = if is_plugin { Command::new("docker") } else { Command::new("docker-compose") };
    command.args(is_plugin.then_some("compose")).args(["-f"]).arg(beside(FOLDER, "compose.yaml")).arg("config");
    let config = said(command);
    assert!(config.contains("SIDESTREAM_UPSTREAM: http://app:3000"), "{config}");
}

/// Only what is mounted is seen, and Docker makes an empty folder of a name that is misspelt.
#[test]
#[ignore = "needs PyYAML; tests/run installs it"]
fn every_file_that_is_mounted_exists() {
    let compose = compose();
    let (mut mounted, mut named) = (0, Vec::new());
    for (name, service) in compose["services"].as_object().expect("services have names") {
        for volume in service["volumes"].as_array().into_iter().flatten().map(text) {
            let source = volume.split(':').next().expect("a volume has a source");
            if source.starts_with('.') {
                assert!(beside(FOLDER, source).exists(), "{name}: {source}");
                mounted += 1;
            } else {
                named.push(source);
            }
        }
    }
    let volumes: Vec<_> = compose["volumes"].as_object().expect("volumes have names").keys().collect();
    assert!(mounted >= 7, "{mounted}");
    assert_eq!(named, volumes);
}

#[tokio::test]
#[ignore = "needs PyYAML; tests/run installs it"]
async fn the_sidecar_is_told_what_it_understands_and_has_time_for_its_drain() {
    let compose = compose();
    let side = &compose["services"]["sidestream"];
    let envs = side["environment"].as_object().expect("variables have names");
    let envs: Vec<_> = envs.iter().map(|(name, value)| (&**name, text(value))).collect();

    let said = check(&[], &envs).await;

    assert_eq!(said.code, Some(0), "{}", said.stderr);
    for route in ["/api/progress/{id}", "/api/notifications/sse", "http://app:3000"] {
        assert!(said.stdout.contains(route), "{route}: {}", said.stdout);
    }
    let drain = envs.iter().find(|(name, _)| *name == "SIDESTREAM_DRAIN").expect("it is said").1;
    assert!(seconds(drain) + 2 <= seconds(text(&side["stop_grace_period"])), "killed in its drain");
    assert!(beside(FOLDER, text(&side["build"]["context"])).join("Dockerfile").exists());
    let app = &compose["services"]["app"];
    assert_eq!(text(&app["environment"]["PORT"]), "3000");
    // Who shares the network of another container loses it when that is started anew.
    assert!(app.get("network_mode").is_none() && side.get("network_mode").is_none());
    assert!(side.get("ports").is_none(), "the admin side is not published");
    assert_eq!(texts(&side["cap_drop"]), ["ALL"]);
}

/// What nginx is told here is what the proxy tests play.
#[test]
fn nginx_is_configured_as_in_the_proxies() {
    let lines = |path: &str| {
        let text = fs::read_to_string(repository_file(path)).expect("the file can be read");
        text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let here: Vec<_> = lines("deploy/compose/nginx.conf")
        .iter()
        .map(|line| line.replace("sidestream:8080", "127.0.0.1:8080"))
        .collect();
    assert_eq!(here, lines("deploy/proxies/nginx.conf"));
}

/// Prometheus asks where the sidecar listens, Grafana where Prometheus does, with the same pace.
#[test]
#[ignore = "needs PyYAML; tests/run installs it"]
fn prometheus_and_grafana_look_where_the_others_are() {
    let compose = compose();
    let service = |name: &str| compose["services"][name].clone();
    let prometheus = yaml("deploy/compose/prometheus.yml").remove(0);
    let job = &prometheus["scrape_configs"][0]["static_configs"][0]["targets"];
    let admin = text(&service("sidestream")["environment"]["SIDESTREAM_ADMIN_LISTEN"]).replace("0.0.0.0", "sidestream");
    assert_eq!(texts(job), [admin]);

    let source = &yaml("deploy/compose/grafana/datasource.yaml")[0]["datasources"][0];
    assert_eq!((text(&source["type"]), text(&source["url"])), ("prometheus", "http://prometheus:9090"));
    assert_eq!(source["jsonData"]["timeInterval"], prometheus["global"]["scrape_interval"]);
    let provider = &yaml("deploy/compose/grafana/dashboards.yaml")[0]["providers"][0];
    let dashboards = text(&provider["options"]["path"]).to_owned();
    let mounts = service("grafana")["volumes"].clone();
    let mounts = texts(&mounts);
    assert!(mounts.contains(&&*format!("../grafana/sidestream.json:{dashboards}/sidestream.json:ro")), "{mounts:?}");
    let rules = text(&prometheus["rule_files"][0]).to_owned();
    let mounts = service("prometheus")["volumes"].clone();
    let mounts = texts(&mounts);
    assert!(mounts.contains(&&*format!("../prometheus/{rules}:/etc/prometheus/{rules}:ro")), "{mounts:?}");
}
