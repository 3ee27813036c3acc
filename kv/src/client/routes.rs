//! Where keys are served, as far as a client knows: the cluster map, corrected slot by slot by what nodes answered.

use std::collections::{BTreeMap, BTreeSet};

use kv_core::{ShardId, Slot};
use rand::Rng;

use super::ReplicaChoice;
use crate::handle::{ClusterMap, ShardView};

/// The map and its corrections.
#[derive(Clone, Debug, Default)]
pub(super) struct Routes {
    map: ClusterMap,
    /// Where `Moved` sent us; newer than the map, until that address fails.
    hints: BTreeMap<Slot, String>,
}

impl Routes {
    /// The map, without its corrections.
    pub(super) fn map(&self) -> &ClusterMap {
        &self.map
    }

    /// The shard that owns a slot.
    pub(super) fn shard(&self, slot: Slot) -> Option<ShardId> {
        self.map.owner(slot)
    }

    /// The address of the writer of a slot: whom writes and every read level but `replica` go to.
    pub(super) fn writer(&self, slot: Slot) -> Option<String> {
        if let Some(address) = self.hints.get(&slot) {
            return Some(address.clone());
        }
        let writer = self.view(slot)?.writer?;
        self.map.nodes.get(&writer).cloned()
    }

    /// The address of a replica of a slot, for reads of level `replica`. One that has failed, and the writer, are asked only
    /// when there is nobody else.
    pub(super) fn replica(
        &self,
        slot: Slot,
        choice: ReplicaChoice,
        failed: &BTreeSet<String>,
        rng: &mut impl Rng,
    ) -> Option<String> {
        let view = self.view(slot)?;
        if let ReplicaChoice::Node(node) = choice {
            return self.map.nodes.get(&node).cloned();
        }
        let members = view.voters.iter().filter_map(|voter| {
            let address = self.map.nodes.get(voter)?;
            let rank = (failed.contains(address), view.writer == Some(*voter));
            Some((rank, address))
        });
        let members: Vec<_> = members.collect();
        let best = members.iter().map(|(rank, _)| *rank).min()?;
        let best: Vec<_> = members.iter().filter(|(rank, _)| *rank == best).collect();
        let (_, address) = best.get(rng.random_range(0..best.len()))?;
        Some((*address).clone())
    }

    /// Takes over what a node knows. Of each shard the higher epoch counts: a node that was cut off knows old ones.
    pub(super) fn merge(&mut self, map: ClusterMap) {
        if !map.nodes.is_empty() {
            self.map.nodes = map.nodes;
        }
        for (shard, view) in map.shards {
            let known = self.map.shards.get(&shard).map(|known| known.epoch);
            if known.is_none_or(|known| known <= view.epoch) {
                if known != Some(view.epoch) {
                    self.hints.clear(); // They corrected an older map.
                }
                self.map.shards.insert(shard, view);
            }
        }
    }

    /// Notes where a node says that a slot is served.
    pub(super) fn hint(&mut self, slot: Slot, address: String) {
        self.hints.insert(slot, address);
    }

    /// Stops trusting the corrections that led to an address.
    pub(super) fn forget(&mut self, address: &str) {
        self.hints.retain(|_, hint| hint != address);
    }

    fn view(&self, slot: Slot) -> Option<&ShardView> {
        self.map.shards.get(&self.map.owner(slot)?)
    }
}
