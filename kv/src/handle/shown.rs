//! The cluster map as JSON: the same for every face that shows it.

use kv_core::Fencing;
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
                "fencing": fencing(view.fencing),
            })
        });
        shards.collect()
    }
}

/// The protocol's name, as settings and flags say it.
#[must_use]
pub fn fencing(fencing: Fencing) -> &'static str {
    match fencing {
        Fencing::Epoch => "epoch",
        Fencing::None => "none",
    }
}
