//! `kv serve`: one node, as its settings say: alone, or with ZooKeeper one of a cluster.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use kv::access::Access;
use kv::agent::AgentState;
use kv::client::{Client, ClientOptions};
use kv::coordination::zookeeper::ZooKeeperAddress;
use kv::door::Door;
use kv::engine::EngineKind;
use kv::error::NodeError;
use kv::events::{Events, NoEvents};
use kv::http::HttpServer;
use kv::node::Node;
use kv::node::stop::Departure;
use kv::quantity::Size;
use kv::security::Security;
use kv_core::NodeId;
use tokio::sync::watch;
use tracing::{info, warn};

use super::arguments::{self, seed};
use super::events::EventFile;
use super::settings::{Coordination, Overrides, Settings};
use super::shape::Shape;
use super::world::{Service, environment_for_serve};
use super::{CliError, Exit, log, say, signalled};

/// How long a node that stops waits for another to take the writer's role over.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(10);

/// ZooKeeper may be silent for so long before somebody is told.
const SILENCE_PATIENCE: Duration = Duration::from_secs(2);

const MIB: u64 = 1024 * 1024;

/// Run one node.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kv serve --data ./data
  kv serve --config kv.toml
  kv serve --config kv.toml --print-config
  kv serve --data ./data --node-id 2 --listen 127.0.0.1:7002 \\
      --zookeeper zk1:2181,zk2:2181,zk3:2181/splitbrain

Everything that can be set is in kv.example.toml, with its default and its reason; what a flag says
counts more than the file. A node that is alone needs no other server: it owns every slot. With
ZooKeeper a node joins the cluster that lives there; shards are placed once as many nodes have come as
all of them need. Either way it keeps everything in the data folder; start it again with the same
folder and it goes on where it stopped. Stop it with Ctrl-C. For a whole cluster in one process see
`kv cluster`.")]
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
    /// The address of this machine that the node's calls to others come from; the system chooses unless it is set.
    #[arg(long, value_name = "ADDRESS")]
    source: Option<IpAddr>,
    /// The number of the node. A data folder belongs to one node for ever [default: 1].
    #[arg(long, value_name = "NUMBER", value_parser = arguments::node_id)]
    node_id: Option<NodeId>,
    /// The ZooKeeper servers that coordinate the cluster, and where in them it lives.
    #[arg(long, value_name = "HOST:PORT[,HOST:PORT...][/CHROOT]")]
    zookeeper: Option<ZooKeeperAddress>,
    /// A file with one line, USER:PASSWORD: as whom the node comes to ZooKeeper, where only this user may then read and change
    /// what the cluster keeps.
    #[arg(long, value_name = "FILE")]
    zookeeper_auth_file: Option<PathBuf>,
    /// How long ZooKeeper keeps a silent node's session: after about that long a dead writer is replaced [default: 4s].
    #[arg(long, value_name = "TIME", value_parser = arguments::duration)]
    session_timeout: Option<Duration>,
    /// How many shards the cluster has, from its beginning [default: 1].
    #[arg(long, value_name = "NUMBER")]
    shards: Option<u16>,
    #[command(flatten)]
    shape: Shape,
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
    /// [default: 32].
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=64 * 1024))]
    checkpoint_mib: Option<u64>,
    /// How much log is kept for other members that lack it, in MiB; who lacks more gets a snapshot [default: 64].
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(0..=1024 * 1024))]
    log_retain_mib: Option<u64>,
    /// The address to serve HTTP on: keys, health and metrics. Without one there is no HTTP.
    #[arg(long, value_name = "HOST:PORT", value_parser = arguments::address)]
    http: Option<String>,
    /// A file that gets every event of the node for a checker, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
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
        let _telling = log::start(valid.log, valid.log_format);
        let loaded = Security::load(&valid.security, valid.node.id, valid.is_alone)?;
        for warning in &loaded.warnings {
            eprintln!("warning: {warning}");
        }
        let door = Door::secured(valid.limits, loaded.security);
        let (config, data) = (valid.node, valid.data);
        let service = Service::open(&valid.coordination, &data, &config.timing)?;
        let folder = data.join("node");
        let access = loaded.access.from_source(valid.source);
        let events: Arc<dyn Events> = match &valid.events {
            Some(file) => Arc::new(EventFile::open(file, config.id).map_err(|source| {
                let path = file.display().to_string();
                CliError::Output { path, source }
            })?),
            None => Arc::new(NoEvents),
        };
        let environment =
            environment_for_serve(&folder, &config, &service, access.clone(), events, seed())?;
        let mut node = Node::start_behind(config.clone(), environment, door.clone()).await?;
        tokio::spawn(log::follow_agent(config.id, node.agent_state()));
        let map = node.handle().cluster_as_it_changes();
        tokio::spawn(log::follow_shape(config.id, map, config.cluster.clone()));
        let (id, address, data) = (config.id, &config.advertise, data.display());
        let http = match valid.http {
            Some(listen) => Some(serve_http(&listen, &door, &node, address, access).await?),
            None => None,
        };
        say(&format!(
            "{id} serves on {address}, with its data in {data}"
        ));
        if let Some(http) = &http {
            say(&format!("{id} serves HTTP on {}", http.address()));
        }
        eprintln!("try `kv set greeting hello --node {address}`; stop with Ctrl-C");
        let silence = tell_of_silence(node.agent_state(), &valid.coordination);
        tokio::select! {
            biased;
            error = node.stopped() => match error {
                NodeError::Killed => {
                    say(&format!("{id} stops: a client asked for it"));
                    Ok(Exit::Done)
                }
                error => Err(error.into()),
            },
            broken = service.broken() => Err(broken.into()),
            () = silence => Ok(Exit::Done),
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

    fn overrides(self) -> Overrides {
        let size = |mib: Option<u64>| mib.map(|mib| Size(mib * MIB));
        Overrides {
            id: self.node_id,
            data: self.data,
            listen: self.listen,
            advertise: self.advertise,
            source: self.source,
            events: self.events,
            allow_kill: self.allow_kill,
            zookeeper: self.zookeeper,
            zookeeper_auth_file: self.zookeeper_auth_file,
            session_timeout: self.session_timeout,
            shards: self.shards,
            shape: self.shape,
            insecure: self.insecure,
            engine: self.engine,
            cache: size(self.engine_cache_mib),
            checkpoint: size(self.checkpoint_mib),
            log_retain: size(self.log_retain_mib),
            wal_segment: size(self.wal_segment_mib),
            http: self.http,
        }
    }
}

/// The HTTP face of a node. What others serve is asked of them.
async fn serve_http(
    listen: &str,
    door: &Door,
    node: &Node,
    address: &str,
    access: Access,
) -> Result<HttpServer, CliError> {
    let options = ClientOptions {
        seed: seed(),
        access,
        ..ClientOptions::default()
    };
    let client = Client::new(vec![address.to_owned()], options);
    let (handle, agent) = (node.handle().clone(), node.agent_state());
    let started = HttpServer::start(listen, door, handle, agent, client).await;
    started.map_err(|error| CliError::Node(error.into()))
}

/// Says so when ZooKeeper is not heard from, once each time. Ends with the node.
async fn tell_of_silence(mut states: watch::Receiver<AgentState>, service: &Coordination) {
    let Coordination::Zookeeper { servers, .. } = service else {
        return std::future::pending().await;
    };
    let is_silent =
        |state: &AgentState| matches!(state, AgentState::Connecting | AgentState::Disconnected(_));
    while states.wait_for(is_silent).await.is_ok() {
        let heard = states.wait_for(|state| !is_silent(state));
        if tokio::time::timeout(SILENCE_PATIENCE, heard).await.is_ok() {
            continue;
        }
        warn!("no answer from ZooKeeper at {servers}; trying again until there is one");
        if states.wait_for(|state| !is_silent(state)).await.is_ok() {
            info!("ZooKeeper at {servers} answers");
        }
    }
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
