//! What the shard record makes of this member: who it names (R11), how a writer starts (R15) and how it gets out of the
//! way (R17).

use super::follower::Following;
use super::writer::Writer;
use super::{Election, Replica, Role, refuse};
use crate::planted::{Bug, planted};
use crate::step::{Effect, Notable, Refused, Reply, SetResult, Timer};
use crate::{Epoch, NodeId, Observed, SessionId, ShardRecord, WriterRecord};

/// A conditional set of the record that is under way. There is one at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Proposal {
    pub(super) purpose: Purpose,
    pub(super) record: ShardRecord,
}

/// Why the record is to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    /// R12: a new epoch without a writer, by the elector.
    Raise,
    /// R14: the writer that the election chose.
    Publish,
    /// R9: a new epoch of the same writer.
    Rollback,
    /// R17: no writer.
    Release,
}

impl Replica {
    /// Asks for the record to be replaced, on the condition that it is still the one that was seen.
    pub(super) fn propose(
        &mut self,
        purpose: Purpose,
        record: ShardRecord,
        effects: &mut Vec<Effect>,
    ) {
        let Some(seen) = &self.observed else { return };
        assert!(self.proposal.is_none(), "one conditional set at a time");
        let revision = seen.revision;
        self.proposal = Some(Proposal {
            purpose,
            record: record.clone(),
        });
        effects.push(Effect::SetRecord { revision, record });
    }

    pub(super) fn on_set(&mut self, result: SetResult, effects: &mut Vec<Effect>) {
        let Some(Proposal { purpose, record }) = self.proposal.take() else {
            return;
        };
        match result {
            SetResult::Done(revision) => {
                if purpose == Purpose::Release {
                    effects.push(Effect::Observe(Notable::Released(record.epoch)));
                }
                if purpose == Purpose::Publish
                    && let Some(writer) = record.writer
                {
                    let (epoch, writer) = (record.epoch, writer.node);
                    effects.push(Effect::Observe(Notable::Elected { epoch, writer }));
                }
                self.on_own_record(revision, record, effects);
            }
            // Whatever stands there now decides (R12: an unknown outcome is read again).
            SetResult::Conflict | SetResult::Unknown => {
                self.read_again(effects);
                effects.push(Effect::ReadRecord);
            }
        }
    }

    /// The record is what this member has set, unless it has seen something newer by now: then the set counts as refused.
    fn on_own_record(&mut self, revision: u64, record: ShardRecord, effects: &mut Vec<Effect>) {
        let known = self.observed.as_ref();
        if known.is_some_and(|known| known.revision > revision) {
            self.read_again(effects);
            return effects.push(Effect::ReadRecord);
        }
        let writer_session = record.writer.map(|writer| writer.session);
        let seen = Observed {
            revision,
            record,
            writer_session,
        };
        self.on_record(seen, effects);
    }

    pub(super) fn on_record(&mut self, mut seen: Observed, effects: &mut Vec<Effect>) {
        if self
            .observed
            .as_ref()
            .is_some_and(|known| known.revision > seen.revision)
        {
            return;
        }
        if let Some(writer) = self.ended_by_election(&seen) {
            self.ended.insert(writer.node, writer.session);
        }
        if let Some(writer) = seen.record.writer {
            if seen.writer_session != Some(writer.session) {
                self.ended.insert(writer.node, writer.session);
            } else if self.is_over(writer) {
                seen.writer_session = None; // An older look at it came later: what has ended stays so.
            }
        }
        self.observed = Some(seen);
        self.fence(effects);
        self.take_standing(effects);
        self.continue_election(effects);
        self.consider_election(effects);
    }

    /// Whether the session of a writer is known to have ended. Of this member's own sessions all have but the present one: it is
    /// registered under that, so it is registered under no other.
    fn is_over(&self, writer: WriterRecord) -> bool {
        let is_own_past = self.fencing.promises()
            && writer.node == self.id
            && self.session.is_some_and(|own| own != writer.session);
        is_own_past || self.ended.get(&writer.node) == Some(&writer.session)
    }

    /// The writer before the election that has just begun: its session is gone (R12), unless it gave the role back.
    fn ended_by_election(&self, seen: &Observed) -> Option<WriterRecord> {
        let known = &self.observed.as_ref()?.record;
        let begins = seen.record.writer.is_none() && seen.record.epoch == known.epoch.next();
        let ended = known.writer?;
        (self.fencing.promises() && begins && seen.record.released_by != Some(ended.node))
            .then_some(ended)
    }

    /// R11: another session is another member as far as the record goes, and `Expired` demotes.
    pub(super) fn on_session(&mut self, session: Option<SessionId>, effects: &mut Vec<Effect>) {
        if session == self.session {
            return;
        }
        if let Some(ended) = self.session {
            self.ended.insert(self.id, ended);
        }
        self.session = session;
        if planted(Bug::LeaseOfAnotherSession) {
            return;
        }
        self.lease = false;
        if self.election != Election::Idle {
            self.end_election(effects); // The lock went with the session; one that the new session got meanwhile goes too.
        }
        if self.fencing.promises() && !self.waits_to_return() {
            self.step_down(effects);
        }
        if session.is_some() {
            self.ask_for_fence(effects);
            self.take_standing(effects);
            self.consider_election(effects);
        }
    }

    /// Takes the role that the record gives.
    fn take_standing(&mut self, effects: &mut Vec<Effect>) {
        let Some(seen) = &self.observed else { return };
        let epoch = seen.record.epoch;
        let named = self.is_voter(self.id) && self.fencing.names(seen, self.id, self.session);
        match (&self.role, named) {
            (Role::Writer(writer), true) if writer.epoch == epoch => {}
            (Role::Writer(writer), true) if writer.epoch < epoch && self.fencing.promises() => {
                self.roll_back_into(epoch, effects);
            }
            (Role::Writer(_), false) if self.waits_to_return() => {
                let is_anew = self.ended.get(&self.id).copied() != self.session;
                if self.session.is_some() && is_anew {
                    self.propose_rollback(effects);
                }
            }
            (Role::Writer(_), _) => {
                self.step_down(effects);
                self.become_writer_if_named(effects);
            }
            (Role::Follower(_), true) => self.become_writer_if_named(effects),
            (Role::Follower(_), false) => {}
        }
    }

    /// A planted bug: whoever has a write to give up remains the writer, and names itself again.
    fn waits_to_return(&self) -> bool {
        let waits = |writer: &Writer| !writer.pending.is_empty();
        planted(Bug::DeposedReturns) && matches!(&self.role, Role::Writer(writer) if waits(writer))
    }

    fn become_writer_if_named(&mut self, effects: &mut Vec<Effect>) {
        let Some(seen) = &self.observed else { return };
        let epoch = seen.record.epoch;
        if !self.fencing.names(seen, self.id, self.session) {
            return;
        }
        if epoch < self.promised.max(self.log.end().epoch) {
            return; // A later election has sealed this member, or a later writer reached it; its record is on the way.
        }
        if self.fencing.promises() && epoch <= self.written {
            return self.release(effects); // R1, R11: never resume an epoch that was left.
        }
        self.role = Role::Writer(Box::new(Writer::new(epoch)));
        self.written = epoch;
        effects.push(Effect::Observe(Notable::Promoted(epoch)));
        if self.fencing.promises() {
            self.promise(epoch, effects);
        }
        self.open_when_durable(effects);
    }

    /// Stops being the writer: what is unfinished ends as `info` (R8, R10), reads are refused.
    pub(super) fn step_down(&mut self, effects: &mut Vec<Effect>) {
        let follower = Role::Follower(Following::default());
        let Role::Writer(mut writer) = std::mem::replace(&mut self.role, follower) else {
            return self.forget_following();
        };
        let unknown = writer.pending.into_values().chain(writer.given_up);
        effects.extend(unknown.map(|request| Effect::Reply {
            request,
            reply: Reply::Unknown,
        }));
        let reads = writer.confirming.take_all();
        effects.extend(
            reads
                .into_iter()
                .map(|each| refuse(each, Refused::NotReady)),
        );
        for timer in [Timer::Heartbeat, Timer::Release, Timer::Rollback] {
            effects.push(Effect::CancelTimer(timer));
        }
        effects.push(Effect::Observe(Notable::Demoted(writer.epoch)));
    }

    /// A higher epoch has begun: the writer that was followed counts no longer.
    fn forget_following(&mut self) {
        self.role = Role::Follower(Following::default());
    }

    /// R17: too few voters for too long. The fenced writer stops first, so that no lease outlives its role; the plain one
    /// serves until the record says otherwise.
    pub(super) fn on_release_timer(&mut self, effects: &mut Vec<Effect>) {
        let quorum = self.write_quorum();
        let Role::Writer(writer) = &self.role else {
            return;
        };
        effects.push(Effect::SetTimer(Timer::Release));
        if writer.heard.len() + 1 >= quorum {
            return;
        }
        if self.fencing.promises() {
            self.step_down(effects);
        }
        self.release(effects);
    }

    pub(super) fn release(&mut self, effects: &mut Vec<Effect>) {
        let Some(seen) = &self.observed else { return };
        if self.proposal.is_some() || !self.fencing.names(seen, self.id, self.session) {
            return;
        }
        let mut record = seen.record.clone();
        record.writer = None;
        record.released_by = Some(self.id);
        self.propose(Purpose::Release, record, effects);
    }

    /// The writer as this member knows it: the one that it follows, or the one in the record.
    pub(super) fn known_writer(&self) -> Option<NodeId> {
        let recorded = self.observed.as_ref();
        let recorded = recorded.and_then(|seen| seen.record.writer.map(|writer| writer.node));
        match &self.role {
            Role::Writer(_) => Some(self.id),
            Role::Follower(following) => match following.writer {
                Some(writer) if following.epoch >= self.record_epoch() => Some(writer),
                _ => recorded,
            },
        }
    }

    fn record_epoch(&self) -> Epoch {
        self.observed
            .as_ref()
            .map_or(Epoch(0), |seen| seen.record.epoch)
    }
}
