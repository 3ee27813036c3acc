//! What the store keeps in the coordination service, and how it reads and changes it.
//!
//! ```text
//! cluster           persistent   which cluster this is: a number drawn by whoever came first
//! nodes/<id>        ephemeral    the node's RPC address; owned by the session under which the node is registered
//! leases/<id>       ephemeral    written by the node itself every now and then, read by nobody (R16)
//! shards/<id>       persistent   the shard record; its revision is the znode's version, and it changes only with that
//! locks/<name>/…    ephemeral    the queue of a lock: `shard-<id>` for elections, `coordinator` for placement
//! ```
//!
//! The lease has a znode of its own because `nodes/<id>` is watched by everyone: a write there would wake the cluster.

use std::collections::{BTreeMap, BTreeSet};

use kv_core::placement::Assignment;
use kv_core::{Epoch, NodeId, Observed, SessionId, ShardId, ShardRecord, WriterRecord};

use crate::agent::SetResult;
use crate::config::ClusterConfig;
use crate::coordination::records::{
    NodeJson, decode_node, decode_shard, encode_node, encode_shard,
};
use crate::coordination::{Change, CoordinationError, CreateMode, Session};

/// Where it stands which cluster this is.
pub const CLUSTER: &str = "cluster";
/// Where the nodes are.
pub const NODES: &str = "nodes";
/// Where the shards are.
pub const SHARDS: &str = "shards";
/// The lock of whoever places shards.
pub const COORDINATOR_LOCK: &str = "locks/coordinator";

/// Where a node is registered.
#[must_use]
pub fn node_path(node: NodeId) -> String {
    format!("{NODES}/{}", node.0)
}

/// Where a shard's record is.
#[must_use]
pub fn shard_path(shard: ShardId) -> String {
    format!("{SHARDS}/{}", shard.0)
}

/// The lock of a shard's elections.
#[must_use]
pub fn shard_lock(shard: ShardId) -> String {
    format!("locks/shard-{}", shard.0)
}

fn lease_path(node: NodeId) -> String {
    format!("leases/{}", node.0)
}

/// The node that a path under `nodes` names.
#[must_use]
pub fn node_of(path: &str) -> Option<NodeId> {
    let name = path.strip_prefix(NODES)?.strip_prefix('/')?;
    name.parse().ok().map(NodeId)
}

/// The shard that a path under `shards` names.
#[must_use]
pub fn shard_of(path: &str) -> Option<ShardId> {
    let name = path.strip_prefix(SHARDS)?.strip_prefix('/')?;
    name.parse().ok().map(ShardId)
}

/// A node as it is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Under which session.
    pub session: SessionId,
    /// Its RPC address.
    pub address: String,
}

/// How an attempt to register ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// The session is registered as the node.
    Yes,
    /// Another session is. It is an earlier one of the same node, which will end; or another process uses the id.
    TakenBy(SessionId),
}

/// Which cluster this is. Whoever asks first names it `fresh`; that stays.
///
/// # Errors
/// Those of the session, and `Unreadable`. `Conflict` is no more than a reason to try again.
pub async fn cluster(session: &dyn Session, fresh: u64) -> Result<u64, CoordinationError> {
    if let Some(znode) = session.read(CLUSTER).await? {
        let text = std::str::from_utf8(&znode.data).ok();
        let id = text.and_then(|text| u64::from_str_radix(text, 16).ok());
        return id.ok_or(CoordinationError::Unreadable);
    }
    let create = Change::Create {
        path: CLUSTER.to_owned(),
        data: format!("{fresh:016x}").into_bytes(),
        mode: CreateMode::Persistent,
    };
    session.multi(vec![create]).await.map(|_| fresh)
}

/// Registers the session as the node, once. Where the id is taken, it leaves a watch on `nodes/<id>`.
///
/// # Errors
/// Those of the session; after `Unknown` it may be registered, and the next call finds that out. `Conflict` is no more
/// than a reason to try again: the id was taken and became free meanwhile.
pub async fn register(
    session: &dyn Session,
    node: NodeId,
    address: &str,
) -> Result<Registered, CoordinationError> {
    let path = node_path(node);
    let data = encode_node(&NodeJson {
        address: address.to_string(),
    });
    let ephemeral = |path: String, data: Vec<u8>| Change::Create {
        path,
        data,
        mode: CreateMode::Ephemeral,
    };
    let both = vec![
        ephemeral(path.clone(), data),
        ephemeral(lease_path(node), Vec::new()),
    ];
    match session.multi(both).await {
        Ok(_) => return Ok(Registered::Yes),
        Err(CoordinationError::Conflict) => {}
        Err(error) => return Err(error),
    }
    match session.read(&path).await?.and_then(|znode| znode.owner) {
        Some(owner) if owner == session.id() => Ok(Registered::Yes),
        Some(owner) => Ok(Registered::TakenBy(owner)),
        None => Err(CoordinationError::Conflict), // It has gone meanwhile: try again.
    }
}

/// A write of the node's own: that it is answered proves that the session lived when it was sent (R16).
///
/// # Errors
/// Those of the session: then it proves nothing.
pub async fn touch(session: &dyn Session, node: NodeId) -> Result<(), CoordinationError> {
    let write = Change::Set {
        path: lease_path(node),
        data: Vec::new(),
        version: None,
    };
    session.multi(vec![write]).await.map(|_| ())
}

/// The registered nodes, by id. Leaves a watch on the list.
///
/// # Errors
/// Those of the session.
pub async fn nodes(session: &dyn Session) -> Result<BTreeSet<NodeId>, CoordinationError> {
    let names = session.children(NODES).await?;
    let ids = names.iter().filter_map(|name| name.parse().ok());
    Ok(ids.map(NodeId).collect())
}

/// How a node is registered right now, if it is. Leaves a watch.
///
/// # Errors
/// Those of the session; `Unreadable`.
pub async fn registration(
    session: &dyn Session,
    node: NodeId,
) -> Result<Option<Registration>, CoordinationError> {
    let Some(znode) = session.read(&node_path(node)).await? else {
        return Ok(None);
    };
    Ok(Some(Registration {
        session: znode.owner.ok_or(CoordinationError::Unreadable)?,
        address: decode_node(&znode.data)?.address,
    }))
}

/// The shards that there are, by id. Leaves a watch on the list.
///
/// # Errors
/// Those of the session.
pub async fn shards(session: &dyn Session) -> Result<BTreeSet<ShardId>, CoordinationError> {
    let names = session.children(SHARDS).await?;
    let ids = names.iter().filter_map(|name| name.parse().ok());
    Ok(ids.map(ShardId).collect())
}

/// A shard's revision and record. Leaves a watch.
///
/// # Errors
/// Those of the session; `Unreadable`.
pub async fn record(
    session: &dyn Session,
    shard: ShardId,
) -> Result<Option<(u64, ShardRecord)>, CoordinationError> {
    let Some(znode) = session.read(&shard_path(shard)).await? else {
        return Ok(None);
    };
    let record = decode_shard(&znode.data)?;
    if record.shard != shard {
        return Err(CoordinationError::Unreadable);
    }
    Ok(Some((znode.version, record)))
}

/// Completes what was read of a shard by a look at the writer that it names: the record first, then the liveness (R12).
/// The other way round, an election could depose a writer that was published between the two. Leaves a watch.
///
/// # Errors
/// Those of the session.
pub async fn observe(
    session: &dyn Session,
    revision: u64,
    record: ShardRecord,
) -> Result<Observed, CoordinationError> {
    let writer_session = match record.writer {
        Some(writer) => {
            let znode = session.read(&node_path(writer.node)).await?;
            znode.and_then(|znode| znode.owner)
        }
        None => None,
    };
    Ok(Observed {
        revision,
        record,
        writer_session,
    })
}

/// Reads a shard as R12 wants it: [`record`], then [`observe`].
///
/// # Errors
/// Those of the session; `Unreadable`.
pub async fn read_shard(
    session: &dyn Session,
    shard: ShardId,
) -> Result<Option<Observed>, CoordinationError> {
    match record(session, shard).await? {
        Some((revision, record)) => observe(session, revision, record).await.map(Some),
        None => Ok(None),
    }
}

/// Replaces a shard's record, if it still has that revision.
pub async fn set_shard(session: &dyn Session, revision: u64, record: &ShardRecord) -> SetResult {
    let set = Change::Set {
        path: shard_path(record.shard),
        data: encode_shard(record),
        version: Some(revision),
    };
    match session.multi(vec![set]).await {
        Ok(changed) => {
            assert_eq!(changed.len(), 1, "a change has one result");
            SetResult::Done(changed[0].version)
        }
        Err(CoordinationError::Conflict | CoordinationError::Unreachable) => SetResult::Conflict,
        // A session may end after it has set the record and before it has said so.
        Err(_) => SetResult::Unknown,
    }
}

/// Creates the records of all shards of the first assignment, or none.
///
/// # Errors
/// `Conflict`, if there is such a shard already; else those of the session.
pub async fn create_shards(
    session: &dyn Session,
    plan: &[Assignment],
    config: &ClusterConfig,
    sessions: &BTreeMap<NodeId, SessionId>,
) -> Result<(), CoordinationError> {
    let changes = plan.iter().map(|assignment| {
        let node = assignment.writer;
        let writer = sessions.get(&node).map(|session| WriterRecord {
            node,
            session: *session,
        });
        let record = ShardRecord {
            shard: assignment.shard,
            epoch: Epoch(1),
            writer,
            released_by: None,
            voters: assignment.voters.clone(),
            write_quorum: config.write_quorum,
            election_quorum: config.election_quorum,
            slots: assignment.slots.clone(),
            fencing: config.fencing,
        };
        Change::Create {
            path: shard_path(assignment.shard),
            data: encode_shard(&record),
            mode: CreateMode::Persistent,
        }
    });
    session.multi(changes.collect()).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::{Changed, SessionEvent, Znode};
    use async_trait::async_trait;
    use kv_core::{Fencing, SlotRange};
    use std::sync::Mutex;
    use std::time::Duration;

    /// Answers every read from a script, and notes the order.
    struct Script {
        znodes: BTreeMap<String, Znode>,
        read: Mutex<Vec<String>>,
        multi: Result<Vec<Changed>, CoordinationError>,
    }

    #[async_trait]
    impl Session for Script {
        fn id(&self) -> SessionId {
            SessionId(1)
        }
        fn timeout(&self) -> Duration {
            Duration::from_secs(1)
        }
        async fn read(&self, path: &str) -> Result<Option<Znode>, CoordinationError> {
            self.read.lock().unwrap().push(path.to_string());
            Ok(self.znodes.get(path).cloned())
        }
        async fn children(&self, _path: &str) -> Result<Vec<String>, CoordinationError> {
            Ok(Vec::new())
        }
        async fn multi(&self, _: Vec<Change>) -> Result<Vec<Changed>, CoordinationError> {
            self.multi.clone()
        }
        async fn event(&self) -> SessionEvent {
            std::future::pending().await
        }
        async fn close(&self) {}
    }

    fn shard_record() -> ShardRecord {
        ShardRecord {
            shard: ShardId(0),
            epoch: Epoch(3),
            writer: Some(WriterRecord {
                node: NodeId(7),
                session: SessionId(5),
            }),
            released_by: None,
            voters: [NodeId(7)].into(),
            write_quorum: 1,
            election_quorum: 1,
            slots: vec![SlotRange::new(0, 1024).unwrap()],
            fencing: Fencing::Epoch,
        }
    }

    fn script(multi: Result<Vec<Changed>, CoordinationError>) -> Script {
        let znode = |data, owner| Znode {
            data,
            version: 9,
            owner,
        };
        let record = znode(encode_shard(&shard_record()), None);
        let node = znode(Vec::new(), Some(SessionId(6)));
        Script {
            znodes: [
                ("shards/0".to_string(), record),
                ("nodes/7".to_string(), node),
            ]
            .into(),
            read: Mutex::new(Vec::new()),
            multi,
        }
    }

    #[tokio::test]
    async fn the_record_is_read_before_the_liveness_of_its_writer() {
        let session = script(Err(CoordinationError::Unknown));
        let observed = read_shard(&session, ShardId(0)).await.unwrap().unwrap();
        assert_eq!(*session.read.lock().unwrap(), ["shards/0", "nodes/7"]);
        assert_eq!(observed.revision, 9);
        assert_eq!(observed.record, shard_record());
        assert_eq!(observed.writer_session, Some(SessionId(6)));
        assert_eq!(read_shard(&session, ShardId(1)).await, Ok(None));
    }

    #[tokio::test]
    async fn only_what_certainly_did_not_happen_is_a_conflict() {
        let done = Changed {
            path: "shards/0".to_string(),
            version: 10,
        };
        for (answer, result) in [
            (Ok(vec![done]), SetResult::Done(10)),
            (Err(CoordinationError::Conflict), SetResult::Conflict),
            (Err(CoordinationError::Unreachable), SetResult::Conflict),
            (Err(CoordinationError::Unknown), SetResult::Unknown),
            (Err(CoordinationError::Expired), SetResult::Unknown),
        ] {
            let set = set_shard(&script(answer), 9, &shard_record()).await;
            assert_eq!(set, result);
        }
    }
}
