//! The kept corpus, and inputs made from it, through the very functions that the fuzzer runs.

use std::{fs, path::Path};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::*;

/// Inputs made up for each target: some seconds of an unoptimised build, all together.
const MADE_UP: usize = 1_500;

/// Where a made-up input is no change of a kept one, it is put together of these.
const WORDS: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\n\n",
    ":",
    " ",
    "data: ",
    "id: ",
    "event: ",
    "retry: 1",
    "\u{feff}",
    "\0",
    "{id}",
    "{*rest}",
    "/",
    "%2e",
    "%2F",
    "%",
    "..",
    "?",
    "&",
    "=",
    "\\,",
    ",",
    "path=/a/{id}",
    "poll=/b/{id}",
    "subscribe",
    "GET / HTTP/1.1\r\n",
    "Host: a\r\n",
    "Content-Length: 3\r\n",
    "Transfer-Encoding: chunked\r\n\r\n",
    "0\r\n\r\n",
    "\"$/status\"",
    "{\"status\":\"done\"}",
    "10.0.0.1",
    "::1",
    "lastEventId=",
    "ä",
    "[ERR_INVALID_STATE]",
    "code: 'ERR_INVALID_STATE'",
    "Error: Invalid state: Controller is already closed",
    "uncaughtException",
    "/a.js:1\n",
    "\x1b[31m",
];

/// The kept inputs of a target, by name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    inputs.sort();
    inputs
}

fn changed(random: &mut StdRng, kept: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut input = kept.choose(random).map(|(_, input)| input.clone()).unwrap_or_default();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..=input.len());
        let end = random.random_range(at..=input.len().min(at + 8));
        match random.random_range(0..5) {
            0 => drop(input.drain(at..end)),
            1 => input.insert(at, random.random()),
            2 => drop(input.splice(at..end, WORDS.choose(random).unwrap().bytes())),
            3 => {
                input =
                    [&input[..at], &kept.choose(random).map(|(_, other)| other.clone()).unwrap_or_default()].concat()
            }
            _ => input = [&input[..end], &input[at..]].concat(),
        }
        input.truncate(2_000);
    }
    input
}

/// Plays one input; what it was stands beside the panic.
fn play(name: &str, target: FuzzTarget, input: &[u8]) {
    struct Told<'a>(&'a str, &'a [u8]);
    impl Drop for Told<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("the target {} fails for {:?}", self.0, self.1.escape_ascii().to_string());
            }
        }
    }
    let told = Told(name, input);
    target(input);
    drop(told);
}

// Inputs that once broke something, and those that reach every corner: they need no fuzzer to be played again.
#[test]
fn every_kept_input_holds() {
    for (name, target) in TARGETS {
        let kept = corpus(name);
        assert!(!kept.is_empty(), "{name} has no corpus");
        for (file, input) in kept {
            play(&format!("{name} ({file})"), target, &input);
        }
    }
}

// No search as the fuzzer's, but it runs wherever the tests run, and always in the same way.
#[test]
fn inputs_made_up_from_the_kept_ones_hold() {
    for (name, target) in TARGETS {
        let kept = corpus(name);
        let mut random = StdRng::seed_from_u64(5);
        for _ in 0..MADE_UP {
            play(name, target, &changed(&mut random, &kept));
        }
    }
}

// Else a target would be fuzzed by hand only, and its corpus rot.
#[test]
fn every_target_has_a_file_for_the_fuzzer() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut files: Vec<_> =
        fs::read_dir(fuzz.join("fuzz_targets")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    assert_eq!(files.len(), TARGETS.len());
    for (file, (name, _)) in files.iter().zip(TARGETS) {
        assert_eq!(file.file_stem().unwrap(), name);
        assert!(fs::read_to_string(file).unwrap().contains(&format!("sidestream::fuzzing::{name}(")));
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")));
    }
}
