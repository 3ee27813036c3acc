//! Writes that come while the log is being synced: they wait for it, and then share one sync; what is still waiting at its deadline has
//! not happened, and will not.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

#[path = "cluster/nodes.rs"]
#[allow(dead_code, reason = "these nodes have a disk of their own")]
mod nodes;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use kv::config::ClusterConfig;
use kv::coordination::embedded::Embedded;
use kv::fs::memory::MemoryFileSystem;
use kv::fs::{File, FileSystem};
use kv::handle::{Answer, NodeHandle, Refusal, Request};
use kv::node::Node;
use kv_core::{Fencing, Level};
use tokio::sync::watch;

const LONG: Duration = Duration::from_secs(20);

/// The syncs of a disk: they wait while the gate is shut.
#[derive(Debug)]
struct Gate {
    is_open: watch::Sender<bool>,
    begun: AtomicUsize,
}

/// A disk behind a gate.
#[derive(Debug)]
struct Gated {
    disk: MemoryFileSystem,
    gate: Arc<Gate>,
}

struct GatedFile {
    file: Arc<dyn File>,
    gate: Arc<Gate>,
}

#[async_trait]
impl FileSystem for Gated {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let (file, gate) = (self.disk.open(name)?, Arc::clone(&self.gate));
        Ok(Arc::new(GatedFile { file, gate }))
    }
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.disk.list(folder)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    async fn sync_names(&self) -> io::Result<()> {
        self.disk.sync_names().await
    }
    fn sync_names_now(&self) -> io::Result<()> {
        self.disk.sync_names_now()
    }
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        self.disk.lock()
    }
    fn describe(&self) -> String {
        self.disk.describe()
    }
    fn real_folder(&self, name: &str) -> io::Result<PathBuf> {
        self.disk.real_folder(name)
    }
}

#[async_trait]
impl File for GatedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(position, buffer)
    }
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(position, bytes)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    async fn sync(&self) -> io::Result<()> {
        self.gate.begun.fetch_add(1, Ordering::SeqCst);
        let mut gate = self.gate.is_open.subscribe();
        let _ = gate.wait_for(|is_open| *is_open).await;
        self.file.sync().await
    }
    fn sync_now(&self) -> io::Result<()> {
        self.file.sync_now()
    }
}

/// A node that is alone and serves, and the gate of its disk.
async fn node_behind_a_gate() -> (Node, Arc<Gate>) {
    let gate = Arc::new(Gate {
        is_open: watch::Sender::new(true),
        begun: AtomicUsize::new(0),
    });
    let disk = Gated {
        disk: MemoryFileSystem::default(),
        gate: Arc::clone(&gate),
    };
    let cluster = ClusterConfig::new(1, 1, 1, None, Fencing::Epoch).unwrap();
    let service = Embedded::in_memory(LONG);
    let address = nodes::free_addresses(1).remove(0);
    let node = nodes::start_on(Arc::new(disk), 1, &address, &cluster, &service).await;
    while !matches!(set(node.handle(), 0, LONG).await, Answer::Written { .. }) {
        tokio::task::yield_now().await;
    }
    (node, gate)
}

async fn set(node: &NodeHandle, key: usize, deadline: Duration) -> Answer {
    let (key, value) = (key.to_string().into(), Bytes::from_static(b"value"));
    let answered = node.request(Request::Set { key, value }, deadline);
    answered.await.answer
}

async fn is_there(node: &NodeHandle, key: usize) -> bool {
    let get = Request::Get {
        key: key.to_string().into(),
        level: Level::Quorum,
        token: None,
    };
    match node.request(get, LONG).await.answer {
        Answer::Value { value, .. } => value.is_some(),
        other => panic!("{other:?}"),
    }
}

/// Waits until so many requests are with the driver.
async fn are_waiting(node: &NodeHandle, count: u64) {
    while node.status(false).await.unwrap().gauges.requests_waiting < count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_come_during_a_sync_share_the_next_one() {
    let (node, gate) = node_behind_a_gate().await;
    let handle = node.handle();
    gate.is_open.send_replace(false);
    let before = gate.begun.load(Ordering::SeqCst);
    let writes = join_all((1..=101).map(|key| set(handle, key, LONG)));
    let opened = async {
        are_waiting(handle, 101).await;
        gate.is_open.send_replace(true);
    };
    let (answers, ()) = tokio::join!(writes, opened);
    for answer in answers {
        assert!(matches!(answer, Answer::Written { .. }), "{answer:?}");
    }
    let syncs = gate.begun.load(Ordering::SeqCst) - before;
    assert!(
        syncs <= 2,
        "the first one's, and one for all others: {syncs}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_never_reached_the_log_in_time_has_not_happened() {
    let (node, gate) = node_behind_a_gate().await;
    let handle = node.handle();
    gate.is_open.send_replace(false);
    let short = Duration::from_millis(300);
    let second = async {
        are_waiting(handle, 1).await;
        set(handle, 2, short).await
    };
    let (logged, held) = tokio::join!(set(handle, 1, short), second);
    assert_eq!(
        logged,
        Answer::Unknown,
        "it is in the log, and may become durable"
    );
    assert_eq!(held, Answer::Refused(Refusal::TryAgain));
    gate.is_open.send_replace(true);
    assert!(matches!(set(handle, 3, LONG).await, Answer::Written { .. }));
    assert!(is_there(handle, 1).await);
    assert!(!is_there(handle, 2).await);
}
