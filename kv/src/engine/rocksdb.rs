//! RocksDB: a log-structured merge tree, in a folder of its own.
//!
//! Its write-ahead log is off, since ours comes first. A write is one batch in one column family, so it goes whole into one memtable,
//! and a memtable is flushed whole: the file is synced, and the manifest that names it then. So a batch is on disk, or it is not, and
//! the flush that ends a write makes it durable.

use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DataBlockIndexType, FlushOptions, ReadOptions,
    WriteBatch, WriteOptions,
};

use super::poison::Poison;
use super::{Change, Engine, EngineError, Options, Page, Pair};

/// How much is gathered in memory at most before a flush, if a write is not flushed sooner for its own sake. There may be two: one
/// that is flushed, and one that is filled.
const MEMTABLE_BYTES: usize = 16 * 1024 * 1024;
const MEMTABLES_MAX: i32 = 2;
/// Of RocksDB's filter: one lookup in a hundred of a missing key reads a block in vain.
const BLOOM_BITS_PER_KEY: f64 = 10.0;
/// One flushes while the other compacts.
const BACKGROUND_JOBS: i32 = 2;
/// Bounds the memory that each open file takes for its index.
const OPEN_FILES_MAX: i32 = 512;

/// The engine.
pub(super) struct RocksdbEngine {
    poison: Poison,
    database: DB,
}

impl RocksdbEngine {
    pub(super) fn open(options: Options, folder: &Path) -> Result<Self, EngineError> {
        let cache_bytes = usize::try_from(options.cache_bytes).unwrap_or(usize::MAX);
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&Cache::new_lru_cache(cache_bytes)?);
        // Indexes and filters stay in memory outside of the cache, about 2 bytes a key: a read finds them without a lookup.
        blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
        blocks.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
        let mut tuning = rocksdb::Options::default();
        tuning.create_if_missing(true);
        tuning.set_block_based_table_factory(&blocks);
        // This build has no compressor in it.
        tuning.set_compression_type(DBCompressionType::None);
        tuning.set_write_buffer_size(MEMTABLE_BYTES);
        tuning.set_max_write_buffer_number(MEMTABLES_MAX);
        tuning.set_max_background_jobs(BACKGROUND_JOBS);
        tuning.set_max_open_files(OPEN_FILES_MAX);
        tuning.set_level_compaction_dynamic_level_bytes(true);
        tuning.set_keep_log_file_num(2);
        Ok(Self {
            poison: Poison::default(),
            database: DB::open(&tuning, folder)?,
        })
    }
}

impl Engine for RocksdbEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.poison.guard(|| {
            let value = self.database.get_pinned(key)?;
            Ok(value.map(|value| Bytes::copy_from_slice(&value)))
        })
    }

    fn scan(&self, keys: Range<&[u8]>, bytes_max: usize) -> Result<Vec<Pair>, EngineError> {
        self.poison.guard(|| {
            let mut page = Page::new(bytes_max);
            if keys.start < keys.end {
                let mut options = ReadOptions::default();
                options.set_iterate_range(keys);
                let mut pairs = self.database.raw_iterator_opt(options);
                pairs.seek_to_first();
                while pairs
                    .item()
                    .is_some_and(|(key, value)| page.take(key, value))
                {
                    pairs.next();
                }
                pairs.status()?;
            }
            Ok(page.pairs)
        })
    }

    fn write(&self, changes: Vec<Change>) -> Result<(), EngineError> {
        self.poison.guard(|| {
            let mut batch = WriteBatch::default();
            for Change { key, value } in changes {
                match value {
                    Some(value) => batch.put(key, value),
                    None => batch.delete(key),
                }
            }
            let mut unlogged = WriteOptions::default();
            unlogged.disable_wal(true);
            self.database.write_opt(batch, &unlogged)?;
            let mut waiting = FlushOptions::default();
            waiting.set_wait(true);
            Ok(self.database.flush_opt(&waiting)?)
        })
    }

    fn bytes_on_disk(&self) -> Result<u64, EngineError> {
        self.poison.guard(|| {
            let files = self.database.live_files()?;
            Ok(files.iter().map(|file| file.size as u64).sum())
        })
    }
}
