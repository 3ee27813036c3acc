//! The suite in the simulated world.
//!
//! Goal: every scenario comes out as its file says, and a seed gives the same bytes whatever else runs.
//! Method: a few seeds of each scenario under both protocols through the program itself; for the bytes, in two processes
//! with another number of threads each, every file of every run compared.
#![cfg(madsim)]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop where it is"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn sim(arguments: &[&str], out: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scenarios"));
    command
        .args(arguments)
        .arg("--out")
        .arg(out)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Every file below a folder, with what is in it.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            let below = files(&path).into_iter();
            found.extend(below.map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
        } else {
            found.insert(name, fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn the_suite_comes_out_as_its_files_say() {
    let out = tempfile::tempdir().unwrap();
    let output = sim(&["--seeds", "1..10", "--json"], out.path());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for batch in summary["batches"].as_array().unwrap() {
        assert!(batch["ok_min"].as_u64().unwrap() >= 300, "{batch}");
        assert_eq!(batch["failed"].as_array().unwrap().len(), 0, "{batch}");
    }
}

#[test]
fn the_plain_design_loses_a_write_or_reads_a_stale_value() {
    let out = tempfile::tempdir().unwrap();
    for scenario in ["pause-past-lease", "writer-isolated"] {
        let output = sim(
            &[
                "run",
                scenario,
                "--fencing",
                "none",
                "--seeds",
                "1..20",
                "--json",
            ],
            out.path(),
        );
        let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let guarantees = summary["batches"][0]["guarantees"].as_array().unwrap();
        let violated = |name: &str| {
            let tally = guarantees.iter().find(|tally| tally["guarantee"] == name);
            tally.unwrap()["violated"].as_u64().unwrap()
        };
        assert!(
            violated("no_lost_write") + violated("linearizable") > 0,
            "{summary:#}"
        );
        assert_eq!(violated("read_your_writes_stable"), 0, "{summary:#}");
    }
}

#[test]
fn two_processes_write_the_same_bytes() {
    let run = |jobs: &str| {
        let out = tempfile::tempdir().unwrap();
        let output = sim(
            &["--seeds", "3..5", "--keep-all", "--jobs", jobs],
            out.path(),
        );
        (text(&output), files(out.path()))
    };
    let ((text, files), (text_again, files_again)) = (run("1"), run("3"));
    assert_eq!(text, text_again);
    assert_eq!(
        files.len(),
        6 * 2 * 3 * 4,
        "scenarios, protocols, seeds, files"
    );
    assert!(files.keys().eq(files_again.keys()));
    for (name, bytes) in &files {
        assert!(
            *bytes == files_again[name],
            "{name} differs from process to process"
        );
    }
}

#[test]
fn a_replay_tells_the_run_that_was_kept() {
    let out = tempfile::tempdir().unwrap();
    let scenario = "writer-cut-from-coordination";
    sim(
        &["run", scenario, "--fencing", "none", "--seed", "1"],
        out.path(),
    );
    let folder = out.path().join(scenario).join("none/1");
    let kept = folder.join("scenario.toml").display().to_string();
    let by_name = Command::new(env!("CARGO_BIN_EXE_scenarios"))
        .args(["replay", scenario, "--seed", "1", "--fencing", "none"])
        .output()
        .unwrap();
    let by_file = Command::new(env!("CARGO_BIN_EXE_scenarios"))
        .args(["replay", &kept])
        .output()
        .unwrap();
    assert_eq!(by_name.status.code(), Some(1), "{}", text(&by_name));
    let story = |output: &Output| {
        let text = text(output);
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines[1..lines.len() - 1].to_vec() // The first and the last line name the scenario.
    };
    assert_eq!(story(&by_name), story(&by_file));
    let text = text(&by_name);
    for word in ["#### FAULT 1", "BECOMES THE WRITER", "VIOLATED", ">>"] {
        assert!(text.contains(word), "{word}");
    }
}
