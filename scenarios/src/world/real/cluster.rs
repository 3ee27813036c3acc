//! A running cluster of real processes as a world, whatever the processes are: it is seen in one way, and handled by its [`Hands`].

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use checker::NodeEvent;
use kv::handle::Status;
use kv_core::{NodeId, ShardId};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::acts::Acts;
use super::observer::Observer;
use super::reason::Reason;
use crate::scenario::Scenario;
use crate::world::trouble::Trouble;
use crate::world::{Act, Client, Place, Roles, Trap, Work, World};

/// What can be done to a cluster of one kind. Dropping it takes the cluster down.
#[async_trait]
pub trait Hands: Send + Sync + 'static {
    /// Nothing goes from the one to the other, for this reason too.
    async fn cut(&self, from: Place, to: Place, reason: Reason) -> Result<(), Trouble>;
    /// This reason is one no more.
    async fn mend(&self, from: Place, to: Place, reason: Reason) -> Result<(), Trouble>;
    /// Any other act than those of links and sessions.
    async fn perform(&self, act: &Act) -> Result<(), Trouble>;
    /// As [`World::trap`].
    async fn trap(&self, node: NodeId, trap: &Trap) -> String;
    /// As [`World::failures`].
    async fn failures(&self) -> BTreeMap<NodeId, String>;
    /// What each process has said, by its name.
    async fn logs(&self) -> Vec<(String, Vec<u8>)>;
    /// The folder that the cluster lives in.
    fn folder(&self) -> &Path;
}

/// A cluster with those who look on.
pub struct RealWorld<H> {
    observer: Observer,
    acts: Arc<Acts>,
    session_timeout: Duration,
    /// Last, so that the cluster goes when all else has gone.
    hands: Arc<H>,
}

impl<H: Hands> RealWorld<H> {
    /// The world of a cluster that has been started.
    #[must_use]
    pub fn new(scenario: &Scenario, observer: Observer, hands: H) -> Self {
        Self {
            observer,
            acts: Arc::default(),
            session_timeout: scenario.cluster.session_timeout,
            hands: Arc::new(hands),
        }
    }

    /// Who looks on.
    #[must_use]
    pub fn observer(&self) -> &Observer {
        &self.observer
    }

    /// The folder that the cluster lives in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.hands.folder()
    }

    async fn perform(&self, act: &Act) -> Result<(), Trouble> {
        match act {
            Act::Cut(from, to) => self.hands.cut(*from, *to, Reason::Partition).await,
            Act::Mend(from, to) => self.hands.mend(*from, *to, Reason::Partition).await,
            Act::LoseSession(node) => self.lose_session(*node).await,
            act => self.hands.perform(act).await,
        }
    }

    /// Keeps ZooKeeper from hearing of a node until its session has ended, as that of one that is cut off does. Does not wait for the end.
    async fn lose_session(&self, node: NodeId) -> Result<(), Trouble> {
        let registry = self.observer.registry().clone();
        let Some(session) = registry.session_of(node) else {
            return Ok(());
        };
        let both_ways = [
            (Place::Node(node), Place::Coordination),
            (Place::Coordination, Place::Node(node)),
        ];
        let (hands, acts, clock) = (
            self.hands.clone(),
            self.acts.clone(),
            self.observer.clock().clone(),
        );
        let began = clock.now();
        let mut done = Ok(());
        for (from, to) in both_ways {
            done = done.and(hands.cut(from, to, Reason::LostSession).await);
        }
        // It ends after its timeout; later, where ZooKeeper is down or paused.
        let patience = 4 * self.session_timeout;
        tokio::spawn(async move {
            let ended = timeout(patience, registry.ended(session)).await;
            let late = ended.is_err().then(|| "it did not end in time".to_owned());
            let mut mended = Ok(());
            for (from, to) in both_ways {
                mended = mended.and(hands.mend(from, to, Reason::LostSession).await);
            }
            let trouble = mended.err().map(|error| error.to_string()).or(late);
            let what = ("the session is over", node);
            acts.note(&what, began, clock.now(), trouble.as_deref());
        });
        done
    }
}

#[async_trait]
impl<H: Hands> World for RealWorld<H> {
    fn now(&self) -> Duration {
        self.observer.clock().now()
    }

    fn stamp(&self) -> u64 {
        self.observer.clock().stamp()
    }

    fn drain(&self) -> Vec<NodeEvent> {
        self.observer.drain()
    }

    fn shard(&self, shard: ShardId) -> Option<Roles> {
        self.observer.shard(shard)
    }

    async fn statuses(&self) -> BTreeMap<NodeId, Status> {
        self.observer.statuses().await
    }

    fn client(&self, session: u64) -> Box<dyn Client> {
        Box::new(self.observer.client(session))
    }

    async fn spawn(&self, _session: u64, work: Work<()>) -> JoinHandle<()> {
        tokio::spawn(work)
    }

    async fn act(&self, act: &Act) {
        let began = self.now();
        let done = self.perform(act).await;
        let trouble = done.err().map(|trouble| trouble.to_string());
        self.acts.note(act, began, self.now(), trouble.as_deref());
    }

    async fn trap(&self, node: NodeId, trap: &Trap) -> String {
        let began = self.now();
        let what = self.hands.trap(node, trap).await;
        self.acts.note(&(node, trap), began, self.now(), None);
        what
    }

    async fn failures(&self) -> BTreeMap<NodeId, String> {
        self.hands.failures().await
    }

    async fn leave(&self) -> BTreeMap<String, Vec<u8>> {
        let statuses = self.observer.last_words().await;
        let logs = self.hands.logs().await.into_iter();
        let logs = logs.map(|(name, log)| (format!("logs/{name}.log"), log));
        let others = [
            ("acts.jsonl".to_owned(), self.acts.take().into_bytes()),
            ("statuses.txt".to_owned(), statuses.into_bytes()),
        ];
        logs.chain(others).collect()
    }
}
