//! What is on this member's disk, and what waits for it (R3, R4, R6).
//!
//! `Append`, `Truncate` and `Promise` are durable effects. The driver performs them in order and says [`Input::Synced`]
//! with how many more are durable; whatever depends on durability leaves this member only then.
//!
//! [`Input::Synced`]: crate::Input::Synced

use std::collections::VecDeque;

use super::{Replica, Role, send};
use crate::planted::{Bug, planted};
use crate::step::{Effect, Notable};
use crate::{Body, Entry, Epoch, NodeId, Offset, Version};

/// What is durable, what is on its way, and which answers wait for a promise.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Durability {
    /// The promise on disk.
    pub(super) promised: Epoch,
    /// The entries up to here are on disk, as this log has them now.
    pub(super) log: Offset,
    /// The durable effects that were not reported yet, oldest first.
    pending: VecDeque<Pending>,
    /// Answers that are given once the promise is on disk.
    pub(super) answers: Vec<(NodeId, Answer)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Pending {
    /// An append or a truncation. Once it is durable, so is today's log up to here: never more than a later truncation left,
    /// since the same entry may come back, and what is on the disk until then is another one.
    Log {
        upto: Offset,
    },
    Promise(Epoch),
}

/// An answer that must not leave before the promise of its epoch is synced (R3).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Answer {
    Refused {
        epoch: Epoch,
        prev: Version,
        hint: Version,
    },
    Sealed {
        epoch: Epoch,
    },
}

impl Durability {
    pub(super) fn recovered(promised: Epoch, log: Offset) -> Self {
        Self {
            promised,
            log,
            pending: VecDeque::new(),
            answers: Vec::new(),
        }
    }

    /// Whether everything that was asked for is on disk.
    pub(super) fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    /// The log is another one now, which the engine holds durably up to here. What was on its way is of the old one.
    pub(super) fn restarted(&mut self, upto: Offset) {
        self.truncated(Offset::ZERO);
        self.log = upto;
    }

    /// A truncation was asked for: what it removes counts as durable no longer, at once.
    pub(super) fn truncated(&mut self, after: Offset) {
        self.log = self.log.min(after);
        for pending in &mut self.pending {
            if let Pending::Log { upto } = pending {
                *upto = after.min(*upto);
            }
        }
        self.pending.push_back(Pending::Log { upto: after });
    }
}

impl Replica {
    /// Appends entries to the log and asks for them to be made durable.
    pub(super) fn append(&mut self, entries: Vec<Entry>, effects: &mut Vec<Effect>) {
        for entry in &entries {
            self.log.append(entry.version);
        }
        let upto = self.log.end().offset;
        self.durability.pending.push_back(Pending::Log { upto });
        effects.push(Effect::Append(entries));
    }

    /// Raises the promise (R3); a writer or an elector of a lower epoch stops being one.
    pub(super) fn promise(&mut self, epoch: Epoch, effects: &mut Vec<Effect>) {
        if epoch <= self.promised {
            return;
        }
        self.promised = epoch;
        if planted(Bug::PromiseNotAwaited) {
            self.durability.promised = epoch;
        }
        self.durability.pending.push_back(Pending::Promise(epoch));
        effects.push(Effect::Promise(epoch));
        effects.push(Effect::Observe(Notable::Promised(epoch)));
    }

    /// Whether a `Prepare` or `Seal` of this epoch may be listened to. Raises the promise where the epoch is higher; a
    /// lower one is refused, and the sender is told (R3).
    pub(super) fn admit(&mut self, from: NodeId, epoch: Epoch, effects: &mut Vec<Effect>) -> bool {
        if !self.fencing.promises() {
            return true;
        }
        if epoch < self.promised && !planted(Bug::LowerEpochsAccepted) {
            effects.push(send(
                from,
                epoch,
                Body::Stale {
                    promised: self.promised,
                },
            ));
            effects.push(Effect::Observe(Notable::RefusedStale { epoch, from }));
            return false;
        }
        if epoch > self.promised {
            self.step_down(effects);
            self.promise(epoch, effects);
        }
        true
    }

    pub(super) fn on_synced(&mut self, count: usize, effects: &mut Vec<Effect>) {
        for _ in 0..count {
            let durable = self.durability.pending.pop_front();
            match durable.expect("the driver reports each durable effect once") {
                Pending::Log { upto } => self.durability.log = self.durability.log.max(upto),
                Pending::Promise(epoch) => self.durability.promised = epoch,
            }
        }
        self.give_answers(effects);
        match &self.role {
            Role::Follower(_) => {
                self.acknowledge_prepare(effects);
                self.clear_suspicion(effects);
            }
            Role::Writer(_) => {
                self.open_when_durable(effects);
                self.advance_commit(effects);
            }
        }
        self.choose_writer(effects);
    }

    /// Refuses a `Prepare` (R4), once the promise that it raised is on disk.
    pub(super) fn answer_refused(
        &mut self,
        to: NodeId,
        epoch: Epoch,
        prev: Version,
        effects: &mut Vec<Effect>,
    ) {
        let hint = self.log.greatest_not_above(prev);
        self.owe(to, Answer::Refused { epoch, prev, hint }, effects);
    }

    /// Answers a seal (R13), once the promise is on disk. A repeated seal is answered again, since answers get lost.
    pub(super) fn on_seal(&mut self, from: NodeId, epoch: Epoch, effects: &mut Vec<Effect>) {
        if self.is_suspect() {
            return; // What it names might be less than it once answered.
        }
        self.owe(from, Answer::Sealed { epoch }, effects);
    }

    /// Notes an answer, once however often it was asked for, and gives what can be given.
    fn owe(&mut self, to: NodeId, answer: Answer, effects: &mut Vec<Effect>) {
        let owed = (to, answer);
        if !self.durability.answers.contains(&owed) {
            self.durability.answers.push(owed);
        }
        self.give_answers(effects);
    }

    /// R13: the end of the log that a seal is answered with.
    pub(super) fn end_to_seal(&self) -> Version {
        match planted(Bug::SealedNamesEnd) {
            true => self.log.end(),
            false => self.synced(),
        }
    }

    /// Gives the answers whose promise is durable; forgets those that a higher promise has overtaken.
    fn give_answers(&mut self, effects: &mut Vec<Effect>) {
        if self.durability.promised < self.promised && !planted(Bug::SealBeforeSync) {
            return;
        }
        for (to, answer) in std::mem::take(&mut self.durability.answers) {
            match answer {
                Answer::Refused { epoch, .. } | Answer::Sealed { epoch }
                    if self.fencing.promises() && epoch != self.promised => {}
                Answer::Refused { epoch, prev, hint } => {
                    effects.push(send(to, epoch, Body::Refused { prev, hint }));
                }
                Answer::Sealed { epoch } => {
                    // Without a session nobody could publish this member; the elector asks again.
                    if let Some(session) = self.session {
                        let end = self.end_to_seal();
                        effects.push(send(to, epoch, Body::Sealed { end, session }));
                    }
                }
            }
        }
    }
}
