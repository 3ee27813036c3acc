//! The agent while it has a session: commands come in, calls are under way, watches fire, and timers keep the lease.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kv_core::{NodeId, Observed, placement};
use tokio::time::Instant;

use super::mirror::{Found, Mirror};
use super::queue::{Queue, Step};
use super::task::{Closed, Desk};
use super::{
    AgentState, Command, Notice, Request, SetResult, TOUCH_AFTER_PERCENT, lease_duration,
    touches_apart,
};
use crate::config::{ClusterConfig, NodeConfig};
use crate::coordination::lock::Place;
use crate::coordination::{CoordinationError, LeaseProof, Session, SessionEvent, lock, registry};
use crate::environment::Environment;

/// The own shard is read this often within a session timeout, though watches tell of every change.
const POLLS_PER_TIMEOUT: u32 = 2;
/// Everything else is read again with every so manieth poll.
const POLLS_PER_FULL_READING: u32 = 16;
/// What failed is tried again after this part of the session timeout.
const RETRIES_PER_TIMEOUT: u32 = 8;

/// Why a session is served no longer.
pub(super) enum Ended {
    /// It is over.
    Expired,
    /// The agent is.
    Closed(Closed),
}

/// What a call under way came to.
enum Done {
    Refreshed(Found),
    Touched {
        /// When it was sent, by the node's own clock.
        sent_at: Duration,
        result: Result<(), CoordinationError>,
    },
    Set(SetResult),
    Entered(Lock, Result<Place, CoordinationError>),
    Left(Lock, Result<(), CoordinationError>),
    Placed,
}

/// Which of the two locks.
#[derive(Clone, Copy)]
enum Lock {
    Election,
    Coordinator,
}

/// An answered write of the session's own, by the node's own clock.
struct Touch {
    sent_at: Duration,
    answered_at: Duration,
}

type Call = Pin<Box<dyn Future<Output = Done> + Send>>;

/// One session, served.
pub(super) struct Serving<'a> {
    config: &'a NodeConfig,
    environment: &'a Environment,
    session: Arc<dyn Session>,
    mirror: &'a mut Mirror,
    calls: FuturesUnordered<Call>,
    refreshing: bool,
    /// After a failure, the next reading waits until then.
    refresh_at: Instant,
    touching: bool,
    /// The write that the next one proves, where an answer alone does not.
    touched: Option<Touch>,
    /// How many `Set`s are not answered yet.
    sets_under_way: usize,
    /// A `Read` waits for a reading that has not begun yet.
    read_asked: bool,
    /// The reading under way answers a `Read`.
    read_under_way: bool,
    told: Option<Observed>,
    /// The lock of the own shard's elections, once it has been asked for.
    election: Option<Queue>,
    coordinator: Queue,
    next_touch: Instant,
    next_poll: Instant,
    poll_count: u32,
}

impl<'a> Serving<'a> {
    pub(super) fn new(
        config: &'a NodeConfig,
        environment: &'a Environment,
        session: Arc<dyn Session>,
        mirror: &'a mut Mirror,
    ) -> Self {
        let now = Instant::now();
        let pause = session.timeout() / RETRIES_PER_TIMEOUT;
        Self {
            config,
            environment,
            session,
            mirror,
            calls: FuturesUnordered::new(),
            refreshing: false,
            refresh_at: now,
            touching: false,
            touched: None,
            sets_under_way: 0,
            read_asked: false,
            read_under_way: false,
            told: None,
            election: None,
            coordinator: Queue::new(registry::COORDINATOR_LOCK.to_string(), pause),
            next_touch: now,
            next_poll: now,
            poll_count: 0,
        }
    }

    pub(super) async fn run(mut self, desk: &mut Desk) -> Ended {
        let session = self.session.clone();
        loop {
            self.on_time(Instant::now(), desk);
            let wake_at = self.wake_at();
            tokio::select! {
                biased;
                request = desk.requests.recv() => match request {
                    None => return Ended::Closed(None),
                    Some(Request::Close(closed)) => return Ended::Closed(Some(closed)),
                    Some(Request::Command(command)) => self.on_command(command, desk),
                },
                event = session.event() => match event {
                    SessionEvent::Expired => return self.on_expired(desk),
                    SessionEvent::Changed { path } => self.on_changed(&path),
                    SessionEvent::Connected => {
                        desk.state.send_replace(AgentState::Registered(session.id()));
                        self.on_connected(Instant::now());
                    }
                    // Nobody is demoted: the lease ends by itself (R16).
                    SessionEvent::Disconnected => {
                        desk.state.send_replace(AgentState::Disconnected(session.id()));
                    }
                },
                Some(done) = self.calls.next() => self.on_done(done, desk),
                () = tokio::time::sleep_until(wake_at) => {}
            }
        }
    }

    /// Starts everything that can start now.
    fn on_time(&mut self, now: Instant, desk: &Desk) {
        let timeout = self.session.timeout();
        if !self.touching && now >= self.next_touch {
            self.touch();
        }
        if now >= self.next_poll {
            self.next_poll = now + timeout / POLLS_PER_TIMEOUT;
            self.poll();
        }
        if self.wants_refresh() && now >= self.refresh_at {
            self.refresh();
        }
        self.drive_lock(Lock::Election, now, desk);
        self.drive_lock(Lock::Coordinator, now, desk);
    }

    /// A `Read` of a node without a shard waits until there is one.
    fn wants_refresh(&self) -> bool {
        let read_asked = self.read_asked && self.mirror.own().is_some();
        (self.mirror.is_stale() || read_asked) && !self.refreshing
    }

    fn wake_at(&self) -> Instant {
        let election = self.election.as_ref().and_then(Queue::next_at);
        let refresh = self.wants_refresh().then_some(self.refresh_at);
        let touch = (!self.touching).then_some(self.next_touch);
        [election, self.coordinator.next_at(), refresh, touch]
            .into_iter()
            .flatten()
            .fold(self.next_poll, Instant::min)
    }

    /// The service is heard from again: what failed meanwhile need not wait.
    fn on_connected(&mut self, now: Instant) {
        self.next_touch = now;
        self.refresh_at = now;
    }

    /// What is under way goes with the session, but no command stays without its answer.
    fn on_expired(self, desk: &Desk) -> Ended {
        for _ in 0..self.sets_under_way {
            desk.notify(Notice::Set(SetResult::Unknown));
        }
        if self.election.is_some_and(|queue| queue.is_waiting()) {
            desk.notify(Notice::Lock(false));
        }
        Ended::Expired
    }

    /// The queue of the own shard's lock; none without a shard, or while the node leaves the queue of another.
    fn election_queue(&mut self) -> Option<&mut Queue> {
        let path = registry::shard_lock(self.mirror.own_shard()?);
        if let Some(other) = self.election.as_mut().filter(|queue| queue.path() != path) {
            other.release();
            if !other.is_idle() {
                return None;
            }
            self.election = None;
        }
        let pause = self.session.timeout() / RETRIES_PER_TIMEOUT;
        let queue = self.election.get_or_insert_with(|| Queue::new(path, pause));
        Some(queue)
    }

    fn on_command(&mut self, command: Command, desk: &Desk) {
        let until = Instant::now() + self.session.timeout();
        match command {
            Command::Lock => match self.election_queue() {
                Some(queue) => queue.want(until),
                None => desk.notify(Notice::Lock(false)),
            },
            Command::Unlock => {
                if let Some(queue) = &mut self.election {
                    queue.release();
                }
            }
            Command::Read => self.read_asked = true,
            Command::Set { revision, record } => {
                let session = self.session.clone();
                self.sets_under_way += 1;
                self.call(async move {
                    Done::Set(registry::set_shard(session.as_ref(), revision, &record).await)
                });
            }
        }
    }

    fn on_changed(&mut self, path: &str) {
        self.mirror.on_changed(path);
        self.coordinator.on_changed(path);
        if let Some(queue) = &mut self.election {
            queue.on_changed(path);
        }
    }

    fn on_done(&mut self, done: Done, desk: &Desk) {
        let now = Instant::now();
        match done {
            Done::Refreshed(found) => self.on_refreshed(found, now, desk),
            Done::Touched { sent_at, result } => self.on_touched(sent_at, result, now, desk),
            Done::Set(result) => {
                self.sets_under_way -= 1;
                desk.notify(Notice::Set(result));
            }
            Done::Entered(lock, place) => {
                if let Some(queue) = self.queue(lock) {
                    queue.on_entered(place, now);
                }
            }
            Done::Left(lock, result) => {
                if let Some(queue) = self.queue(lock) {
                    queue.on_left(result, now);
                }
            }
            Done::Placed => {
                self.coordinator.release();
                self.mirror.doubt_all();
            }
        }
    }

    fn on_touched(
        &mut self,
        sent_at: Duration,
        result: Result<(), CoordinationError>,
        now: Instant,
        desk: &Desk,
    ) {
        let timeout = self.session.timeout();
        self.touching = false;
        if result.is_err() {
            self.next_touch = now + timeout / RETRIES_PER_TIMEOUT;
            return;
        }
        self.next_touch = now + timeout * TOUCH_AFTER_PERCENT / 100;
        if let Some(kept_from) = self.kept_from(sent_at) {
            let drift = self.config.timing.clock_drift_ppm_max;
            let until = kept_from + lease_duration(timeout, drift);
            let session = self.session.id();
            desk.notify(Notice::Lease { session, until });
        }
    }

    /// From when on the service keeps the session for its timeout, as a write shows that was sent then and answered now.
    fn kept_from(&mut self, sent_at: Duration) -> Option<Duration> {
        if self.environment.coordination.lease_proof() == LeaseProof::Write {
            return Some(sent_at);
        }
        let answered_at = self.environment.clock.now();
        let this = Touch {
            sent_at,
            answered_at,
        };
        let drift = self.config.timing.clock_drift_ppm_max;
        let apart = touches_apart(self.session.timeout(), drift);
        // How long the one before was under way does not count: it may have arrived just before its answer.
        match &self.touched {
            Some(before) if sent_at < before.answered_at + apart => None, // It says nothing yet of that one.
            _ => self.touched.replace(this).map(|before| before.sent_at),
        }
    }

    fn on_refreshed(&mut self, found: Found, now: Instant, desk: &Desk) {
        self.refreshing = false;
        let failed = found.error.is_some();
        if found.is_unreadable && self.mirror.is_new() {
            let refused = AgentState::Refused(CoordinationError::Unreadable);
            desk.state.send_replace(refused);
        }
        self.mirror.learn(found);
        if failed {
            self.refresh_at = now + self.session.timeout() / RETRIES_PER_TIMEOUT;
        }
        let asked = std::mem::take(&mut self.read_under_way);
        let is_answer = asked && !failed && self.mirror.own().is_some();
        self.read_asked |= asked && !is_answer;
        if let Some(own) = self.mirror.own()
            && (is_answer || self.told.as_ref() != Some(own))
        {
            self.told = Some(own.clone());
            desk.notify(Notice::Shard(own.clone()));
        }
        let cluster = self.mirror.cluster();
        desk.cluster.send_if_modified(|map| {
            let differs = *map != cluster;
            *map = cluster;
            differs
        });
        self.consider_placement(now);
    }

    /// Wants to place the shards, where there are none and enough nodes for them.
    fn consider_placement(&mut self, now: Instant) {
        let ClusterConfig {
            shards,
            replication_factor,
            ..
        } = self.config.cluster;
        let needed = placement::nodes_needed(shards, replication_factor);
        let is_due = self
            .mirror
            .nodes_without_shards()
            .is_some_and(|n| n >= needed);
        if is_due && !self.coordinator.is_wanted() {
            self.coordinator.want(now + self.session.timeout());
        }
    }

    fn touch(&mut self) {
        self.touching = true;
        let (session, node) = (self.session.clone(), self.config.id);
        let clock = self.environment.clock.clone();
        self.call(async move {
            let sent_at = clock.now(); // Before it is sent: the service hears of it later than this (R16).
            let result = registry::touch(session.as_ref(), node).await;
            Done::Touched { sent_at, result }
        });
    }

    fn poll(&mut self) {
        self.poll_count += 1;
        if self.poll_count.is_multiple_of(POLLS_PER_FULL_READING) {
            self.mirror.doubt_all();
        } else {
            self.mirror.doubt_own();
        }
        self.coordinator.look_again();
        if let Some(queue) = &mut self.election {
            queue.look_again();
        }
    }

    fn refresh(&mut self) {
        self.refreshing = true;
        if std::mem::take(&mut self.read_asked) {
            self.read_under_way = true;
            self.mirror.doubt_own();
        }
        let reading = self.mirror.refresh(self.session.clone());
        self.call(async move { Done::Refreshed(reading.await) });
    }

    fn queue(&mut self, lock: Lock) -> Option<&mut Queue> {
        match lock {
            Lock::Election => self.election.as_mut(),
            Lock::Coordinator => Some(&mut self.coordinator),
        }
    }

    fn drive_lock(&mut self, lock: Lock, now: Instant, desk: &Desk) {
        while let Some(queue) = self.queue(lock)
            && let Some(step) = queue.next(now)
        {
            let path = queue.path().to_string();
            let session = self.session.clone();
            match (step, lock) {
                (Step::Enter, _) => self.call(async move {
                    Done::Entered(lock, lock::enter(session.as_ref(), &path).await)
                }),
                (Step::Leave, _) => self.call(async move {
                    Done::Left(lock, lock::leave(session.as_ref(), &path).await)
                }),
                (Step::Granted, Lock::Election) => desk.notify(Notice::Lock(true)),
                (Step::Denied, Lock::Election) => desk.notify(Notice::Lock(false)),
                (Step::Granted, Lock::Coordinator) => {
                    let config = self.config.cluster.clone();
                    self.call(async move {
                        // What it came to is read again, whatever it was.
                        let _ = place(session.as_ref(), &config).await;
                        Done::Placed
                    });
                }
                (Step::Denied, Lock::Coordinator) => {}
            }
        }
    }

    fn call(&mut self, call: impl Future<Output = Done> + Send + 'static) {
        self.calls.push(Box::pin(call));
    }
}

/// Makes all shards of the first assignment at once, if there are none and the nodes suffice.
async fn place(session: &dyn Session, config: &ClusterConfig) -> Result<(), CoordinationError> {
    if !registry::shards(session).await?.is_empty() {
        return Ok(());
    }
    let mut sessions = BTreeMap::new();
    for node in registry::nodes(session).await? {
        match registry::registration(session, node).await {
            Ok(Some(registration)) => drop(sessions.insert(node, registration.session)),
            Ok(None) | Err(CoordinationError::Unreadable) => {}
            Err(error) => return Err(error),
        }
    }
    let nodes = sessions.keys().copied().collect::<BTreeSet<NodeId>>();
    match placement::first_assignment(&nodes, config.shards, config.replication_factor) {
        Ok(plan) => registry::create_shards(session, &plan, config, &sessions).await,
        Err(_) => Ok(()), // Somebody left meanwhile.
    }
}
