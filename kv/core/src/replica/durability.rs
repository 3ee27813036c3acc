//! What is on this member's disk, and what waits for it (R3, R4, R6).
//!
//! `Append`, `Truncate` and `Promise` are durable effects. The driver performs them in order and says [`Input::Synced`]
//! with how many more are durable; whatever depends on durability leaves this member only then.
//!
//! [`Input::Synced`]: crate::Input::Synced

use std::collections::VecDeque;

use super::{Replica, Role, send};
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
    answers: Vec<(NodeId, Answer)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Pending {
    /// An append or a truncation, after which the log ended here.
    Log {
        end: Version,
    },
    Promise(Epoch),
}

/// An answer that must not leave before the promise of its epoch is synced (R3).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Answer {
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

    /// A truncation was asked for: what it removes counts as durable no longer, at once.
    pub(super) fn truncated(&mut self, end: Version) {
        self.log = self.log.min(end.offset);
        self.pending.push_back(Pending::Log { end });
    }
}

impl Replica {
    /// Appends entries to the log and asks for them to be made durable.
    pub(super) fn append(&mut self, entries: Vec<Entry>, effects: &mut Vec<Effect>) {
        for entry in &entries {
            self.log.append(entry.version);
        }
        let end = self.log.end();
        self.durability.pending.push_back(Pending::Log { end });
        effects.push(Effect::Append(entries));
    }

    /// Raises the promise (R3); a writer or an elector of a lower epoch stops being one.
    pub(super) fn promise(&mut self, epoch: Epoch, effects: &mut Vec<Effect>) {
        if epoch <= self.promised {
            return;
        }
        self.promised = epoch;
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
        if epoch < self.promised {
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
                Pending::Log { end } => {
                    if self.log.holds(end) {
                        self.durability.log = self.durability.log.max(end.offset);
                    }
                }
                Pending::Promise(epoch) => self.durability.promised = epoch,
            }
        }
        self.give_answers(effects);
        match &self.role {
            Role::Follower(_) => self.acknowledge_prepare(effects),
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
        self.durability
            .answers
            .push((to, Answer::Refused { epoch, prev, hint }));
        self.give_answers(effects);
    }

    /// Answers a seal (R13), once the promise is on disk. A repeated seal is answered again, since answers get lost.
    pub(super) fn on_seal(&mut self, from: NodeId, epoch: Epoch, effects: &mut Vec<Effect>) {
        let answer = (from, Answer::Sealed { epoch });
        if !self.durability.answers.contains(&answer) {
            self.durability.answers.push(answer);
        }
        self.give_answers(effects);
    }

    /// Gives the answers whose promise is durable; forgets those that a higher promise has overtaken.
    fn give_answers(&mut self, effects: &mut Vec<Effect>) {
        if self.durability.promised < self.promised {
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
                        let end = self.synced();
                        effects.push(send(to, epoch, Body::Sealed { end, session }));
                    }
                }
            }
        }
    }
}
