//! What the agent knows of the coordination service's tree, and what of it has to be read again.
//!
//! Every reading leaves a watch, so a part stays good until its watch fires. In the order of [`Part`], records are read
//! before registrations, and the liveness of a writer right after the record that names it (R12).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kv_core::{NodeId, Observed, ShardId, ShardRecord};

use crate::coordination::registry::{self, Registration};
use crate::coordination::{CoordinationError, Session};
use crate::handle::{ClusterMap, ShardView};

/// Something that is read at once. The order is that of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// The list of the shards.
    Shards,
    /// One shard's record; where this node is a member, the liveness of its writer, too.
    Shard(ShardId),
    /// The list of the nodes.
    Nodes,
    /// One node's registration.
    Node(NodeId),
}

/// What the agent knows.
#[derive(Debug)]
pub(super) struct Mirror {
    node: NodeId,
    stale: BTreeSet<Part>,
    nodes: BTreeMap<NodeId, Registration>,
    shards: BTreeMap<ShardId, ShardRecord>,
    own: Option<Observed>,
    /// Addresses of nodes that are not registered now.
    last_known: BTreeMap<NodeId, String>,
    /// How many shards the list names, readable or not, if it has been read in this session.
    shards_listed: Option<usize>,
    /// Nothing has been learned yet, in any session.
    is_new: bool,
}

/// What one refresh found out.
#[derive(Debug, Default)]
pub(super) struct Found {
    facts: Vec<Fact>,
    left: BTreeSet<Part>,
    /// Something of it is not what this version writes.
    pub(super) is_unreadable: bool,
    /// Why it ended early, if it did.
    pub(super) error: Option<CoordinationError>,
}

#[derive(Debug)]
enum Fact {
    Shards(BTreeSet<ShardId>),
    Shard(ShardId, Option<ShardRecord>),
    Own(Observed),
    Nodes(BTreeSet<NodeId>),
    Node(NodeId, Option<Registration>),
}

impl Mirror {
    pub(super) fn new(node: NodeId) -> Self {
        let mut mirror = Self {
            node,
            stale: BTreeSet::new(),
            nodes: BTreeMap::new(),
            shards: BTreeMap::new(),
            own: None,
            last_known: BTreeMap::new(),
            shards_listed: None,
            is_new: true,
        };
        mirror.forget();
        mirror
    }

    /// A new session has no watches yet: everything has to be read again.
    pub(super) fn forget(&mut self) {
        self.shards_listed = None;
        self.own = None;
        self.doubt_all();
    }

    /// Everything is to be read again.
    pub(super) fn doubt_all(&mut self) {
        self.stale.extend([Part::Shards, Part::Nodes]);
        self.stale
            .extend(self.shards.keys().copied().map(Part::Shard));
        self.stale
            .extend(self.nodes.keys().copied().map(Part::Node));
    }

    /// What matters most is to be read again: the own shard; without one, the lists that may bring one.
    pub(super) fn doubt_own(&mut self) {
        match self.own_shard() {
            Some(shard) => self.stale.extend([Part::Shard(shard)]),
            None => self.stale.extend([Part::Shards, Part::Nodes]),
        }
    }

    /// A watched path has changed.
    pub(super) fn on_changed(&mut self, path: &str) {
        if path == registry::SHARDS {
            self.stale.insert(Part::Shards);
        } else if path == registry::NODES {
            self.stale.insert(Part::Nodes);
        } else if let Some(shard) = registry::shard_of(path) {
            self.stale.insert(Part::Shard(shard));
        } else if let Some(node) = registry::node_of(path) {
            self.stale.insert(Part::Node(node));
            let observed = self.own.as_ref();
            if let Some(record) = observed.map(|observed| &observed.record)
                && record.writer.is_some_and(|writer| writer.node == node)
            {
                self.stale.insert(Part::Shard(record.shard));
            }
        }
    }

    /// Whether nothing has been learned yet. A node that cannot read the cluster from the start is of the wrong version; one that could
    /// goes on with what it knows.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    pub(super) fn is_stale(&self) -> bool {
        !self.stale.is_empty()
    }

    /// The shard that this node is a member of.
    pub(super) fn own_shard(&self) -> Option<ShardId> {
        self.own.as_ref().map(|observed| observed.record.shard)
    }

    /// That shard as it was read last.
    pub(super) fn own(&self) -> Option<&Observed> {
        self.own.as_ref()
    }

    /// How many nodes are registered, if it is known that there is no shard.
    pub(super) fn nodes_without_shards(&self) -> Option<usize> {
        (self.shards_listed == Some(0)).then_some(self.nodes.len())
    }

    /// Reads what is stale. At most one refresh is under way at a time, so what is found is never older than what is known.
    pub(super) fn refresh(
        &mut self,
        session: Arc<dyn Session>,
    ) -> impl Future<Output = Found> + Send + 'static {
        let reading = Reading {
            session,
            node: self.node,
            own: self.own_shard(),
            shards: self.shards.keys().copied().collect(),
            nodes: self.nodes.keys().copied().collect(),
            found: Found::default(),
        };
        let todo = std::mem::take(&mut self.stale);
        reading.run(todo)
    }

    /// Takes over what a refresh found.
    pub(super) fn learn(&mut self, found: Found) {
        self.is_new &= found.facts.is_empty();
        self.stale.extend(found.left);
        for fact in found.facts {
            match fact {
                Fact::Shards(ids) => {
                    self.shards_listed = Some(ids.len());
                    self.shards.retain(|shard, _| ids.contains(shard));
                }
                Fact::Shard(shard, record) => drop(update(&mut self.shards, shard, record)),
                Fact::Own(observed) => self.learn_own(observed),
                Fact::Nodes(ids) => {
                    let gone = self.nodes.extract_if(.., |node, _| !ids.contains(node));
                    self.last_known
                        .extend(gone.map(|(node, registration)| (node, registration.address)));
                }
                Fact::Node(node, registration) => {
                    if let Some(gone) = update(&mut self.nodes, node, registration) {
                        self.last_known.insert(node, gone.address);
                    }
                }
            }
        }
    }

    /// The record that a former member observes does not hide that of its new shard.
    fn learn_own(&mut self, observed: Observed) {
        let is_member = observed.record.voters.contains(&self.node);
        if is_member || self.own_shard() == Some(observed.record.shard) {
            self.own = Some(observed);
        }
    }

    /// The cluster as clients and peers need it.
    pub(super) fn cluster(&self) -> ClusterMap {
        let view = |record: &ShardRecord| ShardView {
            epoch: record.epoch,
            writer: record.writer.map(|writer| writer.node),
            voters: record.voters.clone(),
            write_quorum: record.write_quorum,
            slots: record.slots.clone(),
            fencing: record.fencing,
        };
        let is_member = |node: &NodeId| self.shards.values().any(|s| s.voters.contains(node));
        let members = self.last_known.iter().filter(|(node, _)| is_member(node));
        let mut nodes: BTreeMap<NodeId, String> =
            members.map(|(node, at)| (*node, at.clone())).collect();
        nodes.extend(
            self.nodes
                .iter()
                .map(|(node, r)| (*node, r.address.clone())),
        );
        let shards = self.shards.iter();
        ClusterMap {
            nodes,
            shards: shards
                .map(|(shard, record)| (*shard, view(record)))
                .collect(),
        }
    }
}

/// Sets or removes an entry; returns what is no longer there.
fn update<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> Option<V> {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    }
}

/// A refresh under way.
struct Reading {
    session: Arc<dyn Session>,
    node: NodeId,
    own: Option<ShardId>,
    shards: BTreeSet<ShardId>,
    nodes: BTreeSet<NodeId>,
    found: Found,
}

impl Reading {
    async fn run(mut self, mut todo: BTreeSet<Part>) -> Found {
        while let Some(part) = todo.first().copied() {
            match self.read(part, &mut todo).await {
                Ok(()) => {}
                // Nothing to be done until it changes, and then the watch fires; the rest is good.
                Err(CoordinationError::Unreadable) => self.found.is_unreadable = true,
                Err(error) => {
                    self.found.error = Some(error);
                    break;
                }
            }
            todo.remove(&part);
        }
        self.found.left = todo;
        self.found
    }

    async fn read(
        &mut self,
        part: Part,
        todo: &mut BTreeSet<Part>,
    ) -> Result<(), CoordinationError> {
        let session = self.session.as_ref();
        let fact = match part {
            Part::Shards => {
                let ids = registry::shards(session).await?;
                let new = ids.difference(&self.shards);
                todo.extend(new.copied().map(Part::Shard));
                Fact::Shards(ids)
            }
            Part::Shard(shard) => return self.read_shard(shard).await,
            Part::Nodes => {
                let ids = registry::nodes(session).await?;
                let new = ids.difference(&self.nodes);
                todo.extend(new.copied().map(Part::Node));
                Fact::Nodes(ids)
            }
            Part::Node(node) => Fact::Node(node, registry::registration(session, node).await?),
        };
        self.found.facts.push(fact);
        Ok(())
    }

    /// A node that is a member no longer observes the record that says so, once.
    async fn read_shard(&mut self, shard: ShardId) -> Result<(), CoordinationError> {
        let read = registry::record(self.session.as_ref(), shard).await?;
        let record = read.as_ref().map(|(_, record)| record.clone());
        if let Some((revision, record)) = read
            && (record.voters.contains(&self.node) || self.own == Some(shard))
        {
            let observed = registry::observe(self.session.as_ref(), revision, record).await?;
            self.found.facts.push(Fact::Own(observed));
        }
        self.found.facts.push(Fact::Shard(shard, record));
        Ok(())
    }
}
