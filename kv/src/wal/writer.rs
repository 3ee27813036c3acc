//! The half of the log that waits for the disk: it drains the queue, writes all of it at once, and syncs once.
//!
//! Each batch begins with a mark that says how far the file had been synced before; recovery needs it.

use std::sync::Arc;

use kv_core::Offset;
use tokio::sync::mpsc;

use super::record::Record;
use super::{Command, Shared, WalError};

/// No more is taken from the queue for one sync once a batch has this many bytes.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// So many more commands, in the order in which they were issued, are durable now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synced(pub usize);

/// The log task's half. See [`super`].
pub struct LogWriter {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedReceiver<Command>,
    /// The end of the file; all before it is durable between two batches.
    end: u64,
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
        shared: Arc<Shared>,
        commands: mpsc::UnboundedReceiver<Command>,
        end: u64,
    ) -> Self {
        Self {
            shared,
            commands,
            end,
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
        self.batch.begin(self.end);
        self.batch.add(self.end, first);
        while self.batch.bytes.len() < BATCH_BYTES_MAX
            && let Ok(command) = self.commands.try_recv()
        {
            self.batch.add(self.end, command);
        }
        let written = self.shared.file.write_at(self.end, &self.batch.bytes);
        written.map_err(WalError::io("write"))?;
        self.publish();
        let synced = self.shared.file.sync().await;
        synced.map_err(WalError::io("sync"))?;
        self.end += self.batch.bytes.len() as u64;
        Ok(Synced(self.batch.commands))
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
