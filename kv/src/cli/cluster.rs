//! `kv cluster`: a whole cluster in one process on loopback, for a first try.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use kv::access::Access;
use kv::config::{ClusterConfig, NodeConfig, REPLICATION_FACTOR, Timing};
use kv::error::NodeError;
use kv::events::NoEvents;
use kv::handle::{ClusterMap, NodeHandle, ShardView};
use kv::node::Node;
use kv_core::{NodeId, ShardId};
use tokio::sync::mpsc;

use super::arguments::seed;
use super::inspect::shard_table;
use super::shape::{Fencing, Shape};
use super::world::{Service, environment_for_serve};
use super::{CliError, Exit, say};

/// How often the running cluster is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// After how long without a writer for every shard somebody is told.
const PATIENCE_LOOKS: u32 = 100;

/// Run a whole cluster in this process, for a first try.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kv cluster                                       two shards of three nodes
  kv cluster --shards 1 --replication-factor 5
  kv cluster --data ./cluster --base-port 8001     keep the data
  kv cluster --fencing none                        the plain protocol: watch it lose writes

Then, in another terminal:
  kv set greeting hello
  kv info
  kv kill --node 127.0.0.1:7001                    and watch a new writer being elected")]
pub(super) struct Cluster {
    /// How many shards; each has its own writer and owns its part of the keys.
    #[arg(long, value_name = "NUMBER", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=100))]
    shards: u16,
    #[command(flatten)]
    shape: Shape,
    /// The port of the first node; the others have the ports after it.
    #[arg(long, value_name = "PORT", default_value_t = 7001, value_parser = clap::value_parser!(u16).range(1..))]
    base_port: u16,
    /// The folder that keeps everything [default: a temporary one, gone when the cluster stops].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Cluster {
    pub(super) async fn run(self) -> Result<Exit, CliError> {
        let configs = self.configs()?;
        let temporary = match &self.data {
            Some(_) => None,
            None => Some(tempfile::tempdir().map_err(CliError::Data)?),
        };
        let data = temporary.as_ref().map(tempfile::TempDir::path);
        let data = data.or(self.data.as_deref()).unwrap_or(Path::new("."));
        let (stopped, stops) = mpsc::unbounded_channel();
        let mut running = BTreeMap::new();
        let coordination = Service::embedded(&data.join("coordination"), &Timing::default())?;
        for config in configs {
            let folder = data.join(config.id.to_string());
            let environment = environment_for_serve(
                &folder,
                &config,
                &coordination,
                Access::default(),
                Arc::new(NoEvents),
                seed(),
            )?;
            let mut node = Node::start(config.clone(), environment).await?;
            running.insert(config.id, node.handle().clone());
            let stopped = stopped.clone();
            tokio::spawn(async move {
                let error = node.stopped().await;
                drop(node); // It ends with this task, the others go on.
                let _ = stopped.send((config.id, error)); // Nobody listens when the program ends.
            });
        }
        drop(stopped);
        let shard_count = usize::from(self.shards);
        let watch = Watch::new(running, stops, shard_count, self.base_port);
        tokio::select! {
            () = watch.run() => Ok(Exit::Done),
            broken = coordination.broken() => Err(broken.into()),
        }
    }

    /// The configurations of all nodes.
    fn configs(&self) -> Result<Vec<NodeConfig>, CliError> {
        let n = self.shape.replication_factor.unwrap_or(REPLICATION_FACTOR);
        let fencing = match self.shape.fencing {
            None | Some(Fencing::Epoch) => kv_core::Fencing::Epoch,
            Some(Fencing::None) => kv_core::Fencing::None,
        };
        let quorum = self.shape.write_quorum;
        let quorum = quorum.unwrap_or(ClusterConfig::majority(n));
        let cluster = ClusterConfig::new(self.shards, n, quorum, None, fencing)?;
        let count = usize::from(self.shards) * n;
        let ports: Vec<u16> = (self.base_port..=u16::MAX).take(count).collect();
        if ports.len() < count {
            let base_port = self.base_port;
            return Err(CliError::Ports { base_port, count });
        }
        let config = |(id, port)| {
            let address = format!("127.0.0.1:{port}");
            NodeConfig {
                id: NodeId(id),
                listen: address.clone(),
                advertise: address,
                cluster: cluster.clone(),
                timing: Timing::default(),
                wal: kv::wal::Options::default(),
                log_retain_bytes: kv::config::LOG_RETAIN_BYTES,
                engine: kv::engine::EngineKind::Memory,
                store: kv::store::Options::default(),
                allow_kill: true,
            }
        };
        Ok((1..).zip(ports).map(config).collect())
    }
}

/// Looks at the running cluster and tells what happens to it.
struct Watch {
    running: BTreeMap<NodeId, NodeHandle>,
    stops: mpsc::UnboundedReceiver<(NodeId, NodeError)>,
    shard_count: usize,
    base_port: u16,
    known: ClusterMap,
}

impl Watch {
    fn new(
        running: BTreeMap<NodeId, NodeHandle>,
        stops: mpsc::UnboundedReceiver<(NodeId, NodeError)>,
        shard_count: usize,
        base_port: u16,
    ) -> Self {
        Self {
            running,
            stops,
            shard_count,
            base_port,
            known: ClusterMap::default(),
        }
    }

    /// Until Ctrl-C, or until the last node has stopped.
    async fn run(mut self) {
        eprintln!("starting {} nodes ...", self.running.len());
        let mut looks = tokio::time::interval(LOOK);
        let mut look_count = 0;
        let mut ready = false;
        loop {
            tokio::select! {
                biased;
                _ = tokio::signal::ctrl_c() => return,
                stop = self.stops.recv() => match stop {
                    Some((id, error)) => self.on_stop(id, &error),
                    None => {
                        say("no node is left");
                        return;
                    }
                },
                _ = looks.tick() => {
                    look_count += 1;
                    let map = self.look();
                    if ready {
                        self.tell_changes(&map);
                    } else if self.is_ready(&map) {
                        ready = true;
                        say(&greeting(&map, self.base_port));
                    } else if look_count == PATIENCE_LOOKS {
                        eprintln!("still waiting for every shard to have a writer ...");
                    }
                    self.known = map;
                }
            }
        }
    }

    fn on_stop(&mut self, id: NodeId, error: &NodeError) {
        self.running.remove(&id);
        let left = match self.running.len() {
            1 => "1 node goes on".to_owned(),
            count => format!("{count} nodes go on"),
        };
        say(&format!("{id} stopped: {error}; {left}"));
    }

    /// The newest that any running node knows of each shard.
    fn look(&self) -> ClusterMap {
        let mut newest = ClusterMap::default();
        for map in self.running.values().map(NodeHandle::cluster) {
            newest.nodes.extend(map.nodes);
            for (shard, view) in map.shards {
                let known = newest.shards.get(&shard).map(|known| known.epoch);
                if known.is_none_or(|known| known < view.epoch) {
                    newest.shards.insert(shard, view);
                }
            }
        }
        newest
    }

    fn is_ready(&self, map: &ClusterMap) -> bool {
        map.shards.len() == self.shard_count
            && map.shards.values().all(|view| view.writer.is_some())
    }

    fn tell_changes(&self, map: &ClusterMap) {
        for (shard, view) in &map.shards {
            if let Some(change) = change(*shard, self.known.shards.get(shard), view) {
                say(&change);
            }
        }
    }
}

/// What is worth telling of a shard.
fn change(shard: ShardId, before: Option<&ShardView>, now: &ShardView) -> Option<String> {
    let old = before.and_then(|view| view.writer);
    let epoch = now.epoch;
    match (old, now.writer) {
        (Some(old), None) => Some(format!(
            "shard {shard}: {old} is no longer the writer; an election began (epoch {epoch})"
        )),
        (old, Some(new)) if old != Some(new) => Some(format!(
            "shard {shard}: {new} is the writer now (epoch {epoch})"
        )),
        _ => None,
    }
}

fn greeting(map: &ClusterMap, base_port: u16) -> String {
    let addresses: Vec<&str> = map.nodes.values().map(String::as_str).collect();
    let first = addresses.first().copied().unwrap_or("127.0.0.1:7001");
    let node = if base_port == 7001 {
        String::new()
    } else {
        format!(" --node {first}")
    };
    format!(
        "the cluster is up: {}\n\n{}\n\nTry, in another terminal:\n  \
         kv set greeting hello{node}\n  \
         kv get greeting{node}\n  \
         kv info{node}\n  \
         kv kill --node {first}\n\n\
         Stop everything with Ctrl-C. What happens to the cluster is told here:",
        addresses.join(" "),
        shard_table(map),
    )
}
