//! The coordination agent of a node: one task that keeps the session, the registration and the lease, watches the
//! shard record, and does what the replica asks of the coordination service.

use std::time::Duration;

use kv_core::{Observed, SessionId, ShardRecord};

/// What the driver asks of the agent. Each is answered by one [`Notice`], at the latest after a timeout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Take the shard's election lock; answered by `Lock`.
    Lock,
    /// Give the lock back, or stop waiting for it; not answered.
    Unlock,
    /// Read the record, then the liveness of the session that it names, in this order (R12); answered by `Shard`.
    Read,
    /// Replace the record if it still has that revision; answered by `Set`.
    Set {
        /// The revision that is replaced.
        revision: u64,
        /// The new record.
        record: ShardRecord,
    },
}

/// What the agent tells the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A session began (registered as this node), or the last one is over.
    Session(Option<SessionId>),
    /// The record of the shard that this node is a member of, whenever it or the liveness of its writer changes.
    Shard(Observed),
    /// Whether the lock was granted.
    Lock(bool),
    /// How a `Set` ended.
    Set(SetResult),
    /// The session is known to live until `until` by this node's own clock, whatever happens (R16).
    Lease {
        /// The session.
        session: SessionId,
        /// Its earliest end, on the node's [`Clock`](crate::environment::Clock).
        until: Duration,
    },
}

/// How a conditional set ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetResult {
    /// The record is set, with this revision.
    Done(u64),
    /// Another revision was there; nothing happened.
    Conflict,
    /// Nobody knows: read again (R12).
    Unknown,
}
