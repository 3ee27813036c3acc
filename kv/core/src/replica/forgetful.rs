//! The same replica without what makes no difference any more: what a model checker needs to see that two situations come to the
//! same. Whether it makes a difference is the checker's to know, which sees the whole.

use super::{Election, Replica, Role};
use crate::{NodeId, SessionId};

impl Replica {
    /// The sessions that this member knows to have ended.
    pub fn ended(&self) -> impl Iterator<Item = (NodeId, SessionId)> + '_ {
        self.ended.iter().map(|(node, session)| (*node, *session))
    }

    /// Whether its election has an answer that was given in that session.
    #[must_use]
    pub fn has_heard_in(&self, session: SessionId) -> bool {
        match &self.election {
            Election::Sealing(sealing) => {
                sealing.heard.values().any(|(_, heard)| *heard == session)
            }
            _ => false,
        }
    }

    /// This member without the knowledge that these sessions have ended. Sound where nobody can meet them again: not in the
    /// record, not in an answer to an election.
    #[must_use]
    pub fn forgetting(&self, sessions: &[SessionId]) -> Self {
        let mut it = self.clone();
        it.ended.retain(|_, session| !sessions.contains(session));
        it
    }

    /// The followers to which this writer has not sent all that it has.
    pub fn unsent(&self) -> impl Iterator<Item = NodeId> + '_ {
        let end = self.log.end().offset.next();
        let followers = match &self.role {
            Role::Writer(writer) => Some(writer.followers.iter()),
            Role::Follower(_) => None,
        };
        let followers = followers.into_iter().flatten();
        let unsent = followers.filter(move |(_, each)| each.probing || each.next != end);
        unsent.map(|(node, _)| *node)
    }

    /// This writer as if it had sent these followers all that it has, and did not probe for where their logs begin to differ.
    /// Sound where such a `Prepare` is on its way from an offset that the follower holds.
    #[must_use]
    pub fn having_sent(&self, followers: &[NodeId]) -> Self {
        let mut it = self.clone();
        let end = it.log.end().offset.next();
        if let Role::Writer(writer) = &mut it.role {
            let sent = writer.followers.iter_mut();
            for (_, each) in sent.filter(|(node, _)| followers.contains(node)) {
                each.probing = false;
                each.next = end;
            }
        }
        it
    }
}
