//! `kv data` on the folders of real nodes, and what is said of folders that cannot be used.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]
#![allow(clippy::disallowed_methods, reason = "real processes take real time")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;

#[path = "processes/served.rs"]
mod served;

use served::{Served, data, free_address, kv, refusal};

const FLAGS: [&str; 4] = ["--checkpoint-mib", "1", "--wal-segment-mib", "1"];
/// Enough for checkpoints and for log files that are dropped.
const KEYS: usize = 24;
const VALUE_BYTES: usize = 200_000;

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The value of a key: different for each.
fn value(key: usize) -> String {
    format!("{key}-").repeat(VALUE_BYTES / 3)
}

/// A node's folder, between its lives.
struct Folder {
    top: tempfile::TempDir,
    engine: String,
}

impl Folder {
    /// A node has lived in it: it has checkpoints, and the log has dropped what they hold.
    fn used(engine: &str) -> Self {
        let top = tempfile::tempdir().unwrap();
        let folder = Self {
            top,
            engine: engine.to_owned(),
        };
        let (node, address) = folder.serve();
        let file = folder.top.path().join("value");
        for key in 0..KEYS {
            std::fs::write(&file, value(key)).unwrap();
            let file = file.to_str().unwrap();
            let set = ask(&address, &["set", &key.to_string(), "--file", file]);
            assert!(set.status.success(), "{set:?}");
        }
        let first = folder.data().join("node/wal/0000000001");
        wait_until(|| !first.exists());
        node.kill();
        folder
    }

    fn data(&self) -> PathBuf {
        self.top.path().join("data")
    }

    fn node(&self) -> PathBuf {
        self.data().join("node")
    }

    fn serve(&self) -> (Served, String) {
        let address = free_address();
        let mut flags = vec!["--engine", &self.engine];
        flags.extend(FLAGS);
        let node = Served::spawn(&self.data(), &address, &flags).wait();
        wait_until(|| ask(&address, &["get", "0"]).status.code() != Some(3));
        (node, address)
    }

    /// What `kv serve` says when it refuses.
    fn refuses_to_serve(&self, flags: &[&str]) -> String {
        let node = Served::spawn(&self.data(), &free_address(), flags);
        let (code, said) = node.stops();
        refusal(code, &said)
    }

    fn holds_everything(&self) {
        let (node, address) = self.serve();
        for key in 0..KEYS {
            let get = ask(&address, &["get", &key.to_string()]);
            assert_eq!(text(&get.stdout).trim_end(), value(key), "{key}");
        }
        node.kill();
    }

    fn stat(&self) -> Value {
        let output = data(&["stat", "--json"], &self.data());
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The names and sizes of all files, but for the lock.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        gather(&self.top.path().join("data"), &mut files);
        files.retain(|path, _| path.file_name().unwrap() != "lock");
        files
    }
}

fn gather(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => gather(&path, files),
            false => drop(files.insert(path.clone(), std::fs::read(path).unwrap())),
        }
    }
}

/// Asks until a node that has just started is ready.
fn ask(address: &str, arguments: &[&str]) -> Output {
    let mut command = kv();
    command.args(arguments).args(["--node", address]);
    command.args(["--timeout", "20s"]).output().unwrap()
}

fn wait_until(is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(30), "it never is");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn refused(output: &Output) -> String {
    refusal(output.status.code(), text(&output.stderr))
}

#[test]
fn stat_tells_what_a_folder_holds() {
    let folder = Folder::used("redb");
    let told = folder.stat();
    assert_eq!(
        (&told["engine"], &told["node"]),
        (&"redb".into(), &1.into())
    );
    let number = |of: &Value| of.as_u64().unwrap();
    let checkpoint = number(&told["checkpoint"]["offset"]);
    let end = number(&told["log_end"]["offset"]);
    assert!(checkpoint > 0 && number(&told["log_first"]) > 1, "{told}");
    assert_eq!(number(&told["replayed_at_start"]), end - checkpoint);
    assert_eq!(told["suspect"], false);
    assert!(number(&told["engine_bytes"]) > 1_000_000, "{told}");
    assert!(number(&told["log_bytes"]) > 0 && number(&told["log_files"]) > 0);

    let words = data(&["stat"], &folder.data());
    let words = text(&words.stdout);
    let node = folder.node();
    assert!(
        words.contains("node        n1\nengine      redb, "),
        "{words}"
    );
    assert!(words.contains(&format!("a start replays {} entries", end - checkpoint)));
    let same = data(&["stat"], &node);
    assert_eq!(text(&same.stdout), words, "either folder is understood");
    folder.holds_everything();
}

#[test]
fn a_folder_goes_from_engine_to_engine_with_all_its_data() {
    let mut folder = Folder::used("redb");
    for engine in ["memory", "sled", "redb"] {
        let output = data(&["migrate", "--to", engine], &folder.data());
        assert!(output.status.success(), "{output:?}");
        let said = text(&output.stdout);
        let way = format!(
            "went from {} to {engine}; start the node with `--engine {engine}`",
            folder.engine
        );
        assert!(said.contains(&way), "{said}");
        let old = std::mem::replace(&mut folder.engine, engine.to_owned());
        let line = folder.refuses_to_serve(&["--engine", &old]);
        assert!(
            line.contains(&format!("holds engine {engine}, and not {old}")),
            "{line}"
        );
        assert_eq!(folder.stat()["engine"], engine);
        let engines = std::fs::read_dir(folder.node()).unwrap();
        let names = engines.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(names.filter(|name| name.starts_with("engine-")).count(), 1);
        folder.holds_everything();
    }
    let again = data(&["migrate", "--to", "redb", "--json"], &folder.data());
    let told: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(told["pairs"], 0, "there was nothing to do");
}

#[test]
fn a_folder_in_use_is_left_alone() {
    let folder = Folder::used("redb");
    let (node, _) = folder.serve();
    for action in [&["stat"][..], &["migrate", "--to", "sled"]] {
        let line = refused(&data(action, &folder.data()));
        assert!(line.contains("is in use by another process"), "{line}");
    }
    node.kill();
    folder.holds_everything();
}

#[test]
fn what_is_no_data_folder_is_named() {
    let top = tempfile::tempdir().unwrap();
    let absent = top.path().join("absent");
    for action in [&["stat"][..], &["migrate", "--to", "sled"]] {
        let line = refused(&data(action, &absent));
        assert!(line.ends_with("absent is not there"), "{line}");
        let line = refused(&data(action, top.path()));
        assert!(
            line.contains("is no data folder of a node: it has no file `identity`"),
            "{line}"
        );
    }
    assert_eq!(
        std::fs::read_dir(top.path()).unwrap().count(),
        0,
        "nothing was made"
    );
}

#[test]
fn an_engine_of_another_name_or_build_is_refused() {
    let folder = Folder::used("redb");
    let before = folder.files();
    let unknown = data(&["migrate", "--to", "rocks"], &folder.data());
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("the engines are: memory, redb, sled, rocksdb"));
    let line = folder.refuses_to_serve(&["--engine", "sled"]);
    let both = [
        "start the node with `--engine redb`",
        "`kv data migrate --to sled ",
    ];
    assert!(both.iter().all(|way| line.contains(way)), "{line}");
    assert_eq!(folder.files(), before);
    #[cfg(not(feature = "rocksdb"))]
    {
        let line = refused(&data(&["migrate", "--to", "rocksdb"], &folder.data()));
        assert!(line.contains("build with --features rocksdb"), "{line}");
        let empty = tempfile::tempdir().unwrap();
        let new = empty.path().join("data");
        let node = Served::spawn(&new, &free_address(), &["--engine", "rocksdb"]);
        let (code, said) = node.stops();
        let line = refusal(code, &said);
        assert!(line.contains("build with --features rocksdb"), "{line}");
    }
    folder.holds_everything();
}

#[test]
fn a_folder_of_a_newer_version_is_refused() {
    let folder = Folder::used("redb");
    for (file, newer) in [
        ("identity", r#"{"format":2,"node":1}"#),
        ("engine", r#"{"format":2,"engine":"lmdb"}"#),
    ] {
        let path = folder.node().join(file);
        let kept = std::fs::read(&path).unwrap();
        std::fs::write(&path, newer).unwrap();
        let before = folder.files();
        for line in [
            refused(&data(&["stat"], &folder.data())),
            refused(&data(&["migrate", "--to", "sled"], &folder.data())),
            folder.refuses_to_serve(&["--engine", "redb"]),
        ] {
            assert!(
                line.contains("format 2") && line.contains("run the version that wrote it"),
                "{line}"
            );
        }
        assert_eq!(folder.files(), before);
        std::fs::write(path, kept).unwrap();
    }
    folder.holds_everything();
}

/// Story: without the file that says which engine counts, a node took the folder for a new one, and removed the engine's only copy;
/// without the engine's file, `kv data stat` made an empty one and told of it. What is left of a folder is never begun anew: once the
/// missing part is back, everything is there.
#[test]
fn half_a_folder_is_refused_and_left_as_it_is() {
    for engine in ["redb", "memory", "sled"] {
        let folder = Folder::used(engine);
        let file = format!("engine-0000000001.{engine}");
        for (missing, says) in [
            ("wal", "no log"),
            ("engine", "lacks `engine`"),
            (&file, &file),
            ("identity", "identity"),
        ] {
            let (path, away) = (folder.node().join(missing), folder.top.path().join("away"));
            std::fs::rename(&path, &away).unwrap();
            let before = folder.files();
            for line in [
                refused(&data(&["stat"], &folder.data())),
                refused(&data(&["migrate", "--to", "memory"], &folder.data())),
                refused(&data(&["migrate", "--to", "redb"], &folder.data())),
                folder.refuses_to_serve(&["--engine", engine]),
            ] {
                assert!(line.contains(says), "{engine} without {missing}: {line}");
            }
            assert_eq!(folder.files(), before, "{engine} without {missing}");
            std::fs::rename(away, path).unwrap();
        }
        folder.holds_everything();
    }
}

/// The same for a folder so young that its engine holds nothing yet: there a log that is begun anew would not be noticed.
#[test]
fn half_of_a_young_folder_is_refused_too() {
    let top = tempfile::tempdir().unwrap();
    let folder = Folder {
        top,
        engine: "redb".to_owned(),
    };
    let (node, address) = folder.serve();
    assert!(ask(&address, &["set", "a", "b"]).status.success());
    node.kill();
    for missing in ["wal", "engine"] {
        let (path, away) = (folder.node().join(missing), folder.top.path().join("away"));
        std::fs::rename(&path, &away).unwrap();
        let line = folder.refuses_to_serve(&["--engine", "redb"]);
        assert!(
            line.contains("no log") || line.contains("lacks `engine`"),
            "{line}"
        );
        std::fs::rename(away, path).unwrap();
    }
    let (node, address) = folder.serve();
    assert_eq!(text(&ask(&address, &["get", "a"]).stdout), "b\n");
    node.kill();
}
