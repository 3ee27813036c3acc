//! What cannot make a difference any more is left out of a state, so that equal situations are equal states.
//!
//! - **A message to which its receiver cannot listen any more**: of an epoch below a promise that is on disk (R3), or an answer to a
//!   writer or an elector that is none of that epoch any more (a process is it once, R1).
//! - **Entries that the receiver of a `Prepare` has on its disk**, under the promise of that epoch: only the writer of that epoch can
//!   change its log any more, and that writer has the same entries (R4). Whether they are told again makes no difference.
//! - **How far a writer has got in sending its log** to a follower that has promised its epoch. All that it has is on its way, from
//!   an offset that the follower holds, and any part of it may arrive.
//! - **That a session has ended** which nobody can meet again: the record does not name it, its member knows, and no answer to an
//!   election that was given in it can arrive or be counted any more. Sessions never come back.

use arrayvec::ArrayVec;
use kv_core::{Body, NodeId, SessionId, Version};

use crate::bounds::REPLICAS_MAX;
use crate::draft::{Draft, Drafted};
use crate::marks::Mark;
use crate::memo;
use crate::network::{Envelope, Network};
use crate::planted;
use crate::service::{Service, place};
use crate::shared::{Part, Shared};
use crate::state::Member;
use crate::system::System;

/// A few things, one for each member at most.
type Few<T> = ArrayVec<T, REPLICAS_MAX>;

impl System {
    /// Leaves out what makes no difference.
    pub(crate) fn forget(&self, state: &mut Draft) {
        if forget_dead(&mut state.network, &state.members) {
            self.marks.hit(Mark::RefusedStale);
        }
        if planted::keeps_what_is_held() {
            forget_told(&mut state.network, &state.members);
        }
        forget_notes(&mut state.members, &state.network, &state.service);
    }
}

/// Leaves out the messages to which their receivers cannot listen any more. Says whether a writer would have been refused.
fn forget_dead(network: &mut Part<'_, Network>, members: &Drafted<'_>) -> bool {
    let matters = |envelope: &Envelope| {
        let member = &members[place(envelope.to)];
        let epoch = envelope.message.epoch;
        match envelope.message.body {
            Body::Seal => {
                let elector = &members[place(envelope.from)];
                epoch >= member.disk.promised && elector.replica.sealing() == Some(epoch)
            }
            Body::Prepare { .. }
            | Body::Commit { .. }
            | Body::Confirm { .. }
            | Body::Rollback { .. } => epoch >= member.disk.promised || !planted::keeps_promises(),
            _ if !planted::keeps_answers_apart() => true,
            Body::Sealed { .. } => member.replica.sealing() == Some(epoch),
            _ => member.replica.role_of() == Some(epoch),
        }
    };
    let mut forgets_stale = false;
    let mut forgets_any = false;
    for envelope in network.envelopes().iter().filter(|it| !matters(it)) {
        forgets_any = true;
        forgets_stale |= matches!(envelope.message.body, Body::Prepare { .. });
    }
    if forgets_any {
        network.retain(matters);
    }
    forgets_stale
}

/// Leaves out of the `Prepare`s what their receivers have.
fn forget_told(network: &mut Part<'_, Network>, members: &Drafted<'_>) {
    let told = |envelope: &Envelope| told_upto(envelope, &members[place(envelope.to)]);
    if network.envelopes().iter().any(|it| told(it).is_some()) {
        network.trim(told);
    }
}

/// The last entry of a `Prepare` that its receiver has for good, if it has any.
fn told_upto(envelope: &Envelope, receiver: &Member) -> Option<Version> {
    let Body::Prepare { prev, entries, .. } = &envelope.message.body else {
        return None;
    };
    let disk = &receiver.disk;
    if disk.promised != envelope.message.epoch || !disk.holds(*prev) {
        return None;
    }
    let names = entries.iter().map(|entry| entry.version);
    names.take_while(|name| disk.holds(*name)).last()
}

/// Leaves out of the members what makes no difference that they know it.
fn forget_notes(members: &mut Drafted<'_>, network: &Network, service: &Service) {
    let forgotten = |member: &Member| {
        let ended = member.replica.ended();
        let over = ended.filter(|(node, session)| {
            !can_be_met(members, network, service, (*node, *session))
                && !member.replica.has_heard_in(*session)
        });
        let sessions: Few<SessionId> = over.map(|(_, session)| session).collect();
        let epoch = member.replica.role_of();
        let unsent = member.replica.unsent();
        let promised = unsent.filter(|node| Some(members[place(*node)].disk.promised) == epoch);
        let followers: Few<NodeId> = promised.collect();
        let is_any = !sessions.is_empty() || !followers.is_empty();
        is_any.then(|| memo::forgetting(&member.replica, &sessions, &followers))
    };
    let forgotten: Few<_> = members.iter().map(|member| forgotten(member)).collect();
    for (member, replica) in members.iter_mut().zip(forgotten) {
        if let Some(replica) = replica {
            member.replica = replica;
        }
    }
}

/// Whether a session of a member can still be named to anybody.
fn can_be_met(
    members: &Drafted<'_>,
    network: &Network,
    service: &Service,
    (node, session): (NodeId, SessionId),
) -> bool {
    let named = service.record.writer.map(|writer| writer.session);
    let registered = service.sessions[place(node)];
    let own = members[place(node)].replica.session();
    let is_said = |envelope: &Shared<Envelope>| matches!(envelope.message.body, Body::Sealed { session: said, .. } if said == session);
    [named, registered, own].contains(&Some(session)) || network.envelopes().iter().any(is_said)
}
