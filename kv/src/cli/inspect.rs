//! `kv slot`, `kv info` and `kv kill`: looking at a cluster, and breaking it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use kv::access::Access;
use kv::client::{Client, ReplicaChoice};
use kv::error::{Fail, Outcome};
use kv::handle::{ClusterMap, Status};
use kv_core::{NodeId, slot_of};
use serde_json::{Value, json};

use super::arguments::{self, Credentials, Target};
use super::{CliError, Exit, say, show};

/// Show which slot, shard and node a key belongs to.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kv slot greeting

The slot is crc32(key) % 1024 and needs no node; the shard and its writer are asked for.")]
pub(super) struct Slot {
    /// The key: 1 to 4096 bytes.
    #[arg(value_parser = arguments::key)]
    key: Bytes,
    #[command(flatten)]
    target: Target,
}

impl Slot {
    pub(super) async fn run(self) -> Result<Exit, CliError> {
        let access = self.target.credentials.load()?;
        let client = self.target.connect(ReplicaChoice::Random, &access).await;
        let unreachable = client.as_ref().err().map(Fail::to_string);
        let map = client.map_or_else(|_| ClusterMap::default(), |client| client.cluster().clone());
        say(&slot_line(&self.key, &map, self.target.json));
        if let (Some(reason), false) = (unreachable, self.target.json) {
            eprintln!("note: cannot tell the shard: {reason}");
        }
        Ok(Exit::Done)
    }
}

/// Where a key lives, as far as the map tells.
pub(super) fn slot_line(key: &[u8], map: &ClusterMap, json: bool) -> String {
    let slot = slot_of(key);
    let shard = map.owner(slot);
    let writer = shard.and_then(|shard| map.shards.get(&shard)?.writer);
    let address = writer.and_then(|writer| map.nodes.get(&writer));
    if json {
        return json!({
            "key": show::text(key),
            "slot": slot.number(),
            "shard": shard.map(|shard| shard.0),
            "writer": writer.map(|writer| writer.0),
            "address": address,
        })
        .to_string();
    }
    match (shard, writer, address) {
        (Some(shard), Some(writer), Some(address)) => {
            format!("slot {slot}, shard {shard}, writer {writer} at {address}")
        }
        (Some(shard), Some(writer), None) => format!("slot {slot}, shard {shard}, writer {writer}"),
        (Some(shard), None, _) => format!("slot {slot}, shard {shard}, no writer right now"),
        (None, _, _) => format!("slot {slot}"),
    }
}

/// Show the nodes and the shards of a cluster.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kv info
  kv info --node 127.0.0.1:7004 --json

The map is that of the first node that answers; each node of it is then asked how it is.")]
pub(super) struct Info {
    #[command(flatten)]
    target: Target,
    /// Ask every node for the digest of all that it stores, too. It reads everything.
    #[arg(long)]
    digest: bool,
}

impl Info {
    pub(super) async fn run(self) -> Result<Exit, CliError> {
        let access = self.target.credentials.load()?;
        let map = match self.target.connect(ReplicaChoice::Random, &access).await {
            Ok(client) => client.cluster().clone(),
            Err(fail) => {
                show::failed(&fail, self.target.json);
                return Ok(Exit::Failed);
            }
        };
        let nodes = ask_all(&map, self.target.timeout, self.digest, &access).await;
        say(&describe(&map, &nodes, self.target.json));
        Ok(Exit::Done)
    }
}

/// A node of the map, and what it says of itself.
pub(super) struct Seen {
    id: NodeId,
    address: String,
    answers: bool,
    status: Option<Status>,
}

/// Asks every node of the map how it is, all at once.
pub(super) async fn ask_all(
    map: &ClusterMap,
    timeout: Duration,
    digest: bool,
    access: &Access,
) -> Vec<Seen> {
    let timeout = timeout.min(Duration::from_secs(2)); // One dead node must not make everybody wait.
    let asked = map.nodes.iter().map(async |(id, address)| {
        let info = Client::info(address, timeout, digest, access).await;
        Seen {
            id: *id,
            address: address.clone(),
            answers: info.is_ok(),
            status: info.ok().and_then(|info| info.status),
        }
    });
    futures::future::join_all(asked).await
}

/// The map and its nodes.
pub(super) fn describe(map: &ClusterMap, nodes: &[Seen], json: bool) -> String {
    if json {
        let lags = lags(nodes);
        let nodes: Vec<Value> = nodes
            .iter()
            .map(|node| node_json(map, &lags, node))
            .collect();
        return json!({ "nodes": nodes, "shards": map.shards_as_json() }).to_string();
    }
    let lags = lags(nodes);
    let nodes: Vec<_> = nodes
        .iter()
        .map(|node| node_row(map, &lags, node))
        .collect();
    let headings = [
        "NODE",
        "ADDRESS",
        "SHARD",
        "ROLE",
        "HEALTH",
        "PROMISED",
        "LOG END",
        "COMMITTED",
        "LAG",
    ];
    let nodes = show::table(&headings, &nodes);
    format!("{nodes}\n\n{}", shard_table(map))
}

/// The shards of a map, for people.
pub(super) fn shard_table(map: &ClusterMap) -> String {
    let headings = [
        "SHARD", "EPOCH", "WRITER", "VOTERS", "QUORUM", "SLOTS", "FENCING",
    ];
    let rows: Vec<Vec<String>> = map
        .shards
        .iter()
        .map(|(id, view)| {
            vec![
                id.to_string(),
                view.epoch.to_string(),
                view.writer.map_or("none".to_owned(), |w| w.to_string()),
                join(view.voters.iter()),
                format!("{} of {}", view.write_quorum, view.voters.len()),
                join(view.slots.iter()),
                view.fencing.name().to_owned(),
            ]
        })
        .collect();
    show::table(&headings, &rows)
}

/// What a node is, as far as it says so itself; else as far as the map does.
fn role(map: &ClusterMap, node: &Seen) -> &'static str {
    let member = map
        .shards
        .values()
        .any(|view| view.voters.contains(&node.id));
    match &node.status {
        _ if !node.answers => "not answering",
        Some(status) if status.writer_of.is_some() => "writer",
        Some(Status { shard: None, .. }) => "idle",
        Some(_) => "replica",
        None if member => "member",
        None => "idle",
    }
}

/// How well a node is.
fn health(map: &ClusterMap, node: &Seen) -> &'static str {
    let Some(status) = &node.status else {
        return if node.answers { "busy" } else { "down" };
    };
    let shard = status.shard.and_then(|shard| map.shards.get(&shard));
    match shard {
        _ if status.is_suspect => "suspect",
        Some(view) if view.writer.is_none() => "no writer",
        Some(view) if view.writer == Some(node.id) && status.writer_of.is_none() => "starting",
        _ => "ok",
    }
}

/// How many entries each replica lacks on its disk, as its writer knows it.
fn lags(nodes: &[Seen]) -> BTreeMap<NodeId, u64> {
    let statuses = nodes.iter().filter_map(|node| node.status.as_ref());
    let writers = statuses.filter(|status| status.writer_of.is_some());
    let of_each = writers.flat_map(|status| {
        let followers = status.gauges.followers.iter();
        followers.map(|each| (each.node, status.lag(each)))
    });
    of_each.collect()
}

fn node_row(map: &ClusterMap, lags: &BTreeMap<NodeId, u64>, node: &Seen) -> Vec<String> {
    let dash = || "-".to_owned();
    let status = node.status.as_ref();
    vec![
        node.id.to_string(),
        node.address.clone(),
        status
            .and_then(|status| status.shard)
            .map_or_else(dash, |shard| shard.to_string()),
        role(map, node).to_owned(),
        health(map, node).to_owned(),
        status.map_or_else(dash, |status| status.promised.to_string()),
        status.map_or_else(dash, |status| status.end.to_string()),
        status.map_or_else(dash, |status| status.committed.to_string()),
        lags.get(&node.id).map_or_else(dash, u64::to_string),
    ]
}

fn node_json(map: &ClusterMap, lags: &BTreeMap<NodeId, u64>, node: &Seen) -> Value {
    let mut line = json!({
        "node": node.id.0,
        "address": node.address,
        "role": role(map, node),
        "health": health(map, node),
    });
    if let Some(lag) = lags.get(&node.id) {
        line["lag"] = json!(lag);
    }
    if let Some(status) = &node.status {
        line["shard"] = json!(status.shard.map(|shard| shard.0));
        line["promised"] = json!(status.promised.0);
        line["end"] = show::version(status.end);
        line["committed"] = json!(status.committed.0);
        line["suspect"] = json!(status.is_suspect);
        if let Some(digest) = status.digest {
            line["digest"] = json!(digest);
        }
    }
    line
}

fn join<T: ToString>(items: impl Iterator<Item = T>) -> String {
    items
        .map(|item| item.to_string())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Stop one node, to see what the others do.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kv kill --node 127.0.0.1:7001

The node must have been started by `kv cluster`, or with `kv serve --allow-kill`.")]
pub(super) struct Kill {
    /// The node to stop.
    #[arg(long, value_name = "HOST:PORT", value_parser = arguments::address)]
    node: String,
    /// How long to wait for its answer, such as `5s` or `300ms`.
    #[arg(long, value_name = "TIME", value_parser = arguments::duration, default_value = "5s")]
    timeout: Duration,
    /// Print the result as one line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    credentials: Credentials,
}

impl Kill {
    pub(super) async fn run(self) -> Result<Exit, CliError> {
        let outcome = Client::kill(&self.node, self.timeout, &self.credentials.load()?).await;
        Ok(killed(&self.node, outcome, self.json))
    }
}

/// Prints what a kill came to.
pub(super) fn killed(address: &str, outcome: Outcome<NodeId>, json: bool) -> Exit {
    match outcome {
        Outcome::Ok(node) if json => {
            say(&json!({ "outcome": "ok", "node": node.0, "address": address }).to_string());
            Exit::Done
        }
        Outcome::Ok(node) => {
            say(&format!("ok: {node} at {address} stops"));
            Exit::Done
        }
        Outcome::Fail(fail) => {
            show::failed(&fail, json);
            Exit::Failed
        }
        Outcome::Info(unsure) => {
            show::unknown(&unsure, json);
            Exit::Unknown
        }
    }
}
