//! Reads a log file from some position on, record by record, through a bounded buffer, and takes the noise away.

use std::io;

use super::noise;
use super::record::{HEAD_BYTES, Record, Refusal, length_of};
use crate::fs::File;

/// A place in a file, with the bytes behind it that were read already.
pub(super) struct Scanner<'file> {
    file: &'file dyn File,
    chunk_bytes: usize,
    /// Where the next record begins in the file, and in the buffer.
    position: u64,
    at: usize,
    buffer: Vec<u8>,
    file_end: u64,
}

/// What a scanner met.
pub(super) enum Scanned<'buffer> {
    /// A record.
    Record {
        /// Where it begins.
        position: u64,
        /// The record.
        record: Record<'buffer>,
        /// Where it ends.
        end: u64,
    },
    /// No record; the scanner stays where it is.
    Refused {
        /// Where it should begin.
        position: u64,
        /// What is wrong.
        refusal: Refusal,
    },
    /// The end of the file, right behind a record.
    End {
        /// The end.
        position: u64,
    },
}

impl<'file> Scanner<'file> {
    /// A scanner from `position` to the present end of the file, reading `chunk_bytes` at once.
    pub(super) fn new(
        file: &'file dyn File,
        position: u64,
        chunk_bytes: usize,
    ) -> io::Result<Self> {
        Ok(Self {
            file,
            chunk_bytes,
            position,
            at: 0,
            buffer: Vec::new(),
            file_end: file.len()?,
        })
    }

    /// The next record.
    pub(super) fn next(&mut self) -> io::Result<Scanned<'_>> {
        let position = self.position;
        self.fill(HEAD_BYTES)?;
        if self.at == self.buffer.len() {
            return Ok(Scanned::End { position });
        }
        // The length is checked by then, so what is allocated is bounded by the limits and by the file.
        if let Ok(needed) = length_of(&self.buffer[self.at..]) {
            self.fill(needed)?;
        }
        match Record::decode(position, &self.buffer[self.at..]) {
            Ok((record, taken)) => {
                self.at += taken;
                self.position += taken as u64;
                let end = self.position;
                Ok(Scanned::Record {
                    position,
                    record,
                    end,
                })
            }
            Err(refusal) => Ok(Scanned::Refused { position, refusal }),
        }
    }

    /// Sees to it that `needed` bytes are in the buffer, or all that the file has.
    fn fill(&mut self, needed: usize) -> io::Result<()> {
        let present = self.buffer.len() - self.at;
        if present >= needed {
            return Ok(());
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        let from = self.position + present as u64;
        let left = usize::try_from(self.file_end.saturating_sub(from)).unwrap_or(usize::MAX);
        let more = (needed - present).max(self.chunk_bytes).min(left);
        self.buffer.resize(present + more, 0);
        let count = self.file.read_at(from, &mut self.buffer[present..])?;
        self.buffer.truncate(present + count);
        noise::apply(from, &mut self.buffer[present..]);
        Ok(())
    }
}
