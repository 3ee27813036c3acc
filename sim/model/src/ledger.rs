//! What the members have promised to their clients and to each other, and whether it was kept.
//!
//! The invariants between members are those of `kv_core::invariants`; what clients were told stands here.

use std::str::FromStr;

use kv_core::invariants::{Invariants, Violation};
use kv_core::{NodeId, Offset};

use crate::error::Error;
use crate::wal::{Item, length};

/// A promise that can be broken; each is a property of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// No two processes write in one epoch (R1, R11, R12).
    OneWriter,
    /// At each offset all members commit the same entry (R4, R6).
    OneLog,
    /// No member removes what it has committed, and no new writer lacks it (R5, R13 to R15).
    CommittedStays,
    /// A promise never goes back (R3).
    PromisesStay,
    /// An answer to a writer or to an elector names what is synced (R3, R4, R13).
    ToldIsSynced,
    /// An acknowledged write is on Q disks when it is acknowledged (R6, R8).
    OnQuorum,
    /// A serving writer that the record names has every acknowledged write.
    NoLostWrite,
    /// What ended as `fail` is never committed (R10).
    NoPhantom,
    /// Reads at the writer, by lease or confirmed, are linearizable (R15, R16).
    Linearizable,
    /// The core's own assertions hold.
    Assertions,
}

impl Promise {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::OneWriter,
        Self::OneLog,
        Self::CommittedStays,
        Self::PromisesStay,
        Self::ToldIsSynced,
        Self::OnQuorum,
        Self::NoLostWrite,
        Self::NoPhantom,
        Self::Linearizable,
        Self::Assertions,
    ];

    /// Its name, as tables and flags have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OneWriter => "one writer an epoch",
            Self::OneLog => "one log",
            Self::CommittedStays => "committed stays",
            Self::PromisesStay => "promises stay",
            Self::ToldIsSynced => "answers name what is synced",
            Self::OnQuorum => "acknowledged is on Q disks",
            Self::NoLostWrite => "no lost write",
            Self::NoPhantom => "no phantom",
            Self::Linearizable => "linearizable",
            Self::Assertions => "assertions of the core",
        }
    }

    /// What it says.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::OneWriter => "no two processes write in one epoch",
            Self::OneLog => "at each offset all members commit the same entry",
            Self::CommittedStays => {
                "what is committed is removed by no member and lacks no new writer"
            }
            Self::PromisesStay => "a promise never goes back",
            Self::ToldIsSynced => "what an answer names is on the disk",
            Self::OnQuorum => "a write is on Q disks when it is acknowledged",
            Self::NoLostWrite => "a serving writer has every acknowledged write",
            Self::NoPhantom => "what ended as fail is never committed",
            Self::Linearizable => "a read shows every write that was acknowledged before it began",
            Self::Assertions => "the assertions of the protocol core hold",
        }
    }

    /// Its name on the command line.
    #[must_use]
    pub fn flag(self) -> String {
        self.name().replace(' ', "-").to_lowercase()
    }

    /// All names on the command line.
    #[must_use]
    pub fn flags() -> Vec<String> {
        Self::ALL.into_iter().map(Self::flag).collect()
    }

    /// Which one a violation breaks.
    #[must_use]
    pub fn of(violation: Violation) -> Self {
        match violation {
            Violation::TwoWriters { .. } => Self::OneWriter,
            Violation::TwoLogs { .. } => Self::OneLog,
            Violation::WriterLacks { .. } | Violation::Removed { .. } => Self::CommittedStays,
            Violation::PromiseTakenBack { .. } => Self::PromisesStay,
            Violation::NotSynced { .. } => Self::ToldIsSynced,
        }
    }
}

impl FromStr for Promise {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let flag = name.replace(' ', "-").to_lowercase();
        let known = Self::ALL.into_iter().find(|known| known.flag() == flag);
        known.ok_or_else(|| Error::UnknownProperty {
            name: name.to_owned(),
        })
    }
}

/// Which promises a run has broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Broken(u16);

impl Broken {
    /// Notes one.
    pub fn insert(&mut self, promise: Promise) {
        self.0 |= 1 << promise as u16;
    }

    /// Whether it is broken.
    #[must_use]
    pub fn has(self, promise: Promise) -> bool {
        self.0 & (1 << promise as u16) != 0
    }

    /// Whether any is.
    #[must_use]
    pub fn any(self) -> bool {
        self.0 != 0
    }
}

/// A write and its place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Placed {
    /// Where.
    pub offset: Offset,
    /// What.
    pub item: Item,
}

impl Placed {
    /// Whether a log has it, at or below its commit offset.
    #[must_use]
    pub fn is_in(self, log: &[Item], upto: Offset) -> bool {
        self.offset <= upto && log.get(length(self.offset.previous())) == Some(&self.item)
    }
}

/// What was promised so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ledger {
    /// The invariants between members.
    pub invariants: Invariants,
    /// The writes that were acknowledged.
    pub acknowledged: Vec<Placed>,
    /// The values of the writes that ended as `fail`.
    pub failed: Vec<u8>,
    /// Every value that any member has committed.
    pub committed: Vec<u8>,
    /// What each waiting `quorum` read must show, by member and request.
    pub reads: Vec<(NodeId, u64, Option<Placed>)>,
}

impl Ledger {
    /// What a read that begins now must show at least: the newest write that was acknowledged. (What an earlier read has shown
    /// is committed, and that it stays is a promise of its own.)
    #[must_use]
    pub fn floor(&self) -> Option<Placed> {
        self.acknowledged.last().copied()
    }

    /// A value ended as `fail`.
    pub fn fail(&mut self, value: u8) -> bool {
        if !self.failed.contains(&value) {
            self.failed.push(value);
            self.failed.sort_unstable();
        }
        !self.committed.contains(&value)
    }

    /// A value was committed somewhere.
    pub fn commit(&mut self, value: u8) -> bool {
        if value != 0 && !self.committed.contains(&value) {
            self.committed.push(value);
            self.committed.sort_unstable();
        }
        value == 0 || !self.failed.contains(&value)
    }
}
