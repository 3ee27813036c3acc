//! The same replica in a shard whose members have other names: what a model checker needs to see that two situations differ in
//! names only.

use super::{Election, Replica, Role};
use crate::{Body, Message, NodeId, Observed, SessionId, ShardRecord};

/// New names for nodes and their sessions. Both must be one-to-one.
pub struct Names<'a> {
    /// The new name of a node.
    pub node: &'a dyn Fn(NodeId) -> NodeId,
    /// The new name of a session.
    pub session: &'a dyn Fn(SessionId) -> SessionId,
}

impl std::fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Names")
    }
}

impl Names<'_> {
    /// A record under the new names.
    #[must_use]
    pub fn record(&self, record: &ShardRecord) -> ShardRecord {
        let mut record = record.clone();
        if let Some(writer) = &mut record.writer {
            writer.node = (self.node)(writer.node);
            writer.session = (self.session)(writer.session);
        }
        record.released_by = record.released_by.map(self.node);
        record.voters = record.voters.into_iter().map(self.node).collect();
        record
    }

    /// A record that was seen, under the new names.
    #[must_use]
    pub fn observed(&self, seen: &Observed) -> Observed {
        Observed {
            revision: seen.revision,
            record: self.record(&seen.record),
            writer_session: seen.writer_session.map(self.session),
        }
    }

    /// A message under the new names.
    #[must_use]
    pub fn message(&self, message: &Message) -> Message {
        let mut message = message.clone();
        if let Body::Sealed { session, .. } = &mut message.body {
            *session = (self.session)(*session);
        }
        message
    }
}

impl Replica {
    /// This replica under other names. Everything else is the same: but for ties between equal logs, which an elector breaks by
    /// name, the protocol does not know names apart.
    #[must_use]
    pub fn renamed(&self, names: &Names<'_>) -> Self {
        let node = names.node;
        let mut it = self.clone();
        it.id = node(self.id);
        it.session = self.session.map(names.session);
        it.observed = self.observed.as_ref().map(|seen| names.observed(seen));
        let ended = self.ended.iter();
        it.ended = ended
            .map(|(id, session)| (node(*id), (names.session)(*session)))
            .collect();
        if let Some(proposal) = &mut it.proposal {
            proposal.record = names.record(&proposal.record);
        }
        for (to, _) in &mut it.durability.answers {
            *to = node(*to);
        }
        it.durability.answers.sort_by_key(|(to, _)| *to);
        if let Election::Sealing(sealing) = &mut it.election {
            let heard = std::mem::take(&mut sealing.heard).into_iter();
            let heard =
                heard.map(|(id, (end, session))| (node(id), (end, (names.session)(session))));
            sealing.heard = heard.collect();
        }
        match &mut it.role {
            Role::Follower(following) => following.writer = following.writer.map(node),
            Role::Writer(writer) => {
                let followers = std::mem::take(&mut writer.followers).into_iter();
                writer.followers = followers
                    .map(|(id, progress)| (node(id), progress))
                    .collect();
                writer.heard = std::mem::take(&mut writer.heard)
                    .into_iter()
                    .map(node)
                    .collect();
                let confirmed = &mut writer.confirming.confirmed;
                *confirmed = std::mem::take(confirmed).into_iter().map(node).collect();
            }
        }
        it
    }
}
