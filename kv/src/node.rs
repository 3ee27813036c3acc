//! A node: its data folder, its replica's driver, its coordination agent and its server, in one [`Environment`].

pub mod stop;

use std::sync::Arc;

use kv_core::{Fencing, Recovered, Replica};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::agent::{AgentHandle, AgentState};
use crate::config::NodeConfig;
use crate::door::Door;
use crate::driver::{self, Driver, Parts, Sources};
use crate::environment::{Deliver, Environment};
use crate::error::NodeError;
use crate::events::Event;
use crate::handle::NodeHandle;
use crate::metrics::{Measured, Metrics};
use crate::server::{self, Server, ServerEnd};
use crate::store::{Store, StoreError};
use crate::{data_folder, wal, wholeness};

/// How many questions about the node itself may wait for the driver, beside clients' requests; those who ask wait with the rest.
const QUESTIONS_MAX: usize = 64;
/// How many messages of peers may wait for the driver; more are dropped, and the protocol repeats them.
const MESSAGES_MAX: usize = 16 * 1024;

/// A running node. Dropping it stops its tasks, as if the process had been killed.
pub struct Node {
    handle: NodeHandle,
    agent: watch::Receiver<AgentState>,
    driver: JoinHandle<NodeError>,
    log_task: JoinHandle<()>,
    server: Server,
}

impl Node {
    /// Starts a node: claims and recovers its data folder, joins the cluster, and serves.
    ///
    /// # Errors
    /// When the folder is not this node's, is locked, or is damaged; when the address cannot be bound.
    pub async fn start(config: NodeConfig, environment: Environment) -> Result<Self, NodeError> {
        Self::start_behind(config, environment, Door::default()).await
    }

    /// Starts a node behind a door.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_behind(
        config: NodeConfig,
        mut environment: Environment,
        door: Door,
    ) -> Result<Self, NodeError> {
        let metrics = Arc::new(Metrics::new());
        metrics.follow(door.counters.clone());
        environment.events = Arc::new(Measured {
            metrics: metrics.clone(),
            events: environment.events,
        });
        let file_system = &environment.file_system;
        let claim = Arc::new(data_folder::claim(&**file_system, config.id).await?);
        wholeness::check_or_begin(file_system).await?;
        driver::snapshots::clean_up(&**file_system).map_err(|source| StoreError::Io {
            doing: "remove old snapshots",
            source,
        })?;
        // Under the plain protocol nothing is ever certain enough for a checkpoint.
        let is_kept = config.cluster.fencing == Fencing::Epoch;
        let store = Store::open(file_system, config.engine, config.store, is_kept).await?;
        let checkpoint = &store.durable().names;
        let (log, log_writer, recovered) = wal::open(file_system, config.wal, checkpoint).await?;
        let replica = Replica::new(Recovered {
            node: config.id,
            fencing: config.cluster.fencing,
            promised: recovered.promised,
            log: recovered.log,
            applied: checkpoint.end().offset,
            suspect: recovered.suspect.is_some(),
        });
        let end = replica.log().end();
        environment.events.record(Event::Started {
            end,
            cut: recovered.cut,
            suspect: recovered.suspect,
        });

        let (asks_sender, asks) = mpsc::channel(door.limits.requests + QUESTIONS_MAX);
        let (messages_sender, messages) = mpsc::channel(MESSAGES_MAX);
        let (synced_sender, synced) = mpsc::unbounded_channel();
        let (done_sender, done) = mpsc::unbounded_channel();
        let (agent, notices) = AgentHandle::start(&config, &environment);
        let deliver: Deliver = Arc::new(move |from, message| {
            // A full queue drops the message, as a network may.
            let _ = messages_sender.try_send((from, message));
        });
        let mut handle = NodeHandle::new(config.id, asks_sender, agent.cluster())
            .with_cluster_id(agent.joined())
            .with_bounds(door.limits.requests, door.limits.request_bytes);
        handle.metrics = metrics.clone();
        environment.transport.listen(deliver.clone());
        let server = server::serve(
            &config.listen,
            handle.clone(),
            deliver,
            config.allow_kill,
            &door,
        )
        .await?;
        let (cluster, agent_state) = (agent.cluster(), agent.state());
        let parts = Parts {
            replica,
            log,
            store,
            agent,
            claim,
            done: done_sender,
            metrics,
        };
        let driver = Driver::new(config, &environment, parts);
        let sources = Sources {
            asks,
            messages,
            synced,
            notices,
            cluster,
            done,
        };
        Ok(Self {
            handle,
            agent: agent_state,
            log_task: tokio::spawn(log_writer.run(synced_sender)),
            driver: tokio::spawn(driver.run(sources)),
            server,
        })
    }

    /// Reaches the node from within the process.
    #[must_use]
    pub fn handle(&self) -> &NodeHandle {
        &self.handle
    }

    /// How far the node has come with the coordination service, kept up to date.
    #[must_use]
    pub fn agent_state(&self) -> watch::Receiver<AgentState> {
        self.agent.clone()
    }

    /// Waits until the node stops by itself, and says why.
    pub async fn stopped(&mut self) -> NodeError {
        let id = self.handle.node;
        let is_refused = |state: &AgentState| match state {
            AgentState::IdTaken(_) => Some(NodeError::IdTaken(id)),
            AgentState::OtherCluster { folder, service } => Some(NodeError::OtherCluster {
                folder: *folder,
                service: *service,
            }),
            AgentState::NoFolder => Some(NodeError::NoFolder),
            AgentState::Refused(error) => Some(NodeError::Coordination(*error)),
            _ => None,
        };
        tokio::select! {
            biased;
            Ok(state) = self.agent.wait_for(|state| is_refused(state).is_some()) => {
                is_refused(&state).unwrap_or(NodeError::Panicked)
            }
            error = &mut self.driver => error.unwrap_or(NodeError::Panicked),
            end = self.server.ended() => match end {
                ServerEnd::Killed => NodeError::Killed,
                ServerEnd::Failed(error) => error.into(),
            },
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.driver.abort();
        self.log_task.abort();
    }
}
