//! The log under power losses and kills at random moments.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};

use bytes::Bytes;
use kv::wal::{Log, Options, Synced, WalError, open};
use kv_core::{Entry, Epoch, Log as Shape, Offset, Operation, Version};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sim::disk::{DirtyPages, SimDisk};
use tokio::sync::mpsc;

use crate::{disk, finish, poll_at_most};

/// A batch or a few fill a file, so that crashes fall into the beginning of the next one, too.
const SMALL_FILES: Options = Options {
    segment_bytes: 700,
    preallocate_bytes: 600,
};

/// What a log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) promised: Epoch,
    pub(crate) entries: Vec<Entry>,
}

/// A log in one life of its node, polled by hand, with everything that it may recover as afterwards.
pub(crate) struct Life {
    log: Log,
    writer: Pin<Box<dyn Future<Output = ()>>>,
    reports: mpsc::UnboundedReceiver<Result<Synced, WalError>>,
    /// What the log held after each record that it was given, from the recovered content on.
    contents: Vec<Content>,
    /// Which of them each command ended with.
    command_ends: Vec<usize>,
    commands_synced: usize,
    pub(crate) error: Option<WalError>,
    /// Where the tail was found damaged.
    pub(crate) suspect: Option<(String, u64)>,
}

impl Life {
    /// In small files.
    pub(crate) fn begin(disk: &SimDisk) -> Result<Self, WalError> {
        Self::begin_with(disk, SMALL_FILES)
    }

    /// All in one file, so that a batch is written at the first poll.
    pub(crate) fn begin_in_one_file(disk: &SimDisk) -> Result<Self, WalError> {
        Self::begin_with(disk, Options::default())
    }

    fn begin_with(disk: &SimDisk, options: Options) -> Result<Self, WalError> {
        let (log, writer, recovered) = finish(open(&disk.mount(), options, &Shape::default()))?;
        let entries = log.read(Offset(1), Offset(u64::MAX), usize::MAX)?;
        let end = entries.last().map_or(Version::ZERO, |last| last.version);
        assert_eq!(recovered.log.end(), end);
        assert_eq!(log.end(), end);
        let (sender, reports) = mpsc::unbounded_channel();
        let promised = recovered.promised;
        Ok(Self {
            log,
            writer: Box::pin(writer.run(sender)),
            reports,
            contents: vec![Content { promised, entries }],
            command_ends: vec![0],
            commands_synced: 0,
            error: None,
            suspect: recovered.suspect,
        })
    }

    pub(crate) fn now(&self) -> &Content {
        self.contents.last().unwrap()
    }

    /// The least that must survive a crash now.
    pub(crate) fn synced(&self) -> &Content {
        &self.contents[self.command_ends[self.commands_synced]]
    }

    /// Whether the log held this at any time in this life.
    pub(crate) fn was_once(&self, content: &Content) -> bool {
        self.contents.contains(content)
    }

    pub(crate) fn declare_whole(&mut self) {
        self.log.declare_whole();
    }

    /// Whether a crash may leave this: all that was reported, and then records in order, up to any.
    pub(crate) fn may_become(&self, content: &Content) -> bool {
        self.contents[self.command_ends[self.commands_synced]..].contains(content)
    }

    /// Lets the writer take one step, up to its next wait.
    pub(crate) fn poll_writer(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        // A writer that is done has failed; what it reported says so.
        if self.error.is_none() {
            let _ = self.writer.as_mut().poll(&mut context);
        }
        while let Ok(report) = self.reports.try_recv() {
            match report {
                Ok(Synced(commands)) => self.commands_synced += commands,
                Err(error) => self.error = Some(error),
            }
        }
    }

    /// Lets the writer finish what it was given.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10 {
            self.poll_writer();
        }
    }

    pub(crate) fn append(&mut self, rng: &mut StdRng, count: usize) {
        let mut content = self.now().clone();
        let mut new = Vec::new();
        for _ in 0..count {
            let last = content
                .entries
                .last()
                .map_or(Version::ZERO, |last| last.version);
            let epoch = Epoch(last.epoch.0.max(content.promised.0).max(1)); // No entry is of epoch zero.
            let entry = random_entry(rng, Version::new(epoch, last.offset.next()));
            content.entries.push(entry.clone());
            self.contents.push(content.clone());
            new.push(entry);
        }
        self.log.append(new);
        self.command_ends.push(self.contents.len() - 1);
    }

    fn truncate(&mut self, rng: &mut StdRng) {
        let mut content = self.now().clone();
        // Mostly a short suffix, as the protocol does.
        let removed = rng.random_range(0..=content.entries.len().min(6));
        content.entries.truncate(content.entries.len() - removed);
        self.log.truncate(Offset(content.entries.len() as u64));
        self.contents.push(content);
        self.command_ends.push(self.contents.len() - 1);
    }

    pub(crate) fn promise(&mut self, rng: &mut StdRng) {
        let mut content = self.now().clone();
        content.promised = Epoch(content.promised.0 + rng.random_range(0..3));
        self.log.promise(content.promised);
        self.contents.push(content);
        self.command_ends.push(self.contents.len() - 1);
    }

    fn step(&mut self, rng: &mut StdRng) {
        match rng.random_range(0..20) {
            0..8 => {
                let count = rng.random_range(1..=4);
                self.append(rng, count);
            }
            8..10 => self.truncate(rng),
            10..12 => self.promise(rng),
            12..18 => self.poll_writer(),
            _ => self.check_read(rng),
        }
    }

    /// Whatever the writer has done so far, a read gives what was appended.
    fn check_read(&self, rng: &mut StdRng) {
        let entries = &self.now().entries;
        let first = rng.random_range(1..=entries.len() + 2);
        let last = rng.random_range(first..=entries.len() + 4);
        let bytes_max = rng.random_range(0..400);
        let read = self
            .log
            .read(Offset(first as u64), Offset(last as u64), bytes_max)
            .unwrap();
        let expected = entries.get(first - 1..last.min(entries.len()));
        let expected = expected.unwrap_or_default();
        assert_eq!(read, expected[..read.len()]);
        assert!(!read.is_empty() || expected.is_empty());
    }
}

fn random_entry(rng: &mut StdRng, version: Version) -> Entry {
    let key = Bytes::from(format!("key{}", rng.random_range(0..5)));
    let operation = match rng.random_range(0..6) {
        0 => Operation::EpochStart,
        1 => Operation::Delete { key },
        _ => Operation::Set {
            key,
            value: vec![rng.random(); rng.random_range(0..200)].into(),
        },
    };
    Entry { version, operation }
}

/// Goal: whatever was reported as synced is recovered after any crash, and what is recovered was really there.
/// Method: random commands, with power losses, kills and failed syncs at random moments, recovery included; after each
/// crash the content must be one that the log had since the last report, cut at a record.
#[test]
fn what_was_reported_synced_survives_any_crash() {
    let (mut cuts, mut losses, mut syncs, mut files) = (0, 0, 0, 0);
    for seed in 0..500 {
        let mut rng = StdRng::seed_from_u64(seed);
        let disk = disk(rng.random());
        let mut life = Life::begin(&disk).unwrap();
        for _ in 0..8 {
            if rng.random_bool(0.1) {
                disk.fail_next_sync(DirtyPages::Dropped);
            }
            for _ in 0..rng.random_range(0..40) {
                life.step(&mut rng);
            }
            crash(&disk, &mut rng);
            syncs += life.commands_synced;
            cuts += usize::from(interrupted_recovery(&disk, &mut rng));
            let next = match Life::begin(&disk) {
                Ok(next) => next,
                // The sync that was to fail failed here. The node is started once more.
                Err(WalError::Io { .. }) => Life::begin(&disk).unwrap(),
                Err(error) => panic!("seed {seed}: {error}"),
            };
            assert!(
                life.may_become(next.now()),
                "seed {seed}: recovered {:?}, but {:?} was synced",
                next.now(),
                life.synced()
            );
            assert!(next.now().promised >= life.synced().promised);
            life = next;
        }
        losses += disk.counters().operations_lost;
        files += disk.mount().list("wal").unwrap().len();
    }
    assert!(files > 2_000, "vacuous: {files} files were written");
    assert!(cuts > 30, "vacuous: a torn tail was cut {cuts} times");
    assert!(losses > 500, "vacuous: {losses} operations were lost");
    assert!(syncs > 5_000, "vacuous: {syncs} commands were synced");
}

fn crash(disk: &SimDisk, rng: &mut StdRng) {
    if rng.random_bool(0.6) {
        disk.power_loss();
    } else {
        disk.kill();
    }
}

/// Starts recoveries that crash too. Says whether one of them found a torn tail.
fn interrupted_recovery(disk: &SimDisk, rng: &mut StdRng) -> bool {
    let mut was_cut = false;
    for _ in 0..rng.random_range(0..3) {
        let steps = rng.random_range(0..5);
        let folder = disk.mount();
        if let Some(Ok((_, _, recovered))) =
            poll_at_most(steps, open(&folder, SMALL_FILES, &Shape::default()))
        {
            was_cut |= recovered.cut.is_some();
        }
        crash(disk, rng);
    }
    was_cut
}

/// A crash in the middle of a recovery, twice, after a kill: nothing that a recovery returned may be lost later.
#[test]
fn what_was_recovered_is_durable() {
    for seed in 0..200 {
        let mut rng = StdRng::seed_from_u64(seed);
        let disk = disk(rng.random());
        let mut life = Life::begin_in_one_file(&disk).unwrap();
        life.append(&mut rng, 3);
        life.promise(&mut rng);
        life.settle();
        life.append(&mut rng, 3);
        if seed % 2 == 0 {
            disk.fail_next_sync(DirtyPages::Dropped);
        }
        life.poll_writer(); // Written, and the sync is under way.
        if seed % 2 == 0 {
            life.poll_writer();
            assert!(life.error.is_some(), "the sync failed");
        }
        disk.kill();
        let recovered = Life::begin_in_one_file(&disk).unwrap();
        assert_eq!(recovered.now(), life.now(), "a kill loses nothing");
        disk.power_loss();
        let again = Life::begin_in_one_file(&disk).unwrap();
        assert_eq!(again.now(), recovered.now(), "seed {seed}");
    }
}

#[test]
fn a_log_begins_whole_or_not_at_all() {
    for seed in 0..200 {
        let mut rng = StdRng::seed_from_u64(seed);
        let disk = disk(rng.random());
        for _ in 0..3 {
            let folder = disk.mount();
            drop(poll_at_most(
                rng.random_range(0..5),
                open(&folder, SMALL_FILES, &Shape::default()),
            ));
            crash(&disk, &mut rng);
        }
        let mut life = Life::begin(&disk).unwrap();
        life.append(&mut rng, 1);
        life.settle();
        disk.power_loss();
        assert_eq!(Life::begin(&disk).unwrap().now(), life.now());
    }
}

#[test]
fn one_sync_covers_all_that_waits() {
    let disk = disk(1);
    let mut rng = StdRng::seed_from_u64(1);
    let mut life = Life::begin(&disk).unwrap();
    let before = disk.counters().syncs;
    for _ in 0..50 {
        life.append(&mut rng, 1);
    }
    life.promise(&mut rng);
    life.settle();
    assert_eq!(life.commands_synced, 51);
    assert_eq!(disk.counters().syncs - before, 1);
}
