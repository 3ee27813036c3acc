//! The coordination service as a node sees it: a small tree of versioned znodes, with sessions that end.
//!
//! The trait has the shape of ZooKeeper (Hunt et al., "ZooKeeper: Wait-free coordination for Internet-scale systems", ATC
//! 2010), reduced to what the store needs.
//!
//! ```text
//! registry.rs (lock.rs, records.rs)   what the store keeps there: nodes, shards, locks
//! ───────────────────────── Coordination, Session ─────────────────────────
//! embedded.rs        the simulated service      zookeeper.rs
//!        └───── tree.rs ─────┘
//! ```
//!
//! `tree.rs` is the service itself as a pure state machine; `conformance.rs` holds every implementation to the contract.
//!
//! A path is made of names joined by slashes, without one at either end: `shards/3`.

pub mod conformance;
pub mod embedded;
pub mod lock;
pub mod records;
pub mod registry;
pub mod tree;
#[cfg(feature = "zookeeper")]
pub mod zookeeper;

use std::time::Duration;

use async_trait::async_trait;
use kv_core::SessionId;

/// Opens sessions.
#[async_trait]
pub trait Coordination: Send + Sync {
    /// Opens a new session.
    async fn connect(&self) -> Result<Box<dyn Session>, CoordinationError>;
    /// What shows how long a session is kept (R16).
    fn lease_proof(&self) -> LeaseProof {
        LeaseProof::Write
    }
}

/// From when on a session is kept for its timeout, as shown by an answered write of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseProof {
    /// From when it was sent.
    Write,
    /// From when the write before it was sent, if that was answered a quarter of the timeout before this one was sent, or more: the
    /// server that answers only lets the one that keeps the sessions know, within that time, of whom it has heard.
    NextWrite,
}

/// One session with the coordination service. Dropping it without `close` leaves it to time out.
///
/// Contract, asserted for every implementation by `conformance::check`:
/// 1. a session id is never used twice; its ephemeral znodes go when it is closed or has not been heard of for the timeout;
/// 2. `multi` is atomic: all of its operations happen or none; a version or existence check that fails is `Conflict`;
/// 3. an answer of a later call is never older than that of an earlier one of the same session;
/// 4. `read` and `children` leave a one-shot watch, set in the same step as the reading: a later change gives one
///    [`SessionEvent::Changed`] of that path;
/// 5. after `Expired` every call errs with `Expired`, for ever;
/// 6. a call whose answer did not arrive in time is `Unknown`: it may have happened, or may happen yet.
#[async_trait]
pub trait Session: Send + Sync {
    /// The session's id.
    fn id(&self) -> SessionId;
    /// How long the service keeps this session when it hears nothing: what it granted, not what was asked for (R16).
    fn timeout(&self) -> Duration;
    /// Reads a znode, and watches it (its coming into being, too).
    async fn read(&self, path: &str) -> Result<Option<Znode>, CoordinationError>;
    /// The names of a znode's children, sorted, and watches them; empty where there is no such znode.
    async fn children(&self, path: &str) -> Result<Vec<String>, CoordinationError>;
    /// Does all of the changes or none. Missing parents of a created znode are made as persistent ones; they may stay where the changes
    /// come to nothing.
    /// Returns for each change the znode's new version (0 once it is deleted), and the path as created.
    async fn multi(&self, changes: Vec<Change>) -> Result<Vec<Changed>, CoordinationError>;
    /// Waits for the next event. Cancel-safe. Once the session is over, it is `Expired` again and again.
    async fn event(&self) -> SessionEvent;
    /// Ends the session at once, best effort.
    async fn close(&self);
}

/// One change of a `multi`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Makes a znode that must not exist.
    Create {
        /// Where; with `Sequential`, a prefix.
        path: String,
        /// What it holds.
        data: Vec<u8>,
        /// How long it lives.
        mode: CreateMode,
    },
    /// Replaces the data of a znode that must exist.
    Set {
        /// Where.
        path: String,
        /// The new data.
        data: Vec<u8>,
        /// The version that it must have; nothing for any.
        version: Option<u64>,
    },
    /// Takes a znode away that must exist and have no children.
    Delete {
        /// Where.
        path: String,
        /// The version that it must have; nothing for any.
        version: Option<u64>,
    },
}

/// How long a znode lives and how it is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateMode {
    /// Until it is deleted.
    Persistent,
    /// As long as the session that made it.
    Ephemeral,
    /// As `Ephemeral`, with a ten-digit number appended that grows with every such znode of the parent.
    EphemeralSequential,
}

/// What one change of a `multi` did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The znode, its sequence number included.
    pub path: String,
    /// Its version now.
    pub version: u64,
}

/// A znode as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Znode {
    /// What it holds.
    pub data: Vec<u8>,
    /// 0 when created, one more with each set.
    pub version: u64,
    /// The session that it lives as long as, for ephemeral ones.
    pub owner: Option<SessionId>,
}

/// What a session tells without being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// A watched path may have changed: read it again.
    Changed {
        /// The watched path.
        path: String,
    },
    /// Nothing has been heard from the service for a while. The session may live.
    Disconnected,
    /// The service is heard from again.
    Connected,
    /// The session is over, and its ephemeral znodes are gone.
    Expired,
}

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoordinationError {
    /// A version, an existence check or an absence check did not hold; nothing happened.
    #[error("the coordination service refused: the data has changed meanwhile")]
    Conflict,
    /// No answer in time: it may have happened, or may happen yet.
    #[error("no answer from the coordination service in time")]
    Unknown,
    /// The session is over.
    #[error("the session with the coordination service has expired")]
    Expired,
    /// The service could not be reached at all; nothing happened.
    #[error("the coordination service cannot be reached")]
    Unreachable,
    /// What was read is not what a store of this version writes.
    #[error(
        "the coordination service holds data that this version cannot read; run the version that wrote it, or give this cluster a \
         place of its own"
    )]
    Unreadable,
    /// The service does not let this identity do that; nothing happened.
    #[error(
        "the coordination service refuses this identity: its access lists or quotas do not allow the call; start the node with the \
         identity that the cluster's znodes belong to"
    )]
    Forbidden,
}
