//! Where the two protocols differ, all of it.
//!
//! | question | `epoch` | `none` |
//! |---|---|---|
//! | does a member refuse an older epoch? | yes, by a synced promise (R3) | no: it follows whoever speaks |
//! | whom does the record name? | a node in one session (R11) | a node |
//! | what does an election need? | E sealed voters (R13) | anybody who answers |
//! | who wins it? | the highest (epoch, offset) (R14) | the highest offset |
//! | when does a new writer serve? | when its `EpochStart` is committed (R15) | at once |
//! | how are writes given up? | in a new epoch (R9), `fail` when that is committed (R10) | by a message, `fail` at once |
//! | what does a `lease` read need? | the lease (R16) | nothing |
//!
//! Everything else is the same code. Each answer of the right column is a way to lose a write or to read a stale one, and
//! there is a scenario that shows it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::planted::{Bug, planted};
use crate::{Epoch, Fencing, NodeId, Observed, SessionId, Version};

/// What an elector has heard: where each voter's synced log ends, and the session it can be published under.
pub(super) type Sealed = BTreeMap<NodeId, (Version, SessionId)>;

impl Fencing {
    /// R3: members promise epochs, refuse lower ones, and a writer's epoch begins with an `EpochStart` (R15).
    pub(super) fn promises(self) -> bool {
        self == Self::Epoch
    }

    /// R11: whether the record names this member, in this session, as the writer.
    pub(super) fn names(self, seen: &Observed, node: NodeId, session: Option<SessionId>) -> bool {
        seen.record.writer.is_some_and(|writer| {
            let any_session = self == Self::None || planted(Bug::RestartResumes);
            writer.node == node && (any_session || Some(writer.session) == session)
        })
    }

    /// R12: whether the writer that the record names is still there.
    pub(super) fn writer_lives(self, seen: &Observed) -> bool {
        match (seen.record.writer, seen.writer_session) {
            (Some(writer), Some(session)) => self == Self::None || writer.session == session,
            _ => false,
        }
    }

    /// R14, R17: whom the elector publishes, if it has heard enough. A candidate needs E sealed voters whose logs do not end
    /// above its own. Nobody is chosen in a session that has `ended`: such a member still answers, but could not serve. The
    /// writer that released last is chosen only where the others do not suffice and nobody else is expected to answer
    /// (`patient` no longer); the plain protocol waits for everybody in the same way.
    pub(super) fn choose(
        self,
        heard: &Sealed,
        seen: &Observed,
        ended: &BTreeMap<NodeId, SessionId>,
        patient: bool,
    ) -> Option<NodeId> {
        let record = &seen.record;
        let is_fit = |node: &NodeId, session: SessionId| ended.get(node) != Some(&session);
        let mut fit = heard.clone();
        fit.retain(|node, (_, session)| is_fit(node, *session));
        let mut others = fit.clone();
        others.retain(|node, _| Some(*node) != record.released_by);
        let is_highest_of_enough = |best: &NodeId| {
            let (best_end, _) = heard[best];
            let below = heard
                .values()
                .filter(|(end, _)| rank(*end) <= rank(best_end));
            let enough = below.count() + usize::from(planted(Bug::FewerThanElectionQuorum));
            enough >= record.election_quorum
        };
        let best = |among: &Sealed| best_by_version(among).filter(is_highest_of_enough);
        match self {
            Self::Epoch if patient => best(&others),
            Self::Epoch => best(&others).or_else(|| best(&fit)),
            Self::None if heard.len() == record.voters.len() || !patient => best_by_offset(&fit),
            Self::None => None,
        }
    }
}

/// R14: by what one log is better than another.
fn rank(end: Version) -> Version {
    match planted(Bug::OffsetAloneWins) {
        true => Version::new(Epoch(0), end.offset),
        false => end,
    }
}

fn best_by_version(heard: &Sealed) -> Option<NodeId> {
    heard
        .iter()
        .max_by_key(|(node, (end, _))| (rank(*end), Reverse(**node)))
        .map(|(node, _)| *node)
}

fn best_by_offset(heard: &Sealed) -> Option<NodeId> {
    heard
        .iter()
        .max_by_key(|(node, (end, _))| (end.offset, Reverse(**node)))
        .map(|(node, _)| *node)
}
