//! `kv serve`: one node, as its settings say.

use std::path::PathBuf;

use clap::Args;
use kv::door::Door;
use kv::engine::EngineKind;
use kv::error::NodeError;
use kv::node::Node;
use kv::quantity::Size;
use kv::security::Security;
use kv_core::NodeId;

use super::arguments::{self, seed};
use super::settings::{Coordination, Overrides, Settings};
use super::world::{environment_for_serve, open_coordination};
use super::{CliError, Exit, say};

const MIB: u64 = 1024 * 1024;

/// Run one node.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kv serve --data ./data
  kv serve --config kv.toml
  kv serve --config kv.toml --print-config

Everything that can be set is in kv.example.toml, with its default and its reason; what a flag says
counts more than the file. A node that is alone needs no other server: it owns every slot and keeps
everything in the data folder; start it again with the same folder and it goes on where it stopped.
Stop it with Ctrl-C. For several nodes at once see `kv cluster`.")]
pub(super) struct Serve {
    /// The file with the settings.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the settings as they count, with every default and flag, and start nothing.
    #[arg(long)]
    print_config: bool,
    /// The folder that keeps everything. It is made if it does not exist.
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    data: Option<PathBuf>,
    /// The address to serve on [default: 127.0.0.1:7001].
    #[arg(long, value_name = "HOST:PORT", value_parser = arguments::address)]
    listen: Option<String>,
    /// The address that others reach the node at, if it is not the one that it listens on.
    #[arg(long, value_name = "HOST:PORT", value_parser = arguments::address)]
    advertise: Option<String>,
    /// The number of the node. A data folder belongs to one node for ever [default: 1].
    #[arg(long, value_name = "NUMBER", value_parser = arguments::node_id)]
    node_id: Option<NodeId>,
    /// How much of the write-ahead log goes into one file, in MiB: 1 to 1024 [default: 64].
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1024))]
    wal_segment_mib: Option<u64>,
    /// What the data is kept in: memory, redb, sled, or rocksdb where the program was built with it. A folder keeps its engine;
    /// `kv data migrate` changes it [default: redb].
    #[arg(long, value_name = "ENGINE")]
    engine: Option<EngineKind>,
    /// How much memory the engine may use for what it has read, in MiB [default: 64].
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1024 * 1024))]
    engine_cache_mib: Option<u64>,
    /// How much log may be applied between two checkpoints, in MiB: a restart replays no more than about twice that
    /// [default: 64].
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=64 * 1024))]
    checkpoint_mib: Option<u64>,
    /// How much log is kept for other members that lack it, in MiB; who lacks more gets a snapshot [default: 64].
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(0..=1024 * 1024))]
    log_retain_mib: Option<u64>,
    /// Let clients stop the node with `kv kill`.
    #[arg(long)]
    allow_kill: bool,
    /// Listen without TLS, or for whoever comes, where more than this machine can connect.
    #[arg(long)]
    insecure: bool,
}

impl Serve {
    pub(super) async fn run(self) -> Result<Exit, CliError> {
        let mut settings = match &self.config {
            Some(file) => Settings::load(file)?,
            None => Settings::default(),
        };
        let is_printed = self.print_config;
        self.overrides().apply(&mut settings);
        let (settings, valid) = settings.check()?;
        if is_printed {
            say(settings.to_toml().trim_end());
            return Ok(Exit::Done);
        }
        let loaded = Security::load(&valid.security, valid.node.id, valid.is_alone)?;
        for warning in &loaded.warnings {
            eprintln!("warning: {warning}");
        }
        let door = Door::secured(valid.limits, loaded.security);
        let Coordination::Embedded = valid.coordination else {
            return Err(CliError::NoZookeeper);
        };
        let (config, data) = (valid.node, valid.data);
        let coordination = open_coordination(&data.join("coordination"), &config.timing)?;
        let folder = data.join("node");
        let environment =
            environment_for_serve(&folder, &config, &coordination, loaded.access, seed())?;
        let mut node = Node::start_behind(config.clone(), environment, door).await?;
        let (id, address, data) = (config.id, &config.advertise, data.display());
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
            _ = tokio::signal::ctrl_c() => Ok(Exit::Done),
        }
    }

    fn overrides(self) -> Overrides {
        let size = |mib: Option<u64>| mib.map(|mib| Size(mib * MIB));
        Overrides {
            id: self.node_id,
            data: self.data,
            listen: self.listen,
            advertise: self.advertise,
            allow_kill: self.allow_kill,
            insecure: self.insecure,
            engine: self.engine,
            cache: size(self.engine_cache_mib),
            checkpoint: size(self.checkpoint_mib),
            log_retain: size(self.log_retain_mib),
            wal_segment: size(self.wal_segment_mib),
        }
    }
}
