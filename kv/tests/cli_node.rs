//! The command line against a node: a real one in a process of its own, and one that does not know its own mind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use kv::handle::{Answer, Ask, ClusterMap, NodeHandle, ShardView};
use kv_core::limits::VALUE_BYTES_MAX;
use kv_core::{Epoch, Fencing, NodeId, ShardId, SlotRange};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

fn kv() -> Command {
    Command::new(env!("CARGO_BIN_EXE_kv"))
}

fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// A `kv serve` that is killed at the end of the test, however that comes.
struct Served {
    process: Child,
    address: String,
}

impl Served {
    /// Waits until the node says that it serves.
    fn start(data: &Path, flags: &[&str]) -> Self {
        let address = free_address();
        let mut command = kv();
        command.arg("serve").arg("--data").arg(data);
        command.args(["--listen", &address]).args(flags);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        assert!(line.contains(&address), "{line}");
        std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        Self { process, address }
    }

    /// With a deadline that a node which has just started, or waits for its last life's session to end, can keep.
    fn ask(&self, arguments: &[&str]) -> Output {
        let mut command = kv();
        command.args(arguments).args(["--node", &self.address]);
        command.args(["--timeout", "20s"]).output().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill(); // It may have stopped already.
        let _ = self.process.wait();
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn line(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn what_was_set_is_read_until_it_is_deleted() {
    let data = tempfile::tempdir().unwrap();
    let node = Served::start(data.path(), &[]);
    let set = node.ask(&["set", "greeting", "hello"]);
    assert_eq!(set.status.code(), Some(0), "{}", text(&set.stderr));
    assert!(text(&set.stdout).starts_with("ok: version "));

    let get = node.ask(&["get", "greeting"]);
    assert_eq!(get.status.code(), Some(0));
    assert_eq!((text(&get.stdout), text(&get.stderr)), ("hello\n", ""));

    let deleted = node.ask(&["delete", "greeting", "--json"]);
    assert_eq!(deleted.status.code(), Some(0));
    assert_eq!(line(&deleted)["outcome"], "ok");

    let get = node.ask(&["get", "greeting"]);
    assert_eq!(get.status.code(), Some(1));
    assert_eq!(text(&get.stdout), "");
    assert!(text(&get.stderr).contains("no key `greeting`"));
    let get = line(&node.ask(&["get", "greeting", "--json"]));
    assert_eq!(
        (&get["outcome"], &get["found"]),
        (&json!("ok"), &json!(false))
    );
}

#[test]
fn the_node_tells_where_a_key_lives_and_how_it_is() {
    let data = tempfile::tempdir().unwrap();
    let node = Served::start(data.path(), &["--node-id", "7"]);
    assert_eq!(node.ask(&["set", "a", "1"]).status.code(), Some(0));
    let slot = line(&node.ask(&["slot", "123456789", "--json"]));
    assert_eq!((&slot["slot"], &slot["writer"]), (&json!(294), &json!(7)));
    let info = line(&node.ask(&["info", "--json"]));
    assert_eq!(info["nodes"][0]["role"], "writer");
    assert_eq!(info["nodes"][0]["address"], node.address);
    assert_eq!(info["shards"][0]["slots"], json!([[0, 1024]]));
    let info = node.ask(&["info"]);
    let table = text(&info.stdout);
    assert!(table.contains("n7") && table.contains("0..1024"), "{table}");
}

#[test]
fn a_value_from_a_file_is_checked_and_need_not_be_text() {
    let data = tempfile::tempdir().unwrap();
    let node = Served::start(data.path(), &[]);
    let file = data.path().join("value");
    let path = file.to_str().unwrap();
    std::fs::write(&file, [0xff, 0, b'a']).unwrap();
    assert_eq!(
        node.ask(&["set", "bytes", "--file", path]).status.code(),
        Some(0)
    );
    assert_eq!(text(&node.ask(&["get", "bytes"]).stdout), "\\xff\\x00a\n");
    assert_eq!(
        line(&node.ask(&["get", "bytes", "--json"]))["value_hex"],
        "ff0061"
    );

    std::fs::write(&file, vec![0; VALUE_BYTES_MAX + 1]).unwrap();
    let large = node.ask(&["set", "bytes", "--file", path]);
    assert_eq!(large.status.code(), Some(1));
    assert!(text(&large.stderr).contains("the value has 1048577 bytes; allowed: up to 1048576"));
}

#[test]
fn a_node_is_killed_only_where_that_is_allowed() {
    let data = tempfile::tempdir().unwrap();
    let mut node = Served::start(data.path(), &[]);
    let refused = node.ask(&["kill"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("--allow-kill"));
    assert!(
        node.process.try_wait().unwrap().is_none(),
        "it stopped all the same"
    );

    let data = tempfile::tempdir().unwrap();
    let mut node = Served::start(data.path(), &["--allow-kill"]);
    assert_eq!(node.ask(&["kill"]).status.code(), Some(0));
    assert_eq!(node.process.wait().unwrap().code(), Some(0));
}

#[test]
fn a_folder_or_a_port_that_is_taken_is_named() {
    let data = tempfile::tempdir().unwrap();
    let node = Served::start(data.path(), &[]);
    let serve = |data: &Path, listen: &str| {
        let mut command = kv();
        command.arg("serve").arg("--data").arg(data);
        command.args(["--listen", listen]).output().unwrap()
    };
    let same_folder = serve(data.path(), &free_address());
    assert_eq!(same_folder.status.code(), Some(1));
    assert!(text(&same_folder.stderr).contains("is in use by another process"));
    let other = tempfile::tempdir().unwrap();
    let same_port = serve(other.path(), &node.address);
    assert_eq!(same_port.status.code(), Some(1));
    assert!(text(&same_port.stderr).contains("the port is in use"));
}

#[test]
fn a_node_that_starts_again_has_its_data() {
    let data = tempfile::tempdir().unwrap();
    let node = Served::start(data.path(), &[]);
    assert_eq!(node.ask(&["set", "kept", "yes"]).status.code(), Some(0));
    drop(node);
    let node = Served::start(data.path(), &[]);
    let get = node.ask(&["get", "kept"]);
    assert_eq!(text(&get.stdout), "yes\n", "{}", text(&get.stderr));
}

#[test]
fn the_repl_takes_lines_from_a_pipe() {
    let data = tempfile::tempdir().unwrap();
    let node = Served::start(data.path(), &[]);
    assert_eq!(node.ask(&["set", "ready", "yes"]).status.code(), Some(0));
    let mut repl = kv();
    repl.args(["repl", "--node", &node.address])
        .env("XDG_STATE_HOME", data.path());
    repl.stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut repl = repl.spawn().unwrap();
    let lines = "set a hello, world\nget a\nlevel quorum\nnonsense\nget a\nexit\nget a\n";
    repl.stdin
        .take()
        .unwrap()
        .write_all(lines.as_bytes())
        .unwrap();
    let output = repl.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let said = text(&output.stdout);
    assert_eq!(said.matches("hello, world\n").count(), 2, "{said}");
    assert!(said.contains("reads are of level quorum"));
    assert!(text(&output.stderr).contains("no command `nonsense`"));
    assert!(data.path().join("kv/history").exists());
}

/// A node that leaves every write open.
async fn undecided(address: &str) -> kv::server::Server {
    let (asks, mut asked) = mpsc::channel(1);
    let view = ShardView {
        epoch: Epoch(1),
        writer: Some(NodeId(1)),
        voters: [NodeId(1)].into(),
        write_quorum: 1,
        slots: SlotRange::partition(1).unwrap(),
        fencing: Fencing::Epoch,
    };
    let map = ClusterMap {
        nodes: [(NodeId(1), address.to_owned())].into(),
        shards: [(ShardId(0), view)].into(),
    };
    let (known, cluster) = watch::channel(map);
    tokio::spawn(async move {
        while let Some(ask) = asked.recv().await {
            if let Ask::Request(_, _, reply) = ask {
                reply.send(Answer::Unknown).unwrap();
            }
        }
        drop(known);
    });
    let handle = NodeHandle::new(NodeId(1), asks, cluster);
    let deliver = Arc::new(|_, _| {});
    kv::server::serve(address, handle, deliver, false, &kv::door::Door::default())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_nobody_knows_the_end_of_ends_with_3() {
    let address = free_address();
    let _server = undecided(&address).await;
    let run = |json: bool| {
        let mut command = kv();
        command.args(["set", "key", "value", "--node", &address]);
        if json {
            command.arg("--json");
        }
        command.output().unwrap() // The server runs on threads of its own.
    };
    let output = run(false);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("read the key before you write it again"));
    let output = run(true);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(line(&output)["outcome"], "info");
}
