//! The network: a bag of messages. Each may be delivered in any order, several times, or never.

use std::collections::BTreeMap;

use kv_core::{Body, Entry, Epoch, Message, NodeId, Offset, Version};

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flight {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) message: Message,
}

/// What a link does with messages, where it does not deliver them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// They are lost.
    Cut,
    /// They stay on their way until the link is healed.
    Held,
}

/// The network.
#[derive(Clone, Debug, Default)]
pub(crate) struct Network {
    pub(crate) flights: Vec<Flight>,
    pub(crate) links: BTreeMap<(NodeId, NodeId), Link>,
    /// The most entries of a `Prepare`; nothing for no bound.
    pub(crate) batch: Option<usize>,
}

impl Network {
    pub(crate) fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        if self.links.get(&(from, to)) != Some(&Link::Cut) {
            self.flights.push(Flight { from, to, message });
        }
    }

    /// Sends entries as `Prepare`s of the size that the network takes.
    pub(crate) fn ship(
        &mut self,
        (from, to): (NodeId, NodeId),
        epoch: Epoch,
        mut prev: Version,
        last: Offset,
        committed: Offset,
        entries: &[Entry],
    ) {
        let index = |offset: Offset| usize::try_from(offset.0).unwrap();
        let mut rest = &entries[index(prev.offset)..index(last)];
        loop {
            let (batch, others) = rest.split_at(rest.len().min(self.batch.unwrap_or(rest.len())));
            let body = Body::Prepare {
                prev,
                entries: batch.to_vec(),
                committed,
            };
            self.send(from, to, Message { epoch, body });
            prev = batch.last().map_or(prev, |entry| entry.version);
            rest = others;
            if rest.is_empty() {
                return;
            }
        }
    }

    /// The oldest message that is not held back.
    pub(crate) fn next(&self) -> Option<usize> {
        let moves = |flight: &Flight| !self.links.contains_key(&(flight.from, flight.to));
        self.flights.iter().position(moves)
    }

    /// The messages on their way over a link.
    pub(crate) fn on_link(&self, from: NodeId, to: NodeId) -> Vec<Message> {
        let flights = self.flights.iter();
        let flights = flights.filter(|flight| (flight.from, flight.to) == (from, to));
        flights.map(|flight| flight.message.clone()).collect()
    }

    /// What a link does from now on.
    pub(crate) fn set(&mut self, from: NodeId, to: NodeId, link: Link) {
        self.links.insert((from, to), link);
    }

    pub(crate) fn heal(&mut self, from: NodeId, to: NodeId) {
        self.links.remove(&(from, to));
    }
}
