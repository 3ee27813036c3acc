//! A client of a cluster: finds the right node, waits where that helps, and says honestly how an operation ended.
//!
//! The idea: an operation is a row of attempts within one deadline. After each attempt `may_repeat` decides whether
//! there may be another one; only what was definitely refused is repeated (R19). So a write that ends as
//! [`Outcome::Fail`] never happens, and what may have happened ends as [`Outcome::Info`].
//!
//! Where a key is served comes from the cluster map of any node (`client/routes.rs`), corrected by each `Moved`. All
//! waiting is jittered from a seed that is handed in: in the simulator a client does the same each time it is replayed.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kv_core::{Level, NodeId, ShardId, Slot, Version, slot_of};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::error::{Fail, Outcome, Unsure};
use crate::handle::{Answer, ClusterMap, Refusal, Request};
use crate::wire::{Info, Reply, check_key, check_value};

mod links;
mod routes;
mod stream;
mod trial;

#[cfg(test)]
mod tests;

use links::Links;
use routes::Routes;
use trial::Trial;

/// What can be chosen about a client.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The deadline of a whole operation, all its attempts and waits included. The writer's own bound for giving a
    /// write up is shorter, so that a rollback ends as `fail` and not as `info`.
    pub timeout: Duration,
    /// How long one attempt may take to connect, and one attempt of a read may take at all: a node that is cut off
    /// must not eat the whole deadline.
    pub attempt_timeout: Duration,
    /// How many times an operation follows a `Moved` before it fails.
    pub moved_max: u32,
    /// The first wait before an operation is tried again; it doubles with each attempt.
    pub backoff_first: Duration,
    /// The longest wait before an operation is tried again.
    pub backoff_max: Duration,
    /// Which replica answers reads of level `replica`.
    pub replica: ReplicaChoice,
    /// Whether reads of level `replica` ask for at least what this client has written and read before
    /// (read-your-writes and monotonic reads).
    pub sessions: bool,
    /// Whether to connect anew for every attempt. In the simulator a kept connection does not show that its other end
    /// is gone before something is sent, so that a write would end as `info` there that was never sent.
    pub connect_each_time: bool,
    /// Whether requests go over one stream to each node, which siblings share, instead of being calls of their own.
    pub streams: bool,
    /// Where jitter and the choice of replicas come from.
    pub seed: u64,
}

impl Default for ClientOptions {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            timeout: ms(5000),
            attempt_timeout: ms(1000),
            moved_max: 16,
            backoff_first: ms(20),
            backoff_max: ms(500),
            replica: ReplicaChoice::Random,
            sessions: true,
            connect_each_time: false,
            streams: false,
            seed: 0,
        }
    }
}

/// Which replica answers reads of level `replica`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaChoice {
    /// A member of the shard drawn for each read; not the writer, as long as another one answers.
    Random,
    /// This node, and no other.
    Node(NodeId),
}

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The value; nothing if the key is absent.
    pub value: Option<Bytes>,
    /// The entry that wrote or deleted it, if that is known.
    pub version: Option<Version>,
    /// How far the node had applied.
    pub token: Version,
    /// The shard whose version and token these are.
    pub shard: ShardId,
    /// The node that answered.
    pub node: NodeId,
}

/// A write that Q nodes have committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The entry that it became; the session token, too.
    pub version: Version,
    /// The shard whose version this is.
    pub shard: ShardId,
    /// The node that answered.
    pub node: NodeId,
}

/// A client. It does one operation after the other; for more at a time, use more of them.
///
/// Dropping the future of a write leaves its outcome as unknown as `Outcome::Info` does.
#[derive(Debug)]
pub struct Client {
    seeds: Vec<String>,
    options: ClientOptions,
    routes: Routes,
    links: Links,
    tokens: BTreeMap<ShardId, Version>,
    rng: StdRng,
}

impl Client {
    /// A client that knows the addresses (`HOST:PORT`) of some nodes and connects when it first needs to.
    #[must_use]
    pub fn new(nodes: Vec<String>, options: ClientOptions) -> Self {
        Self {
            seeds: nodes,
            routes: Routes::default(),
            links: Links::new(options.connect_each_time, options.streams),
            tokens: BTreeMap::new(),
            rng: StdRng::seed_from_u64(options.seed),
            options,
        }
    }

    /// A client that has fetched the cluster map from one of the nodes.
    ///
    /// # Errors
    /// When none of them answers before the deadline.
    pub async fn connect(nodes: Vec<String>, options: ClientOptions) -> Result<Self, Fail> {
        let mut client = Self::new(nodes, options);
        client.refresh().await?;
        Ok(client)
    }

    /// Another client, a session of its own: it begins with what this one knows of the nodes, and shares its connections. So many
    /// clients need few of them.
    #[must_use]
    pub fn sibling(&self, seed: u64) -> Self {
        Self {
            seeds: self.seeds.clone(),
            options: ClientOptions {
                seed,
                ..self.options.clone()
            },
            routes: self.routes.clone(),
            links: self.links.clone(),
            tokens: BTreeMap::new(),
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// How long the operations from now on may take.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.options.timeout = timeout;
    }

    /// Goes on with a session that another client, or an earlier one, has begun: this one sees no older state of the shard.
    pub fn resume(&mut self, shard: ShardId, token: Version) {
        self.remember(shard, token);
    }

    /// The session token of the shard that owns a key: what a read of level `replica` asks for.
    #[must_use]
    pub fn token(&self, key: &[u8]) -> Option<Version> {
        let shard = self.routes.shard(slot_of(key))?;
        self.tokens.get(&shard).copied()
    }

    /// Reads a key.
    pub async fn get(&mut self, key: Bytes, level: Level) -> Outcome<Read> {
        if let Err(error) = check_key(&key) {
            return Outcome::Fail(error.into());
        }
        let slot = slot_of(&key);
        let token = match (level, self.options.sessions) {
            (Level::Replica, true) => self.token(&key),
            _ => None,
        };
        let request = Request::Get { key, level, token };
        self.perform(slot, &request).await.map(read_in)
    }

    /// Gives a key a value.
    pub async fn set(&mut self, key: Bytes, value: Bytes) -> Outcome<Written> {
        if let Err(error) = check_key(&key).and_then(|()| check_value(&value)) {
            return Outcome::Fail(error.into());
        }
        self.write(slot_of(&key), Request::Set { key, value }).await
    }

    /// Takes a key away. Deleting an absent key is a write like any other.
    pub async fn delete(&mut self, key: Bytes) -> Outcome<Written> {
        if let Err(error) = check_key(&key) {
            return Outcome::Fail(error.into());
        }
        self.write(slot_of(&key), Request::Delete { key }).await
    }

    /// The cluster as this client knows it now, without asking anybody.
    #[must_use]
    pub fn cluster(&self) -> &ClusterMap {
        self.routes.map()
    }

    /// Fetches the cluster map from any node that answers.
    ///
    /// # Errors
    /// When none answers before the deadline.
    pub async fn refresh(&mut self) -> Result<(), Fail> {
        let trial = Trial::new(&self.options);
        if self.fetch_map(&trial).await {
            Ok(())
        } else {
            let tried = self.addresses();
            Err(Fail::Unreachable { tried })
        }
    }

    /// What the node at an address says of the cluster and of itself. With the `digest`, it reads all that it stores.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub async fn info(address: &str, timeout: Duration, digest: bool) -> Result<Info, Fail> {
        Links::new(false, false)
            .info(address, timeout, digest)
            .await
    }

    /// Stops the node at an address, if it allows that.
    pub async fn kill(address: &str, timeout: Duration) -> Outcome<NodeId> {
        Links::new(false, false).kill(address, timeout).await
    }

    async fn write(&mut self, slot: Slot, request: Request) -> Outcome<Written> {
        self.perform(slot, &request).await.map(write_in)
    }

    /// One operation: attempts, until one says how it ended or the deadline has passed.
    async fn perform(&mut self, slot: Slot, request: &Request) -> Outcome<Reply> {
        let mut trial = Trial::new(&self.options);
        loop {
            let Some(address) = self.route(slot, request, &trial) else {
                trial.last = self.nowhere(slot, request, &trial);
                if !self.wait(&mut trial).await {
                    return Outcome::Fail(trial.last);
                }
                continue;
            };
            let ended = self.links.attempt(&address, request, &trial).await;
            if !may_repeat(effect(request), &ended) {
                return self.conclude(ended);
            }
            let go_on = match self.learn(slot, &address, ended, &mut trial) {
                Next::Now => trial.has_time(),
                Next::Later => self.wait(&mut trial).await,
                Next::Never => false,
            };
            if !go_on {
                return Outcome::Fail(trial.last);
            }
        }
    }

    /// Where the next attempt goes.
    fn route(&mut self, slot: Slot, request: &Request, trial: &Trial) -> Option<String> {
        match level(request) {
            Some(Level::Replica) => {
                self.routes
                    .replica(slot, self.options.replica, trial.failed(), &mut self.rng)
            }
            _ => self.routes.writer(slot),
        }
    }

    /// Why there is nowhere to send an attempt to.
    fn nowhere(&self, slot: Slot, request: &Request, trial: &Trial) -> Fail {
        match (
            self.routes.shard(slot),
            level(request),
            self.options.replica,
        ) {
            (None, ..) if self.routes.map().nodes.is_empty() => trial.unreachable(self.addresses()),
            (Some(_), Some(Level::Replica), ReplicaChoice::Node(node)) => Fail::NoSuchNode(node),
            _ => Fail::NoWriter { slot },
        }
    }

    /// Takes what an attempt that may be repeated has taught, and says when to repeat it.
    fn learn(&mut self, slot: Slot, address: &str, ended: Ended, trial: &mut Trial) -> Next {
        trial.failed_at(address);
        self.routes.forget(address);
        let Ended::Replied(Reply {
            answer: Answer::Refused(refusal),
            address,
            ..
        }) = ended
        else {
            trial.last = trial.unreachable(Vec::new());
            return Next::Later;
        };
        let (last, next) = match refusal {
            Refusal::Moved { writer, .. } => return self.follow(slot, writer, address, trial),
            Refusal::TryAgain => (Fail::NotReady, Next::Later),
            Refusal::Behind => (Fail::Behind, Next::Later),
            Refusal::Unconfirmed => (Fail::Unconfirmed, Next::Later),
            // It may be repeated, but the shard has just spent its whole bound on it: the caller decides.
            Refusal::RolledBack => (Fail::RolledBack, Next::Never),
        };
        trial.last = last;
        next
    }

    /// Notes where a node sent us; going there at once is right the first time, a loop has to slow down.
    fn follow(
        &mut self,
        slot: Slot,
        writer: Option<NodeId>,
        address: Option<String>,
        trial: &mut Trial,
    ) -> Next {
        let known = writer.and_then(|writer| self.routes.map().nodes.get(&writer).cloned());
        let Some(address) = address.or(known) else {
            trial.last = Fail::NoWriter { slot };
            return Next::Later;
        };
        self.routes.hint(slot, address);
        trial.last = Fail::Misrouted { slot };
        trial.moved_count += 1;
        match trial.moved_count {
            0..=2 => Next::Now,
            count if count <= self.options.moved_max => Next::Later,
            _ => Next::Never,
        }
    }

    /// The outcome of an operation whose last attempt must not be repeated.
    fn conclude(&mut self, ended: Ended) -> Outcome<Reply> {
        match ended {
            Ended::Replied(reply) => match reply.answer {
                Answer::Written { version, shard } => {
                    self.remember(shard, version);
                    Outcome::Ok(reply)
                }
                Answer::Value { token, shard, .. } => {
                    self.remember(shard, token);
                    Outcome::Ok(reply)
                }
                Answer::Unknown | Answer::Refused(_) => {
                    Outcome::Info(Unsure::Undecided { node: reply.node })
                }
            },
            Ended::Rejected(status) => Outcome::Fail(Fail::Rejected(status)),
            Ended::Lost(reason) => Outcome::Info(reason),
            Ended::NotSent => Outcome::Fail(Fail::Unreachable { tried: Vec::new() }),
        }
    }

    /// The session token of a shard never falls.
    fn remember(&mut self, shard: ShardId, token: Version) {
        let known = self.tokens.entry(shard).or_default();
        *known = token.max(*known);
    }

    /// Waits a little and fetches the map again; says whether there is time for another attempt.
    async fn wait(&mut self, trial: &mut Trial) -> bool {
        // With no map at all there is nothing to wait for yet.
        if !self.routes.map().shards.is_empty() || trial.has_waited() {
            tokio::time::sleep(trial.next_wait(&mut self.rng)).await;
        }
        trial.mark_waited();
        trial.has_time() && {
            self.fetch_map(trial).await;
            trial.has_time()
        }
    }

    /// Asks the nodes for their map, from a random one on, until one answers.
    async fn fetch_map(&mut self, trial: &Trial) -> bool {
        let addresses = self.addresses();
        if addresses.is_empty() {
            return false;
        }
        let start = self.rng.random_range(0..addresses.len());
        for address in addresses.iter().cycle().skip(start).take(addresses.len()) {
            if !trial.has_time() {
                return false;
            }
            if let Ok(info) = self.links.info(address, trial.attempt_time(), false).await {
                self.routes.merge(info.cluster);
                return true;
            }
        }
        false
    }

    /// Every address that this client knows.
    fn addresses(&self) -> Vec<String> {
        let mut addresses: Vec<String> = self.routes.map().nodes.values().cloned().collect();
        for seed in &self.seeds {
            if !addresses.contains(seed) {
                addresses.push(seed.clone());
            }
        }
        addresses
    }
}

/// How one attempt of an operation ended.
#[derive(Debug)]
enum Ended {
    /// A node answered.
    Replied(Reply),
    /// No connection could be made, so nothing was sent.
    NotSent,
    /// A node refused the request as such, before it looked at the store.
    Rejected(tonic::Status),
    /// It was sent, and no answer came back that could be understood.
    Lost(Unsure),
}

/// What repeating an operation could do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// Nothing.
    Read,
    /// Take effect twice.
    Write,
}

/// When to make the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Now,
    Later,
    Never,
}

/// **R19**: whether the client may send an operation again by itself.
///
/// Only what was definitely refused may be repeated: a typed refusal, or a connection that was never made. A write that
/// was sent and not answered may have happened or may happen yet, whatever the connection says about it; sent again, it
/// would take effect twice. A read has no effect, so it may always be asked again; it still reports only one answer.
fn may_repeat(effect: Effect, ended: &Ended) -> bool {
    match ended {
        Ended::NotSent => true,
        Ended::Replied(reply) => match reply.answer {
            Answer::Refused(_) => true,
            Answer::Unknown => effect == Effect::Read,
            Answer::Written { .. } | Answer::Value { .. } => false, // It is done.
        },
        Ended::Lost(_) => effect == Effect::Read,
        Ended::Rejected(_) => false, // It would be refused again.
    }
}

fn effect(request: &Request) -> Effect {
    match request {
        Request::Get { .. } => Effect::Read,
        Request::Set { .. } | Request::Delete { .. } => Effect::Write,
    }
}

fn level(request: &Request) -> Option<Level> {
    match request {
        Request::Get { level, .. } => Some(*level),
        Request::Set { .. } | Request::Delete { .. } => None,
    }
}

fn read_in(reply: Reply) -> Read {
    let Answer::Value {
        value,
        version,
        token,
        shard,
    } = reply.answer
    else {
        unreachable!("a read that ended well holds a value: wire.rs lets nothing else through")
    };
    let node = reply.node;
    Read {
        value,
        version,
        token,
        shard,
        node,
    }
}

fn write_in(reply: Reply) -> Written {
    let Answer::Written { version, shard } = reply.answer else {
        unreachable!("a write that ended well is written: wire.rs lets nothing else through")
    };
    let node = reply.node;
    Written {
        version,
        shard,
        node,
    }
}
