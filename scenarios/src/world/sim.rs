//! The simulated world: real nodes inside madsim, around which everything can be made to fail, from one seed.
//!
//! This is a thin adapter around `sim::cluster::Cluster`, which does the work. Every run has a runtime of its own, and
//! every session a machine of its own.

mod direct_client;
mod direction;
mod parcels;
mod traps;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use checker::NodeEvent;
use kv::client::ClientOptions;
use kv::config::Timing;
use kv::coordination::registry::shard_lock;
use kv::engine::EngineKind;
use kv::handle::Status;
use kv_core::{NodeId, ShardId};
use sim::cluster::{Cluster, SYNC_MAX, SYNC_MIN, Settings, Storage};
use sim::coordination::CoordinationService;
use sim::network::{self, Weather};
use sim::recorder::Recorder;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use self::direct_client::DirectClient;
use self::direction::Sessions;
use super::client::StoreClient;
use super::observed::translate;
use super::{Act, Client, Direction, Place, Roles, Script, Stage, Trap, Work, World};
use crate::play::{Failure, Played};
use crate::scenario::{Disturbance, Kind, Scenario};

/// How long a message that is held back waits at most, so that later ones overtake it.
const HOLD_MAX: Duration = Duration::from_millis(50);
/// How long a node may take to say how it is.
const STATUS_WITHIN: Duration = Duration::from_secs(1);

/// Starts simulated worlds.
#[derive(Clone, Copy, Debug)]
pub struct SimStage;

impl Stage for SimStage {
    fn name(&self) -> &'static str {
        "sim"
    }

    fn lacks(&self, _kind: Kind) -> Option<String> {
        None
    }

    fn lacks_engine(&self, engine: EngineKind) -> Option<&'static str> {
        match engine {
            EngineKind::Memory | EngineKind::Redb => None,
            EngineKind::Sled | EngineKind::Rocksdb => Some(
                "it starts threads of its own, which no seed determines, and writes to a real folder; use memory or redb",
            ),
        }
    }

    fn enact(&self, scenario: &Scenario, seed: u64, script: Script) -> Played {
        let config = madsim::Config::default();
        let runtime = madsim::runtime::Runtime::with_seed_and_config(seed, config);
        let is_directed = !scenario.cues.is_empty();
        let settings = Settings {
            seed,
            nodes: u64::from(scenario.cluster.nodes),
            clients: u64::from(scenario.workload.clients) + 1, // One for the end of the run.
            cluster: scenario.cluster.config.clone(),
            timing: match is_directed {
                true => direction::timing(scenario),
                false => Timing {
                    session_timeout: scenario.cluster.session_timeout,
                    ..Timing::default()
                },
            },
            storage: storage(scenario),
            holds_messages: is_directed,
        };
        let deadline = scenario.workload.deadline;
        runtime.block_on(async move {
            let recorder = Recorder::new();
            let start = Instant::now();
            let cluster = Cluster::start(settings.clone(), recorder.clone());
            let addresses = cluster.addresses().into_values().collect();
            let world = SimWorld {
                settings,
                deadline,
                start,
                recorder: recorder.clone(),
                addresses,
                coordination: cluster.coordination().clone(),
                cluster: Mutex::new(cluster),
                sessions: Mutex::default(),
            };
            let mut played = script(Arc::new(world)).await;
            if let Some(violation) = recorder.violation() {
                let what = violation.to_string();
                played.failures.push(Failure::Invariant { what });
            }
            // The world is gone, and its machines are dead: let their tasks be dropped.
            tokio::time::sleep(Duration::from_millis(1)).await;
            played
        })
    }
}

struct SimWorld {
    settings: Settings,
    deadline: Duration,
    start: Instant,
    recorder: Arc<Recorder>,
    addresses: Arc<[String]>,
    coordination: CoordinationService,
    cluster: Mutex<Cluster>,
    sessions: Mutex<Sessions>,
}

#[async_trait]
impl World for SimWorld {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn stamp(&self) -> u64 {
        self.recorder.stamp().0
    }

    fn drain(&self) -> Vec<NodeEvent> {
        let recorded = self.recorder.drain().into_iter();
        recorded
            .map(|recorded| NodeEvent {
                index: recorded.index,
                time: u64::try_from(recorded.time.as_nanos()).unwrap_or(u64::MAX),
                node: Some(recorded.node.0),
                incarnation: recorded.incarnation,
                sequence: recorded.sequence,
                kind: translate(recorded.event),
            })
            .collect()
    }

    fn shard(&self, shard: ShardId) -> Option<Roles> {
        let record = self.recorder.records().remove(&shard)?;
        Some(Roles {
            epoch: record.epoch,
            writer: record.writer.map(|writer| writer.node),
            members: record.voters,
            elector: self.coordination.holder_of(&shard_lock(shard)),
        })
    }

    async fn statuses(&self) -> BTreeMap<NodeId, Status> {
        let cluster = self.cluster.lock().await;
        let mut statuses = BTreeMap::new();
        for node in cluster.nodes() {
            if let Ok(Some(status)) = timeout(STATUS_WITHIN, cluster.status(node)).await {
                statuses.insert(node, status);
            }
        }
        statuses
    }

    fn client(&self, session: u64) -> Box<dyn Client> {
        let options = ClientOptions {
            connect_each_time: true,
            ..ClientOptions::default()
        };
        let run = (self.settings.seed, session);
        let nodes = self.addresses.clone();
        Box::new(StoreClient::new(nodes, self.deadline, run, options))
    }

    async fn spawn(&self, session: u64, work: Work<()>) -> JoinHandle<()> {
        self.cluster.lock().await.spawn_client(session, work)
    }

    async fn act(&self, act: &Act) {
        let mut cluster = self.cluster.lock().await;
        match act {
            Act::Cut(from, to) => {
                for (from, to) in self.links(*from, *to) {
                    cluster.network().cut(from, to);
                }
            }
            Act::Mend(from, to) => {
                for (from, to) in self.links(*from, *to) {
                    cluster.network().mend(from, to);
                }
            }
            Act::Disturb(from, to, disturbance) => {
                let weather = disturbance.map(weather);
                cluster.network().set_link_weather(*from, *to, weather);
            }
            Act::PowerLoss(node) => cluster.power_loss(*node),
            Act::Kill(node) => cluster.kill(*node),
            Act::Start(node) if cluster.is_up(*node) => {}
            Act::Start(node) => cluster.restart(*node),
            Act::Pause(node) => cluster.pause(*node),
            Act::Resume(node) => cluster.resume(*node),
            Act::KillCoordination => cluster.kill_coordination(),
            Act::StartCoordination => cluster.restart_coordination(),
            Act::PauseCoordination => cluster.pause_coordination(),
            Act::ResumeCoordination => cluster.resume_coordination(),
            Act::LoseSession(node) => {
                if let Some(session) = cluster.coordination().session_of(*node) {
                    cluster.coordination().ignore_session(session);
                }
            }
            Act::JumpClock(node, by) => {
                if let Some(clock) = cluster.clock(*node) {
                    clock.jump(*by);
                }
            }
            Act::DriftClock(node, ppm) => {
                if let Some(clock) = cluster.clock(*node) {
                    clock.set_drift(i32::try_from(*ppm).expect("a scenario's drift is bounded"));
                }
            }
            Act::SlowDisk(node, delay) => {
                if let Some(disk) = cluster.disk(*node) {
                    let (min, max) = (SYNC_MIN + *delay, SYNC_MAX + *delay);
                    disk.set_sync_latency(min..=max);
                }
            }
            Act::StrictPowerLoss(node) => cluster.strict_power_loss(*node),
            Act::Disarm(node, trap) => {
                if let Some(disk) = cluster.disk(*node) {
                    traps::disarm(disk, *trap);
                }
            }
        }
    }

    async fn trap(&self, node: NodeId, trap: &Trap) -> String {
        self.spring(node, *trap).await
    }

    async fn direct(&self, direction: &Direction) -> Result<(), String> {
        self.follow(direction).await
    }

    async fn client_at(&self, _session: u64, node: NodeId) -> Option<Box<dyn Client>> {
        let node = self.cluster.lock().await.handle(node);
        let deadline = self.deadline;
        Some(Box::new(DirectClient { node, deadline }))
    }

    async fn failures(&self) -> BTreeMap<NodeId, String> {
        let cluster = self.cluster.lock().await;
        let nodes = cluster.nodes().into_iter();
        nodes
            .filter_map(|node| Some((node, cluster.failure(node)?)))
            .collect()
    }
}

impl SimWorld {
    /// The simulator's links between two places; each client has a place of its own there.
    fn links(&self, from: Place, to: Place) -> Vec<(network::Place, network::Place)> {
        let places = |place| match place {
            Place::Node(node) => vec![network::Place::Node(node)],
            Place::Coordination => vec![network::Place::Coordination],
            Place::Clients => (0..self.settings.clients)
                .map(network::Place::Client)
                .collect(),
        };
        let to = places(to);
        let links = places(from)
            .into_iter()
            .flat_map(|from| to.iter().map(move |to| (from, *to)));
        links.collect()
    }
}

/// What the scenario says, and what it does not say as in production.
fn storage(scenario: &Scenario) -> Storage {
    let mut storage = Storage {
        engine: scenario.cluster.engine,
        ..Storage::default()
    };
    let said = &scenario.cluster.storage;
    let set = |to: &mut u64, said: Option<u64>| *to = said.unwrap_or(*to);
    set(&mut storage.wal.segment_bytes, said.segment_bytes);
    set(&mut storage.store.checkpoint_bytes, said.checkpoint_bytes);
    set(&mut storage.log_retain_bytes, said.log_retain_bytes);
    storage
}

fn weather(disturbance: Disturbance) -> Weather {
    let fair = Weather::default();
    Weather {
        latency_max: fair.latency_max + disturbance.delay,
        lose: disturbance.lose,
        duplicate: disturbance.duplicate,
        reorder: disturbance.reorder,
        hold_max: HOLD_MAX,
        ..fair
    }
}
