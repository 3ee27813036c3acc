//! The coordination service: the shard record with its revision, the sessions, and the election lock.

use kv_core::{NodeId, Observed, SessionId, ShardRecord};

use crate::shared::Shared;

/// The service. It is always up: a member that cannot reach it is one to which nothing is told yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    /// Grows with every set.
    pub revision: u64,
    /// The shard record.
    pub record: Shared<ShardRecord>,
    /// The session under which each member is registered, by its place; none, when it has ended.
    pub sessions: Vec<Option<SessionId>>,
    /// Who holds the election lock.
    pub lock: Option<NodeId>,
}

impl Service {
    /// What a member sees that reads the record and then looks at its writer's session (R12).
    pub fn observe(&self) -> Observed {
        let record = (*self.record).clone();
        let writer_session = record
            .writer
            .and_then(|writer| self.sessions[place(writer.node)]);
        Observed {
            revision: self.revision,
            record,
            writer_session,
        }
    }

    /// Replaces the record if it still has that revision.
    pub fn set(&mut self, revision: u64, record: ShardRecord) -> Option<u64> {
        if revision != self.revision {
            return None;
        }
        self.revision += 1;
        self.record = Shared::new(record);
        Some(self.revision)
    }

    /// A new session for a member: never one that was there before.
    pub fn register(&mut self, node: NodeId, number: u8) -> SessionId {
        let session = session(node, number);
        self.sessions[place(node)] = Some(session);
        session
    }

    /// Ends the session of a member, and with it what is bound to it.
    pub fn end_session(&mut self, node: NodeId) {
        self.sessions[place(node)] = None;
        self.unlock(node);
    }

    /// Takes the lock if it is free.
    pub fn lock(&mut self, node: NodeId) -> bool {
        let holder = *self.lock.get_or_insert(node);
        holder == node
    }

    /// Gives the lock back.
    pub fn unlock(&mut self, node: NodeId) {
        if self.lock == Some(node) {
            self.lock = None;
        }
    }
}

/// The sessions of a member, numbered.
fn session(node: NodeId, number: u8) -> SessionId {
    SessionId(node.0 * 100 + u64::from(number))
}

/// A session under the new name of its member.
pub fn renamed_session(session: SessionId, rename: impl Fn(NodeId) -> NodeId) -> SessionId {
    let (node, number) = (NodeId(session.0 / 100), session.0 % 100);
    SessionId(rename(node).0 * 100 + number)
}

/// Where a member stands in the lists.
#[must_use]
pub fn place(node: NodeId) -> usize {
    usize::try_from(node.0 - 1).expect("there are few members")
}
