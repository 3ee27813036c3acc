//! Real nodes in the simulated world: start, kill, power loss, pause, restart.
//!
//! Every node is a machine of the simulator with its own disk, clock and place in the network. What runs on it is
//! `kv::Node`, the same that the server runs. A machine that is killed keeps its page cache; one that loses power keeps
//! what was synced.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kv::config::{ClusterConfig, LOG_RETAIN_BYTES, NodeConfig, Timing};
use kv::engine::EngineKind;
use kv::environment::Environment;
use kv::handle::{NodeHandle, Status};
use kv::node::Node;
use kv::{store, wal};
use kv_core::NodeId;
use madsim::runtime::Handle;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::clock::SimClock;
use crate::coordination::{CoordinationService, SimCoordination};
use crate::disk::SimDisk;
use crate::network::{Network, Place};
use crate::recorder::Recorder;

/// The shortest time that a sync takes on a healthy disk.
pub const SYNC_MIN: Duration = Duration::from_micros(500);
/// The longest time that a sync takes on a healthy disk.
pub const SYNC_MAX: Duration = Duration::from_millis(5);

/// What a simulated cluster is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Everything random flows from here.
    pub seed: u64,
    /// How many nodes, numbered from 1.
    pub nodes: u64,
    /// How many places for clients, numbered from 0.
    pub clients: u64,
    /// What the nodes agree on.
    pub cluster: ClusterConfig,
    /// How long things take.
    pub timing: Timing,
    /// How the nodes keep their data.
    pub storage: Storage,
    /// Whether messages between nodes are held from the start, as a directed run wants it.
    pub holds_messages: bool,
}

/// How the nodes keep their data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Their logs.
    pub wal: wal::Options,
    /// How many bytes of log they keep for members that lack them.
    pub log_retain_bytes: u64,
    /// The engine; one that starts no threads.
    pub engine: EngineKind,
    /// What is above the engine.
    pub store: store::Options,
}

impl Default for Storage {
    /// As in production, but in memory.
    fn default() -> Self {
        Self {
            wal: wal::Options {
                preallocate_bytes: 1024, // Simulated runs are short: a full disk must be noticed soon.
                ..wal::Options::default()
            },
            log_retain_bytes: LOG_RETAIN_BYTES,
            engine: EngineKind::Memory,
            store: store::Options::default(),
        }
    }
}

/// A cluster of real nodes in the simulated world.
pub struct Cluster {
    settings: Settings,
    simulator: Handle,
    recorder: Arc<Recorder>,
    network: Network,
    coordination: CoordinationService,
    server: madsim::task::NodeId,
    server_state: Serving,
    nodes: BTreeMap<NodeId, Machine>,
    clients: BTreeMap<u64, madsim::task::NodeId>,
}

/// What the process of the coordination service does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Serving {
    Up,
    Paused,
    Down,
}

struct Machine {
    id: madsim::task::NodeId,
    disk: SimDisk,
    clock: SimClock,
    life: Arc<Mutex<Life>>,
    incarnation: u64,
    paused: bool,
}

/// What the present life of a node has come to.
#[derive(Default)]
struct Life {
    handle: Option<NodeHandle>,
    failure: Option<String>,
}

impl Cluster {
    /// Starts the coordination service and all nodes. Must be called inside a simulator's runtime.
    #[must_use]
    pub fn start(settings: Settings, recorder: Arc<Recorder>) -> Self {
        let simulator = Handle::current();
        let network = Network::new(mix(settings.seed, 1, 0));
        let server = machine(&simulator, "coordination", [10, 0, 0, 1]);
        if settings.holds_messages {
            network.hold();
        }
        let coordination = CoordinationService::new(settings.timing.session_timeout);
        if settings.holds_messages {
            coordination.name_cluster();
        }
        network.place(Place::Coordination, server);
        let mut cluster = Self {
            simulator,
            recorder,
            network,
            coordination,
            server,
            server_state: Serving::Up,
            nodes: BTreeMap::new(),
            clients: BTreeMap::new(),
            settings,
        };
        cluster.serve_coordination(server);
        for number in 1..=cluster.settings.nodes {
            cluster.add_node(NodeId(number));
        }
        for number in 0..cluster.settings.clients {
            let octets = [10, 0, 2 + octet(number / 250), octet(number % 250) + 1];
            let id = machine(&cluster.simulator, &format!("client-{number}"), octets);
            cluster.network.place(Place::Client(number), id);
            cluster.clients.insert(number, id);
        }
        cluster
    }

    fn serve_coordination(&self, server: madsim::task::NodeId) {
        let service = self.coordination.clone();
        self.on_machine(server).spawn(async move {
            // It ends with its machine.
            let _ = service.serve(coordination_address()).await;
        });
    }

    /// The process of the coordination service dies. What it has answered stays.
    pub fn kill_coordination(&mut self) {
        self.resume_coordination();
        if std::mem::replace(&mut self.server_state, Serving::Down) != Serving::Down {
            self.simulator.kill(self.server);
        }
    }

    /// The coordination service starts again, if it is down.
    pub fn restart_coordination(&mut self) {
        if self.server_state == Serving::Down {
            self.server_state = Serving::Up;
            self.simulator.restart(self.server);
            self.serve_coordination(self.server);
        }
    }

    /// The coordination service stands still, unless it is down.
    pub fn pause_coordination(&mut self) {
        if self.server_state == Serving::Up {
            self.server_state = Serving::Paused;
            self.simulator.pause(self.server);
        }
    }

    /// The coordination service goes on where it stood.
    pub fn resume_coordination(&mut self) {
        if self.server_state == Serving::Paused {
            self.server_state = Serving::Up;
            self.simulator.resume(self.server);
        }
    }

    fn on_machine(&self, id: madsim::task::NodeId) -> madsim::runtime::NodeHandle {
        self.simulator
            .get_node(id)
            .expect("the machine was created")
    }

    fn add_node(&mut self, node: NodeId) {
        let id = machine(
            &self.simulator,
            &format!("node-{}", node.0),
            node_octets(node),
        );
        let seed = self.settings.seed;
        let rng = StdRng::seed_from_u64(mix(seed, 2, node.0));
        let disk = SimDisk::new(format!("node {}", node.0), rng, SYNC_MIN..=SYNC_MAX);
        let offset = Duration::from_millis(mix(seed, 3, node.0) % 1_000_000);
        let clock = SimClock::new(offset, 0);
        self.network.place(Place::Node(node), id);
        let life = Arc::default();
        let machine = Machine {
            id,
            disk,
            clock,
            life,
            incarnation: 0,
            paused: false,
        };
        self.nodes.insert(node, machine);
        self.launch(node);
    }

    /// Runs a new life of a node on its machine.
    fn launch(&mut self, node: NodeId) {
        let seed = self.settings.seed;
        let Some(machine) = self.nodes.get_mut(&node) else {
            return;
        };
        machine.incarnation += 1;
        machine.paused = false;
        let life = Arc::new(Mutex::new(Life::default()));
        machine.life = life.clone();
        let address = SocketAddr::new(address(node_octets(node)), 7000).to_string();
        let config = NodeConfig {
            id: node,
            listen: address.clone(),
            advertise: address,
            cluster: self.settings.cluster.clone(),
            timing: self.settings.timing.clone(),
            wal: self.settings.storage.wal,
            log_retain_bytes: self.settings.storage.log_retain_bytes,
            engine: self.settings.storage.engine,
            store: self.settings.storage.store,
            allow_kill: false,
        };
        let coordination = match self.settings.holds_messages {
            true => SimCoordination::directed(coordination_address()),
            false => SimCoordination::client(coordination_address()),
        };
        let life_seed = mix(seed, 4, node.0 << 32 | machine.incarnation);
        let environment = Environment {
            file_system: machine.disk.mount(),
            coordination,
            transport: self.recorder.overhear(
                node,
                machine.incarnation,
                self.network.transport(node),
            ),
            clock: Arc::new(machine.clock.clone()),
            events: self.recorder.events(node, machine.incarnation),
            seed: life_seed,
        };
        let id = machine.id;
        self.on_machine(id).spawn(async move {
            let failure = match Node::start(config, environment).await {
                Ok(mut started) => {
                    life.lock().unwrap_or_else(PoisonError::into_inner).handle =
                        Some(started.handle().clone());
                    started.stopped().await
                }
                Err(failure) => failure,
            };
            let mut life = life.lock().unwrap_or_else(PoisonError::into_inner);
            life.handle = None;
            life.failure = Some(failure.to_string());
        });
    }

    /// The nodes, in order.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// Where clients find the nodes.
    #[must_use]
    pub fn addresses(&self) -> BTreeMap<NodeId, String> {
        let address =
            |node: &NodeId| SocketAddr::new(address(node_octets(*node)), 7000).to_string();
        self.nodes
            .keys()
            .map(|node| (*node, address(node)))
            .collect()
    }

    /// The links between all places.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The coordination service.
    #[must_use]
    pub fn coordination(&self) -> &CoordinationService {
        &self.coordination
    }

    /// A node's disk.
    #[must_use]
    pub fn disk(&self, node: NodeId) -> Option<&SimDisk> {
        self.nodes.get(&node).map(|machine| &machine.disk)
    }

    /// A node's clock.
    #[must_use]
    pub fn clock(&self, node: NodeId) -> Option<&SimClock> {
        self.nodes.get(&node).map(|machine| &machine.clock)
    }

    /// Where what happens is written down.
    #[must_use]
    pub fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    /// Whether a node's process runs (a paused one does).
    #[must_use]
    pub fn is_up(&self, node: NodeId) -> bool {
        self.handle(node).is_some()
    }

    /// The process dies; the page cache lives.
    pub fn kill(&mut self, node: NodeId) {
        self.stop(node);
        if let Some(machine) = self.nodes.get(&node) {
            machine.disk.kill();
        }
    }

    /// The machine loses power: what was not synced is gone, and the last write may be torn.
    pub fn power_loss(&mut self, node: NodeId) {
        self.stop(node);
        if let Some(machine) = self.nodes.get(&node) {
            machine.disk.power_loss();
        }
    }

    /// The machine loses power, and nothing survives that was not synced.
    pub fn strict_power_loss(&mut self, node: NodeId) {
        self.stop(node);
        if let Some(machine) = self.nodes.get(&node) {
            machine.disk.strict_power_loss();
        }
    }

    fn stop(&mut self, node: NodeId) {
        let Some(machine) = self.nodes.get_mut(&node) else {
            return;
        };
        self.network.unplug(node);
        if std::mem::take(&mut machine.paused) {
            self.simulator.resume(machine.id);
        }
        self.simulator.kill(machine.id);
        *machine.life.lock().unwrap_or_else(PoisonError::into_inner) = Life::default();
    }

    /// Starts a node that was killed or lost power, with what its disk holds.
    pub fn restart(&mut self, node: NodeId) {
        if let Some(machine) = self.nodes.get(&node) {
            self.simulator.restart(machine.id);
            self.launch(node);
        }
    }

    /// The process stands still; the world goes on.
    pub fn pause(&mut self, node: NodeId) {
        if let Some(machine) = self.nodes.get_mut(&node)
            && !std::mem::replace(&mut machine.paused, true)
        {
            self.simulator.pause(machine.id);
        }
    }

    /// The process goes on where it stood.
    pub fn resume(&mut self, node: NodeId) {
        if let Some(machine) = self.nodes.get_mut(&node)
            && std::mem::take(&mut machine.paused)
        {
            self.simulator.resume(machine.id);
        }
    }

    /// What a node says of itself, asked past the network; nothing when it is down or paused.
    pub async fn status(&self, node: NodeId) -> Option<Status> {
        if self.nodes.get(&node)?.paused {
            return None;
        }
        self.handle(node)?.status(true).await
    }

    /// Why a node stopped by itself, if it did.
    #[must_use]
    pub fn failure(&self, node: NodeId) -> Option<String> {
        let machine = self.nodes.get(&node)?;
        machine
            .life
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .failure
            .clone()
    }

    /// Runs a client's work at its place in the network.
    ///
    /// # Panics
    /// If there is no such place.
    pub fn spawn_client<F>(&self, client: u64, work: F) -> madsim::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let id = *self
            .clients
            .get(&client)
            .expect("the settings say how many clients there are");
        self.on_machine(id).spawn(work)
    }

    /// Reaches a node past the network; nothing when its process is down.
    #[must_use]
    pub fn handle(&self, node: NodeId) -> Option<NodeHandle> {
        let machine = self.nodes.get(&node)?;
        machine
            .life
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .handle
            .clone()
    }
}

impl Drop for Cluster {
    /// Ends every machine and the network. What waits for ever in a simulated machine is otherwise never dropped.
    fn drop(&mut self) {
        self.network.end();
        let nodes = self.nodes.values().map(|machine| machine.id);
        for id in nodes
            .chain(self.clients.values().copied())
            .chain([self.server])
        {
            self.simulator.kill(id);
        }
    }
}

/// A number that depends on the seed, a purpose and an index, so that no two places draw the same chances.
fn mix(seed: u64, purpose: u64, index: u64) -> u64 {
    // SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
    let mut z = seed
        .wrapping_add(purpose.wrapping_mul(0x9E37_79B9_7F4A_7C15))
        .wrapping_add(index.wrapping_mul(0xD1B5_4A32_D192_ED03));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn machine(simulator: &Handle, name: &str, octets: [u8; 4]) -> madsim::task::NodeId {
    simulator
        .create_node()
        .name(name)
        .ip(address(octets))
        .build()
        .id()
}

fn coordination_address() -> SocketAddr {
    SocketAddr::new(address([10, 0, 0, 1]), 2181)
}

fn address(octets: [u8; 4]) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(octets))
}

fn node_octets(node: NodeId) -> [u8; 4] {
    [10, 0, 1, octet(node.0)]
}

fn octet(number: u64) -> u8 {
    u8::try_from(number).expect("a simulated network has at most 250 machines of a kind")
}
