//! Placement: which node is a member of which shard, and which shard owns which slots. Pure functions from what there
//! is to a plan; whoever holds the coordinator lock carries the plan out.

use std::collections::BTreeSet;
use std::fmt;

use crate::{NodeId, ShardId, SlotRange};

/// What the first assignment gives to one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Which shard; numbered from 0.
    pub shard: ShardId,
    /// The first writer: the lowest of the voters.
    pub writer: NodeId,
    /// The members, the writer included.
    pub voters: BTreeSet<NodeId>,
    /// What it owns.
    pub slots: Vec<SlotRange>,
}

/// Why nothing could be assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotEnough {
    /// How many nodes there are.
    pub have: usize,
    /// How many it takes: a replica set for every shard.
    pub need: usize,
}

impl fmt::Display for NotEnough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { have, need } = self;
        write!(f, "{have} nodes are registered; the shards need {need}")
    }
}

impl std::error::Error for NotEnough {}

/// How many nodes the first assignment needs.
#[must_use]
pub fn nodes_needed(shards: u16, replication_factor: usize) -> usize {
    usize::from(shards) * replication_factor
}

/// The first assignment: a shard for every N nodes in the order of their ids, the rest idle, and the slots cut evenly.
///
/// # Errors
/// When there are fewer nodes than all of the shards need together.
///
/// # Panics
/// When `shards` is not in 1..=1024 or `replication_factor` is 0: a valid configuration has neither.
pub fn first_assignment(
    nodes: &BTreeSet<NodeId>,
    shards: u16,
    replication_factor: usize,
) -> Result<Vec<Assignment>, NotEnough> {
    assert!(replication_factor > 0, "a shard has at least its writer");
    let ranges = SlotRange::partition(shards).expect("there are 1 to 1024 shards");
    let have = nodes.len();
    let need = nodes_needed(shards, replication_factor);
    if have < need {
        return Err(NotEnough { have, need });
    }
    let nodes: Vec<NodeId> = nodes.iter().copied().collect();
    let replica_sets = nodes.chunks_exact(replication_factor);
    Ok((0..)
        .zip(replica_sets.zip(ranges))
        .map(|(number, (members, range))| Assignment {
            shard: ShardId(number),
            writer: members[0],
            voters: members.iter().copied().collect(),
            slots: vec![range],
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Slot;

    fn nodes(ids: impl IntoIterator<Item = u64>) -> BTreeSet<NodeId> {
        ids.into_iter().map(NodeId).collect()
    }

    #[test]
    fn six_nodes_make_two_shards_of_three() {
        let plan = first_assignment(&nodes(1..=6), 2, 3).unwrap();
        assert_eq!(plan.len(), 2);
        assert_eq!(plan[0].shard, ShardId(0));
        assert_eq!(plan[0].writer, NodeId(1));
        assert_eq!(plan[0].voters, nodes(1..=3));
        assert_eq!(plan[0].slots, [SlotRange::new(0, 512).unwrap()]);
        assert_eq!(plan[1].shard, ShardId(1));
        assert_eq!(plan[1].writer, NodeId(4));
        assert_eq!(plan[1].voters, nodes(4..=6));
        assert_eq!(plan[1].slots, [SlotRange::new(512, 1024).unwrap()]);
    }

    #[test]
    fn the_nodes_that_are_left_over_stay_idle() {
        let plan = first_assignment(&nodes([2, 3, 5, 7, 11]), 1, 3).unwrap();
        assert_eq!(plan.len(), 1);
        assert_eq!(plan[0].voters, nodes([2, 3, 5]));
    }

    #[test]
    fn a_replication_factor_of_one_makes_shards_of_a_writer_alone() {
        let plan = first_assignment(&nodes([9, 4]), 2, 1).unwrap();
        assert_eq!(plan[0].writer, NodeId(4));
        assert_eq!(plan[0].voters, nodes([4]));
        assert_eq!(plan[1].writer, NodeId(9));
        assert_eq!(plan[1].voters, nodes([9]));
    }

    #[test]
    fn too_few_nodes_are_counted_and_nothing_is_assigned() {
        let refused = first_assignment(&nodes(1..=5), 2, 3).unwrap_err();
        assert_eq!(refused, NotEnough { have: 5, need: 6 });
        assert_eq!(
            refused.to_string(),
            "5 nodes are registered; the shards need 6"
        );
    }

    #[test]
    fn every_slot_has_one_shard_and_every_node_at_most_one() {
        for (count, shards, replication_factor) in [(1, 1, 1), (7, 7, 1), (10, 3, 3), (15, 3, 5)] {
            let plan = first_assignment(&nodes(1..=count), shards, replication_factor).unwrap();
            assert_eq!(plan.len(), usize::from(shards));
            for number in 0..crate::SLOT_COUNT {
                let slot = Slot::new(number).unwrap();
                let owners = plan
                    .iter()
                    .filter(|shard| shard.slots.iter().any(|range| range.contains(slot)));
                assert_eq!(owners.count(), 1);
            }
            let members: Vec<NodeId> = plan.iter().flat_map(|s| s.voters.clone()).collect();
            let distinct: BTreeSet<NodeId> = members.iter().copied().collect();
            assert_eq!(members.len(), distinct.len());
            assert!(plan.iter().all(|s| s.voters.len() == replication_factor));
            assert!(plan.iter().all(|s| s.voters.contains(&s.writer)));
        }
    }
}
