//! How far the exploration goes. Every bound is a budget that a run spends; within them everything is tried.

use kv_core::{Fencing, election_quorum};

use crate::error::Error;

/// The bounds of one exploration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// N: the voters.
    pub replicas: u8,
    /// Q: the write quorum.
    pub quorum: u8,
    /// Which protocol.
    pub fencing: Fencing,
    /// Writes by clients, each with a value of its own.
    pub writes: u8,
    /// The highest epoch: 1 is the epoch of the first writer, each election and each rollback takes another.
    pub epochs: u8,
    /// Members that crash and restart; what they had not synced is gone.
    pub crashes: u8,
    /// Sessions that the coordination service ends.
    pub lost_sessions: u8,
    /// Times that the writer's patience with Q ends, and it asks for a rollback (R9).
    pub rollbacks: u8,
    /// Times that a writer gives its role back for want of Q voters (R17).
    pub releases: u8,
    /// Steps whose durable effects are not synced at once.
    pub slow_syncs: u8,
    /// `quorum` and slow `lease` reads. (Reads that take no time are checked in every state.)
    pub reads: u8,
    /// Whether equal situations are made equal states (`reduction.rs`).
    pub reduces: bool,
    /// Whether of states that differ in names only one is explored (`symmetry.rs`).
    pub symmetric: bool,
    /// Whether a session may end before the lease that belongs to it: what clocks beyond the bound do.
    pub bad_clocks: bool,
}

impl Bounds {
    /// What CI explores completely: three voters, two values, three epochs, a lost session, a crash and a rollback.
    pub const QUICK: Self = Self {
        replicas: 3,
        quorum: 2,
        fencing: Fencing::Epoch,
        writes: 2,
        epochs: 3,
        crashes: 1,
        lost_sessions: 1,
        rollbacks: 1,
        releases: 0,
        slow_syncs: 0,
        reads: 0,
        reduces: true,
        symmetric: true,
        bad_clocks: false,
    };

    /// Whether messages that their receivers cannot listen to any more are left out. The plain protocol has no promises by
    /// which to tell them.
    #[must_use]
    pub fn prunes(&self) -> bool {
        self.reduces && self.fencing == Fencing::Epoch
    }

    /// E, computed as everywhere.
    ///
    /// # Errors
    /// When N and Q do not go together.
    pub fn election_quorum(&self) -> Result<usize, Error> {
        Ok(election_quorum(
            usize::from(self.replicas),
            usize::from(self.quorum),
            None,
        )?)
    }
}
