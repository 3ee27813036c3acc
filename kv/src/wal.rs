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
//! written again (but for zeros that were written ahead), old bytes never stand behind new ones, a reader needs no lock, and one sync covers entries and promise
//! together, in the order in which they were asked for. When a file is full the log goes on in another one (`segment.rs`).
//!
//! ```text
//!              dropped   │          there           │ not written yet
//!   names     ●●●●●●●●●●●│●●●●●●●●●●●●●●●●●●●●●●●●●●│●●●●●●●●●●●●●●●●      all of them are known, from the first on
//!   bytes                │●●●●●●●●●●●●●●●●●●●●●●●●●●│●●●● (in memory)
//!                        └ first                                └ end
//! ```
//!
//! The log need not keep what the engine holds durably: the **checkpoint**. Leading files whose entries are all in it may be
//! dropped ([`Log::trim`]), and when a snapshot was installed that is ahead of the log, the log goes on behind it
//! ([`Log::restart`]). The names stay known, since the protocol compares logs by names.
//!
//! Recovery (`recovery.rs`) reads by R21 (`kv_core::follows`), and the log's shape is the replica's own type. `judge.rs` says how a torn
//! tail is told from damage.
//!
//! After a failed write or sync the writer stops for ever and the log must be opened again.

use std::collections::VecDeque;
use std::sync::Arc;

use kv_core::{Entry, Epoch, Log as Shape, Offset, Version};
use tokio::sync::mpsc;

use crate::fs::FileSystem;

mod error;
mod index;
pub mod inspection;
mod judge;
pub mod noise;
mod progress;
mod read;
pub mod record;
mod recovery;
pub mod repair;
mod scan;
mod segment;
mod standing;
mod writer;

pub use error::WalError;
pub(crate) use standing::{RUN_BYTES, decode_runs, encode_runs};
pub use writer::{LogWriter, Synced};

use progress::{Progress, Shared};
use read::{Picked, entry_bytes, read_files};
use recovery::Tail;

/// How many bytes of entries that are already in the file stay in memory too.
const TAIL_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What can be chosen about a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A file that has so many bytes is full: the next batch goes into another one.
    pub segment_bytes: u64,
    /// How far ahead small batches write zeros, so that the syncs of those after them change no length and wait for the disk only, not
    /// for the file system's journal. Zero: never.
    pub preallocate_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
            preallocate_bytes: 1024 * 1024,
        }
    }
}

/// What the log held when it was opened. All of it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The highest promised epoch; zero before the first promise.
    pub promised: Epoch,
    /// The names of the entries, from the first one on.
    pub log: Shape,
    /// The first entry whose bytes are there; the one after the last if there is none.
    pub first: Offset,
    /// Where a torn tail that was never synced was cut off: file and byte.
    pub cut: Option<(String, u64)>,
    /// Where a tail was found damaged that may have been synced, now or in an earlier life: file and byte. Until the node has again all
    /// that it may have lost, promises included, it must not count in any quorum; then [`Log::declare_whole`] takes it back.
    pub suspect: Option<(String, u64)>,
}

/// Opens the log of a data folder, or begins one. `checkpoint` has the names of the log up to what the engine holds durably; it
/// is empty if the engine holds nothing. If the log does not hold its end, it is restarted there.
///
/// The writer does nothing until its [`run`](LogWriter::run) is polled.
///
/// # Errors
/// When the folder fails, the log is damaged before its tail, or entries are missing between the checkpoint and the log; then the node
/// must not serve.
pub async fn open(
    file_system: &Arc<dyn FileSystem>,
    options: Options,
    checkpoint: &Shape,
) -> Result<(Log, LogWriter, Recovered), WalError> {
    let (state, segments) = recovery::recover(file_system.as_ref(), checkpoint).await?;
    let last = segments.last().expect("a log has a file").clone();
    let named = |place: index::Place| (segment::name_of(place.sequence), place.position);
    let recovered = Recovered {
        promised: state.standing.promised,
        log: state.standing.names.clone(),
        first: state.first,
        cut: Some((last.name.clone(), state.end)).filter(|_| state.tail == Tail::Torn),
        suspect: state.standing.suspect.map(named),
    };
    let shared = Arc::new(Shared::default());
    let (sender, commands) = mpsc::unbounded_channel();
    let log = Log {
        shared: shared.clone(),
        commands: sender,
        commands_issued: 0,
        restarted_by: 0,
        promised: recovered.promised,
        shape: recovered.log.clone(),
        first: recovered.first,
        tail: VecDeque::new(),
        tail_bytes: 0,
    };
    *shared.progress() = Progress {
        index: state.index,
        segments,
        end: state.end,
        last: recovered.log.end().offset,
        commands_written: 0,
    };
    let file_system = Arc::clone(file_system);
    let (end, standing) = (state.end, state.standing);
    let writer = LogWriter::new(file_system, options, shared, commands, last, end, standing)?;
    Ok((log, writer, recovered))
}

/// The names of the log's files; those that were not begun to the end are none.
///
/// # Errors
/// When the folder fails.
pub fn names(file_system: &dyn FileSystem) -> Result<Vec<String>, WalError> {
    segment::names(file_system).map_err(WalError::io("find"))
}

/// Begins a log with nothing in it, where there is none.
///
/// # Errors
/// When the folder fails.
pub async fn begin(file_system: &dyn FileSystem) -> Result<(), WalError> {
    let begun = segment::begin_first(file_system).await;
    begun.map(drop).map_err(WalError::io("begin"))
}

/// What goes from the driver's half to the writer's.
#[derive(Debug)]
enum Command {
    Append(Vec<Entry>),
    Truncate(Version),
    Promise(Epoch),
    Restart(Shape),
    Whole,
    /// Removes files that the log has let go of.
    Remove(Vec<String>),
}

/// The driver's half: cheap and synchronous, and ahead of the disk.
pub struct Log {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
    /// Of those that are counted.
    commands_issued: u64,
    /// The number of the last restart.
    restarted_by: u64,
    promised: Epoch,
    shape: Shape,
    /// The first entry that can be read.
    first: Offset,
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
        self.first = self.first.min(after.next());
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

    /// The log is exactly these names from now on, without the bytes of any entry: a snapshot was installed that holds them
    /// durably. The promise stays. [`Synced`] counts this as one command; when it is durable, all older files go.
    pub fn restart(&mut self, names: Shape) {
        self.shape = names;
        self.first = self.end().offset.next();
        self.tail.clear();
        self.tail_bytes = 0;
        self.issue(Command::Restart(self.shape.clone()));
        self.restarted_by = self.commands_issued;
    }

    /// Lets go of entries up to `upto`, which the engine holds durably: as many as fill leading files to their ends, perhaps none.
    /// They cannot be read any more, and the files are removed in a while; [`Synced`] does not count it.
    pub fn trim(&mut self, upto: Offset) {
        let mut progress = self.shared.progress();
        if progress.commands_written < self.restarted_by {
            return; // All that was written is on its way out.
        }
        let Some((files, first)) = progress.drop_upto(upto) else {
            return;
        };
        drop(progress);
        self.first = self.first.max(first.min(self.end().offset.next()));
        let _ = self.commands.send(Command::Remove(files));
    }

    /// What the log may have lost in a damaged tail, it has again: it is no longer suspect. [`Synced`] does not count it; if it is
    /// lost in a crash, the node asks its peers once more.
    pub fn declare_whole(&mut self) {
        let _ = self.commands.send(Command::Whole);
    }

    /// The first entry that can be read; the one after the last if there is none.
    #[must_use]
    pub fn first(&self) -> Offset {
        self.first
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

    /// The size of the log's files; what is written ahead does not count.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.progress().bytes()
    }

    /// About how many bytes the files have from an entry on: what it costs to keep it and all after it.
    #[must_use]
    pub fn bytes_from(&self, offset: Offset) -> u64 {
        self.shared.progress().bytes_from(offset)
    }

    /// The entries from `first` to `last`, or to the end of the log, but no more than `bytes_max` of them (each counts a
    /// little more than its key and value), though always at least one where there is one.
    ///
    /// # Errors
    /// When the file fails, or is damaged where it is read.
    ///
    /// # Panics
    /// When `first` is before [`Log::first`], or zero: there is no such entry.
    pub fn read(
        &self,
        first: Offset,
        last: Offset,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, WalError> {
        assert!(first > Offset::ZERO, "the first entry has offset one");
        assert!(first >= self.first, "only what is there can be read");
        let last = last.min(self.end().offset);
        let tail_first = self
            .tail
            .front()
            .map_or(self.end().offset.next(), |front| front.entry.version.offset);
        let mut picked = Picked::new(bytes_max);
        if first < tail_first {
            let last_in_file = last.min(tail_first.previous());
            read_files(&self.shared, first, last_in_file, &mut picked)?;
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
