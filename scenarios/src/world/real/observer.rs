//! What can be seen of a cluster of real processes from outside, as a world is asked for it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use checker::{NodeEvent, NodeEventKind};
use futures::future::join_all;
use kv::access::Access;
use kv::client::{Client, ClientOptions};
use kv::coordination::zookeeper::ZooKeeperAddress;
use kv::handle::Status;
use kv::wire::Info;
use kv_core::{Epoch, NodeId, ShardId};

use super::clock::RunClock;
use super::events::EventTail;
use super::registry::Registry;
use crate::scenario::Scenario;
use crate::world::Roles;
use crate::world::client::StoreClient;
use crate::world::observed::number;

/// How long a node may take to say how it is.
const STATUS_WITHIN: Duration = Duration::from_secs(1);

/// Where a node is found.
#[derive(Clone, Debug)]
pub struct NodePlace {
    /// The address that no fault comes between, for those who look on.
    pub backdoor: String,
    /// The address that clients and the other nodes know.
    pub front: String,
    /// Where it serves HTTP.
    pub http: String,
    /// Where it writes its events.
    pub events: PathBuf,
}

/// Sees a cluster.
#[derive(Debug)]
pub struct Observer {
    clock: Arc<RunClock>,
    registry: Arc<Registry>,
    nodes: BTreeMap<NodeId, NodePlace>,
    fronts: Arc<[String]>,
    seed: u64,
    deadline: Duration,
    /// How clients come to the nodes.
    access: Access,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tails: Vec<EventTail>,
    /// What was read and not asked for yet.
    events: Vec<NodeEvent>,
    /// The newest record of each shard that any node has seen.
    records: BTreeMap<u32, Roles>,
}

impl Observer {
    /// Begins to look on; the run's time begins, too.
    #[must_use]
    pub fn new(
        scenario: &Scenario,
        seed: u64,
        nodes: BTreeMap<NodeId, NodePlace>,
        zookeeper: ZooKeeperAddress,
        access: Access,
    ) -> Self {
        let tails = nodes
            .values()
            .map(|node| EventTail::new(node.events.clone()));
        Self {
            clock: Arc::new(RunClock::start()),
            registry: Arc::new(Registry::follow(zookeeper, scenario.shards().collect())),
            fronts: nodes.values().map(|node| node.front.clone()).collect(),
            seed,
            deadline: scenario.workload.deadline,
            access,
            state: Mutex::new(State {
                tails: tails.collect(),
                events: Vec::new(),
                records: BTreeMap::new(),
            }),
            nodes,
        }
    }

    /// The run's clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<RunClock> {
        &self.clock
    }

    /// Where the nodes are found.
    #[must_use]
    pub fn places(&self) -> &BTreeMap<NodeId, NodePlace> {
        &self.nodes
    }

    /// What stands in ZooKeeper.
    #[must_use]
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// What the nodes have recorded since the last call. Times are since the run began.
    #[must_use]
    pub fn drain(&self) -> Vec<NodeEvent> {
        let mut state = self.look();
        let mut events = std::mem::take(&mut state.events);
        for event in &mut events {
            event.time = self.clock.since_start(event.time);
        }
        events
    }

    /// The roles in a shard, as the newest record tells them that any node has seen.
    #[must_use]
    pub fn shard(&self, shard: ShardId) -> Option<Roles> {
        let known = self.look().records.get(&number(shard)).cloned()?;
        let elector = self.registry.elector(shard);
        Some(Roles { elector, ..known })
    }

    /// What the nodes say of themselves that answer in time.
    pub async fn statuses(&self) -> BTreeMap<NodeId, Status> {
        let told = self.infos().await.into_iter();
        told.filter_map(|(node, info)| Some((node, info.status?)))
            .collect()
    }

    /// What the nodes know at the end, for people: of the cluster, and how far each is and what waits where.
    pub async fn last_words(&self) -> String {
        let told = self.infos().await.into_iter();
        let told = told.map(|(node, info)| format!("{node}: {info:#?}\n"));
        told.collect()
    }

    async fn infos(&self) -> Vec<(NodeId, Info)> {
        let asked = self.nodes.iter().map(|(node, place)| async {
            let access = Access::default();
            let info = Client::info(&place.backdoor, STATUS_WITHIN, true, &access).await;
            Some((*node, info.ok()?))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// The client of a session.
    #[must_use]
    pub fn client(&self, session: u64) -> StoreClient {
        let options = ClientOptions {
            access: self.access.clone(),
            ..ClientOptions::default()
        };
        let run = (self.seed, session);
        StoreClient::new(self.fronts.clone(), self.deadline, run, options)
    }

    /// Reads what the nodes have written by now.
    fn look(&self) -> MutexGuard<'_, State> {
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        for tail in &mut state.tails {
            for event in tail.new_events() {
                learn(&mut state.records, &event.kind);
                state.events.push(event);
            }
        }
        guard
    }
}

fn learn(records: &mut BTreeMap<u32, Roles>, kind: &NodeEventKind) {
    if let NodeEventKind::Shard {
        shard,
        epoch,
        voters,
        writer,
        ..
    } = kind
        && records
            .get(shard)
            .is_none_or(|known| known.epoch <= Epoch(*epoch))
    {
        let roles = Roles {
            epoch: Epoch(*epoch),
            writer: writer.map(NodeId),
            members: voters.iter().copied().map(NodeId).collect(),
            elector: None,
        };
        records.insert(*shard, roles);
    }
}
