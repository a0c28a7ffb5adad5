//! The files that people deploy: each is taken by the tool that knows its language, and says of sidestream what is true.
//!
//! No container is started here. That the image can be built, and runs, is `tests/image`; here the program itself runs
//! where there is no more than in the image ([`image`]).

mod compose;
mod image;
mod kubernetes;
mod systemd;

use std::{path::PathBuf, process::Command};

use serde_json::Value;

use crate::harness::{
    node::repository_file,
    sidestream::{Finished, binary, finish},
};

/// One of the tools that `tests/run` installs from PyPI.
fn tool(name: &str) -> Command {
    Command::new(repository_file("tests/.cache/deploy/bin").join(name))
}

/// Runs a tool to its end, which must be a good one.
fn said(mut command: Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error} (tests/run installs it)"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// The documents of a file of YAML.
fn yaml(path: &str) -> Vec<Value> {
    const TO_JSON: &str = "import json, sys, yaml; json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)";
    let mut python = tool("python");
    python.args(["-c", TO_JSON]).stdin(std::fs::File::open(repository_file(path)).expect("the file is there"));
    serde_json::from_str(&said(python)).expect("the documents are JSON")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list")).iter().map(text).collect()
}

/// What `sidestream check` says of these flags and variables.
async fn check(args: &[&str], envs: &[(&str, &str)]) -> Finished {
    use std::process::Stdio;

    let mut check = binary();
    check.arg("check").args(args).envs(envs.iter().copied());
    finish(check.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts")).await
}

/// A duration as flags and compose files write it, in whole seconds.
fn seconds(text: &str) -> u64 {
    text.strip_suffix('s').and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{text} is not like 20s"))
}

/// A file that another one names, from its folder.
fn beside(folder: &str, name: &str) -> PathBuf {
    repository_file(folder).join(name)
}
