//! Real nodes on real disks that lack what the others no longer have in their logs: a snapshot, and a repair from a peer.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kv::client::{Client, ClientOptions};
use kv::config::{ClusterConfig, NodeConfig, Timing};
use kv::coordination::embedded::Embedded;
use kv::engine::EngineKind;
use kv::environment::{Clock, Environment};
use kv::error::NodeError;
use kv::events::{Event, Events};
use kv::fs::FileSystem;
use kv::fs::os::OsFileSystem;
use kv::handle::Status;
use kv::node::Node;
use kv::repair::{RepairError, Source, repair};
use kv::transport::GrpcTransport;
use kv::{engine, store, wal};
use kv_core::{Fencing, Level, NodeId, Version};

struct TestClock(tokio::time::Instant);

impl Clock for TestClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Everything that a node records.
#[derive(Clone, Default)]
struct Recorded(Arc<Mutex<Vec<Event>>>);

impl Events for Recorded {
    fn record(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Recorded {
    fn has(&self, what: impl Fn(&Event) -> bool) -> bool {
        self.0.lock().unwrap().iter().any(what)
    }
}

fn timing() -> Timing {
    let ms = Duration::from_millis;
    Timing {
        session_timeout: ms(1000),
        heartbeat: ms(50),
        ..Timing::default()
    }
}

fn free_addresses(count: u64) -> Vec<String> {
    let listeners: Vec<_> = (0..count)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let addresses = listeners.iter().map(|it| it.local_addr().unwrap());
    addresses.map(|address| address.to_string()).collect()
}

/// Three nodes with logs so small that they soon drop what the engine has.
struct Shard {
    folder: tempfile::TempDir,
    service: Embedded,
    addresses: Vec<String>,
    nodes: Vec<Option<Node>>,
    events: Vec<Recorded>,
    kind: EngineKind,
    starts: u64,
}

impl Shard {
    async fn start(kind: EngineKind) -> Self {
        let mut shard = Self {
            folder: tempfile::tempdir().unwrap(),
            service: Embedded::in_memory(timing().session_timeout),
            addresses: free_addresses(3),
            nodes: vec![None, None, None],
            events: vec![Recorded::default(); 3],
            kind,
            starts: 0,
        };
        for index in 0..3 {
            shard.start_node(index).await.unwrap();
        }
        shard
    }

    fn files(&self, index: usize) -> Arc<dyn FileSystem> {
        let path = self.folder.path().join(index.to_string());
        Arc::new(OsFileSystem::open(&path).unwrap())
    }

    async fn start_node(&mut self, index: usize) -> Result<(), NodeError> {
        let id = NodeId(index as u64 + 1);
        self.starts += 1;
        let address = self.addresses[index].clone();
        let config = NodeConfig {
            id,
            listen: address.clone(),
            advertise: address,
            cluster: ClusterConfig::new(1, 3, 2, None, Fencing::Epoch).unwrap(),
            timing: timing(),
            wal: wal::Options {
                segment_bytes: 8 * 1024,
                ..wal::Options::default()
            },
            log_retain_bytes: 16 * 1024,
            engine: self.kind,
            store: store::Options {
                checkpoint_bytes: 16 * 1024,
                ..store::Options::default()
            },
            allow_kill: false,
        };
        self.events[index] = Recorded::default();
        let environment = Environment {
            file_system: self.files(index),
            coordination: Arc::new(self.service.clone()),
            transport: GrpcTransport::new(id, id.0),
            clock: Arc::new(TestClock(tokio::time::Instant::now())),
            events: Arc::new(self.events[index].clone()),
            seed: self.starts,
        };
        self.nodes[index] = Some(Node::start(config, environment).await?);
        Ok(())
    }

    async fn stop_node(&mut self, index: usize) {
        drop(self.nodes[index].take());
        // A job that outlives its node holds the folder until it is done.
        while self.files(index).lock().is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn client(&self) -> Client {
        let options = ClientOptions {
            timeout: Duration::from_secs(5),
            ..ClientOptions::default()
        };
        Client::new(self.addresses.clone(), options)
    }

    async fn write(&self, client: &mut Client, from: u32, to: u32) {
        for number in from..to {
            let key = Bytes::from(format!("key-{}", number % 50));
            let value = Bytes::from(format!("{number}-{}", "v".repeat(200)));
            client.set(key, value).await.ok().unwrap();
        }
    }

    async fn status(&self, index: usize) -> Option<Status> {
        self.nodes[index].as_ref()?.handle().status(true).await
    }

    /// Waits until all three hold the same, and nobody is suspect.
    async fn converge(&self) {
        let started = std::time::Instant::now();
        loop {
            let mut statuses = Vec::new();
            for index in 0..3 {
                statuses.push(self.status(index).await.unwrap());
            }
            let told = |status: &Status| (status.end, status.committed, status.digest);
            let first = told(&statuses[0]);
            let are_whole = statuses.iter().all(|status| !status.is_suspect);
            if are_whole && statuses.iter().all(|status| told(status) == first) {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(30), "{statuses:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A member that is not the writer.
    async fn follower(&self) -> usize {
        for index in 0..3 {
            if self.status(index).await.unwrap().writer_of.is_none() {
                return index;
            }
        }
        panic!("somebody follows")
    }
}

fn kinds() -> Vec<EngineKind> {
    let here = |kind: &EngineKind| *kind != EngineKind::Rocksdb || cfg!(feature = "rocksdb");
    EngineKind::ALL.into_iter().filter(here).collect()
}

fn source(address: &str) -> Source {
    Source {
        address: address.to_owned(),
        timeout: Duration::from_secs(5),
        access: kv::access::Access::default(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_away_for_too_long_gets_a_snapshot_and_then_the_log() {
    for kind in kinds() {
        let mut shard = Shard::start(kind).await;
        let mut client = shard.client();
        shard.write(&mut client, 0, 20).await;
        let away = shard.follower().await;
        shard.stop_node(away).await;
        shard.write(&mut client, 20, 500).await;
        let files = shard.files((away + 1) % 3).list("wal").unwrap();
        assert!(
            !files.contains(&"0000000001".to_owned()),
            "the log has dropped its beginning: {files:?}"
        );
        shard.start_node(away).await.unwrap();
        shard.write(&mut client, 500, 520).await;
        shard.converge().await;
        let installed = |event: &Event| matches!(event, Event::Installed { .. });
        assert!(shard.events[away].has(installed), "{kind}");
        // It goes on from there after a restart, too.
        shard.stop_node(away).await;
        shard.start_node(away).await.unwrap();
        shard.write(&mut client, 520, 530).await;
        shard.converge().await;
        assert!(
            !shard.events[away].has(installed),
            "{kind}: once was enough"
        );
        for number in 480..530 {
            let key = Bytes::from(format!("key-{}", number % 50));
            let read = client.get(key, Level::Lease).await.ok().unwrap();
            let value = read.value.unwrap();
            assert!(value.starts_with(format!("{number}-").as_bytes()));
        }
    }
}

/// Flips a bit in the middle of a file.
fn damage(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(file, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_damaged_before_its_tail_is_taken_from_a_peer() {
    let mut shard = Shard::start(EngineKind::Redb).await;
    let mut client = shard.client();
    shard.write(&mut client, 0, 200).await;
    shard.converge().await;
    let broken = shard.follower().await;
    shard.stop_node(broken).await;
    let files = shard.files(broken);
    let sealed = files.list("wal").unwrap().remove(0);
    let path = shard.folder.path().join(format!("{broken}/wal/{sealed}"));
    damage(&path);
    let damaged = std::fs::read(&path).unwrap();
    let refused = shard.start_node(broken).await.unwrap_err().to_string();
    assert!(refused.contains(&sealed), "{refused}");
    assert!(refused.contains("kv repair --from PEER"), "{refused}");

    let options = engine::Options::default();
    let own = shard.addresses[broken].clone();
    let nobody = repair(&files, &source(&own), None, options).await;
    assert!(matches!(nobody, Err(RepairError::Peer(_))), "{nobody:?}");
    let peer = shard.addresses[(broken + 1) % 3].clone();
    let done = repair(&files, &source(&peer), None, options).await.unwrap();
    assert!(done.at > Version::ZERO);
    let kept = done
        .aside
        .iter()
        .find(|name| name.ends_with(&sealed))
        .unwrap();
    let kept = std::fs::read(shard.folder.path().join(format!("{broken}/{kept}"))).unwrap();
    assert_eq!(kept, damaged, "what was damaged is kept aside");

    shard.start_node(broken).await.unwrap();
    let started = |event: &Event| {
        matches!(
            event,
            Event::Started {
                suspect: Some(_),
                ..
            }
        )
    };
    assert!(shard.events[broken].has(started), "it knows what it is");
    shard.write(&mut client, 200, 210).await;
    shard.converge().await;
    assert!(shard.events[broken].has(|event| matches!(event, Event::Whole(_))));
    shard.stop_node(broken).await;
    shard.start_node(broken).await.unwrap();
    shard.converge().await;
    assert!(!shard.events[broken].has(started), "it is one no more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_asks_only_another_member_of_the_same_shard() {
    let shard = Shard::start(EngineKind::Memory).await;
    let mut client = shard.client();
    shard.write(&mut client, 0, 5).await;
    let options = engine::Options::default();
    let folder = tempfile::tempdir().unwrap();
    let files: Arc<dyn FileSystem> = Arc::new(OsFileSystem::open(folder.path()).unwrap());
    let refusal = async |files: &Arc<dyn FileSystem>| {
        let done = repair(files, &source(&shard.addresses[0]), None, options).await;
        done.unwrap_err().to_string()
    };
    let line = refusal(&files).await;
    assert!(line.contains("no data folder of a node"), "{line}");
    drop(
        kv::data_folder::claim(files.as_ref(), NodeId(9))
            .await
            .unwrap(),
    );
    let line = refusal(&files).await;
    assert!(
        line.contains("counts n9 among its voters: n1, n2, n3"),
        "{line}"
    );
    let in_use = shard.files(0);
    let line = refusal(&in_use).await;
    assert!(line.contains("in use by another process"), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_another_cluster_is_refused() {
    let mut shard = Shard::start(EngineKind::Redb).await;
    let mut client = shard.client();
    shard.write(&mut client, 0, 5).await;
    for index in 0..3 {
        shard.stop_node(index).await;
    }
    shard.service = Embedded::in_memory(timing().session_timeout);
    shard.start_node(0).await.unwrap();
    let stopped = shard.nodes[0].as_mut().unwrap().stopped();
    let stopped = tokio::time::timeout(Duration::from_secs(10), stopped).await;
    let error = stopped.unwrap();
    assert!(matches!(error, NodeError::OtherCluster { .. }), "{error}");
    let line = error.to_string();
    assert!(line.contains("belongs to cluster"), "{line}");
}
