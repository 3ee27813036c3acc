//! The engine that keeps everything in memory: a sorted map, filled again from the WAL after a restart.
//!
//! A delete leaves a tombstone, so that a read can say which delete it saw. Tombstones would pile up for ever, so only
//! the youngest [`TOMBSTONES_MAX`] are kept; which ones depends on nothing but the log, so members agree.

use std::collections::BTreeMap;

use bytes::Bytes;
use kv_core::{Entry, Operation, Version};

use super::{Applied, Batch, Engine, EngineError, Found};

/// How many deletes are remembered; the oldest is forgotten first.
pub const TOMBSTONES_MAX: usize = 65_536;

/// An [`Engine`] without a disk: it starts at offset zero.
#[derive(Debug, Default)]
pub struct MemoryEngine {
    keys: BTreeMap<Bytes, Slot>,
    /// The tombstones by age. Ages, not versions: a rewound engine may meet a version twice.
    tombstones: BTreeMap<u64, Bytes>,
    deletes_seen: u64,
    applied: Applied,
    poisoned: bool,
}

#[derive(Debug)]
struct Slot {
    found: Found,
    /// The key of a tombstone in `tombstones`.
    age: u64,
}

impl MemoryEngine {
    /// An empty engine.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn refuse_if_poisoned(&self) -> Result<(), EngineError> {
        if self.poisoned {
            return Err(EngineError::Poisoned);
        }
        Ok(())
    }

    fn set(&mut self, key: Bytes, version: Version, value: Option<Bytes>) {
        self.deletes_seen += u64::from(value.is_none());
        let age = self.deletes_seen;
        let is_tombstone = value.is_none();
        let found = Found { version, value };
        let before = self.keys.insert(key.clone(), Slot { found, age });
        if let Some(before) = before.filter(|before| before.found.value.is_none()) {
            self.tombstones.remove(&before.age);
        }
        if is_tombstone {
            self.tombstones.insert(age, key);
            if self.tombstones.len() > TOMBSTONES_MAX
                && let Some((_, oldest)) = self.tombstones.pop_first()
            {
                self.keys.remove(&oldest);
            }
        }
    }

    fn apply_entry(&mut self, entry: &Entry) {
        match &entry.operation {
            Operation::EpochStart => {}
            Operation::Set { key, value } => {
                self.set(key.clone(), entry.version, Some(value.clone()));
            }
            Operation::Delete { key } => self.set(key.clone(), entry.version, None),
        }
    }
}

impl Engine for MemoryEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Found>, EngineError> {
        self.refuse_if_poisoned()?;
        Ok(self.keys.get(key).map(|slot| slot.found.clone()))
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), EngineError> {
        self.refuse_if_poisoned()?;
        let mut last = self.applied.version.offset;
        for entry in &batch.entries {
            if entry.version.offset != last.next() {
                self.poisoned = true;
                return Err(EngineError::Gap {
                    starts: entry.version.offset,
                    applied: last,
                });
            }
            last = entry.version.offset;
        }
        let Some(end) = batch.entries.last() else {
            return Ok(());
        };
        batch
            .entries
            .iter()
            .for_each(|entry| self.apply_entry(entry));
        self.applied = Applied {
            version: end.version,
            chain: batch.chain,
        };
        Ok(())
    }

    fn sync(&mut self) -> Result<(), EngineError> {
        self.refuse_if_poisoned() // Nothing here outlives the process; the WAL is replayed.
    }

    fn applied(&self) -> Applied {
        self.applied
    }

    fn rewind(&mut self, to: Applied) -> Result<(), EngineError> {
        self.refuse_if_poisoned()?;
        assert!(
            to.version.offset <= self.applied.version.offset,
            "an engine is rewound to a place that it has passed"
        );
        self.applied = to;
        Ok(())
    }

    fn digest(&self) -> Result<u32, EngineError> {
        self.refuse_if_poisoned()?;
        let mut hasher = crc32fast::Hasher::new();
        for (key, slot) in &self.keys {
            let Some(value) = &slot.found.value else {
                continue;
            };
            // The lengths keep `ab` + `c` apart from `a` + `bc`.
            hasher.update(&(key.len() as u64).to_le_bytes());
            hasher.update(key);
            hasher.update(&(value.len() as u64).to_le_bytes());
            hasher.update(value);
            hasher.update(&slot.found.version.epoch.0.to_le_bytes());
            hasher.update(&slot.found.version.offset.0.to_le_bytes());
        }
        Ok(hasher.finalize())
    }
}

#[cfg(test)]
mod tests {
    use kv_core::{Epoch, Offset};

    use super::*;

    #[test]
    fn the_memory_engine_keeps_the_contract() {
        super::super::conformance::check(&|| Box::new(MemoryEngine::new()));
    }

    #[test]
    fn the_oldest_delete_is_forgotten_first() {
        let mut engine = MemoryEngine::new();
        let key = |number: usize| Bytes::from(format!("{number}"));
        let entries = (1..=TOMBSTONES_MAX + 2).map(|number| Entry {
            version: Version::new(Epoch(1), Offset(number as u64)),
            operation: Operation::Delete {
                // The second delete of `2` makes it younger than the others.
                key: key(if number == TOMBSTONES_MAX + 1 {
                    2
                } else {
                    number
                }),
            },
        });
        let entries = entries.collect();
        engine.apply(&Batch { entries, chain: 0 }).unwrap();
        assert_eq!(engine.get(b"1").unwrap(), None);
        let offset_of = |name: &[u8]| engine.get(name).unwrap().map(|found| found.version.offset);
        assert_eq!(offset_of(b"2"), Some(Offset(TOMBSTONES_MAX as u64 + 1)));
        assert_eq!(offset_of(b"3"), Some(Offset(3)));
        assert_eq!(engine.tombstones.len(), TOMBSTONES_MAX);
        assert_eq!(engine.keys.len(), TOMBSTONES_MAX);
    }
}
