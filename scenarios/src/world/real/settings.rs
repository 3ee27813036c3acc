//! The settings of a node: its `kv.toml`, as the scenario wants the cluster.

use std::fmt::Write as _;
use std::path::Path;

use kv::quantity::{Length, Size};
use kv_core::NodeId;

use crate::scenario::Scenario;

/// The least that `kv serve` takes as the size of what is kept; smaller ones are for simulated disks.
const STORAGE_BYTES_MIN: u64 = 1024 * 1024;

/// Where one node finds everything.
#[derive(Clone, Copy, Debug)]
pub struct Whereabouts<'a> {
    /// The folder with its data.
    pub data: &'a Path,
    /// The file that gets its events.
    pub events: &'a Path,
    /// Where it listens.
    pub listen: &'a str,
    /// Where the others reach it.
    pub advertise: &'a str,
    /// Where its calls to others come from, if that is not left to the system.
    pub source: Option<&'a str>,
    /// Where it serves HTTP.
    pub http: &'a str,
    /// ZooKeeper, and where in it the cluster lives.
    pub zookeeper: &'a str,
}

/// What a scenario asks for that no real cluster does, if anything.
#[must_use]
pub fn refused(scenario: &Scenario) -> Option<&'static str> {
    if !scenario.cues.is_empty() {
        return Some("the cues of a directed run");
    }
    let storage = &scenario.cluster.storage;
    let too_small = |size: Option<u64>| size.is_some_and(|size| size < STORAGE_BYTES_MIN);
    if too_small(storage.segment_bytes) {
        return Some("segment_bytes below 1MiB");
    }
    too_small(storage.checkpoint_bytes).then_some("checkpoint_bytes below 1MiB")
}

/// The text of the file.
#[must_use]
pub fn kv_toml(scenario: &Scenario, node: NodeId, at: &Whereabouts<'_>) -> String {
    let cluster = &scenario.cluster;
    let config = &cluster.config;
    let mut text = format!(
        "[node]\nid = {id}\ndata = {data:?}\nlisten = \"{listen}\"\nadvertise = \"{advertise}\"\n",
        id = node.0,
        data = at.data,
        listen = at.listen,
        advertise = at.advertise,
    );
    let mut add = |line: std::fmt::Arguments<'_>| {
        text.write_fmt(line).expect("a string takes everything");
        text.push('\n');
    };
    if let Some(source) = at.source {
        add(format_args!("source = \"{source}\""));
    }
    add(format_args!("\n[cluster]\nshards = {}", config.shards));
    add(format_args!(
        "replication_factor = {}",
        config.replication_factor
    ));
    add(format_args!("write_quorum = {}", config.write_quorum));
    add(format_args!("election_quorum = {}", config.election_quorum));
    add(format_args!("fencing = \"{}\"", config.fencing.name()));
    add(format_args!("\n[coordination]\nkind = \"zookeeper\""));
    add(format_args!("servers = \"{}\"", at.zookeeper));
    let timeout = Length(cluster.session_timeout);
    add(format_args!("session_timeout = \"{timeout}\""));
    add(format_args!(
        "\n[storage]\nengine = \"{}\"",
        cluster.engine.name()
    ));
    // Runs are short: a full disk must be noticed soon.
    add(format_args!("wal_preallocate = \"1KiB\""));
    let storage = &cluster.storage;
    let sizes = [
        ("wal_segment", storage.segment_bytes),
        ("checkpoint", storage.checkpoint_bytes),
        ("log_retain", storage.log_retain_bytes),
    ];
    for (name, bytes) in sizes {
        if let Some(bytes) = bytes {
            add(format_args!("{name} = \"{}\"", Size(bytes)));
        }
    }
    add(format_args!("\n[http]\nlisten = \"{}\"", at.http));
    add(format_args!("\n[auth]\ninsecure = true"));
    add(format_args!(
        "\n[log]\nlevel = \"info\"\nevents = {:?}",
        at.events
    ));
    text
}
