//! Single calls, as the contract of `Session` has them, in ZooKeeper's terms.

use kv_core::SessionId;
use zookeeper_client as zk;
use zookeeper_client::{CreateMode as ZkMode, Error, MultiWriteError, MultiWriteResult};

use super::watches::{Kind, Watches};
use crate::coordination::{Change, Changed, CoordinationError, CreateMode, Znode};

/// ZooKeeper's ids are signed, and the highest bits are the number of a server: only the bits matter.
pub(super) fn session_id(id: zk::SessionId) -> SessionId {
    SessionId(u64::from_ne_bytes(id.0.to_ne_bytes()))
}

/// What an error means to whoever called. What may have happened is `Unknown`; only what a server has refused is anything else.
pub(super) fn meaning(error: Error) -> CoordinationError {
    match error {
        Error::NoNode
        | Error::BadVersion
        | Error::NodeExists
        | Error::NotEmpty
        | Error::NoChildrenForEphemerals => CoordinationError::Conflict,
        Error::NoAuth | Error::AuthFailed | Error::InvalidAcl | Error::QuotaExceeded => {
            CoordinationError::Forbidden
        }
        Error::NotReadOnly | Error::Throttled => CoordinationError::Unreachable,
        // A session that the crate holds to be over may live: `session.rs` asks a server.
        _ => CoordinationError::Unknown,
    }
}

fn absolute(path: &str) -> String {
    format!("/{path}")
}

/// Reads a znode and watches it, whether it exists or not.
pub(super) async fn read(
    client: &zk::Client,
    watches: &Watches,
    path: &str,
) -> Result<Option<Znode>, CoordinationError> {
    let absolute = absolute(path);
    loop {
        match client.get_and_watch_data(&absolute).await {
            Ok((data, stat, watcher)) => {
                watches.arm(path, Kind::Data, watcher);
                let owner = zk::SessionId(stat.ephemeral_owner);
                return Ok(Some(Znode {
                    data,
                    version: version(stat),
                    owner: (owner.0 != 0).then(|| session_id(owner)),
                }));
            }
            Err(Error::NoNode) => {}
            Err(error) => return Err(meaning(error)),
        }
        if watch_absent(client, watches, path, Kind::Data).await? {
            return Ok(None);
        }
    }
}

/// Lists the children of a znode and watches the list; one that does not exist has none, and its coming is watched.
pub(super) async fn children(
    client: &zk::Client,
    watches: &Watches,
    path: &str,
) -> Result<Vec<String>, CoordinationError> {
    let absolute = absolute(path);
    loop {
        match client.list_and_watch_children(&absolute).await {
            Ok((mut names, watcher)) => {
                watches.arm(path, Kind::Children, watcher);
                names.sort();
                return Ok(names);
            }
            Err(Error::NoNode) => {}
            Err(error) => return Err(meaning(error)),
        }
        if watch_absent(client, watches, path, Kind::Children).await? {
            return Ok(Vec::new());
        }
    }
}

/// Watches the coming of a znode. False if it has come meanwhile.
async fn watch_absent(
    client: &zk::Client,
    watches: &Watches,
    path: &str,
    kind: Kind,
) -> Result<bool, CoordinationError> {
    let (stat, watcher) = client
        .check_and_watch_stat(&absolute(path))
        .await
        .map_err(meaning)?;
    let is_absent = stat.is_none();
    if is_absent {
        watches.arm(path, kind, watcher);
    }
    Ok(is_absent)
}

/// Does all of the changes or none. Missing parents are made first, so they stay where the changes come to nothing.
pub(super) async fn multi(
    client: &zk::Client,
    acls: zk::Acls<'static>,
    changes: &[Change],
) -> Result<Vec<Changed>, CoordinationError> {
    // Each attempt makes the parent of another change.
    for _ in 0..=changes.len() {
        let refused = match write(client, acls, changes).await {
            Ok(results) => return Ok(outcome(changes, results)),
            Err(refused) => refused,
        };
        let parent = match &refused {
            MultiWriteError::OperationFailed {
                index,
                source: Error::NoNode,
            } => parent_of(&changes[*index]),
            _ => None,
        };
        let Some(parent) = parent else {
            return Err(meaning(refused.into()));
        };
        let directory = ZkMode::Persistent.with_acls(acls);
        client.mkdir(&parent, &directory).await.map_err(meaning)?;
    }
    Err(CoordinationError::Conflict) // Somebody takes the parents away again.
}

/// Where the parent of a znode that is to be made is missing, it can be made.
fn parent_of(change: &Change) -> Option<String> {
    let Change::Create { path, .. } = change else {
        return None;
    };
    let (parent, _) = path.rsplit_once('/')?;
    Some(absolute(parent))
}

async fn write(
    client: &zk::Client,
    acls: zk::Acls<'static>,
    changes: &[Change],
) -> Result<Vec<MultiWriteResult>, MultiWriteError> {
    let mut writer = client.new_multi_writer();
    for change in changes {
        match change {
            Change::Create { path, data, mode } => {
                let mode = match mode {
                    CreateMode::Persistent => ZkMode::Persistent,
                    CreateMode::Ephemeral => ZkMode::Ephemeral,
                    CreateMode::EphemeralSequential => ZkMode::EphemeralSequential,
                };
                writer.add_create(&absolute(path), data, &mode.with_acls(acls))?;
            }
            Change::Set {
                path,
                data,
                version,
            } => writer.add_set_data(&absolute(path), data, expected(*version)?)?,
            Change::Delete { path, version } => {
                writer.add_delete(&absolute(path), expected(*version)?)?;
            }
        }
    }
    writer.commit().await
}

/// A version that ZooKeeper cannot have is one that the znode does not have.
fn expected(version: Option<u64>) -> Result<Option<i32>, Error> {
    let version = version.map(i32::try_from).transpose();
    version.map_err(|_| Error::BadVersion)
}

fn version(stat: zk::Stat) -> u64 {
    u64::try_from(stat.version).unwrap_or_default()
}

fn outcome(changes: &[Change], results: Vec<MultiWriteResult>) -> Vec<Changed> {
    assert_eq!(changes.len(), results.len(), "every change has its result");
    let changed = |(change, result): (&Change, MultiWriteResult)| match (change, result) {
        (Change::Create { .. }, MultiWriteResult::Create { path, .. }) => Changed {
            path: path.trim_start_matches('/').to_owned(),
            version: 0,
        },
        (Change::Set { path, .. }, MultiWriteResult::SetData { stat }) => Changed {
            path: path.clone(),
            version: version(stat),
        },
        (Change::Delete { path, .. }, _) => Changed {
            path: path.clone(),
            version: 0,
        },
        (change, result) => panic!("{result:?} is no result of {change:?}"),
    };
    changes.iter().zip(results).map(changed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_server_has_refused_certainly_did_not_happen() {
        for (error, expected) in [
            (Error::BadVersion, CoordinationError::Conflict),
            (Error::NodeExists, CoordinationError::Conflict),
            (Error::NoAuth, CoordinationError::Forbidden),
            (Error::Throttled, CoordinationError::Unreachable),
            (Error::ConnectionLoss, CoordinationError::Unknown),
            (Error::SessionExpired, CoordinationError::Unknown),
            (Error::Timeout, CoordinationError::Unknown),
            (Error::ClientClosed, CoordinationError::Unknown),
        ] {
            assert_eq!(meaning(error.clone()), expected, "{error}");
        }
    }

    #[test]
    fn a_session_id_keeps_its_bits() {
        assert_eq!(session_id(zk::SessionId(-2)), SessionId(u64::MAX - 1));
        assert_eq!(session_id(zk::SessionId(7)), SessionId(7));
    }
}
