//! The writer's side: offsets are assigned here (R1), votes are counted (R6), writes are acknowledged (R8), and followers are
//! brought up to date from the log (R4).

use std::collections::{BTreeMap, BTreeSet};

use super::read::Confirming;
use super::{Replica, Role, refuse, send};
use crate::limits::{BATCH_ENTRIES_MAX, IN_FLIGHT_ENTRIES_MAX};
use crate::planted::{Bug, planted};
use crate::step::{Effect, Notable, Refused, Reply, Timer};
use crate::{Body, Entry, Epoch, NodeId, Offset, Operation, RequestId, Version};

/// What a writer keeps. Volatile: another process, or another session, is another writer (R11).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Writer {
    pub(super) epoch: Epoch,
    /// The `EpochStart` of this epoch; nothing until the promise (and a rollback's truncation) is durable.
    pub(super) start: Option<Offset>,
    pub(super) followers: BTreeMap<NodeId, Progress>,
    /// The writes that wait to be acknowledged, by offset.
    pub(super) pending: BTreeMap<Offset, RequestId>,
    /// The writes that were given up and wait for an `EpochStart` to be committed (R10).
    pub(super) given_up: BTreeSet<RequestId>,
    /// The followers that were heard since Q were last heard (R17).
    pub(super) heard: BTreeSet<NodeId>,
    pub(super) confirming: Confirming,
    /// It takes no writes any more, and gives the role back when those that it has are answered (R17).
    pub(super) leaving: bool,
}

/// What the writer knows of one follower, in its own epoch (R2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Progress {
    /// Synced and equal to the writer's log up to here.
    pub(super) matched: Offset,
    /// Committed up to here.
    pub(super) committed: Offset,
    /// The next offset to send. While probing, where the follower's log may begin to differ.
    pub(super) next: Offset,
    /// One `Prepare` at a time until an answer shows where the logs meet.
    pub(super) probing: bool,
}

impl Writer {
    pub(super) fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            start: None,
            followers: BTreeMap::new(),
            pending: BTreeMap::new(),
            given_up: BTreeSet::new(),
            heard: BTreeSet::new(),
            confirming: Confirming::default(),
            leaving: false,
        }
    }

    /// The deadline of a request has passed (R8: too late is `info`).
    pub(super) fn abandon(&mut self, request: RequestId, effects: &mut Vec<Effect>) {
        let offset = self
            .pending
            .iter()
            .find(|(_, waiting)| **waiting == request);
        if let Some((&offset, _)) = offset {
            self.pending.remove(&offset);
            effects.push(Effect::Reply {
                request,
                reply: Reply::Unknown,
            });
        } else if self.given_up.remove(&request) {
            effects.push(Effect::Reply {
                request,
                reply: Reply::Unknown,
            });
        } else if self.confirming.abandon(request) {
            effects.push(refuse(request, Refused::Unconfirmed));
        }
    }
}

impl Replica {
    /// Opens the writer's epoch once the promise, and what a rollback truncated, is durable (R3, R9).
    pub(super) fn open_when_durable(&mut self, effects: &mut Vec<Effect>) {
        let Role::Writer(writer) = &mut self.role else {
            return;
        };
        let is_durable = self.durability.is_settled()
            || (planted(Bug::OpensUndurable) && !writer.given_up.is_empty());
        if writer.start.is_some() || !is_durable {
            return;
        }
        let epoch = writer.epoch;
        let end = self.log.end();
        let mut start = Offset::ZERO;
        if self.fencing.promises() {
            assert!(
                self.durability.promised == epoch,
                "R9: the promise is durable before a message leaves"
            );
            start = end.offset.next();
        }
        writer.start = Some(start);
        let progress = Progress {
            next: end.offset.next(),
            probing: true,
            ..Progress::default()
        };
        let voters = self
            .observed
            .as_ref()
            .map(|observed| &observed.record.voters);
        let others = voters
            .into_iter()
            .flatten()
            .filter(|voter| **voter != self.id);
        writer.followers = others.map(|voter| (*voter, progress)).collect();
        if self.fencing.promises() {
            let version = Version::new(epoch, start);
            self.append(
                vec![Entry {
                    version,
                    operation: Operation::EpochStart,
                }],
                effects,
            );
        }
        effects.push(Effect::SetTimer(Timer::Heartbeat));
        effects.push(Effect::SetTimer(Timer::Release));
        self.prepare_all(effects);
        self.confirm_reads(effects);
    }

    /// Assigns offsets to a batch of operations (R1), appends them, and sends them on.
    pub(super) fn on_write(
        &mut self,
        writes: Vec<(RequestId, Operation)>,
        effects: &mut Vec<Effect>,
    ) {
        let known = self.known_writer();
        let refused = match &self.role {
            Role::Follower(_) => Some(Refused::NotWriter(known)),
            Role::Writer(writer) if writer.start.is_none() || writer.leaving => {
                Some(Refused::NotReady)
            }
            Role::Writer(_) => None,
        };
        if let Some(why) = refused {
            effects.extend(writes.into_iter().map(|(request, _)| refuse(request, why)));
            return;
        }
        let Role::Writer(writer) = &mut self.role else {
            return;
        };
        let mut offset = self.log.end().offset;
        let mut entries = Vec::with_capacity(writes.len());
        let idle = writer
            .pending
            .range(self.committed.next()..)
            .next()
            .is_none();
        for (request, operation) in writes {
            offset = offset.next();
            writer.pending.insert(offset, request);
            entries.push(Entry {
                version: Version::new(writer.epoch, offset),
                operation,
            });
        }
        if entries.is_empty() {
            return;
        }
        if idle {
            effects.push(Effect::SetTimer(Timer::Rollback));
        }
        self.append(entries, effects);
        self.ship_all(effects);
    }

    /// R6: the highest offset that Q voters hold synced in this epoch, and nothing before the epoch's own start. The writer
    /// is one of them: what it applies is on its own disk, or its engine could come back from a crash ahead of its log.
    pub(super) fn advance_commit(&mut self, effects: &mut Vec<Effect>) {
        let quorum = self.write_quorum();
        let Role::Writer(writer) = &self.role else {
            return;
        };
        let Some(start) = writer.start else { return };
        let mut synced: Vec<_> = writer.followers.values().map(|each| each.matched).collect();
        let own = match planted(Bug::OwnVoteUnsynced) {
            true => self.log.end().offset,
            false => self.durability.log,
        };
        synced.push(own);
        if planted(Bug::CountedTwice) {
            synced.push(own);
        }
        synced.sort_unstable();
        let Some(rank) = synced.len().checked_sub(quorum) else {
            return;
        };
        let upto = synced[rank].min(own);
        if upto > self.committed && (upto >= start || planted(Bug::OldEntriesCounted)) {
            let epoch = writer.epoch;
            let newly_ready = self.committed < start;
            self.commit(upto, effects);
            if newly_ready {
                self.refuse_given_up(effects);
                self.confirm_reads(effects);
            }
            self.rearm_rollback(effects);
            let commit = Body::Commit { upto };
            let followers = self.followers();
            effects.extend(
                followers
                    .into_iter()
                    .map(|to| send(to, epoch, commit.clone())),
            );
        }
        self.acknowledge(effects);
    }

    /// R8: acknowledges what Q voters, the writer included, have committed.
    fn acknowledge(&mut self, effects: &mut Vec<Effect>) {
        let quorum = self.write_quorum();
        let committed = self.committed;
        let ready = matches!(&self.role, Role::Writer(writer) if self.is_ready(writer));
        let Role::Writer(writer) = &mut self.role else {
            return;
        };
        if !ready {
            return;
        }
        while let Some((&offset, &request)) = writer.pending.first_key_value() {
            let counts = |progress: &&Progress| progress.committed >= offset;
            let others = writer.followers.values().filter(counts).count();
            let voters = others + 1 + usize::from(planted(Bug::CountedTwice));
            if offset > committed || voters < quorum {
                return;
            }
            writer.pending.remove(&offset);
            let version = self
                .log
                .version_at(offset)
                .expect("a pending write is in the log");
            let counted = writer
                .followers
                .iter()
                .filter(|(_, each)| each.committed >= offset);
            let members = std::iter::once(self.id)
                .chain(counted.map(|(node, _)| *node))
                .collect();
            effects.push(Effect::Observe(Notable::Acknowledged { version, members }));
            effects.push(Effect::Reply {
                request,
                reply: Reply::Written(version),
            });
        }
    }

    pub(super) fn on_prepared(
        &mut self,
        from: NodeId,
        epoch: Epoch,
        upto: Offset,
        committed: Offset,
        effects: &mut Vec<Effect>,
    ) {
        let end = self.log.end().offset;
        let Some(progress) = self.progress_of(from, epoch) else {
            return;
        };
        if upto > end || committed > end {
            return; // Nobody can have verified what was never sent.
        }
        progress.matched = progress.matched.max(upto);
        progress.committed = progress.committed.max(committed);
        if upto >= progress.next.previous() {
            progress.probing = false;
            progress.next = upto.next();
        }
        self.hear(from, effects);
        self.advance_commit(effects);
        self.ship(from, effects);
    }

    pub(super) fn on_committed(
        &mut self,
        from: NodeId,
        epoch: Epoch,
        upto: Offset,
        effects: &mut Vec<Effect>,
    ) {
        let end = self.log.end().offset;
        let Some(progress) = self.progress_of(from, epoch) else {
            return;
        };
        if upto > end {
            return;
        }
        progress.committed = progress.committed.max(upto);
        self.hear(from, effects);
        self.acknowledge(effects);
    }

    /// R4: the follower does not hold `prev`; steps back to its hint and probes there.
    pub(super) fn on_refused(
        &mut self,
        from: NodeId,
        epoch: Epoch,
        prev: Version,
        hint: Version,
        effects: &mut Vec<Effect>,
    ) {
        let back = self.log.greatest_not_above(hint).offset;
        let Some(progress) = self.progress_of(from, epoch) else {
            return;
        };
        let stale = progress.probing && prev.offset != progress.next.previous();
        if stale || hint >= prev || prev.offset <= progress.matched {
            return;
        }
        progress.next = back.max(progress.matched).next();
        progress.probing = true;
        self.hear(from, effects);
        self.probe(from, effects);
    }

    /// A voter has promised a higher epoch. Either the record has changed, or the message is forged: read it.
    pub(super) fn on_stale(&mut self, epoch: Epoch, promised: Epoch, effects: &mut Vec<Effect>) {
        if self.role_of() == Some(epoch) && promised > epoch {
            effects.push(Effect::ReadRecord);
        }
    }

    pub(super) fn on_heartbeat_timer(&mut self, effects: &mut Vec<Effect>) {
        if self.role_of().is_none() {
            return;
        }
        effects.push(Effect::SetTimer(Timer::Heartbeat));
        self.prepare_all(effects);
        self.repeat_confirm(effects);
    }

    /// The followers, in order.
    pub(super) fn followers(&self) -> Vec<NodeId> {
        match &self.role {
            Role::Writer(writer) => writer.followers.keys().copied().collect(),
            Role::Follower(_) => Vec::new(),
        }
    }

    /// Sends every follower a `Prepare`: the probe again, or an empty one, by which an idle member learns (R7).
    fn prepare_all(&mut self, effects: &mut Vec<Effect>) {
        for follower in self.followers() {
            let Role::Writer(writer) = &self.role else {
                return;
            };
            if writer.followers[&follower].probing {
                self.probe(follower, effects);
            } else {
                let prev = writer.followers[&follower].next.previous();
                self.prepare(follower, prev, prev, effects);
            }
        }
    }

    fn ship_all(&mut self, effects: &mut Vec<Effect>) {
        for follower in self.followers() {
            self.ship(follower, effects);
        }
    }

    /// Sends a follower everything that it has not been sent, many `Prepare`s in flight.
    fn ship(&mut self, to: NodeId, effects: &mut Vec<Effect>) {
        let end = self.log.end().offset;
        loop {
            let Role::Writer(writer) = &mut self.role else {
                return;
            };
            let Some(progress) = writer.followers.get_mut(&to) else {
                return;
            };
            if progress.probing || progress.next > end {
                return;
            }
            let prev = progress.next.previous();
            if prev.0 - progress.matched.0 > IN_FLIGHT_ENTRIES_MAX {
                progress.probing = true; // It has not answered for long: start over from what it has.
                progress.next = progress.matched.next();
                return;
            }
            let last = batch_end(prev, end);
            progress.next = last.next();
            self.prepare(to, prev, last, effects);
        }
    }

    /// Sends one `Prepare` from where the logs may begin to differ.
    fn probe(&self, to: NodeId, effects: &mut Vec<Effect>) {
        let Role::Writer(writer) = &self.role else {
            return;
        };
        let prev = writer.followers[&to].next.previous();
        self.prepare(to, prev, batch_end(prev, self.log.end().offset), effects);
    }

    fn prepare(&self, to: NodeId, prev: Offset, last: Offset, effects: &mut Vec<Effect>) {
        let Role::Writer(writer) = &self.role else {
            return;
        };
        let (epoch, committed) = (writer.epoch, self.committed);
        effects.push(Effect::Ship {
            to,
            epoch,
            prev: self.name(prev),
            last,
            committed,
        });
    }

    /// The progress of a follower, if this member is the writer of that epoch (R2).
    pub(super) fn progress_of(&mut self, from: NodeId, epoch: Epoch) -> Option<&mut Progress> {
        match &mut self.role {
            Role::Writer(writer) if writer.epoch == epoch || planted(Bug::AnswersOfAnyEpoch) => {
                writer.followers.get_mut(&from)
            }
            _ => None,
        }
    }

    /// R17: notes that a follower answered; when Q voters have, the bound starts anew.
    pub(super) fn hear(&mut self, from: NodeId, effects: &mut Vec<Effect>) {
        let quorum = self.write_quorum();
        let Role::Writer(writer) = &mut self.role else {
            return;
        };
        writer.heard.insert(from);
        if writer.heard.len() + 1 >= quorum {
            writer.heard.clear();
            effects.push(Effect::SetTimer(Timer::Release));
            if planted(Bug::FailAtPromises) {
                self.refuse_given_up(effects);
            }
        }
    }

    /// R15: whether a writer may serve reads and acknowledge: its `EpochStart` is committed.
    pub(super) fn is_ready(&self, writer: &Writer) -> bool {
        writer
            .start
            .is_some_and(|start| self.committed >= start || planted(Bug::ServesBeforeStart))
    }
}

fn batch_end(prev: Offset, end: Offset) -> Offset {
    Offset(prev.0.saturating_add(BATCH_ENTRIES_MAX).min(end.0))
}
