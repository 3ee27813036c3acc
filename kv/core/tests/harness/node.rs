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
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) promised: Epoch,
    pub(crate) entries: Vec<Entry>,
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
    /// What of the engine survives a crash.
    pub(crate) flushed: Offset,
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
            flushed: Offset::ZERO,
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
            flushed: self.flushed,
            disk,
            ..fresh
        };
    }

    /// Comes up with what its disk holds.
    pub(crate) fn start(&mut self, fencing: Fencing) {
        let held = Offset(u64::try_from(self.disk.entries.len()).unwrap());
        if fencing == Fencing::None {
            self.flushed = self.flushed.min(held);
        }
        let applied = self.flushed;
        assert!(
            applied <= held,
            "{}: the engine is ahead of the log",
            self.id
        );
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
        }));
    }

    pub(crate) fn process(&self) -> Process {
        Process {
            node: self.id,
            incarnation: self.incarnation,
        }
    }

    pub(crate) fn applied(&self) -> Offset {
        Offset(u64::try_from(self.engine.chains.len()).unwrap())
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
            }
        }
    }

    /// Applies the entries up to an offset; returns them with the hash of the log up to each.
    pub(crate) fn apply(&mut self, upto: Offset) -> Vec<(Entry, u64)> {
        let mut applied = Vec::new();
        while self.applied() < upto {
            let entry = self.entry(self.applied().next()).clone();
            let before = self.engine.chains.last().copied().unwrap_or_default();
            let hash = chain(before, &entry);
            self.engine.chains.push(hash);
            let (key, value) = match &entry.operation {
                Operation::EpochStart => (None, None),
                Operation::Set { key, value } => (Some(key.clone()), Some(value.clone())),
                Operation::Delete { key } => (Some(key.clone()), None),
            };
            if let Some(key) = key {
                self.engine.values.insert(key, (entry.version, value));
            }
            applied.push((entry, hash));
        }
        applied
    }

    /// Under `Fencing::None`: the engine goes back without undoing anything.
    pub(crate) fn rewind(&mut self, after: Offset) {
        self.engine
            .chains
            .truncate(usize::try_from(after.0).unwrap());
        self.flushed = self.flushed.min(after);
    }
}

fn truncate(entries: &mut Vec<Entry>, after: Offset) {
    entries.truncate(usize::try_from(after.0).unwrap());
}
