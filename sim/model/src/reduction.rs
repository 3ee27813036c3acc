//! What happens at once, because the order makes no difference: equal situations become equal states.
//!
//! - **An answer that its receiver only notes** (a `Prepared` that completes no quorum) arrives when it is sent. What it enables later is
//!   triggered by another answer, and a run in which it got lost is one in which that other answer is late.
//! - **A record that its reader only notes** is learned when it changes: a follower that neither starts an election nor gets a role.
//!   What it would have done with the older record it could have done before the change.
//! - **A commit** is learned when it is told. A replica does nothing with it but answer, and the answer may be late; what is lost of
//!   an entry that it should have known to be committed is lost to the writer that told it, too.
//! - **An answer that has arrived** is not kept: its second arrival finds the greatest numbers noted already.

use kv_core::{Body, NodeId};

use crate::action::{Action, Event, Sync};
use crate::memo;
use crate::network::Envelope;
use crate::planted;
use crate::service::place;
use crate::shared::Shared;
use crate::state::State;
use crate::system::System;

/// Whether a second arrival changes nothing.
#[must_use]
pub fn is_settled_by_arriving(envelope: &Envelope) -> bool {
    matches!(
        envelope.message.body,
        Body::Prepared { .. } | Body::Committed { .. } | Body::Refused { .. } | Body::Sealed { .. }
    )
}

impl System {
    /// Lets happen what only is noted, after a turn of `node`, and tells it to `tell`.
    pub(crate) fn settle(
        &self,
        before: &State,
        mut state: State,
        node: NodeId,
        mut tell: impl FnMut(&Event),
    ) -> State {
        if state.service != before.service && planted::learns_at_once() {
            for reader in state.nodes().filter(|reader| *reader != node) {
                self.adopt(&mut state, Event::Learn(reader), &mut tell);
            }
        }
        for node in state.nodes() {
            let registered = state.service.sessions[place(node)];
            if registered != state.member(node).replica.session() {
                self.adopt(&mut state, Event::Expire(node), &mut tell);
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
                let count = envelope.entry_count();
                let adopted = (0..=count).rev().any(|count| {
                    let event = Event::Deliver(envelope.clone(), count);
                    self.adopt(&mut state, event, &mut tell)
                });
                if adopted && !changed.contains(&Some(envelope.to)) {
                    changed = [Some(envelope.to), changed[0]];
                }
            }
        }
        state
    }

    /// Lets something happen if nothing else comes of it than a note and a message.
    fn adopt(&self, state: &mut State, event: Event, tell: &mut impl FnMut(&Event)) -> bool {
        if let Event::Deliver(envelope, count) = &event
            && !memo::deliver(&state.member(envelope.to).replica, envelope, *count).is_quiet()
        {
            return false;
        }
        let action = Action {
            event,
            sync: Sync::AtOnce,
        };
        let turn = self.turn(state, &action);
        let member = state.member(action.event.node());
        let quiet = turn.filter(|turn| {
            let keeps_role = turn.member.replica.role_of() == member.replica.role_of();
            let notes = *turn.member != **member
                || turn.network.envelopes().len() < state.network.envelopes().len();
            !turn.is_visible && keeps_role && notes
        });
        match quiet.and_then(crate::turn::Turn::finish) {
            Some(next) => {
                *state = next;
                tell(&action.event);
                true
            }
            None => false,
        }
    }
}
