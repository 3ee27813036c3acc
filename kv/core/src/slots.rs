//! Slots: the unit of placement. A key belongs to slot `crc32(key) % 1024`.

use std::fmt;

/// How many slots there are, numbered from 0.
pub const SLOT_COUNT: u16 = 1024;

/// One slot, 0..=1023.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The slot of that number, if there is one.
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        (number < SLOT_COUNT).then_some(Self(number))
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The slot that a key belongs to.
#[must_use]
pub fn slot_of(key: &[u8]) -> Slot {
    let slot = crc32fast::hash(key) % u32::from(SLOT_COUNT);
    Slot(u16::try_from(slot).expect("the remainder is below 1024"))
}

/// A half-open, non-empty range of slots: `start..end`, with `end` at most 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotRange {
    start: u16,
    end: u16,
}

impl SlotRange {
    /// The slots from `start` up to and without `end`; nothing where that is empty or beyond 1024.
    #[must_use]
    pub fn new(start: u16, end: u16) -> Option<Self> {
        (start < end && end <= SLOT_COUNT).then_some(Self { start, end })
    }

    /// The first slot's number.
    #[must_use]
    pub fn start(self) -> u16 {
        self.start
    }

    /// The number after the last slot's.
    #[must_use]
    pub fn end(self) -> u16 {
        self.end
    }

    /// Whether the slot lies in the range.
    #[must_use]
    pub fn contains(self, slot: Slot) -> bool {
        (self.start..self.end).contains(&slot.0)
    }

    /// Cuts all slots into `count` ranges whose sizes differ by at most one; nothing for 0 or more than 1024.
    #[must_use]
    pub fn partition(count: u16) -> Option<Vec<Self>> {
        if count == 0 || count > SLOT_COUNT {
            return None;
        }
        let bound = |index: u16| {
            let bound = u32::from(index) * u32::from(SLOT_COUNT) / u32::from(count);
            u16::try_from(bound).expect("a bound is at most 1024")
        };
        (0..count)
            .map(|index| Self::new(bound(index), bound(index + 1)))
            .collect()
    }
}

impl fmt::Display for SlotRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_is_the_crc32_of_the_key() {
        // 0xCBF43926 is the published check value of CRC-32 (zlib) for "123456789".
        assert_eq!(
            slot_of(b"123456789").number(),
            (0xCBF4_3926_u32 % 1024) as u16
        );
        assert_eq!(slot_of(b"").number(), 0);
    }

    #[test]
    fn ranges_are_half_open_and_reach_from_0_to_1023() {
        let all = SlotRange::new(0, 1024).unwrap();
        assert!(all.contains(Slot::new(0).unwrap()) && all.contains(Slot::new(1023).unwrap()));
        let last = SlotRange::new(1023, 1024).unwrap();
        assert!(
            last.contains(Slot::new(1023).unwrap()) && !last.contains(Slot::new(1022).unwrap())
        );
        let first = SlotRange::new(0, 1).unwrap();
        assert!(first.contains(Slot::new(0).unwrap()) && !first.contains(Slot::new(1).unwrap()));
        assert_eq!(Slot::new(1024), None);
        assert_eq!(SlotRange::new(0, 1025), None);
        assert_eq!(SlotRange::new(5, 5), None);
        assert_eq!(SlotRange::new(6, 5), None);
    }

    #[test]
    fn a_partition_covers_every_slot_once() {
        for count in [1, 3, 7, 1024] {
            let ranges = SlotRange::partition(count).unwrap();
            assert_eq!(ranges.len(), usize::from(count));
            for number in 0..SLOT_COUNT {
                let slot = Slot::new(number).unwrap();
                assert_eq!(
                    ranges.iter().filter(|range| range.contains(slot)).count(),
                    1
                );
            }
            let sizes = ranges.iter().map(|range| range.end() - range.start());
            assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1);
        }
        assert_eq!(SlotRange::partition(0), None);
        assert_eq!(SlotRange::partition(1025), None);
    }
}
