//! What lies where in a node's data folder: for faults that choose what they break.

use std::ops::Range;

use super::{Flip, SimDisk, State};

/// What the names of the log's files begin with; behind it stands a number, and the highest is the last.
pub const LOG: &str = "wal";
/// What the names of the engine's files begin with.
pub const ENGINE: &str = "engine";
/// What the names of the files of received snapshots begin with.
pub const SNAPSHOT: &str = "snapshot";

/// The last bytes of a log that has more than its header: all of them belong to its last record.
const TAIL_BYTES: usize = 16;
/// A log file that has no more has no records yet.
const BEGUN_BYTES: usize = 160;

/// A part of what a node keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A file of the log after which another one was begun.
    SealedSegment,
    /// The end of what was synced of the log.
    LogTail,
    /// The engine's files.
    Engine,
}

impl SimDisk {
    /// Whether there is anything of that part that is durable.
    #[must_use]
    pub fn has(&self, part: Part) -> bool {
        !self.state().places(part).is_empty()
    }

    /// Flips a random bit among the durable bytes of a part; nothing, if it has none.
    pub fn flip_bit_of(&self, part: Part) -> Option<Flip> {
        let mut state = self.state();
        let mut places = state.places(part);
        if places.is_empty() {
            return None;
        }
        let chosen = rand::Rng::random_range(&mut state.rng, 0..places.len());
        let (file, inode, bytes) = places.swap_remove(chosen);
        state.flip(file, inode, bytes)
    }
}

impl State {
    /// The files that a part has, and which of their bytes.
    fn places(&self, part: Part) -> Vec<(String, usize, Range<usize>)> {
        let files = self.names.list().into_iter();
        let mut places: Vec<(String, usize, Range<usize>)> = files
            .filter(|(name, _)| match part {
                Part::Engine => name.starts_with(ENGINE),
                Part::SealedSegment | Part::LogTail => is_of_the_log(name),
            })
            .map(|(name, inode)| (name, inode, 0..self.inodes[inode].durable().len()))
            .collect();
        match part {
            Part::Engine => {}
            Part::SealedSegment => drop(places.pop()),
            Part::LogTail => {
                places = places.pop().into_iter().collect();
                for (_, inode, bytes) in &mut places {
                    // What is allocated and not written yet are zeros.
                    let durable = self.inodes[*inode].durable();
                    let last = durable.iter().rposition(|byte| *byte != 0);
                    let end = last.map_or(0, |last| last + 1);
                    *bytes = match end > BEGUN_BYTES {
                        true => end - TAIL_BYTES..end,
                        false => 0..0,
                    };
                }
            }
        }
        places.retain(|(_, _, bytes)| !bytes.is_empty());
        places
    }

    pub(super) fn flip(&mut self, file: String, inode: usize, among: Range<usize>) -> Option<Flip> {
        let byte = self.inodes[inode].flip_bit(&mut self.rng, among)?;
        self.counters.bits_flipped += 1;
        Some(Flip { file, byte })
    }
}

/// Whether it is a file of the log, and not one that is being begun or was put aside.
fn is_of_the_log(name: &str) -> bool {
    let number = name.strip_prefix(LOG).and_then(|rest| rest.get(1..));
    number.is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}
