//! Giving writes up that cannot be prepared on Q voters (R9), and telling their clients so (R10).

use super::standing::Purpose;
use super::{Replica, Role, refuse, send};
use crate::planted::{Bug, planted};
use crate::step::{Effect, Notable, Refused, Timer};
use crate::{Body, Epoch, Offset, WriterRecord};

impl Replica {
    /// A write has waited for too long. Under `epoch` the writer asks for a new epoch of its own; the plain protocol
    /// tells whoever prepared, and calls it done.
    pub(super) fn on_rollback_timer(&mut self, effects: &mut Vec<Effect>) {
        let Role::Writer(writer) = &mut self.role else {
            return;
        };
        let Some(start) = writer.start else { return };
        let keep = start.max(self.committed); // Not `kept`: the timer runs while a write waits for Q, whatever a bug gives up.
        if writer.pending.range(keep.next()..).next().is_none() {
            return;
        }
        if !self.fencing.promises() {
            return self.roll_back_by_message(effects);
        }
        if planted(Bug::JudgedWhenAsked) {
            let given_up = writer.pending.split_off(&keep.next());
            writer.given_up.extend(given_up.into_values());
        }
        effects.push(Effect::SetTimer(Timer::Rollback)); // The set may be refused, or another one be under way.
        self.propose_rollback(effects);
    }

    /// R9: asks for a new epoch in which this member stays the writer.
    pub(super) fn propose_rollback(&mut self, effects: &mut Vec<Effect>) {
        let Some(seen) = &self.observed else { return };
        if self.proposal.is_some() {
            return;
        }
        let mut record = seen.record.clone();
        record.epoch = record.epoch.next();
        if planted(Bug::DeposedReturns) {
            let node = self.id;
            record.writer = self.session.map(|session| WriterRecord { node, session });
        }
        self.propose(Purpose::Rollback, record, effects);
    }

    /// R9: the record has the new epoch, and still names this writer. Judged now, not when the epoch was asked for: what
    /// stands above `committed` and above the epoch's own start is given up, durably, before a message of the new epoch
    /// leaves.
    pub(super) fn roll_back_into(&mut self, epoch: Epoch, effects: &mut Vec<Effect>) {
        let Role::Writer(writer) = &mut self.role else {
            return;
        };
        let end = self.log.end().offset;
        let after = writer
            .start
            .map_or(end, |start| kept(start, self.committed));
        let is_told_early = planted(Bug::FailAtEarlierStart)
            && writer.start.is_some_and(|start| self.committed >= start);
        assert!(
            after >= self.committed || planted(Bug::RollbackOfCommitted),
            "R9: nothing that is committed is given up"
        );
        writer.epoch = epoch;
        writer.start = None;
        writer.followers.clear();
        writer.confirming.start_over();
        let first = match planted(Bug::FailOfCommitted) {
            true => Offset::ZERO,
            false => after.next(),
        };
        let given_up = writer.pending.split_off(&first);
        writer.given_up.extend(given_up.into_values());
        self.written = epoch;
        self.promise(epoch, effects);
        if after < end {
            self.truncate(after, effects);
        }
        effects.push(Effect::CancelTimer(Timer::Rollback));
        effects.push(Effect::Observe(Notable::RolledBack { epoch, after }));
        if is_told_early {
            self.refuse_given_up(effects);
        }
        self.open_when_durable(effects);
    }

    /// R10: an `EpochStart` of this writer has been committed after the rollback, so every later election finds it: what
    /// was given up has definitely failed.
    pub(super) fn refuse_given_up(&mut self, effects: &mut Vec<Effect>) {
        let Role::Writer(writer) = &mut self.role else {
            return;
        };
        for request in std::mem::take(&mut writer.given_up) {
            effects.push(refuse(request, Refused::RolledBack));
        }
    }

    /// The bound for the oldest write that still waits for Q voters starts anew with every commit.
    pub(super) fn rearm_rollback(&self, effects: &mut Vec<Effect>) {
        let Role::Writer(writer) = &self.role else {
            return;
        };
        let waits = writer
            .pending
            .range(self.committed.next()..)
            .next()
            .is_some();
        effects.push(match waits {
            true => Effect::SetTimer(Timer::Rollback),
            false => Effect::CancelTimer(Timer::Rollback),
        });
    }

    /// The plain protocol's rollback: a message to the followers, and `fail` to the clients, whoever got the message.
    fn roll_back_by_message(&mut self, effects: &mut Vec<Effect>) {
        let after = self.committed;
        let Role::Writer(writer) = &mut self.role else {
            return;
        };
        let epoch = writer.epoch;
        let given_up = writer.pending.split_off(&after.next());
        effects.extend(
            given_up
                .into_values()
                .map(|each| refuse(each, Refused::RolledBack)),
        );
        for progress in writer.followers.values_mut() {
            progress.cut(after);
        }
        self.truncate(after, effects);
        effects.push(Effect::Observe(Notable::RolledBack { epoch, after }));
        for to in self.followers() {
            effects.push(send(to, epoch, Body::Rollback { after }));
        }
    }
}

/// R9: what a rollback keeps: all that is committed, and up to the epoch's own start.
fn kept(start: Offset, committed: Offset) -> Offset {
    match () {
        () if planted(Bug::RollbackOfCommitted) => start,
        () if planted(Bug::RollbackOfOwnStart) => committed,
        () => start.max(committed),
    }
}

impl super::writer::Progress {
    /// Nothing above `after` counts any more.
    fn cut(&mut self, after: Offset) {
        self.matched = self.matched.min(after);
        self.committed = self.committed.min(after);
        self.next = after.next();
        self.probing = true;
    }
}
