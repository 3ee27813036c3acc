//! `kv serve`: one node, which needs no other server.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use kv::config::{ClusterConfig, NodeConfig, Timing};
use kv::engine::EngineKind;
use kv::error::NodeError;
use kv::node::Node;
use kv::node::stop::Departure;
use kv::{engine, store, wal};
use kv_core::{Fencing, NodeId};
#[cfg(unix)]
use tokio::signal::unix::{SignalKind, signal};

use super::arguments::{self, seed};
use super::world::{environment_for_serve, open_coordination};
use super::{CliError, Exit, say};

/// How long a node that stops waits for another to take the writer's role over.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(10);

const MIB: u64 = 1024 * 1024;

/// Run one node that needs no other server.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kv serve --data ./data
  kv serve --data ./data --listen 0.0.0.0:7001 --advertise db.example.org:7001

The node owns every slot and keeps everything in the data folder; start it again with the same
folder and it goes on where it stopped. Stop it with Ctrl-C. For several nodes at once see
`kv cluster`.")]
pub(super) struct Serve {
    /// The folder that keeps everything. It is made if it does not exist.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The address to serve on.
    #[arg(long, value_name = "HOST:PORT", value_parser = arguments::address, default_value = "127.0.0.1:7001")]
    listen: String,
    /// The address that others reach the node at, if it is not the one that it listens on.
    #[arg(long, value_name = "HOST:PORT", value_parser = arguments::address)]
    advertise: Option<String>,
    /// The number of the node. A data folder belongs to one node for ever.
    #[arg(long, value_name = "NUMBER", value_parser = arguments::node_id, default_value = "1")]
    node_id: NodeId,
    /// How much of the write-ahead log goes into one file, in MiB: 1 to 1024.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1024), default_value = "64")]
    wal_segment_mib: u64,
    /// What the data is kept in: memory, redb, sled, or rocksdb where the program was built with it. A folder keeps its engine;
    /// `kv data migrate` changes it.
    #[arg(long, value_name = "ENGINE", default_value_t = EngineKind::Redb)]
    engine: EngineKind,
    /// How much memory the engine may use for what it has read, in MiB.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1024 * 1024), default_value = "64")]
    engine_cache_mib: u64,
    /// How much log may be applied between two checkpoints, in MiB: a restart replays no more than about twice that.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=64 * 1024), default_value = "64")]
    checkpoint_mib: u64,
    /// How much log is kept for other members that lack it, in MiB; who lacks more gets a snapshot.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(0..=1024 * 1024), default_value = "64")]
    log_retain_mib: u64,
    /// Let clients stop the node with `kv kill`.
    #[arg(long)]
    allow_kill: bool,
}

impl Serve {
    pub(super) async fn run(self) -> Result<Exit, CliError> {
        let config = self.config()?;
        let coordination = open_coordination(&self.data.join("coordination"), &config.timing)?;
        let folder = self.data.join("node");
        let environment = environment_for_serve(&folder, &config, &coordination, seed())?;
        let mut node = Node::start(config.clone(), environment).await?;
        let (id, address, data) = (config.id, &config.advertise, self.data.display());
        say(&format!(
            "{id} serves on {address}, with its data in {data}"
        ));
        eprintln!("try `kv set greeting hello --node {address}`; stop with Ctrl-C");
        tokio::select! {
            biased;
            error = node.stopped() => match error {
                NodeError::Killed => {
                    say(&format!("{id} stops: a client asked for it"));
                    Ok(Exit::Done)
                }
                error => Err(error.into()),
            },
            broken = coordination.broken() => Err(broken.into()),
            () = signalled() => {
                eprintln!("{id} stops in good order; once more stops it at once");
                tokio::select! {
                    biased;
                    () = signalled() => say(&format!("{id} stops at once")),
                    departure = node.stop(HAND_OVER_PATIENCE) => say(&farewell(id, departure)),
                }
                Ok(Exit::Done)
            }
        }
    }

    fn config(&self) -> Result<NodeConfig, CliError> {
        let everywhere = ["0.0.0.0:", "[::]:"]
            .iter()
            .any(|any| self.listen.starts_with(any));
        if everywhere && self.advertise.is_none() {
            let listen = self.listen.clone();
            return Err(CliError::Advertise { listen });
        }
        let advertise = self.advertise.clone();
        Ok(NodeConfig {
            id: self.node_id,
            listen: self.listen.clone(),
            advertise: advertise.unwrap_or_else(|| self.listen.clone()),
            cluster: ClusterConfig::new(1, 1, 1, None, Fencing::Epoch)?,
            timing: Timing::default(),
            wal: wal::Options {
                segment_bytes: self.wal_segment_mib * MIB,
                ..wal::Options::default()
            },
            log_retain_bytes: self.log_retain_mib * MIB,
            engine: self.engine,
            store: store::Options {
                checkpoint_bytes: self.checkpoint_mib * MIB,
                engine: engine::Options {
                    cache_bytes: self.engine_cache_mib * MIB,
                },
                ..store::Options::default()
            },
            allow_kill: self.allow_kill,
        })
    }
}

/// Completes when the program is asked to stop: Ctrl-C, or SIGTERM where there is such a thing.
async fn signalled() {
    #[cfg(unix)]
    if let Ok(mut terminate) = signal(SignalKind::terminate()) {
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        return;
    }
    let _ = tokio::signal::ctrl_c().await;
}

fn farewell(id: NodeId, departure: Departure) -> String {
    match departure {
        Departure::HandedOver(writer) => format!("{id} has stopped; {writer} is the writer now"),
        Departure::NobodyTookOver => {
            format!("{id} has stopped; nobody has taken the writer's role over yet")
        }
        Departure::NotWriter | Departure::Alone => format!("{id} has stopped"),
    }
}
