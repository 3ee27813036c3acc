//! The files of a log, one after the other: their names, their headers, and how they come into being.
//!
//! ```text
//!  0        8         9       16         24           32            40         48      60      64
//!  | magic  | version | zeros | sequence | epoch of   | offset of   | promised | zeros | crc32 |
//!  | 8 byte | u8      |       | u64      | last entry before: u64s  | u64      |       | of 0..60
//! ```
//!
//! A file is written under another name, synced and then renamed, so under its own name the header is whole. The next one is
//! begun only when all of the one before it is durable; what it says of the log before it must agree with that.

use std::io;
use std::sync::Arc;

use kv_core::{Epoch, Offset, Version};

use super::WalError;
use crate::fs::{File, FileSystem};

/// The bytes of the header; the first record stands behind it.
pub(super) const HEADER_BYTES: u64 = 64;

const MAGIC: &[u8; 8] = b"splitwal";
const VERSION: u8 = 1;
const PREFIX: &str = "wal-";
const UNFINISHED: &str = ".new";
/// The number of the first file of a log.
const FIRST: u64 = 1;

/// What a file says of itself and of the log before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Its number.
    pub(super) sequence: u64,
    /// The last entry of the log before it.
    pub(super) before: Version,
    /// The promise before it.
    pub(super) promised: Epoch,
}

impl Header {
    /// The header of the first file of a log: nothing stands before it.
    const FIRST: Self = Self {
        sequence: FIRST,
        before: Version::ZERO,
        promised: Epoch(0),
    };

    fn encode(self) -> [u8; HEADER_BYTES as usize] {
        let mut bytes = [0; HEADER_BYTES as usize];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = VERSION;
        let numbers = [
            self.sequence,
            self.before.epoch.0,
            self.before.offset.0,
            self.promised.0,
        ];
        for (number, place) in numbers.iter().zip(bytes[16..48].chunks_exact_mut(8)) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header of the file of that name and number.
    fn read(name: &str, sequence: u64, file: &dyn File) -> Result<Self, WalError> {
        let mut bytes = [0; HEADER_BYTES as usize];
        file.read_at(0, &mut bytes).map_err(WalError::io("read"))?;
        let mut numbers = bytes[16..48].chunks_exact(8).map(|number| {
            let number = number.try_into().unwrap_or_default();
            u64::from_le_bytes(number)
        });
        let mut number = || numbers.next().unwrap_or_default();
        let header = Self {
            sequence: number(),
            before: Version::new(Epoch(number()), Offset(number())),
            promised: Epoch(number()),
        };
        if header.encode() == bytes && header.sequence == sequence {
            return Ok(header);
        }
        let crc = crc32fast::hash(&bytes[..60]).to_le_bytes();
        let file = name.to_owned();
        if bytes[..8] == *MAGIC && bytes[8] > VERSION && bytes[60..] == crc {
            let version = bytes[8];
            return Err(WalError::Newer { file, version });
        }
        Err(WalError::Header { file })
    }
}

/// One file of a log.
#[derive(Clone)]
pub(super) struct Segment {
    pub(super) header: Header,
    pub(super) name: String,
    pub(super) file: Arc<dyn File>,
}

/// Opens the files of a log, in order, or begins one. Either way their names are durable afterwards.
pub(super) async fn open_or_begin(file_system: &dyn FileSystem) -> Result<Vec<Segment>, WalError> {
    let Found {
        segments,
        unfinished,
    } = find(file_system)?;
    for file in unfinished {
        file_system.remove(&file).map_err(WalError::io("begin"))?;
    }
    if segments.is_empty() {
        let first = begin(file_system, Header::FIRST).await;
        return Ok(vec![first.map_err(WalError::io("begin"))?]);
    }
    // A process that was killed between a rename and the sync of the names leaves a name that is not durable yet.
    let synced = file_system.sync_names().await;
    synced.map_err(WalError::io("open"))?;
    Ok(segments)
}

/// What there is of a log.
pub(super) struct Found {
    /// Its files, in order.
    pub(super) segments: Vec<Segment>,
    /// Files that were not begun to the end.
    unfinished: Vec<String>,
}

/// Looks for the files of a log, and changes nothing.
pub(super) fn find(file_system: &dyn FileSystem) -> Result<Found, WalError> {
    let (mut sequences, mut unfinished) = (Vec::new(), Vec::new());
    let names = file_system.list("").map_err(WalError::io("find"))?;
    for file in names.into_iter().filter(|name| name.starts_with(PREFIX)) {
        match sequence_of(&file) {
            Some(sequence) => sequences.push(sequence),
            None if file.ends_with(UNFINISHED) => unfinished.push(file),
            None => return Err(WalError::UnknownFile { file }),
        }
    }
    let mut segments = Vec::with_capacity(sequences.len());
    for (expected, sequence) in (FIRST..).zip(sequences) {
        if sequence != expected {
            let file = name_of(expected);
            return Err(WalError::Missing { file });
        }
        let name = name_of(sequence);
        let file = file_system.open(&name).map_err(WalError::io("open"))?;
        let header = Header::read(&name, sequence, file.as_ref())?;
        segments.push(Segment { header, name, file });
    }
    Ok(Found {
        segments,
        unfinished,
    })
}

/// Begins a file. It and its name are durable afterwards.
pub(super) async fn begin(file_system: &dyn FileSystem, header: Header) -> io::Result<Segment> {
    let name = name_of(header.sequence);
    let unfinished = format!("{name}{UNFINISHED}");
    let file = file_system.open(&unfinished)?;
    file.set_len(0)?;
    file.write_at(0, &header.encode())?;
    file.sync().await?;
    file_system.rename(&unfinished, &name)?;
    file_system.sync_names().await?;
    let file = file_system.open(&name)?;
    Ok(Segment { header, name, file })
}

/// Names sort as their numbers do.
fn name_of(sequence: u64) -> String {
    format!("{PREFIX}{sequence:010}")
}

fn sequence_of(name: &str) -> Option<u64> {
    let sequence = name.strip_prefix(PREFIX)?.parse().ok()?;
    (name_of(sequence) == name).then_some(sequence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::memory::MemoryFileSystem;

    async fn refusal(folder: &MemoryFileSystem) -> WalError {
        open_or_begin(folder).await.map(|_| ()).unwrap_err()
    }

    #[tokio::test]
    async fn an_unfinished_file_is_begun_again() {
        let folder = MemoryFileSystem::default();
        let file = folder.open("wal-0000000001.new").unwrap();
        file.write_at(0, &[b'x'; 100]).unwrap();
        let segments = open_or_begin(&folder).await.unwrap();
        assert_eq!(folder.list("").unwrap(), [segments[0].name.clone()]);
        assert_eq!(segments[0].file.len().unwrap(), HEADER_BYTES);
    }

    #[tokio::test]
    async fn a_file_of_a_newer_version_is_refused_as_such() {
        let folder = MemoryFileSystem::default();
        let mut header = Header::FIRST.encode();
        header[8] = 2;
        let crc = crc32fast::hash(&header[..60]);
        header[60..].copy_from_slice(&crc.to_le_bytes());
        let file = folder.open("wal-0000000001").unwrap();
        file.write_at(0, &header).unwrap();
        let error = refusal(&folder).await;
        assert!(matches!(error, WalError::Newer { version: 2, .. }));
    }

    #[tokio::test]
    async fn a_damaged_header_is_named() {
        for bit in 0..HEADER_BYTES * 8 {
            let folder = MemoryFileSystem::default();
            let mut header = Header::FIRST.encode();
            header[(bit / 8) as usize] ^= 1 << (bit % 8);
            let file = folder.open("wal-0000000001").unwrap();
            file.write_at(0, &header).unwrap();
            let error = refusal(&folder).await;
            assert!(matches!(error, WalError::Header { .. }), "{error}");
            assert!(error.to_string().contains("wal-0000000001"));
        }
    }

    #[tokio::test]
    async fn a_file_under_the_name_of_another_is_refused() {
        let folder = MemoryFileSystem::default();
        let first = open_or_begin(&folder).await.unwrap().remove(0);
        let file = folder.open("wal-0000000002").unwrap();
        file.write_at(0, &first.header.encode()).unwrap();
        let error = refusal(&folder).await;
        assert!(matches!(error, WalError::Header { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_log_file_that_is_not_known_is_named() {
        for name in ["wal-2", "wal-0000000002.bak", "wal-x"] {
            let folder = MemoryFileSystem::default();
            folder.open(name).unwrap();
            let error = refusal(&folder).await;
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[tokio::test]
    async fn a_log_file_that_is_missing_is_named() {
        let folder = MemoryFileSystem::default();
        drop(open_or_begin(&folder).await.unwrap());
        for sequence in [2, 4] {
            let header = Header {
                sequence,
                ..Header::FIRST
            };
            begin(&folder, header).await.unwrap();
        }
        let error = refusal(&folder).await;
        assert!(matches!(error, WalError::Missing { .. }), "{error}");
        assert!(error.to_string().contains("wal-0000000003"), "{error}");
    }
}
