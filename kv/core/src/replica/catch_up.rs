//! Catching up without the log: snapshots for members that are too far behind, and members whose disk has lost something.
//!
//! # Snapshots
//!
//! A writer that no longer has the entries that a follower lacks offers a snapshot: everything up to an entry that is committed.
//! The follower fetches and installs it beside what it serves from, and only then takes over its log ([`Input::Installed`]).
//! What is committed stays (R5), so neither the epoch in which it was offered nor who offered it matters any more by then; and
//! what the follower's own log had in its place was in no quorum.
//!
//! # A member whose disk may have lost what it had synced
//!
//! A damaged tail may be a write that was never synced, or entries and promises that others count on. Such a *suspect* keeps what
//! is left, and is kept out of elections until the lost part cannot matter any more (Alagappan et al., "Protocol-Aware Recovery
//! for Consensus-Based Storage", FAST 2018; R18: a member is its disk):
//!
//! 1. *Promises.* Whatever it had promised, the record had that epoch before (R9, R12). So it reads the record, under a new session, and
//!    promises its epoch before it listens to anybody.
//! 2. *Votes.* It tells the writer that what it had answered counts no longer (`Lost`), and the writer answers with the end of its own
//!    log (`Extent`). Everything committed, and everything that this writer may have counted it for, lies below.
//! 3. *Elections.* It answers no seal, runs no election and confirms nothing until it holds the writer's log up to there, synced. An
//!    election without it needs E others, as if it were down: nothing that is committed can be missed.
//!
//! What it verifies and syncs meanwhile counts as anybody's does: that it holds these entries is true.
//!
//! [`Input::Installed`]: crate::Input::Installed

use super::{Replica, Role, send};
use crate::log::Log;
use crate::step::{Effect, Notable};
use crate::{Body, Epoch, NodeId, Offset, SessionId, Version};

/// How far a suspect has got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Suspicion {
    /// The record was read in this life: no epoch above its own can have been promised before.
    is_fenced: bool,
    /// Up to where the writer of an epoch says that something can be missing.
    extent: Option<(Epoch, Offset)>,
}

impl Replica {
    /// Whether this member may have promised an epoch that it does not know of.
    pub(super) fn may_have_promised_more(&self) -> bool {
        let suspicion = self.suspicion.as_ref();
        suspicion.is_some_and(|suspicion| !suspicion.is_fenced)
    }

    /// Whether this member's disk may have lost what it had synced, so that it takes no part in elections.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.suspicion.is_some()
    }

    /// A suspect has a new session: from a look at the record that begins now it learns how much it can have promised.
    pub(super) fn ask_for_fence(&self, effects: &mut Vec<Effect>) {
        if self.may_have_promised_more() && self.session.is_some() {
            effects.push(Effect::ReadRecord);
        }
    }

    /// The record was read in the present session.
    pub(super) fn fence(&mut self, effects: &mut Vec<Effect>) {
        if !self.may_have_promised_more() || self.session.is_none() {
            return;
        }
        let Some(seen) = &self.observed else { return };
        let epoch = seen.record.epoch;
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.is_fenced = true;
        }
        effects.push(Effect::Observe(Notable::Suspect));
        self.promise(epoch, effects);
    }

    /// A writer was heard: it is told that what this suspect had answered counts no longer, until it has said how far its log goes,
    /// and whenever it takes the suspect to have more than it has: an old answer may have come late.
    pub(super) fn confess(
        &self,
        writer: NodeId,
        epoch: Epoch,
        holds_prev: bool,
        effects: &mut Vec<Effect>,
    ) {
        let (Some(suspicion), Some(session)) = (&self.suspicion, self.session) else {
            return;
        };
        if !holds_prev || suspicion.extent.is_none_or(|(of, _)| of != epoch) {
            effects.push(send(writer, epoch, Body::Lost { session }));
        }
    }

    /// A follower has lost what it had synced: what it answered counts no longer.
    pub(super) fn on_lost(
        &mut self,
        from: NodeId,
        epoch: Epoch,
        session: SessionId,
        effects: &mut Vec<Effect>,
    ) {
        let end = self.log.end().offset;
        let Some(progress) = self.progress_of(from, epoch) else {
            return;
        };
        progress.matched = Offset::ZERO;
        progress.committed = Offset::ZERO;
        effects.push(send(from, epoch, Body::Extent { session, end }));
    }

    pub(super) fn on_extent(
        &mut self,
        from: NodeId,
        epoch: Epoch,
        session: SessionId,
        end: Offset,
        effects: &mut Vec<Effect>,
    ) {
        let is_own_life = self.session == Some(session);
        if !is_own_life || self.following() != Some((epoch, from)) {
            return; // An answer to an earlier life knows nothing of what that life did afterwards.
        }
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.extent = Some((epoch, end));
            self.clear_suspicion(effects);
        }
    }

    /// Ends the suspicion once everything that can have been lost is there again, and durable.
    pub(super) fn clear_suspicion(&mut self, effects: &mut Vec<Effect>) {
        let Some(Suspicion {
            extent: Some((epoch, end)),
            ..
        }) = self.suspicion
        else {
            return;
        };
        let Role::Follower(following) = &self.role else {
            return;
        };
        let held = following.verified().min(self.durability.log);
        if following.epoch == epoch && held >= end && self.durability.promised == self.promised {
            self.suspicion = None;
            effects.push(Effect::DeclareWhole);
            effects.push(Effect::Observe(Notable::Whole));
        }
    }

    /// The epoch and the writer that this member follows, once it has heard one.
    #[must_use]
    pub fn following(&self) -> Option<(Epoch, NodeId)> {
        match &self.role {
            Role::Follower(following) => Some((following.epoch, following.writer?)),
            Role::Writer(_) => None,
        }
    }

    /// The writer no longer has what this member lacks.
    pub(super) fn on_offer(
        &mut self,
        from: NodeId,
        epoch: Epoch,
        at: Version,
        bytes: u64,
        effects: &mut Vec<Effect>,
    ) {
        if !self.fencing.promises() {
            return; // It keeps its whole log.
        }
        if self.log.holds(at) {
            // The writer does not know how far this member has come: it is told as by a heartbeat.
            return self.on_prepare(from, epoch, at, Vec::new(), Offset::ZERO, effects);
        }
        if at.offset <= self.committed || at.epoch > epoch || !self.follow(from, epoch) {
            return;
        }
        self.confess(from, epoch, false, effects);
        effects.push(Effect::Fetch {
            from,
            epoch,
            at,
            bytes,
        });
    }

    /// A member fetches a snapshot; while it does it answers nothing else, and counts as heard all the same (R17).
    pub(super) fn on_fetch(
        &mut self,
        from: NodeId,
        epoch: Epoch,
        at: Version,
        position: u64,
        effects: &mut Vec<Effect>,
    ) {
        if self.progress_of(from, epoch).is_some() {
            self.hear(from, effects);
        }
        effects.push(Effect::ShipSnapshot {
            to: from,
            epoch,
            at,
            position,
        });
    }

    /// The engine holds a snapshot up to the end of this log, all of it committed.
    pub(super) fn on_installed(&mut self, names: Log, effects: &mut Vec<Effect>) {
        let end = names.end();
        let is_follower = matches!(self.role, Role::Follower(_));
        if end.offset <= self.committed || !is_follower || !self.fencing.promises() {
            return; // Nothing new; and a writer's log has all that is committed.
        }
        if self.log.holds(end) {
            // The log has got there by itself. What it has is committed, as far as the disk has it.
            return self.commit(end.offset.min(self.durability.log), effects);
        }
        self.log = names.clone();
        self.durability.restarted(end.offset);
        let Role::Follower(following) = &mut self.role else {
            return;
        };
        following.forget_log();
        let after = self.committed;
        effects.push(Effect::Observe(Notable::Truncated { after }));
        effects.push(Effect::Restart(names));
        effects.push(Effect::Observe(Notable::Installed(end)));
        self.commit(end.offset, effects);
    }

    /// As the writer: what every follower is known to have. Nothing for another member.
    #[must_use]
    pub fn held_by_all(&self) -> Option<Offset> {
        match &self.role {
            Role::Writer(writer) if writer.start.is_some() => {
                let matched = writer.followers.values().map(|each| each.matched);
                Some(matched.min().unwrap_or(self.log.end().offset))
            }
            _ => None,
        }
    }
}
