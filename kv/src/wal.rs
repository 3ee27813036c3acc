//! The write-ahead log: every entry and promise of a node, on disk before anything depends on it.
//!
//! The log has two halves, so that the node's driver never waits for the disk:
//!
//! ```text
//!              append, truncate, promise                 write, one sync for all
//!   driver ────────► Log ──── queue of commands ────► LogWriter ────────► files
//!     ▲               │ tail in memory                    │
//!     │               └── read: from the tail, ◄──────────┤ index: offset → position
//!     │                   older ones from the files       │
//!     └───────────────────── Synced(commands) ◄───────────┘
//! ```
//!
//! [`Log`] changes at once what the driver sees; [`LogWriter`] drains the queue, writes all of it, syncs once (group
//! commit) and reports how many commands became durable. What is only in the queue is lost in a crash, and nothing was
//! built on it.
//!
//! Files only grow: a truncation is a record like any other, and so is a promise. So bytes that were synced are never
//! written again, old bytes never stand behind new ones, a reader needs no lock, and one sync covers entries and promise
//! together, in the order in which they were asked for. When a file is full the log goes on in another one (`segment.rs`). `recovery.rs` says how a torn tail is told from damage.
//!
//! Recovery reads by R21 (`kv_core::follows`), and the log's shape is the replica's own type.
//!
//! After a failed write or sync the writer stops for ever and the log must be opened again.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kv_core::{Entry, Epoch, Log as Shape, Offset, Operation, Version};
use tokio::sync::mpsc;

use crate::fs::FileSystem;

mod index;
pub mod inspection;
pub mod record;
mod recovery;
mod scan;
mod segment;
mod writer;

pub use writer::{LogWriter, Synced};

use index::{Index, Place, Stretch};
use record::Refusal;
use scan::{Scanned, Scanner};
use segment::Segment;

/// How many bytes of entries that are already in the file stay in memory too.
const TAIL_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What an entry is counted for beside its key and value.
const ENTRY_OVERHEAD_BYTES: usize = 32;
/// How much is read from the file at once to serve a reader.
const READ_CHUNK_BYTES: usize = 64 * 1024;

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The file system failed. The node must stop; the log may be opened again.
    #[error("cannot {doing} the log: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the file system said.
        source: io::Error,
    },
    /// Bytes that had been synced are damaged.
    #[error(
        "{file} is damaged at byte {byte} ({why}), where it had been synced: entries that others count on may be lost. \
         Bring the folder back from a copy, or start the node with a new id and an empty folder"
    )]
    Damaged {
        /// The file.
        file: String,
        /// Where the first bad record begins.
        byte: u64,
        /// What is wrong there.
        why: Refusal,
    },
    /// The last bytes are damaged in a way that a crash does not explain; they may have been synced.
    #[error(
        "{file} is damaged at byte {byte} ({why}), near its end, and not as a crash would leave it: entries that others \
         count on may be lost. Bring the folder back from a copy, or start the node with a new id and an empty folder"
    )]
    DamagedTail {
        /// The file.
        file: String,
        /// Where the first bad record begins.
        byte: u64,
        /// What is wrong there.
        why: Refusal,
    },
    /// The file does not begin as a log does.
    #[error(
        "{file} is damaged at byte 0: it does not begin as a log file does. Bring the folder back from a copy"
    )]
    Header {
        /// The file.
        file: String,
    },
    /// The file was written by a newer version.
    #[error(
        "{file} has format {version}, which is newer than this program; run the version that wrote it"
    )]
    Newer {
        /// The file.
        file: String,
        /// Its format.
        version: u8,
    },
    /// A file between others is not there.
    #[error(
        "{file} is missing, and the log cannot be read without it. Bring the folder back from a copy"
    )]
    Missing {
        /// The file.
        file: String,
    },
    /// There is nothing to look at.
    #[error("{folder} has no log (`wal-0000000001`)")]
    NoLog {
        /// The folder.
        folder: String,
    },
    /// There is a log file that this program has no use for.
    #[error(
        "{file} is no log file of this version; move it away, or run the version that wrote it"
    )]
    UnknownFile {
        /// The file.
        file: String,
    },
}

impl WalError {
    fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}

/// What can be chosen about a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A file that has so many bytes is full: the next batch goes into another one.
    pub segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
        }
    }
}

/// What the log held when it was opened. All of it is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The highest promised epoch; zero before the first promise.
    pub promised: Epoch,
    /// The names of the entries.
    pub log: Shape,
    /// Where a torn tail that was never synced was cut off: file and byte.
    pub cut: Option<(String, u64)>,
}

/// Opens the log of a data folder, or begins one.
///
/// The writer does nothing until its [`run`](LogWriter::run) is polled.
///
/// # Errors
/// When the folder fails, or the log is damaged beyond a torn tail; then the node must not serve.
pub async fn open(
    file_system: &Arc<dyn FileSystem>,
    options: Options,
) -> Result<(Log, LogWriter, Recovered), WalError> {
    let segments = segment::open_or_begin(file_system.as_ref()).await?;
    let state = recovery::recover(&segments).await?;
    let last = segments.last().expect("a log has a file").clone();
    let recovered = Recovered {
        promised: state.promised,
        log: state.shape.clone(),
        cut: state.cut_at.map(|byte| (last.name.clone(), byte)),
    };
    let shared = Arc::new(Shared::default());
    let (sender, commands) = mpsc::unbounded_channel();
    let file_system = Arc::clone(file_system);
    let writer = LogWriter::new(file_system, options, shared.clone(), commands, last, &state);
    *shared.progress() = Progress {
        index: state.index,
        segments,
        commands_written: 0,
    };
    let log = Log {
        shared,
        commands: sender,
        commands_issued: 0,
        promised: state.promised,
        shape: state.shape,
        tail: VecDeque::new(),
        tail_bytes: 0,
    };
    Ok((log, writer, recovered))
}

/// What goes from the driver's half to the writer's.
#[derive(Debug)]
enum Command {
    Append(Vec<Entry>),
    Truncate(Version),
    Promise(Epoch),
}

/// What both halves see.
#[derive(Default)]
struct Shared {
    progress: Mutex<Progress>,
}

/// How far the writer has got, in the files though perhaps not on the disk.
#[derive(Default)]
struct Progress {
    index: Index,
    /// In order.
    segments: Vec<Segment>,
    commands_written: u64,
}

impl Progress {
    /// Where to begin reading in order to find an entry that was written, and in which file.
    fn stretch(&self, wanted: Offset) -> (Stretch, Segment) {
        let stretch = self.index.stretch(wanted);
        let sequence = stretch.start.1.sequence;
        let mut segments = self.segments.iter();
        let segment = segments.find(|segment| segment.header.sequence == sequence);
        let segment = segment.expect("an indexed entry is in a file of the log");
        (stretch, segment.clone())
    }
}

impl Shared {
    /// A poisoned lock is taken all the same: progress is changed after the fact, in one step.
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The driver's half: cheap and synchronous, and ahead of the disk.
pub struct Log {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
    commands_issued: u64,
    promised: Epoch,
    shape: Shape,
    /// The last entries; all that the writer has not written yet are among them.
    tail: VecDeque<Tailed>,
    tail_bytes: usize,
}

struct Tailed {
    entry: Entry,
    /// The number of the command that appends it.
    command: u64,
}

impl Log {
    /// Appends entries. [`Synced`] counts this as one command.
    ///
    /// # Panics
    /// When there are none, or one does not follow the entry before it.
    pub fn append(&mut self, entries: Vec<Entry>) {
        assert!(!entries.is_empty(), "an append has entries");
        let command = self.commands_issued + 1;
        for entry in &entries {
            self.shape.append(entry.version);
            self.tail_bytes += entry_bytes(entry);
            let entry = entry.clone();
            self.tail.push_back(Tailed { entry, command });
        }
        self.issue(Command::Append(entries));
        self.evict();
    }

    /// Removes every entry above `after`. [`Synced`] counts this as one command.
    ///
    /// # Panics
    /// When the log ends before `after`.
    pub fn truncate(&mut self, after: Offset) {
        assert!(after <= self.end().offset, "a log is cut where it has been");
        self.shape.truncate(after);
        while let Some(last) = self
            .tail
            .pop_back_if(|last| last.entry.version.offset > after)
        {
            self.tail_bytes -= entry_bytes(&last.entry);
        }
        self.issue(Command::Truncate(self.shape.end()));
    }

    /// Notes that an epoch is promised (R3). [`Synced`] counts this as one command.
    ///
    /// # Panics
    /// When a higher epoch was promised before.
    pub fn promise(&mut self, epoch: Epoch) {
        assert!(epoch >= self.promised, "a promise is never taken back");
        self.promised = epoch;
        self.issue(Command::Promise(epoch));
    }

    /// The last entry, whether durable or not; `Version::ZERO` for an empty log.
    #[must_use]
    pub fn end(&self) -> Version {
        self.shape.end()
    }

    /// The epoch of the entry at `offset`, if the log has one; the place before the first entry has epoch zero.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> Option<Epoch> {
        self.shape.version_at(offset).map(|version| version.epoch)
    }

    /// The entries from `first` to `last`, or to the end of the log, but no more than `bytes_max` of them (each counts a
    /// little more than its key and value), though always at least one where there is one.
    ///
    /// # Errors
    /// When the file fails, or is damaged where it is read.
    ///
    /// # Panics
    /// When `first` is zero: there is no such entry.
    pub fn read(
        &self,
        first: Offset,
        last: Offset,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, WalError> {
        assert!(first > Offset::ZERO, "the first entry has offset one");
        let last = last.min(self.end().offset);
        let tail_first = self
            .tail
            .front()
            .map_or(self.end().offset.next(), |front| front.entry.version.offset);
        let mut picked = Picked::new(bytes_max);
        if first < tail_first {
            let last_in_file = last.min(tail_first.previous());
            read_file(&self.shared, first, last_in_file, &mut picked)?;
        }
        let skipped = usize::try_from(first.0.saturating_sub(tail_first.0)).unwrap_or(usize::MAX);
        for tailed in self.tail.iter().skip(skipped) {
            if picked.is_full || tailed.entry.version.offset > last {
                break;
            }
            picked.push(tailed.entry.clone());
        }
        Ok(picked.entries)
    }

    fn issue(&mut self, command: Command) {
        self.commands_issued += 1;
        // A writer that has stopped has said so where it reports; nothing becomes durable any more.
        let _ = self.commands.send(command);
    }

    /// Forgets the oldest entries of the tail that are in the file, when there are too many.
    fn evict(&mut self) {
        if self.tail_bytes <= TAIL_BYTES_MAX {
            return;
        }
        let written = self.shared.progress().commands_written;
        while self.tail_bytes > TAIL_BYTES_MAX
            && let Some(first) = self.tail.pop_front_if(|first| first.command <= written)
        {
            self.tail_bytes -= entry_bytes(&first.entry);
        }
    }
}

/// The entries that a read has picked so far.
struct Picked {
    entries: Vec<Entry>,
    bytes_left: usize,
    is_full: bool,
}

impl Picked {
    fn new(bytes_max: usize) -> Self {
        Self {
            entries: Vec::new(),
            bytes_left: bytes_max,
            is_full: false,
        }
    }

    fn push(&mut self, entry: Entry) {
        let bytes = entry_bytes(&entry);
        if bytes > self.bytes_left && !self.entries.is_empty() {
            self.is_full = true;
            return;
        }
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.entries.push(entry);
    }
}

fn entry_bytes(entry: &Entry) -> usize {
    ENTRY_OVERHEAD_BYTES
        + match &entry.operation {
            Operation::EpochStart => 0,
            Operation::Set { key, value } => key.len() + value.len(),
            Operation::Delete { key } => key.len(),
        }
}

/// Reads entries that the writer has written, in stretches: an indexed entry and those that follow it in its file up to
/// the next indexed one. A stretch may be followed in the file by entries that were truncated, which nobody asks for.
fn read_file(
    shared: &Shared,
    first: Offset,
    last: Offset,
    picked: &mut Picked,
) -> Result<(), WalError> {
    let mut wanted = first;
    while wanted <= last && !picked.is_full {
        let (stretch, segment) = shared.progress().stretch(wanted);
        let (mut expected, Place { position, .. }) = stretch.start;
        let stretch_last = stretch.next.map_or(last, |next| next.previous().min(last));
        let mut scanner = Scanner::new(segment.file.as_ref(), position, READ_CHUNK_BYTES)
            .map_err(WalError::io("read"))?;
        while expected <= stretch_last && !picked.is_full {
            let (byte, why) = match scanner.next().map_err(WalError::io("read"))? {
                Scanned::Record { position, record } => match record.entry_version() {
                    None => continue,
                    Some(version) if version.offset == expected => {
                        if expected >= first
                            && let Some(entry) = record.to_entry()
                        {
                            picked.push(entry);
                        }
                        expected = expected.next();
                        continue;
                    }
                    Some(_) => (position, Refusal::Order),
                },
                Scanned::Refused { position, refusal } => (position, refusal),
                Scanned::End { position } => (position, Refusal::Short { needed: 1 }),
            };
            let file = segment.name.clone();
            return Err(WalError::Damaged { file, byte, why });
        }
        wanted = expected;
    }
    Ok(())
}
