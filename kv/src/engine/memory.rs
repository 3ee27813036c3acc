//! A sorted map in memory, and one file from which it comes back.
//!
//! Each batch goes to the end of the file and is synced; only then do readers see it. Most of the file is stale after a while, so
//! when it has grown well past what is live it is written anew, beside the old one, and takes its name. So memory is bounded by
//! what is live, and the file by twice that and a little.
//!
//! Keys and values are copied: a small value that shared the buffer of a large message would keep all of it in memory.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;

use super::poison::Poison;
use super::{Change, Engine, EngineError, Page, Pair};
use crate::fs::FileSystem;

mod file;
mod frame;

use file::BatchFile;
use frame::change_bytes;

/// The file may grow so far beyond twice what is live.
const GARBAGE_BYTES_MIN: u64 = 1024 * 1024;
/// How large the batches are in which the map is written anew.
const REWRITE_BATCH_BYTES: u64 = 1024 * 1024;

type Map = BTreeMap<Bytes, Bytes>;

/// The engine.
pub(super) struct MemoryEngine {
    file_system: Arc<dyn FileSystem>,
    name: String,
    poison: Poison,
    map: RwLock<Map>,
    disk: Mutex<Disk>,
}

/// What only the writer looks at.
struct Disk {
    file: BatchFile,
    /// The bytes that the pairs of the map take in the file.
    live_bytes: u64,
}

impl MemoryEngine {
    pub(super) fn open(file_system: &Arc<dyn FileSystem>, name: &str) -> Result<Self, EngineError> {
        let (mut map, mut live_bytes) = (Map::new(), 0);
        let file = BatchFile::open(file_system.as_ref(), name, &mut |change| {
            apply(&mut map, &mut live_bytes, &change);
        })?;
        let file = match file {
            Some(file) => file,
            None => BatchFile::create(file_system.as_ref(), name, std::iter::empty())?,
        };
        Ok(Self {
            file_system: Arc::clone(file_system),
            name: name.to_owned(),
            poison: Poison::default(),
            map: RwLock::new(map),
            disk: Mutex::new(Disk { file, live_bytes }),
        })
    }

    /// A poisoned lock is taken all the same: the map changes only between two assertions that cannot fail.
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, changes: &[Change]) -> Result<(), EngineError> {
        if changes.is_empty() {
            return Ok(());
        }
        let disk = &mut *self.disk();
        disk.file.append(changes)?;
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            apply(&mut map, &mut disk.live_bytes, change);
        }
        drop(map);
        if disk.file.len() > 2 * disk.live_bytes + GARBAGE_BYTES_MIN {
            // This thread is the only one that changes the map, so readers go on.
            let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
            disk.file = BatchFile::create(self.file_system.as_ref(), &self.name, batches(&map))?;
        }
        Ok(())
    }
}

/// Makes one change, and keeps count of what is live.
fn apply(map: &mut Map, live_bytes: &mut u64, change: &Change) {
    let key = &change.key;
    let old = match &change.value {
        Some(value) => {
            *live_bytes += change_bytes(key, Some(value));
            map.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value))
        }
        None => map.remove(key),
    };
    if let Some(old) = old {
        *live_bytes -= change_bytes(key, Some(&old));
    }
}

/// All that is in the map, in batches of a good size.
fn batches(map: &Map) -> impl Iterator<Item = Vec<Change>> {
    let mut pairs = map.iter();
    std::iter::from_fn(move || {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while bytes < REWRITE_BATCH_BYTES
            && let Some((key, value)) = pairs.next()
        {
            bytes += change_bytes(key, Some(value));
            batch.push(Change {
                key: key.clone(),
                value: Some(value.clone()),
            });
        }
        (!batch.is_empty()).then_some(batch)
    })
}

impl Engine for MemoryEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.poison.guard(|| {
            let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
            Ok(map.get(key).cloned())
        })
    }

    fn scan(&self, keys: Range<&[u8]>, bytes_max: usize) -> Result<Vec<Pair>, EngineError> {
        self.poison.guard(|| {
            let mut page = Page::new(bytes_max);
            if keys.start < keys.end {
                let bounds = (Bound::Included(keys.start), Bound::Excluded(keys.end));
                let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
                let mut pairs = map.range::<[u8], _>(bounds);
                while pairs
                    .next()
                    .is_some_and(|(key, value)| page.take(key, value))
                {}
            }
            Ok(page.pairs)
        })
    }

    fn write(&self, changes: Vec<Change>) -> Result<(), EngineError> {
        self.poison.guard(|| self.append(&changes))
    }

    fn bytes_on_disk(&self) -> Result<u64, EngineError> {
        self.poison.guard(|| Ok(self.disk().file.len()))
    }
}
