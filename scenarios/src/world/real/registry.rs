//! What stands in ZooKeeper, seen from outside of the cluster: who is registered, and who holds the locks of elections.
//!
//! It is followed by watches, over a connection of its own that no fault cuts. While ZooKeeper is down or stands still, what was
//! seen last counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kv::coordination::registry::{NODES, node_of, shard_lock};
use kv::coordination::zookeeper::{ZooKeeper, ZooKeeperAddress};
use kv::coordination::{Coordination as _, CoordinationError, Session, SessionEvent, lock};
use kv_core::{NodeId, SessionId, ShardId};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// How long ZooKeeper keeps the session of the onlooker.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait before ZooKeeper is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// How often is looked whether a session has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What was seen last.
#[derive(Debug)]
pub struct Registry {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    sessions: BTreeMap<NodeId, SessionId>,
    /// Who holds the lock.
    locks: BTreeMap<ShardId, Option<SessionId>>,
}

impl Registry {
    /// Follows the cluster that lives at that address.
    #[must_use]
    pub fn follow(address: ZooKeeperAddress, shards: Vec<ShardId>) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let zookeeper = ZooKeeper::new(address, None, SESSION_TIMEOUT);
        let task = tokio::spawn(follow(zookeeper, shards, seen.clone()));
        Self { seen, task }
    }

    /// The session under which a node is registered.
    #[must_use]
    pub fn session_of(&self, node: NodeId) -> Option<SessionId> {
        self.seen().sessions.get(&node).copied()
    }

    /// Waits until no node is registered under a session any more.
    pub async fn ended(&self, session: SessionId) {
        while self.seen().sessions.values().any(|open| *open == session) {
            sleep(LOOK_EVERY).await;
        }
    }

    /// The node that holds the lock of a shard's elections.
    #[must_use]
    pub fn elector(&self, shard: ShardId) -> Option<NodeId> {
        let seen = self.seen();
        let holder = (*seen.locks.get(&shard)?)?;
        let mut sessions = seen.sessions.iter();
        sessions.find_map(|(node, session)| (*session == holder).then_some(*node))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(zookeeper: ZooKeeper, shards: Vec<ShardId>, seen: Arc<Mutex<Seen>>) {
    loop {
        if let Ok(session) = zookeeper.connect().await {
            // It ends with an error: a session that is over, or a ZooKeeper that does not answer.
            let _ = watch(&*session, &shards, &seen).await;
        }
        sleep(RETRY_AFTER).await;
    }
}

async fn watch(
    session: &dyn Session,
    shards: &[ShardId],
    seen: &Mutex<Seen>,
) -> Result<(), CoordinationError> {
    let locks: BTreeMap<String, ShardId> = shards
        .iter()
        .map(|shard| (shard_lock(*shard), *shard))
        .collect();
    look_at_nodes(session, seen).await?;
    for (path, shard) in &locks {
        look_at_lock(session, path, *shard, seen).await?;
    }
    loop {
        match session.event().await {
            SessionEvent::Changed { path } => match locks.get(&path) {
                Some(shard) => look_at_lock(session, &path, *shard, seen).await?,
                None => look_at_nodes(session, seen).await?,
            },
            SessionEvent::Expired => return Err(CoordinationError::Expired),
            _ => {}
        }
    }
}

async fn look_at_nodes(session: &dyn Session, seen: &Mutex<Seen>) -> Result<(), CoordinationError> {
    let mut sessions = BTreeMap::new();
    for name in session.children(NODES).await? {
        let path = format!("{NODES}/{name}");
        let znode = session.read(&path).await?;
        let owner = znode.and_then(|znode| znode.owner);
        sessions.extend(node_of(&path).zip(owner));
    }
    seen.lock().unwrap_or_else(PoisonError::into_inner).sessions = sessions;
    Ok(())
}

async fn look_at_lock(
    session: &dyn Session,
    path: &str,
    shard: ShardId,
    seen: &Mutex<Seen>,
) -> Result<(), CoordinationError> {
    let holder = lock::holder(session, path).await?;
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.locks.insert(shard, holder);
    Ok(())
}
