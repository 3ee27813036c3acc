//! A state in the making: what is written to is a part of its own until the state is done, and is kept only then.

use arrayvec::ArrayVec;
use kv_core::NodeId;

use crate::bounds::REPLICAS_MAX;
use crate::ledger::{Broken, Ledger};
use crate::network::Network;
use crate::service::{Service, place};
use crate::shared::{Part, Shared};
use crate::state::{Left, Member, State};

/// Members of which some may be written to, n1 first.
pub(crate) type Drafted<'a> = ArrayVec<Part<'a, Member>, REPLICAS_MAX>;

/// A state in the making.
#[derive(Debug)]
pub struct Draft {
    /// The members, n1 first.
    pub(crate) members: Drafted<'static>,
    /// The messages.
    pub(crate) network: Part<'static, Network>,
    /// The coordination service, which few steps change.
    pub(crate) service: Shared<Service>,
    /// What was promised.
    pub(crate) ledger: Part<'static, Ledger>,
    /// What is left of the bounds.
    pub(crate) left: Left,
    /// What was broken on the way here.
    pub(crate) broken: Broken,
}

/// What a turn has changed.
#[derive(Debug)]
pub struct Changes {
    pub(crate) members: ArrayVec<Option<Box<Member>>, REPLICAS_MAX>,
    pub(crate) network: Option<Box<Network>>,
    pub(crate) service: Option<Box<Service>>,
    pub(crate) ledger: Option<Box<Ledger>>,
    pub(crate) left: Left,
    pub(crate) broken: Broken,
}

impl Draft {
    /// A draft of the same state.
    #[must_use]
    pub fn of(state: &State) -> Self {
        Self {
            members: state.members.iter().copied().map(Part::Old).collect(),
            network: Part::Old(state.network),
            service: state.service,
            ledger: Part::Old(state.ledger),
            left: state.left,
            broken: state.broken,
        }
    }

    /// A member.
    pub(crate) fn member(&self, node: NodeId) -> &Member {
        &self.members[place(node)]
    }

    /// The members' names.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..).take(self.members.len()).map(NodeId)
    }

    /// Takes over what a turn has changed.
    #[must_use]
    pub fn with(mut self, changes: Changes) -> Self {
        self.take(changes);
        self
    }

    /// Takes over what a turn has changed.
    pub(crate) fn take(&mut self, changes: Changes) {
        for (member, changed) in self.members.iter_mut().zip(changes.members) {
            member.replace(changed);
        }
        self.network.replace(changes.network);
        self.ledger.replace(changes.ledger);
        if let Some(service) = changes.service {
            self.service = Shared::of(service);
        }
        self.left = changes.left;
        self.broken = changes.broken;
    }

    /// The state.
    #[must_use]
    pub fn finish(self) -> State {
        State {
            members: self.members.into_iter().map(Part::finish).collect(),
            network: self.network.finish(),
            service: self.service,
            ledger: self.ledger.finish(),
            left: self.left,
            broken: self.broken,
        }
    }
}
