//! The bugs of `kv_core::planted`: within which bounds each is found, by which promise it breaks, and which reductions it takes away.
//!
//! The bounds are the smallest that do. A bug is there only in a build with `--cfg planted`, once `kv_core::planted::plant` was told.
//! `tests/planted.rs` shows that each is found, and that without it all promises hold within the same bounds.
//!
//! A reduction argues from the rules; where the rule is broken on purpose, it is off.

use kv_core::planted::{Bug, planted};

use crate::bounds::Bounds;
use crate::ledger::Promise;
use crate::system::System;

/// How a planted bug is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hunt {
    /// How far one has to look.
    pub bounds: Bounds,
    /// What the bug breaks.
    pub breaks: Promise,
}

/// One epoch in which nothing goes wrong. What is needed is added.
const NOTHING: Bounds = Bounds {
    writes: 0,
    epochs: 1,
    crashes: 0,
    lost_sessions: 0,
    rollbacks: 0,
    symmetric: false, // The search goes breadth first, for the shortest path.
    ..Bounds::QUICK
};

/// One write.
const WRITE: Bounds = Bounds {
    writes: 1,
    ..NOTHING
};

/// An election, because a session is lost.
const ELECTION: Bounds = Bounds {
    epochs: 2,
    lost_sessions: 1,
    ..NOTHING
};

/// A write and an election.
const FAILOVER: Bounds = Bounds {
    writes: 1,
    ..ELECTION
};

/// A write and a rollback.
const ROLLBACK: Bounds = Bounds {
    writes: 1,
    epochs: 2,
    rollbacks: 1,
    ..NOTHING
};

/// A write, a rollback and an election.
const ROLLBACK_AND_ELECTION: Bounds = Bounds {
    epochs: 3,
    lost_sessions: 1,
    ..ROLLBACK
};

/// How a bug is found.
#[must_use]
pub fn hunt(bug: Bug) -> Hunt {
    let (breaks, bounds) = match bug {
        Bug::OpensUndurable => (Promise::Assertions, ROLLBACK),
        Bug::RestartResumes => (
            Promise::OneWriter,
            Bounds {
                crashes: 1,
                ..NOTHING
            },
        ),
        Bug::CommitUnverified => (Promise::OneLog, ELECTION),
        Bug::PreparedNamesEnd => (Promise::OneLog, FAILOVER),
        Bug::PrevByOffset => (
            Promise::OneLog,
            Bounds {
                writes: 2,
                ..ROLLBACK_AND_ELECTION
            },
        ),
        Bug::LowerEpochsAccepted | Bug::FewerThanElectionQuorum => {
            (Promise::CommittedStays, ELECTION)
        }
        Bug::PromiseNotAwaited | Bug::SealBeforeSync | Bug::PromiseForgotten => (
            Promise::CommittedStays,
            Bounds {
                crashes: 1,
                ..ELECTION
            },
        ),
        Bug::OffsetAloneWins => (
            Promise::CommittedStays,
            Bounds {
                epochs: 3,
                lost_sessions: 2,
                ..NOTHING
            },
        ),
        Bug::OldEntriesCounted => (
            Promise::CommittedStays,
            Bounds {
                epochs: 4,
                releases: 3, // Three lost sessions do as well, at six times the states.
                ..NOTHING
            },
        ),
        Bug::PrepareShortens => (Promise::CommittedStays, FAILOVER),
        Bug::RollbackOfCommitted => (
            Promise::CommittedStays,
            Bounds {
                writes: 2,
                ..ROLLBACK
            },
        ),
        Bug::AnswersOfAnyEpoch | Bug::RollbackOfOwnStart | Bug::DeposedReturns => {
            (Promise::CommittedStays, ROLLBACK_AND_ELECTION)
        }
        Bug::SealedNamesEnd => (
            Promise::ToldIsSynced,
            Bounds {
                replicas: 2,
                slow_syncs: 1,
                reduces: false, // An election that has all its answers is asked no more.
                ..ELECTION
            },
        ),
        Bug::OwnVoteUnsynced | Bug::AnswersUnsynced => (
            Promise::OnQuorum,
            Bounds {
                slow_syncs: 1,
                ..WRITE
            },
        ),
        Bug::FewerThanWriteQuorum | Bug::CountedTwice => (Promise::NoLostWrite, FAILOVER),
        Bug::JudgedWhenAsked | Bug::FailOfCommitted => (Promise::NoPhantom, ROLLBACK),
        Bug::FailAtEarlierStart | Bug::FailAtPromises => {
            (Promise::NoPhantom, ROLLBACK_AND_ELECTION)
        }
        Bug::ServesBeforeStart | Bug::LeaseOfAnotherSession | Bug::NoFreshLook => {
            (Promise::Linearizable, FAILOVER)
        }
        Bug::LooksBeforeReading | Bug::ElectionAgainstWriter => (
            Promise::Linearizable,
            Bounds {
                epochs: 3,
                releases: 1,
                retries: 1,
                ..WRITE
            },
        ),
        Bug::StaleConfirmations => (
            Promise::Linearizable,
            Bounds {
                reads: 2,
                ..FAILOVER
            },
        ),
    };
    Hunt { bounds, breaks }
}

/// Whether promises keep out what is below them (R3): then nobody can listen to it.
pub(crate) fn keeps_promises() -> bool {
    !planted(Bug::LowerEpochsAccepted) && !planted(Bug::PromiseForgotten)
}

/// Whether an answer counts in its own epoch only (R2).
pub(crate) fn keeps_answers_apart() -> bool {
    !planted(Bug::AnswersOfAnyEpoch)
}

/// Whether it makes no difference when a member learns the record: it is read again before anything comes of it (R12).
pub(crate) fn learns_at_once() -> bool {
    !planted(Bug::LooksBeforeReading)
}

/// Whether a `Prepare` of what a member has changes nothing (R4).
pub(crate) fn keeps_what_is_held() -> bool {
    !planted(Bug::PrepareShortens)
}

impl System {
    /// Whether what is only noted happens at once. A member that accepts lower epochs (R3) goes to and fro between two writers.
    pub(crate) fn settles(&self) -> bool {
        self.bounds.prunes() && !planted(Bug::LowerEpochsAccepted)
    }
}
