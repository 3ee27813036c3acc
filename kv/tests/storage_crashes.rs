//! Goal: whatever was acknowledged is there after any crash, and nothing impossible, whatever the log, the store and its engine were
//! doing: batches, checkpoints, files that are begun and dropped, a snapshot that is taken over.
//! Method: a fixed workload over a file system that writes down each operation. For every prefix of the operations the power goes, and
//! of what was not synced nothing, everything, or a random selection of sectors and names is kept (so many selections each, from a seed);
//! then the folder is opened as a node does it, replayed, and held against what was acknowledged by then.
#![allow(
    clippy::unwrap_used,
    reason = "the whole crate is tests, helpers included"
)]

#[allow(dead_code, reason = "the log's own test uses more of it")]
#[path = "wal_crashes/disk.rs"]
mod disk;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use disk::{Disk, LeftOut, Recorder};
use futures::executor::block_on;
use kv::engine::{self, EngineKind};
use kv::fs::FileSystem;
use kv::store::{Batch, Options, Store, snapshot};
use kv::wal;
use kv_core::{Entry, Epoch, Log as Names, Offset, Operation, Version};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::mpsc;

/// How many selections of what was not synced are tried at each crash, beside nothing and everything.
const SELECTIONS: usize = 8;
const LOG: wal::Options = wal::Options {
    segment_bytes: 900,
    preallocate_bytes: 600,
};
/// How many entries the snapshot is ahead.
const SNAPSHOT_AHEAD: u64 = 6;

/// The entry at an offset: what a key is worth there follows from the offset alone.
fn entry(offset: u64) -> Entry {
    let key = Bytes::from(format!("key-{}", offset % 5));
    let operation = match offset % 7 {
        0 => Operation::Delete { key },
        _ => Operation::Set {
            key,
            value: Bytes::from(format!(
                "{offset}-{}",
                "v".repeat((offset % 3) as usize * 90)
            )),
        },
    };
    let version = Version::new(Epoch(1), Offset(offset));
    Entry { version, operation }
}

fn names(end: u64) -> Names {
    match end {
        0 => Names::default(),
        end => Names::from_runs(&[(Epoch(1), Offset(1), Offset(end))]),
    }
}

/// What each key holds when everything up to an offset is applied.
fn expected(end: u64) -> BTreeMap<Bytes, (u64, Option<Bytes>)> {
    let entries = (1..=end).map(entry);
    let rows = entries.map(|entry| {
        let offset = entry.version.offset.0;
        match entry.operation {
            Operation::Set { key, value } => (key, (offset, Some(value))),
            Operation::Delete { key } => (key, (offset, None)),
            Operation::EpochStart => unreachable!("the workload has none"),
        }
    });
    rows.collect()
}

fn chain(offset: u64) -> u32 {
    crc32fast::hash(&offset.to_le_bytes())
}

/// What may be found from an operation on.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// The acknowledged entries.
    synced: u64,
    /// All that was ever asked for.
    asked: u64,
}

/// A node's storage at work, without the node.
struct Life {
    recorder: Recorder,
    files: Arc<dyn FileSystem>,
    log: wal::Log,
    reports: mpsc::UnboundedReceiver<Result<wal::Synced, wal::WalError>>,
    store: Store,
    end: u64,
    limits: Vec<(usize, Limits)>,
}

impl Life {
    async fn begin(kind: EngineKind, left_out: Option<LeftOut>) -> Self {
        let recorder = Recorder::new(Disk::default(), left_out);
        let files: Arc<dyn FileSystem> = Arc::new(recorder.clone());
        let store = Store::open(&files, kind, Options::default(), true)
            .await
            .unwrap();
        let (log, writer, _) = wal::open(&files, LOG, &Names::default()).await.unwrap();
        let (sender, reports) = mpsc::unbounded_channel();
        tokio::spawn(writer.run(sender));
        let limits = Limits {
            synced: 0,
            asked: 0,
        };
        Self {
            limits: vec![(0, limits)],
            recorder,
            files,
            log,
            reports,
            store,
            end: 0,
        }
    }

    fn note(&mut self, synced: u64) {
        let limits = Limits {
            synced,
            asked: self.end,
        };
        self.limits.push((self.recorder.count(), limits));
    }

    async fn report(&mut self) {
        self.reports.recv().await.unwrap().unwrap();
    }

    async fn append(&mut self, count: u64) {
        let before = self.end;
        self.end += count;
        self.note(before);
        let entries: Vec<Entry> = (before + 1..=self.end).map(entry).collect();
        self.log.append(entries.clone());
        self.report().await;
        self.note(self.end);
        let chain = chain(self.end);
        self.store.apply(&Batch { entries, chain }).unwrap();
    }

    fn checkpoint(&mut self) {
        let flush = self.store.begin_checkpoint(names(self.end)).unwrap();
        let position = flush.run().unwrap();
        self.store.end_checkpoint(position);
    }

    async fn trim(&mut self) {
        self.log.trim(Offset(self.end));
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    /// Takes over a snapshot that is ahead.
    async fn install(&mut self, kind: EngineKind) {
        let other: Arc<dyn FileSystem> = Arc::new(kv::fs::memory::MemoryFileSystem::default());
        let mut ahead = Store::open(&other, EngineKind::Memory, Options::default(), true)
            .await
            .unwrap();
        let end = self.end + SNAPSHOT_AHEAD;
        let entries = (1..=end).map(entry).collect();
        let chain = chain(end);
        ahead.apply(&Batch { entries, chain }).unwrap();
        let position = ahead.begin_checkpoint(names(end)).unwrap().run().unwrap();
        ahead.end_checkpoint(position);
        let name = |_| "snapshot-7.part".to_owned();
        let written = snapshot::write(ahead.engine().as_ref(), other.as_ref(), name).unwrap();
        let mut bytes = vec![0; written.bytes as usize];
        let source = other.open(&written.name).unwrap();
        source.read_at(0, &mut bytes).unwrap();
        let target = self.files.open(&written.name).unwrap();
        target.write_at(0, &bytes).unwrap();
        let before = self.end;
        self.end = end;
        self.note(before);
        let generation = self.store.generation().next(kind);
        let options = engine::Options::default();
        snapshot::load(&self.files, &written, generation, options).unwrap();
        self.store.switch(&self.files, generation).await.unwrap();
        self.note(end);
        self.log.restart(names(end));
        self.report().await;
        self.files.remove(&written.name).unwrap();
    }
}

/// A short life in which everything happens.
async fn live(kind: EngineKind, left_out: Option<LeftOut>) -> Life {
    let mut life = Life::begin(kind, left_out).await;
    for round in 0..3 {
        life.append(3 + round).await;
        life.append(4).await;
        life.checkpoint();
        life.append(2).await;
        life.trim().await;
    }
    life.install(kind).await;
    life.append(3).await;
    life.checkpoint();
    life.trim().await;
    life
}

/// Opens a folder as a node does, replays, and says how far it got.
async fn reopen(disk: Disk, kind: EngineKind) -> Result<u64, String> {
    let files: Arc<dyn FileSystem> = Arc::new(Recorder::new(disk, None));
    let store = Store::open(&files, kind, Options::default(), true).await;
    let mut store = store.map_err(|error| format!("the store does not open: {error}"))?;
    let checkpoint = store.durable().names.clone();
    let opened = wal::open(&files, LOG, &checkpoint).await;
    let (log, _writer, recovered) =
        opened.map_err(|error| format!("the log does not open: {error}"))?;
    if recovered.suspect.is_some() {
        return Err("a power loss alone made the log suspect".to_owned());
    }
    let end = recovered.log.end().offset;
    let first = store.applied().version.offset.next();
    if first <= end {
        let entries = log
            .read(first, end, usize::MAX)
            .map_err(|error| error.to_string())?;
        let chain = chain(end.0);
        store
            .apply(&Batch { entries, chain })
            .map_err(|error| format!("the replay does not fit: {error}"))?;
    }
    for (key, (offset, value)) in expected(end.0) {
        let found = store.get(&key).map_err(|error| error.to_string())?;
        let found = found.map(|found| (found.version.offset.0, found.value));
        if found != Some((offset, value)) {
            return Err(format!(
                "{key:?} is {found:?} at {end}, and not of {offset}"
            ));
        }
    }
    Ok(end.0)
}

/// Crashes a life everywhere; says how many crashes there were, or which one went wrong.
fn crash_everywhere(kind: EngineKind, left_out: Option<LeftOut>) -> Result<usize, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let life = runtime.block_on(live(kind, left_out));
    let operations = life.recorder.operations();
    let mut disk = Disk::default();
    let mut rng = StdRng::seed_from_u64(7);
    let mut crashes = 0;
    for count in 0..=operations.len() {
        if let Some(operation) = count.checked_sub(1).map(|index| &operations[index]) {
            disk.perform(operation);
        }
        let holds = life.limits.iter().rev().find(|(from, _)| *from <= count);
        // What is asked for next may be there before it is noted.
        let next = life.limits.iter().find(|(from, _)| *from > count);
        let (_, limits) = holds.unwrap();
        let asked = next.map_or(limits.asked, |(_, next)| next.asked);
        for selection in 0..SELECTIONS + 2 {
            let chance = match selection {
                0 => 0.0,
                1 => 1.0,
                _ => 0.5,
            };
            let left = disk.keeping_some(&mut || rng.random_bool(chance));
            let found = block_on(reopen(left, kind)).and_then(|end| {
                match (limits.synced..=asked).contains(&end) {
                    true => Ok(()),
                    false => Err(format!("it ends at {end}, and not in {limits:?}")),
                }
            });
            crashes += 1;
            found.map_err(|trouble| {
                format!("{kind}: after operation {count}, selection {selection}: {trouble}")
            })?;
        }
    }
    Ok(crashes)
}

#[test]
fn a_nodes_storage_recovers_from_every_crash() {
    for kind in [EngineKind::Memory, EngineKind::Redb] {
        let crashes = crash_everywhere(kind, None).unwrap_or_else(|trouble| panic!("{trouble}"));
        println!("{kind}: {crashes} crashes");
        assert!(crashes > 500, "vacuous");
    }
}

#[test]
fn a_storage_that_leaves_a_sync_out_is_found() {
    for bug in [LeftOut::Sync, LeftOut::SyncOfNewNames] {
        let found = crash_everywhere(EngineKind::Memory, Some(bug));
        println!("{bug:?}: {found:?}");
        assert!(found.is_err(), "{bug:?} is not found");
    }
}
