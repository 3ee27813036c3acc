//! What goes into a replica and what comes out of it: the inputs and effects of one step.

use bytes::Bytes;

use crate::{
    Entry, Epoch, Level, Log, Message, NodeId, Observed, Offset, Operation, RequestId, SessionId,
    ShardRecord, Version,
};

/// Something that happened outside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// A message arrived.
    Message {
        /// Who sent it.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// The oldest so many of the durable effects (`Append`, `Truncate`, `Promise`) that were not reported yet are durable.
    Synced(usize),
    /// Clients want these operations done.
    Write(Vec<(RequestId, Operation)>),
    /// A client wants to read.
    Read {
        /// The request.
        request: RequestId,
        /// How much the read promises.
        level: Level,
        /// For [`Level::Replica`]: answer only when this has been applied.
        token: Option<Version>,
    },
    /// The deadline of a request has passed. It is answered at once if it is still waiting.
    Abandon(RequestId),
    /// A timer that was set has fired.
    Timer(Timer),
    /// The session with the coordination service: a new one, once the node is registered under it, or none since the last
    /// has expired.
    Session(Option<SessionId>),
    /// Whether the lease of the present session holds (R16).
    Lease(bool),
    /// The shard record was read.
    Record(Observed),
    /// The election lock was granted, or could not be had.
    Lock(bool),
    /// How the `SetRecord` ended.
    Set(SetResult),
    /// A snapshot of committed entries has been installed: the engine holds, durably, everything up to the end of this log.
    Installed(Log),
    /// Whoever runs the node wants the writer's role elsewhere, if it is here (R17). To be repeated until another writer is seen.
    HandOver,
}

/// How a conditional set of the shard record ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SetResult {
    /// The record is set, and has this revision now.
    Done(u64),
    /// Another revision was there; nothing happened.
    Conflict,
    /// No answer: it may have happened, or may happen yet (R12: read again).
    Unknown,
}

/// A timer of a replica. The driver knows how long each takes and draws the jitter; setting one again replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// The writer's next round of `Prepare`s.
    Heartbeat,
    /// The writer has missed Q voters for too long (R17).
    Release,
    /// A write has waited for Q voters for too long (R9).
    Rollback,
    /// The election has taken too long (R12).
    Election,
    /// Seals are repeated, and the elector stops waiting for more than E.
    Seal,
    /// Time for the next attempt at an election.
    Backoff,
}

/// Something to do outside. Effects are performed in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Durable: append these entries to the WAL. Ends as [`Input::Synced`].
    Append(Vec<Entry>),
    /// Durable: remove every entry above `after` from the WAL. Ends as [`Input::Synced`].
    Truncate {
        /// The last entry that stays.
        after: Offset,
    },
    /// Durable: remember the promise. Ends as [`Input::Synced`].
    Promise(Epoch),
    /// Send a message; it may get lost.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// Send `Prepare`s with the entries after `prev` up to `last`, read from the WAL as it stands at this effect.
    Ship {
        /// To whom.
        to: NodeId,
        /// The epoch of the `Prepare`s.
        epoch: Epoch,
        /// The entry before the first that is sent.
        prev: Version,
        /// The last entry that is sent; `prev.offset` for an empty `Prepare`.
        last: Offset,
        /// The commit offset to tell.
        committed: Offset,
    },
    /// Durable: the log is now this one, of which the WAL has no entry: a snapshot holds what they did. The promise stays. Ends as
    /// [`Input::Synced`].
    Restart(Log),
    /// Durable, though nobody waits for it: this member has again what its disk may have lost.
    DeclareWhole,
    /// Fetch this snapshot from a member: ask for the first byte that is missing, by [`Body::Fetch`](crate::Body::Fetch). Once it is
    /// installed, the driver says [`Input::Installed`].
    Fetch {
        /// Who offers it.
        from: NodeId,
        /// The epoch in which it was offered.
        epoch: Epoch,
        /// The last entry that it covers.
        at: Version,
        /// Its size in bytes.
        bytes: u64,
    },
    /// A part of a snapshot that is being fetched.
    Store {
        /// Who sent it.
        from: NodeId,
        /// The epoch in which it was asked for.
        epoch: Epoch,
        /// Which snapshot.
        at: Version,
        /// Where in it the bytes stand.
        position: u64,
        /// The bytes.
        bytes: Bytes,
        /// Their CRC-32.
        crc: u32,
    },
    /// Send a part of a snapshot that was offered.
    ShipSnapshot {
        /// To whom.
        to: NodeId,
        /// The epoch in which it was offered.
        epoch: Epoch,
        /// Which snapshot.
        at: Version,
        /// From which byte on.
        position: u64,
    },
    /// Apply the committed entries up to here to the engine.
    Apply {
        /// The last one.
        upto: Offset,
    },
    /// Under `Fencing::None` only: committed entries above `after` were truncated; the engine goes back to that position
    /// without undoing them.
    Rewind {
        /// The last entry that counts as applied now.
        after: Offset,
    },
    /// Read the engine now and answer. With [`Level::Lease`], look at the clock once more afterwards (R16), and where the
    /// lease has ended put the request in again with [`Level::Quorum`].
    Serve {
        /// The request.
        request: RequestId,
        /// The level at which it may be served.
        level: Level,
    },
    /// Answer a request without reading.
    Reply {
        /// The request.
        request: RequestId,
        /// The answer.
        reply: Reply,
    },
    /// Set a timer, replacing one of the same kind.
    SetTimer(Timer),
    /// Cancel a timer.
    CancelTimer(Timer),
    /// Take the shard's election lock. Ends as [`Input::Lock`].
    Lock,
    /// Give the lock back, or stop waiting for it.
    Unlock,
    /// Read the shard record, then the liveness of the session that it names (R12). Ends as [`Input::Record`].
    ReadRecord,
    /// Replace the shard record if it still has that revision. Ends as [`Input::Set`].
    SetRecord {
        /// The revision that is replaced.
        revision: u64,
        /// The new record.
        record: ShardRecord,
    },
    /// Something worth writing down happened.
    Observe(Notable),
}

/// What a request came to, where no value is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// R8: the write is committed on Q voters (`ok`).
    Written(Version),
    /// Nobody knows (`info`). Only writes end like this.
    Unknown,
    /// It did not happen and will not (`fail`).
    Refused(Refused),
}

/// Why a request was definitely refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// This member is not the writer; this one may be.
    NotWriter(Option<NodeId>),
    /// The writer is not ready to serve yet (R15).
    NotReady,
    /// R10: the writer gave the write up, and the giving up is committed.
    RolledBack,
    /// The replica has not applied as far as the token asks.
    Behind,
    /// Too few voters confirmed the writer's epoch in time.
    Unconfirmed,
}

impl Reply {
    /// R19: a client repeats by itself only what was definitely refused. An unanswered operation that is sent again takes
    /// effect twice.
    #[must_use]
    pub fn may_repeat(self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

/// What happened inside a replica, for the checker and for people.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Notable {
    /// It became the writer of the epoch.
    Promoted(Epoch),
    /// It stopped being the writer of the epoch.
    Demoted(Epoch),
    /// It promised the epoch.
    Promised(Epoch),
    /// As the elector it chose a writer.
    Elected {
        /// The epoch.
        epoch: Epoch,
        /// The chosen one.
        writer: NodeId,
    },
    /// As the writer it gave up what stood above `after`, in the new epoch.
    RolledBack {
        /// The new epoch.
        epoch: Epoch,
        /// The last entry that stayed.
        after: Offset,
    },
    /// It gave the writer's role back (R17).
    Released(Epoch),
    /// It removed everything above `after` from its log.
    Truncated {
        /// The last entry that stayed.
        after: Offset,
    },
    /// It acknowledged a write, having counted these members.
    Acknowledged {
        /// The entry.
        version: Version,
        /// The members, itself included.
        members: Vec<NodeId>,
    },
    /// It refused a message of an epoch below its promise (R3).
    RefusedStale {
        /// The stale epoch.
        epoch: Epoch,
        /// Who sent it.
        from: NodeId,
    },
    /// It dropped a message that contradicts what it knows to be committed (R5): a bug, or a forged message.
    Contradicted {
        /// The offset in question.
        offset: Offset,
        /// Who sent it.
        from: NodeId,
    },
    /// It took over, from a snapshot, everything up to this entry.
    Installed(Version),
    /// It came up with a disk that may have lost what it had synced; until it says `Whole` it takes no part in elections.
    Suspect,
    /// It has again what its disk may have lost.
    Whole,
    /// Under `Fencing::None`: it removed committed entries above `after`.
    Forgot {
        /// The last entry that stayed.
        after: Offset,
    },
}
