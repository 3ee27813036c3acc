//! A store as one file: what a member sends to another that is too far behind for the log.
//!
//! ```text
//!  | magic   | version | epoch, offset | frame ... | frame of no pairs | pairs u64 | crc32 of 0..here |
//!  | 8 bytes | u8      | u64, u64      |
//!
//!  frame:  | length u32 | crc32 of the rest | pairs: key length u32, value length u32, key, value ... |
//! ```
//!
//! The pairs are the engine's own, all of them and in order: rows, remembered deletes and the position. An engine changes only at a
//! checkpoint, so a file that is written between two of them is the store at one position. Every frame has a checksum, and so has the
//! whole: whoever got a part of another file notices. Reading is total and allocates no more than the file has.

use std::io;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use kv_core::{Epoch, Offset, Version};

use super::generation::Generation;
use super::rows::{self, Position};
use super::{SCAN_BYTES, StoreError};
use crate::engine::{self, Change, Engine};
use crate::fs::{File, FileSystem};

const MAGIC: &[u8; 8] = b"splitsnp";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 25;
const FRAME_HEAD_BYTES: usize = 8;
const PAIR_HEAD_BYTES: usize = 8;
const FOOTER_BYTES: usize = 12;
/// No frame is longer: a scan's bytes, one pair above, and the lengths.
const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How much is loaded into an engine at once.
const LOAD_BYTES: usize = 8 * 1024 * 1024;

/// A snapshot that lies in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The last entry that it covers.
    pub at: Version,
    /// Its file.
    pub name: String,
    /// The size in bytes.
    pub bytes: u64,
}

/// How much of a snapshot goes into one message.
const CHUNK_BYTES: usize = 512 * 1024;

/// The part of a snapshot that goes into one message: what stands in its file from `position` on; nothing behind its end.
///
/// # Errors
/// When the file cannot be read.
pub fn chunk(file: &dyn File, position: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; CHUNK_BYTES];
    let count = file.read_at(position, &mut bytes)?;
    bytes.truncate(count);
    Ok(bytes.into())
}

/// Writes what an engine holds to a file, durably but for its name. Nobody may write to the engine meanwhile.
///
/// # Errors
/// When the engine or the file fails.
pub fn write(
    engine: &dyn Engine,
    file_system: &dyn FileSystem,
    name_of: impl Fn(Version) -> String,
) -> Result<Snapshot, StoreError> {
    let failed = || StoreError::io("write a snapshot");
    let at = rows::position(engine)?.names.end();
    let name = name_of(at);
    let file = file_system.open(&name).map_err(failed())?;
    file.set_len(0).map_err(failed())?;
    let mut out = Writer {
        file,
        end: 0,
        crc: crc32fast::Hasher::new(),
    };
    let mut header = BytesMut::with_capacity(HEADER_BYTES);
    header.put_slice(MAGIC);
    header.put_u8(VERSION);
    header.put_u64_le(at.epoch.0);
    header.put_u64_le(at.offset.0);
    out.put(&header)?;
    let mut pairs = 0_u64;
    let mut from = Bytes::new();
    loop {
        let found = engine.scan(&from..&[0xFF], SCAN_BYTES)?;
        pairs += found.len() as u64;
        out.put(&encode_frame(&found))?;
        match found.last() {
            Some((last, _)) => from = rows::after(last),
            None => break,
        }
    }
    out.put(&pairs.to_le_bytes())?;
    let crc = out.crc.clone().finalize();
    out.put(&crc.to_le_bytes())?;
    out.file.sync_now().map_err(failed())?;
    Ok(Snapshot {
        at,
        name,
        bytes: out.end,
    })
}

struct Writer {
    file: Arc<dyn File>,
    end: u64,
    crc: crc32fast::Hasher,
}

impl Writer {
    fn put(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let written = self.file.write_at(self.end, bytes);
        written.map_err(StoreError::io("write a snapshot"))?;
        self.crc.update(bytes);
        self.end += bytes.len() as u64;
        Ok(())
    }
}

fn encode_frame(pairs: &[engine::Pair]) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_slice(&[0; FRAME_HEAD_BYTES]);
    for (key, value) in pairs {
        frame.put_u32_le(u32::try_from(key.len()).unwrap_or(u32::MAX));
        frame.put_u32_le(u32::try_from(value.len()).unwrap_or(u32::MAX));
        frame.put_slice(key);
        frame.put_slice(value);
    }
    let length = u32::try_from(frame.len() - FRAME_HEAD_BYTES).unwrap_or(u32::MAX);
    let crc = crc32fast::hash(&frame[FRAME_HEAD_BYTES..]);
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    frame
}

/// Reads a snapshot from its file, frame by frame.
pub struct Reader {
    file: Arc<dyn File>,
    name: String,
    length: u64,
    position: u64,
    crc: crc32fast::Hasher,
    pairs: u64,
    at: Version,
}

impl Reader {
    /// Opens a snapshot.
    ///
    /// # Errors
    /// When the file cannot be read, or does not begin as a snapshot does.
    pub fn open(file: Arc<dyn File>, name: &str) -> Result<Self, StoreError> {
        let length = file.len().map_err(StoreError::io("read a snapshot"))?;
        let mut reader = Self {
            file,
            name: name.to_owned(),
            length,
            position: 0,
            crc: crc32fast::Hasher::new(),
            pairs: 0,
            at: Version::ZERO,
        };
        let header = reader.take(HEADER_BYTES)?;
        if &header[..8] != MAGIC || header[8] != VERSION {
            reader.position = 0;
            return Err(reader.damaged());
        }
        let number =
            |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap_or_default());
        reader.at = Version::new(Epoch(number(9)), Offset(number(17)));
        Ok(reader)
    }

    /// The last entry that it covers, as it says itself.
    #[must_use]
    pub fn at(&self) -> Version {
        self.at
    }

    /// The next pairs; nothing after the last ones, once the whole has been found to be right.
    ///
    /// # Errors
    /// When the file cannot be read, or is damaged.
    pub fn next_frame(&mut self) -> Result<Option<Vec<engine::Pair>>, StoreError> {
        let head = self.take(FRAME_HEAD_BYTES)?;
        let number =
            |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap_or_default());
        let (length, crc) = (number(0) as usize, number(4));
        if length == 0 {
            return self.finish().map(|()| None);
        }
        if length > FRAME_BYTES_MAX {
            return Err(self.damaged());
        }
        let frame = self.take(length)?;
        if crc32fast::hash(&frame) != crc {
            return Err(self.damaged());
        }
        let pairs = decode_pairs(&frame).ok_or_else(|| self.damaged())?;
        self.pairs += pairs.len() as u64;
        Ok(Some(pairs))
    }

    fn finish(&mut self) -> Result<(), StoreError> {
        let whole = self.crc.clone();
        let footer = self.take(FOOTER_BYTES)?;
        let mut whole = whole;
        whole.update(&footer[..8]);
        let pairs = u64::from_le_bytes(footer[..8].try_into().unwrap_or_default());
        let crc = u32::from_le_bytes(footer[8..].try_into().unwrap_or_default());
        let is_right = pairs == self.pairs && crc == whole.finalize();
        match is_right && self.position == self.length {
            true => Ok(()),
            false => Err(self.damaged()),
        }
    }

    /// The next bytes of the file, all of them there.
    fn take(&mut self, count: usize) -> Result<Bytes, StoreError> {
        if self.length - self.position < count as u64 {
            return Err(self.damaged());
        }
        let mut bytes = vec![0; count];
        let read = self.file.read_at(self.position, &mut bytes);
        if read.map_err(StoreError::io("read a snapshot"))? < count {
            return Err(self.damaged());
        }
        self.crc.update(&bytes);
        self.position += count as u64;
        Ok(bytes.into())
    }

    fn damaged(&self) -> StoreError {
        StoreError::Snapshot {
            file: self.name.clone(),
            byte: self.position,
        }
    }
}

fn decode_pairs(frame: &Bytes) -> Option<Vec<engine::Pair>> {
    let mut pairs = Vec::new();
    let mut at = 0;
    while at < frame.len() {
        let length = |from: usize| {
            let bytes = frame.get(from..from + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
        };
        let (key, value) = (length(at)?, length(at + 4)?);
        let start = at + PAIR_HEAD_BYTES;
        let middle = start.checked_add(key)?;
        let end = middle.checked_add(value)?;
        if end > frame.len() {
            return None;
        }
        pairs.push((frame.slice(start..middle), frame.slice(middle..end)));
        at = end;
    }
    Some(pairs)
}

/// Loads a snapshot into an engine of its own, which does not count yet. Durable when it returns.
///
/// # Errors
/// When the file is damaged, is not the snapshot that was expected, or the engine fails.
pub fn load(
    file_system: &Arc<dyn FileSystem>,
    snapshot: &Snapshot,
    into: Generation,
    options: engine::Options,
) -> Result<Position, StoreError> {
    let opened = file_system.open(&snapshot.name);
    let mut reader = Reader::open(
        opened.map_err(StoreError::io("read a snapshot"))?,
        &snapshot.name,
    )?;
    if reader.at() != snapshot.at {
        return Err(reader.damaged());
    }
    let engine = into.begin(file_system, options)?;
    let mut changes = Loading::new(engine.as_ref());
    while let Some(pairs) = reader.next_frame()? {
        changes.add(pairs)?;
    }
    changes.finish()?;
    let position = rows::position(engine.as_ref())?;
    match position.names.end() == snapshot.at {
        true => Ok(position),
        false => Err(reader.damaged()),
    }
}

/// Copies everything that one engine holds to another, which is empty; returns how many pairs there were.
pub(super) fn copy(from: &dyn Engine, to: &dyn Engine) -> Result<u64, StoreError> {
    let mut changes = Loading::new(to);
    let mut next = Bytes::new();
    loop {
        let found = from.scan(&next..&[0xFF], SCAN_BYTES)?;
        let Some((last, _)) = found.last() else {
            return changes.finish();
        };
        next = rows::after(last);
        changes.add(found)?;
    }
}

/// Pairs on their way into an engine, some at once.
struct Loading<'a> {
    engine: &'a dyn Engine,
    changes: Vec<Change>,
    bytes: usize,
    pairs: u64,
}

impl<'a> Loading<'a> {
    fn new(engine: &'a dyn Engine) -> Self {
        Self {
            engine,
            changes: Vec::new(),
            bytes: 0,
            pairs: 0,
        }
    }

    fn add(&mut self, pairs: Vec<engine::Pair>) -> Result<(), StoreError> {
        for (key, value) in pairs {
            self.bytes += key.len() + value.len();
            self.pairs += 1;
            let value = Some(value);
            self.changes.push(Change { key, value });
        }
        match self.bytes > LOAD_BYTES {
            true => self.write(),
            false => Ok(()),
        }
    }

    fn write(&mut self) -> Result<(), StoreError> {
        self.bytes = 0;
        Ok(self.engine.write(std::mem::take(&mut self.changes))?)
    }

    fn finish(mut self) -> Result<u64, StoreError> {
        self.write()?;
        Ok(self.pairs)
    }
}
