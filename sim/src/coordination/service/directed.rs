//! The service in a directed run: a session hears nothing that it did not ask for until it is told, not even that it is over,
//! and a conditional set of a shard record can be made to wait.

use std::collections::{BTreeMap, BTreeSet};

use kv::coordination::registry::SHARDS;
use kv::coordination::{Change, CoordinationError};
use kv_core::SessionId;

use super::{Answer, Call, CoordinationService, ReplyTo, State};

/// What is kept back.
#[derive(Default)]
pub(super) struct Direction {
    /// Who hears.
    told: BTreeSet<SessionId>,
    /// Calls of sessions that are over and do not know it.
    unanswered: Vec<(SessionId, ReplyTo)>,
    /// Whose sets of shard records wait.
    held: BTreeSet<SessionId>,
    waiting: Vec<(SessionId, ReplyTo, Vec<Change>)>,
    /// How many sets of shard records have arrived.
    arrived: BTreeMap<SessionId, u64>,
}

impl Direction {
    pub(super) fn hears(&self, session: SessionId) -> bool {
        self.told.contains(&session)
    }
}

impl CoordinationService {
    /// From now on nobody hears anything unasked.
    pub fn direct(&self) {
        self.state().direction.get_or_insert_default();
    }

    /// Everybody hears what was kept back, and what waited takes place.
    pub fn direct_no_longer(&self) {
        let mut state = self.state();
        let Some(direction) = state.direction.take() else {
            return;
        };
        for (_, reply_to) in direction.unanswered {
            state.answer(reply_to, Answer::Failed(CoordinationError::Expired));
        }
        for (session, reply_to, changes) in direction.waiting {
            state.set(session, reply_to, changes);
        }
        drop(state);
        self.shared.meddled.notify_one();
    }

    /// From now on a session hears what it is told, or no longer.
    pub fn tell(&self, session: SessionId, hears: bool) {
        let mut state = self.state();
        let Some(direction) = &mut state.direction else {
            return;
        };
        if !hears {
            direction.told.remove(&session);
            return;
        }
        direction.told.insert(session);
        let unanswered = direction
            .unanswered
            .extract_if(.., |(of, _)| *of == session);
        for (_, reply_to) in unanswered.collect::<Vec<_>>() {
            state.answer(reply_to, Answer::Failed(CoordinationError::Expired));
        }
        drop(state);
        self.shared.meddled.notify_one();
    }

    /// From now on the sets of shard records by a session wait.
    pub fn hold_sets(&self, session: SessionId) {
        if let Some(direction) = &mut self.state().direction {
            direction.held.insert(session);
        }
    }

    /// The sets of a session that wait take place. Returns whether there were any.
    pub fn let_sets(&self, session: SessionId) -> bool {
        let mut state = self.state();
        let Some(direction) = &mut state.direction else {
            return false;
        };
        direction.held.remove(&session);
        let waiting = direction.waiting.extract_if(.., |(of, ..)| *of == session);
        let waiting: Vec<_> = waiting.collect();
        let any = !waiting.is_empty();
        for (session, reply_to, changes) in waiting {
            state.set(session, reply_to, changes);
        }
        drop(state);
        self.shared.meddled.notify_one();
        any
    }

    /// How many sets of shard records by a session have arrived in the directed run.
    #[must_use]
    pub fn sets_of(&self, session: SessionId) -> u64 {
        let state = self.state();
        let direction = state.direction.as_ref();
        let arrived = direction.and_then(|direction| direction.arrived.get(&session));
        arrived.copied().unwrap_or_default()
    }
}

impl State {
    /// Keeps a call back, if the direction says so.
    pub(super) fn keeps_back(
        &mut self,
        session: SessionId,
        reply_to: ReplyTo,
        call: &Call,
    ) -> bool {
        let lives = self.sessions.contains_key(&session);
        let Some(direction) = &mut self.direction else {
            return false;
        };
        if !lives {
            let knows = direction.hears(session);
            if !knows {
                direction.unanswered.push((session, reply_to));
            }
            return !knows;
        }
        let is_of_shard = |change: &Change| matches!(change, Change::Set { path, .. } if path.starts_with(SHARDS));
        let Call::Multi(changes) = call else {
            return false;
        };
        if !changes.iter().any(is_of_shard) {
            return false;
        }
        *direction.arrived.entry(session).or_default() += 1;
        let is_held = direction.held.contains(&session);
        if is_held {
            let waiting = (session, reply_to, changes.clone());
            direction.waiting.push(waiting);
        }
        is_held
    }

    /// Keeps back that a session is over.
    pub(super) fn keeps_back_the_end(&mut self, session: SessionId, reply_to: ReplyTo) -> bool {
        match &mut self.direction {
            Some(direction) if !direction.hears(session) => {
                direction.unanswered.push((session, reply_to));
                true
            }
            _ => false,
        }
    }

    fn set(&mut self, session: SessionId, reply_to: ReplyTo, changes: Vec<Change>) {
        let answer = self.tree.multi(session, changes).map(Answer::Multi);
        self.answer(reply_to, answer.unwrap_or_else(Answer::Failed));
    }
}
