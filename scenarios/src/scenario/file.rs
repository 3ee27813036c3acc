//! The format as it stands in a file: every field, its default and its meaning.
//!
//! These types only carry what was written and where; `validate.rs` makes a [`Scenario`](super::Scenario) of them.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use toml::Spanned;

use super::Length;
use super::Size;
use super::disk::{Spot, Word};
use super::fault::{Count, Trigger};
use super::target::Group;

/// A whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// One line that says what happens.
    pub(super) name: Spanned<String>,
    /// The seed to run when none is asked for: a file that reproduces one run has it.
    pub(super) seed: Option<u64>,
    /// In place of faults: each seed draws its own, and the shape of the cluster and the workload.
    pub(super) random: Option<Spanned<Random>>,
    pub(super) cluster: Option<Spanned<Cluster>>,
    pub(super) workload: Option<Spanned<Workload>>,
    #[serde(default)]
    pub(super) fault: Vec<Spanned<Fault>>,
    /// In place of faults and operations: a directed run.
    #[serde(default)]
    pub(super) cue: Vec<Spanned<Cue>>,
    #[serde(default)]
    pub(super) expect: Expect,
}

/// `random = {…}`: what each seed draws for itself.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Random {
    /// How many faults at most.
    pub(super) faults: u32,
    /// How long before the end of the workload all of them are over.
    pub(super) quiet: Length,
}

/// `[cluster]`: what is started.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cluster {
    /// Default 2.
    pub(super) shards: Option<Spanned<u16>>,
    /// N; default 3.
    pub(super) replication_factor: Option<Spanned<usize>>,
    /// Q; default a majority of N.
    pub(super) write_quorum: Option<Spanned<usize>>,
    /// E; default N − Q + 1.
    pub(super) election_quorum: Option<Spanned<usize>>,
    /// Default epoch; `--fencing` overrides it.
    pub(super) fencing: Option<Fencing>,
    /// Default memory; or redb, sled, rocksdb.
    pub(super) engine: Option<Spanned<String>>,
    /// How large a file of the log gets; default as in production, which no short run fills.
    pub(super) segment_bytes: Option<Spanned<Size>>,
    /// How much log there is between two checkpoints; default as in production, which no short run writes.
    pub(super) checkpoint_bytes: Option<Spanned<Size>>,
    /// How much log stays behind a checkpoint for members that are behind; default as in production.
    pub(super) log_retain_bytes: Option<Spanned<Size>>,
    /// Default shards × N; more are idle.
    pub(super) nodes: Option<Spanned<u16>>,
    /// How long the coordination service keeps a silent session; default 4 s.
    pub(super) session_timeout: Option<Spanned<Length>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Fencing {
    Epoch,
    None,
}

/// `[workload]`: what the clients do.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Workload {
    /// How many sessions; default 8.
    pub(super) clients: Option<Spanned<u32>>,
    /// How many keys; default 16.
    pub(super) keys: Option<Spanned<u32>>,
    /// Each operation with its time and its client; default random ones.
    pub(super) script: Option<Spanned<Vec<Step>>>,
    /// The shares of the operations; default get 50, set 40, delete 10.
    pub(super) mix: Option<Spanned<Mix>>,
    /// The shares of the read levels; default lease 60, quorum 10, local 0, replica 30.
    pub(super) levels: Option<Spanned<Levels>>,
    /// How long the clients work; default 30 s.
    pub(super) duration: Option<Spanned<Length>>,
    /// How fast each client is at most: it thinks so long between operations; default 2.
    pub(super) ops_per_second: Option<Spanned<f64>>,
    /// How long a client waits for an answer; default 2 s.
    pub(super) deadline: Option<Spanned<Length>>,
    /// A run with fewer acknowledged operations fails itself; default 300, and 0 for a script.
    pub(super) min_ok: Option<Spanned<u64>>,
    /// How long after the last fault a write to each shard must succeed; default 20 s.
    pub(super) recovery_within: Option<Spanned<Length>>,
}

/// One operation of a script: `get`, `set` or `delete` of a key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    pub(super) at: Spanned<Length>,
    pub(super) client: Spanned<u32>,
    pub(super) get: Option<Spanned<String>>,
    pub(super) set: Option<Spanned<String>>,
    pub(super) delete: Option<Spanned<String>>,
    /// How much a read promises; default lease.
    pub(super) level: Option<Spanned<String>>,
}

/// `[[cue]]`: one thing that happens in a directed run; nodes are named `n1`, `n2`, and so on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cue {
    /// A kind of message, with `from`, `to`, `epoch` and the numbers that matter.
    pub(super) deliver: Option<Spanned<String>>,
    pub(super) from: Option<Spanned<String>>,
    pub(super) to: Option<Spanned<String>>,
    pub(super) epoch: Option<Spanned<u64>>,
    pub(super) after: Option<u64>,
    pub(super) upto: Option<u64>,
    pub(super) committed: Option<u64>,
    pub(super) round: Option<u64>,
    pub(super) write: Option<Spanned<String>>,
    pub(super) read: Option<Spanned<String>>,
    /// How much the read promises; default lease.
    pub(super) level: Option<Spanned<String>>,
    pub(super) sync: Option<Spanned<String>>,
    /// With `seen_by`, and `early` where the lease still holds.
    pub(super) lose_session: Option<Spanned<String>>,
    pub(super) seen_by: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) early: bool,
    pub(super) expire: Option<Spanned<String>>,
    pub(super) learn: Option<Spanned<String>>,
    pub(super) crash: Option<Spanned<String>>,
    pub(super) rollback: Option<Spanned<String>>,
    pub(super) set: Option<Spanned<String>>,
    pub(super) release: Option<Spanned<String>>,
    pub(super) retry: Option<Spanned<String>>,
    pub(super) hurry: Option<Spanned<String>>,
    /// What is asked of the disk is not synced before a `sync`.
    #[serde(default)]
    pub(super) slow: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Mix {
    pub(super) get: u32,
    pub(super) set: u32,
    pub(super) delete: u32,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Levels {
    pub(super) lease: u32,
    pub(super) quorum: u32,
    pub(super) local: u32,
    pub(super) replica: u32,
}

/// `[[fault]]`: one start, one kind, at most one end.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    /// Start: at this time.
    pub(super) at: Option<Spanned<Length>>,
    /// Start: when this happens in the cluster.
    pub(super) when: Option<Spanned<Trigger>>,
    /// Start: when the clients have seen so much.
    pub(super) after: Option<Spanned<Count>>,
    /// Start: not later than this. Without it, a fault that never fires fails the run.
    pub(super) latest: Option<Spanned<Length>>,
    /// End: at this time.
    pub(super) until: Option<Spanned<Length>>,
    /// End: so long after the start.
    #[serde(rename = "for")]
    pub(super) lasting: Option<Spanned<Length>>,
    pub(super) partition: Option<Spanned<Partition>>,
    pub(super) network: Option<Spanned<Network>>,
    pub(super) power_loss: Option<Spanned<Group>>,
    pub(super) kill: Option<Spanned<Group>>,
    pub(super) restart: Option<Spanned<Group>>,
    pub(super) pause: Option<Spanned<Group>>,
    pub(super) session_loss: Option<Spanned<Group>>,
    pub(super) clock: Option<Spanned<Clock>>,
    pub(super) slow_disk: Option<Spanned<SlowDisk>>,
    pub(super) disk: Option<Spanned<Disk>>,
}

/// `partition = {…}`: `isolate` (with or without `from`), or `split`, or `one_way`, or `bridge`, or `ring`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Partition {
    pub(super) isolate: Option<Group>,
    pub(super) from: Option<Group>,
    pub(super) split: Option<Vec<Group>>,
    pub(super) one_way: Option<OneWay>,
    pub(super) bridge: Option<Group>,
    pub(super) ring: Option<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OneWay {
    pub(super) from: Group,
    pub(super) to: Option<Group>,
}

/// `network = {…}`: at least one disturbance; between all nodes, or from and to the named.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Network {
    #[serde(default)]
    pub(super) lose: f64,
    #[serde(default)]
    pub(super) duplicate: f64,
    #[serde(default)]
    pub(super) reorder: f64,
    #[serde(default)]
    pub(super) delay: Length,
    pub(super) from: Option<Group>,
    pub(super) to: Option<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Clock {
    pub(super) node: Group,
    #[serde(default)]
    pub(super) offset: Length,
    #[serde(default)]
    pub(super) drift_ppm: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SlowDisk {
    pub(super) node: Group,
    pub(super) delay: Length,
}

/// `disk = {…}`: what it does wrong, and for a bit flip, where.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Disk {
    pub(super) node: Group,
    pub(super) fault: Word,
    #[serde(rename = "where")]
    pub(super) spot: Option<Spanned<Spot>>,
}

/// Guarantees and what is expected of them, as they were written.
pub(super) type Named = BTreeMap<Spanned<String>, Spanned<String>>;

/// `[expect]` is about `epoch`, as is `[expect.epoch]`, and `[expect.none]` about `none`.
#[derive(Default)]
pub(super) struct Expect {
    pub(super) unsaid: Named,
    pub(super) epoch: Named,
    pub(super) none: Named,
}

impl<'de> Deserialize<'de> for Expect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tables;

        impl<'de> Visitor<'de> for Tables {
            type Value = Expect;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table such as [expect] with lines such as linearizable = \"holds\"")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Expect, M::Error> {
                let mut expect = Expect::default();
                while let Some(name) = map.next_key::<Spanned<String>>()? {
                    match name.get_ref().as_str() {
                        "none" => expect.none = map.next_value()?,
                        "epoch" => expect.epoch = map.next_value()?,
                        _ => drop(expect.unsaid.insert(name, map.next_value()?)),
                    }
                }
                Ok(expect)
            }
        }

        deserializer.deserialize_map(Tables)
    }
}
