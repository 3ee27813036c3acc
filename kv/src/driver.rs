//! The loop around a replica: next input, step, perform the effects in order.
//!
//! A writer's writes wait here while its log is being synced, and are then put in as one batch: they could not become durable any
//! sooner, and a batch costs every member one append, one sync and two messages, however many writes are in it (group commit).
//! The driver never waits for a disk or a peer: the log task, the agent and the transport do.

mod perform;
mod phases;
mod requests;
pub(crate) mod snapshots;
mod storage;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kv_core::planted::{Bug, planted};
use kv_core::{
    Input, Message, NodeId, Operation, Replica, RequestId, SessionId, ShardId, Timer, Version,
};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::agent::{AgentHandle, Command, Notice};
use crate::config::NodeConfig;
use crate::data_folder::Guard;
use crate::environment::{Clock, Environment, Transport};
use crate::error::NodeError;
use crate::events::{Event, Events};
use crate::handle::{Ask, ClusterMap};
use crate::metrics::Metrics;
use crate::store::{Applied, Store, StoreError};
use crate::wal::{self, Synced, WalError};
use perform::Chains;
use phases::Phases;
use requests::Waiting;
use snapshots::Snapshots;
pub(crate) use storage::Done;
use storage::Jobs;

/// The most requests that are put in as one batch; while so many writes wait for the log, no more requests are taken.
const BATCH_REQUESTS_MAX: usize = 256;

/// Where a driver's inputs come from.
pub(crate) struct Sources {
    /// Clients.
    pub(crate) asks: mpsc::Receiver<Ask>,
    /// Peers.
    pub(crate) messages: mpsc::Receiver<(NodeId, Message)>,
    /// The log task: how many more durable effects are durable.
    pub(crate) synced: mpsc::UnboundedReceiver<Result<Synced, WalError>>,
    /// The coordination agent.
    pub(crate) notices: mpsc::UnboundedReceiver<Notice>,
    /// Where the nodes are.
    pub(crate) cluster: watch::Receiver<ClusterMap>,
    /// The jobs on the engine's disk.
    pub(crate) done: mpsc::UnboundedReceiver<Result<Done, StoreError>>,
}

/// What a driver drives.
pub(crate) struct Parts {
    pub(crate) replica: Replica,
    pub(crate) log: wal::Log,
    pub(crate) store: Store,
    pub(crate) agent: AgentHandle,
    /// The hold on the data folder.
    pub(crate) claim: Arc<Guard>,
    /// Where jobs report.
    pub(crate) done: mpsc::UnboundedSender<Result<Done, StoreError>>,
    pub(crate) metrics: Arc<Metrics>,
}

/// A session that is known to live until a moment of the node's own clock (R16).
#[derive(Clone, Copy, Debug)]
struct Lease {
    session: SessionId,
    until: Duration,
}

/// What waited for the driver when it last looked at its clients.
#[derive(Clone, Copy, Debug, Default)]
struct Queued {
    requests: u64,
    messages: u64,
}

/// What performs a replica's effects.
pub(crate) struct Driver {
    config: NodeConfig,
    replica: Replica,
    log: wal::Log,
    store: Store,
    snapshots: Snapshots,
    jobs: Jobs,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    events: Arc<dyn Events>,
    agent: AgentHandle,
    cluster: watch::Receiver<ClusterMap>,
    rng: StdRng,
    /// When each timer that is set fires.
    timers: BTreeMap<Timer, Instant>,
    /// The clients that wait, and their deadlines.
    waiting: BTreeMap<RequestId, Waiting>,
    deadlines: BTreeSet<(Instant, RequestId)>,
    /// The writes that wait for the log, oldest first.
    held: Vec<(RequestId, Operation)>,
    last_request: RequestId,
    /// Until when the lease of which session holds (R16), on the node's clock.
    lease: Option<Lease>,
    /// Where the log ended after each durable effect that was not reported yet; nothing for a promise.
    unsynced: VecDeque<Option<Version>>,
    chains: Chains,
    /// Inputs that performing an effect gave rise to.
    follow_ups: VecDeque<Input>,
    /// The shard that this node is a member of, once it is known.
    shard: Option<ShardId>,
    /// The newest revision of its record that was written down.
    recorded_revision: Option<u64>,
    phases: Phases,
    queued: Queued,
    /// Who waits for this node to have stopped.
    leaving: Option<oneshot::Sender<()>>,
}

impl Driver {
    pub(crate) fn new(config: NodeConfig, environment: &Environment, parts: Parts) -> Self {
        let Parts {
            replica,
            log,
            store,
            agent,
            claim,
            done,
            metrics,
        } = parts;
        let file_system = Arc::clone(&environment.file_system);
        Self {
            jobs: Jobs::new(file_system, claim, done),
            snapshots: Snapshots::default(),
            rng: StdRng::seed_from_u64(environment.seed),
            chains: Chains::new(config.cluster.fencing),
            config,
            replica,
            log,
            store,
            transport: environment.transport.clone(),
            clock: environment.clock.clone(),
            events: environment.events.clone(),
            cluster: agent.cluster(),
            agent,
            timers: BTreeMap::new(),
            waiting: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            held: Vec::new(),
            last_request: RequestId(0),
            lease: None,
            unsynced: VecDeque::new(),
            follow_ups: VecDeque::new(),
            shard: None,
            recorded_revision: None,
            phases: Phases::new(metrics),
            queued: Queued::default(),
            leaving: None,
        }
    }

    /// Runs until something breaks for good. A node that stops answers its clients with what it knows: nothing.
    pub(crate) async fn run(mut self, mut sources: Sources) -> NodeError {
        loop {
            if self.jobs.is_busy
                && self.store.is_full()
                && let Some(done) = sources.done.recv().await
                && let Err(error) = self.on_done(done).await
            {
                return self.stopped(error);
            }
            let wake = self.next_wake();
            let turn = tokio::select! {
                biased;
                synced = sources.synced.recv() => match synced {
                    Some(Ok(Synced(count))) => self.on_synced(count),
                    Some(Err(error)) => Err(error.into()),
                    None => Err(NodeError::LogTaskEnded),
                },
                Some(done) = sources.done.recv() => self.on_done(done).await,
                Some(notice) = sources.notices.recv() => self.on_notice(notice),
                Some((from, message)) = sources.messages.recv() => {
                    self.step(Input::Message { from, message })
                }
                Some(ask) = sources.asks.recv(), if self.held.len() < BATCH_REQUESTS_MAX => {
                    let mut asks = vec![ask];
                    while asks.len() < BATCH_REQUESTS_MAX && let Ok(ask) = sources.asks.try_recv() {
                        asks.push(ask);
                    }
                    self.queued = Queued {
                        requests: sources.asks.len() as u64,
                        messages: sources.messages.len() as u64,
                    };
                    self.on_asks(asks)
                }
                Ok(()) = sources.cluster.changed() => {
                    self.transport.reach(&sources.cluster.borrow_and_update().nodes);
                    Ok(())
                }
                () = tokio::time::sleep_until(wake) => Ok(()),
            };
            let turn = turn
                .and_then(|()| self.fire_due(Instant::now()))
                .and_then(|()| self.put_held())
                .and_then(|()| self.tend_storage());
            if let Err(error) = turn {
                return self.stopped(error);
            }
            if let Some(left) = self.leaving.take() {
                let stopped = self.stopped(NodeError::Left);
                self.agent.close().await;
                let _ = left.send(()); // Whoever asked for it may have gone.
                return stopped;
            }
        }
    }

    fn stopped(&self, error: NodeError) -> NodeError {
        self.events.record(Event::Stopped(error.to_string()));
        error
    }

    /// Steps the replica, and performs all effects before anything else.
    fn step(&mut self, input: Input) -> Result<(), NodeError> {
        let mut effects = Vec::new();
        self.follow_ups.push_back(input);
        while let Some(input) = self.follow_ups.pop_front() {
            self.replica.step(input, &mut effects);
            self.record_configuration();
            for effect in effects.drain(..) {
                self.perform(effect)?;
            }
        }
        Ok(())
    }

    /// Writes a record down that the replica has seen or set, before whatever it made of it.
    fn record_configuration(&mut self) {
        if let Some(seen) = self.replica.observed()
            && self.recorded_revision < Some(seen.revision)
        {
            self.recorded_revision = Some(seen.revision);
            self.events.record(Event::Shard(seen.record.clone()));
        }
    }

    fn on_synced(&mut self, count: usize) -> Result<(), NodeError> {
        let synced = self.unsynced.drain(..count).flatten().last();
        if let (Some(version), Some(shard)) = (synced, self.shard) {
            self.events.record(Event::Synced(shard, version));
            self.phases.on_durable(version.offset);
        }
        self.step(Input::Synced(count))
    }

    fn on_notice(&mut self, notice: Notice) -> Result<(), NodeError> {
        match notice {
            Notice::Session(session) => {
                self.lease = None;
                self.step(Input::Session(session))
            }
            Notice::Shard(observed) => {
                let shard = observed.record.shard;
                if self.shard.is_none() {
                    self.shard = Some(shard);
                    if self.unsynced.is_empty() {
                        self.events
                            .record(Event::Synced(shard, self.replica.synced()));
                    }
                    let Applied { version, chain } = self.store.applied();
                    if version != Version::ZERO {
                        self.events.record(Event::Committed {
                            shard,
                            version,
                            chain,
                        });
                    }
                }
                self.step(Input::Record(observed))
            }
            Notice::Lock(granted) => self.step(Input::Lock(granted)),
            Notice::Set(result) => self.step(Input::Set(result)),
            Notice::Lease { session, until } => {
                self.lease = Some(Lease { session, until });
                Ok(())
            }
        }
    }

    /// Whether the lease holds at this very moment (R16).
    fn lease_holds(&self) -> bool {
        self.lease.is_some_and(|lease| {
            let is_fresh = self.clock.now() < lease.until || planted(Bug::NoFreshLook);
            self.replica.session() == Some(lease.session) && is_fresh
        })
    }

    /// Fires the timers and deadlines that have passed.
    fn fire_due(&mut self, now: Instant) -> Result<(), NodeError> {
        while let Some((&timer, _)) = self.timers.iter().find(|(_, at)| **at <= now) {
            self.timers.remove(&timer);
            self.step(Input::Timer(timer))?;
        }
        while let Some(&(at, request)) = self.deadlines.first()
            && at <= now
        {
            self.deadlines.remove(&(at, request));
            match self.held.iter().position(|(held, _)| *held == request) {
                Some(index) => self.refuse_held(index),
                None => self.step(Input::Abandon(request))?,
            }
        }
        Ok(())
    }

    fn next_wake(&self) -> Instant {
        let timer = self.timers.values().min().copied();
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        let far = Instant::now() + Duration::from_secs(3600);
        timer.into_iter().chain(deadline).min().unwrap_or(far)
    }

    fn perform_set_timer(&mut self, timer: Timer) {
        use rand::Rng as _;
        let timing = &self.config.timing;
        let base = match timer {
            Timer::Heartbeat => timing.heartbeat,
            Timer::Release => timing.release,
            Timer::Rollback => timing.rollback,
            Timer::Election => timing.election,
            Timer::Seal => timing.seal,
            Timer::Backoff => timing.backoff.mul_f64(self.rng.random_range(0.5..1.5)),
        };
        self.timers.insert(timer, Instant::now() + base);
    }

    fn ask_agent(&self, command: Command) {
        self.agent.command(command);
    }
}
