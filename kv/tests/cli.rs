//! The command line as a newcomer and as a script meet it, with no node anywhere.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

fn kv(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kv"));
    command.args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Fails unless the arguments are refused as wrong usage, and what is said names all of `words`.
fn refused(arguments: &[&str], words: &[&str]) {
    let output = kv(arguments);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{arguments:?}: no `{word}` in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

/// An address of this machine where nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn every_command_has_a_help_with_an_example() {
    let all = stdout(&kv(&["--help"]));
    for command in [
        "serve", "cluster", "get", "set", "delete", "slot", "info", "kill", "repl",
    ] {
        assert!(
            all.contains(&format!("\n  {command} ")),
            "{command} is not listed"
        );
        let output = kv(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0));
        let help = stdout(&output);
        assert!(help.contains("Example"), "{command}: {help}");
        assert!(
            help.contains(&format!("\n  kv {command}")),
            "{command}: {help}"
        );
    }
}

#[test]
fn no_command_at_all_shows_the_help() {
    refused(&[], &["Usage: kv <COMMAND>", "kv cluster"]);
}

#[test]
fn wrong_usage_is_named_and_ends_with_2() {
    refused(&["frobnicate"], &["frobnicate"]);
    refused(&["get"], &["<KEY>"]);
    refused(&["get", ""], &["the key has 0 bytes; allowed: 1 to 4096"]);
    refused(&["get", &"k".repeat(4097)], &["4097 bytes"]);
    refused(&["set", "key"], &["<VALUE>"]);
    refused(
        &["get", "key", "--level", "strong"],
        &["strong", "lease", "quorum"],
    );
    refused(
        &["get", "key", "--level", "lease", "--replica", "2"],
        &["--level replica"],
    );
    refused(
        &["get", "key", "--node", "nonsense"],
        &["expected HOST:PORT"],
    );
    refused(&["get", "key", "--timeout", "5"], &["300ms"]);
    refused(&["kill"], &["--node <HOST:PORT>"]);
    refused(&["serve"], &["--data <DIR>"]);
    let everywhere = ["serve", "--data", "never-made", "--listen", "0.0.0.0:7001"];
    refused(&everywhere, &["every address", "--advertise"]);
    assert!(!std::path::Path::new("never-made").exists());
}

#[test]
fn a_cluster_that_cannot_be_is_refused_before_it_starts() {
    refused(
        &["cluster", "--write-quorum", "4"],
        &["write_quorum is 4", "allowed: 1 to 3"],
    );
    refused(
        &["cluster", "--replication-factor", "0"],
        &["replication_factor is 0"],
    );
    refused(&["cluster", "--shards", "0"], &["0"]);
    refused(
        &["cluster", "--base-port", "65533"],
        &["6 nodes", "--base-port"],
    );
    refused(
        &["cluster", "--fencing", "maybe"],
        &["maybe", "epoch", "none"],
    );
}

#[test]
fn no_node_to_reach_is_named_with_what_helps() {
    let nobody = nobody();
    for command in [
        &["get", "key"][..],
        &["set", "key", "value"],
        &["delete", "key"],
        &["info"],
        &["kill"],
        &["repl"],
    ] {
        let output = kv(&[command, &["--node", &nobody]].concat());
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        let said = stderr(&output);
        assert!(
            said.contains(&nobody) && said.contains("kv cluster"),
            "{said}"
        );
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn machines_get_failures_as_json_too() {
    let output = kv(&["set", "key", "value", "--json", "--node", &nobody()]);
    assert_eq!(output.status.code(), Some(1));
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(line["outcome"], "fail");
    assert_eq!(line["error"], "unreachable");
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_slot_needs_no_node() {
    // The slot of "123456789" follows from the published check value of CRC-32: 0xCBF43926 % 1024.
    let output = kv(&["slot", "123456789", "--node", &nobody()]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output), "slot 294\n");
    assert!(stderr(&output).contains("cannot tell the shard"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let output = kv(&["set", "key", "--file", "no/such/file"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no/such/file"));
}
