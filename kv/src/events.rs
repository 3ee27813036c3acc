//! What happens inside a node, written down for the checker.

#[cfg(feature = "net")]
pub mod clock;
pub mod json;

use kv_core::{Epoch, Log, NodeId, Offset, ShardId, ShardRecord, Version};

/// One thing that happened inside a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A new incarnation of the node begins; its recovered log ends at `end`.
    Started {
        /// The last entry of the recovered log.
        end: Version,
        /// What recovery cut off, if anything: file and byte.
        cut: Option<(String, u64)>,
        /// Where bytes were damaged that may have been synced: file and byte. The node is suspect.
        suspect: Option<(String, u64)>,
    },
    /// The node saw this record published.
    Shard(ShardRecord),
    /// The log up to this entry is durable here.
    Synced(ShardId, Version),
    /// The entry was committed and applied here.
    Committed {
        /// Whose log.
        shard: ShardId,
        /// The entry.
        version: Version,
        /// The chained CRC-32 of the log up to it.
        chain: u32,
    },
    /// The writer answered `ok`, having counted these members as having committed the entry.
    Acknowledged {
        /// Whose log.
        shard: ShardId,
        /// The entry.
        version: Version,
        /// The members, the writer included.
        members: Vec<NodeId>,
    },
    /// Everything above `after` was removed from the log.
    Truncated {
        /// Whose log.
        shard: ShardId,
        /// The last entry's offset now.
        after: Offset,
    },
    /// This node became the writer of the epoch.
    Promoted {
        /// The shard.
        shard: ShardId,
        /// The epoch.
        epoch: Epoch,
        /// What its log holds.
        log: Log,
    },
    /// This node stopped being the writer of the epoch.
    Demoted(ShardId, Epoch),
    /// This node promised the epoch.
    Promised(ShardId, Epoch),
    /// This node found E sealed voters and proposes the writer.
    Elected {
        /// The shard.
        shard: ShardId,
        /// The epoch of the election.
        epoch: Epoch,
        /// Who was chosen.
        writer: NodeId,
    },
    /// The writer gave up what stands above `after`, in the new epoch.
    RolledBack {
        /// The shard.
        shard: ShardId,
        /// The new epoch.
        epoch: Epoch,
        /// The last entry that stayed.
        after: Offset,
        /// What its log holds now.
        log: Log,
    },
    /// The writer gave the role back (R17).
    Released(ShardId, Epoch),
    /// A message of an epoch below the promise was refused.
    RefusedStale {
        /// The shard.
        shard: ShardId,
        /// The stale epoch.
        epoch: Epoch,
        /// Who sent it.
        from: NodeId,
    },
    /// A message contradicted a committed entry and was dropped: a bug, or a forged message.
    Contradicted {
        /// The shard.
        shard: ShardId,
        /// The offset in question.
        offset: Offset,
        /// Who sent it.
        from: NodeId,
    },
    /// Under `Fencing::None`: committed entries above `after` were removed.
    Forgot {
        /// The shard.
        shard: ShardId,
        /// The last entry that stayed.
        after: Offset,
    },
    /// The disk may have lost what it had synced above `after`, promises too; the node takes no part in elections.
    Lost {
        /// The shard.
        shard: ShardId,
        /// The last entry's offset that is left.
        after: Offset,
    },
    /// The node has again what its disk may have lost.
    Whole(ShardId),
    /// A snapshot was taken over.
    Installed {
        /// The shard.
        shard: ShardId,
        /// The last entry that it covers.
        version: Version,
        /// The chained CRC-32 of the log up to it.
        chain: u32,
    },
    /// What was fetched is no snapshot, or a damaged one; it is fetched again.
    SnapshotRefused(String),
    /// The engine has durably applied the log up to this entry.
    Checkpoint(Version),
    /// The node stops because of an error.
    Stopped(String),
}

impl Event {
    /// What kind of event it is, in a word.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Shard(_) => "shard",
            Self::Synced(..) => "synced",
            Self::Committed { .. } => "committed",
            Self::Acknowledged { .. } => "acknowledged",
            Self::Truncated { .. } => "truncated",
            Self::Promoted { .. } => "promoted",
            Self::Demoted(..) => "demoted",
            Self::Promised(..) => "promised",
            Self::Elected { .. } => "elected",
            Self::RolledBack { .. } => "rolled-back",
            Self::Released(..) => "released",
            Self::RefusedStale { .. } => "refused-stale",
            Self::Contradicted { .. } => "contradicted",
            Self::Forgot { .. } => "forgot",
            Self::Lost { .. } => "lost",
            Self::Whole(_) => "whole",
            Self::Installed { .. } => "installed",
            Self::SnapshotRefused(_) => "snapshot-refused",
            Self::Checkpoint(_) => "checkpoint",
            Self::Stopped(_) => "stopped",
        }
    }

    /// Whether it happens with every entry, and not only now and then.
    #[must_use]
    pub fn is_of_an_entry(&self) -> bool {
        matches!(
            self,
            Self::Synced(..) | Self::Committed { .. } | Self::Acknowledged { .. }
        )
    }
}

/// Where events go. In the simulator into one global order; in production into the node's own file.
pub trait Events: Send + Sync {
    /// Writes an event down.
    fn record(&self, event: Event);
}

/// Forgets every event.
#[derive(Debug, Clone, Copy)]
pub struct NoEvents;

impl Events for NoEvents {
    fn record(&self, _event: Event) {}
}
