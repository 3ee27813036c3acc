//! The cluster map as JSON: the same for every face that shows it.

use serde_json::{Value, json};

use super::ClusterMap;

impl ClusterMap {
    /// The shards, in order.
    #[must_use]
    pub fn shards_as_json(&self) -> Vec<Value> {
        let shards = self.shards.iter().map(|(shard, view)| {
            let voters = view.voters.iter().map(|voter| voter.0);
            let slots = view.slots.iter().map(|range| [range.start(), range.end()]);
            json!({
                "shard": shard.0,
                "epoch": view.epoch.0,
                "writer": view.writer.map(|writer| writer.0),
                "voters": voters.collect::<Vec<_>>(),
                "write_quorum": view.write_quorum,
                "slots": slots.collect::<Vec<_>>(),
                "fencing": view.fencing.name(),
            })
        });
        shards.collect()
    }
}
