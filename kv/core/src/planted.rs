//! Bugs to plant, one at a time, so that a checker can show that it would find them.
//!
//! Each breaks one rule of `docs/protocol.md`: every rule of R1 to R17 that says there in how many steps it was seen to matter,
//! and a few mistakes beside. They exist only in a build with `--cfg planted`. Without it [`planted`] is a constant, there is no
//! function that plants anything, and the compiler leaves every bug out.

#[cfg(planted)]
use std::sync::atomic::{AtomicUsize, Ordering};

/// A mistake in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bug {
    /// R1: a process that restarts resumes the epoch in which it wrote: the record is taken to name the node, not its session.
    RestartResumes,
    /// R2: `Prepared`, `Committed`, `Sealed` and `Confirmed` count in whatever epoch they arrive.
    AnswersOfAnyEpoch,
    /// R3: a promise counts as synced as soon as it is asked for.
    PromiseNotAwaited,
    /// R3: a `Prepare` of an epoch below the promise is accepted.
    LowerEpochsAccepted,
    /// R4: a replica that has any entry at the offset of `prev` takes it for `prev`.
    PrevByOffset,
    /// R4: a `Prepare` that ends earlier shortens the log.
    PrepareShortens,
    /// R4: `Prepared` names the end of the log, not what was verified.
    PreparedNamesEnd,
    /// R6: the writer counts its own vote before its own disk has synced.
    OwnVoteUnsynced,
    /// R6: entries of older epochs are committed by counting (Raft, figure 8).
    OldEntriesCounted,
    /// R7: a `Commit` is honoured beyond what was verified.
    CommitUnverified,
    /// R9: a rollback gives up entries that are committed.
    RollbackOfCommitted,
    /// R9: a rollback gives up the writer's own `EpochStart`, and what the election had found.
    RollbackOfOwnStart,
    /// R9: which writes are given up is judged when the rollback is asked for, not when it takes place.
    JudgedWhenAsked,
    /// R9: a writer that was deposed while it had writes to give up sets itself as the writer again, in its new session.
    DeposedReturns,
    /// R9: after a rollback, the new epoch is opened before the promise and the truncation are durable. (The core asserts that they
    /// are. With the assertion gone the model finds no harm: the writer counts no vote before its own disk has synced all of it.)
    OpensUndurable,
    /// R10: `fail` is told as soon as the rollback begins, if an earlier `EpochStart` of the writer's is committed.
    FailAtEarlierStart,
    /// R10: `fail` is told when Q voters have answered in the new epoch, before its `EpochStart` is committed.
    FailAtPromises,
    /// R12: the look at the writer's session is older than the record that is read: an election that has begun goes on.
    LooksBeforeReading,
    /// R13: `Sealed` names the end of the log, synced or not. (It does so where a seal is answered again. A member that loses what it
    /// named has lost its session, too, so that nobody can be published on such a word.)
    SealedNamesEnd,
    /// R14: the highest offset wins, whatever its epoch.
    OffsetAloneWins,
    /// R14: one voter fewer than E suffices.
    FewerThanElectionQuorum,
    /// R15: a writer serves before its `EpochStart` is committed.
    ServesBeforeStart,
    /// R16: a new session neither demotes the writer nor takes its lease.
    LeaseOfAnotherSession,
    /// R16: the clock is not looked at for a read: a lease that was had once holds. (The drivers' bug.)
    NoFreshLook,
    /// One voter fewer than Q suffices to commit and to acknowledge.
    FewerThanWriteQuorum,
    /// A replica answers a `Prepare` before its disk has synced.
    AnswersUnsynced,
    /// A write that is committed, but not acknowledged yet, is given up with the others.
    FailOfCommitted,
    /// An election begins and goes on while the writer's session stands.
    ElectionAgainstWriter,
    /// A seal is answered before the promise is synced.
    SealBeforeSync,
    /// A process that restarts forgets what it has promised.
    PromiseForgotten,
    /// The writer counts itself as a follower, too.
    CountedTwice,
    /// `quorum` reads are served on confirmations of an earlier round.
    StaleConfirmations,
}

impl Bug {
    /// All of them, in the order of the rules.
    pub const ALL: [Self; 32] = [
        Self::RestartResumes,
        Self::AnswersOfAnyEpoch,
        Self::PromiseNotAwaited,
        Self::LowerEpochsAccepted,
        Self::PrevByOffset,
        Self::PrepareShortens,
        Self::PreparedNamesEnd,
        Self::OwnVoteUnsynced,
        Self::OldEntriesCounted,
        Self::CommitUnverified,
        Self::RollbackOfCommitted,
        Self::RollbackOfOwnStart,
        Self::JudgedWhenAsked,
        Self::DeposedReturns,
        Self::OpensUndurable,
        Self::FailAtEarlierStart,
        Self::FailAtPromises,
        Self::LooksBeforeReading,
        Self::SealedNamesEnd,
        Self::OffsetAloneWins,
        Self::FewerThanElectionQuorum,
        Self::ServesBeforeStart,
        Self::LeaseOfAnotherSession,
        Self::NoFreshLook,
        Self::FewerThanWriteQuorum,
        Self::AnswersUnsynced,
        Self::FailOfCommitted,
        Self::ElectionAgainstWriter,
        Self::SealBeforeSync,
        Self::PromiseForgotten,
        Self::CountedTwice,
        Self::StaleConfirmations,
    ];

    /// Its name, as flags and tables have it, and the rule that it breaks.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::RestartResumes => ("restart-resumes", "R1"),
            Self::AnswersOfAnyEpoch => ("answers-of-any-epoch", "R2"),
            Self::PromiseNotAwaited => ("promise-not-awaited", "R3"),
            Self::LowerEpochsAccepted => ("lower-epochs-accepted", "R3"),
            Self::PrevByOffset => ("prev-by-offset", "R4"),
            Self::PrepareShortens => ("prepare-shortens", "R4"),
            Self::PreparedNamesEnd => ("prepared-names-end", "R4"),
            Self::OwnVoteUnsynced => ("own-vote-unsynced", "R6"),
            Self::OldEntriesCounted => ("old-entries-counted", "R6"),
            Self::CommitUnverified => ("commit-unverified", "R7"),
            Self::RollbackOfCommitted => ("rollback-of-committed", "R9"),
            Self::RollbackOfOwnStart => ("rollback-of-own-start", "R9"),
            Self::JudgedWhenAsked => ("judged-when-asked", "R9"),
            Self::DeposedReturns => ("deposed-returns", "R9"),
            Self::OpensUndurable => ("opens-undurable", "R9"),
            Self::FailAtEarlierStart => ("fail-at-earlier-start", "R10"),
            Self::FailAtPromises => ("fail-at-promises", "R10"),
            Self::LooksBeforeReading => ("looks-before-reading", "R12"),
            Self::SealedNamesEnd => ("sealed-names-end", "R13"),
            Self::OffsetAloneWins => ("offset-alone-wins", "R14"),
            Self::FewerThanElectionQuorum => ("fewer-than-election-quorum", "R14"),
            Self::ServesBeforeStart => ("serves-before-start", "R15"),
            Self::LeaseOfAnotherSession => ("lease-of-another-session", "R16"),
            Self::NoFreshLook => ("no-fresh-look", "R16"),
            Self::FewerThanWriteQuorum => ("fewer-than-write-quorum", "R6, R8"),
            Self::AnswersUnsynced => ("answers-unsynced", "R4"),
            Self::FailOfCommitted => ("fail-of-committed", "R9"),
            Self::ElectionAgainstWriter => ("election-against-writer", "R12"),
            Self::SealBeforeSync => ("seal-before-sync", "R3, R13"),
            Self::PromiseForgotten => ("promise-forgotten", "R3"),
            Self::CountedTwice => ("counted-twice", "R2, R6"),
            Self::StaleConfirmations => ("stale-confirmations", "R16"),
        }
    }

    /// Its name, as flags and tables have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.words().0
    }

    /// The rule that it breaks.
    #[must_use]
    pub const fn rule(self) -> &'static str {
        self.words().1
    }
}

/// The planted bug's place in the list, from 1; 0 for none.
#[cfg(planted)]
static PLANTED: AtomicUsize = AtomicUsize::new(0);

/// Plants a bug in this process, instead of the one before.
#[cfg(planted)]
pub fn plant(bug: Option<Bug>) {
    let number = bug.map_or(0, |bug| bug as usize + 1);
    PLANTED.store(number, Ordering::SeqCst);
}

/// Whether this bug is planted.
#[cfg(planted)]
#[must_use]
pub fn planted(bug: Bug) -> bool {
    PLANTED.load(Ordering::Relaxed) == bug as usize + 1
}

/// Whether this bug is planted: in this build none is, and none can be.
#[cfg(not(planted))]
#[must_use]
pub const fn planted(_: Bug) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(not(planted))]
    #[test]
    fn the_shipped_build_has_no_bug_planted() {
        const { assert!(!planted(Bug::RestartResumes)) };
        assert!(Bug::ALL.iter().all(|bug| !planted(*bug)));
    }

    #[test]
    fn every_bug_is_listed_once_under_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        assert_eq!(names.len(), Bug::ALL.len());
        let places = Bug::ALL.iter().map(|bug| *bug as usize);
        assert!(places.eq(0..Bug::ALL.len()));
    }
}
