//! Where in the files entries lie: one in every so many bytes is known, the others follow it.
//!
//! Invariant: where the entry at `o + 1` is not indexed, it stands behind the entry at `o` in the same file, with no other entry in
//! between. So the first entry after a truncation, and the first one of a file, is always indexed.

use std::collections::BTreeMap;

use kv_core::Offset;

/// How far apart the indexed entries are.
const STEP_BYTES: u64 = 64 * 1024;

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Which file.
    pub(super) sequence: u64,
    /// Which byte of it.
    pub(super) position: u64,
}

/// A sparse map from offsets to places.
#[derive(Debug, Default)]
pub(super) struct Index {
    places: BTreeMap<Offset, Place>,
    /// The file that is being written, or read.
    sequence: u64,
    /// From this position on, the next entry is indexed.
    next_from: u64,
}

/// An indexed entry, and the next one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// The indexed entry and its place.
    pub(super) start: (Offset, Place),
    /// The indexed entry after it.
    pub(super) next: Option<Offset>,
}

impl Index {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// All entries are gone.
    pub(super) fn clear(&mut self) {
        self.places.clear();
    }

    /// The entries that follow lie in this file.
    pub(super) fn on_file(&mut self, sequence: u64) {
        self.sequence = sequence;
        self.next_from = 0;
    }

    /// The next entry of the file lies here.
    pub(super) fn on_entry(&mut self, offset: Offset, position: u64) {
        if position >= self.next_from {
            let sequence = self.sequence;
            self.places.insert(offset, Place { sequence, position });
            self.next_from = position + STEP_BYTES;
        }
    }

    /// The entries above `after` are gone.
    pub(super) fn on_truncate(&mut self, after: Offset) {
        self.places.split_off(&after.next());
        self.next_from = 0;
    }

    /// The files before this one are gone. Returns the first entry that is left.
    pub(super) fn drop_before(&mut self, sequence: u64) -> Option<Offset> {
        let mut places = self.places.iter();
        let left = places.find(|(_, place)| place.sequence >= sequence);
        let first = left.map(|(&offset, _)| offset);
        self.places = first.map_or_else(BTreeMap::new, |first| self.places.split_off(&first));
        first
    }

    /// Where an entry lies, or one a little before it; nothing if neither it nor one before it is there.
    pub(super) fn place(&self, offset: Offset) -> Option<Place> {
        let before = self.places.range(..=offset).next_back();
        before.map(|(_, &place)| place)
    }

    /// Where to begin reading in order to find an entry that was written.
    pub(super) fn stretch(&self, wanted: Offset) -> Stretch {
        let start = self.places.range(..=wanted).next_back();
        let (&offset, &place) = start.expect("the first entry of a log is indexed");
        let next = self.places.range(wanted.next()..).next();
        Stretch {
            start: (offset, place),
            next: next.map(|(&offset, _)| offset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(sequence: u64, position: u64) -> Place {
        Place { sequence, position }
    }

    #[test]
    fn the_first_entry_of_a_file_is_indexed() {
        let mut index = Index::new();
        index.on_file(1);
        index.on_entry(Offset(1), 100);
        index.on_entry(Offset(2), 200);
        index.on_file(2);
        index.on_entry(Offset(3), 100);
        index.on_entry(Offset(4), 200);
        let first = index.stretch(Offset(2));
        assert_eq!(first.start, (Offset(1), place(1, 100)));
        assert_eq!(first.next, Some(Offset(3)));
        assert_eq!(index.stretch(Offset(4)).start, (Offset(3), place(2, 100)));
    }

    #[test]
    fn entries_of_dropped_files_are_forgotten() {
        let mut index = Index::new();
        for offset in 1..=6 {
            if offset % 2 == 1 {
                index.on_file(offset);
            }
            index.on_entry(Offset(offset), 100 * offset);
        }
        assert_eq!(index.drop_before(3), Some(Offset(3)));
        assert_eq!(index.place(Offset(2)), None);
        assert_eq!(index.place(Offset(4)), Some(place(3, 300)));
        assert_eq!(index.drop_before(3), Some(Offset(3)));
        // The file after the last one has no entry yet.
        assert_eq!(index.drop_before(7), None);
        assert_eq!(index.place(Offset(6)), None);
    }

    #[test]
    fn the_first_entry_after_a_truncation_is_indexed() {
        let mut index = Index::new();
        for offset in 1..=10 {
            index.on_entry(Offset(offset), offset * 100);
        }
        let whole = Stretch {
            start: (Offset(1), place(0, 100)),
            next: None,
        };
        assert_eq!(index.stretch(Offset(7)), whole);
        index.on_truncate(Offset(4));
        for offset in 5..=8 {
            index.on_entry(Offset(offset), offset * 100 + 1000);
        }
        let (old, new) = (index.stretch(Offset(4)), index.stretch(Offset(5)));
        assert_eq!(old.start, (Offset(1), place(0, 100)));
        assert_eq!(old.next, Some(Offset(5)));
        assert_eq!((new.start, new.next), ((Offset(5), place(0, 1500)), None));
        index.on_truncate(Offset(4));
        assert_eq!(index.stretch(Offset(4)), whole);
    }

    #[test]
    fn entries_far_apart_are_indexed() {
        let mut index = Index::new();
        for offset in 1..=300 {
            index.on_entry(Offset(offset), offset * 1024);
        }
        let stretch = index.stretch(Offset(200));
        assert_eq!(stretch.start, (Offset(193), place(0, 193 * 1024)));
        assert_eq!(stretch.next, Some(Offset(257)));
    }
}
