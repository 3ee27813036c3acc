//! The log and what the engine holds: dropping files that are in a checkpoint, going on behind a snapshot, and what is missing in
//! between.
#![allow(
    clippy::unwrap_used,
    reason = "the whole crate is tests, helpers included"
)]

use std::sync::Arc;

use futures::executor::block_on;
use kv::fs::FileSystem;
use kv::fs::memory::MemoryFileSystem;
use kv::wal::{Log, LogWriter, Options, Recovered, Synced, WalError, open};
use kv_core::{Entry, Epoch, Log as Shape, Offset, Operation, Version};
use proptest::prelude::*;
use tokio::sync::mpsc;

/// Two or three entries fill a file.
const OPTIONS: Options = Options {
    segment_bytes: 500,
    preallocate_bytes: 0,
};

type Opened = Result<(Log, LogWriter, Recovered), WalError>;

fn start(folder: &Arc<dyn FileSystem>, checkpoint: &Shape) -> Opened {
    block_on(open(folder, OPTIONS, checkpoint))
}

/// Lets the writer do what it was asked; says how many commands it reported.
fn finish(log: Log, writer: LogWriter) -> usize {
    drop(log);
    let (sender, mut reports) = mpsc::unbounded_channel();
    block_on(writer.run(sender));
    let mut count = 0;
    while let Ok(report) = reports.try_recv() {
        let Synced(commands) = report.unwrap();
        count += commands;
    }
    count
}

fn entry(epoch: u64, offset: u64) -> Entry {
    Entry {
        version: Version::new(Epoch(epoch), Offset(offset)),
        operation: Operation::Set {
            key: "key".into(),
            value: vec![offset as u8; 150].into(),
        },
    }
}

/// A log of one epoch, up to an offset.
fn names(epoch: u64, end: u64) -> Shape {
    match end {
        0 => Shape::default(),
        _ => Shape::from_runs(&[(Epoch(epoch), Offset(1), Offset(end))]),
    }
}

/// A folder with a log of so many entries of epoch 1 in many files, each written by itself.
fn folder_with(entries: u64) -> Arc<dyn FileSystem> {
    let folder: Arc<dyn FileSystem> = Arc::new(MemoryFileSystem::default());
    append(&folder, entries, &Shape::default());
    folder
}

fn append(folder: &Arc<dyn FileSystem>, entries: u64, checkpoint: &Shape) {
    for _ in 0..entries {
        let (mut log, writer, _) = start(folder, checkpoint).unwrap();
        log.append(vec![entry(1, log.end().offset.0 + 1)]);
        assert_eq!(finish(log, writer), 1);
    }
}

fn files(folder: &Arc<dyn FileSystem>) -> Vec<String> {
    folder.list("wal").unwrap()
}

fn offsets(log: &Log, first: Offset) -> Vec<u64> {
    let entries = log.read(first, Offset(u64::MAX), usize::MAX).unwrap();
    entries.iter().map(|entry| entry.version.offset.0).collect()
}

#[test]
fn files_that_are_in_the_checkpoint_are_dropped() {
    let folder = folder_with(20);
    let before = files(&folder);
    let checkpoint = names(1, 10);
    let (mut log, writer, recovered) = start(&folder, &checkpoint).unwrap();
    assert_eq!(recovered.first, Offset(1));
    log.trim(Offset(10));
    let first = log.first();
    assert!((7..=11).contains(&first.0), "{first:?}");
    assert_eq!(offsets(&log, first), (first.0..=20).collect::<Vec<_>>());
    log.append(vec![entry(1, 21)]);
    assert_eq!(finish(log, writer), 1, "what was dropped is not reported");
    let after = files(&folder);
    assert!(after[0] > before[2], "{after:?} of {before:?}");
    assert!(
        after.contains(&before[before.len() - 1]),
        "the later ones stay"
    );

    let (log, _, recovered) = start(&folder, &checkpoint).unwrap();
    assert_eq!(recovered.first, first);
    assert_eq!(recovered.log, names(1, 21), "all names are known");
    assert_eq!(log.epoch_at(Offset(1)), Some(Epoch(1)));
    assert_eq!(offsets(&log, first), (first.0..=21).collect::<Vec<_>>());
}

#[test]
fn the_file_that_is_being_written_is_never_dropped() {
    let folder = folder_with(20);
    let (mut log, writer, _) = start(&folder, &names(1, 20)).unwrap();
    log.trim(Offset(20));
    log.append(vec![entry(1, 21)]);
    finish(log, writer);
    assert!(
        (1..=2).contains(&files(&folder).len()),
        "{:?}",
        files(&folder)
    );
    let (log, _, recovered) = start(&folder, &names(1, 20)).unwrap();
    let first = recovered.first;
    assert_eq!(offsets(&log, first), (first.0..=21).collect::<Vec<_>>());
}

#[test]
fn an_engine_that_ends_before_the_log_begins_misses_entries() {
    let folder = folder_with(20);
    let (mut log, writer, _) = start(&folder, &names(1, 10)).unwrap();
    log.trim(Offset(10));
    let first = log.first().0;
    finish(log, writer);
    let before = files(&folder);
    for end in 0..20 {
        let opened = start(&folder, &names(1, end));
        match opened.map(|_| ()) {
            Ok(()) => assert!(end + 1 >= first),
            Err(error @ WalError::MissingEntries { .. }) => {
                assert!(end + 1 < first);
                let words = format!("the entries {} to {} are missing", end + 1, first - 1);
                let line = error.to_string();
                assert!(line.contains(&words), "{line}");
                assert!(line.contains("kv repair --from PEER DIR"), "{line}");
                assert_eq!(files(&folder), before, "nothing was changed");
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn an_engine_without_a_log_misses_it() {
    let folder: Arc<dyn FileSystem> = Arc::new(MemoryFileSystem::default());
    let error = start(&folder, &names(1, 5)).map(|_| ()).unwrap_err();
    assert!(matches!(error, WalError::Missing { .. }), "{error}");
    assert_eq!(files(&folder), [""; 0], "nothing was written");
}

#[test]
fn a_log_goes_on_behind_an_installed_snapshot() {
    let folder = folder_with(10);
    let (mut log, writer, _) = start(&folder, &Shape::default()).unwrap();
    log.promise(Epoch(3));
    log.append(vec![entry(1, 11)]);
    let run = |epoch, first, last| (Epoch(epoch), Offset(first), Offset(last));
    let snapshot = Shape::from_runs(&[run(1, 1, 8), run(2, 9, 100)]);
    log.restart(snapshot.clone());
    assert_eq!(
        (log.first(), log.end()),
        (Offset(101), Version::new(Epoch(2), Offset(100)))
    );
    assert_eq!(log.bytes_from(Offset(101)), 0);
    log.trim(Offset(100)); // There is nothing to drop before the writer is that far.
    log.append(vec![entry(3, 101)]);
    assert_eq!(offsets(&log, Offset(101)), [101]);
    assert_eq!(finish(log, writer), 4);
    assert_eq!(files(&folder).len(), 1, "{:?}", files(&folder));

    let (log, _, recovered) = start(&folder, &snapshot).unwrap();
    let expected = Recovered {
        promised: Epoch(3),
        log: Shape::from_runs(&[run(1, 1, 8), run(2, 9, 100), run(3, 101, 101)]),
        first: Offset(101),
        cut: None,
        suspect: None,
    };
    assert_eq!(recovered, expected);
    assert_eq!(offsets(&log, Offset(101)), [101]);
    // With another engine under it, the entries below are missing.
    let error = start(&folder, &names(1, 8)).map(|_| ()).unwrap_err();
    assert!(matches!(
        error,
        WalError::MissingEntries {
            from: Offset(9),
            upto: Offset(100)
        }
    ));
}

/// A crash between the installation of a snapshot and the restart of the log.
#[test]
fn a_checkpoint_that_the_log_does_not_hold_restarts_it() {
    for (checkpoint, is_held) in [
        (names(1, 10), true),
        (names(1, 11), false),
        (names(2, 5), false),
    ] {
        let folder = folder_with(10);
        let (mut log, writer, _) = start(&folder, &Shape::default()).unwrap();
        log.promise(Epoch(4));
        finish(log, writer);
        for life in 0..2 {
            let (log, _, recovered) = start(&folder, &checkpoint).unwrap();
            assert_eq!(recovered.promised, Epoch(4), "the promise stays");
            let expected = if is_held {
                names(1, 10)
            } else {
                checkpoint.clone()
            };
            assert_eq!(
                (&recovered.log, log.end()),
                (&expected, expected.end()),
                "{life}"
            );
            assert_eq!(recovered.first == Offset(1), is_held);
        }
        assert_eq!(files(&folder).len() == 1, !is_held);
    }
}

#[test]
fn bytes_are_counted_from_an_entry_on() {
    let folder = folder_with(20);
    let (log, _, _) = start(&folder, &Shape::default()).unwrap();
    let bytes: Vec<_> = (1..=21)
        .map(|offset| log.bytes_from(Offset(offset)))
        .collect();
    assert!(bytes.is_sorted_by(|one, next| one >= next), "{bytes:?}");
    assert_eq!(bytes[20], 0);
    let all = files(&folder).into_iter().map(|file| {
        let file = folder.open(&format!("wal/{file}")).unwrap();
        file.len().unwrap()
    });
    let all: u64 = all.sum();
    assert!(
        (all - 160..=all).contains(&bytes[0]),
        "{} of {all}",
        bytes[0]
    );
    assert!(
        (all / 3..all * 2 / 3).contains(&bytes[10]),
        "{} of {all}",
        bytes[10]
    );
}

#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    Truncate(u64),
    Trim(u64),
    Restart(u64),
    /// Lets the writer finish, and opens the log again.
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..6_u64).prop_map(Step::Append),
        2 => (0..6_u64).prop_map(Step::Truncate),
        3 => (0..12_u64).prop_map(Step::Trim),
        1 => (1..9_u64).prop_map(Step::Restart),
        4 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    /// Whatever was dropped, truncated or restarted: the names are all known, and every entry is there that may not be gone.
    #[test]
    fn all_is_there_that_may_not_be_gone(steps in steps()) {
        let folder: Arc<dyn FileSystem> = Arc::new(MemoryFileSystem::default());
        let (mut checkpoint, mut expected, mut epoch) = (Shape::default(), Shape::default(), 1);
        let (mut log, mut writer, _) = start(&folder, &checkpoint).unwrap();
        let mut commands = 0;
        for step in steps.into_iter().chain([Step::Reopen]) {
            let end = expected.end().offset.0;
            match step {
                Step::Append(count) => {
                    let entries = (end + 1..=end + count).map(|offset| entry(epoch, offset));
                    let entries: Vec<_> = entries.collect();
                    entries.iter().for_each(|entry| expected.append(entry.version));
                    log.append(entries);
                    commands += 1;
                }
                Step::Truncate(count) => {
                    // What the engine holds is never truncated.
                    let after = Offset(end.saturating_sub(count)).max(checkpoint.end().offset);
                    log.truncate(after);
                    expected.truncate(after);
                    epoch += 1;
                    commands += 1;
                }
                Step::Trim(behind) => {
                    let upto = Offset(end.saturating_sub(behind)).max(checkpoint.end().offset);
                    checkpoint = expected.clone();
                    checkpoint.truncate(upto);
                    log.trim(upto);
                }
                Step::Restart(ahead) => {
                    epoch += 1;
                    for _ in 0..ahead {
                        expected.append(Version::new(Epoch(epoch), expected.end().offset.next()));
                    }
                    checkpoint = expected.clone();
                    log.restart(expected.clone());
                    commands += 1;
                }
                Step::Reopen => {
                    let first = log.first();
                    prop_assert_eq!(finish(log, writer), commands);
                    let recovered;
                    (log, writer, recovered) = start(&folder, &checkpoint).unwrap();
                    prop_assert!(recovered.first <= first, "what can be read stays so");
                    prop_assert_eq!(recovered.first, log.first());
                    prop_assert_eq!(&recovered.log, &expected);
                    commands = 0;
                }
            }
            let (first, end) = (log.first(), expected.end().offset);
            prop_assert_eq!(log.end(), expected.end());
            prop_assert!(first <= checkpoint.end().offset.next());
            prop_assert_eq!(offsets(&log, first), (first.0..=end.0).collect::<Vec<_>>());
        }
    }
}
