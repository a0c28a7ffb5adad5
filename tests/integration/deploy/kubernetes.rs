//! `deploy/kubernetes`: an app with a native sidecar.

use std::process::Command;

use serde_json::Value;

use super::{check, said, seconds, text, texts, tool, yaml};
use crate::harness::node::repository_file;

/// From the first in which `sleep` of preStop is there without a gate.
const VERSIONS: [&str; 8] = ["1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37"];

const FILES: [&str; 2] = ["deploy/kubernetes/deployment.yaml", "deploy/kubernetes/service.yaml"];

fn pod() -> Value {
    yaml(FILES[0]).remove(0)["spec"]["template"].take()
}

#[test]
#[ignore = "needs kubernetes-validate; tests/run installs it"]
fn the_schemas_of_every_version_take_the_manifests() {
    for version in VERSIONS {
        let mut validate = tool("kubernetes-validate");
        validate.args(["--strict", "-k", version]).args(FILES.map(repository_file));
        said(validate);
    }
}

/// A field that no schema knows must be noticed, or the test above says nothing.
#[test]
#[ignore = "needs kubernetes-validate; tests/run installs it"]
fn a_misspelt_field_is_noticed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = std::fs::read_to_string(repository_file(FILES[0])).expect("the file can be read");
    let misspelt = folder.path().join("deployment.yaml");
    std::fs::write(&misspelt, text.replace("readOnlyRootFilesystem", "readOnlyRootFileSystem"))
        .expect("it can be written");
    let output = tool("kubernetes-validate").args(["--strict", "-k", VERSIONS[0]]).arg(misspelt).output();
    assert!(!output.expect("tests/run installs it").status.success());
}

#[test]
#[ignore = "needs kubectl; tests/run installs it"]
fn kustomize_makes_all_of_it() {
    let mut kubectl = Command::new("kubectl");
    kubectl.arg("kustomize").arg(repository_file("deploy/kubernetes"));
    let made = said(kubectl);
    let mut kinds: Vec<_> = made.lines().filter_map(|line| line.strip_prefix("kind: ")).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["Deployment", "Service"]);
}

#[tokio::test]
#[ignore = "needs PyYAML; tests/run installs it"]
async fn the_sidecar_is_told_what_it_understands() {
    let pod = pod();
    let args = texts(&pod["spec"]["initContainers"][0]["args"]);

    let said = check(&args, &[]).await;

    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stdout.contains("/api/progress/{id}") && said.stdout.contains("127.0.0.1:3000"), "{}", said.stdout);
}

/// It starts first, is asked about itself alone, and has the time it needs when the app has had its own.
#[test]
#[ignore = "needs PyYAML; tests/run installs it"]
fn the_sidecar_outlives_the_app_and_its_drain_fits_into_the_grace() {
    let pod = pod();
    let spec = &pod["spec"];
    let (side, app) = (&spec["initContainers"][0], &spec["containers"][0]);

    assert_eq!(side["restartPolicy"], "Always");
    let admin = texts(&side["args"]).into_iter().find_map(|arg| arg.strip_prefix("--admin-listen=0.0.0.0:"));
    let admin: u64 = admin.and_then(|port| port.parse().ok()).expect("the admin side is reached from outside");
    for (probe, path) in [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        let asked = &side[probe]["httpGet"];
        assert_eq!((text(&asked["path"]), asked["port"].as_u64()), (path, Some(admin)), "{probe}");
    }
    let drain = texts(&side["args"]).into_iter().find_map(|arg| arg.strip_prefix("--drain=")).expect("it is said");
    let held = app["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().expect("the app is held");
    let grace = spec["terminationGracePeriodSeconds"].as_u64().expect("it is said");
    // 8 s for the app itself, a second of slack of the drain's own, and some for a slow node.
    assert!(held + 8 + seconds(drain) + 1 + 5 <= grace, "{held} {drain} {grace}");
    assert_eq!(side["securityContext"]["runAsUser"], 65532);
    let comments = std::fs::read_to_string(repository_file(FILES[0])).expect("the file can be read");
    assert!(comments.contains(&format!("{grace} s would be SIGKILL")), "the comment has the sum");
}

/// Both ways in which Prometheus finds pods, and the Service, meet the pod.
#[test]
#[ignore = "needs PyYAML; tests/run installs it"]
fn what_looks_for_the_pod_finds_it() {
    let pod = pod();
    let labels = pod["metadata"]["labels"].as_object().expect("labels have names");
    let side = &pod["spec"]["initContainers"][0];
    let ports = side["ports"].as_array().expect("ports are a list");
    let port = |name: &str| ports.iter().find(|port| port["name"] == name).and_then(|it| it["containerPort"].as_u64());

    let monitor = yaml("deploy/prometheus/podmonitor.yaml").remove(0);
    let service = yaml(FILES[1]).remove(0);
    for selector in [&monitor["spec"]["selector"]["matchLabels"], &service["spec"]["selector"]] {
        for (name, value) in selector.as_object().expect("a selector has labels") {
            assert_eq!(labels.get(name), Some(value), "{name}");
        }
    }
    let admin = port(text(&monitor["spec"]["podMetricsEndpoints"][0]["port"]));
    assert_eq!(admin, Some(9180));
    let annotations = &pod["metadata"]["annotations"];
    assert_eq!(
        (text(&annotations["sidestream.io/scrape"]), text(&annotations["sidestream.io/port"])),
        ("true", "9180")
    );
    assert_eq!(service["spec"]["ports"][0]["targetPort"].as_u64(), port("http"));
}
