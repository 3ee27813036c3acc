//! A member's disk: the log as it was written, and what of it is durable.

use arrayvec::ArrayVec;
use bytes::Bytes;
use kv_core::invariants::chain;
use kv_core::{Entry, Epoch, Log, Offset, Operation, Version};

/// One entry in small: the epoch that created it and the value that it writes; zero is an `EpochStart`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item {
    /// The epoch.
    pub epoch: u8,
    /// Which value.
    pub value: u8,
}

const KEY: &[u8] = b"k";
/// The values, by number.
const VALUES: [&[u8]; 9] = [b"", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8"];

/// The most writes that an exploration can have.
pub const WRITES_MAX: u8 = 8;

/// The operation that writes a value.
#[must_use]
pub fn set(value: u8) -> Operation {
    let value = Bytes::from_static(VALUES[usize::from(value)]);
    Operation::Set {
        key: Bytes::from_static(KEY),
        value,
    }
}

impl Item {
    /// The small form of an entry.
    #[must_use]
    pub fn of(entry: &Entry) -> Self {
        let value = match &entry.operation {
            Operation::Set { value, .. } => value.first().map_or(0, |digit| digit - b'0'),
            Operation::EpochStart | Operation::Delete { .. } => 0,
        };
        let epoch = u8::try_from(entry.version.epoch.0).expect("epochs are bounded");
        Self { epoch, value }
    }

    /// The entry at that place.
    #[must_use]
    pub fn at(self, offset: Offset) -> Entry {
        let version = Version::new(Epoch(u64::from(self.epoch)), offset);
        let operation = match self.value {
            0 => Operation::EpochStart,
            value => set(value),
        };
        Entry { version, operation }
    }
}

/// Something that was asked to be made durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Durable {
    /// Entries at the end of the log.
    Append(Vec<Item>),
    /// Everything above this goes.
    Truncate(Offset),
    /// A promise.
    Promise(Epoch),
}

/// The most entries that a log can have: every write, and an `EpochStart` for every epoch (where a bug is planted, for every restart too).
const ENTRIES_MAX: usize = 32;

/// A log in small, from offset 1.
pub type Items = ArrayVec<Item, ENTRIES_MAX>;

/// What would survive a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Disk {
    /// The promise.
    pub promised: Epoch,
    /// The log.
    pub log: Items,
}

impl Disk {
    /// Makes something durable.
    pub fn apply(&mut self, durable: &Durable) {
        match durable {
            Durable::Append(items) => self.log.extend(items.iter().copied()),
            Durable::Truncate(after) => self.log.truncate(length(*after)),
            Durable::Promise(epoch) => self.promised = *epoch,
        }
    }

    /// Whether the entry of that name, or the beginning, is in the log.
    #[must_use]
    pub fn holds(&self, name: Version) -> bool {
        let entry = name.offset.0.checked_sub(1).map(|index| {
            self.log
                .get(usize::try_from(index).expect("logs are short"))
        });
        entry.is_none_or(|entry| entry.is_some_and(|item| u64::from(item.epoch) == name.epoch.0))
    }

    /// Its log, as the core recovers it.
    #[must_use]
    pub fn recovered(&self) -> Log {
        let mut log = Log::default();
        for (offset, item) in (1..).zip(&self.log) {
            log.append(Version::new(Epoch(u64::from(item.epoch)), Offset(offset)));
        }
        log
    }
}

/// How many entries stand at or below an offset.
#[must_use]
pub fn length(offset: Offset) -> usize {
    usize::try_from(offset.0).expect("logs are short")
}

/// The entries of a log after `prev` up to `last`.
#[must_use]
pub fn range(log: &[Item], prev: Offset, last: Offset) -> Vec<Entry> {
    let items = log
        .iter()
        .enumerate()
        .skip(length(prev))
        .take(length(last) - length(prev));
    items
        .map(|(index, item)| item.at(offset_of(index)))
        .collect()
}

/// The offset of the entry at an index.
#[must_use]
pub fn offset_of(index: usize) -> Offset {
    Offset(u64::try_from(index).expect("logs are short") + 1)
}

/// The hash of a log up to and with an offset.
#[must_use]
pub fn chain_upto(log: &[Item], upto: Offset) -> u64 {
    let items = log.iter().enumerate().take(length(upto));
    items.fold(0, |hash, (index, item)| {
        chain(hash, &item.at(offset_of(index)))
    })
}
