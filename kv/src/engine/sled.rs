//! sled: a log-structured tree with threads of its own, in a folder of its own.
//!
//! A batch of sled's is atomic on disk, and durable once flushed. For readers it is not: a scan takes one pair after the other, and
//! sees a batch from the middle on. So a lock of ours lies over both; the flush is outside of it.
//!
//! Once its disk has failed, sled may wait for ever when it is closed, for what it could not write. Nobody waits for that with it.

use std::ops::Range;
use std::path::Path;
use std::sync::{PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sled::{Batch, Config, Db};

use super::poison::Poison;
use super::{Change, Engine, EngineError, Options, Page, Pair};

/// How long closing it may take.
const CLOSING_MAX: Duration = Duration::from_secs(5);
/// How much sled writes, and frees, as one. What half of is stale is freed at the earliest, so small ones leave less stale: with its
/// own 512 KiB, half a million random overwrites took 1.5 to 1.9 times as much of the disk (values of 1000 to 100 bytes).
const SEGMENT_BYTES: usize = 64 * 1024;

/// The engine.
pub(super) struct SledEngine {
    poison: Poison,
    /// Taken out, to be closed.
    database: Option<Db>,
    /// Held by readers, and by the writer while it changes the tree.
    batch: RwLock<()>,
}

impl SledEngine {
    pub(super) fn open(options: Options, folder: &Path) -> Result<Self, EngineError> {
        let config = Config::new()
            .path(folder)
            .cache_capacity(options.cache_bytes)
            .segment_size(SEGMENT_BYTES)
            // Each write is flushed as it is made.
            .flush_every_ms(None);
        Ok(Self {
            poison: Poison::default(),
            database: Some(open_when_closed(&config)?),
            batch: RwLock::new(()),
        })
    }

    fn database(&self) -> &Db {
        self.database.as_ref().expect("it is there until the drop")
    }
}

impl Drop for SledEngine {
    fn drop(&mut self) {
        let database = self.database.take();
        if self.poison.is_poisoned() {
            thread::spawn(move || drop(database));
        }
    }
}

/// Opens it. A sled that was closed in this process a moment ago still holds its file until its threads have ended; nobody else can
/// hold it, since the data folder is claimed.
#[allow(
    clippy::disallowed_methods,
    reason = "sled has threads of its own: it is not for the simulator"
)]
fn open_when_closed(config: &Config) -> Result<Db, sled::Error> {
    let started = Instant::now();
    loop {
        match config.open() {
            // sled says so only in words.
            Err(sled::Error::Io(error))
                if error.to_string().contains("could not acquire lock")
                    && started.elapsed() < CLOSING_MAX =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            opened => return opened,
        }
    }
}

impl Engine for SledEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.poison.guard(|| {
            let value = self.database().get(key)?;
            Ok(value.map(|value| Bytes::copy_from_slice(&value)))
        })
    }

    fn scan(&self, keys: Range<&[u8]>, bytes_max: usize) -> Result<Vec<Pair>, EngineError> {
        self.poison.guard(|| {
            let mut page = Page::new(bytes_max);
            if keys.start < keys.end {
                let batch = self.batch.read();
                let _batch = batch.unwrap_or_else(PoisonError::into_inner);
                for pair in self.database().range(keys) {
                    let (key, value) = pair?;
                    if !page.take(&key, &value) {
                        break;
                    }
                }
            }
            Ok(page.pairs)
        })
    }

    fn write(&self, changes: Vec<Change>) -> Result<(), EngineError> {
        self.poison.guard(|| {
            let mut batch = Batch::default();
            for Change { key, value } in changes {
                match value {
                    Some(value) => batch.insert(&key[..], &value[..]),
                    None => batch.remove(&key[..]),
                }
            }
            let readers = self.batch.write();
            let readers = readers.unwrap_or_else(PoisonError::into_inner);
            self.database().apply_batch(batch)?;
            drop(readers);
            self.database().flush()?;
            Ok(())
        })
    }

    fn bytes_on_disk(&self) -> Result<u64, EngineError> {
        self.poison.guard(|| Ok(self.database().size_on_disk()?))
    }
}
