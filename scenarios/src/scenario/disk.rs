//! What a disk does wrong: `disk = { node = "writer(0)", fault = "failed-fsync" }`.
//!
//! A disk fails at the first chance after the start of its fault, and the fault has fired only once it has: when a sync
//! really failed, a write found no space, the power really went in the middle of a write. A node whose disk failed stops by
//! itself, and stays down until the fault ends; then it is started again on the same disk, as by an operator. Where a bit
//! flipped in an older file of the log it must refuse to start, and stays down for good: what it has lost no restart brings
//! back.
//!
//! | fault | what happens | at its end |
//! |---|---|---|
//! | `failed-fsync` | the next sync fails, and what it was about is lost | the node starts again |
//! | `full` | no space is left, and the next write that needs some fails | there is space, and the node starts again |
//! | `lost-writes` | syncs make nothing durable, and say that they did | the power goes, and is back at once |
//! | `torn-tail` | the power goes in the middle of the next write to the log | power and node come back |
//! | `power-loss-in-checkpoint` | the power goes with one of the operations of the next checkpoints, drawn from the seed | power and node come back |
//! | `power-loss-in-snapshot` | the power goes while a snapshot from a peer is written down | power and node come back |
//! | `bit-flip` | the power goes, and a bit flips `where` it is told | power and node come back |
//!
//! A disk that is merely slow is `slow_disk`.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// What a disk does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskFault {
    /// The next sync fails, and the pages that it was about are gone.
    FailedFsync,
    /// There is no space left.
    Full,
    /// Syncs make nothing durable and say that they did; then the power goes.
    LostWrites,
    /// The power goes in the middle of a write to the log.
    TornTail,
    /// The power goes at some point of a checkpoint.
    PowerLossInCheckpoint,
    /// The power goes while a snapshot is received.
    PowerLossInSnapshot,
    /// A durable bit flips while the node is down.
    BitFlip(Spot),
}

/// Where a bit flips.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spot {
    /// In a file of the log after which another one was begun.
    Sealed,
    /// In the last bytes of the log that were synced.
    Tail,
    /// In the engine's files.
    Engine,
}

impl Spot {
    /// All, with their words in a file.
    const ALL: [(Self, &'static str); 3] = [
        (Self::Sealed, "sealed"),
        (Self::Tail, "tail"),
        (Self::Engine, "engine"),
    ];

    fn word(self) -> &'static str {
        let known = Self::ALL.into_iter().find(|(spot, _)| *spot == self);
        known.map_or("", |(_, word)| word)
    }
}

/// A fault of a disk by its word, before it is known where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) enum Word {
    /// One that needs nothing more.
    Whole(DiskFault),
    /// One that needs to know where.
    BitFlip,
}

const WORDS: [(Word, &str); 7] = [
    (Word::Whole(DiskFault::FailedFsync), "failed-fsync"),
    (Word::Whole(DiskFault::Full), "full"),
    (Word::Whole(DiskFault::LostWrites), "lost-writes"),
    (Word::Whole(DiskFault::TornTail), "torn-tail"),
    (
        Word::Whole(DiskFault::PowerLossInCheckpoint),
        "power-loss-in-checkpoint",
    ),
    (
        Word::Whole(DiskFault::PowerLossInSnapshot),
        "power-loss-in-snapshot",
    ),
    (Word::BitFlip, "bit-flip"),
];

/// A word that is no fault of a disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown disk fault \"{0}\"; allowed: failed-fsync, full, lost-writes, torn-tail, power-loss-in-checkpoint, power-loss-in-snapshot, \
     bit-flip (a slow disk is slow_disk = {{ node = \"writer(0)\", delay = \"50ms\" }})"
)]
pub struct UnknownDiskFault(pub String);

impl FromStr for Word {
    type Err = UnknownDiskFault;

    fn from_str(text: &str) -> Result<Self, UnknownDiskFault> {
        let known = WORDS.into_iter().find(|(_, name)| *name == text);
        let (word, _) = known.ok_or_else(|| UnknownDiskFault(text.to_owned()))?;
        Ok(word)
    }
}

impl TryFrom<String> for Word {
    type Error = UnknownDiskFault;

    fn try_from(text: String) -> Result<Self, UnknownDiskFault> {
        text.parse()
    }
}

impl DiskFault {
    /// One of each, with bit flips in every spot.
    pub const ALL: [Self; 9] = [
        Self::FailedFsync,
        Self::Full,
        Self::LostWrites,
        Self::TornTail,
        Self::PowerLossInCheckpoint,
        Self::PowerLossInSnapshot,
        Self::BitFlip(Spot::Sealed),
        Self::BitFlip(Spot::Tail),
        Self::BitFlip(Spot::Engine),
    ];

    fn word(self) -> Word {
        match self {
            Self::BitFlip(_) => Word::BitFlip,
            whole => Word::Whole(whole),
        }
    }

    /// Its word in a file.
    #[must_use]
    pub fn name(self) -> &'static str {
        let known = WORDS.into_iter().find(|(word, _)| *word == self.word());
        known.map_or("", |(_, name)| name)
    }

    /// Where, of those that happen somewhere.
    #[must_use]
    pub fn spot(self) -> Option<&'static str> {
        match self {
            Self::BitFlip(spot) => Some(spot.word()),
            _ => None,
        }
    }
}

/// What happens to whom: `the next sync of writer(0) fails`.
pub(super) fn describe(nodes: &dyn fmt::Display, fault: DiskFault) -> String {
    match fault {
        DiskFault::FailedFsync => format!("the next sync of {nodes} fails"),
        DiskFault::Full => format!("the disk of {nodes} is full"),
        DiskFault::LostWrites => {
            format!("the disk of {nodes} says that it syncs, and does not, until the power goes")
        }
        DiskFault::TornTail => {
            format!("{nodes} loses power in the middle of a write to the log")
        }
        DiskFault::PowerLossInCheckpoint => format!("{nodes} loses power within a checkpoint"),
        DiskFault::PowerLossInSnapshot => {
            format!("{nodes} loses power while it receives a snapshot")
        }
        DiskFault::BitFlip(spot) => {
            let place = match spot {
                Spot::Sealed => "in an older file of the log",
                Spot::Tail => "at the end of the log",
                Spot::Engine => "in the engine's files",
            };
            format!("{nodes} loses power, and a bit flips {place}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_disk_fault_is_read_as_it_is_written() {
        for fault in DiskFault::ALL {
            let word: Word = fault.name().parse().unwrap();
            assert_eq!(word, fault.word());
            let spot = fault.spot();
            let known = |spot| Spot::ALL.iter().any(|(_, name)| *name == spot);
            assert!(spot.is_none_or(known));
        }
        for text in ["", "slow", "failed_fsync", "full disk"] {
            let refused = text.parse::<Word>().unwrap_err().to_string();
            assert!(refused.contains("failed-fsync, full"), "{refused}");
        }
    }
}
