//! Who plays the roles that a fault names, at the moment in which it fires.

use std::collections::{BTreeMap, BTreeSet};

use kv_core::{NodeId, ShardId};
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use crate::scenario::{Action, Group, Scenario, Target};
use crate::seed::stream;
use crate::world::{Place, Roles, World};

/// The places behind the targets of one fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cast {
    places: BTreeMap<Target, BTreeSet<Place>>,
    /// The members of every shard.
    pub(super) members: BTreeMap<u16, Vec<NodeId>>,
    /// Every node, in an order of the seed's own.
    pub(super) order: Vec<NodeId>,
}

impl Cast {
    /// Finds who plays the roles of an action now; nobody where a role is vacant, such as a writer during an election.
    pub(super) fn find(
        action: &Action,
        scenario: &Scenario,
        world: &dyn World,
        seed: u64,
        fault_index: usize,
    ) -> Option<Self> {
        let mut shards = BTreeMap::new();
        for shard in 0..scenario.cluster.config.shards {
            shards.insert(shard, world.shard(ShardId(u64::from(shard)))?);
        }
        let node_count = scenario.cluster.nodes;
        Self::among(action, &shards, node_count, seed, fault_index)
    }

    fn among(
        action: &Action,
        shards: &BTreeMap<u16, Roles>,
        node_count: u16,
        seed: u64,
        fault_index: usize,
    ) -> Option<Self> {
        let mut rng = stream(seed, "roles", fault_index as u64);
        let mut cast = Self::default();
        for (shard, roles) in shards {
            // In an order of the seed's own: the first half and one more are the majority.
            let mut members: Vec<NodeId> = roles.members.iter().copied().collect();
            members.shuffle(&mut rng);
            cast.members.insert(*shard, members);
        }
        for target in action.groups().iter().flat_map(|group| &group.0) {
            if !cast.places.contains_key(target) {
                let places = cast.resolve(*target, shards, node_count, &mut rng)?;
                cast.places.insert(*target, places);
            }
        }
        cast.order = (1..=u64::from(node_count)).map(NodeId).collect();
        cast.order.shuffle(&mut rng);
        Some(cast)
    }

    fn resolve(
        &self,
        target: Target,
        shards: &BTreeMap<u16, Roles>,
        node_count: u16,
        rng: &mut StdRng,
    ) -> Option<BTreeSet<Place>> {
        let nodes = |nodes: &[NodeId]| nodes.iter().copied().map(Place::Node).collect();
        let drawn = |shard| {
            let members: &[NodeId] = &self.members[&shard];
            members.split_at(members.len() / 2 + 1)
        };
        Some(match target {
            Target::Writer(shard) => nodes(&[shards[&shard].writer?]),
            Target::Replica(shard, index) => {
                let Roles {
                    writer, members, ..
                } = &shards[&shard];
                let writer = (*writer)?;
                let mut replicas = members.iter().copied().filter(|member| *member != writer);
                nodes(&[replicas.nth(usize::from(index))?])
            }
            Target::Elector(shard) => nodes(&[shards[&shard].elector?]),
            Target::Shard(shard) => nodes(&self.members[&shard]),
            Target::Majority(shard) => nodes(drawn(shard).0),
            Target::Minority(shard) => nodes(drawn(shard).1),
            Target::AnyOf(shard) => nodes(&self.members[&shard][..1]),
            Target::Any => nodes(&[NodeId(rng.random_range(1..=u64::from(node_count)))]),
            Target::Node(id) => nodes(&[NodeId(u64::from(id))]),
            Target::All => (1..=u64::from(node_count))
                .map(|id| Place::Node(NodeId(id)))
                .collect(),
            Target::Coordination => [Place::Coordination].into(),
            Target::Clients => [Place::Clients].into(),
        })
    }

    /// The places of a group.
    pub(super) fn places(&self, group: &Group) -> BTreeSet<Place> {
        let of = |target| self.places.get(target).into_iter().flatten().copied();
        group.0.iter().flat_map(of).collect()
    }

    /// The nodes of a group.
    pub(super) fn nodes(&self, group: &Group) -> BTreeSet<NodeId> {
        let node = |place| match place {
            Place::Node(node) => Some(node),
            Place::Coordination | Place::Clients => None,
        };
        self.places(group).into_iter().filter_map(node).collect()
    }

    /// Every role of nodes that was looked up, with the ids of those who play it.
    pub(super) fn roles(&self) -> impl Iterator<Item = (String, Vec<u64>)> {
        let ids = |places: &BTreeSet<Place>| {
            let id = |place: &Place| match place {
                Place::Node(node) => Some(node.0),
                Place::Coordination | Place::Clients => None,
            };
            places.iter().filter_map(id).collect::<Vec<u64>>()
        };
        let roles = self
            .places
            .iter()
            .map(move |(target, places)| (target.to_string(), ids(places)));
        roles.filter(|(_, ids)| !ids.is_empty())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The cast of a scenario's first fault, where n1 writes the shard of n1 to n3 and n4 that of n4 to n6.
    pub(in crate::nemesis) fn cast(scenario: &Scenario) -> Cast {
        let roles = |shard: u64| Roles {
            epoch: kv_core::Epoch(1),
            writer: Some(NodeId(3 * shard + 1)),
            members: (1..=3).map(|index| NodeId(3 * shard + index)).collect(),
            elector: (shard == 1).then_some(NodeId(5)),
        };
        let shards = BTreeMap::from([(0, roles(0)), (1, roles(1))]);
        Cast::among(&scenario.faults[0].action, &shards, 6, 7, 0).unwrap()
    }

    #[test]
    fn roles_are_found_in_the_order_of_ids_and_chances_repeat_themselves() {
        let text = "name = \"x\"\n[[fault]]\nat = \"1s\"\n\
                    kill = [\"replica(1, 1)\", \"any\", \"any(0)\", \"majority(1)\", \"minority(1)\"]\n";
        let scenario = Scenario::parse("x", "x.toml", text).unwrap();
        let found = cast(&scenario);
        assert_eq!(found, cast(&scenario));
        let nodes = |target| found.nodes(&Group(vec![target]));
        assert_eq!(nodes(Target::Replica(1, 1)), [NodeId(6)].into());
        assert_eq!(nodes(Target::AnyOf(0)).len(), 1);
        let (majority, minority) = (nodes(Target::Majority(1)), nodes(Target::Minority(1)));
        assert_eq!((majority.len(), minority.len()), (2, 1));
        assert!(majority.is_disjoint(&minority));
    }

    #[test]
    fn nobody_is_cast_while_a_role_is_vacant() {
        let text = "name = \"x\"\n[[fault]]\nat = \"1s\"\nkill = \"writer(0)\"\n";
        let scenario = Scenario::parse("x", "x.toml", text).unwrap();
        let roles = Roles {
            epoch: kv_core::Epoch(1),
            writer: None,
            members: (1..=3).map(NodeId).collect(),
            elector: None,
        };
        let shards = BTreeMap::from([(0, roles)]);
        assert_eq!(
            Cast::among(&scenario.faults[0].action, &shards, 6, 7, 0),
            None
        );
    }
}
