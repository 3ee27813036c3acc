//! Elections: lock, read, raise the epoch, seal E voters, choose, publish (R12 to R14).
//!
//! ```text
//! Idle ──no writer──▶ Locking ──granted──▶ Reading ──still none──▶ Raising ──▶ Sealing ──E sealed──▶ Publishing ──▶ Idle
//!                                             ▲                      │ set refused or unknown            │
//!                                             └──────────────────────┴───────────────────────────────────┘
//! ```
//!
//! Any member may run one. The lock only keeps them from getting in each other's way: what makes elections safe is the
//! conditional set and the seals. When an election takes too long the lock is given up, so that a member that reaches more
//! of the others can try.

use super::fencing::Sealed;
use super::standing::Purpose;
use super::{Replica, send};
use crate::planted::{Bug, planted};
use crate::step::{Effect, Timer};
use crate::{Body, Epoch, NodeId, SessionId, Version, WriterRecord};

/// How far this member's election has got.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Election {
    Idle,
    /// The lock was asked for.
    Locking,
    /// The lock is held; the record is being read.
    Reading,
    /// The new epoch is being set.
    Raising,
    /// Voters are asked.
    Sealing(Sealing),
    /// The chosen writer is being set.
    Publishing,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Sealing {
    epoch: Epoch,
    pub(super) heard: Sealed,
    /// Whether more answers than needed are waited for.
    patient: bool,
}

impl Sealing {
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }
}

impl Replica {
    /// Starts an election when the shard has no writer, and stops one when it has.
    pub(super) fn consider_election(&mut self, effects: &mut Vec<Effect>) {
        let Some(seen) = &self.observed else { return };
        let named = self.fencing.names(seen, self.id, self.session);
        let has_writer = named || self.fencing.writer_lives(seen);
        match (&self.election, has_writer) {
            (Election::Idle, false) => {
                self.begin_election(effects);
            }
            (Election::Idle, true) => {}
            (_, true) if is_blind_to_writer() => {}
            (_, true) => self.end_election(effects),
            (_, false) => {}
        }
    }

    fn begin_election(&mut self, effects: &mut Vec<Effect>) {
        let may_elect = self.session.is_some() && self.is_voter(self.id) && !self.is_suspect();
        if may_elect && self.proposal.is_none() {
            self.election = Election::Locking;
            effects.push(Effect::Lock);
        }
    }

    pub(super) fn on_backoff_timer(&mut self, effects: &mut Vec<Effect>) {
        if planted(Bug::ElectionAgainstWriter) && self.election == Election::Idle {
            return self.begin_election(effects);
        }
        self.consider_election(effects);
    }

    pub(super) fn on_lock(&mut self, granted: bool, effects: &mut Vec<Effect>) {
        match (&self.election, granted) {
            (Election::Locking, true) => {
                self.election = Election::Reading;
                effects.push(Effect::SetTimer(Timer::Election));
                effects.push(Effect::ReadRecord);
            }
            (Election::Locking, false) => {
                self.election = Election::Idle;
                effects.push(Effect::SetTimer(Timer::Backoff));
            }
            (_, true) => effects.push(Effect::Unlock), // It came too late.
            (_, false) => {}
        }
    }

    /// A conditional set failed: while an election runs, the record decides how it goes on.
    pub(super) fn read_again(&mut self, effects: &mut Vec<Effect>) {
        match self.election {
            Election::Raising | Election::Publishing => self.election = Election::Reading,
            // Nobody waits for it, but without a writer somebody should try again.
            _ => effects.push(Effect::SetTimer(Timer::Backoff)),
        }
    }

    /// The record was read, or set by this member: the election's next step.
    pub(super) fn continue_election(&mut self, effects: &mut Vec<Effect>) {
        let Some(seen) = &self.observed else { return };
        let writer_lives = self.fencing.writer_lives(seen) && !is_blind_to_writer();
        let mut record = seen.record.clone();
        match &self.election {
            Election::Reading if !writer_lives && self.proposal.is_none() => {
                if !self.fencing.promises() {
                    return self.seal(record.epoch.next(), effects);
                }
                record.epoch = record.epoch.next();
                record.writer = None;
                self.election = Election::Raising;
                self.propose(Purpose::Raise, record, effects);
            }
            Election::Raising if self.proposal.is_none() => self.seal(record.epoch, effects),
            Election::Publishing if self.proposal.is_none() => self.end_election(effects),
            _ => {}
        }
    }

    /// R13: asks every voter to promise the epoch, itself included.
    fn seal(&mut self, epoch: Epoch, effects: &mut Vec<Effect>) {
        let sealing = Sealing {
            epoch,
            heard: Sealed::new(),
            patient: true,
        };
        self.election = Election::Sealing(sealing);
        if self.fencing.promises() {
            self.step_down(effects);
            self.promise(epoch, effects);
        }
        effects.push(Effect::SetTimer(Timer::Seal));
        self.send_seals(effects);
        self.choose_writer(effects);
    }

    fn send_seals(&self, effects: &mut Vec<Effect>) {
        let (Election::Sealing(sealing), Some(seen)) = (&self.election, &self.observed) else {
            return;
        };
        let silent = |voter: &&NodeId| **voter != self.id && !sealing.heard.contains_key(voter);
        let silent = seen.record.voters.iter().filter(silent);
        effects.extend(silent.map(|voter| send(*voter, sealing.epoch, Body::Seal)));
    }

    pub(super) fn on_sealed(
        &mut self,
        from: NodeId,
        epoch: Epoch,
        end: Version,
        session: SessionId,
        effects: &mut Vec<Effect>,
    ) {
        let Election::Sealing(sealing) = &mut self.election else {
            return;
        };
        if sealing.epoch == epoch || planted(Bug::AnswersOfAnyEpoch) {
            sealing.heard.insert(from, (end, session));
            self.choose_writer(effects);
        }
    }

    /// R14: publishes the best of those that were heard, as soon as they are enough.
    pub(super) fn choose_writer(&mut self, effects: &mut Vec<Effect>) {
        let own = self.session.map(|session| (self.end_to_seal(), session));
        let own_is_durable = self.durability.promised >= self.promised;
        let Election::Sealing(sealing) = &mut self.election else {
            return;
        };
        let Some(seen) = &self.observed else { return };
        let overtaken = match self.fencing.promises() {
            true => self.promised != sealing.epoch || seen.record.epoch != sealing.epoch,
            false => seen.record.epoch.next() != sealing.epoch,
        };
        if overtaken {
            return self.give_up_election(effects); // Another election has begun.
        }
        if let Some(own) = own
            && own_is_durable
        {
            sealing.heard.insert(self.id, own);
        }
        let chosen = self
            .fencing
            .choose(&sealing.heard, seen, &self.ended, sealing.patient);
        if self.proposal.is_some() {
            return; // An earlier conditional set is still under way; the next seal timer looks again.
        }
        if let Some(node) = chosen {
            let (_, session) = sealing.heard[&node];
            let mut record = seen.record.clone();
            record.epoch = sealing.epoch;
            record.writer = Some(WriterRecord { node, session });
            record.released_by = None;
            self.election = Election::Publishing;
            self.propose(Purpose::Publish, record, effects);
        }
    }

    /// Repeats the seals; from now on, E are enough whoever they are.
    pub(super) fn on_seal_timer(&mut self, effects: &mut Vec<Effect>) {
        let Election::Sealing(sealing) = &mut self.election else {
            return;
        };
        sealing.patient = false;
        effects.push(Effect::SetTimer(Timer::Seal));
        self.send_seals(effects);
        self.choose_writer(effects);
    }

    pub(super) fn on_election_timer(&mut self, effects: &mut Vec<Effect>) {
        if !matches!(self.election, Election::Idle | Election::Locking) {
            self.give_up_election(effects);
        }
    }

    /// R12: the lock is given up when E voters cannot be reached within the bound.
    fn give_up_election(&mut self, effects: &mut Vec<Effect>) {
        self.end_election(effects);
        effects.push(Effect::SetTimer(Timer::Backoff));
    }

    pub(super) fn end_election(&mut self, effects: &mut Vec<Effect>) {
        self.election = Election::Idle;
        effects.push(Effect::CancelTimer(Timer::Election));
        effects.push(Effect::CancelTimer(Timer::Seal));
        effects.push(Effect::Unlock);
    }
}

/// Whether an election that has begun goes on whatever the record says of its writer.
fn is_blind_to_writer() -> bool {
    planted(Bug::LooksBeforeReading) || planted(Bug::ElectionAgainstWriter)
}
