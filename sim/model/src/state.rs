//! One state of the whole: the members with their disks, the network, the coordination service, what was promised, and how
//! much of each bound is left.

use arrayvec::ArrayVec;
use kv_core::{NodeId, Offset, Replica, ShardRecord};

use crate::bounds::{Bounds, REPLICAS_MAX};
use crate::ledger::{Broken, Ledger};
use crate::network::Network;
use crate::service::{Service, place};
use crate::shared::Shared;
use crate::wal::{Disk, Durable, Items};

/// One member: the real replica, and what its driver keeps for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// The protocol.
    pub replica: Shared<Replica>,
    /// How many times it was started before.
    pub incarnation: u8,
    /// How many sessions it has had.
    pub sessions: u8,
    /// The log as it was written; the disk may lack its end.
    pub log: Items,
    /// What would survive a crash.
    pub disk: Disk,
    /// What was asked to be made durable and is not, oldest first.
    pub unsynced: Vec<Durable>,
    /// Up to where the engine has applied.
    pub applied: Offset,
    /// Whether the lease holds by the member's own clock (R16).
    pub lease: bool,
    /// A conditional set that is under way (only those for which it matters that time passes).
    pub proposal: Option<(u64, ShardRecord)>,
    /// Whether its next attempt at an election is due some time (only where there are retries).
    pub backs_off: bool,
}

/// What is left of the bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Left {
    /// Writes.
    pub writes: u8,
    /// Crashes.
    pub crashes: u8,
    /// Sessions to lose.
    pub lost_sessions: u8,
    /// Rollbacks to ask for.
    pub rollbacks: u8,
    /// Roles to give back.
    pub releases: u8,
    /// Elections to try again.
    pub retries: u8,
    /// Syncs that take their time.
    pub slow_syncs: u8,
    /// Reads.
    pub reads: u8,
}

impl Left {
    /// Everything is left.
    #[must_use]
    pub fn all(bounds: &Bounds) -> Self {
        Self {
            writes: bounds.writes,
            crashes: bounds.crashes,
            lost_sessions: bounds.lost_sessions,
            rollbacks: bounds.rollbacks,
            releases: bounds.releases,
            retries: bounds.retries,
            slow_syncs: bounds.slow_syncs,
            reads: bounds.reads,
        }
    }
}

/// The members, n1 first.
pub type Members = ArrayVec<Shared<Member>, REPLICAS_MAX>;

/// The whole.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// The members, n1 first.
    pub members: Members,
    /// The messages.
    pub network: Shared<Network>,
    /// The coordination service.
    pub service: Shared<Service>,
    /// What was promised.
    pub ledger: Shared<Ledger>,
    /// What is left of the bounds.
    pub left: Left,
    /// What was broken on the way here.
    pub broken: Broken,
}

impl State {
    /// A member.
    #[must_use]
    pub fn member(&self, node: NodeId) -> &Shared<Member> {
        &self.members[place(node)]
    }

    /// The members' names.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..).take(self.members.len()).map(NodeId)
    }
}
