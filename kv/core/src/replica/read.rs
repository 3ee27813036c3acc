//! Reads: at the writer by lease (R16) or by the confirmation of Q voters, at any member by session token.

use std::collections::BTreeSet;

use super::{Replica, Role, refuse, send};
use crate::planted::{Bug, planted};
use crate::step::{Effect, Refused};
use crate::{Body, Epoch, Level, NodeId, RequestId, Version};

/// The `quorum` reads of a writer: one batch asks, the next one gathers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Confirming {
    /// Reads that came after the batch was sent; the answers to it prove nothing for them.
    gathering: Vec<RequestId>,
    /// The reads of the batch that asks.
    asking: Vec<RequestId>,
    /// The number of the batch.
    round: u64,
    /// Who has confirmed it.
    pub(super) confirmed: BTreeSet<NodeId>,
}

impl Confirming {
    /// Forgets a read; false if it is not here.
    pub(super) fn abandon(&mut self, request: RequestId) -> bool {
        let before = self.gathering.len() + self.asking.len();
        self.gathering.retain(|waiting| *waiting != request);
        self.asking.retain(|waiting| *waiting != request);
        self.gathering.len() + self.asking.len() < before
    }

    /// A new epoch begins: what was confirmed in the old one counts no longer (R2).
    pub(super) fn start_over(&mut self) {
        self.gathering = self.take_all();
        self.confirmed.clear();
    }

    /// Every read that waits.
    pub(super) fn take_all(&mut self) -> Vec<RequestId> {
        let mut all = std::mem::take(&mut self.asking);
        all.append(&mut self.gathering);
        all
    }
}

impl Replica {
    pub(super) fn on_read(
        &mut self,
        request: RequestId,
        level: Level,
        token: Option<Version>,
        effects: &mut Vec<Effect>,
    ) {
        if level == Level::Replica {
            if token.is_none_or(|token| self.applied() >= token) {
                effects.push(Effect::Serve { request, level });
            } else if let Some(token) = token {
                self.waiting_reads.insert(request, token);
            }
            return;
        }
        let refused = match &self.role {
            Role::Follower(_) => Some(Refused::NotWriter(self.known_writer())),
            Role::Writer(writer) if !self.is_ready(writer) => Some(Refused::NotReady),
            Role::Writer(_) => None,
        };
        if let Some(why) = refused {
            return effects.push(refuse(request, why));
        }
        match level {
            Level::Lease if self.lease && self.fencing.promises() => {
                effects.push(Effect::Serve { request, level });
            }
            Level::Lease | Level::Quorum if self.fencing.promises() || level == Level::Quorum => {
                // A lease read without a lease is answered as a quorum read: slower, and as linearizable.
                let Role::Writer(writer) = &mut self.role else {
                    return;
                };
                writer.confirming.gathering.push(request);
                self.confirm_reads(effects);
            }
            _ => effects.push(Effect::Serve {
                request,
                level: Level::Local,
            }),
        }
    }

    /// Answers the reads at this replica whose token is applied by now.
    pub(super) fn serve_waiting_reads(&mut self, effects: &mut Vec<Effect>) {
        if self.waiting_reads.is_empty() {
            return;
        }
        let applied = self.applied();
        self.waiting_reads.retain(|&request, token| {
            let waits = *token > applied;
            if !waits {
                effects.push(Effect::Serve {
                    request,
                    level: Level::Replica,
                });
            }
            waits
        });
    }

    /// Sends the next batch of `quorum` reads on its way, if none is.
    pub(super) fn confirm_reads(&mut self, effects: &mut Vec<Effect>) {
        let quorum = self.write_quorum();
        let ready = matches!(&self.role, Role::Writer(writer) if self.is_ready(writer));
        let Role::Writer(writer) = &mut self.role else {
            return;
        };
        let confirming = &mut writer.confirming;
        if !ready || !confirming.asking.is_empty() || confirming.gathering.is_empty() {
            return;
        }
        confirming.asking = std::mem::take(&mut confirming.gathering);
        confirming.round += 1;
        confirming.confirmed.clear();
        if quorum == 1 {
            return self.serve_confirmed(effects);
        }
        self.repeat_confirm(effects);
    }

    /// Asks the followers (again) about the batch that is on its way.
    pub(super) fn repeat_confirm(&self, effects: &mut Vec<Effect>) {
        let Role::Writer(writer) = &self.role else {
            return;
        };
        if writer.start.is_none() || writer.confirming.asking.is_empty() {
            return;
        }
        let round = writer.confirming.round;
        let ask = |to: &NodeId| send(*to, writer.epoch, Body::Confirm { round });
        effects.extend(writer.followers.keys().map(ask));
    }

    /// A writer asks whether this member has promised anything higher.
    pub(super) fn on_confirm(
        &mut self,
        from: NodeId,
        epoch: Epoch,
        round: u64,
        effects: &mut Vec<Effect>,
    ) {
        if self.is_suspect() {
            return;
        }
        let answer = match self.fencing.promises() && self.promised > epoch {
            true => Body::Stale {
                promised: self.promised,
            },
            false => Body::Confirmed { round },
        };
        effects.push(send(from, epoch, answer));
    }

    pub(super) fn on_confirmed(
        &mut self,
        from: NodeId,
        epoch: Epoch,
        round: u64,
        effects: &mut Vec<Effect>,
    ) {
        let quorum = self.write_quorum();
        let Role::Writer(writer) = &mut self.role else {
            return;
        };
        let is_of_epoch = writer.epoch == epoch || planted(Bug::AnswersOfAnyEpoch);
        if !is_of_epoch || !writer.followers.contains_key(&from) {
            return;
        }
        let confirming = &mut writer.confirming;
        let is_of_round = round == confirming.round || planted(Bug::StaleConfirmations);
        if !is_of_round || confirming.asking.is_empty() {
            return;
        }
        confirming.confirmed.insert(from);
        let enough = confirming.confirmed.len() + 1 >= quorum;
        self.hear(from, effects);
        if enough {
            self.serve_confirmed(effects);
        }
    }

    fn serve_confirmed(&mut self, effects: &mut Vec<Effect>) {
        let Role::Writer(writer) = &mut self.role else {
            return;
        };
        let asking = std::mem::take(&mut writer.confirming.asking);
        let serve = |request| Effect::Serve {
            request,
            level: Level::Quorum,
        };
        effects.extend(asking.into_iter().map(serve));
        self.confirm_reads(effects);
    }
}
