//! Ranges of seeds as people write them.

use std::str::FromStr;

/// A range of seeds, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seeds {
    first: u64,
    last: u64,
}

/// The most seeds of one range.
const SEEDS_MAX: u64 = 10_000_000;

/// Why a text is no range of seeds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoSeeds {
    #[error(
        "this is no range of seeds; write the first and the last, such as 1..1000 (both included)"
    )]
    Shape,
    #[error("the range is empty: {first} comes after {last}; write the smaller seed first")]
    Empty { first: u64, last: u64 },
    #[error("these are {count} seeds; at most {SEEDS_MAX} run at once")]
    TooMany { count: u64 },
}

impl FromStr for Seeds {
    type Err = NoSeeds;

    fn from_str(text: &str) -> Result<Self, NoSeeds> {
        let (first, last) = text.split_once("..").ok_or(NoSeeds::Shape)?;
        let last = last.strip_prefix('=').unwrap_or(last);
        let number = |text: &str| text.trim().parse::<u64>().map_err(|_| NoSeeds::Shape);
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(NoSeeds::Empty { first, last });
        }
        let count = (last - first).saturating_add(1);
        if count > SEEDS_MAX {
            return Err(NoSeeds::TooMany { count });
        }
        Ok(Self { first, last })
    }
}

impl Seeds {
    pub(super) fn iter(self) -> impl Iterator<Item = u64> {
        self.first..=self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeds(text: &str) -> Result<Vec<u64>, NoSeeds> {
        text.parse().map(|seeds: Seeds| seeds.iter().collect())
    }

    #[test]
    fn both_ends_of_a_range_are_included() {
        assert_eq!(seeds("1..3"), Ok(vec![1, 2, 3]));
        assert_eq!(seeds("1..=3"), Ok(vec![1, 2, 3]));
        assert_eq!(seeds("7..7"), Ok(vec![7]));
        assert_eq!(
            seeds("18446744073709551615..=18446744073709551615").map(|seeds| seeds.len()),
            Ok(1)
        );
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in [
            "", "7", "..", "1..", "..3", "a..b", "1...3", "-1..3", "1..2..3",
        ] {
            assert_eq!(seeds(text), Err(NoSeeds::Shape), "{text}");
        }
        assert_eq!(seeds("3..1"), Err(NoSeeds::Empty { first: 3, last: 1 }));
        assert!(matches!(
            seeds("0..18446744073709551615"),
            Err(NoSeeds::TooMany { .. })
        ));
    }
}
