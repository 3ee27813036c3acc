//! Reading entries that the writer has written, while it goes on writing.

use kv_core::{Entry, Offset, Operation};

use super::index::Place;
use super::record::Refusal;
use super::scan::{Scanned, Scanner};
use super::{Shared, WalError};

/// How much is read from the file at once to serve a reader.
const READ_CHUNK_BYTES: usize = 64 * 1024;
/// What an entry is counted for beside its key and value.
const ENTRY_OVERHEAD_BYTES: usize = 32;

/// The entries that a read has picked so far.
pub(super) struct Picked {
    pub(super) entries: Vec<Entry>,
    pub(super) is_full: bool,
    bytes_left: usize,
}

impl Picked {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            entries: Vec::new(),
            is_full: false,
            bytes_left: bytes_max,
        }
    }

    pub(super) fn push(&mut self, entry: Entry) {
        let bytes = entry_bytes(&entry);
        if bytes > self.bytes_left && !self.entries.is_empty() {
            self.is_full = true;
            return;
        }
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.entries.push(entry);
    }
}

/// What an entry is counted for.
pub(super) fn entry_bytes(entry: &Entry) -> usize {
    ENTRY_OVERHEAD_BYTES
        + match &entry.operation {
            Operation::EpochStart => 0,
            Operation::Set { key, value } => key.len() + value.len(),
            Operation::Delete { key } => key.len(),
        }
}

/// Reads entries that the writer has written, in stretches: an indexed entry and those that follow it in its file up to
/// the next indexed one. A stretch may be followed in the file by entries that were truncated, which nobody asks for.
pub(super) fn read_files(
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
                Scanned::Record {
                    position, record, ..
                } => match record.entry_version() {
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
