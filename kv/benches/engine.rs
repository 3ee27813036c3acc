//! Engines beside the bare libraries, in one run: what our layer costs.
//!
//! `cargo bench -p kv --bench engine`, with `--features rocksdb` for both. *warm* is a store that fits in the cache, *cold* one that
//! does not fit, and is read from the page cache of the operating system. *bare* is the library as its manual shows it; redb's
//! *held* keeps one read transaction for all reads, as our layer does.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BatchSize, Bencher, Criterion};
use kv::engine::{Change, Engine, EngineKind, Options, open};
use kv::fs::FileSystem;
use kv::fs::os::OsFileSystem;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const PAIRS: u32 = 200_000;
const VALUE_BYTES: usize = 128;
const BATCH: usize = 1000;
const PAGE_BYTES: usize = 100 * (4 + VALUE_BYTES);
const CACHES: [(&str, u64); 2] = [("warm", 256 * 1024 * 1024), ("cold", 2 * 1024 * 1024)];

fn key(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

fn value(rng: &mut StdRng) -> Bytes {
    let mut bytes = vec![0; VALUE_BYTES];
    rng.fill(&mut bytes[..]);
    Bytes::from(bytes)
}

fn random_batch(rng: &mut StdRng) -> Vec<Change> {
    let change = |_| Change {
        key: Bytes::copy_from_slice(&key(rng.random_range(0..PAIRS))),
        value: Some(value(rng)),
    };
    (0..BATCH).map(change).collect()
}

/// All pairs, in batches.
fn all(rng: &mut StdRng) -> impl Iterator<Item = Vec<Change>> {
    let mut changes = (0..PAIRS).map(|number| Change {
        key: Bytes::copy_from_slice(&key(number)),
        value: Some(value(rng)),
    });
    let batch = move || changes.by_ref().take(20_000).collect::<Vec<_>>();
    std::iter::repeat_with(batch).take_while(|batch| !batch.is_empty())
}

/// Reads one random key after the other.
fn bench_get(bencher: &mut Bencher<'_>, mut get: impl FnMut(&[u8]) -> Option<Bytes>) {
    let mut rng = StdRng::seed_from_u64(1);
    bencher.iter(|| {
        let value = get(&key(rng.random_range(0..PAIRS)));
        assert_eq!(black_box(value).map(|value| value.len()), Some(VALUE_BYTES));
    });
}

/// Reads a hundred pairs from a random key on.
fn bench_scan(bencher: &mut Bencher<'_>, mut scan: impl FnMut(&[u8]) -> usize) {
    let mut rng = StdRng::seed_from_u64(1);
    bencher.iter(|| assert_eq!(scan(&key(rng.random_range(0..PAIRS - 200))), 100));
}

fn bench_write(bencher: &mut Bencher<'_>, mut write: impl FnMut(Vec<Change>)) {
    let mut rng = StdRng::seed_from_u64(1);
    bencher.iter_batched(
        || random_batch(&mut rng),
        &mut write,
        BatchSize::PerIteration,
    );
}

fn engine_in(kind: EngineKind, folder: &Path, cache_bytes: u64) -> Arc<dyn Engine> {
    let folder: Arc<dyn FileSystem> = Arc::new(OsFileSystem::open(folder).expect("a folder"));
    open(kind, Options { cache_bytes }, &folder, "data").expect("an engine")
}

fn bench_engine(criterion: &mut Criterion, kind: EngineKind) {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = engine_in(kind, folder.path(), CACHES[0].1);
    for batch in all(&mut StdRng::seed_from_u64(0)) {
        engine.write(batch).expect("a write");
    }
    drop(engine);
    for (name, cache_bytes) in CACHES {
        let engine = engine_in(kind, folder.path(), cache_bytes);
        criterion.bench_function(&format!("{kind}/{name}/get/engine"), |bencher| {
            bench_get(bencher, |key| engine.get(key).expect("a read"));
        });
        criterion.bench_function(&format!("{kind}/{name}/scan/engine"), |bencher| {
            bench_scan(bencher, |from| {
                let pairs = engine.scan(from..&[0xFF; 5], PAGE_BYTES);
                black_box(pairs.expect("a scan")).len()
            });
        });
    }
    let engine = engine_in(kind, folder.path(), CACHES[0].1);
    criterion.bench_function(&format!("{kind}/write/engine"), |bencher| {
        bench_write(bencher, |batch| engine.write(batch).expect("a write"));
    });
}

mod bare_redb {
    //! redb on a file of its own.

    use redb::{Database, ReadOnlyTable, ReadableDatabase, TableDefinition};

    use super::*;

    const TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("data");

    fn open_with(path: &Path, cache_bytes: u64) -> Database {
        let mut builder = Database::builder();
        builder.set_cache_size(cache_bytes as usize);
        builder.create(path).expect("a database")
    }

    fn write(database: &Database, batch: Vec<Change>) {
        let mut transaction = database.begin_write().expect("a transaction");
        transaction.set_quick_repair(true);
        let mut table = transaction.open_table(TABLE).expect("a table");
        for change in batch {
            let value = change.value.unwrap_or_default();
            table.insert(&change.key[..], &value[..]).expect("a write");
        }
        drop(table);
        transaction.commit().expect("a commit");
    }

    fn table(database: &Database) -> ReadOnlyTable<&'static [u8], &'static [u8]> {
        let transaction = database.begin_read().expect("a transaction");
        transaction.open_table(TABLE).expect("a table")
    }

    fn get(table: &ReadOnlyTable<&'static [u8], &'static [u8]>, key: &[u8]) -> Option<Bytes> {
        let value = table.get(key).expect("a read");
        value.map(|value| Bytes::copy_from_slice(value.value()))
    }

    pub(super) fn bench(criterion: &mut Criterion) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("bare");
        let database = open_with(&path, CACHES[0].1);
        for batch in all(&mut StdRng::seed_from_u64(0)) {
            write(&database, batch);
        }
        drop(database);
        for (name, cache_bytes) in CACHES {
            let database = open_with(&path, cache_bytes);
            criterion.bench_function(&format!("redb/{name}/get/bare"), |bencher| {
                bench_get(bencher, |key| get(&table(&database), key));
            });
            let held = table(&database);
            criterion.bench_function(&format!("redb/{name}/get/held"), |bencher| {
                bench_get(bencher, |key| get(&held, key));
            });
            criterion.bench_function(&format!("redb/{name}/scan/bare"), |bencher| {
                bench_scan(bencher, |from| {
                    let pairs = table(&database).range(from..).expect("a scan").take(100);
                    let copied = pairs.map(|pair| {
                        let (key, value) = pair.expect("a pair");
                        let key = Bytes::copy_from_slice(key.value());
                        (key, Bytes::copy_from_slice(value.value()))
                    });
                    black_box(copied.collect::<Vec<_>>()).len()
                });
            });
        }
        let database = open_with(&path, CACHES[0].1);
        criterion.bench_function("redb/write/bare", |bencher| {
            bench_write(bencher, |batch| write(&database, batch));
        });
    }
}

#[cfg(feature = "rocksdb")]
mod bare_rocksdb {
    //! RocksDB with its own settings, but for the cache, and without its log, as ours.

    use rocksdb::{
        BlockBasedOptions, Cache, DB, Direction, IteratorMode, WriteBatch, WriteOptions,
    };

    use super::*;

    fn open_with(path: &Path, cache_bytes: u64) -> DB {
        let mut blocks = BlockBasedOptions::default();
        let cache = Cache::new_lru_cache(cache_bytes as usize);
        blocks.set_block_cache(&cache.expect("a cache"));
        let mut options = rocksdb::Options::default();
        options.create_if_missing(true);
        options.set_compression_type(rocksdb::DBCompressionType::None);
        options.set_block_based_table_factory(&blocks);
        DB::open(&options, path).expect("a database")
    }

    fn write(database: &DB, changes: Vec<Change>) {
        let mut batch = WriteBatch::default();
        for change in changes {
            batch.put(change.key, change.value.unwrap_or_default());
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        database.write_opt(batch, &options).expect("a write");
        database.flush().expect("a flush");
    }

    pub(super) fn bench(criterion: &mut Criterion) {
        let folder = tempfile::tempdir().expect("a folder");
        let database = open_with(folder.path(), CACHES[0].1);
        for batch in all(&mut StdRng::seed_from_u64(0)) {
            write(&database, batch);
        }
        drop(database);
        for (name, cache_bytes) in CACHES {
            let database = open_with(folder.path(), cache_bytes);
            criterion.bench_function(&format!("rocksdb/{name}/get/bare"), |bencher| {
                bench_get(bencher, |key| {
                    let value = database.get_pinned(key).expect("a read");
                    value.map(|value| Bytes::copy_from_slice(&value))
                });
            });
            criterion.bench_function(&format!("rocksdb/{name}/scan/bare"), |bencher| {
                bench_scan(bencher, |from| {
                    let pairs = database.iterator(IteratorMode::From(from, Direction::Forward));
                    let pairs = pairs.take(100).map(|pair| pair.expect("a pair"));
                    black_box(pairs.collect::<Vec<_>>()).len()
                });
            });
        }
        let database = open_with(folder.path(), CACHES[0].1);
        criterion.bench_function("rocksdb/write/bare", |bencher| {
            bench_write(bencher, |batch| write(&database, batch));
        });
    }
}

fn main() {
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    bench_engine(&mut criterion, EngineKind::Redb);
    bare_redb::bench(&mut criterion);
    #[cfg(feature = "rocksdb")]
    {
        bench_engine(&mut criterion, EngineKind::Rocksdb);
        bare_rocksdb::bench(&mut criterion);
    }
    bench_engine(&mut criterion, EngineKind::Memory);
    criterion.final_summary();
}
