//! What happens at once, because the order makes no difference: equal situations become equal states.
//!
//! - **An answer that its receiver only notes** (a `Prepared` that completes no quorum) arrives when it is sent. What it enables later is
//!   triggered by another answer, and a run in which it got lost is one in which that other answer is late.
//! - **A record that its reader only notes** is learned when it changes: a follower that neither starts an election nor gets a role.
//!   What it would have done with the older record it could have done before the change.
//! - **A commit** is learned when it is told. A replica does nothing with it but answer, and the answer may be late; what is lost of
//!   an entry that it should have known to be committed is lost to the writer that told it, too.
//! - **An answer that has arrived** is not kept: its second arrival finds the greatest numbers noted already.

use kv_core::{Body, Message, NodeId};

use crate::action::{Action, Event, Sync};
use crate::draft::Draft;
use crate::memo::Disk;
use crate::network::Envelope;
use crate::planted;
use crate::service::place;
use crate::shared::Shared;
use crate::state::{Member, State};
use crate::system::{System, arrival};

/// Whether a message arrives whose second arrival changes nothing.
#[must_use]
pub fn settles_by_arriving(event: &Event) -> bool {
    let Event::Deliver(envelope, _) = event else {
        return false;
    };
    matches!(
        envelope.message.body,
        Body::Prepared { .. } | Body::Committed { .. } | Body::Refused { .. } | Body::Sealed { .. }
    )
}

impl System {
    /// Lets happen what only is noted, after a turn of `node`, tells it to `tell`, and leaves out what makes no difference. Nothing,
    /// where nothing has changed in the end.
    pub(crate) fn settle(
        &self,
        before: &State,
        mut state: Draft,
        node: NodeId,
        tell: impl FnMut(&Event),
    ) -> Option<State> {
        if self.settles() {
            self.note_at_once(before, &mut state, node, tell);
        }
        if self.bounds.prunes() {
            self.forget(&mut state);
        }
        let state = state.finish();
        (state != *before).then_some(state)
    }

    fn note_at_once(
        &self,
        before: &State,
        state: &mut Draft,
        node: NodeId,
        mut tell: impl FnMut(&Event),
    ) {
        if state.service != before.service && planted::learns_at_once() {
            for reader in state.nodes().filter(|reader| *reader != node) {
                self.adopt(state, Event::Learn(reader), &mut tell);
            }
        }
        for node in state.nodes() {
            let registered = state.service.sessions[place(node)];
            if registered != state.member(node).replica.session() {
                self.adopt(state, Event::Expire(node), &mut tell);
            }
        }
        let mut changed = [Some(node), None];
        while changed[0].is_some() {
            // What was there before, for a receiver that has not changed, was tried before.
            let is_new = |envelope: &Shared<Envelope>| {
                let known = before.network.envelopes().iter();
                changed.contains(&Some(envelope.from))
                    && !known
                        .map(Shared::hash_value)
                        .any(|hash| hash == envelope.hash_value())
            };
            let touches = |envelope: &&Shared<Envelope>| {
                changed.contains(&Some(envelope.to)) || is_new(envelope)
            };
            let all: Vec<_> = state
                .network
                .envelopes()
                .iter()
                .filter(touches)
                .cloned()
                .collect();
            changed = [None, None];
            for envelope in all {
                if !may_be_noted(&envelope, state.member(envelope.to)) {
                    continue;
                }
                let count = held_count(&envelope, state.member(envelope.to));
                let adopted = (0..=count).rev().any(|count| {
                    let event = Event::Deliver(envelope, count);
                    self.adopt(state, event, &mut tell)
                });
                if adopted && !changed.contains(&Some(envelope.to)) {
                    changed = [Some(envelope.to), changed[0]];
                }
            }
        }
    }

    /// Lets something happen if nothing else comes of it than a note and a message.
    fn adopt(&self, state: &mut Draft, event: Event, tell: &mut impl FnMut(&Event)) -> bool {
        let member = state.member(event.node());
        let arrival = arrival(member, &state.service, &event, Disk::AtOnce);
        if let Some(step) = &arrival {
            let may_be_quiet = step.is_quiet() || matches!(event, Event::Learn(_));
            let keeps = step.keeps(&member.replica);
            if !may_be_quiet || keeps && !settles_by_arriving(&event) {
                return false;
            }
        }
        let action = Action {
            event,
            sync: Sync::AtOnce,
        };
        let turn = self.turn_by(state, &action, arrival.as_deref());
        let quiet = turn.filter(|turn| {
            let keeps_role = turn.member.replica.role_of() == member.replica.role_of();
            let notes = *turn.member != *member
                || turn.network.envelopes().len() < state.network.envelopes().len();
            !turn.is_visible && keeps_role && notes
        });
        match quiet.and_then(crate::turn::Turn::finish) {
            Some(changes) => {
                state.take(changes);
                tell(&action.event);
                true
            }
            None => false,
        }
    }
}

/// Whether a message could be one that is only noted. Most are not, and plainly so: entries that are to be appended, a promise that is
/// to be raised, what is known. (What this says no to is an action of its own.)
fn may_be_noted(envelope: &Envelope, member: &Member) -> bool {
    let Message { epoch, body } = &envelope.message;
    let replica = &member.replica;
    match body {
        Body::Prepare { .. } | Body::Seal if replica.promised() < *epoch => false,
        Body::Seal => !member.unsynced.is_empty(),
        Body::Commit { upto } => replica.committed() < *upto,
        _ => true,
    }
}

/// How many entries of a `Prepare` its receiver has.
fn held_count(envelope: &Envelope, member: &Member) -> usize {
    let Body::Prepare { entries, .. } = &envelope.message.body else {
        return 0;
    };
    let log = member.replica.log();
    entries
        .iter()
        .take_while(|entry| log.holds(entry.version))
        .count()
}
