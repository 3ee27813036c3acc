//! The agent over the embedded service: a node registers, places its shards, observes them, and does what it is told.
#![allow(clippy::unwrap_used, reason = "this file is a test")]

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kv::agent::{AgentHandle, AgentState, Command, Notice, SetResult, lease_duration};
use kv::config::{ClusterConfig, NodeConfig, Timing};
use kv::coordination::embedded::Embedded;
use kv::coordination::{Change, Coordination, CoordinationError, CreateMode, LeaseProof, Session};
use kv::environment::{Clock, Deliver, Environment, Transport};
use kv::events::NoEvents;
use kv::fs::{File, FileSystem};
use kv_core::{Epoch, Fencing, Message, NodeId, Observed, SessionId, ShardId};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

const TIMEOUT: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_secs(10);

struct Nothing;

impl Transport for Nothing {
    fn listen(&self, _deliver: Deliver) {}
    fn reach(&self, _addresses: &BTreeMap<NodeId, String>) {}
    fn send(&self, _to: NodeId, _message: Message) {}
}

#[async_trait]
impl FileSystem for Nothing {
    fn open(&self, _name: &str) -> io::Result<Arc<dyn File>> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn list(&self, _folder: &str) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Ok(())
    }
    fn remove(&self, _name: &str) -> io::Result<()> {
        Ok(())
    }
    async fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }
    fn sync_names_now(&self) -> io::Result<()> {
        Ok(())
    }
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        Ok(Box::new(()))
    }
    fn describe(&self) -> String {
        String::new()
    }

    fn real_folder(&self, _name: &str) -> io::Result<std::path::PathBuf> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

struct Since(Instant);

impl Clock for Since {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A node's agent, and what it has said.
struct Agent {
    handle: AgentHandle,
    notices: UnboundedReceiver<Notice>,
    clock: Arc<dyn Clock>,
}

impl Agent {
    fn start(service: &Embedded, id: u64, shards: u16, replication_factor: usize) -> Self {
        Self::start_over(Arc::new(service.clone()), id, shards, replication_factor)
    }

    fn start_over(
        coordination: Arc<dyn Coordination>,
        id: u64,
        shards: u16,
        replication_factor: usize,
    ) -> Self {
        let quorum = ClusterConfig::majority(replication_factor);
        let cluster =
            ClusterConfig::new(shards, replication_factor, quorum, None, Fencing::Epoch).unwrap();
        let config = NodeConfig {
            id: NodeId(id),
            listen: String::new(),
            advertise: format!("node-{id}:1"),
            cluster,
            timing: Timing {
                session_timeout: TIMEOUT,
                backoff: TIMEOUT / 8,
                ..Timing::default()
            },
            wal: kv::wal::Options::default(),
            log_retain_bytes: kv::config::LOG_RETAIN_BYTES,
            engine: kv::engine::EngineKind::Memory,
            store: kv::store::Options::default(),
            allow_kill: false,
        };
        let clock: Arc<dyn Clock> = Arc::new(Since(Instant::now()));
        let environment = Environment {
            file_system: Arc::new(Nothing),
            coordination,
            transport: Arc::new(Nothing),
            clock: clock.clone(),
            events: Arc::new(NoEvents),
            seed: id,
        };
        let (handle, notices) = AgentHandle::start(&config, &environment);
        Self {
            handle,
            notices,
            clock,
        }
    }

    /// The next notice of a kind.
    async fn next<T>(&mut self, choose: impl Fn(Notice) -> Option<T>) -> T {
        let choosing = async {
            loop {
                let notice = self.notices.recv().await.expect("the agent lives");
                if let Some(chosen) = choose(notice) {
                    return chosen;
                }
            }
        };
        let chosen = tokio::time::timeout(PATIENCE, choosing).await;
        chosen.expect("the notice comes within the bound")
    }

    async fn session(&mut self) -> Option<SessionId> {
        self.next(|notice| match notice {
            Notice::Session(session) => Some(session),
            _ => None,
        })
        .await
    }

    async fn shard(&mut self) -> Observed {
        self.next(|notice| match notice {
            Notice::Shard(observed) => Some(observed),
            _ => None,
        })
        .await
    }

    async fn lock(&mut self) -> bool {
        self.next(|notice| match notice {
            Notice::Lock(granted) => Some(granted),
            _ => None,
        })
        .await
    }

    async fn set(&mut self) -> SetResult {
        self.next(|notice| match notice {
            Notice::Set(result) => Some(result),
            _ => None,
        })
        .await
    }
}

#[tokio::test]
async fn a_node_alone_becomes_the_writer_of_its_shard() {
    let service = Embedded::in_memory(TIMEOUT);
    let mut agent = Agent::start(&service, 7, 1, 1);
    let session = agent.session().await.unwrap();
    let observed = agent.shard().await;
    let writer = observed.record.writer.unwrap();
    assert_eq!((writer.node, writer.session), (NodeId(7), session));
    assert_eq!(observed.writer_session, Some(session));
    assert_eq!(observed.record.epoch, Epoch(1));
    let cluster = agent.handle.cluster().borrow().clone();
    assert_eq!(cluster.nodes[&NodeId(7)], "node-7:1");
    assert_eq!(cluster.shards[&ShardId(0)].writer, Some(NodeId(7)));
}

#[tokio::test]
async fn six_nodes_are_placed_once_and_the_seventh_stays_idle() {
    let service = Embedded::in_memory(TIMEOUT);
    let mut agents: Vec<Agent> = (1..=7).map(|id| Agent::start(&service, id, 2, 3)).collect();
    for agent in &mut agents[..6] {
        let observed = agent.shard().await;
        let writer = observed.record.writer.unwrap();
        assert_eq!(observed.writer_session, Some(writer.session));
        assert_eq!((observed.revision, observed.record.epoch), (0, Epoch(1)));
    }
    let mut map = agents[6].handle.cluster();
    map.wait_for(|map| map.shards.len() == 2 && map.nodes.len() == 7)
        .await
        .unwrap();
    while let Ok(notice) = agents[6].notices.try_recv() {
        assert!(
            !matches!(notice, Notice::Shard(_)),
            "an idle node has no shard"
        );
    }
}

#[tokio::test]
async fn leases_are_renewed_and_end_before_the_session_would() {
    let service = Embedded::in_memory(TIMEOUT);
    let mut agent = Agent::start(&service, 1, 1, 1);
    let session = agent.session().await;
    let mut last = Duration::ZERO;
    for _ in 0..3 {
        let lease = |notice| match notice {
            Notice::Lease { session, until } => Some((session, until)),
            _ => None,
        };
        let (of, until) = agent.next(lease).await;
        assert_eq!(Some(of), session);
        assert!(until > last && until < agent.clock.now() + TIMEOUT);
        last = until;
    }
}

/// A service whose answer to a write proves only the write before.
struct Relayed(Embedded);

#[async_trait]
impl Coordination for Relayed {
    async fn connect(&self) -> Result<Box<dyn Session>, CoordinationError> {
        self.0.connect().await
    }

    fn lease_proof(&self) -> LeaseProof {
        LeaseProof::NextWrite
    }
}

#[tokio::test]
async fn a_lease_counts_from_the_write_before_where_that_is_all_that_is_proven() {
    let service = Arc::new(Relayed(Embedded::in_memory(TIMEOUT)));
    let mut agent = Agent::start_over(service, 1, 1, 1);
    let duration = lease_duration(TIMEOUT, Timing::default().clock_drift_ppm_max);
    let apart = TIMEOUT / 5;
    let mut last = Duration::ZERO;
    for _ in 0..3 {
        let until = agent
            .next(|notice| match notice {
                Notice::Lease { until, .. } => Some(until),
                _ => None,
            })
            .await;
        assert!(until > last, "it is renewed");
        assert!(until < agent.clock.now() + duration - apart);
        last = until;
    }
}

#[tokio::test]
async fn a_node_that_cannot_read_the_cluster_says_so() {
    let service = Embedded::in_memory(TIMEOUT);
    let session = service.connect().await.unwrap();
    let create = Change::Create {
        path: "shards/0".to_owned(),
        data: b"{\"format\":2}".to_vec(),
        mode: CreateMode::Persistent,
    };
    session.multi(vec![create]).await.unwrap();
    let agent = Agent::start(&service, 1, 1, 1);
    let mut state = agent.handle.state();
    let refused = AgentState::Refused(CoordinationError::Unreadable);
    let said = state.wait_for(|state| *state == refused);
    tokio::time::timeout(PATIENCE, said).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_set_of_an_old_revision_is_a_conflict() {
    let service = Embedded::in_memory(TIMEOUT);
    let mut agent = Agent::start(&service, 1, 1, 1);
    let observed = agent.shard().await;
    let mut record = observed.record.clone();
    record.epoch = record.epoch.next();
    let set = Command::Set {
        revision: observed.revision,
        record,
    };
    agent.handle.command(set.clone());
    assert_eq!(agent.set().await, SetResult::Done(observed.revision + 1));
    agent.handle.command(set);
    assert_eq!(agent.set().await, SetResult::Conflict);
    agent.handle.command(Command::Read);
    assert_eq!(agent.shard().await.record.epoch, Epoch(2));
}

#[tokio::test]
async fn the_lock_passes_on_when_its_holder_dies() {
    let service = Embedded::in_memory(TIMEOUT);
    let mut agents: Vec<Agent> = (1..=2).map(|id| Agent::start(&service, id, 1, 2)).collect();
    for agent in &mut agents {
        agent.shard().await;
    }
    agents[0].handle.command(Command::Lock);
    assert!(agents[0].lock().await);
    agents[1].handle.command(Command::Lock);
    assert!(!agents[1].lock().await, "the wait is bounded");
    agents[0].handle.command(Command::Unlock);
    agents[1].handle.command(Command::Lock);
    assert!(agents[1].lock().await);
    agents[0].handle.command(Command::Lock);
    drop(agents.remove(1));
    let granted = [agents[0].lock().await, {
        agents[0].handle.command(Command::Lock);
        agents[0].lock().await
    }];
    assert!(
        granted.contains(&true),
        "the queue of a dead session goes with it"
    );
}

#[tokio::test]
async fn the_death_of_the_writer_is_noticed_by_the_others() {
    let service = Embedded::in_memory(TIMEOUT);
    let mut agents: Vec<Agent> = (1..=2).map(|id| Agent::start(&service, id, 1, 2)).collect();
    let alive = agents[1].shard().await;
    assert!(alive.writer_session.is_some());
    drop(agents.remove(0));
    let observed = agents[0].shard().await;
    assert_eq!(observed.writer_session, None);
    assert_eq!(observed.record, alive.record);
    let cluster = agents[0].handle.cluster().borrow().clone();
    assert_eq!(cluster.nodes.len(), 2, "a member's address stays known");
}

#[tokio::test]
async fn an_expired_session_is_followed_by_a_new_one() {
    let service = Embedded::in_memory(TIMEOUT);
    let mut agent = Agent::start(&service, 1, 1, 1);
    let first = agent.session().await.unwrap();
    let observed = agent.shard().await;
    service.expire(first).await;
    assert_eq!(agent.session().await, None);
    let second = agent.session().await.unwrap();
    assert!(second > first);
    let again = agent.shard().await;
    assert_eq!(
        again.record, observed.record,
        "the record names the session that is over"
    );
    assert_eq!(again.writer_session, Some(second));
}

#[tokio::test]
async fn a_restarted_node_waits_for_its_earlier_session() {
    let service = Embedded::in_memory(TIMEOUT);
    let mut agent = Agent::start(&service, 1, 1, 1);
    agent.shard().await;
    drop(agent);
    let restarted_at = Instant::now();
    let mut agent = Agent::start(&service, 1, 1, 1);
    assert!(agent.session().await.is_some());
    assert!(restarted_at.elapsed() >= TIMEOUT / 2);

    agent.handle.close().await;
    let session = service.connect().await.unwrap();
    assert_eq!(
        session.read("nodes/1").await.unwrap(),
        None,
        "closing does not wait"
    );
}

#[tokio::test]
async fn a_second_process_with_the_same_id_learns_that_it_is_taken() {
    let service = Embedded::in_memory(TIMEOUT / 4);
    let mut first = Agent::start(&service, 1, 1, 1);
    let session = first.session().await.unwrap();
    let second = Agent::start(&service, 1, 1, 1);
    let mut state = second.handle.state();
    let taken = state.wait_for(|state| *state == AgentState::IdTaken(session));
    tokio::time::timeout(PATIENCE, taken)
        .await
        .unwrap()
        .unwrap();
}
