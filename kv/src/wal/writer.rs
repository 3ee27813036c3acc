//! The half of the log that waits for the disk: it drains the queue, writes all of it at once, and syncs once.
//!
//! Each batch begins with a mark that says how far the file had been synced before; recovery needs it. A batch is never split: the
//! next file is begun once this one is full, and durable.

use std::io;
use std::sync::Arc;

use kv_core::{Epoch, Offset, Version};
use tokio::sync::mpsc;

use super::record::Record;
use super::recovery::State;
use super::segment::{self, HEADER_BYTES, Header, Segment};
use super::{Command, Options, Shared, WalError};
use crate::fs::FileSystem;

/// No more is taken from the queue for one sync once a batch has this many bytes.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// So many more commands, in the order in which they were issued, are durable now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synced(pub usize);

/// The log task's half. See [`super`].
pub struct LogWriter {
    file_system: Arc<dyn FileSystem>,
    segment_bytes: u64,
    shared: Arc<Shared>,
    commands: mpsc::UnboundedReceiver<Command>,
    /// The file that is being written.
    segment: Segment,
    /// The end of the file; all before it is durable between two batches.
    end: u64,
    /// The last entry and the promise, as the file has them.
    written: (Version, Epoch),
    batch: Batch,
}

/// Commands as bytes, and what the index has to know of them.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
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
        state: &State,
    ) -> Self {
        Self {
            file_system,
            segment_bytes: options.segment_bytes,
            shared,
            commands,
            segment,
            end: state.end,
            written: (state.shape.end(), state.promised),
            batch: Batch::default(),
        }
    }

    /// Writes and syncs until the [`Log`](super::Log) is dropped, and reports each sync. The first failure is reported
    /// too, and ends it for ever: whether a failed sync lost the bytes cannot be known, so it is never tried again.
    pub async fn run(mut self, reports: mpsc::UnboundedSender<Result<Synced, WalError>>) {
        while let Some(command) = self.commands.recv().await {
            let report = self.write_and_sync(command).await;
            let is_over = report.is_err();
            if reports.send(report).is_err() || is_over {
                return;
            }
        }
    }

    async fn write_and_sync(&mut self, first: Command) -> Result<Synced, WalError> {
        if self.end >= self.segment_bytes {
            self.begin_next().await.map_err(WalError::io("begin"))?;
        }
        self.batch.begin(self.end);
        self.add(first);
        while self.batch.bytes.len() < BATCH_BYTES_MAX
            && let Ok(command) = self.commands.try_recv()
        {
            self.add(command);
        }
        let written = self.segment.file.write_at(self.end, &self.batch.bytes);
        written.map_err(WalError::io("write"))?;
        self.publish();
        let synced = self.segment.file.sync().await;
        synced.map_err(WalError::io("sync"))?;
        self.end += self.batch.bytes.len() as u64;
        Ok(Synced(self.batch.commands))
    }

    /// Goes on in another file. All of this one is durable.
    async fn begin_next(&mut self) -> io::Result<()> {
        let (before, promised) = self.written;
        let header = Header {
            sequence: self.segment.header.sequence + 1,
            before,
            promised,
        };
        self.segment = segment::begin(self.file_system.as_ref(), header).await?;
        self.end = HEADER_BYTES;
        let mut progress = self.shared.progress();
        progress.index.on_file(header.sequence);
        progress.segments.push(self.segment.clone());
        Ok(())
    }

    fn add(&mut self, command: Command) {
        let (end, promised) = &mut self.written;
        match &command {
            Command::Append(entries) => {
                *end = entries.last().map_or(*end, |entry| entry.version);
            }
            Command::Truncate(after) => *end = *after,
            Command::Promise(epoch) => *promised = *epoch,
        }
        self.batch.add(self.end, command);
    }

    /// Lets readers find what was written.
    fn publish(&mut self) {
        let mut progress = self.shared.progress();
        for step in self.batch.steps.drain(..) {
            match step {
                Step::Entry(offset, position) => progress.index.on_entry(offset, position),
                Step::Truncate(after) => progress.index.on_truncate(after),
            }
        }
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
