//! Which epoch each entry of the log is of, as runs of equal epoch.

use std::collections::BTreeMap;

use kv_core::{Epoch, Offset, Version};

/// The versions of all entries of a log, in as few numbers as there are epochs.
#[derive(Clone, Debug, Default)]
pub(super) struct Runs {
    /// The first offset of each run, and its epoch.
    starts: BTreeMap<Offset, Epoch>,
    end: Offset,
}

impl Runs {
    /// The last entry.
    pub(super) fn end(&self) -> Version {
        let epoch = self.starts.last_key_value().map(|(_, epoch)| *epoch);
        Version::new(epoch.unwrap_or_default(), self.end)
    }

    /// Adds the next entry.
    pub(super) fn push(&mut self, version: Version) {
        if self.starts.is_empty() || self.end().epoch != version.epoch {
            self.starts.insert(version.offset, version.epoch);
        }
        self.end = version.offset;
    }

    /// Forgets the entries above `after`.
    pub(super) fn truncate(&mut self, after: Offset) {
        self.starts.split_off(&after.next());
        self.end = after;
    }

    /// The epoch of the entry at `offset`; zero for the place before the first.
    pub(super) fn epoch_at(&self, offset: Offset) -> Option<Epoch> {
        if offset > self.end {
            return None;
        }
        let run = self.starts.range(..=offset).next_back();
        Some(run.map_or(Epoch(0), |(_, epoch)| *epoch))
    }

    /// The runs in order: epoch, first and last offset.
    pub(super) fn list(&self) -> Vec<(Epoch, Offset, Offset)> {
        let lasts = self.starts.keys().skip(1).map(|first| first.previous());
        self.starts
            .iter()
            .zip(lasts.chain([self.end]))
            .map(|((first, epoch), last)| (*epoch, *first, last))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_grow_and_shrink_with_the_log() {
        let mut runs = Runs::default();
        assert_eq!(runs.end(), Version::ZERO);
        assert_eq!(runs.epoch_at(Offset::ZERO), Some(Epoch(0)));
        for (epoch, offset) in [(1, 1), (1, 2), (3, 3), (3, 4), (4, 5)] {
            runs.push(Version::new(Epoch(epoch), Offset(offset)));
        }
        let run = |epoch, first, last| (Epoch(epoch), Offset(first), Offset(last));
        assert_eq!(runs.list(), [run(1, 1, 2), run(3, 3, 4), run(4, 5, 5)]);
        assert_eq!(runs.epoch_at(Offset(4)), Some(Epoch(3)));
        assert_eq!(runs.epoch_at(Offset(6)), None);
        runs.truncate(Offset(3));
        assert_eq!(runs.list(), [run(1, 1, 2), run(3, 3, 3)]);
        runs.truncate(Offset::ZERO);
        assert_eq!(runs.list(), []);
        assert_eq!(runs.end(), Version::ZERO);
    }
}
