//! Where in the file entries lie: one in every so many bytes is known, the others follow it.
//!
//! Invariant: where the entry at `o + 1` is not indexed, it stands behind the entry at `o` with no other entry in
//! between. So the first entry after a truncation is always indexed.

use std::collections::BTreeMap;

use kv_core::Offset;

/// How far apart the indexed entries are.
const STEP_BYTES: u64 = 64 * 1024;

/// A sparse map from offsets to positions in the file.
#[derive(Debug)]
pub(super) struct Index {
    places: BTreeMap<Offset, u64>,
    /// From this position on, the next entry is indexed.
    next_from: u64,
}

/// An indexed entry, and the next one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// The indexed entry and its position.
    pub(super) start: (Offset, u64),
    /// The indexed entry after it.
    pub(super) next: Option<Offset>,
}

impl Index {
    pub(super) fn new() -> Self {
        Self {
            places: BTreeMap::new(),
            next_from: 0,
        }
    }

    /// The next entry of the file lies here.
    pub(super) fn on_entry(&mut self, offset: Offset, position: u64) {
        if position >= self.next_from {
            self.places.insert(offset, position);
            self.next_from = position + STEP_BYTES;
        }
    }

    /// The entries above `after` are gone.
    pub(super) fn on_truncate(&mut self, after: Offset) {
        self.places.split_off(&after.next());
        self.next_from = 0;
    }

    /// Where to begin reading in order to find an entry that was written.
    pub(super) fn stretch(&self, wanted: Offset) -> Stretch {
        let start = self.places.range(..=wanted).next_back();
        let (&offset, &position) = start.expect("the first entry of a log is indexed");
        let next = self.places.range(wanted.next()..).next();
        Stretch {
            start: (offset, position),
            next: next.map(|(&offset, _)| offset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entry_after_a_truncation_is_indexed() {
        let mut index = Index::new();
        for offset in 1..=10 {
            index.on_entry(Offset(offset), offset * 100);
        }
        let whole = Stretch {
            start: (Offset(1), 100),
            next: None,
        };
        assert_eq!(index.stretch(Offset(7)), whole);
        index.on_truncate(Offset(4));
        for offset in 5..=8 {
            index.on_entry(Offset(offset), offset * 100 + 1000);
        }
        let (old, new) = (index.stretch(Offset(4)), index.stretch(Offset(5)));
        assert_eq!((old.start, old.next), ((Offset(1), 100), Some(Offset(5))));
        assert_eq!((new.start, new.next), ((Offset(5), 1500), None));
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
        assert_eq!(stretch.start, (Offset(193), 193 * 1024));
        assert_eq!(stretch.next, Some(Offset(257)));
    }
}
