//! The shard record: what the coordination service knows of a shard. It changes only by conditional set.

use std::collections::BTreeSet;

use crate::{Epoch, Fencing, NodeId, SessionId, ShardId, SlotRange};

/// The configuration of a shard in one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShardRecord {
    /// Which shard.
    pub shard: ShardId,
    /// The configuration number.
    pub epoch: Epoch,
    /// Who may write; nobody while an election runs or after a release.
    pub writer: Option<WriterRecord>,
    /// The writer that released the role last (R17); it is not chosen again at once when others can be.
    pub released_by: Option<NodeId>,
    /// The members that count (R18).
    pub voters: BTreeSet<NodeId>,
    /// Q: the voters, the writer included, that must commit a write before it is acknowledged.
    pub write_quorum: usize,
    /// E: the voters that must be sealed before one is promoted; Q + E > N.
    pub election_quorum: usize,
    /// The slots that the shard owns.
    pub slots: Vec<SlotRange>,
    /// Which protocol the shard runs.
    pub fencing: Fencing,
}

/// The writer as the record names it (R11): another session of the same node is no writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriterRecord {
    /// The node.
    pub node: NodeId,
    /// The coordination session under which it was published.
    pub session: SessionId,
}

/// A shard record as it was read, with the liveness of the node that it names, looked at afterwards (R12).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Observed {
    /// Grows with every set; a conditional set names the revision that it replaces.
    pub revision: u64,
    /// The record.
    pub record: ShardRecord,
    /// The session under which the record's writer node is registered right now, if it is.
    pub writer_session: Option<SessionId>,
}

/// Why a pair of quorums was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuorumError {
    /// N is not in 1..=`REPLICATION_FACTOR_MAX`.
    ReplicationFactor(usize),
    /// Q is not in 1..=N.
    WriteQuorum {
        /// Q.
        write_quorum: usize,
        /// N.
        replication_factor: usize,
    },
    /// E is not in N − Q + 1..=N.
    ElectionQuorum {
        /// E.
        election_quorum: usize,
        /// Q.
        write_quorum: usize,
        /// N.
        replication_factor: usize,
    },
}

impl std::fmt::Display for QuorumError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::ReplicationFactor(n) => write!(
                f,
                "replication_factor is {n}; allowed: 1 to {}",
                crate::limits::REPLICATION_FACTOR_MAX
            ),
            Self::WriteQuorum {
                write_quorum,
                replication_factor,
            } => write!(
                f,
                "write_quorum is {write_quorum} with replication_factor {replication_factor}; \
                 allowed: 1 to {replication_factor}"
            ),
            Self::ElectionQuorum {
                election_quorum,
                write_quorum,
                replication_factor,
            } => write!(
                f,
                "election_quorum is {election_quorum} with write_quorum {write_quorum} and \
                 replication_factor {replication_factor}: an election could miss an acknowledged \
                 write (Q + E must exceed N); allowed: {} to {replication_factor}",
                replication_factor - write_quorum + 1
            ),
        }
    }
}

impl std::error::Error for QuorumError {}

/// Checks N, Q and E, and returns E: the given one, or N − Q + 1.
///
/// # Errors
/// Names the number that is out of range and the range.
pub fn election_quorum(
    replication_factor: usize,
    write_quorum: usize,
    by_hand: Option<usize>,
) -> Result<usize, QuorumError> {
    if !(1..=crate::limits::REPLICATION_FACTOR_MAX).contains(&replication_factor) {
        return Err(QuorumError::ReplicationFactor(replication_factor));
    }
    if !(1..=replication_factor).contains(&write_quorum) {
        return Err(QuorumError::WriteQuorum {
            write_quorum,
            replication_factor,
        });
    }
    let least = replication_factor - write_quorum + 1;
    let election_quorum = by_hand.unwrap_or(least);
    if !(least..=replication_factor).contains(&election_quorum) {
        return Err(QuorumError::ElectionQuorum {
            election_quorum,
            write_quorum,
            replication_factor,
        });
    }
    Ok(election_quorum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_write_quorum_meets_every_election_quorum() {
        for n in 1..=7 {
            for q in 1..=n {
                let e = election_quorum(n, q, None).unwrap();
                assert!(q + e > n && e <= n);
                for by_hand in 0..=n + 1 {
                    let allowed = q + by_hand > n && by_hand <= n;
                    assert_eq!(election_quorum(n, q, Some(by_hand)).is_ok(), allowed);
                }
            }
            assert!(election_quorum(n, n + 1, None).is_err());
            assert!(election_quorum(n, 0, None).is_err());
        }
    }
}
