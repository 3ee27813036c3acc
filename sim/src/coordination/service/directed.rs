//! The service in a directed run: a session hears nothing that it did not ask for until it is told, not even that it is over,
//! a rollback's conditional set of the record waits (R9), and two more things can be made to wait: what a new session reads
//! first, and the lock's coming to the next one in its queue.

use std::collections::{BTreeMap, BTreeSet};

use kv::coordination::records::decode_shard;
use kv::coordination::registry::{SHARDS, shard_of};
use kv::coordination::{Change, CoordinationError};
use kv_core::{Fencing, SessionId, ShardRecord};

use super::{Answer, Call, CoordinationService, ReplyTo, State};

/// Below this are the locks.
const LOCKS: &str = "locks/";

/// What is kept back.
#[derive(Default)]
pub(super) struct Direction {
    /// Who hears.
    told: BTreeSet<SessionId>,
    /// Calls of sessions that are over and do not know it.
    unanswered: Vec<(SessionId, ReplyTo)>,
    /// The sets of rollbacks.
    waiting: Vec<(SessionId, ReplyTo, Vec<Change>)>,
    /// Whether sessions that are opened from now on have read nothing yet.
    opens_blind: bool,
    /// The sessions that have read no shard record yet.
    blind: BTreeSet<SessionId>,
    /// What they ask.
    unread: Vec<(SessionId, ReplyTo, String)>,
    /// Whether a lock comes to the next one only when it is told to take its turn.
    turns_wait: bool,
    /// Who was told that another holds a lock.
    queued: BTreeSet<SessionId>,
    /// Whoever holds the lock now, and does not know.
    next: Vec<(SessionId, ReplyTo, String)>,
    /// How many sets of shard records have arrived.
    arrived: BTreeMap<SessionId, u64>,
}

impl Direction {
    pub(super) fn opened(&mut self, session: SessionId) {
        if self.opens_blind {
            self.blind.insert(session);
        }
    }

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
        for (session, reply_to, path) in direction.unread {
            state.read(session, reply_to, &path);
        }
        for (session, reply_to, lock) in direction.next {
            state.list(session, reply_to, &lock);
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
        state.let_read(session);
        drop(state);
        self.shared.meddled.notify_one();
    }

    /// Whether sessions that are opened from now on wait for the shard record, until they are told or ask for a change.
    pub fn open_blind(&self, blind: bool) {
        if let Some(direction) = &mut self.state().direction {
            direction.opens_blind = blind;
        }
    }

    /// From now on nobody in the queue of a lock learns that it is the next, until it is told to take its turn.
    pub fn hold_turns(&self) {
        if let Some(direction) = &mut self.state().direction {
            direction.turns_wait = true;
        }
    }

    /// A session may hold a lock from now on, if it is the next.
    pub fn take_turn(&self, session: SessionId) {
        let mut state = self.state();
        let Some(direction) = &mut state.direction else {
            return;
        };
        direction.queued.remove(&session);
        let next = direction.next.extract_if(.., |(of, ..)| *of == session);
        for (session, reply_to, lock) in next.collect::<Vec<_>>() {
            state.list(session, reply_to, &lock);
        }
        drop(state);
        self.shared.meddled.notify_one();
    }

    /// The sets of a session that wait take place. Returns whether there were any.
    pub fn let_sets(&self, session: SessionId) -> bool {
        let mut state = self.state();
        let Some(direction) = &mut state.direction else {
            return false;
        };
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
        match call {
            Call::Read(path) if shard_of(path).is_some() && direction.blind.contains(&session) => {
                direction.unread.push((session, reply_to, path.clone()));
                true
            }
            Call::Multi(changes) if changes.iter().any(is_of_shard) => {
                *direction.arrived.entry(session).or_default() += 1;
                let is_rollback = changes.iter().any(|change| self.is_rollback(change));
                if let Some(direction) = self.direction.as_mut().filter(|_| is_rollback) {
                    let waiting = (session, reply_to, changes.clone());
                    direction.waiting.push(waiting);
                }
                self.let_read(session);
                is_rollback
            }
            Call::Children(path) if direction.turns_wait && path.starts_with(LOCKS) => {
                let is_next = self.is_next(session, path);
                let Some(direction) = self.direction.as_mut().filter(|_| is_next.is_some()) else {
                    return false;
                };
                if is_next == Some(false) {
                    direction.queued.insert(session);
                }
                let waits = is_next == Some(true) && direction.queued.contains(&session);
                if waits {
                    direction.next.push((session, reply_to, path.clone()));
                }
                waits
            }
            _ => false,
        }
    }

    /// Whether a session is the first in the queue of a lock; nothing, where it does not stand there.
    fn is_next(&self, session: SessionId, lock: &str) -> Option<bool> {
        let number = |name: &str| name.rsplit_once('-')?.1.parse::<u64>().ok();
        let mut queue: Vec<_> = self.tree.peek_children(lock).collect();
        queue.sort_by_key(|name| number(name));
        let owner = |name: &&str| self.tree.peek(&format!("{lock}/{name}"))?.owner;
        let mut owners = queue.iter().map(owner);
        owners
            .position(|owner| owner == Some(session))
            .map(|place| place == 0)
    }

    fn list(&mut self, session: SessionId, reply_to: ReplyTo, path: &str) {
        let answer = self.tree.children(session, path).map(Answer::Children);
        self.answer(reply_to, answer.unwrap_or_else(Answer::Failed));
    }

    /// R9: the record goes on to the next epoch and has a writer. (An election does the one after the other.)
    fn is_rollback(&self, change: &Change) -> bool {
        let Change::Set { path, data, .. } = change else {
            return false;
        };
        let known = self.tree.peek(path);
        let known = known.and_then(|known| decode_shard(&known.data).ok());
        let raises = |new: &ShardRecord| known.is_some_and(|known| known.epoch < new.epoch);
        let new = decode_shard(data).ok();
        new.is_some_and(|new| new.fencing == Fencing::Epoch && new.writer.is_some() && raises(&new))
    }

    /// A session is blind no longer.
    fn let_read(&mut self, session: SessionId) {
        let Some(direction) = &mut self.direction else {
            return;
        };
        direction.blind.remove(&session);
        let unread = direction.unread.extract_if(.., |(of, ..)| *of == session);
        for (session, reply_to, path) in unread.collect::<Vec<_>>() {
            self.read(session, reply_to, &path);
        }
    }

    fn read(&mut self, session: SessionId, reply_to: ReplyTo, path: &str) {
        let answer = self.tree.read(session, path).map(Answer::Read);
        self.answer(reply_to, answer.unwrap_or_else(Answer::Failed));
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

fn is_of_shard(change: &Change) -> bool {
    matches!(change, Change::Set { path, .. } if path.starts_with(SHARDS))
}
