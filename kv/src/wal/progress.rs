//! What both halves of the log see: how far the writer has got, in the files though perhaps not on the disk.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kv_core::Offset;

use super::index::{Index, Stretch};
use super::segment::Segment;

/// Progress behind a lock that is never held for long.
#[derive(Default)]
pub(super) struct Shared {
    progress: Mutex<Progress>,
}

impl Shared {
    /// A poisoned lock is taken all the same: progress is changed after the fact, in one step.
    pub(super) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far the writer has got.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) index: Index,
    /// In order.
    pub(super) segments: Vec<Segment>,
    /// Where the last one ends.
    pub(super) end: u64,
    /// The last entry that was written.
    pub(super) last: Offset,
    pub(super) commands_written: u64,
}

impl Progress {
    /// Where to begin reading in order to find an entry that was written, and in which file.
    pub(super) fn stretch(&self, wanted: Offset) -> (Stretch, Segment) {
        let stretch = self.index.stretch(wanted);
        let sequence = stretch.start.1.sequence;
        let mut segments = self.segments.iter();
        let segment = segments.find(|segment| segment.header.sequence == sequence);
        let segment = segment.expect("an indexed entry is in a file of the log");
        (stretch, segment.clone())
    }

    /// The size of all files, but for what is written ahead in the last one.
    pub(super) fn bytes(&self) -> u64 {
        let full = self.segments.split_last().map_or(&[][..], |(_, full)| full);
        let sizes = full.iter().map(|segment| segment.file.len().unwrap_or(0));
        sizes.sum::<u64>() + self.end
    }

    /// Goes on in another file.
    pub(super) fn on_file(&mut self, segment: Segment) {
        self.index.on_file(segment.header.sequence);
        self.end = segment.header.records_from();
        self.segments.push(segment);
    }

    /// Lets go of the leading files that have no entry above `upto`. Returns their names, and the first entry that is left.
    pub(super) fn drop_upto(&mut self, upto: Offset) -> Option<(Vec<String>, Offset)> {
        // Whatever stood above in an earlier file had been truncated by then.
        let mut segments = self.segments.iter();
        let kept = segments.rposition(|segment| segment.header.end <= upto)?;
        let names = self.segments.drain(..kept).map(|segment| segment.name);
        let names: Vec<_> = names.collect();
        let sequence = self.segments[0].header.sequence;
        let first = self.index.drop_before(sequence);
        Some((names, first.unwrap_or(self.last.next()))).filter(|(names, _)| !names.is_empty())
    }

    /// How many bytes the files have from an entry on; a little more, since not every entry is indexed.
    pub(super) fn bytes_from(&self, offset: Offset) -> u64 {
        if offset > self.last {
            return 0;
        }
        let place = self.index.place(offset);
        let next_ends = self.segments.iter().skip(1);
        let ends = next_ends.map(|next| next.header.previous_end);
        let ends = ends.chain([self.end]);
        let bytes = self.segments.iter().zip(ends).map(|(segment, end)| {
            let header = &segment.header;
            match place {
                Some(place) if header.sequence < place.sequence => 0,
                Some(place) if header.sequence == place.sequence => end - place.position,
                _ => end,
            }
        });
        bytes.sum()
    }
}
