//! What can be chosen about a node and its cluster, validated into a valid type.

use std::time::Duration;

use kv_core::{Fencing, NodeId, QuorumError, SLOT_COUNT, election_quorum};

use crate::engine::EngineKind;
use crate::{store, wal};

/// What all nodes of a cluster agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// How many shards the first assignment makes; it waits until there are nodes for all of them.
    pub shards: u16,
    /// N: nodes in a shard, the writer included.
    pub replication_factor: usize,
    /// Q: nodes, the writer included, that must commit a write before it is acknowledged.
    pub write_quorum: usize,
    /// E: replicas that must be sealed before one is promoted; at least N − Q + 1.
    pub election_quorum: usize,
    /// Which protocol runs.
    pub fencing: Fencing,
}

/// Why a cluster configuration was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The number of shards.
    #[error("shards is {0}; allowed: 1 to {SLOT_COUNT}")]
    Shards(u16),
    /// The quorums.
    #[error(transparent)]
    Quorum(#[from] QuorumError),
}

impl ClusterConfig {
    /// Checks the numbers; `election_quorum` is N − Q + 1 unless it is set by hand.
    ///
    /// # Errors
    /// Names the number that is out of range and the range.
    pub fn new(
        shards: u16,
        replication_factor: usize,
        write_quorum: usize,
        election_quorum_by_hand: Option<usize>,
        fencing: Fencing,
    ) -> Result<Self, ConfigError> {
        if shards == 0 || shards > SLOT_COUNT {
            return Err(ConfigError::Shards(shards));
        }
        let election_quorum =
            election_quorum(replication_factor, write_quorum, election_quorum_by_hand)?;
        Ok(Self {
            shards,
            replication_factor,
            write_quorum,
            election_quorum,
            fencing,
        })
    }

    /// The write quorum where none is chosen: a majority of N.
    #[must_use]
    pub fn majority(replication_factor: usize) -> usize {
        replication_factor / 2 + 1
    }
}

/// How long things take. All are of the node's own making but `session_timeout`, which the coordination service keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long the coordination service keeps a silent session alive. It bounds how fast a dead writer is noticed.
    pub session_timeout: Duration,
    /// How far two clocks may drift apart in a second, in millionths; the lease is shorter by that (R16).
    pub clock_drift_ppm_max: u32,
    /// How often an idle writer sends empty Prepares (R7).
    pub heartbeat: Duration,
    /// How long a write may wait for Q voters before the writer gives it up (R9); shorter than the clients' deadline.
    pub rollback: Duration,
    /// How long a writer may miss Q voters before it releases the role (R17).
    pub release: Duration,
    /// How long an election may try to reach E voters before it gives the lock up (R12).
    pub election: Duration,
    /// How often a seal is repeated while it is not answered.
    pub seal: Duration,
    /// How long to wait before the next attempt at an election; jittered.
    pub backoff: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            session_timeout: ms(4000),
            clock_drift_ppm_max: 10_000,
            heartbeat: ms(300),
            rollback: ms(1000),
            release: ms(3000),
            election: ms(1500),
            seal: ms(200),
            backoff: ms(300),
        }
    }
}

/// N of a cluster of several processes, unless it is chosen.
pub const REPLICATION_FACTOR: usize = 3;

/// How much log is kept for members that lack it, unless it is chosen.
pub const LOG_RETAIN_BYTES: u64 = 64 * 1024 * 1024;

/// Everything chosen about one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Who it is; unique in the cluster, and bound to its data folder.
    pub id: NodeId,
    /// The address that it serves gRPC on, `HOST:PORT`.
    pub listen: String,
    /// The address that others reach it at; usually the same.
    pub advertise: String,
    /// What it agrees on with the others.
    pub cluster: ClusterConfig,
    /// How long things take.
    pub timing: Timing,
    /// How its log is kept.
    pub wal: wal::Options,
    /// How many bytes of log are kept, beyond what its own engine needs, for members that lack them.
    pub log_retain_bytes: u64,
    /// What its data is kept in.
    pub engine: EngineKind,
    /// How it is kept.
    pub store: store::Options,
    /// Whether a client may stop the node with the `Kill` call.
    pub allow_kill: bool,
}
