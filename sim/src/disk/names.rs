//! The names in the folder: as they are seen, as they are on the disk, and what was done in between.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;

/// Which name leads to which inode.
#[derive(Debug, Default)]
pub(super) struct Names {
    seen: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    pending: Vec<Change>,
    /// How many changes went before the first of `pending`.
    settled: u64,
}

#[derive(Clone, Debug)]
enum Change {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

impl Change {
    fn perform(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Create(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl Names {
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.seen.get(name).copied()
    }

    /// All names, sorted.
    pub(super) fn list(&self) -> Vec<(String, usize)> {
        let pairs = self.seen.iter();
        pairs.map(|(name, inode)| (name.clone(), *inode)).collect()
    }

    /// Whether a name leads there.
    pub(super) fn has(&self, inode: usize) -> bool {
        self.seen.values().any(|named| *named == inode)
    }

    pub(super) fn create(&mut self, name: &str, inode: usize) {
        self.change(Change::Create(name.to_owned(), inode));
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) {
        self.change(Change::Rename(from.to_owned(), to.to_owned()));
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.change(Change::Remove(name.to_owned()));
    }

    fn change(&mut self, change: Change) {
        change.perform(&mut self.seen);
        self.pending.push(change);
    }

    /// The number of the last change: a sync that begins now is about all up to it.
    pub(super) fn changes(&self) -> u64 {
        self.settled + self.pending.len() as u64
    }

    /// A sync that began at that number of changes succeeds. Says whether there was anything to do.
    pub(super) fn settle(&mut self, changes: u64) -> bool {
        let count = self
            .pending
            .len()
            .min(changes.saturating_sub(self.settled) as usize);
        for change in self.pending.drain(..count) {
            change.perform(&mut self.durable);
        }
        self.settled += count as u64;
        count > 0
    }

    /// Whether anything up to that number of changes is still not durable.
    pub(super) fn is_dirty(&self, changes: u64) -> bool {
        !self.pending.is_empty() && changes > self.settled
    }

    /// The power goes: a random prefix of the changes survives; nothing, on a strict disk. Returns how many did not.
    pub(super) fn lose(&mut self, rng: &mut StdRng, is_strict: bool) -> u64 {
        let mut pending = std::mem::take(&mut self.pending);
        let count = pending.len() as u64;
        if is_strict {
            pending.clear();
        }
        let survive = rng.random_range(0..=pending.len());
        for change in &pending[..survive] {
            change.perform(&mut self.durable);
        }
        self.settled += count;
        self.seen.clone_from(&self.durable);
        count - survive as u64
    }
}
