//! The command line: what it lists, and what it says to bad input. Each refusal is one line on stderr, with exit code 2,
//! and nothing is written.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop where it is"
)]

use std::process::{Command, Output};

fn sim(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scenarios"));
    command
        .args(arguments)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What the program says when it refuses.
fn refusal(arguments: &[&str]) -> String {
    let output = sim(arguments);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
    assert_eq!(text(&output.stdout), "", "{arguments:?}");
    message
}

/// A file of that text, in a folder that lives as long as the guard.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.toml");
    std::fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    (folder, path)
}

#[test]
fn list_names_every_scenario_first_on_its_line() {
    let output = sim(&["list"]);
    assert_eq!(output.status.code(), Some(0));
    let names: Vec<String> = text(&output.stdout)
        .lines()
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .collect();
    assert_eq!(
        names[..6],
        [
            "calm",
            "writer-isolated",
            "writer-cut-from-coordination",
            "power-loss-of-writer",
            "lossy-network",
            "pause-past-lease"
        ]
    );
    let listed: Vec<serde_json::Value> =
        serde_json::from_slice(&sim(&["list", "--json"]).stdout).unwrap();
    assert_eq!(listed[0]["name"], "calm");
}

#[test]
fn an_unknown_scenario_is_answered_with_the_known_ones() {
    for command in ["run", "replay"] {
        let message = refusal(&[command, "no-such-scenario", "--seed", "1"]);
        assert!(
            message.starts_with("error: there is no scenario \"no-such-scenario\"; the suite has calm, writer-isolated"),
            "{message}"
        );
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    assert!(
        refusal(&["run", "no/such.toml"])
            .starts_with("error: cannot read no/such.toml: No such file")
    );
    assert!(refusal(&["run", "."]).starts_with("error: there is no scenario \".\""));
}

#[test]
fn a_bad_file_is_refused_with_file_and_line() {
    let (_folder, path) = file("name = \"x\"\n[[fault]]\nat = \"1s\"\nkill = \"leader(0)\"\n");
    let message = refusal(&["run", &path]);
    assert!(message.starts_with(&format!(
        "error: {path}:4: unknown target \"leader(0)\"; allowed: writer(SHARD)"
    )));
    assert_eq!(message.lines().count(), 1, "{message}");
    let (_folder, path) = file("\u{0}\u{1} no toml");
    assert!(refusal(&["replay", &path, "--seed", "1"]).starts_with(&format!("error: {path}:1: ")));
}

#[test]
fn bad_seeds_are_refused() {
    for (seeds, why) in [
        ("9..1", "the range is empty: 9 comes after 1"),
        ("1-9", "this is no range of seeds"),
        ("", "this is no range of seeds"),
        (
            "1..99999999999",
            "these are 99999999999 seeds; at most 10000000 run at once",
        ),
    ] {
        let message = refusal(&["run", "calm", "--seeds", seeds]);
        assert!(message.contains(why), "{seeds}: {message}");
    }
    refusal(&["run", "calm", "--seed", "x"]);
    refusal(&["run", "calm", "--seed", "-1"]);
    refusal(&["run", "calm", "--seed", "1", "--seeds", "1..2"]);
    refusal(&["run", "calm", "--fencing", "raft"]);
    refusal(&["run", "calm", "--jobs", "0"]);
    refusal(&["run"]);
    refusal(&["dance"]);
    let message = refusal(&["replay", "calm"]);
    assert_eq!(
        message,
        "error: which run? name it with --seed N: `cargo sim replay calm --seed 1`\n"
    );
}

const USAGE: &str = if cfg!(madsim) {
    "Usage: cargo sim"
} else {
    "Usage: cargo scenarios"
};

#[test]
fn help_is_there_for_every_command() {
    for arguments in [
        &["--help"][..],
        &["run", "--help"],
        &["replay", "--help"],
        &["list", "--help"],
    ] {
        let output = sim(arguments);
        assert_eq!(output.status.code(), Some(0));
        assert!(
            text(&output.stdout).contains(USAGE),
            "{}",
            text(&output.stdout)
        );
    }
}

/// The simulator is chosen when the program is compiled, and flags in the environment silently undo that choice.
#[cfg(not(madsim))]
#[test]
fn a_build_without_the_simulator_says_so_and_runs_nothing() {
    let out = tempfile::tempdir().unwrap();
    let runs = out.path().join("runs");
    let run = |flags: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scenarios"));
        command
            .args(["run", "calm", "--seed", "1", "--out"])
            .arg(&runs)
            .env("RUSTFLAGS", flags);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        text(&output.stderr)
    };
    assert_eq!(
        run("-C target-cpu=native"),
        "error: RUSTFLAGS is set in the environment and replaces the flags that `cargo sim` passes, so this build has \
         no simulator in it; `unset RUSTFLAGS`, then run `cargo sim` again, or name `--world local`\n"
    );
    assert_eq!(
        refusal(&["replay", "calm", "--seed", "1"]),
        "error: this build has no simulator in it; run it as `cargo sim`\n"
    );
    assert!(!runs.exists(), "nothing is written");
    // What is wrong with the input is said first, in any build.
    assert!(refusal(&["run", "clam"]).contains("no scenario \"clam\""));
}
