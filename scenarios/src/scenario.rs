//! A scenario: a cluster, what its clients do, what goes wrong, and what must hold all the same.
//!
//! It is plain data that a person writes as TOML (`suite/*.toml` are examples with comments) and that every world runs
//! unchanged. A [`Scenario`] that exists is valid: all its targets exist, its times are in order, its quorums meet.
//! Whatever is wrong with a file is one line that names the file, the line, and what is allowed there.
//!
//! `file.rs` is the format as written, with the default of each field; `validate.rs` makes a scenario of it; `write.rs`
//! writes one out again, so that the folder of a run can be run by itself.

mod cue;
mod disk;
mod expect;
mod fault;
mod file;
mod problem;
mod random;
mod script;
mod target;
mod validate;
mod write;

use std::path::Path;
use std::time::Duration;

use kv::config::ClusterConfig;
use kv::engine::EngineKind;
use kv_core::{Fencing, SLOT_COUNT, ShardId, SlotRange, slot_of};

use crate::error::Error;

pub use kv::quantity::{Length, NoLength, NoSize, Size};

pub use cue::{Cue, Numbers, Parcel, ParcelKind, What};
pub use disk::{DiskFault, Spot, UnknownDiskFault};
pub use expect::{Expectations, Expected, SEEDS_TO_SHOW_HARM};
pub use fault::{
    Action, Count, Counted, Disturbance, End, Fault, Kind, Start, Trigger, Turn, UnknownTrigger,
};
pub use problem::Problem;
pub use random::Random;
pub use script::Step;
pub use target::{Group, NoSuchTarget, TARGETS, Target, UnknownTarget};

/// A valid scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// What it is called in summaries and folders: the stem of its file's name.
    pub id: String,
    /// How the command line finds it: its name in the suite, or its file.
    pub address: String,
    /// One line that says what happens.
    pub title: String,
    /// The seed to run when none is asked for.
    pub seed: Option<u64>,
    /// What each seed draws for itself: then there are no faults yet, and cluster and workload are not the final ones.
    pub random: Option<Random>,
    /// What is started.
    pub cluster: Cluster,
    /// What the clients do.
    pub workload: Workload,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// Everything that happens, in a directed run; then there are no faults, and the clients do only this.
    pub cues: Vec<Cue>,
    /// What must hold.
    pub expect: Expectations,
}

/// What is started.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Shards, N, Q, E and the protocol.
    pub config: ClusterConfig,
    /// What the nodes store in.
    pub engine: EngineKind,
    /// How much the nodes keep before they move on.
    pub storage: Storage,
    /// How many nodes; those that no shard needs are idle.
    pub nodes: u16,
    /// How long the coordination service keeps a silent session.
    pub session_timeout: Duration,
}

/// How much the nodes keep before they move on; what is not said is as it is in production, where a short run sees none of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Storage {
    /// A file of the log with so many bytes is full.
    pub segment_bytes: Option<u64>,
    /// So many bytes of the log after the last checkpoint, the next one begins.
    pub checkpoint_bytes: Option<u64>,
    /// So many bytes of the log stay behind a checkpoint for members that are behind.
    pub log_retain_bytes: Option<u64>,
}

/// What the clients do: closed loops of random operations, or what a script says.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// How many sessions.
    pub clients: u32,
    /// How many keys.
    pub keys: u32,
    /// Each operation, in the order of their times; none, where the operations are random.
    pub script: Vec<Step>,
    /// The shares of the operations.
    pub mix: Mix,
    /// The shares of the read levels.
    pub levels: Levels,
    /// How long the clients work.
    pub duration: Duration,
    /// How fast each client is at most.
    pub ops_per_second: f64,
    /// How long a client waits for an answer.
    pub deadline: Duration,
    /// A run with fewer acknowledged operations fails itself.
    pub min_ok: u64,
    /// How long after the last fault a write to each shard must succeed.
    pub recovery_within: Duration,
}

/// The shares of the operations; they need not add up to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Reads.
    pub get: u32,
    /// Writes.
    pub set: u32,
    /// Deletes.
    pub delete: u32,
}

/// The shares of the read levels; they need not add up to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// At the writer, under its lease.
    pub lease: u32,
    /// At the writer, confirmed by Q members.
    pub quorum: u32,
    /// At the writer, unchecked.
    pub local: u32,
    /// At any member, with the session's token.
    pub replica: u32,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            clients: 8,
            keys: 16,
            script: Vec::new(),
            mix: Mix {
                get: 50,
                set: 40,
                delete: 10,
            },
            levels: Levels {
                lease: 60,
                quorum: 10,
                local: 0,
                replica: 30,
            },
            duration: Duration::from_secs(30),
            ops_per_second: 2.0,
            deadline: Duration::from_secs(2),
            min_ok: 300,
            recovery_within: Duration::from_secs(20),
        }
    }
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// In one line: the file, the line, what is wrong there and what is allowed.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Unreadable {
            path: path.to_owned(),
            source,
            known: crate::suite::names(),
        })?;
        let id = path.file_stem().unwrap_or(path.as_os_str());
        Self::parse(&id.to_string_lossy(), &path.display().to_string(), &text)
    }

    /// Reads a scenario from the text of a file; `file` is what messages call it.
    ///
    /// # Errors
    /// As [`Scenario::load`].
    pub fn parse(id: &str, file: &str, text: &str) -> Result<Self, Error> {
        validate::parse(id, file, text)
    }

    /// The scenario as the text of a file that reads back as an equal one.
    #[must_use]
    pub fn to_toml(&self) -> String {
        write::write(self)
    }

    /// The same scenario under that protocol.
    #[must_use]
    pub fn under(&self, fencing: Fencing) -> Self {
        let mut scenario = self.clone();
        scenario.cluster.config.fencing = fencing;
        scenario
    }

    /// The protocol that it runs.
    #[must_use]
    pub fn fencing(&self) -> Fencing {
        self.cluster.config.fencing
    }

    /// The shards.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.cluster.config.shards).map(|shard| ShardId(u64::from(shard)))
    }

    /// The shard that owns a key by the first assignment.
    #[must_use]
    pub fn shard_of(&self, key: &str) -> ShardId {
        let slot = slot_of(key.as_bytes());
        let ranges = SlotRange::partition(self.cluster.config.shards).unwrap_or_default();
        let owner = ranges.iter().position(|range| range.contains(slot));
        ShardId(owner.expect("a partition covers every slot") as u64)
    }

    /// The keys that the clients use.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        (0..self.workload.keys)
            .map(|key| format!("k{key}"))
            .collect()
    }

    /// A key of each shard that no client uses, for the probe writes after the last fault.
    #[must_use]
    pub fn probe_keys(&self) -> Vec<String> {
        let key_of = |shard: ShardId| {
            let mut candidates = (0..).map(|number| format!("probe{number}"));
            let key = candidates.find(|key| self.shard_of(key) == shard);
            key.expect("some key hashes into every range")
        };
        self.shards().map(key_of).collect()
    }
}

const _: () = assert!(
    SLOT_COUNT <= 1024,
    "a key for every slot is found among few candidates"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_has_a_probe_key_that_no_client_uses() {
        for shards in [1, 2, 5] {
            let text = format!("name = \"x\"\n[cluster]\nshards = {shards}\n");
            let scenario = Scenario::parse("x", "x.toml", &text).unwrap();
            let probes = scenario.probe_keys();
            let owners: Vec<ShardId> = probes.iter().map(|key| scenario.shard_of(key)).collect();
            assert_eq!(owners, scenario.shards().collect::<Vec<_>>());
            assert!(scenario.keys().iter().all(|key| !probes.contains(key)));
        }
    }
}
