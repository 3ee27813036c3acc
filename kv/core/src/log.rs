//! The shape of a log: which epoch put an entry at which offset. The entries themselves are in the WAL.
//!
//! R1 makes a name worth as much as the entry, so that two logs that agree on the name at an offset agree on everything up
//! to it (Raft's log matching, Ongaro and Ousterhout 2014, §5.3). A log is therefore kept as runs of equal epoch:
//!
//! ```text
//! offset   1 2 3 4 5 6 7        runs: (epoch 1, from 1) (epoch 3, from 4) (epoch 4, from 6)
//! epoch    1 1 1 3 3 4 4        end:  7
//! ```

use crate::{Epoch, Offset, Version};

/// Whether a record may stand right after another in a log (R21): the offset rises by one, the epoch never falls.
///
/// After a truncation, old bytes may follow new ones on a disk; this is how recovery tells.
#[must_use]
pub fn follows(previous: Version, next: Version) -> bool {
    previous.offset.0.checked_add(1) == Some(next.offset.0)
        && next.epoch >= previous.epoch
        && next.epoch > Epoch(0)
}

/// The names of the entries of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Log {
    /// Epoch and first offset of each run; both rise strictly.
    runs: Vec<(Epoch, Offset)>,
    end: Offset,
}

impl Log {
    /// A log from its runs: epoch, first and last offset of each.
    ///
    /// # Panics
    /// If the runs do not follow each other from offset 1 (recovery has checked that, R21).
    #[must_use]
    pub fn from_runs(runs: &[(Epoch, Offset, Offset)]) -> Self {
        let mut log = Self::default();
        for &(epoch, first, last) in runs {
            assert!(last >= first, "a run has at least one entry");
            log.append(Version::new(epoch, first));
            log.end = last;
        }
        log
    }

    /// The runs: epoch, first and last offset of each.
    #[must_use]
    pub fn runs(&self) -> Vec<(Epoch, Offset, Offset)> {
        let lasts = self.runs.iter().skip(1).map(|(_, first)| first.previous());
        let lasts = lasts.chain(std::iter::once(self.end));
        self.runs
            .iter()
            .zip(lasts)
            .map(|(&(epoch, first), last)| (epoch, first, last))
            .collect()
    }

    /// The last entry, or [`Version::ZERO`].
    #[must_use]
    pub fn end(&self) -> Version {
        let epoch = self.runs.last().map_or(Epoch(0), |(epoch, _)| *epoch);
        Version::new(epoch, self.end)
    }

    /// The name of the entry at an offset; zero has the name [`Version::ZERO`].
    #[must_use]
    pub fn version_at(&self, offset: Offset) -> Option<Version> {
        if offset == Offset::ZERO {
            return Some(Version::ZERO);
        }
        if offset > self.end {
            return None;
        }
        let run = self.runs.partition_point(|(_, first)| *first <= offset);
        Some(Version::new(self.runs[run - 1].0, offset))
    }

    /// Whether the log has this very entry.
    #[must_use]
    pub fn holds(&self, version: Version) -> bool {
        self.version_at(version.offset) == Some(version)
    }

    /// The greatest entry that is not above `bound`, compared lexicographically (R4's hint).
    #[must_use]
    pub fn greatest_not_above(&self, bound: Version) -> Version {
        let run = self
            .runs
            .partition_point(|&(epoch, first)| Version::new(epoch, first) <= bound);
        if run == 0 {
            return Version::ZERO;
        }
        let epoch = self.runs[run - 1].0;
        let last = self
            .runs
            .get(run)
            .map_or(self.end, |(_, first)| first.previous());
        let offset = if epoch == bound.epoch {
            last.min(bound.offset)
        } else {
            last
        };
        Version::new(epoch, offset)
    }

    /// Adds an entry.
    ///
    /// # Panics
    /// If it does not follow the last one.
    pub fn append(&mut self, version: Version) {
        assert!(
            follows(self.end(), version),
            "R21: an entry follows the one before it"
        );
        if self.end().epoch < version.epoch {
            self.runs.push((version.epoch, version.offset));
        }
        self.end = version.offset;
    }

    /// Removes everything above `after`.
    pub fn truncate(&mut self, after: Offset) {
        self.end = self.end.min(after);
        let keep = self.runs.partition_point(|(_, first)| *first <= self.end);
        self.runs.truncate(keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(epoch: u64, offset: u64) -> Version {
        Version::new(Epoch(epoch), Offset(offset))
    }

    fn sample() -> Log {
        let run = |epoch, first, last| (Epoch(epoch), Offset(first), Offset(last));
        Log::from_runs(&[run(1, 1, 3), run(3, 4, 5), run(4, 6, 7)])
    }

    #[test]
    fn runs_name_every_entry() {
        let log = sample();
        let names: Vec<_> = (0..=8)
            .map(|offset| log.version_at(Offset(offset)))
            .collect();
        let expected = [
            (0, 0),
            (1, 1),
            (1, 2),
            (1, 3),
            (3, 4),
            (3, 5),
            (4, 6),
            (4, 7),
        ];
        let mut expected: Vec<_> = expected.iter().map(|&(e, o)| Some(version(e, o))).collect();
        expected.push(None);
        assert_eq!(names, expected);
        assert_eq!(Log::from_runs(&log.runs()), log);
    }

    #[test]
    fn the_hint_is_the_greatest_entry_not_above() {
        let log = sample();
        assert_eq!(log.greatest_not_above(version(4, 9)), version(4, 7));
        assert_eq!(log.greatest_not_above(version(4, 6)), version(4, 6));
        assert_eq!(log.greatest_not_above(version(4, 5)), version(3, 5));
        assert_eq!(log.greatest_not_above(version(2, 9)), version(1, 3));
        assert_eq!(log.greatest_not_above(version(0, 9)), Version::ZERO);
        assert_eq!(
            Log::default().greatest_not_above(version(4, 9)),
            Version::ZERO
        );
    }

    #[test]
    fn truncation_forgets_whole_runs_too() {
        let mut log = sample();
        log.truncate(Offset(5));
        assert_eq!(log.end(), version(3, 5));
        log.truncate(Offset(3));
        assert_eq!(log.end(), version(1, 3));
        log.append(version(2, 4));
        assert_eq!(log.end(), version(2, 4));
        log.truncate(Offset::ZERO);
        assert_eq!(log, Log::default());
    }

    #[test]
    fn r21_only_the_next_offset_of_no_lower_epoch_follows() {
        assert!(follows(version(2, 4), version(2, 5)));
        assert!(follows(version(2, 4), version(7, 5)));
        assert!(
            !follows(version(2, 4), version(1, 5)),
            "old bytes behind new ones"
        );
        assert!(!follows(version(2, 4), version(2, 6)));
        assert!(!follows(version(2, 4), version(2, 4)));
        assert!(!follows(Version::ZERO, version(0, 1)));
        assert!(!follows(version(2, u64::MAX), version(2, 0)));
    }
}
