//! How far the exploration goes. Every bound is a budget that a run spends; within them everything is tried.

use kv_core::{Fencing, election_quorum};

use crate::error::Error;
use crate::wal::WRITES_MAX;

/// The most voters: with more, nothing is explored completely.
pub const REPLICAS_MAX: usize = 5;
/// The most of anything else.
const BUDGET_MAX: u8 = 9;

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
    /// Times that a member considers an election by what it has seen before (`Timer::Backoff`).
    pub retries: u8,
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
        retries: 0,
        slow_syncs: 0,
        reads: 0,
        reduces: true,
        symmetric: true,
        bad_clocks: false,
    };

    /// What is explored at a desk, one after the other: `QUICK` with a second lost session, with a second crash, and with four
    /// voters, once with a rollback and once with a crash and one write. (Two of these at once take more time and memory than a desk
    /// has.)
    pub const DEEP: [Self; 6] = [
        Self {
            lost_sessions: 2,
            ..Self::QUICK
        },
        Self {
            crashes: 2,
            ..Self::QUICK
        },
        Self::four_and_a_rollback(2),
        Self::four_and_a_rollback(3),
        Self::four_and_a_crash(2),
        Self::four_and_a_crash(3),
    ];

    /// Four voters, none of which crashes.
    const fn four_and_a_rollback(quorum: u8) -> Self {
        Self {
            replicas: 4,
            quorum,
            crashes: 0,
            ..Self::QUICK
        }
    }

    /// Four voters, one of which may crash.
    const fn four_and_a_crash(quorum: u8) -> Self {
        Self {
            replicas: 4,
            quorum,
            writes: 1,
            rollbacks: 0,
            ..Self::QUICK
        }
    }

    /// Whether every bound is in range and can be used up.
    ///
    /// # Errors
    /// Names the first bound that is not.
    pub fn check(&self) -> Result<(), Error> {
        let in_range = |bound, given: u8, least: u8, most: u8| {
            if (least..=most).contains(&given) {
                return Ok(());
            }
            Err(Error::OutOfRange {
                bound,
                given: given.into(),
                least: least.into(),
                most: most.into(),
            })
        };
        in_range("replicas", self.replicas, 1, REPLICAS_MAX as u8)?;
        in_range("quorum", self.quorum, 1, self.replicas)?;
        in_range("writes", self.writes, 0, WRITES_MAX)?;
        in_range("epochs", self.epochs, 1, BUDGET_MAX)?;
        in_range("crashes", self.crashes, 0, BUDGET_MAX)?;
        in_range("lost-sessions", self.lost_sessions, 0, BUDGET_MAX)?;
        in_range("rollbacks", self.rollbacks, 0, BUDGET_MAX)?;
        in_range("releases", self.releases, 0, BUDGET_MAX)?;
        in_range("retries", self.retries, 0, BUDGET_MAX)?;
        in_range("slow-syncs", self.slow_syncs, 0, BUDGET_MAX)?;
        in_range("reads", self.reads, 0, BUDGET_MAX)?;
        if self.rollbacks > 0 && self.epochs < 2 {
            return Err(Error::Idle {
                bound: "rollbacks",
                needs: "a second epoch (--epochs 2)",
            });
        }
        if self.bad_clocks && self.lost_sessions == 0 {
            return Err(Error::Idle {
                bound: "bad-clocks",
                needs: "a session that is lost (--lost-sessions 1)",
            });
        }
        self.election_quorum().map(|_| ())
    }

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
