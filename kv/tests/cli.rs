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
        "serve", "cluster", "get", "set", "delete", "slot", "info", "kill", "repl", "load", "wal",
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

/// Writes a log of a few records, in two files.
fn write_log(folder: &std::path::Path) {
    use kv::fs::FileSystem;
    use kv::wal::{Options, open};
    use kv_core::{Entry, Epoch, Offset, Operation, Version};
    use std::sync::Arc;

    let files: Arc<dyn FileSystem> = Arc::new(kv::fs::os::OsFileSystem::open(folder).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let options = Options {
            segment_bytes: 150,
            preallocate_bytes: 0,
        };
        let (mut log, writer, _) = open(&files, options, &kv_core::Log::default())
            .await
            .unwrap();
        let (sender, mut reports) = tokio::sync::mpsc::unbounded_channel();
        let task = tokio::spawn(writer.run(sender));
        log.promise(Epoch(1));
        reports.recv().await.unwrap().unwrap();
        for (offset, value) in [(1, "one"), (2, "two")] {
            let (key, value) = ("greeting".into(), value.into());
            log.append(vec![Entry {
                version: Version::new(Epoch(1), Offset(offset)),
                operation: Operation::Set { key, value },
            }]);
            reports.recv().await.unwrap().unwrap();
        }
        drop(log);
        task.await.unwrap();
    });
}

#[test]
fn a_log_can_be_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    write_log(folder.path());
    let path = folder.path().to_str().unwrap();
    let dump = kv(&["wal", "dump", path]);
    assert_eq!(dump.status.code(), Some(0), "{}", stderr(&dump));
    let text = stdout(&dump);
    for words in [
        "wal/0000000001",
        "promise e1",
        "e1.o1  set greeting = one",
        "wal/0000000002",
        "e1.o2  set greeting = two",
        "the log is whole: ",
        "2 files",
    ] {
        assert!(text.contains(words), "no `{words}` in:\n{text}");
    }
    let dump = stdout(&kv(&["wal", "dump", path, "--json"]));
    let lines: Vec<serde_json::Value> = dump
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.last().unwrap()["outcome"], "whole");
    let sets = lines.iter().filter(|line| line["record"] == "set");
    let values: Vec<_> = sets.map(|line| line["value"].as_str().unwrap()).collect();
    assert_eq!(values, ["one", "two"]);
    let verify = kv(&["wal", "verify", path]);
    assert_eq!(stdout(&verify).lines().count(), 1);

    // One bit, in the file before the last.
    let first = folder.path().join("wal").join("0000000001");
    let mut bytes = std::fs::read(&first).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 4;
    std::fs::write(&first, bytes).unwrap();
    let verify = kv(&["wal", "verify", path]);
    assert_eq!(verify.status.code(), Some(1));
    let said = stderr(&verify);
    assert!(
        said.contains("wal/0000000001 is damaged at byte "),
        "{said}"
    );
}

/// Opens a log, does something with it, and lets it be written.
fn change_log(
    folder: &std::path::Path,
    checkpoint: &kv_core::Log,
    change: impl FnOnce(&mut kv::wal::Log),
) {
    use kv::fs::FileSystem;
    use std::sync::Arc;

    let files: Arc<dyn FileSystem> = Arc::new(kv::fs::os::OsFileSystem::open(folder).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let options = kv::wal::Options {
            preallocate_bytes: 0,
            ..kv::wal::Options::default()
        };
        let opened = kv::wal::open(&files, options, checkpoint).await;
        let (mut log, writer, _) = opened.unwrap();
        change(&mut log);
        drop(log);
        let (sender, _reports) = tokio::sync::mpsc::unbounded_channel();
        writer.run(sender).await;
    });
}

#[test]
fn a_log_tells_what_it_has_dropped_and_what_is_damaged() {
    use kv_core::{Epoch, Log, Offset};

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    change_log(folder.path(), &Log::default(), |log| {
        log.promise(Epoch(7));
        log.restart(Log::from_runs(&[(Epoch(7), Offset(1), Offset(100))]));
        log.promise(Epoch(8));
    });
    let text = stdout(&kv(&["wal", "dump", path]));
    for words in [
        "restarted: the log is the names up to e7.o100, e7 promised",
        "promise e8",
        "the entries before 101 are in the engine only",
    ] {
        assert!(text.contains(words), "no `{words}` in:\n{text}");
    }

    let last = folder.path().join("wal").join("0000000002");
    let mut bytes = std::fs::read(&last).unwrap();
    let end = bytes.len();
    bytes[end - 5] ^= 1;
    std::fs::write(&last, bytes).unwrap();
    let verify = kv(&["wal", "verify", path]);
    assert_eq!(verify.status.code(), Some(1));
    let said = stdout(&verify);
    assert!(said.contains("the log has a damaged tail"), "{said}");
    assert!(
        said.contains(&format!("from byte {} of wal/0000000002", end - 32)),
        "{said}"
    );
    let verify = stdout(&kv(&["wal", "verify", path, "--json"]));
    let json: serde_json::Value = serde_json::from_str(&verify).unwrap();
    assert_eq!(
        (&json["outcome"], &json["first"]),
        (&"damaged".into(), &101.into())
    );
    assert_eq!(json["damaged"]["byte"], end - 32);
}

#[test]
fn where_there_is_no_log_none_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent");
    for path in [folder.path(), &absent] {
        let output = kv(&["wal", "verify", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            stderr(&output).contains("has no log"),
            "{}",
            stderr(&output)
        );
    }
    assert!(!absent.exists());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
