//! The follower's side of a write: verify, append, sync, answer (R4); learn what is committed (R5, R7).

use super::{Replica, Role, send};
use crate::log::follows;
use crate::planted::{Bug, planted};
use crate::step::{Effect, Notable};
use crate::{Body, Entry, Epoch, NodeId, Offset, Version};

/// What a follower knows of the writer that it follows. Volatile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Following {
    /// The epoch of the writer.
    pub(super) epoch: Epoch,
    /// The writer, once it was heard.
    pub(super) writer: Option<NodeId>,
    /// The log equals the writer's up to here: what `Prepare`s of this epoch verified.
    verified: Offset,
    /// The writer has said that everything up to here is committed.
    learned: Offset,
    /// The last answer named this offset.
    answered: Offset,
    /// Whether a `Prepare` waits for the disk before it can be answered.
    owes_answer: bool,
}

impl Following {
    /// How far the log equals the writer's.
    pub(super) fn verified(&self) -> Offset {
        self.verified
    }

    /// The log is another one now: nothing of it is verified yet.
    pub(super) fn forget_log(&mut self) {
        *self = Self {
            epoch: self.epoch,
            writer: self.writer,
            ..Self::default()
        };
    }
}

impl Replica {
    /// R4: verifies that the log holds `prev`, removes a suffix only where it conflicts, and appends the rest.
    pub(super) fn on_prepare(
        &mut self,
        from: NodeId,
        epoch: Epoch,
        prev: Version,
        mut entries: Vec<Entry>,
        committed: Offset,
        effects: &mut Vec<Effect>,
    ) {
        if !is_well_formed(epoch, prev, &entries) || !self.follow(from, epoch) {
            return;
        }
        self.confess(from, epoch, self.log.holds(prev), effects);
        let by_offset = planted(Bug::PrevByOffset) && self.log.end().offset >= prev.offset;
        if !self.log.holds(prev) && !by_offset {
            return self.answer_refused(from, epoch, prev, effects);
        }
        let last = entries
            .last()
            .map_or(prev.offset, |entry| entry.version.offset);
        let held = entries
            .iter()
            .take_while(|entry| self.log.holds(entry.version))
            .count();
        entries.drain(..held);
        if let Some(first) = entries.first() {
            let after = first.version.offset.previous();
            if after < self.committed && self.fencing.promises() {
                let offset = first.version.offset;
                effects.push(Effect::Observe(Notable::Contradicted { offset, from }));
                return; // R5: what I know to be committed stays.
            }
            if after < self.log.end().offset {
                self.truncate(after, effects);
            }
            self.append(entries, effects);
        } else if planted(Bug::PrepareShortens) && last < self.log.end().offset {
            self.truncate(last.max(self.committed), effects);
        }
        let Role::Follower(following) = &mut self.role else {
            return;
        };
        following.verified = following.verified.max(last);
        following.learned = following.learned.max(committed);
        following.owes_answer = true;
        self.acknowledge_prepare(effects);
        self.clear_suspicion(effects);
    }

    /// Turns to the writer that speaks in this epoch. False where nobody is followed: this member is the writer itself, or
    /// the epoch has another writer (then one of the two is forged).
    pub(super) fn follow(&mut self, from: NodeId, epoch: Epoch) -> bool {
        let Role::Follower(following) = &mut self.role else {
            return false;
        };
        if following.epoch != epoch || (!self.fencing.promises() && following.writer != Some(from))
        {
            *following = Following {
                epoch,
                ..Following::default()
            };
        }
        *following.writer.get_or_insert(from) == from
    }

    /// Answers a `Prepare` as far as it is verified and synced, after committing what is known to be committed.
    pub(super) fn acknowledge_prepare(&mut self, effects: &mut Vec<Effect>) {
        let durable = &self.durability;
        let Role::Follower(following) = &mut self.role else {
            return;
        };
        let Some(writer) = following.writer else {
            return;
        };
        if !following.owes_answer || durable.promised < self.promised {
            return;
        }
        let upto = match () {
            () if planted(Bug::PreparedNamesEnd) => durable.log,
            () if planted(Bug::AnswersUnsynced) => following.verified,
            () => following.verified.min(durable.log),
        };
        if upto < following.verified && upto <= following.answered {
            return; // Nothing new to say yet: the sync is on its way.
        }
        following.owes_answer = upto < following.verified;
        following.answered = upto;
        let (epoch, learned) = (following.epoch, following.learned);
        self.commit(learned.min(upto), effects);
        let committed = self.committed;
        effects.push(send(writer, epoch, Body::Prepared { upto, committed }));
    }

    /// R7: commits up to the smaller of what the writer says and what this epoch has verified and synced.
    pub(super) fn on_commit(
        &mut self,
        from: NodeId,
        epoch: Epoch,
        upto: Offset,
        effects: &mut Vec<Effect>,
    ) {
        let durable = self.durability.log;
        let is_promised = self.durability.promised >= self.promised;
        let Role::Follower(following) = &mut self.role else {
            return;
        };
        if following.epoch != epoch || following.writer != Some(from) {
            return; // A Commit may overtake its Prepare: nothing is verified in that epoch yet.
        }
        following.learned = following.learned.max(upto);
        if !is_promised {
            return; // R3: no answer before the promise is synced; the `Prepared` that is owed will say it.
        }
        let verified = match planted(Bug::CommitUnverified) {
            true => durable,
            false => following.verified,
        };
        let upto = following.learned.min(verified).min(durable);
        self.commit(upto, effects);
        effects.push(send(
            from,
            epoch,
            Body::Committed {
                upto: self.committed,
            },
        ));
    }

    /// `Fencing::None` only: the writer gave up what stands above `after`.
    pub(super) fn on_rollback_message(
        &mut self,
        from: NodeId,
        epoch: Epoch,
        after: Offset,
        effects: &mut Vec<Effect>,
    ) {
        if self.fencing.promises() {
            return; // R9: no such message exists.
        }
        let Role::Follower(following) = &mut self.role else {
            return;
        };
        if following.epoch != epoch || following.writer != Some(from) {
            return;
        }
        following.verified = following.verified.min(after);
        let after = after.max(self.committed);
        if after < self.log.end().offset {
            self.truncate(after, effects);
        }
    }
}

/// Whether a `Prepare` could have come from a writer of that epoch.
fn is_well_formed(epoch: Epoch, prev: Version, entries: &[Entry]) -> bool {
    let mut last = prev;
    let in_order = entries.iter().all(|entry| {
        let follows = follows(last, entry.version);
        last = entry.version;
        follows
    });
    let from_the_start = (prev.offset == Offset::ZERO) == (prev.epoch == Epoch(0));
    in_order && from_the_start && last.epoch <= epoch
}
