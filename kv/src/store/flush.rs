//! The write of one checkpoint: rows, what is remembered of deletes, and the position, in one batch.
//!
//! Only the last so many deletes are remembered, so that tombstones do not pile up. Which ones depends on nothing but the log. A
//! delete is forgotten with its row, unless the row was written again since.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kv_core::Offset;

use super::overlay::Overlay;
use super::rows::{
    self, Position, TOMBSTONES, TOMBSTONES_END, decode_tombstone, encode_row, tombstone_key,
};
use super::{SCAN_BYTES, StoreError};
use crate::engine::{Change, Engine};

/// A checkpoint that is under way.
pub struct Flush {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) changes: Arc<Overlay>,
    pub(super) position: Position,
    pub(super) tombstones_max: u64,
}

impl Flush {
    /// Writes it; it blocks until the engine's disk is done.
    ///
    /// # Errors
    /// When the engine fails; the node must stop then.
    pub fn run(self) -> Result<Position, StoreError> {
        let mut position = self.position.clone();
        let rows = self.changes.rows();
        let mut tombstones = BTreeMap::new();
        for (row, found) in rows.iter().filter(|(_, found)| found.value.is_none()) {
            let key = tombstone_key(found.version.offset, row);
            tombstones.insert(key, Some(Bytes::new()));
            position.tombstones += 1;
        }
        let mut changes = Vec::with_capacity(rows.len() + tombstones.len() + 1);
        changes.extend(rows.iter().map(|(row, found)| Change {
            key: row.clone(),
            value: Some(encode_row(found)),
        }));
        while position.tombstones > self.tombstones_max {
            let forgotten = self.oldest(&tombstones, position.tombstones - self.tombstones_max)?;
            if forgotten.is_empty() {
                break; // The count was too high; what is there is what counts.
            }
            for key in forgotten {
                let (offset, row) = decode_tombstone(&key)?;
                if self.is_deleted_at(&row, offset)? {
                    // Of two changes of a key, the later one counts.
                    let (key, value) = (row, None);
                    changes.push(Change { key, value });
                }
                tombstones.insert(key, None);
                position.tombstones -= 1;
            }
        }
        let tombstones = tombstones.into_iter();
        changes.extend(tombstones.map(|(key, value)| Change { key, value }));
        changes.push(Change {
            key: Bytes::from_static(rows::POSITION),
            value: Some(position.encode()),
        });
        self.engine.write(changes)?;
        Ok(position)
    }

    /// The oldest deletes that are remembered, up to so many: those in the engine that are not forgotten yet, then the new ones.
    fn oldest(
        &self,
        tombstones: &BTreeMap<Bytes, Option<Bytes>>,
        count: u64,
    ) -> Result<Vec<Bytes>, StoreError> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let known = tombstones.iter();
        let gone = known.clone().rfind(|(_, value)| value.is_none());
        let from = gone.map_or(Bytes::from_static(TOMBSTONES), |(key, _)| rows::after(key));
        let stored = self.engine.scan(&from..TOMBSTONES_END, SCAN_BYTES)?;
        let mut oldest: Vec<Bytes> = stored.into_iter().map(|(key, _)| key).take(count).collect();
        if oldest.is_empty() {
            let new = known.filter(|(_, value)| value.is_some());
            oldest.extend(new.map(|(key, _)| key.clone()).take(count));
        }
        Ok(oldest)
    }

    fn is_deleted_at(&self, row: &Bytes, offset: Offset) -> Result<bool, StoreError> {
        let found = match self.changes.get(row) {
            Some(found) => Some(found.clone()),
            None => match self.engine.get(row)? {
                Some(value) => Some(rows::decode_row(row, value)?),
                None => None,
            },
        };
        Ok(found.is_some_and(|found| found.value.is_none() && found.version.offset == offset))
    }
}
