//! One simulated node: a replica, its disk, its engine.
//!
//! A disk has two parts. What is *synced* survives a crash; the durable effects after it are lost, all of them. Effects are
//! performed on `entries`, the log as it stands, at once: that is what `Ship` reads.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kv_core::invariants::{Process, chain};
use kv_core::{
    Entry, Epoch, Fencing, Input, Log, NodeId, Offset, Operation, Recovered, Replica, SessionId,
    Timer, Version,
};

/// A durable effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Durable {
    Append(Vec<Entry>),
    Truncate(Offset),
    Promise(Epoch),
    /// A snapshot's log took the place of this one.
    Restart(Vec<Entry>),
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) promised: Epoch,
    pub(crate) entries: Vec<Entry>,
    /// What the engine had applied at its last checkpoint, or took over from a snapshot.
    pub(crate) checkpoint: Vec<Entry>,
    /// It may have lost what it had synced.
    pub(crate) suspect: bool,
}

impl Disk {
    /// The log that a start would find: that of the engine, where the WAL has another one.
    pub(crate) fn log(&self) -> &[Entry] {
        match self.entries.starts_with(&self.checkpoint) {
            true => &self.entries,
            false => &self.checkpoint,
        }
    }
}

/// The committed state: the newest value of each key, and the hash of the history at every offset.
#[derive(Clone, Debug, Default)]
pub(crate) struct Engine {
    pub(crate) values: BTreeMap<Bytes, (Version, Option<Bytes>)>,
    pub(crate) chains: Vec<u64>,
}

/// A node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) incarnation: u64,
    /// Nothing while it is down.
    pub(crate) replica: Option<Replica>,
    pub(crate) disk: Disk,
    pub(crate) unsynced: VecDeque<Durable>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) engine: Engine,
    /// Nobody can be sent what stands up to here: only the engine has it.
    pub(crate) trimmed: Offset,
    /// A snapshot that is being fetched.
    pub(crate) fetched: Option<Vec<Entry>>,
    /// The timers that are set, each with the round at which it is due.
    pub(crate) timers: BTreeMap<Timer, u64>,
    /// Answers of the coordination service on their way.
    pub(crate) inbox: VecDeque<Input>,
    /// News of the own session on their way, in order.
    pub(crate) session_news: VecDeque<Option<SessionId>>,
    pub(crate) lease: bool,
}

impl Node {
    pub(crate) fn new(id: NodeId) -> Self {
        Self {
            id,
            incarnation: 0,
            replica: None,
            disk: Disk::default(),
            unsynced: VecDeque::new(),
            entries: Vec::new(),
            engine: Engine::default(),
            trimmed: Offset::ZERO,
            fetched: None,
            timers: BTreeMap::new(),
            inbox: VecDeque::new(),
            session_news: VecDeque::new(),
            lease: false,
        }
    }

    /// Power loss: what is not synced is gone.
    pub(crate) fn crash(&mut self) {
        let fresh = Self::new(self.id);
        let disk = std::mem::take(&mut self.disk);
        *self = Self {
            incarnation: self.incarnation + 1,
            entries: disk.entries.clone(),
            trimmed: self.trimmed,
            disk,
            ..fresh
        };
    }

    /// Comes up with what its disk holds.
    pub(crate) fn start(&mut self, fencing: Fencing) {
        if fencing == Fencing::None {
            self.disk.checkpoint.clear(); // It keeps its whole log.
        }
        self.disk.entries = self.disk.log().to_vec();
        let applied = offset(self.disk.checkpoint.len());
        self.engine = Engine::default();
        self.entries = self.disk.entries.clone();
        self.apply(applied);
        let mut log = Log::default();
        for entry in &self.disk.entries {
            log.append(entry.version);
        }
        self.replica = Some(Replica::new(Recovered {
            node: self.id,
            fencing,
            promised: self.disk.promised,
            log,
            applied,
            suspect: self.disk.suspect,
        }));
    }

    /// The engine takes a checkpoint.
    pub(crate) fn flush(&mut self) {
        let applied = usize::try_from(self.applied().0).unwrap();
        self.disk.checkpoint = self.entries[..applied].to_vec();
    }

    /// The engine takes over what was fetched, durably; returns the names.
    pub(crate) fn install(&mut self) -> Option<Log> {
        let entries = self.fetched.take()?;
        if offset(entries.len()) <= self.replica.as_ref()?.committed() {
            return None;
        }
        let mut names = Log::default();
        self.engine = Engine::default();
        for entry in &entries {
            names.append(entry.version);
            self.apply_one(entry);
        }
        self.disk.checkpoint = entries;
        Some(names)
    }

    pub(crate) fn process(&self) -> Process {
        Process {
            node: self.id,
            incarnation: self.incarnation,
        }
    }

    pub(crate) fn applied(&self) -> Offset {
        offset(self.engine.chains.len())
    }

    pub(crate) fn entry(&self, offset: Offset) -> &Entry {
        &self.entries[usize::try_from(offset.0).unwrap() - 1]
    }

    /// Notes a durable effect and performs it on the log as it stands.
    pub(crate) fn write(&mut self, durable: Durable) {
        match &durable {
            Durable::Append(entries) => self.entries.extend(entries.iter().cloned()),
            Durable::Truncate(after) => truncate(&mut self.entries, *after),
            Durable::Promise(_) => {}
            Durable::Restart(entries) => {
                self.entries.clone_from(entries);
                self.trimmed = offset(entries.len());
            }
        }
        self.unsynced.push_back(durable);
    }

    /// Syncs the oldest durable effects.
    pub(crate) fn sync(&mut self, count: usize) {
        for durable in self.unsynced.drain(..count) {
            match durable {
                Durable::Append(entries) => self.disk.entries.extend(entries),
                Durable::Truncate(after) => truncate(&mut self.disk.entries, after),
                Durable::Promise(epoch) => self.disk.promised = epoch,
                Durable::Restart(entries) => self.disk.entries = entries,
            }
        }
    }

    /// Applies the entries up to an offset; returns them with the hash of the log up to each.
    pub(crate) fn apply(&mut self, upto: Offset) -> Vec<(Entry, u64)> {
        let mut applied = Vec::new();
        while self.applied() < upto {
            let entry = self.entry(self.applied().next()).clone();
            let hash = self.apply_one(&entry);
            applied.push((entry, hash));
        }
        applied
    }

    fn apply_one(&mut self, entry: &Entry) -> u64 {
        let before = self.engine.chains.last().copied().unwrap_or_default();
        let hash = chain(before, entry);
        self.engine.chains.push(hash);
        let (key, value) = match &entry.operation {
            Operation::EpochStart => (None, None),
            Operation::Set { key, value } => (Some(key.clone()), Some(value.clone())),
            Operation::Delete { key } => (Some(key.clone()), None),
        };
        if let Some(key) = key {
            self.engine.values.insert(key, (entry.version, value));
        }
        hash
    }

    /// Under `Fencing::None`: the engine goes back without undoing anything.
    pub(crate) fn rewind(&mut self, after: Offset) {
        self.engine
            .chains
            .truncate(usize::try_from(after.0).unwrap());
    }
}

fn offset(length: usize) -> Offset {
    Offset(u64::try_from(length).unwrap())
}

fn truncate(entries: &mut Vec<Entry>, after: Offset) {
    entries.truncate(usize::try_from(after.0).unwrap());
}
