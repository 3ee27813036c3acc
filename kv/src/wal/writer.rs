//! The half of the log that waits for the disk: it drains the queue, writes all of it at once, and syncs once.
//!
//! Each batch begins with a mark that says how far the file had been synced before; recovery needs it. A batch is never split: the
//! next file is begun once this one is full, and durable.
//!
//! A sync that must make a new length durable waits for the file system's journal, which costs more than the batch if that is small, and much
//! more if others use the disk. So a small batch that reaches the end of the file takes zeros along, and those after it are written over them.

use std::io;
use std::sync::Arc;

use kv_core::{Log as Shape, Offset};
use tokio::sync::mpsc;

use super::progress::Shared;
use super::record::Record;
use super::segment::{self, Kind, Segment};
use super::standing::Standing;
use super::{Command, Options, WalError, noise};
use crate::fs::FileSystem;

/// No more is taken from the queue for one sync once a batch has this many bytes.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A batch is small if it is so many times smaller than what is written ahead; a large one would pay more for the zeros than they save.
const SMALL: u64 = 8;

/// So many more commands, in the order in which they were issued, are durable now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synced(pub usize);

/// The log task's half. See [`super`].
pub struct LogWriter {
    file_system: Arc<dyn FileSystem>,
    options: Options,
    shared: Arc<Shared>,
    commands: mpsc::UnboundedReceiver<Command>,
    /// A command that comes before those in the queue.
    next: Option<Command>,
    /// The file that is being written.
    segment: Segment,
    /// The end of its records; all before it is durable between two batches.
    end: u64,
    /// The end of the file. Zeros stand in between.
    allocated: u64,
    /// What the log has come to, as the files have it.
    written: Standing,
    batch: Batch,
}

/// Commands as bytes, and what the index has to know of them.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// How many of them are reported.
    commands: usize,
    steps: Vec<Step>,
}

enum Step {
    Entry(Offset, u64),
    Truncate(Offset),
}

impl LogWriter {
    pub(super) fn new(
        file_system: Arc<dyn FileSystem>,
        options: Options,
        shared: Arc<Shared>,
        commands: mpsc::UnboundedReceiver<Command>,
        segment: Segment,
        end: u64,
        written: Standing,
    ) -> Result<Self, WalError> {
        Ok(Self {
            file_system,
            options,
            shared,
            commands,
            next: None,
            allocated: segment.file.len().map_err(WalError::io("open"))?,
            segment,
            end,
            written,
            batch: Batch::default(),
        })
    }

    /// Writes and syncs until the [`Log`](super::Log) is dropped, and reports each sync. The first failure is reported
    /// too, and ends it for ever: whether a failed sync lost the bytes cannot be known, so it is never tried again.
    pub async fn run(mut self, reports: mpsc::UnboundedSender<Result<Synced, WalError>>) {
        loop {
            let command = match self.next.take() {
                Some(command) => command,
                None => match self.commands.recv().await {
                    Some(command) => command,
                    None => return,
                },
            };
            let report = self.perform(command).await;
            let is_over = report.is_err();
            if matches!(report, Ok(Synced(0))) {
                continue;
            }
            if reports.send(report).is_err() || is_over {
                return;
            }
        }
    }

    async fn perform(&mut self, command: Command) -> Result<Synced, WalError> {
        match command {
            Command::Restart(names) => {
                let restarted = self.restart(names).await;
                restarted.map_err(WalError::io("restart"))?;
                Ok(Synced(1))
            }
            Command::Remove(files) => {
                let removed = segment::remove(self.file_system.as_ref(), &files).await;
                removed.map_err(WalError::io("drop"))?;
                Ok(Synced(0))
            }
            command => self.write_and_sync(command).await,
        }
    }

    async fn write_and_sync(&mut self, first: Command) -> Result<Synced, WalError> {
        if self.end >= self.full_from() {
            self.begin_next().await.map_err(WalError::io("begin"))?;
        }
        self.batch.begin(self.end);
        self.add(first);
        while self.batch.bytes.len() < BATCH_BYTES_MAX
            && let Ok(command) = self.commands.try_recv()
        {
            if matches!(command, Command::Restart(_) | Command::Remove(_)) {
                self.next = Some(command);
                break;
            }
            self.add(command);
        }
        noise::apply(self.end, &mut self.batch.bytes);
        let batch_end = self.end + self.batch.bytes.len() as u64;
        self.allocate(batch_end);
        let written = self.segment.file.write_at(self.end, &self.batch.bytes);
        written.map_err(WalError::io("write"))?;
        self.publish(batch_end);
        let synced = self.segment.file.sync().await;
        synced.map_err(WalError::io("sync"))?;
        self.end = batch_end;
        Ok(Synced(self.batch.commands))
    }

    /// Where the file is full.
    fn full_from(&self) -> u64 {
        self.segment.header.records_from() + self.options.segment_bytes
    }

    /// Lets a small batch take zeros along, if it reaches the end of the file.
    fn allocate(&mut self, batch_end: u64) {
        if batch_end <= self.allocated {
            return;
        }
        self.allocated = batch_end;
        let ahead = self.options.preallocate_bytes;
        if (batch_end - self.end).saturating_mul(SMALL) <= ahead {
            self.allocated = (batch_end + ahead).min(self.full_from()).max(batch_end);
            let bytes = (self.allocated - self.end) as usize;
            self.batch.bytes.resize(bytes, 0);
        }
    }

    /// Goes on in another file. All of this one is durable.
    async fn begin_next(&mut self) -> io::Result<()> {
        let previous_end = self.end;
        if self.allocated > self.end {
            self.segment.file.set_len(self.end)?;
            self.segment.file.sync().await?;
        }
        self.begin(Kind::Next { previous_end }).await?;
        self.shared.progress().on_file(self.segment.clone());
        Ok(())
    }

    /// Goes on with other names in another file, and then without the older ones.
    async fn restart(&mut self, names: Shape) -> io::Result<()> {
        self.written.names = names;
        self.begin(Kind::Restart).await?;
        let mut progress = self.shared.progress();
        let old = progress.segments.drain(..).map(|segment| segment.name);
        self.next = Some(Command::Remove(old.collect()));
        progress.index.clear();
        progress.on_file(self.segment.clone());
        progress.last = self.written.names.end().offset;
        progress.commands_written += 1;
        Ok(())
    }

    async fn begin(&mut self, kind: Kind) -> io::Result<()> {
        let sequence = self.segment.header.sequence + 1;
        let file_system = self.file_system.as_ref();
        self.segment = segment::begin(file_system, sequence, kind, &self.written).await?;
        self.end = self.segment.header.records_from();
        self.allocated = self.end;
        Ok(())
    }

    fn add(&mut self, command: Command) {
        let Standing {
            promised,
            names,
            suspect,
        } = &mut self.written;
        match &command {
            Command::Append(entries) => {
                for entry in entries {
                    names.append(entry.version);
                }
            }
            Command::Truncate(end) => names.truncate(end.offset),
            Command::Promise(epoch) => *promised = *epoch,
            Command::Whole => *suspect = None,
            Command::Restart(_) | Command::Remove(_) => {}
        }
        self.batch.add(self.end, command);
    }

    /// Lets readers find what was written.
    fn publish(&mut self, batch_end: u64) {
        let mut progress = self.shared.progress();
        for step in self.batch.steps.drain(..) {
            match step {
                Step::Entry(offset, position) => progress.index.on_entry(offset, position),
                Step::Truncate(after) => progress.index.on_truncate(after),
            }
        }
        progress.end = batch_end;
        progress.last = self.written.names.end().offset;
        progress.commands_written += self.batch.commands as u64;
    }
}

impl Batch {
    fn begin(&mut self, end: u64) {
        self.bytes.clear();
        self.steps.clear();
        self.commands = 0;
        Record::SyncMark(end).encode(end, &mut self.bytes);
    }

    /// Adds a command to a batch that begins at `start`.
    fn add(&mut self, start: u64, command: Command) {
        match command {
            Command::Append(entries) => {
                for entry in &entries {
                    let position = self.push(start, &Record::of(entry));
                    self.steps.push(Step::Entry(entry.version.offset, position));
                }
            }
            Command::Truncate(end) => {
                self.push(start, &Record::Truncate(end));
                self.steps.push(Step::Truncate(end.offset));
            }
            Command::Promise(epoch) => {
                self.push(start, &Record::Promise(epoch));
            }
            Command::Whole => {
                self.push(start, &Record::Whole);
                return; // Nobody waits for it.
            }
            Command::Restart(_) | Command::Remove(_) => unreachable!("they are no records"),
        }
        self.commands += 1;
    }

    /// Adds a record; returns its position in the file.
    fn push(&mut self, start: u64, record: &Record<'_>) -> u64 {
        let position = start + self.bytes.len() as u64;
        record.encode(position, &mut self.bytes);
        position
    }
}
