//! What the log costs, beside the least that its disk asks for: `cargo bench -p kv --bench wal`.
//!
//! The first table compares in one run, in many short rounds, so that a disk that is slow for a while is slow for all of them; the
//! numbers in `docs/performance.md` are from it. What criterion says afterwards compares with its own last run.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark is no library"
)]

use std::hint::black_box;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use kv::fs::FileSystem;
use kv::fs::os::OsFileSystem;
use kv::wal::{Log, Options, Synced, WalError, open};
use kv_core::{Entry, Log as Shape, Operation, Version};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

const VALUE_BYTES: usize = 128;
/// What an entry takes in the file, and the mark before each batch.
const RECORD_BYTES: usize = 176;
const MARK_BYTES: usize = 48;
const WRITERS: usize = 64;
const ROUNDS: usize = 31;
/// Writes a round: a megabyte, so that what is written ahead is counted, too.
const GROUPED: usize = 6_000;
const ALONE: usize = 60;
/// Syncs before anything is timed.
const WARM_UP: usize = 10;
const RECOVERED_BYTES: usize = 256 * 1024 * 1024;

/// A log on the disk, with its writer at work.
struct Running {
    log: Log,
    reports: mpsc::UnboundedReceiver<Result<Synced, WalError>>,
    key: Bytes,
    value: Bytes,
}

impl Running {
    async fn start(folder: &Path) -> Self {
        let files: Arc<dyn FileSystem> = Arc::new(OsFileSystem::open(folder).unwrap());
        let opened = open(&files, Options::default(), &Shape::default()).await;
        let (log, writer, _) = opened.unwrap();
        let (sender, reports) = mpsc::unbounded_channel();
        tokio::spawn(writer.run(sender));
        Self {
            log,
            reports,
            key: Bytes::from_static(b"key-0123456789ab"),
            value: vec![7; VALUE_BYTES].into(),
        }
    }

    fn append(&mut self) {
        let version = Version::new(kv_core::Epoch(1), self.log.end().offset.next());
        let (key, value) = (self.key.clone(), self.value.clone());
        let operation = Operation::Set { key, value };
        self.log.append(vec![Entry { version, operation }]);
    }

    /// So many writers, each of which waits for its write before it writes again. Returns how many writes each sync covered.
    async fn write(&mut self, writers: usize, count: usize) -> Vec<usize> {
        let mut batches = Vec::new();
        let (mut issued, mut done) = (0, 0);
        let mut ready = writers;
        while done < count {
            for _ in 0..ready.min(count - issued) {
                self.append();
                issued += 1;
            }
            let Synced(synced) = self.reports.recv().await.unwrap().unwrap();
            batches.push(synced);
            done += synced;
            ready = synced;
        }
        batches
    }
}

/// The folders of a run.
static FOLDERS: Mutex<Option<TempDir>> = Mutex::new(None);

/// A folder on this disk. It is not removed before the end of the run, or the next one's syncs would wait for that.
fn folder() -> PathBuf {
    let mut folders = FOLDERS.lock().unwrap();
    let all = folders.get_or_insert_with(|| tempfile::tempdir_in(".").unwrap());
    tempfile::tempdir_in(all.path()).unwrap().keep()
}

/// Times so many writes, on a runtime like a node's.
fn time_log(runtime: &Runtime, writers: usize, count: usize) -> (Duration, Vec<usize>) {
    let path = folder();
    let task = runtime.spawn(async move {
        let mut running = Running::start(&path).await;
        running.write(writers, WARM_UP * writers).await;
        let start = Instant::now();
        let batches = running.write(writers, count).await;
        (start.elapsed(), batches)
    });
    runtime.block_on(task).unwrap()
}

/// Times a bare write and sync for each of these sizes.
fn time_bare(sizes: impl Iterator<Item = usize>) -> Duration {
    let file = std::fs::File::create(folder().join("bare")).unwrap();
    let bytes = vec![7; 16 * 1024 * 1024];
    let mut position = 0;
    let mut write = |size: usize| {
        file.write_all_at(&bytes[..size], position).unwrap();
        file.sync_data().unwrap();
        position += size as u64;
    };
    for _ in 0..WARM_UP {
        write(RECORD_BYTES);
    }
    let start = Instant::now();
    sizes.for_each(&mut write);
    start.elapsed()
}

fn batch_bytes(batches: &[usize]) -> impl Iterator<Item = usize> {
    batches
        .iter()
        .map(|count| MARK_BYTES + count * RECORD_BYTES)
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

/// Compares in one run.
fn compare() {
    let runtime = runtime();
    let (mut grouped, mut bare_batches, mut single) = (Vec::new(), Vec::new(), Vec::new());
    let (mut alone, mut batch_sizes) = (Vec::new(), Vec::new());
    let (mut over_single, mut of_batches, mut over_bare) = (Vec::new(), Vec::new(), Vec::new());
    let rate = |count: usize, time: Duration| count as f64 / time.as_secs_f64();
    for _ in 0..ROUNDS {
        let (time, batches) = time_log(&runtime, WRITERS, GROUPED);
        grouped.push(rate(GROUPED, time));
        batch_sizes.push(GROUPED as f64 / batches.len() as f64);
        bare_batches.push(rate(GROUPED, time_bare(batch_bytes(&batches))));
        single.push(rate(ALONE, time_bare((0..ALONE).map(|_| RECORD_BYTES))));
        alone.push(rate(ALONE, time_log(&runtime, 1, ALONE).0));
        let last = |rates: &[f64]| rates[rates.len() - 1];
        over_single.push(last(&grouped) / last(&single));
        of_batches.push(last(&grouped) / last(&bare_batches));
        over_bare.push(last(&single) / last(&alone));
    }
    println!("medians of {ROUNDS} rounds; the ratios are medians of the rounds' ratios");
    println!(
        "{WRITERS} writers: {:>9.0} writes/s, {:.1} a sync",
        median(grouped),
        median(batch_sizes)
    );
    println!(
        "the same batches, bare: {:>9.0} writes/s",
        median(bare_batches)
    );
    println!("one sync a write, bare: {:>9.0} writes/s", median(single));
    println!("one writer alone: {:>9.0} writes/s", median(alone));
    println!(
        "{WRITERS} writers over one sync a write: {:.1}  (20 at least)",
        median(over_single)
    );
    println!(
        "{WRITERS} writers of the same batches:   {:.2}  (0.8 at least)",
        median(of_batches)
    );
    println!(
        "one writer's time over a bare one: {:.2}  (1.2 at most)",
        median(over_bare)
    );
}

fn appends(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("append and sync");
    group.sample_size(10).throughput(Throughput::Elements(1));
    for writers in [1, WRITERS] {
        group.bench_function(BenchmarkId::new("log, writers", writers), |bencher| {
            bencher.iter_custom(|count| time_log(&runtime, writers, count as usize).0);
        });
    }
    group.bench_function("bare, one sync a write", |bencher| {
        bencher.iter_custom(|count| time_bare((0..count).map(|_| RECORD_BYTES)));
    });
    group.finish();
}

/// Writes a log of so many bytes, in batches of a thousand.
fn large_log(runtime: &Runtime, folder: &Path) {
    runtime.block_on(async {
        let mut running = Running::start(folder).await;
        running.write(1000, RECOVERED_BYTES / RECORD_BYTES).await;
    });
}

fn recovery(criterion: &mut Criterion) {
    let runtime = runtime();
    let folder = folder();
    large_log(&runtime, &folder);
    let files: Arc<dyn FileSystem> = Arc::new(OsFileSystem::open(&folder).unwrap());
    let mut group = criterion.benchmark_group("recovery");
    group
        .sample_size(10)
        .throughput(Throughput::Bytes(RECOVERED_BYTES as u64));
    group.bench_function("open, from a warm cache", |bencher| {
        bencher.iter(|| {
            let opened = runtime.block_on(open(&files, Options::default(), &Shape::default()));
            black_box(opened.unwrap().2.log.end())
        });
    });
    group.finish();
}

criterion_group!(benches, appends, recovery);

fn main() {
    // `cargo test` runs benchmarks once, to see that they work; that is no time to compare anything.
    if std::env::args().any(|argument| argument == "--bench") {
        compare();
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
    drop(FOLDERS.lock().unwrap().take());
}
