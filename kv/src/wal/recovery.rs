//! Opening a log after anything may have happened to it: what is accepted, what is cut off, and what is refused.
//!
//! Records are replayed in order, each at the position that it was made for, and an entry is accepted only if it follows
//! the one before it (R21). Where the first
//! record is not accepted, at byte *P*, one question is left: did a crash tear a write that was never synced, or are bytes
//! gone that others count on? The first is everyday life, and the tail is cut. The second must stop the node: by
//! forgetting what it promised or acknowledged it would break the promise of a quorum (Alagappan et al.,
//! "Protocol-Aware Recovery for Consensus-Based Storage", FAST 2018). Checksums alone cannot tell them apart.
//!
//! **What a torn write looks like.** The file only grows, so what a crash kept from the disk was never anything but
//! missing: the file ends early, or the rest of it is zeros. A record that was written whole ends in a byte that is not
//! zero. So if the last byte that is not zero stands before the end of the record at *P*, the record was not written whole,
//! its sync never returned, and nobody was told of it: it is **cut**, with what follows. Where the record ends is known
//! from its length, which has a checksum of its own; if that is wrong and all of the head is there, it is not a torn
//! write, since in a torn write what is there is right.
//!
//! **Everything else is damage**, and an error that names file and byte. Behind *P* there may be a sync mark, which says
//! how far the file was durable when it was written. If one reaches beyond *P*, these bytes **had been synced**
//! ([`WalError::Damaged`]). Otherwise they stand in the last batch, and **may have been** ([`WalError::DamagedTail`]):
//! a bit that flipped there looks the same before and after a sync.
//!
//! **A file after which another one was begun** was durable to its end before that, so whatever is wrong in it is damage. That nothing
//! is missing at its end is known from the next one's header, which says what the log was before it.
//!
//! **What cannot be told.** (1) A disk that loses whole bytes from the end of the file after it said that they were durable
//! leaves what a torn write leaves; they are cut. (2) A disk that writes the pages of a batch out of order may leave a
//! hole in a batch that was never synced, with later bytes behind it; that is refused, as it may be a synced batch that
//! was damaged. (3) A value could hold the bytes of a mark, made for the very position that it lands on; behind damage,
//! it would turn one refusal into the other.
//!
//! **Before anything is built on it**, what is not known to be durable is written again and synced: a process that was
//! killed leaves bytes that are only in the page cache, and after a failed sync the kernel may hold pages that it takes
//! for written (Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020).

use std::io;

use kv_core::{Epoch, Log as Shape, follows};

use super::WalError;
use super::index::Index;
use super::record::{HEAD_BYTES, Record, Refusal, SYNC_MARK_BYTES, length_of};
use super::scan::{Scanned, Scanner};
use super::segment::{HEADER_BYTES, Segment};
use crate::fs::File;

/// How much is read, searched or written at once.
const CHUNK_BYTES: usize = 1024 * 1024;

/// A replayed log.
pub(super) struct State {
    pub(super) promised: Epoch,
    pub(super) shape: Shape,
    pub(super) index: Index,
    /// The end of the last record of the file.
    pub(super) end: u64,
    /// Where a torn tail was cut off.
    pub(super) cut_at: Option<u64>,
    /// All before this byte of the file is known to be durable.
    synced: u64,
}

/// Replays the files of a log, cuts a torn tail off the last one, and makes the rest durable.
pub(super) async fn recover(segments: &[Segment]) -> Result<State, WalError> {
    let state = replay(segments, &mut |_, _, _| {})?;
    if let Some(last) = segments.last() {
        if let Some(byte) = state.cut_at {
            last.file.set_len(byte).map_err(WalError::io("cut"))?;
        }
        let file = last.file.as_ref();
        rewrite(file, state.synced, state.end).map_err(WalError::io("write"))?;
        file.sync().await.map_err(WalError::io("sync"))?;
    }
    Ok(state)
}

/// Told of each record that is accepted: in which file, and at which byte.
pub(super) type Tell<'a> = dyn FnMut(&Segment, u64, &Record<'_>) + 'a;

/// Replays the files of a log, and changes nothing.
pub(super) fn replay(segments: &[Segment], tell: &mut Tell<'_>) -> Result<State, WalError> {
    let mut state = State {
        promised: Epoch(0),
        shape: Shape::default(),
        index: Index::new(),
        end: HEADER_BYTES,
        cut_at: None,
        synced: HEADER_BYTES,
    };
    for (segment, next) in segments.iter().zip(segments.iter().skip(1)) {
        state.replay_sealed(segment, next, tell)?;
    }
    if let Some(last) = segments.last() {
        state.replay_last(last, tell)?;
    }
    Ok(state)
}

impl State {
    /// Replays a file after which another one was begun: all of it had been synced by then.
    fn replay_sealed(
        &mut self,
        segment: &Segment,
        next: &Segment,
        tell: &mut Tell<'_>,
    ) -> Result<(), WalError> {
        let refusal = self.replay(segment, tell).map_err(WalError::io("read"))?;
        let agrees = || {
            let end = (self.shape.end(), self.promised);
            end == (next.header.before, next.header.promised)
        };
        match refusal {
            None if agrees() => Ok(()),
            refusal => Err(WalError::Damaged {
                file: segment.name.clone(),
                byte: self.end,
                why: refusal.unwrap_or(Refusal::Short { needed: 1 }),
            }),
        }
    }

    /// Replays the file that was written last, which a crash may have torn.
    fn replay_last(&mut self, segment: &Segment, tell: &mut Tell<'_>) -> Result<(), WalError> {
        let refusal = self.replay(segment, tell).map_err(WalError::io("read"))?;
        let Some(why) = refusal else { return Ok(()) };
        let (file, byte) = (segment.name.clone(), self.end);
        match judge(segment.file.as_ref(), byte).map_err(WalError::io("read"))? {
            Judgement::Torn => {
                self.cut_at = Some(byte);
                Ok(())
            }
            Judgement::Synced => Err(WalError::Damaged { file, byte, why }),
            Judgement::MaybeSynced => Err(WalError::DamagedTail { file, byte, why }),
        }
    }

    /// Reads records as long as they are accepted; says why the next one was not.
    fn replay(&mut self, segment: &Segment, tell: &mut Tell<'_>) -> io::Result<Option<Refusal>> {
        self.index.on_file(segment.header.sequence);
        self.synced = HEADER_BYTES;
        let mut scanner = Scanner::new(segment.file.as_ref(), HEADER_BYTES, CHUNK_BYTES)?;
        loop {
            let (end, refusal) = match scanner.next()? {
                Scanned::Record { position, record } if self.accept(position, &record) => {
                    tell(segment, position, &record);
                    continue;
                }
                Scanned::Record { position, .. } => (position, Some(Refusal::Order)),
                Scanned::Refused { position, refusal } => (position, Some(refusal)),
                Scanned::End { position } => (position, None),
            };
            self.end = end;
            return Ok(refusal);
        }
    }

    /// Takes a record in, if it follows what was taken in before.
    fn accept(&mut self, position: u64, record: &Record<'_>) -> bool {
        match *record {
            Record::EpochStart(version)
            | Record::Set { version, .. }
            | Record::Delete { version, .. } => {
                if !follows(self.shape.end(), version) {
                    return false;
                }
                self.shape.append(version);
                self.index.on_entry(version.offset, position);
            }
            Record::Truncate(end) => {
                if !self.shape.holds(end) {
                    return false;
                }
                self.shape.truncate(end.offset);
                self.index.on_truncate(end.offset);
            }
            Record::Promise(epoch) => {
                if epoch < self.promised {
                    return false;
                }
                self.promised = epoch;
            }
            Record::SyncMark(synced) => {
                if !(self.synced..=position).contains(&synced) {
                    return false;
                }
                self.synced = synced;
            }
        }
        true
    }
}

/// What became of the bytes from the first record on that was not accepted.
enum Judgement {
    /// They were never written whole, so never synced.
    Torn,
    /// They had been synced.
    Synced,
    /// They may have been synced.
    MaybeSynced,
}

fn judge(file: &dyn File, from: u64) -> io::Result<Judgement> {
    // All that is there of the head, the zeros at the end left out.
    let present = last_nonzero_end(file, from)? - from;
    let mut head = [0; HEAD_BYTES];
    let count = file.read_at(from, &mut head)?;
    let needed = match length_of(&head[..count]) {
        Ok(bytes) => bytes as u64,
        Err(_) => HEAD_BYTES as u64,
    };
    if present < needed {
        return Ok(Judgement::Torn);
    }
    if sync_mark_beyond(file, from)? {
        return Ok(Judgement::Synced);
    }
    Ok(Judgement::MaybeSynced)
}

/// The end of the last byte from `from` on that is not zero.
fn last_nonzero_end(file: &dyn File, from: u64) -> io::Result<u64> {
    let mut end = file.len()?;
    let mut buffer = vec![0; CHUNK_BYTES.min(end.saturating_sub(from) as usize)];
    while end > from {
        let start = from.max(end.saturating_sub(CHUNK_BYTES as u64));
        let count = file.read_at(start, &mut buffer[..(end - start) as usize])?;
        if let Some(last) = buffer[..count].iter().rposition(|byte| *byte != 0) {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(from)
}

/// Whether a mark behind `from` says that the file had been synced beyond `from`. The records in between may be
/// unreadable, so every byte may begin a mark. What looks like one by chance fails two checksums.
fn sync_mark_beyond(file: &dyn File, from: u64) -> io::Result<bool> {
    let mut window = Vec::new();
    let mut start = from;
    loop {
        let present = window.len();
        window.resize(present + CHUNK_BYTES, 0);
        let count = file.read_at(start + present as u64, &mut window[present..])?;
        window.truncate(present + count);
        if window.len() < SYNC_MARK_BYTES {
            return Ok(false);
        }
        let candidates = window.len() - SYNC_MARK_BYTES + 1;
        for at in 0..candidates {
            let here = start + at as u64;
            let record = Record::decode(here, &window[at..at + SYNC_MARK_BYTES]);
            if let Ok((Record::SyncMark(synced), _)) = record
                && (from + 1..=here).contains(&synced)
            {
                return Ok(true);
            }
        }
        window.drain(..candidates);
        start += candidates as u64;
    }
}

/// Writes the same bytes again, so that a sync is about them.
fn rewrite(file: &dyn File, from: u64, to: u64) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES.min((to - from) as usize)];
    let mut position = from;
    while position < to {
        let wanted = buffer.len().min((to - position) as usize);
        let count = file.read_at(position, &mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_at(position, &buffer[..count])?;
        position += count as u64;
    }
    Ok(())
}
