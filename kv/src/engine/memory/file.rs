//! The file of the memory engine: batches, one after the other, and a note of how much of them is durable.
//!
//! ```text
//!  0         8        16               28               40
//!  | magic   | format | sealed | crc32 | sealed | crc32 | frame | frame | ...
//!  | 8 bytes | u64    | u64    | u32   | u64    | u32   |
//! ```
//!
//! Whether bytes that do not check were once durable cannot be seen from the bytes themselves: a torn write and a flipped bit look
//! alike. So a batch takes two syncs: one for its frame, and one for the note that everything up to its end is *sealed*. What does
//! not check behind the seal was never acknowledged, and is cut; before it, it is damage, and nothing is guessed. The note is kept
//! twice and the two are written by turns, so that a torn one leaves the other: that seals one batch less, whose frame is whole.
//!
//! A file is written under another name, synced, and takes its own name then: under that, header and first batches are whole.

use std::io;
use std::sync::Arc;

use super::super::{Change, EngineError, exists, unfinished};
use super::frame;
use crate::fs::{File, FileSystem};

const MAGIC: &[u8; 8] = b"splitmem";
const FORMAT: u64 = 1;
/// Where the two notes stand.
const SEALS: [u64; 2] = [16, 28];
const SEAL_BYTES: usize = 12;
/// Where the first frame stands.
const FRAMES: u64 = 40;

/// The file, open for appending.
pub(super) struct BatchFile {
    file: Arc<dyn File>,
    /// How long it is.
    len: u64,
    /// Which note is written next.
    next_seal: usize,
}

impl BatchFile {
    /// Writes a new file with these batches, and puts it in the place of the old one.
    pub(super) fn create(
        file_system: &dyn FileSystem,
        name: &str,
        batches: impl Iterator<Item = Vec<Change>>,
    ) -> Result<Self, EngineError> {
        Self::create_io(file_system, name, batches)
            .map_err(EngineError::io("write the engine's file"))
    }

    fn create_io(
        file_system: &dyn FileSystem,
        name: &str,
        batches: impl Iterator<Item = Vec<Change>>,
    ) -> io::Result<Self> {
        let unfinished = unfinished(name);
        let file = file_system.open(&unfinished)?;
        file.set_len(0)?;
        let mut len = FRAMES;
        for batch in batches {
            let frame = frame::encode(&batch);
            file.write_at(len, &frame)?;
            len += frame.len() as u64;
        }
        let mut header = Vec::with_capacity(FRAMES as usize);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&FORMAT.to_le_bytes());
        header.extend_from_slice(&seal(len));
        header.extend_from_slice(&seal(len));
        file.write_at(0, &header)?;
        file.sync_now()?;
        file_system.rename(&unfinished, name)?;
        file_system.sync_names_now()?;
        Ok(Self {
            file,
            len,
            next_seal: 0,
        })
    }

    /// Opens the file and hands over all changes, in order; nothing if there is none.
    pub(super) fn open(
        file_system: &dyn FileSystem,
        name: &str,
        each: &mut dyn FnMut(Change),
    ) -> Result<Option<Self>, EngineError> {
        let failed = EngineError::io;
        if !exists(file_system, name).map_err(failed("look for the engine's file"))? {
            return Ok(None);
        }
        // It may have taken its name in a process that was killed before the name was durable.
        let synced = file_system.sync_names_now();
        synced.map_err(failed("sync the name of the engine's file"))?;
        let file = file_system.open(name);
        let file = file.map_err(failed("open the engine's file"))?;
        let reader = Reader {
            file: file.as_ref(),
            name,
            len: file.len().map_err(failed("read the engine's file"))?,
        };
        let (sealed, next_seal) = reader.sealed()?;
        let mut end = FRAMES;
        while let Some((changes, next)) = reader.frame(end)? {
            changes.into_iter().for_each(&mut *each);
            end = next;
        }
        if end < sealed {
            return Err(reader.damaged(end, "a batch is not what was written"));
        }
        let mut opened = Self {
            file: Arc::clone(&file),
            len: end,
            next_seal,
        };
        if reader.len > end || end > sealed {
            let settled = opened.settle(sealed);
            settled.map_err(failed("cut the unfinished end of the engine's file"))?;
        }
        Ok(Some(opened))
    }

    /// Cuts what is no batch, and makes the batches behind the seal durable. A sync of theirs may have failed, and then the
    /// kernel takes their pages for clean while the disk lacks them: so they are written once more.
    fn settle(&mut self, sealed: u64) -> io::Result<()> {
        self.file.set_len(self.len)?;
        let mut bytes = vec![0; 64 * 1024];
        let mut position = sealed;
        while position < self.len {
            let wanted = bytes.len().min((self.len - position) as usize);
            let count = self.file.read_at(position, &mut bytes[..wanted])?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.file.write_at(position, &bytes[..count])?;
            position += count as u64;
        }
        self.file.sync_now()?;
        self.seal()
    }

    /// Writes a batch at the end, durably.
    pub(super) fn append(&mut self, changes: &[Change]) -> Result<(), EngineError> {
        let frame = frame::encode(changes);
        let written = self.file.write_at(self.len, &frame);
        let synced = written.and_then(|()| self.file.sync_now());
        synced.map_err(EngineError::io("write a batch to the engine's file"))?;
        self.len += frame.len() as u64;
        let sealed = self.seal();
        sealed.map_err(EngineError::io("seal a batch in the engine's file"))
    }

    fn seal(&mut self) -> io::Result<()> {
        self.file.write_at(SEALS[self.next_seal], &seal(self.len))?;
        self.next_seal = 1 - self.next_seal;
        self.file.sync_now()
    }

    /// How long the file is.
    pub(super) fn len(&self) -> u64 {
        self.len
    }
}

fn seal(sealed: u64) -> [u8; SEAL_BYTES] {
    let mut bytes = [0; SEAL_BYTES];
    bytes[..8].copy_from_slice(&sealed.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..8]);
    bytes[8..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Reads and judges.
struct Reader<'a> {
    file: &'a dyn File,
    name: &'a str,
    len: u64,
}

impl Reader<'_> {
    fn damaged(&self, byte: u64, why: &'static str) -> EngineError {
        EngineError::Damaged {
            file: self.name.to_owned(),
            byte,
            why,
        }
    }

    fn read(&self, position: u64, buffer: &mut [u8]) -> Result<(), EngineError> {
        let count = self.file.read_at(position, buffer);
        let count = count.map_err(EngineError::io("read the engine's file"))?;
        match count < buffer.len() {
            true => Err(self.damaged(position + count as u64, "the file ends too early")),
            false => Ok(()),
        }
    }

    fn number(&self, position: u64) -> Result<u64, EngineError> {
        let mut bytes = [0; 8];
        self.read(position, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Up to where the file was durable for certain, and which note to write next.
    fn sealed(&self) -> Result<(u64, usize), EngineError> {
        let mut magic = [0; MAGIC.len()];
        self.read(0, &mut magic)?;
        if &magic != MAGIC {
            return Err(self.damaged(0, "this is no file of the memory engine"));
        }
        let format = self.number(MAGIC.len() as u64)?;
        if format != FORMAT {
            return Err(EngineError::Newer {
                file: self.name.to_owned(),
                format,
                known: FORMAT,
            });
        }
        let mut notes = [None; 2];
        for (note, position) in notes.iter_mut().zip(SEALS) {
            let mut bytes = [0; SEAL_BYTES];
            self.read(position, &mut bytes)?;
            let sealed = self.number(position)?;
            *note = (seal(sealed) == bytes).then_some(sealed);
        }
        let newest = usize::from(notes[1] > notes[0]);
        let sealed = notes[newest];
        let sealed = sealed.ok_or_else(|| self.damaged(SEALS[0], "neither seal is whole"))?;
        match sealed > self.len {
            true => Err(self.damaged(self.len, "the file ends before what was durable")),
            false => Ok((sealed, 1 - newest)),
        }
    }

    /// The batch at a position, and where the next one begins; nothing if there is no whole one.
    fn frame(&self, position: u64) -> Result<Option<(Vec<Change>, u64)>, EngineError> {
        let body_at = position + frame::HEADER_BYTES as u64;
        if body_at > self.len {
            return Ok(None);
        }
        let mut header = [0; frame::HEADER_BYTES];
        self.read(position, &mut header)?;
        let (body_bytes, crc) = frame::header(&header);
        // What is there bounds what is asked for: a length that makes no sense costs no memory.
        if body_bytes > self.len - body_at {
            return Ok(None);
        }
        let mut body = vec![0; body_bytes as usize];
        self.read(body_at, &mut body)?;
        let changes = frame::decode(&body, crc);
        Ok(changes.map(|changes| (changes, body_at + body_bytes)))
    }
}
