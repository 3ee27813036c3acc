//! What was applied since a checkpoint: rows in memory, in the order in which the engine has them.

use std::collections::BTreeMap;
use std::iter::Peekable;

use bytes::Bytes;

use super::Found;

/// What a row takes beside its key and value, in a tree and as a log record. Reckoned, not measured: the tree's share of a slot, two allocations with their
/// counts, and what a checkpoint adds to that: the row as the engine gets it.
const ROW_OVERHEAD_BYTES: usize = 400;
const RECORD_OVERHEAD_BYTES: usize = 32;

/// Recent rows.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    rows: BTreeMap<Bytes, Found>,
    log_bytes: u64,
    memory_bytes: u64,
}

impl Overlay {
    pub(super) fn get(&self, row: &[u8]) -> Option<&Found> {
        self.rows.get(row)
    }

    pub(super) fn set(&mut self, row: Bytes, found: Found) {
        let value = found.value.as_ref().map_or(0, Bytes::len);
        let bytes = |overhead: usize| (overhead + row.len() + value) as u64;
        self.log_bytes += bytes(RECORD_OVERHEAD_BYTES);
        self.memory_bytes += bytes(ROW_OVERHEAD_BYTES);
        let key_bytes = row.len();
        if let Some(before) = self.rows.insert(row, found) {
            let value = before.value.as_ref().map_or(0, Bytes::len);
            self.memory_bytes -= (ROW_OVERHEAD_BYTES + key_bytes + value) as u64;
        }
    }

    /// How much log went into it.
    pub(super) fn log_bytes(&self) -> u64 {
        self.log_bytes
    }

    /// About how much memory it takes.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    pub(super) fn rows(&self) -> &BTreeMap<Bytes, Found> {
        &self.rows
    }

    /// The rows of both in order; where both have one, the newer one's.
    pub(super) fn merged<'a>(older: Option<&'a Self>, newer: &'a Self) -> Merged<'a> {
        let older = older.map(|older| older.rows.iter());
        let empty = std::collections::btree_map::Iter::default();
        Merged {
            older: older.unwrap_or(empty).peekable(),
            newer: newer.rows.iter().peekable(),
        }
    }
}

type Rows<'a> = Peekable<std::collections::btree_map::Iter<'a, Bytes, Found>>;

/// Two overlays as one.
pub(super) struct Merged<'a> {
    older: Rows<'a>,
    newer: Rows<'a>,
}

impl<'a> Iterator for Merged<'a> {
    type Item = (&'a Bytes, &'a Found);

    fn next(&mut self) -> Option<Self::Item> {
        let Some((newer, _)) = self.newer.peek() else {
            return self.older.next();
        };
        let newer = *newer;
        if let Some(before) = self.older.next_if(|(key, _)| *key < newer) {
            return Some(before);
        }
        self.older.next_if(|(key, _)| *key == newer);
        self.newer.next()
    }
}
