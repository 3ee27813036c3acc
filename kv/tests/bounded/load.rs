//! Keys that are overwritten again and again, through a log and a store as a node's driver uses them, on a real disk.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use kv::engine::EngineKind;
use kv::fs::FileSystem;
use kv::fs::os::OsFileSystem;
use kv::store::{Batch, Options, Position, Store, StoreError};
use kv::wal::{self, Log, Synced, WalError};
use kv_core::{Entry, Epoch, Log as Names, Offset, Operation, Version};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// As many requests as a driver puts in at once.
const BATCH: u64 = 256;

/// What is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// How many keys there are; each is written once before the first is overwritten.
    pub(crate) keys: u64,
    pub(crate) value_bytes: usize,
    /// How often a key, drawn at random, is overwritten.
    pub(crate) overwrites: u64,
    /// How many keys, drawn at random, are read at the end.
    pub(crate) reads: u64,
    pub(crate) checkpoint_bytes: u64,
    pub(crate) segment_bytes: u64,
}

impl Plan {
    /// The live data: the bytes of all keys and their values.
    pub(crate) fn live_bytes(self) -> u64 {
        (0..self.keys)
            .map(|key| name(key).len() as u64)
            .sum::<u64>()
            + self.keys * self.value_bytes as u64
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measured {
    /// How many checkpoints there were after all keys had been written.
    pub(crate) checkpoints: u64,
    /// The most bytes that all files together had after one of those.
    pub(crate) disk_bytes_max: u64,
    /// How many of those were the log's.
    pub(crate) log_bytes_max: u64,
    /// How many entries were applied since the last checkpoint, and how many a restart found that it has to apply.
    pub(crate) since_checkpoint: u64,
    pub(crate) replayed: u64,
    /// How many bytes of log the restart had to read.
    pub(crate) recovered_bytes: u64,
}

fn name(key: u64) -> Bytes {
    Bytes::from(format!("key-{key:08}"))
}

/// The bytes that all files in a folder take on the disk.
fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap();
    let sizes = entries.map(|entry| {
        let entry = entry.unwrap();
        // A file may go away meanwhile.
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => bytes_in(&entry.path()),
            _ => entry
                .metadata()
                .map_or(0, |metadata| metadata.blocks() * 512),
        }
    });
    sizes.sum()
}

/// A log and a store over one folder, and the checkpoint that is under way.
struct Node<'a> {
    folder: &'a Path,
    store: Store,
    log: Log,
    synced: mpsc::UnboundedReceiver<Result<Synced, WalError>>,
    names: Names,
    job: Option<JoinHandle<Result<Position, StoreError>>>,
    measured: Measured,
    is_measured: bool,
}

async fn open(
    files: &Arc<dyn FileSystem>,
    kind: EngineKind,
    plan: Plan,
) -> (Store, Log, wal::LogWriter, wal::Recovered) {
    let options = Options {
        checkpoint_bytes: plan.checkpoint_bytes,
        ..Options::default()
    };
    let store = Store::open(files, kind, options, true).await.unwrap();
    let options = wal::Options {
        segment_bytes: plan.segment_bytes,
        ..wal::Options::default()
    };
    let opened = wal::open(files, options, &store.durable().names).await;
    let (log, writer, recovered) = opened.unwrap();
    (store, log, writer, recovered)
}

/// Writes all keys, overwrites them, stops without a word in between two checkpoints, and starts again.
pub(crate) async fn overwrite(kind: EngineKind, plan: Plan) -> Measured {
    let folder = tempfile::tempdir().unwrap();
    let os = OsFileSystem::open(folder.path()).unwrap();
    let files: Arc<dyn FileSystem> = Arc::new(os);
    let (store, log, writer, _) = open(&files, kind, plan).await;
    let (report, synced) = mpsc::unbounded_channel();
    let writing = tokio::spawn(writer.run(report));
    let mut node = Node {
        folder: folder.path(),
        store,
        log,
        synced,
        names: Names::default(),
        job: None,
        measured: Measured::default(),
        is_measured: false,
    };
    let mut rng = StdRng::seed_from_u64(1);
    let mut number = 0;
    while number < plan.keys + plan.overwrites {
        node.is_measured = number >= plan.keys;
        let keys = (number..number + BATCH).map(|number| match number < plan.keys {
            true => number,
            false => rng.random_range(0..plan.keys),
        });
        let keys: Vec<u64> = keys.collect();
        node.write(&keys, plan, &mut rng).await;
        number += BATCH;
    }
    node.finish_job().await;
    for _ in 0..plan.reads {
        let found = node.store.get(&name(rng.random_range(0..plan.keys)));
        let value = found.unwrap().unwrap().value.unwrap();
        assert_eq!(value.len(), plan.value_bytes);
    }
    let mut measured = node.measured;
    let end = node.names.end().offset.0;
    measured.since_checkpoint = end - node.store.durable().names.end().offset.0;
    drop(node);
    writing.await.unwrap();

    measured.recovered_bytes = bytes_in(&folder.path().join("wal"));
    let (store, _, _, recovered) = open(&files, kind, plan).await;
    assert_eq!(recovered.log.end().offset.0, end, "all is there");
    measured.replayed = end - store.applied().version.offset.0;
    measured
}

impl Node<'_> {
    async fn write(&mut self, keys: &[u64], plan: Plan, rng: &mut StdRng) {
        let entries: Vec<Entry> = keys
            .iter()
            .map(|key| {
                let mut value = vec![0; plan.value_bytes];
                rng.fill(&mut value[..]);
                let version = Version::new(Epoch(1), self.names.end().offset.next());
                self.names.append(version);
                let (key, value) = (name(*key), Bytes::from(value));
                let operation = Operation::Set { key, value };
                Entry { version, operation }
            })
            .collect();
        self.log.append(entries.clone());
        self.synced.recv().await.unwrap().unwrap();
        self.store.apply(&Batch { entries, chain: 1 }).unwrap();
        let is_done = self.job.as_ref().is_some_and(JoinHandle::is_finished);
        if is_done || self.store.is_full() {
            self.finish_job().await;
        }
        if self.store.wants_checkpoint() {
            let flush = self.store.begin_checkpoint(self.names.clone()).unwrap();
            self.job = Some(blocking(move || flush.run()));
        }
    }

    async fn finish_job(&mut self) {
        let Some(job) = self.job.take() else { return };
        let position = job.await.unwrap().unwrap();
        self.store.end_checkpoint(position);
        let durable = self.store.durable().names.end().offset;
        if durable > Offset::ZERO {
            self.log.trim(durable);
        }
        if self.is_measured {
            let measured = &mut self.measured;
            measured.checkpoints += 1;
            let log_bytes = bytes_in(&self.folder.join("wal"));
            measured.log_bytes_max = measured.log_bytes_max.max(log_bytes);
            measured.disk_bytes_max = measured.disk_bytes_max.max(bytes_in(self.folder));
        }
    }
}

#[allow(
    deprecated,
    reason = "only the simulator's build marks it so, and does not run this"
)]
fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    tokio::task::spawn_blocking(work)
}
