//! The words of the protocol as types: who, where in the log, and what.

use std::fmt;

use bytes::Bytes;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

number!(
    /// One process with its disk. A node that lost synced bytes is a new node (R18).
    NodeId, "n"
);
number!(
    /// A replica set: one writer and its read replicas.
    ShardId, "s"
);
number!(
    /// A shard's configuration number; a new writer, a rollback or a new membership is a new epoch.
    Epoch, "e"
);
number!(
    /// The sequence number of a log entry within its shard, from 1. Zero is the place before the first entry.
    Offset, "o"
);
number!(
    /// A session with the coordination service. An id is never used twice.
    SessionId, "x"
);
number!(
    /// Names one waiting request of one driver. The driver never uses an id twice.
    RequestId, "r"
);

impl Epoch {
    /// The epoch after this one.
    ///
    /// # Panics
    /// After 2^64 epochs.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("epochs do not run out"))
    }
}

impl Offset {
    /// The place before the first entry.
    pub const ZERO: Self = Self(0);

    /// The offset after this one.
    ///
    /// # Panics
    /// After 2^64 entries.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("offsets do not run out"))
    }

    /// The offset before this one; zero stays zero.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// The name of a log entry: the epoch that created it and its place. Compared lexicographically.
///
/// R1: one name, one entry, for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The epoch in which the entry was created.
    pub epoch: Epoch,
    /// Its place in the log.
    pub offset: Offset,
}

impl Version {
    /// The place before the first entry of a log.
    pub const ZERO: Self = Self {
        epoch: Epoch(0),
        offset: Offset(0),
    };

    /// The name of the entry that `epoch` put at `offset`.
    #[must_use]
    pub fn new(epoch: Epoch, offset: Offset) -> Self {
        Self { epoch, offset }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.offset)
    }
}

/// What a log entry does when it is applied.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// The first entry of a writer's epoch (R6, R15). Changes no key.
    EpochStart,
    /// Gives `key` the value `value`.
    Set {
        /// 1 to `limits::KEY_BYTES_MAX` bytes.
        key: Bytes,
        /// Up to `limits::VALUE_BYTES_MAX` bytes.
        value: Bytes,
    },
    /// Takes `key` away. Deleting an absent key is an operation like any other.
    Delete {
        /// 1 to `limits::KEY_BYTES_MAX` bytes.
        key: Bytes,
    },
}

/// One entry of a shard's log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its name.
    pub version: Version,
    /// What it does.
    pub operation: Operation,
}

/// How much a read promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// At the writer, unchecked: read-your-writes on a stable writer, nothing across a failover.
    Local,
    /// At the writer while its lease holds (R16): linearizable as long as clocks drift less than the bound.
    Lease,
    /// At the writer after Q members confirmed its epoch: linearizable whatever the clocks do.
    Quorum,
    /// At any member: eventual; with a session token, read-your-writes and monotonic reads.
    Replica,
}

/// Which protocol runs: the one that is fenced by epochs, or the plain one that the course starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fencing {
    /// R1 to R17.
    Epoch,
    /// No promise, no session in the record, no seal, no `EpochStart`; the highest offset wins.
    None,
}

impl Fencing {
    /// Its name, as files and command lines write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Epoch => "epoch",
            Self::None => "none",
        }
    }
}
