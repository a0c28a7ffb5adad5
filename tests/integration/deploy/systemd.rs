//! `deploy/systemd`: the program as a service. No service is started here.

use std::{fs, process::Command};

use super::{check, said, seconds};
use crate::harness::{node::repository_file, sidestream::binary};

/// 0 is locked up, 10 is anything goes; systemd calls up to 2 OK.
const EXPOSURE_MAX: &str = "20";

fn unit() -> String {
    fs::read_to_string(repository_file("deploy/systemd/sidestream.service")).expect("the file can be read")
}

/// The value of a setting that stands there once.
fn setting(name: &str) -> String {
    let unit = unit();
    let found: Vec<_> = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect();
    assert_eq!(found.len(), 1, "{name}");
    found[0].to_owned()
}

/// The variables of the example, as systemd reads them.
fn variables() -> Vec<(String, String)> {
    let text = fs::read_to_string(repository_file("deploy/systemd/sidestream.env")).expect("the file can be read");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.map(|line| line.split_once('=').expect("a variable has a value"));
    pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect()
}

#[test]
#[ignore = "needs systemd-analyze; tests/run installs it"]
fn systemd_takes_the_unit_and_finds_it_locked_up() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("sidestream.service");
    let program = binary().get_program().to_owned().into_string().expect("the path is text");
    // A program that is not there is one of the things it looks for.
    fs::write(&file, unit().replace(&setting("ExecStart"), &program)).expect("the file can be written");
    let socket = repository_file("deploy/systemd/sidestream.socket");
    fs::copy(socket, folder.path().join("sidestream.socket")).expect("the file can be copied");
    for args in [&["verify"][..], &["security", "--no-pager", "--offline=true", "--threshold", EXPOSURE_MAX]] {
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(args).arg(&file);
        if args[0] == "verify" {
            analyze.arg(folder.path().join("sidestream.socket"));
        }
        said(analyze);
    }
}

/// `verify` says what it does not know, and goes on.
#[test]
#[ignore = "needs systemd-analyze; tests/run installs it"]
fn systemd_knows_every_setting_of_the_unit() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let verify = |name: &str, unit: &str| {
        let file = folder.path().join(name);
        fs::write(&file, unit).expect("the file can be written");
        let output = Command::new("systemd-analyze").arg("verify").arg(&file).output().expect("tests/run installs it");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        said.lines().filter(|line| line.contains(name)).map(str::to_owned).collect::<Vec<_>>()
    };
    let program = binary().get_program().to_owned().into_string().expect("the path is text");
    let unit = unit().replace(&setting("ExecStart"), &program);

    assert_eq!(verify("sidestream.service", &unit), [""; 0]);
    assert_eq!(verify("misspelt.service", &unit.replace("ProtectHome", "ProtectHomes")).len(), 1);
}

#[tokio::test]
async fn the_service_is_told_what_it_understands_and_has_time_for_its_drain() {
    let variables = variables();
    let envs: Vec<_> = variables.iter().map(|(name, value)| (&**name, &**value)).collect();

    let said = check(&[], &envs).await;

    assert_eq!(said.code, Some(0), "{}", said.stderr);
    for route in ["/api/progress/{id}", "/api/notifications/sse", "127.0.0.1:3000"] {
        assert!(said.stdout.contains(route), "{route}: {}", said.stdout);
    }
    let drain = envs.iter().find(|(name, _)| *name == "SIDESTREAM_DRAIN").expect("it is said").1;
    assert!(seconds(drain) + 2 <= seconds(&setting("TimeoutStopSec")), "killed in its drain");
}
