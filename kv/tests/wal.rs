//! The log on good file systems: what is appended is read back, from memory and from the file, and found again.
#![allow(
    clippy::unwrap_used,
    reason = "the whole crate is tests, helpers included"
)]

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use kv::fs::FileSystem;
use kv::fs::memory::MemoryFileSystem;
use kv::fs::os::OsFileSystem;
use kv::wal::{Log, Options, Recovered, Synced, WalError, open};
use kv_core::{Entry, Epoch, Log as Shape, Offset, Operation, Version};
use tokio::sync::mpsc;

type Reports = mpsc::UnboundedReceiver<Result<Synced, WalError>>;

fn in_memory() -> Arc<dyn FileSystem> {
    Arc::new(MemoryFileSystem::default())
}

async fn start(folder: &Arc<dyn FileSystem>) -> (Log, Reports, Recovered) {
    start_with(folder, Options::default()).await
}

async fn start_with(folder: &Arc<dyn FileSystem>, options: Options) -> (Log, Reports, Recovered) {
    start_at(folder, options, &Shape::default()).await
}

/// Opens the log of a folder whose engine holds a checkpoint.
async fn start_at(
    folder: &Arc<dyn FileSystem>,
    options: Options,
    checkpoint: &Shape,
) -> (Log, Reports, Recovered) {
    let opening: Pin<Box<dyn Future<Output = _> + Send + '_>> =
        Box::pin(open(folder, options, checkpoint));
    let (log, writer, recovered) = opening.await.unwrap();
    let (sender, reports) = mpsc::unbounded_channel();
    tokio::spawn(writer.run(sender));
    (log, reports, recovered)
}

/// Waits until so many commands are durable.
async fn synced(reports: &mut Reports, commands: usize) {
    let mut count = 0;
    while count < commands {
        count += reports.recv().await.unwrap().unwrap().0;
    }
    assert_eq!(count, commands, "no command is reported twice");
}

fn entry(epoch: u64, offset: u64, value_bytes: usize) -> Entry {
    let key = Bytes::from(format!("key{}", offset % 10));
    let value = vec![offset as u8; value_bytes].into();
    Entry {
        version: Version::new(Epoch(epoch), Offset(offset)),
        operation: Operation::Set { key, value },
    }
}

fn all(log: &Log) -> Vec<Entry> {
    log.read(Offset(1), Offset(u64::MAX), usize::MAX).unwrap()
}

#[tokio::test]
async fn what_was_synced_is_there_after_a_restart() {
    let path = tempfile::tempdir().unwrap();
    let folder: Arc<dyn FileSystem> = Arc::new(OsFileSystem::open(path.path()).unwrap());
    let (mut log, mut reports, recovered) = start(&folder).await;
    let nothing = Recovered {
        promised: Epoch(0),
        log: Shape::default(),
        first: Offset(1),
        cut: None,
        suspect: None,
    };
    assert_eq!(recovered, nothing);
    let start_of_epoch = Entry {
        version: Version::new(Epoch(2), Offset(1)),
        operation: Operation::EpochStart,
    };
    let delete = Entry {
        version: Version::new(Epoch(3), Offset(4)),
        operation: Operation::Delete {
            key: Bytes::from("key2"),
        },
    };
    log.promise(Epoch(2));
    log.append(vec![start_of_epoch.clone(), entry(2, 2, 0)]);
    log.append(vec![entry(2, 3, 10), entry(2, 4, 10), entry(2, 5, 10)]);
    log.promise(Epoch(3));
    log.truncate(Offset(3));
    log.append(vec![delete.clone()]);
    synced(&mut reports, 6).await;
    drop((log, reports));

    let (log, _reports, recovered) = start(&folder).await;
    let run = |epoch, first, last| (Epoch(epoch), Offset(first), Offset(last));
    let expected = Recovered {
        promised: Epoch(3),
        log: Shape::from_runs(&[run(2, 1, 3), run(3, 4, 4)]),
        first: Offset(1),
        cut: None,
        suspect: None,
    };
    assert_eq!(recovered, expected);
    assert_eq!(log.end(), delete.version);
    assert_eq!(log.epoch_at(Offset(3)), Some(Epoch(2)));
    assert_eq!(log.epoch_at(Offset(4)), Some(Epoch(3)));
    assert_eq!(log.epoch_at(Offset(5)), None);
    let expected = [start_of_epoch, entry(2, 2, 0), entry(2, 3, 10), delete];
    assert_eq!(all(&log), expected);
}

#[tokio::test]
async fn an_append_can_be_read_before_anything_is_written() {
    let folder = in_memory();
    let (mut log, _writer, _) = open(&folder, Options::default(), &Shape::default())
        .await
        .unwrap();
    log.append((1..=5).map(|offset| entry(1, offset, 100)).collect());
    log.truncate(Offset(3));
    log.append(vec![entry(2, 4, 100)]);
    let expected = [
        entry(1, 1, 100),
        entry(1, 2, 100),
        entry(1, 3, 100),
        entry(2, 4, 100),
    ];
    assert_eq!(all(&log), expected);
}

#[tokio::test]
async fn a_read_stays_within_its_bounds() {
    let folder = in_memory();
    let (mut log, mut reports, _) = start(&folder).await;
    log.append((1..=10).map(|offset| entry(1, offset, 1000)).collect());
    synced(&mut reports, 1).await;
    drop((log, reports));
    // Reopened, the old entries are in the file only, and the new ones in memory.
    let (mut log, _reports, _) = start(&folder).await;
    log.append((11..=20).map(|offset| entry(1, offset, 1000)).collect());
    let offsets = |first, last, bytes_max| {
        let entries = log.read(Offset(first), Offset(last), bytes_max).unwrap();
        let offsets = entries.iter().map(|entry| entry.version.offset.0);
        offsets.collect::<Vec<_>>()
    };
    assert_eq!(offsets(1, 20, usize::MAX), (1..=20).collect::<Vec<_>>());
    assert_eq!(offsets(9, 12, usize::MAX), [9, 10, 11, 12]);
    assert_eq!(offsets(9, 12, 3500), [9, 10, 11]);
    assert_eq!(offsets(9, 12, 2500), [9, 10]);
    assert_eq!(offsets(3, 3, usize::MAX), [3]);
    assert_eq!(offsets(15, 15, usize::MAX), [15]);
    for first in [5, 15] {
        let least = offsets(first, 20, 0);
        assert_eq!(least, [first], "there is always at least one");
    }
    assert_eq!(offsets(19, 100, usize::MAX), [19, 20]);
    assert_eq!(offsets(21, 100, usize::MAX), [0; 0]);
    assert_eq!(offsets(7, 6, usize::MAX), [0; 0]);
}

#[tokio::test]
async fn what_is_not_written_yet_stays_in_memory_however_much_it_is() {
    let folder = in_memory();
    let (mut log, _writer, _) = open(&folder, Options::default(), &Shape::default())
        .await
        .unwrap();
    let entries = (1..=20).map(|offset| entry(1, offset, 1_000_000));
    let entries = entries.collect::<Vec<_>>();
    for entry in &entries {
        log.append(vec![entry.clone()]);
    }
    assert!(all(&log) == entries);
}

/// Forty megabytes: far more than stays in memory.
#[tokio::test]
async fn old_entries_are_read_from_the_file_while_the_log_goes_on() {
    const VALUE_BYTES: usize = 20_000;
    let folder = in_memory();
    let (mut log, mut reports, _) = start(&folder).await;
    let mut epochs = Vec::new();
    for round in 0..100 {
        let epoch = round / 10 + 1;
        let first = epochs.len() as u64 + 1;
        let batch = (first..first + 20).map(|offset| entry(epoch, offset, VALUE_BYTES));
        log.append(batch.collect());
        epochs.extend([epoch; 20]);
        // The last eight are given up in each tenth round, before the next epoch begins.
        if round % 10 == 9 {
            epochs.truncate(epochs.len() - 8);
            log.truncate(Offset(epochs.len() as u64));
            synced(&mut reports, 11).await;
        }
        // Anywhere in the log, across memory and file, and across truncations.
        for first in (1..=epochs.len()).step_by(97) {
            let last = (first + 30).min(epochs.len());
            let read = log
                .read(Offset(first as u64), Offset(last as u64), usize::MAX)
                .unwrap();
            let expected =
                (first..=last).map(|offset| entry(epochs[offset - 1], offset as u64, VALUE_BYTES));
            assert!(read.iter().cloned().eq(expected), "from {first} to {last}");
        }
    }
    drop((log, reports));
    let (log, _reports, _) = start(&folder).await;
    let versions = all(&log).into_iter().map(|entry| entry.version.epoch.0);
    assert_eq!(versions.collect::<Vec<_>>(), epochs);
}

#[tokio::test]
async fn the_writer_ends_with_the_log() {
    let folder = in_memory();
    let (mut log, mut reports, _) = start(&folder).await;
    log.promise(Epoch(1));
    drop(log);
    assert_eq!(reports.recv().await.unwrap().unwrap(), Synced(1));
    assert!(reports.recv().await.is_none());
}

#[tokio::test]
#[should_panic(expected = "R21")]
async fn a_gap_is_our_own_bug() {
    let folder = in_memory();
    let (mut log, _writer, _) = open(&folder, Options::default(), &Shape::default())
        .await
        .unwrap();
    log.append(vec![entry(1, 2, 0)]);
}

#[tokio::test]
#[should_panic(expected = "R21")]
async fn a_lower_epoch_is_our_own_bug() {
    let folder = in_memory();
    let (mut log, _writer, _) = open(&folder, Options::default(), &Shape::default())
        .await
        .unwrap();
    log.append(vec![entry(2, 1, 0), entry(1, 2, 0)]);
}

#[tokio::test]
#[should_panic(expected = "never taken back")]
async fn a_lower_promise_is_our_own_bug() {
    let folder = in_memory();
    let (mut log, _writer, _) = open(&folder, Options::default(), &Shape::default())
        .await
        .unwrap();
    log.promise(Epoch(2));
    log.promise(Epoch(1));
}

#[tokio::test]
async fn a_log_goes_on_in_the_next_file_and_is_read_across_them() {
    let folder = in_memory();
    let options = Options {
        segment_bytes: 4096,
        preallocate_bytes: 8192,
    };
    let mut expected = Vec::new();
    for life in 0..3 {
        let (mut log, mut reports, recovered) = start_with(&folder, options).await;
        assert_eq!(recovered.cut, None);
        assert_eq!(all(&log), expected, "life {life}");
        for _ in 0..40 {
            let next = log.end().offset.0 + 1;
            let new = vec![entry(1, next, 200), entry(1, next + 1, 200)];
            log.append(new.clone());
            expected.extend(new);
            synced(&mut reports, 1).await;
        }
        // A truncation reaches back into an earlier file.
        expected.truncate(expected.len() - 50);
        log.truncate(Offset(expected.len() as u64));
        synced(&mut reports, 1).await;
        assert_eq!(all(&log), expected);
    }
    let files = folder.list("wal").unwrap();
    assert!(files.len() > 10, "{files:?}");
    for file in files {
        let bytes = folder.open(&format!("wal/{file}")).unwrap().len().unwrap();
        assert!(bytes < 4096 + 1024, "{file} has {bytes} bytes");
    }
}
