//! A real systemd for one test: a user's own instance, with the units of that test and nothing else.
//!
//! It lives in namespaces of its own, and all that it has started ends with it. Wants root, as tests with networks do.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::harness::{eventually, node::repository_file, sidestream::binary};

/// What a test may tell systemd of the service that is deployed: its life. How it is locked up is not for a user's instance.
const LIFE: [&str; 7] =
    ["Type", "Restart", "RestartPreventExitStatus", "RestartSec", "TimeoutStopSec", "WatchdogSec", "NotifyAccess"];

/// systemd looks whether it runs the machine, and leaves if not.
const SCRIPT: &str = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && \
                      /lib/systemd/systemd --user --log-target=null & wait";

/// Runs the service `sidestream`, and ends with the test.
pub(super) struct Manager {
    folder: tempfile::TempDir,
    process: Child,
    /// The first process of its namespaces. systemd speaks to nobody whose number it can't see.
    inside: String,
}

impl Manager {
    /// Starts it. The service is the deployed one with these flags and these settings instead of its own; `socket`, if any,
    /// is where its socket listens.
    pub(super) async fn start(flags: &[&str], settings: &[(&str, &str)], socket: Option<SocketAddr>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        for name in ["units", "run"] {
            fs::create_dir(at(name)).expect("a folder can be made");
        }
        fs::write(at("units/default.target"), "[Unit]\nDescription=Nothing\n").expect("a file can be written");
        fs::write(at("units/sidestream.service"), service(flags, settings, &at("log"))).expect("a file can be written");
        if let Some(addr) = socket {
            let unit = deployed("sidestream.socket");
            let listen = unit.lines().find(|line| line.starts_with("ListenStream=")).expect("it listens");
            let unit = unit.replace(listen, &format!("ListenStream={addr}"));
            let unit = unit.replace("[Unit]", "[Unit]\nDefaultDependencies=no");
            fs::write(at("units/sidestream.socket"), unit).expect("a file can be written");
        }
        let mut command = Command::new("unshare");
        command.args(["--mount", "--cgroup", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.args(["--propagation", "private", "sh", "-c", SCRIPT]);
        command.env("SYSTEMD_UNIT_PATH", at("units")).env("XDG_RUNTIME_DIR", at("run")).env("HOME", folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let process = command.spawn().expect("util-linux is part of every Debian");
        let children = format!("/proc/{0}/task/{0}/children", process.id());
        let first = || fs::read_to_string(&children).ok()?.split_whitespace().next().map(str::to_owned);
        let inside = eventually("the namespaces", async || first()).await;
        let manager = Self { folder, process, inside };
        eventually("systemd", async || manager.try_ctl(&["list-units"]).await.ok()).await;
        manager
    }

    /// Runs `systemctl`, which must succeed; what it prints.
    pub(super) async fn ctl(&self, args: &[&str]) -> String {
        let said = self.try_ctl(args).await;
        said.unwrap_or_else(|error| panic!("systemctl {args:?}: {error}\n{}", self.log()))
    }

    async fn try_ctl(&self, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.inside, "--mount", "--pid", "systemctl", "--user", "--no-pager"]).args(args);
        command.env("XDG_RUNTIME_DIR", self.folder.path().join("run"));
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("the waiting thread lives");
        let output = output.expect("tests/run installs it");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    /// A property of the service.
    pub(super) async fn property(&self, name: &str) -> String {
        self.ctl(&["show", "sidestream.service", "--value", "--property", name]).await.trim().to_owned()
    }

    /// Waits for a value of a property of the service.
    pub(super) async fn until(&self, name: &str, is_it: impl Fn(&str) -> bool) {
        let what = format!("the property {name}");
        eventually(&what, async || is_it(&self.property(name).await).then_some(())).await;
    }

    /// What the service has logged so far, over all its lives.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Where the public side of its last life listens; nowhere, if it does not.
    pub(super) fn public(&self) -> Option<SocketAddr> {
        let lines: Vec<Value> = self.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let line = lines.iter().rfind(|line| line["message"] == "listening" && line["side"] == "public")?;
        line["addr"].as_str()?.parse().ok()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn deployed(name: &str) -> String {
    fs::read_to_string(repository_file(&format!("deploy/systemd/{name}"))).expect("the file can be read")
}

fn service(flags: &[&str], settings: &[(&str, &str)], log: &Path) -> String {
    let program: PathBuf = binary().get_program().into();
    let mut unit = "[Unit]\nDefaultDependencies=no\n[Service]\n".to_owned();
    let deployed = deployed("sidestream.service");
    for (name, value) in deployed.lines().filter_map(|line| line.split_once('=')) {
        if LIFE.contains(&name) && settings.iter().all(|(other, _)| *other != name) {
            unit.push_str(&format!("{name}={value}\n"));
        }
    }
    for (name, value) in settings {
        unit.push_str(&format!("{name}={value}\n"));
    }
    let log = log.display();
    unit.push_str(&format!("StandardOutput=append:{log}\nStandardError=append:{log}\n"));
    unit.push_str(&format!("ExecStart={} --log-format json {}\n", program.display(), flags.join(" ")));
    unit
}
