//! What members of a shard say to each other. Any message may be lost, doubled, delayed or overtaken.

use bytes::Bytes;

use crate::{Entry, Epoch, Offset, SessionId, Version};

/// A message between members (R2: every message carries its epoch, and counts only there).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// The writer's or the election's epoch; an answer repeats that of the question.
    pub epoch: Epoch,
    /// What is said.
    pub body: Body,
}

/// The body of a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// Writer to replica: append `entries` after `prev`. Empty, it is the heartbeat (R4, R7).
    Prepare {
        /// The entry before the first of `entries`.
        prev: Version,
        /// Consecutive entries; the first stands at `prev.offset + 1`.
        entries: Vec<Entry>,
        /// What the writer knows to be committed.
        committed: Offset,
    },
    /// Replica to writer: my log equals yours up to here, and that is synced (R4).
    Prepared {
        /// The last entry that Prepares of this epoch verified and that is synced.
        upto: Offset,
        /// What the replica has committed.
        committed: Offset,
    },
    /// Replica to writer: I do not hold `prev`.
    Refused {
        /// The `prev` that was refused.
        prev: Version,
        /// The replica's greatest entry that is not above `prev`.
        hint: Version,
    },
    /// The answer to anything of an epoch that is below the promise (R3).
    Stale {
        /// The promise.
        promised: Epoch,
    },
    /// Writer to replica: everything up to here is on Q disks.
    Commit {
        /// The commit offset.
        upto: Offset,
    },
    /// Replica to writer: I have committed (applied) up to here.
    Committed {
        /// The commit offset.
        upto: Offset,
    },
    /// Elector to voter: promise this epoch and tell me your log (R13). Under `Fencing::None` it only asks.
    Seal,
    /// Voter to elector: promised and synced; my synced log ends here.
    Sealed {
        /// The last synced entry.
        end: Version,
        /// The session under which the voter may be published.
        session: SessionId,
    },
    /// Writer to voter, for `quorum` reads: have you promised nothing higher?
    Confirm {
        /// Which batch of reads asks; a confirmation of an earlier one proves nothing.
        round: u64,
    },
    /// Voter to writer: nothing higher.
    Confirmed {
        /// The batch that asked.
        round: u64,
    },
    /// Suspect to writer: my disk has lost what it had synced, so whatever I have told you counts no longer (R18).
    Lost {
        /// The suspect's session: which life of it says so.
        session: SessionId,
    },
    /// Writer to suspect: this much is all that you can have lost.
    Extent {
        /// The life that asked.
        session: SessionId,
        /// The end of the writer's log.
        end: Offset,
    },
    /// Writer to replica: I no longer have the entries that you lack; take my snapshot.
    Offer {
        /// The last entry that it covers.
        at: Version,
        /// Its size in bytes.
        bytes: u64,
    },
    /// Replica to whoever offered a snapshot: go on from this byte.
    Fetch {
        /// Which snapshot.
        at: Version,
        /// How many bytes of it the replica has.
        position: u64,
    },
    /// A part of a snapshot.
    Chunk {
        /// Which snapshot.
        at: Version,
        /// Where in it the bytes stand.
        position: u64,
        /// The bytes.
        bytes: Bytes,
        /// Their CRC-32.
        crc: u32,
    },
    /// Writer to replica, under `Fencing::None` only: forget what stands above `after`.
    Rollback {
        /// The last entry that stays.
        after: Offset,
    },
}
