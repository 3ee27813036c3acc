//! A life of a log, command by command: what it was asked, what it reported, and so what may be found after a crash.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;
use futures::executor::block_on;
use kv::fs::FileSystem;
use kv::wal::{Log, Options, Recovered, Synced, WalError, open};
use kv_core::{Entry, Epoch, Log as Shape, Offset, Operation as Does, Version};
use tokio::sync::mpsc;

use crate::disk::{Disk, LeftOut, Operation, Recorder};

/// A batch or two fill a file. A small batch writes zeros ahead, a large one does not.
const OPTIONS: Options = Options {
    segment_bytes: 800,
    preallocate_bytes: 3000,
};

/// What a log holds. The entries are those whose bytes it has had since it was last restarted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    promised: Epoch,
    names: Shape,
    entries: Vec<Entry>,
    is_suspect: bool,
}

/// What a crash at some moment may leave at most.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// What the log held from the last report on.
    contents: Vec<Content>,
    /// What the engine holds durably.
    pub(crate) checkpoint: Shape,
    /// Up to where the log was told that it may drop entries.
    trimmed: Offset,
}

/// A log that is being written.
pub(crate) struct Life {
    pub(crate) recorder: Recorder,
    log: Log,
    writer: Pin<Box<dyn Future<Output = ()>>>,
    reports: mpsc::UnboundedReceiver<Result<Synced, WalError>>,
    contents: Vec<Content>,
    command_ends: Vec<usize>,
    commands_synced: usize,
    checkpoint: Shape,
    trimmed: Offset,
    /// What a crash may leave from that operation on.
    pub(crate) limits: Vec<(usize, Limits)>,
}

impl Life {
    pub(crate) fn begin(disk: Disk, left_out: Option<LeftOut>) -> Self {
        let recorder = Recorder::new(disk, left_out);
        let folder: Arc<dyn FileSystem> = Arc::new(recorder.clone());
        let (log, writer, recovered) =
            block_on(open(&folder, OPTIONS, &Shape::default())).expect("a new log opens");
        let (sender, reports) = mpsc::unbounded_channel();
        let mut life = Self {
            recorder,
            log,
            writer: Box::pin(writer.run(sender)),
            reports,
            contents: vec![Content::default()],
            command_ends: vec![0],
            commands_synced: 0,
            checkpoint: Shape::default(),
            trimmed: Offset::ZERO,
            limits: Vec::new(),
        };
        assert_eq!(recovered.first, Offset(1));
        life.note();
        // Until the log is there, a crash leaves an empty one.
        life.limits[0].0 = 0;
        life
    }

    /// What holds from here on.
    fn note(&mut self) {
        let synced = self.command_ends[self.commands_synced];
        let limits = Limits {
            contents: self.contents[synced..].to_vec(),
            checkpoint: self.checkpoint.clone(),
            trimmed: self.trimmed,
        };
        self.limits.push((self.recorder.count(), limits));
    }

    fn now(&self) -> Content {
        self.contents[self.contents.len() - 1].clone()
    }

    fn push(&mut self, content: Content, is_command_end: bool) {
        self.contents.push(content);
        if is_command_end {
            self.command_ends.push(self.contents.len() - 1);
            self.note();
        }
    }

    pub(crate) fn append(&mut self, value_bytes: &[usize]) {
        let mut content = self.now();
        let mut entries = Vec::new();
        for (index, &bytes) in value_bytes.iter().enumerate() {
            let offset = content.names.end().offset.next();
            let epoch = content
                .promised
                .max(content.names.end().epoch)
                .max(Epoch(1));
            let version = Version::new(epoch, offset);
            // Values differ, and hold what is zero on the disk as well as zeros.
            let value = vec![(offset.0 as u8).wrapping_mul(67); bytes];
            let operation = match bytes {
                0 => Does::EpochStart,
                _ => Does::Set {
                    key: Bytes::from_static(b"key"),
                    value: value.into(),
                },
            };
            let entry = Entry { version, operation };
            content.names.append(version);
            content.entries.push(entry.clone());
            entries.push(entry);
            self.push(content.clone(), index + 1 == value_bytes.len());
        }
        self.log.append(entries);
    }

    pub(crate) fn truncate(&mut self, removed: u64) {
        let mut content = self.now();
        let after = Offset(content.names.end().offset.0 - removed);
        content.names.truncate(after);
        content
            .entries
            .retain(|entry| entry.version.offset <= after);
        self.push(content, true);
        self.log.truncate(after);
    }

    pub(crate) fn promise(&mut self) {
        let mut content = self.now();
        content.promised = content.promised.next();
        let promised = content.promised;
        self.push(content, true);
        self.log.promise(promised);
    }

    /// The engine holds all up to the end, and the log may drop that.
    pub(crate) fn trim(&mut self) {
        self.checkpoint = self.now().names;
        self.trimmed = self.checkpoint.end().offset;
        self.note();
        self.log.trim(self.trimmed);
    }

    /// A snapshot of an entry that is far ahead is installed, and then the log restarted there.
    pub(crate) fn restart(&mut self) {
        let mut content = self.now();
        let end = content.names.end();
        let first = end.offset.next();
        content.names.append(Version::new(end.epoch.next(), first));
        for _ in 0..100 {
            let next = content.names.end().offset.next();
            content.names.append(Version::new(end.epoch.next(), next));
        }
        content.promised = content.promised.max(end.epoch.next());
        // The protocol promises the epoch before it takes anything of it.
        self.log.promise(content.promised);
        let promised = Content {
            promised: content.promised,
            ..self.now()
        };
        self.push(promised, true);
        self.settle();
        self.checkpoint = content.names.clone();
        self.trimmed = content.names.end().offset;
        self.note();
        content.entries.clear();
        self.push(content.clone(), true);
        self.log.restart(content.names);
    }

    /// Lets the writer do all that it was asked, and notes each report.
    pub(crate) fn settle(&mut self) {
        for _ in 0..60 {
            let mut context = Context::from_waker(Waker::noop());
            let _ = self.writer.as_mut().poll(&mut context);
            while let Ok(report) = self.reports.try_recv() {
                self.commands_synced += report.expect("this disk never fails").0;
                self.note();
            }
        }
        assert_eq!(self.commands_synced, self.command_ends.len() - 1);
    }
}

/// What was found in a folder.
pub(crate) struct Found {
    pub(crate) recovered: Recovered,
    entries: Vec<Entry>,
    pub(crate) operations: Vec<Operation>,
}

/// Opens the log of a disk. All operations are there even if that fails.
pub(crate) fn find(
    disk: Disk,
    left_out: Option<LeftOut>,
    checkpoint: &Shape,
) -> Result<Found, WalError> {
    let recorder = Recorder::new(disk, left_out);
    let folder: Arc<dyn FileSystem> = Arc::new(recorder.clone());
    let (log, _, recovered) = block_on(open(&folder, OPTIONS, checkpoint))?;
    let operations = recorder.operations();
    assert_eq!(log.first(), recovered.first, "both say the same");
    Ok(Found {
        entries: log.read(recovered.first, Offset(u64::MAX), usize::MAX)?,
        recovered,
        operations,
    })
}

/// A recovered log goes on: one more entry, and a clean end. Returns the disk, and what was expected to be on it.
pub(crate) fn go_on(
    disk: Disk,
    left_out: Option<LeftOut>,
    limits: &Limits,
) -> Result<(Disk, Limits), WalError> {
    let recorder = Recorder::new(disk, left_out);
    let folder: Arc<dyn FileSystem> = Arc::new(recorder.clone());
    let (mut log, writer, recovered) = block_on(open(&folder, OPTIONS, &limits.checkpoint))?;
    let mut limits = limits.clone();
    let content = &mut limits.contents[0];
    let end = log.end();
    let epoch = end.epoch.max(recovered.promised).max(Epoch(1));
    let version = Version::new(epoch, end.offset.next());
    let entry = Entry {
        version,
        operation: Does::EpochStart,
    };
    content.names.append(version);
    content.entries.push(entry.clone());
    log.append(vec![entry]);
    drop(log);
    let (sender, _reports) = mpsc::unbounded_channel();
    block_on(writer.run(sender));
    Ok((recorder.disk(), limits))
}

impl Limits {
    /// What is left when the last entry of all has rotted.
    pub(crate) fn suspect_before_last(mut self) -> Self {
        self.contents.truncate(self.contents.len() - 1);
        let mut content = self.contents.split_off(self.contents.len() - 1);
        content[0].is_suspect = true;
        self.contents = content;
        self
    }

    /// Whether a crash may leave this; says why not.
    pub(crate) fn check(&self, found: &Found) -> Result<(), String> {
        let Found {
            recovered, entries, ..
        } = found;
        let first = recovered.first.0;
        let end = recovered.log.end().offset.0;
        if !entries
            .iter()
            .map(|entry| entry.version.offset.0)
            .eq(first..=end)
        {
            return Err(format!(
                "the entries from {first} to {end} are not all there"
            ));
        }
        if recovered.first > self.trimmed.next() {
            return Err(format!(
                "{first} is the first entry, and only {} may go",
                self.trimmed.0
            ));
        }
        let is_possible = |content: &Content| {
            // A log that does not hold the checkpoint is restarted there.
            let is_restarted = !content.names.holds(self.checkpoint.end());
            let (names, had) = match is_restarted {
                true => (&self.checkpoint, &[][..]),
                false => (&content.names, &content.entries[..]),
            };
            let is_there = |entry: &&Entry| entry.version.offset >= recovered.first;
            recovered.promised == content.promised
                && recovered.log == *names
                && recovered.suspect.is_some() == content.is_suspect
                && entries.iter().eq(had.iter().filter(is_there))
        };
        match self.contents.iter().any(is_possible) {
            true => Ok(()),
            false => Err(format!(
                "recovered {:?}, promised {:?}, suspect {:?}, which the log never held since the last report",
                recovered.log, recovered.promised, recovered.suspect
            )),
        }
    }

    /// What a crash may leave once this was found: the same.
    pub(crate) fn exactly(&self, found: &Found) -> Self {
        let recovered = &found.recovered;
        Self {
            contents: vec![Content {
                promised: recovered.promised,
                names: recovered.log.clone(),
                entries: found.entries.clone(),
                is_suspect: recovered.suspect.is_some(),
            }],
            checkpoint: self.checkpoint.clone(),
            trimmed: recovered.first.previous(),
        }
    }
}
