//! Recovery of a log file after anything: what is left is a beginning of what was written, or an error, never a panic.
#![allow(
    clippy::unwrap_used,
    reason = "the whole crate is tests, helpers included"
)]

use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use kv::fs::FileSystem;
use kv::fs::memory::MemoryFileSystem;
use kv::wal::record::Record;
use kv::wal::{Log, LogWriter, Options, Recovered, WalError, noise, open};
use kv_core::{Entry, Epoch, Log as Shape, Offset, Operation, Version};
use proptest::prelude::*;
use proptest::sample::Index;
use tokio::sync::mpsc;

const NAME: &str = "wal/0000000001";
const HEADER_BYTES: usize = 80;

fn in_memory() -> Arc<dyn FileSystem> {
    Arc::new(MemoryFileSystem::default())
}

type Content = (Epoch, Vec<Entry>);

/// Nothing is written ahead, so that the bytes of a file are those of its records.
const OPTIONS: Options = Options {
    segment_bytes: 64 * 1024 * 1024,
    preallocate_bytes: 0,
};

/// Opens the log of a folder whose engine holds nothing.
fn open_log(folder: &Arc<dyn FileSystem>) -> Result<(Log, LogWriter, Recovered), WalError> {
    block_on(open(folder, OPTIONS, &Shape::default()))
}

fn bytes_of(folder: &Arc<dyn FileSystem>, name: &str) -> Vec<u8> {
    let file = folder.open(name).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

#[derive(Clone, Debug)]
enum Command {
    Append(Vec<u8>),
    Truncate(usize),
    Promise,
    Sync,
}

fn commands() -> impl Strategy<Value = Vec<Command>> {
    let values = proptest::collection::vec(any::<u8>(), 1..4);
    let command = prop_oneof![
        4 => values.prop_map(Command::Append),
        1 => (0..5_usize).prop_map(Command::Truncate),
        1 => Just(Command::Promise),
        2 => Just(Command::Sync),
    ];
    proptest::collection::vec(command, 1..25)
}

/// Writes a log; returns the file's bytes, and what the log held after each record.
fn written(commands: &[Command]) -> (Vec<u8>, Vec<Content>) {
    let folder = in_memory();
    let mut contents = vec![Content::default()];
    for batch in commands.split(|command| matches!(command, Command::Sync)) {
        let (mut log, writer, _) = open_log(&folder).unwrap();
        for command in batch {
            let (mut promised, mut entries) = contents.last().unwrap().clone();
            match command {
                Command::Append(values) => {
                    let mut new = Vec::new();
                    for value in values {
                        new.push(entry(promised, entries.len() as u64 + 1, *value));
                        entries.push(new[new.len() - 1].clone());
                        contents.push((promised, entries.clone()));
                    }
                    log.append(new);
                    continue;
                }
                Command::Truncate(removed) => {
                    entries.truncate(entries.len().saturating_sub(*removed));
                    log.truncate(Offset(entries.len() as u64));
                }
                Command::Promise => {
                    promised = promised.next();
                    log.promise(promised);
                }
                Command::Sync => {}
            }
            contents.push((promised, entries));
        }
        drop(log);
        let (sender, _reports) = mpsc::unbounded_channel();
        block_on(writer.run(sender));
    }
    (bytes_of(&folder, NAME), contents)
}

fn entry(epoch: Epoch, offset: u64, value: u8) -> Entry {
    let key = Bytes::from(format!("key{}", value % 3));
    let operation = match value % 4 {
        0 => Operation::EpochStart,
        1 => Operation::Delete { key },
        // Zeros inside and at the end of values, too.
        _ => Operation::Set {
            key,
            value: [vec![value; usize::from(value)], vec![0; 9]]
                .concat()
                .into(),
        },
    };
    Entry {
        version: Version::new(epoch.max(Epoch(1)), Offset(offset)), // No entry is of epoch zero.
        operation,
    }
}

/// What became of a folder whose log file has these bytes.
struct Outcome {
    recovered: Recovered,
    content: Content,
    /// What was kept aside.
    kept: Vec<u8>,
}

/// Opens a folder whose log file has these bytes. Whatever can be opened can be written to and opened again; what cannot be
/// opened is left as it is.
fn recovered(bytes: &[u8]) -> Result<Outcome, WalError> {
    let folder = in_memory();
    folder.open(NAME).unwrap().write_at(0, bytes).unwrap();
    let (mut log, writer, recovered) = match open_log(&folder) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(bytes_of(&folder, NAME) == bytes, "the file is as it was");
            assert_eq!(folder.list("").unwrap(), ["wal"], "and no other was made");
            return Err(error);
        }
    };
    let entries = log.read(Offset(1), Offset(u64::MAX), usize::MAX)?;
    let content = (recovered.promised, entries);
    let kept = match &recovered.suspect {
        Some((file, byte)) => {
            let name = file.replace("wal", "damaged");
            bytes_of(&folder, &format!("{name}-{byte}"))
        }
        None => Vec::new(),
    };

    log.append(vec![entry(log.end().epoch, log.end().offset.0 + 1, 7)]);
    let end = log.end();
    drop(log);
    let (sender, mut reports) = mpsc::unbounded_channel();
    block_on(writer.run(sender));
    reports.try_recv().unwrap().unwrap();
    let (mut log, writer, again) = open_log(&folder).expect("a repaired log is whole");
    assert_eq!((log.end(), &again.cut), (end, &None));
    assert_eq!(
        again.suspect, recovered.suspect,
        "suspicion is not forgotten"
    );
    let entries = log.read(Offset(1), end.offset.previous(), usize::MAX);
    assert_eq!(entries.unwrap(), content.1);

    log.declare_whole();
    drop(log);
    let (sender, mut reports) = mpsc::unbounded_channel();
    block_on(writer.run(sender));
    assert!(reports.try_recv().is_err(), "that is not reported");
    let (_, _, at_last) = open_log(&folder).unwrap();
    assert_eq!((at_last.suspect, at_last.log), (None, again.log));
    Ok(Outcome {
        recovered,
        content,
        kept,
    })
}

proptest! {
    #[test]
    fn a_torn_log_is_recovered_as_a_beginning_of_it(
        commands in commands(),
        at: Index,
        zeros in 0..100_usize,
    ) {
        let (bytes, contents) = written(&commands);
        let kept = HEADER_BYTES + at.index(bytes.len() - HEADER_BYTES + 1);
        // The rest is missing, or reads as zeros.
        let torn = [&bytes[..kept], &vec![0; zeros][..]].concat();
        let Outcome { recovered: whole, content, .. } = recovered(&torn).unwrap();
        prop_assert!(contents.contains(&content));
        prop_assert_eq!(whole.suspect, None);
        let end = whole.cut.map_or(kept, |(file, byte)| {
            assert_eq!(file, NAME);
            byte as usize
        });
        prop_assert!(end <= kept, "nothing is made up");
        let without_tail = recovered(&bytes[..end]).unwrap().content;
        prop_assert_eq!(without_tail, content, "all of what is whole is kept");
    }

    #[test]
    fn a_flipped_bit_is_an_error_or_makes_the_log_suspect(commands in commands(), bit: Index) {
        let (mut bytes, contents) = written(&commands);
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        match recovered(&bytes) {
            Ok(Outcome { recovered, content, kept }) => {
                let (file, byte) = recovered.suspect.expect("damage is noticed");
                prop_assert_eq!(file, NAME);
                prop_assert!(byte as usize <= bit / 8);
                prop_assert_eq!(recovered.cut, None);
                prop_assert!(contents.contains(&content));
                prop_assert_eq!(kept, &bytes[byte as usize..], "all of it is kept");
            }
            Err(error) => {
                match &error {
                    WalError::Damaged { byte, .. } => prop_assert!(*byte as usize <= bit / 8),
                    WalError::Header { .. } => prop_assert!(bit / 8 < HEADER_BYTES),
                    other => prop_assert!(false, "{}", other),
                }
                prop_assert!(error.to_string().starts_with(NAME));
                prop_assert!(error.to_string().contains("kv repair --from PEER DIR"));
            }
        }
    }

    /// The page cache writes sectors in any order, so any of those that the last batch is in may be missing.
    #[test]
    fn a_batch_that_lost_any_of_its_sectors_is_torn(
        commands in commands(),
        lost: u64,
        is_short: bool,
    ) {
        let synced = commands.iter().rposition(|command| matches!(command, Command::Sync));
        let (before, mut contents) = written(&commands[..synced.unwrap_or(0)]);
        let start = before.len();
        let least = contents.len() - 1;
        let mut bytes;
        (bytes, contents) = written(&commands);
        let mut is_any_lost = false;
        for sector in start / 512..bytes.len().div_ceil(512) {
            if lost >> (sector % 64) & 1 == 1 {
                let (from, to) = ((sector * 512).max(start), ((sector + 1) * 512).min(bytes.len()));
                bytes[from..to].fill(0);
                is_any_lost = true;
            }
        }
        if is_short {
            let zeros = bytes.iter().rev().take_while(|byte| **byte == 0).count();
            bytes.truncate(bytes.len() - zeros);
        }
        let Outcome { recovered, content, .. } = recovered(&bytes).unwrap();
        prop_assert_eq!(recovered.suspect, None);
        prop_assert!(contents[least..].contains(&content));
        if let Some((_, byte)) = recovered.cut {
            prop_assert!(byte as usize >= start, "what was synced stays");
        }
        let is_all = content == contents[contents.len() - 1];
        prop_assert!(is_all || is_any_lost, "nothing is lost without need");
    }

    #[test]
    fn any_mutilation_is_recovered_as_a_beginning_or_refused(
        commands in commands(),
        wounds in proptest::collection::vec(any::<(Index, Index, Index, u8)>(), 1..4),
    ) {
        let (original, contents) = written(&commands);
        let mut bytes = original.clone();
        for (from, to, len, kind) in wounds {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            let len = len.index(bytes.len() - from.max(to)) + 1;
            match kind % 5 {
                0 => bytes[to..to + len].fill(0),
                1 => bytes[to..to + len].fill(kind),
                2 => bytes.copy_within(from..from + len, to),
                3 => bytes.truncate(to.max(1)),
                // Old bytes behind the end, as after a truncation in place.
                _ => bytes.extend_from_within(from..from + len),
            }
        }
        if let Ok(outcome) = recovered(&bytes) {
            prop_assert!(contents.contains(&outcome.content));
        }
    }

    #[test]
    fn any_bytes_behind_the_header_are_recovered_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let (whole, _) = written(&[Command::Sync]);
        let _ = recovered(&[&whole[..HEADER_BYTES], &bytes[..]].concat());
        let _ = recovered(&bytes);
    }
}

/// Where an outcome says that records could not be accepted.
fn suspected_at(outcome: &Result<Outcome, WalError>) -> Option<u64> {
    let outcome = outcome.as_ref().ok()?;
    outcome.recovered.suspect.as_ref().map(|(_, byte)| *byte)
}

/// R21: old bytes behind new ones, as a disk leaves them that writes to the wrong place: entries 2 and 3 were given up,
/// and would fit behind entry 1 by offset and epoch.
#[test]
fn old_records_behind_the_end_are_never_taken_for_new_ones() {
    let append = Command::Append(vec![2, 6]);
    let first = Command::Append(vec![3]);
    let given_up = written(&[first.clone(), Command::Sync, append.clone()]).0;
    let start = written(&[first.clone(), Command::Sync]).0.len();
    let (bytes, contents) = written(&[first, Command::Sync, append, Command::Truncate(2)]);
    let copied = [&bytes[..], &given_up[start..]].concat();
    let outcome = recovered(&copied);
    assert_eq!(suspected_at(&outcome), Some(bytes.len() as u64));
    assert_eq!(outcome.unwrap().content, contents[contents.len() - 1]);
}

/// The bytes of a file with these records behind its header.
fn file_of<'a>(records: impl IntoIterator<Item = &'a Record<'a>>) -> Vec<u8> {
    let mut bytes = written(&[]).0[..HEADER_BYTES].to_vec();
    for record in records {
        record.encode(bytes.len() as u64, &mut bytes);
    }
    noise::apply(HEADER_BYTES as u64, &mut bytes[HEADER_BYTES..]);
    bytes
}

/// R21: whole records in their places that do not follow each other, as only a bug would write them.
#[test]
fn an_entry_that_does_not_follow_is_refused() {
    let file = |versions: &[(u64, u64)]| {
        let records = versions.iter().map(|(epoch, offset)| {
            Record::EpochStart(Version::new(Epoch(*epoch), Offset(*offset)))
        });
        file_of(&records.collect::<Vec<_>>())
    };
    let whole = recovered(&file(&[(1, 1), (1, 2), (4, 3)]));
    assert_eq!(suspected_at(&whole), None);
    assert_eq!(whole.unwrap().content.1.len(), 3);
    let gap = [(1, 1), (1, 3)];
    let repetition = [(1, 1), (1, 1)];
    let lower_epoch = [(2, 1), (1, 2)];
    for versions in [gap, repetition, lower_epoch] {
        let first = HEADER_BYTES as u64 + 32;
        assert_eq!(suspected_at(&recovered(&file(&versions))), Some(first));
    }
    let late_start = file(&[(1, 2), (1, 3)]);
    assert_eq!(
        suspected_at(&recovered(&late_start)),
        Some(HEADER_BYTES as u64)
    );
}

#[test]
fn a_truncation_or_promise_that_does_not_fit_is_refused() {
    let version = |epoch, offset| Version::new(Epoch(epoch), Offset(offset));
    let fitting = [
        Record::EpochStart(version(2, 1)),
        Record::EpochStart(version(3, 2)),
        Record::Promise(Epoch(3)),
    ];
    let last_records = [
        (Record::Truncate(version(2, 1)), true),
        (Record::Truncate(version(3, 2)), true),
        (Record::Truncate(Version::ZERO), true),
        (Record::Truncate(version(3, 1)), false),
        (Record::Truncate(version(3, 3)), false),
        (Record::Promise(Epoch(3)), true),
        (Record::Promise(Epoch(2)), false),
        (Record::SyncMark(HEADER_BYTES as u64), true),
        (Record::SyncMark(u64::MAX), false),
        (Record::Whole, true),
    ];
    for (last, is_accepted) in last_records {
        let bytes = file_of(fitting.iter().chain([&last]));
        let outcome = recovered(&bytes);
        assert!(outcome.is_ok(), "{last:?}");
        assert_eq!(suspected_at(&outcome).is_none(), is_accepted, "{last:?}");
    }
}

/// Damage in front of a later batch is known to be damage, wherever it is, since that batch says what had been synced.
#[test]
fn damage_before_a_later_batch_was_synced_for_certain() {
    let append = || Command::Append(vec![2, 6]);
    let first = written(&[append(), Command::Sync]).0.len();
    let (bytes, _) = written(&[append(), Command::Sync, append()]);
    for byte in HEADER_BYTES..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[byte] ^= 1;
        let outcome = recovered(&damaged);
        let is_certain = matches!(outcome, Err(WalError::Damaged { .. }));
        assert_eq!(is_certain, byte < first, "byte {byte}");
        assert_eq!(suspected_at(&outcome).is_none(), is_certain, "byte {byte}");
    }
}
