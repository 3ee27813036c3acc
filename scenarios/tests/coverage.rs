//! How much of the model's space the simulator visits.
//!
//! Goal: every situation of a run without faults is one that the model knows, faults lead to more of them, and the numbers are of the
//! seeds alone.
//! Method: a few seeds through the program itself; the counts as it prints them for machines.
#![cfg(madsim)]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop where it is"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What `cargo sim` prints.
fn sim(arguments: &[&str], out: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scenarios"));
    let command = command.args(arguments).arg("--coverage").arg("--out");
    let output = command.arg(out).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The counts, and the file.
fn counts(scenario: &str, jobs: &str) -> (Value, String) {
    let out = tempfile::tempdir().unwrap();
    let arguments = ["run", scenario, "--seeds", "1..4", "--fencing", "epoch"];
    let arguments = [&arguments[..], &["--jobs", jobs, "--json"]].concat();
    let printed: Value = serde_json::from_str(&sim(&arguments, out.path())).unwrap();
    let file = fs::read_to_string(out.path().join("coverage.json")).unwrap();
    (printed["coverage"].clone(), file)
}

fn count(counts: &Value, of: &str, what: &str) -> u64 {
    counts[of][what].as_u64().unwrap()
}

#[test]
fn a_calm_run_visits_what_is_known_and_faults_visit_more() {
    let (calm, _) = counts("calm", "2");
    assert_eq!(count(&calm, "states", "beyond"), 0, "{calm}");
    let (faulty, file) = counts("two-failovers", "2");
    let file: Value = serde_json::from_str(&file).unwrap();
    for of in ["states", "transitions"] {
        assert!(count(&calm, of, "seen") > 3, "vacuous: {calm}");
        assert!(count(&faulty, of, "seen") > count(&calm, of, "seen"));
        let (seen, known) = (count(&faulty, of, "seen"), count(&faulty, of, "known"));
        let listed = |list: &str| file[list][of].as_array().unwrap().len() as u64;
        assert_eq!(seen + listed("never"), known, "{of}");
        assert_eq!(listed("beyond"), count(&faulty, of, "beyond"), "{of}");
    }
}

#[test]
fn the_number_of_threads_does_not_show() {
    assert_eq!(counts("two-failovers", "1"), counts("two-failovers", "3"));
}

#[test]
fn people_are_told_what_was_visited_or_that_nothing_could_be() {
    let out = tempfile::tempdir().unwrap();
    let told = sim(&["run", "two-failovers", "--seed", "1"], out.path());
    let line = told.lines().find(|line| line.starts_with("model coverage"));
    assert!(line.unwrap().contains(" beyond the quick bounds"), "{told}");
    assert!(told.contains("coverage.json"), "{told}");
    for (scenario, fencing) in [("five-nodes", "epoch"), ("calm", "none")] {
        let told = sim(
            &["run", scenario, "--seed", "1", "--fencing", fencing],
            out.path(),
        );
        assert!(told.contains("model coverage: none: no run has"), "{told}");
    }
}
