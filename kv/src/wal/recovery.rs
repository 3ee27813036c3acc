//! Opening a log after anything may have happened to it: what is accepted, what is cut off, and what is refused.
//!
//! Records are replayed in order, each at the position that it was made for, and an entry is accepted only if it follows
//! the one before it (R21). Where the first record is not accepted, `judge.rs` says what became of it:
//!
//! | the bytes there | what is done |
//! |---|---|
//! | are zeros, to the end of the file | the log goes on there |
//! | were never written whole | they are **cut**; nobody was told of them |
//! | had been synced | an **error** that names file and byte ([`WalError::Damaged`]); nothing is changed |
//! | may have been synced | they are **kept aside** in `damaged/`, the log goes on before them in another file, and that file's header says that it is **suspect**, until [`Log::declare_whole`](super::Log::declare_whole) |
//!
//! **A file after which another one was begun** was durable to its end before that, so whatever is wrong in it is damage. That nothing
//! is missing at its end is known from the next one's header, which says where it ends and what the log was then.
//!
//! **Leading files may have been dropped**, and after a restart of the log all before it: the first file that is there says what the
//! log has come to before it. What is dropped must be in the engine: if the first entry whose bytes are there does not follow
//! the checkpoint, that is an error ([`WalError::MissingEntries`]).
//!
//! **A checkpoint that the log does not hold** is a snapshot that was installed just before a crash, or has entries that a damaged
//! tail has lost. What the engine applied is committed, so the log is restarted at the checkpoint; the promise stays.
//!
//! **Before anything is built on it**, what is not known to be durable is written again and synced: a process that was
//! killed leaves bytes that are only in the page cache, and after a failed sync the kernel may hold pages that it takes
//! for written (Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020). Every step leaves the folder such that
//! a recovery that is interrupted there and begun again ends the same.

use std::io;

use kv_core::{Log as Shape, Offset, follows};

use super::WalError;
use super::index::{Index, Place};
use super::judge::{Judgement, judge};
use super::record::{Record, Refusal};
use super::scan::{Scanned, Scanner};
use super::segment::{self, Found, Kind, Segment};
use super::standing::Standing;
use crate::fs::{File, FileSystem};

/// How much is read or written at once.
const CHUNK_BYTES: usize = 1024 * 1024;
/// Where damaged bytes are kept.
const DAMAGED_FOLDER: &str = "damaged";

/// A replayed log.
pub(super) struct State {
    pub(super) standing: Standing,
    /// The first entry whose bytes are there; the one after the last if there is none.
    pub(super) first: Offset,
    pub(super) index: Index,
    /// The end of the last record of the last file.
    pub(super) end: u64,
    pub(super) tail: Tail,
    /// All before this byte of the last file is known to be durable.
    synced: u64,
}

/// How the last file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// With a record, and perhaps zeros that were written ahead.
    Whole,
    /// With bytes that were never synced.
    Torn,
    /// With damaged bytes that may have been synced.
    Suspect,
}

/// Opens the files of a log, or begins one, and brings it into order. All of it is durable afterwards.
pub(super) async fn recover(
    file_system: &dyn FileSystem,
    checkpoint: &Shape,
) -> Result<(State, Vec<Segment>), WalError> {
    let mut found = segment::find(file_system)?;
    let mut state = replay(&found, &mut |_, _| {})?;
    let is_restarted = state.must_restart(checkpoint)?;
    if found.segments.is_empty() && checkpoint.end().offset > Offset::ZERO {
        let file = segment::first_name();
        return Err(WalError::Missing { file });
    }
    tidy(file_system, &found).await?;
    let Some(last) = found.segments.last().cloned() else {
        let first = segment::begin_first(file_system).await;
        let first = first.map_err(WalError::io("begin"))?;
        state.on_file(&first);
        return Ok((state, vec![first]));
    };
    state.mend(file_system, &last).await?;
    let previous_end = state.end;
    let kind = match state.tail {
        _ if is_restarted => Kind::Restart,
        Tail::Suspect => Kind::Next { previous_end },
        Tail::Whole | Tail::Torn => return Ok((state, found.segments)),
    };
    if is_restarted {
        state.standing.names = checkpoint.clone();
        state.first = checkpoint.end().offset.next();
        state.index = Index::new();
    }
    let sequence = last.header.sequence + 1;
    let next = segment::begin(file_system, sequence, kind, &state.standing).await;
    let next = next.map_err(WalError::io("begin"))?;
    state.on_file(&next);
    if is_restarted {
        let old = found.segments.drain(..).map(|segment| segment.name);
        let removed = segment::remove(file_system, &old.collect::<Vec<_>>()).await;
        removed.map_err(WalError::io("drop"))?;
    }
    found.segments.push(next);
    Ok((state, found.segments))
}

/// Makes the names of the files durable, and removes those that do not matter.
async fn tidy(file_system: &dyn FileSystem, found: &Found) -> Result<(), WalError> {
    for file in &found.unfinished {
        file_system.remove(file).map_err(WalError::io("begin"))?;
    }
    // A process that was killed between a rename and the sync of the names leaves a name that is not durable yet.
    let synced = file_system.sync_names().await;
    synced.map_err(WalError::io("open"))?;
    let removed = segment::remove(file_system, &found.outdated).await;
    removed.map_err(WalError::io("drop"))
}

/// Told of each file, with what the log has come to before it, and of each record that is accepted, with its first byte.
pub(super) type Tell<'a> = dyn FnMut(&Segment, Told<'_>) + 'a;

/// What a replay tells of.
pub(super) enum Told<'a> {
    File(&'a Standing),
    Record(u64, &'a Record<'a>),
}

/// Replays the files of a log, and changes nothing.
pub(super) fn replay(found: &Found, tell: &mut Tell<'_>) -> Result<State, WalError> {
    let mut state = State {
        standing: found.standing.clone(),
        first: found.standing.names.end().offset.next(),
        index: Index::new(),
        end: 0,
        tail: Tail::Whole,
        synced: 0,
    };
    let segments = &found.segments;
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
        let end = next.header.previous_end;
        let replayed = self.replay(segment, end, tell);
        let refusal = replayed.map_err(WalError::io("read"))?;
        let len = segment.file.len().map_err(WalError::io("read"))?;
        // Behind the end stands at most what was found damaged there.
        let is_end = self.end == end && (len == end || next.header.follows_damage());
        match refusal {
            None if is_end && next.header.agrees(&self.standing) => {}
            refusal => {
                return Err(WalError::Damaged {
                    file: segment.name.clone(),
                    byte: self.end,
                    why: refusal.unwrap_or(Refusal::Short { needed: 1 }),
                });
            }
        }
        if next.header.follows_damage() {
            self.standing.suspect = Some(Place {
                sequence: segment.header.sequence,
                position: end,
            });
        }
        Ok(())
    }

    /// Replays the file that was written last, which a crash may have torn.
    fn replay_last(&mut self, segment: &Segment, tell: &mut Tell<'_>) -> Result<(), WalError> {
        let replayed = self.replay(segment, u64::MAX, tell);
        let refusal = replayed.map_err(WalError::io("read"))?;
        let Some(why) = refusal else { return Ok(()) };
        let (file, byte) = (segment.name.clone(), self.end);
        self.tail = match judge(segment.file.as_ref(), byte).map_err(WalError::io("read"))? {
            Judgement::Unwritten => Tail::Whole,
            Judgement::Torn => Tail::Torn,
            Judgement::MaybeSynced => Tail::Suspect,
            Judgement::Synced => return Err(WalError::Damaged { file, byte, why }),
        };
        Ok(())
    }

    /// Reads records as long as they are accepted, and up to `end`; says why the next one was not.
    fn replay(
        &mut self,
        segment: &Segment,
        end: u64,
        tell: &mut Tell<'_>,
    ) -> io::Result<Option<Refusal>> {
        self.on_file(segment);
        tell(segment, Told::File(&self.standing));
        let from = self.end;
        let mut scanner = Scanner::new(segment.file.as_ref(), from, CHUNK_BYTES)?;
        while self.end < end {
            let refusal = match scanner.next()? {
                Scanned::Record {
                    position,
                    record,
                    end,
                } if self.accept(position, &record) => {
                    tell(segment, Told::Record(position, &record));
                    self.end = end;
                    continue;
                }
                Scanned::Record { .. } => Some(Refusal::Order),
                Scanned::Refused { refusal, .. } => Some(refusal),
                Scanned::End { .. } => None,
            };
            return Ok(refusal);
        }
        Ok(None)
    }

    /// Goes on at the start of a file.
    fn on_file(&mut self, segment: &Segment) {
        self.index.on_file(segment.header.sequence);
        self.end = segment.header.records_from();
        self.synced = self.end;
    }

    /// Takes a record in, if it follows what was taken in before.
    fn accept(&mut self, position: u64, record: &Record<'_>) -> bool {
        let Standing {
            promised,
            names,
            suspect,
        } = &mut self.standing;
        match *record {
            Record::EpochStart(version)
            | Record::Set { version, .. }
            | Record::Delete { version, .. } => {
                if !follows(names.end(), version) {
                    return false;
                }
                names.append(version);
                self.index.on_entry(version.offset, position);
            }
            Record::Truncate(end) => {
                if !names.holds(end) {
                    return false;
                }
                names.truncate(end.offset);
                self.index.on_truncate(end.offset);
                self.first = self.first.min(end.offset.next());
            }
            Record::Promise(epoch) => {
                if epoch < *promised {
                    return false;
                }
                *promised = epoch;
            }
            Record::SyncMark(synced) => {
                if !(self.synced..=position).contains(&synced) {
                    return false;
                }
                self.synced = synced;
            }
            Record::Whole => *suspect = None,
        }
        true
    }

    /// Whether the log is to be restarted at a checkpoint.
    fn must_restart(&self, checkpoint: &Shape) -> Result<bool, WalError> {
        let applied = checkpoint.end();
        if applied.offset.next() < self.first {
            return Err(WalError::MissingEntries {
                from: applied.offset.next(),
                upto: self.first.previous(),
            });
        }
        Ok(!self.standing.names.holds(applied))
    }

    /// Brings the end of the last file into order, and makes all before it durable.
    async fn mend(&mut self, file_system: &dyn FileSystem, last: &Segment) -> Result<(), WalError> {
        let file = last.file.as_ref();
        let place = Place {
            sequence: last.header.sequence,
            position: self.end,
        };
        match self.tail {
            Tail::Whole => {}
            Tail::Torn => file.set_len(self.end).map_err(WalError::io("cut"))?,
            Tail::Suspect => {
                let kept = keep_aside(file_system, file, place).await;
                kept.map_err(WalError::io("keep the damaged end of"))?;
                self.standing.suspect = Some(place);
            }
        }
        copy(file, file, self.synced, self.end, 0).map_err(WalError::io("write"))?;
        file.sync().await.map_err(WalError::io("sync"))
    }
}

/// Keeps what stands in a file from there on.
async fn keep_aside(file_system: &dyn FileSystem, file: &dyn File, place: Place) -> io::Result<()> {
    let Place { sequence, position } = place;
    let name = format!("{DAMAGED_FOLDER}/{sequence:010}-{position}");
    let end = file.len()?;
    let write = |kept: &dyn File| copy(file, kept, position, end, position);
    segment::write_whole(file_system, &name, write).await
}

/// Writes the bytes `from..to` of a file into another one, so many bytes further ahead; or into the same one again, so that
/// a sync is about them.
fn copy(source: &dyn File, target: &dyn File, from: u64, to: u64, ahead: u64) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES.min((to - from) as usize)];
    let mut position = from;
    while position < to {
        let wanted = buffer.len().min((to - position) as usize);
        let count = source.read_at(position, &mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        target.write_at(position - ahead, &buffer[..count])?;
        position += count as u64;
    }
    Ok(())
}
