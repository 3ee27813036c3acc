//! The files of a log, one after the other: their names, their headers, and how they come into being.
//!
//! ```text
//!  0       8         9      10      16         24         32         40
//!  | magic | version | kind | zeros | sequence | end of   | promised | offset of the   |
//!  | 8 byte| u8      | u8   |       | u64      | previous | u64      | last entry: u64 |
//!
//!  48        56        64       72       76          80                                  80 + 16 n
//!  | suspect | suspect | runs:  | crc of | crc of    | n runs of the log before:         | records…
//!  | file    | byte    | n, u64 | runs   | all before| epoch u64, first offset u64       |
//! ```
//!
//! The header says what the log has come to before the file, and names all its entries, so that a file can be read when those
//! before it are gone. It also says at which byte the records of the file before it end. There are two kinds:
//! 0. the file goes on from the one before it, which must agree with it;
//! 1. the log is **restarted**: it is what the header says, whatever the files before hold; they are to be removed.
//!
//! A file is written under another name, synced and then renamed, so under its own name the header is whole. The next one is
//! begun only when all of the one before it is durable.

use std::io;
use std::sync::Arc;

use kv_core::{Epoch, Offset};

use super::WalError;
use super::index::Place;
use super::standing::{RUN_BYTES, Standing, decode_runs, encode_runs};
use crate::fs::{File, FileSystem};

/// The folder of the log in the data folder.
pub(super) const FOLDER: &str = "wal";
/// The bytes of the header without the runs.
const HEADER_BYTES: usize = 80;
/// All but the checksum at the end.
const CHECKED_BYTES: usize = HEADER_BYTES - 4;

const MAGIC: &[u8; 8] = b"splitwal";
const VERSION: u8 = 2;
const UNFINISHED: &str = ".new";
/// How the names of files of format 1 begin, which stood at the top of the data folder.
const OLD_PREFIX: &str = "wal-";
/// The number of the first file of a log.
const FIRST: u64 = 1;

const _: () = assert!(HEADER_BYTES.is_multiple_of(super::record::ALIGN_BYTES));
const _: () = assert!(RUN_BYTES.is_multiple_of(super::record::ALIGN_BYTES));

/// What a file says of itself and of the log before it, the runs left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Its number.
    pub(super) sequence: u64,
    /// Whether the files before it are of no matter.
    pub(super) is_restart: bool,
    /// Where the records of the file before it end.
    pub(super) previous_end: u64,
    promised: Epoch,
    /// The last entry before it.
    pub(super) end: Offset,
    suspect: Option<Place>,
    runs: u64,
    runs_crc: u32,
}

impl Header {
    fn new(sequence: u64, kind: Kind, standing: &Standing, runs: &[u8]) -> Self {
        let (is_restart, previous_end) = match kind {
            Kind::Next { previous_end } => (false, previous_end),
            Kind::Restart => (true, 0),
        };
        Self {
            sequence,
            is_restart,
            previous_end,
            promised: standing.promised,
            end: standing.names.end().offset,
            suspect: standing.suspect,
            runs: (runs.len() / RUN_BYTES) as u64,
            runs_crc: crc32fast::hash(runs),
        }
    }

    /// Where the records begin.
    pub(super) fn records_from(&self) -> u64 {
        HEADER_BYTES as u64 + self.runs * RUN_BYTES as u64
    }

    /// Whether a log that has come to this is the one that the header tells of.
    pub(super) fn agrees(&self, standing: &Standing) -> bool {
        let kind = Kind::Next {
            previous_end: self.previous_end,
        };
        let mut told = Self::new(self.sequence, kind, standing, &encode_runs(&standing.names));
        if self.follows_damage() {
            told.suspect = self.suspect;
        }
        told == *self
    }

    /// Whether the file before this one ends where its tail was found damaged.
    pub(super) fn follows_damage(&self) -> bool {
        let place = Place {
            sequence: self.sequence - 1,
            position: self.previous_end,
        };
        self.suspect == Some(place)
    }

    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = VERSION;
        bytes[9] = u8::from(self.is_restart);
        let suspect = self.suspect.unwrap_or(Place {
            sequence: 0,
            position: 0,
        });
        let numbers = [
            self.sequence,
            self.previous_end,
            self.promised.0,
            self.end.0,
            suspect.sequence,
            suspect.position,
            self.runs,
        ];
        for (number, place) in numbers.iter().zip(bytes[16..72].chunks_exact_mut(8)) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes[72..76].copy_from_slice(&self.runs_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..CHECKED_BYTES]);
        bytes[CHECKED_BYTES..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let mut numbers = bytes[16..72].chunks_exact(8).map(|number| {
            let number = number.try_into().unwrap_or_default();
            u64::from_le_bytes(number)
        });
        let mut number = || numbers.next().unwrap_or_default();
        let header = Self {
            sequence: number(),
            is_restart: bytes[9] == 1,
            previous_end: number(),
            promised: Epoch(number()),
            end: Offset(number()),
            suspect: Some(Place {
                sequence: number(),
                position: number(),
            })
            .filter(|place| place.sequence > 0),
            runs: number(),
            runs_crc: u32::from_le_bytes([bytes[72], bytes[73], bytes[74], bytes[75]]),
        };
        (header.encode() == *bytes).then_some(header)
    }
}

/// How a file relates to the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It goes on where that one's records end.
    Next { previous_end: u64 },
    /// The log is restarted.
    Restart,
}

/// One file of a log.
#[derive(Clone)]
pub(super) struct Segment {
    pub(super) header: Header,
    pub(super) name: String,
    pub(super) file: Arc<dyn File>,
}

/// Reads the header of the file of that name and number, and what the log has come to before it.
fn read_header(name: &str, sequence: u64, file: &dyn File) -> Result<(Header, Standing), WalError> {
    let damaged = || WalError::Header {
        file: name.to_owned(),
    };
    let mut bytes = [0; HEADER_BYTES];
    let read = WalError::io("read");
    let count = file.read_at(0, &mut bytes).map_err(read)?;
    if let Some(version) = other_version(&bytes) {
        let file = name.to_owned();
        return Err(WalError::Version { file, version });
    }
    let header = Header::decode(&bytes).filter(|header| header.sequence == sequence);
    let header = header
        .filter(|_| count == HEADER_BYTES)
        .ok_or_else(damaged)?;
    let len = file.len().map_err(WalError::io("read"))?;
    // What is allocated is bounded by the file.
    if header.runs > (len - HEADER_BYTES as u64) / RUN_BYTES as u64 {
        return Err(damaged());
    }
    let mut runs = vec![0; header.runs as usize * RUN_BYTES];
    let read = WalError::io("read");
    file.read_at(HEADER_BYTES as u64, &mut runs).map_err(read)?;
    let is_intact = crc32fast::hash(&runs) == header.runs_crc;
    let names = is_intact.then(|| decode_runs(&runs, header.end)).flatten();
    let standing = Standing {
        promised: header.promised,
        names: names.ok_or_else(damaged)?,
        suspect: header.suspect,
    };
    Ok((header, standing))
}

/// The version of a header that is whole, and not of this version.
fn other_version(bytes: &[u8; HEADER_BYTES]) -> Option<u8> {
    // The header of format 1 was shorter.
    let checked = if bytes[8] == 1 { 60 } else { CHECKED_BYTES };
    let crc = crc32fast::hash(&bytes[..checked]).to_le_bytes();
    let is_whole = bytes[..8] == *MAGIC && bytes[checked..checked + 4] == crc;
    (is_whole && bytes[8] != VERSION).then_some(bytes[8])
}

/// What there is of a log.
#[derive(Default)]
pub(super) struct Found {
    /// The files that matter, in order.
    pub(super) segments: Vec<Segment>,
    /// What the log has come to before the first of them.
    pub(super) standing: Standing,
    /// The names of files from before the log was restarted, in order.
    pub(super) outdated: Vec<String>,
    /// The names of files that were not begun to the end.
    pub(super) unfinished: Vec<String>,
}

/// Looks for the files of a log, and changes nothing.
pub(super) fn find(file_system: &dyn FileSystem) -> Result<Found, WalError> {
    let top = file_system.list("").map_err(WalError::io("find"))?;
    if let Some(file) = top.into_iter().find(|name| name.starts_with(OLD_PREFIX)) {
        return Err(WalError::UnknownFile { file });
    }
    let (mut sequences, mut found) = (Vec::new(), Found::default());
    for file in file_system.list(FOLDER).map_err(WalError::io("find"))? {
        let name = format!("{FOLDER}/{file}");
        match sequence_of(&file) {
            Some(sequence) => sequences.push(sequence),
            None if file.ends_with(UNFINISHED) => found.unfinished.push(name),
            None => return Err(WalError::UnknownFile { file: name }),
        }
    }
    // From the last one back to the first, or to the one that restarted the log.
    let mut after = None;
    while let Some(sequence) = sequences.pop() {
        if let Some(missing) = after.filter(|after| sequence + 1 < *after) {
            let file = name_of(missing - 1);
            return Err(WalError::Missing { file });
        }
        let name = name_of(sequence);
        let file = file_system.open(&name).map_err(WalError::io("open"))?;
        let (header, standing) = read_header(&name, sequence, file.as_ref())?;
        found.standing = standing;
        let segment = Segment { header, name, file };
        found.segments.push(segment);
        if header.is_restart {
            break;
        }
        after = Some(sequence);
    }
    found.segments.reverse();
    found.outdated = sequences.into_iter().map(name_of).collect();
    Ok(found)
}

/// The names of the files of a log, whatever is in them.
pub(super) fn names(file_system: &dyn FileSystem) -> io::Result<Vec<String>> {
    let mut files = file_system.list(FOLDER)?;
    files.retain(|file| sequence_of(file).is_some());
    Ok(files)
}

/// Begins the first file of a log.
pub(super) async fn begin_first(file_system: &dyn FileSystem) -> io::Result<Segment> {
    let kind = Kind::Next { previous_end: 0 };
    begin(file_system, FIRST, kind, &Standing::default()).await
}

/// Begins a file. It and its name are durable afterwards.
pub(super) async fn begin(
    file_system: &dyn FileSystem,
    sequence: u64,
    kind: Kind,
    standing: &Standing,
) -> io::Result<Segment> {
    let runs = encode_runs(&standing.names);
    let header = Header::new(sequence, kind, standing, &runs);
    let name = name_of(sequence);
    write_whole(file_system, &name, |file| {
        file.write_at(0, &header.encode())?;
        file.write_at(HEADER_BYTES as u64, &runs)
    })
    .await?;
    let file = file_system.open(&name)?;
    Ok(Segment { header, name, file })
}

/// Writes a file that is there whole or not at all. It and its name are durable afterwards.
pub(super) async fn write_whole(
    file_system: &dyn FileSystem,
    name: &str,
    write: impl FnOnce(&dyn File) -> io::Result<()>,
) -> io::Result<()> {
    let unfinished = format!("{name}{UNFINISHED}");
    let file = file_system.open(&unfinished)?;
    file.set_len(0)?;
    write(file.as_ref())?;
    file.sync().await?;
    file_system.rename(&unfinished, name)?;
    file_system.sync_names().await
}

/// Removes files, each for certain before the next, so that a crash leaves no gap among those that are left.
pub(super) async fn remove(file_system: &dyn FileSystem, names: &[String]) -> io::Result<()> {
    for name in names {
        file_system.remove(name)?;
        file_system.sync_names().await?;
    }
    Ok(())
}

/// Names sort as their numbers do.
pub(super) fn name_of(sequence: u64) -> String {
    format!("{FOLDER}/{sequence:010}")
}

/// The name of the first file of a log.
pub(super) fn first_name() -> String {
    name_of(FIRST)
}

pub(super) fn sequence_of(file: &str) -> Option<u64> {
    let sequence = file.parse().ok().filter(|sequence| *sequence >= FIRST)?;
    (format!("{sequence:010}") == file).then_some(sequence)
}

#[cfg(test)]
mod tests {
    use kv_core::Log as Shape;

    use super::*;
    use crate::fs::memory::MemoryFileSystem;

    const NEXT: Kind = Kind::Next { previous_end: 80 };

    /// A log of two runs.
    fn standing() -> Standing {
        let run = |epoch, first, last| (Epoch(epoch), Offset(first), Offset(last));
        Standing {
            promised: Epoch(4),
            names: Shape::from_runs(&[run(1, 1, 3), run(3, 4, 5)]),
            suspect: Some(Place {
                sequence: 1,
                position: 80,
            }),
        }
    }

    /// A folder with files of those numbers.
    async fn folder(sequences: &[u64]) -> MemoryFileSystem {
        let folder = MemoryFileSystem::default();
        for &sequence in sequences {
            begin(&folder, sequence, NEXT, &standing()).await.unwrap();
        }
        folder
    }

    fn refusal(folder: &MemoryFileSystem) -> WalError {
        find(folder).map(|_| ()).unwrap_err()
    }

    fn content(folder: &MemoryFileSystem, name: &str) -> Vec<u8> {
        let file = folder.open(name).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(0, &mut bytes).unwrap();
        bytes
    }

    #[tokio::test]
    async fn a_file_says_what_the_log_has_come_to() {
        let folder = folder(&[7]).await;
        let found = find(&folder).unwrap();
        assert_eq!(found.standing, standing());
        let header = found.segments[0].header;
        assert!(header.agrees(&standing()));
        assert_eq!((header.sequence, header.previous_end), (7, 80));
        assert_eq!(
            header.records_from(),
            content(&folder, "wal/0000000007").len() as u64
        );
        for other in [
            Standing {
                promised: Epoch(5),
                ..standing()
            },
            Standing {
                names: Shape::default(),
                ..standing()
            },
            Standing {
                suspect: None,
                ..standing()
            },
        ] {
            assert!(!header.agrees(&other));
        }
    }

    #[tokio::test]
    async fn files_from_before_a_restart_do_not_matter() {
        let folder = folder(&[1, 2, 5]).await;
        begin(&folder, 6, Kind::Restart, &standing()).await.unwrap();
        begin(&folder, 7, NEXT, &standing()).await.unwrap();
        // Not even if they are damaged.
        folder.open("wal/0000000005").unwrap().set_len(10).unwrap();
        let found = find(&folder).unwrap();
        let names: Vec<_> = found.segments.iter().map(|segment| &segment.name).collect();
        assert_eq!(names, ["wal/0000000006", "wal/0000000007"]);
        assert_eq!(found.outdated, [1, 2, 5].map(name_of));
    }

    #[tokio::test]
    async fn leading_files_may_be_gone_and_others_may_not() {
        let found = find(&folder(&[3, 4, 5]).await).unwrap();
        assert_eq!(found.segments.len(), 3);
        for sequences in [&[3, 5][..], &[1, 3, 5, 6], &[1, 2, 5, 6]] {
            let error = refusal(&folder(sequences).await);
            assert!(matches!(error, WalError::Missing { .. }), "{error}");
            assert!(error.to_string().contains("wal/0000000004"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_file_of_another_version_is_refused_as_such() {
        for (version, checked) in [(1, 60), (3, 76)] {
            let folder = folder(&[1]).await;
            let mut header = content(&folder, "wal/0000000001");
            header[8] = version;
            let crc = crc32fast::hash(&header[..checked]);
            header[checked..checked + 4].copy_from_slice(&crc.to_le_bytes());
            let file = folder.open("wal/0000000001").unwrap();
            file.write_at(0, &header).unwrap();
            let error = refusal(&folder);
            let is_named = |named: u8| named == version;
            assert!(matches!(error, WalError::Version { version, .. } if is_named(version)));
        }
    }

    #[tokio::test]
    async fn a_damaged_header_is_named_whichever_bit_it_is() {
        let folder = folder(&[1]).await;
        let whole = content(&folder, "wal/0000000001");
        let file = folder.open("wal/0000000001").unwrap();
        for bit in 0..whole.len() * 8 {
            let mut header = whole.clone();
            header[bit / 8] ^= 1 << (bit % 8);
            file.write_at(0, &header).unwrap();
            let error = refusal(&folder);
            assert!(matches!(error, WalError::Header { .. }), "{error}");
            assert!(error.to_string().contains("wal/0000000001"));
        }
        for len in 0..whole.len() {
            file.write_at(0, &whole).unwrap();
            file.set_len(len as u64).unwrap();
            let error = refusal(&folder);
            assert!(matches!(error, WalError::Header { .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn a_file_under_the_name_of_another_is_refused() {
        let folder = folder(&[1]).await;
        let header = content(&folder, "wal/0000000001");
        let file = folder.open("wal/0000000002").unwrap();
        file.write_at(0, &header).unwrap();
        let error = refusal(&folder);
        assert!(matches!(error, WalError::Header { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_log_file_that_is_not_known_is_named() {
        for name in [
            "wal/2",
            "wal/0000000002.bak",
            "wal/x",
            "wal/0000000000",
            "wal-0000000001",
        ] {
            let folder = folder(&[1]).await;
            folder.open(name).unwrap();
            let error = refusal(&folder);
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[tokio::test]
    async fn a_log_of_very_many_epochs_goes_into_a_header() {
        let runs = (1..=1_000_000).map(|number| (Epoch(number), Offset(number), Offset(number)));
        let names = Shape::from_runs(&runs.collect::<Vec<_>>());
        let folder = MemoryFileSystem::default();
        let standing = Standing {
            names,
            ..Standing::default()
        };
        begin(&folder, 1, Kind::Restart, &standing).await.unwrap();
        assert!(find(&folder).unwrap().standing == standing);
        // A header that promises more than the file has allocates nothing.
        let file = folder.open("wal/0000000001").unwrap();
        file.set_len(1000).unwrap();
        assert!(matches!(refusal(&folder), WalError::Header { .. }));
    }
}
