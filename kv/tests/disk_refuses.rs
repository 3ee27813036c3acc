//! A node whose disk takes nothing more ends with one clear line, and loses nothing that it had acknowledged.
//!
//! The disks are real: a file system of few bytes, or one that is mounted read-only, in a namespace of the test's own. Where the system
//! gives no such namespaces, what needs one is left out, with a word; a limit on the size of files works everywhere.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]
#![allow(clippy::disallowed_methods, reason = "real processes take real time")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

#[path = "processes/served.rs"]
mod served;

use served::{Served, free_address, kv, refusal};

const ENGINES: [&str; 3] = ["memory", "redb", "sled"];
const VALUE_BYTES: usize = 150_000;

/// Whether there are namespaces of one's own.
fn has_namespaces() -> bool {
    let made = Command::new("unshare")
        .args(["-Urmpf", "--kill-child", "true"])
        .output();
    let has = made.is_ok_and(|made| made.status.success());
    if !has {
        eprintln!("left out: this system gives no namespaces (`unshare -Urmpf`)");
    }
    has
}

/// Runs a script in a namespace of its own; `$0` is the folder, and `"$@"` is `kv serve`.
fn in_namespace(script: &str, folder: &Path, serve: &[String]) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["-Urmpf", "--kill-child", "sh", "-c", script])
        .arg(folder);
    command.arg(env!("CARGO_BIN_EXE_kv")).args(serve);
    command
}

fn serve(data: &Path, address: &str, engine: &str) -> Vec<String> {
    let words = [
        "serve",
        "--data",
        data.to_str().unwrap(),
        "--listen",
        address,
    ];
    let flags = [
        "--engine",
        engine,
        "--checkpoint-mib",
        "1",
        "--wal-segment-mib",
        "1",
    ];
    words
        .iter()
        .chain(&flags)
        .map(|word| (*word).to_owned())
        .collect()
}

/// Gives new keys values until it fails; returns how many were acknowledged.
fn fill(folder: &Path, address: &str) -> usize {
    let file = folder.join("value");
    std::fs::write(&file, "v".repeat(VALUE_BYTES)).unwrap();
    let started = Instant::now();
    for key in 0.. {
        let mut set = kv();
        set.args(["set", &key.to_string(), "--file", file.to_str().unwrap()]);
        let set = set.args(["--node", address, "--timeout", "20s"]).output();
        if !set.unwrap().status.success() {
            return key;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "it takes all");
    }
    unreachable!("there are more keys than bytes")
}

fn holds(address: &str, keys: usize) {
    for key in 0..keys {
        let get = || {
            let mut get = kv();
            get.args([
                "get",
                &key.to_string(),
                "--node",
                address,
                "--timeout",
                "20s",
            ]);
            get.output().unwrap()
        };
        let got = get();
        assert_eq!(got.stdout.len(), VALUE_BYTES + 1, "{key}: {got:?}");
    }
}

#[test]
fn a_full_disk_ends_the_node_and_more_space_lets_it_go_on() {
    if !has_namespaces() {
        return;
    }
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        std::fs::create_dir(&disk).unwrap();
        let script = r#"mount -t tmpfs -o size=4m tmpfs "$0" || exit 9; "$@"; echo "ended with $?"
            until [ -e "$0/../more" ]; do sleep 0.1; done
            mount -o remount,size=64m "$0" && exec "$@""#;
        let address = free_address();
        let serve = serve(&disk.join("data"), &address, engine);
        let node = Served::run(&mut in_namespace(script, &disk, &serve)).wait();
        let keys = fill(folder.path(), &address);
        assert!(keys > 5, "vacuous: {keys} keys with {engine}");
        assert_eq!(node.says(), "ended with 1", "{engine}");
        std::fs::write(folder.path().join("more"), "").unwrap();
        let node = node.wait();
        holds(&address, keys);
        let said = node.kill_and_read();
        let errors: Vec<_> = said
            .lines()
            .filter(|line| line.starts_with("error: "))
            .collect();
        assert_eq!(errors.len(), 1, "{engine}: {said}");
        assert!(
            errors[0].contains("No space left on device"),
            "{engine}: {said}"
        );
        assert!(!said.contains("panicked"), "{engine}: {said}");
    }
}

/// Story: the node's own coordination service cannot write, so it answers nothing any more; the node went on without a word, and served
/// nothing.
#[test]
fn a_disk_that_is_full_from_the_start_is_said() {
    if !has_namespaces() {
        return;
    }
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let (data, disk) = (folder.path().join("data"), folder.path().join("disk"));
        std::fs::create_dir(&disk).unwrap();
        let address = free_address();
        let node = Served::spawn(&data, &address, &["--engine", engine]).wait();
        let set = kv().args(["set", "a", "b", "--node", &address]).output();
        assert!(set.unwrap().status.success());
        node.kill();
        let script = r#"mount -t tmpfs -o size=16m tmpfs "$0" && cp -r "$0/../data" "$0" || exit 9
            cat /dev/zero > "$0/filler" 2> /dev/null; exec "$@""#;
        let serve = serve(&disk.join("data"), &address, engine);
        let (code, said) = Served::run(&mut in_namespace(script, &disk, &serve)).stops();
        let line = refusal(code, &said);
        assert!(line.contains("No space left on device"), "{engine}: {line}");
    }
}

/// Story: a read asked the engine after its checkpoint had failed and before the node had heard of that, and the node ended with no word
/// of the disk.
#[test]
fn a_file_that_may_not_grow_ends_the_node() {
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let address = free_address();
        let mut limited = Command::new("sh");
        // In blocks of 512 bytes: a segment of the log fits, and eight values in one of sled's blobs, which it makes soon, do not. (It may
        // take long to make one of sixteen.) Who ignores the signal gets an error, as from a disk.
        limited.args(["-c", r#"trap "" XFSZ; ulimit -f 2300; exec "$0" "$@""#]);
        limited.arg(env!("CARGO_BIN_EXE_kv"));
        let words = serve(&data, &address, engine);
        let node = Served::run(limited.args(&words)).wait();
        let keys = fill(folder.path(), &address);
        assert!(keys > 2, "vacuous: {keys} keys with {engine}");
        let (code, said) = node.stops();
        let line = refusal(code, &said);
        assert!(line.contains("File too large"), "{engine}: {line}");
        let node = Served::run(kv().args(&words)).wait();
        holds(&address, keys);
        node.kill();
    }
}

#[test]
fn a_read_only_folder_is_named() {
    if !has_namespaces() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let address = free_address();
    let node = Served::spawn(&data, &address, &[]).wait();
    let set = kv().args(["set", "a", "b", "--node", &address]).output();
    assert!(set.unwrap().status.success());
    node.kill();
    let within = |path: PathBuf| path.to_str().unwrap().to_owned();
    let there = within(data.clone());
    let words = |words: &[&str]| {
        words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    for command in [
        words(&["serve", "--listen", &address, "--data", &there]),
        words(&[
            "serve",
            "--listen",
            &address,
            "--data",
            &within(data.join("new")),
        ]),
        words(&["data", "stat", &there]),
        words(&["data", "migrate", "--to", "sled", &there]),
    ] {
        let script = r#"mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@""#;
        let (code, said) = Served::run(&mut in_namespace(script, &data, &command)).stops();
        let line = refusal(code, &said);
        assert!(
            line.contains("Read-only file system") && line.contains(&there),
            "{line}"
        );
    }
    let node = Served::spawn(&data, &address, &[]).wait();
    node.kill();
}
