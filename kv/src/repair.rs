//! Taking everything from a peer, for a folder whose log or engine is damaged.
//!
//! The peer sends its snapshot, which becomes the folder's engine; the log is restarted at its end, and is suspect: the node had promised
//! and acknowledged more than it knows now. So it comes up as a member that takes no part in elections until the shard's writer has
//! given it all that it can have lost (`kv_core`, `replica/catch_up.rs`). What was damaged is kept aside.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kv_core::{NodeId, ShardId, Version};

use crate::access::Access;
use crate::client::Client;
use crate::data_folder::{self, DataFolderError};
use crate::engine::{self, EngineKind};
use crate::error::Fail;
use crate::fs::FileSystem;
use crate::store::{self, StoreError, snapshot};
use crate::wal::{self, WalError};
use crate::wire::proto::{self, peer_client::PeerClient};
use crate::wire::{self, MESSAGE_BYTES_MAX, WireError};

/// Where the snapshot lies until it is loaded.
const FETCHED: &str = "snapshot-repair.part";
/// Where what was damaged is kept.
const ASIDE: &str = "damaged-";

/// Why a folder was not repaired. It is as damaged as it was.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The folder cannot be used.
    #[error(transparent)]
    DataFolder(#[from] DataFolderError),
    /// The peer cannot be asked.
    #[error(transparent)]
    Peer(#[from] Fail),
    /// The peer is the node that is to be repaired.
    #[error("{peer} is the very node whose data is damaged; name another member of its shard")]
    Itself {
        /// Its address.
        peer: String,
    },
    /// The peer belongs to another shard, or to none.
    #[error("{peer} is no member of a shard that counts {node} among its voters: {voters}")]
    Stranger {
        /// Its address.
        peer: String,
        /// The node that is to be repaired.
        node: NodeId,
        /// The members of the peer's shard.
        voters: String,
    },
    /// The peer's own disk may have lost something.
    #[error("{peer} may itself have lost what it had synced; name another member of the shard")]
    Suspect {
        /// Its address.
        peer: String,
    },
    /// The transfer broke.
    #[error("lost {peer} while it sent its snapshot ({}); run the command again", .status.message())]
    Broken {
        /// Its address.
        peer: String,
        /// What gRPC said.
        status: tonic::Status,
    },
    /// The peer sent something else.
    #[error("{peer} sent what makes no sense ({source}); is it of the same version?")]
    Senseless {
        /// Its address.
        peer: String,
        /// What was wrong.
        source: WireError,
    },
    /// The folder failed.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the file system said.
        source: io::Error,
    },
    /// The store cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log cannot be written.
    #[error(transparent)]
    Wal(#[from] WalError),
}

/// What a repair came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// Whose folder it is.
    pub node: NodeId,
    /// The shard.
    pub shard: ShardId,
    /// The last entry that was taken from the peer.
    pub at: Version,
    /// The size of the snapshot in bytes.
    pub bytes: u64,
    /// The files that were kept aside.
    pub aside: Vec<String>,
}

/// The peer that gives everything, and how to reach it.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its address, `HOST:PORT`.
    pub address: String,
    /// How long to wait for it to answer.
    pub timeout: Duration,
    /// How to show that one is a member of the cluster.
    pub access: Access,
}

fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> RepairError {
    move |source| RepairError::Io { doing, source }
}

/// Replaces the engine and the log of a folder by what a peer has.
///
/// # Errors
/// Says what is in the way; the folder is then as it was.
pub async fn repair(
    file_system: &Arc<dyn FileSystem>,
    peer: &Source,
    kind: Option<EngineKind>,
    options: engine::Options,
) -> Result<Repaired, RepairError> {
    let (claim, node) = data_folder::claim_as_owner(file_system.as_ref()).await?;
    let shard = ask(peer, node).await?;
    let fetched = fetch(file_system, peer).await?;
    let new = match store::current_generation(file_system.as_ref()) {
        Ok(Some(old)) => old.next(kind.unwrap_or(old.kind)),
        // It does not say which engine counts: one more reason for a repair.
        Ok(None) | Err(StoreError::Pointer { .. }) => {
            store::fresh_generation(file_system.as_ref(), kind.unwrap_or_default())?
        }
        Err(error) => return Err(error.into()),
    };
    let mut old = store::engine_files(file_system.as_ref())?;
    old.retain(|file| !file.starts_with(&new.name()));
    let position = snapshot::load(file_system, &fetched, new, options)?;
    let names = file_system.list("").map_err(failed("list the folder"))?;
    let taken = |aside: &String| names.contains(aside);
    let aside = (1..).map(|number: u64| format!("{ASIDE}{number}"));
    let aside = aside.into_iter().find(|aside| !taken(aside));
    let aside = aside.unwrap_or_else(|| ASIDE.to_owned());
    // From here on the log is still damaged, so no node starts on the folder, until it is restarted as a suspect one.
    store::make_current_generation(file_system, new).await?;
    let mut kept = wal::repair::start_over(file_system.as_ref(), &position.names, &aside).await?;
    for file in old {
        let to = format!("{aside}/{file}");
        file_system
            .rename(&file, &to)
            .map_err(failed("keep the old engine aside"))?;
        kept.push(to);
    }
    file_system
        .remove(FETCHED)
        .map_err(failed("remove the snapshot"))?;
    file_system
        .sync_names()
        .await
        .map_err(failed("sync the folder"))?;
    drop(claim);
    Ok(Repaired {
        node,
        shard,
        at: fetched.at,
        bytes: fetched.bytes,
        aside: kept,
    })
}

/// Asks the peer who it is; returns its shard.
async fn ask(peer: &Source, node: NodeId) -> Result<ShardId, RepairError> {
    let info = Client::info(&peer.address, peer.timeout, false, &peer.access).await?;
    let peer = peer.address.clone();
    let status = info.status.ok_or_else(|| Fail::Unreachable {
        tried: vec![peer.clone()],
    })?;
    if status.node == node {
        return Err(RepairError::Itself { peer });
    }
    if status.is_suspect {
        return Err(RepairError::Suspect { peer });
    }
    let view = status
        .shard
        .and_then(|shard| Some((shard, info.cluster.shards.get(&shard)?)));
    match view {
        Some((shard, view)) if view.voters.contains(&node) => Ok(shard),
        view => {
            let voters = view.map(|(_, view)| view.voters.iter().map(NodeId::to_string));
            let voters: Vec<String> = voters.into_iter().flatten().collect();
            let voters = match voters.is_empty() {
                true => "it has no shard".to_owned(),
                false => voters.join(", "),
            };
            Err(RepairError::Stranger { peer, node, voters })
        }
    }
}

/// Fetches the peer's snapshot into a file.
async fn fetch(
    file_system: &Arc<dyn FileSystem>,
    from: &Source,
) -> Result<snapshot::Snapshot, RepairError> {
    let peer = &from.address;
    let file = file_system
        .open(FETCHED)
        .map_err(failed("open a file for the snapshot"))?;
    file.set_len(0)
        .map_err(failed("clear the file for the snapshot"))?;
    let broken = |status| RepairError::Broken {
        peer: peer.to_owned(),
        status,
    };
    let unreachable = || {
        RepairError::Peer(Fail::Unreachable {
            tried: vec![peer.to_owned()],
        })
    };
    let endpoint = from.access.endpoint(peer);
    let endpoint = endpoint
        .map_err(|_| unreachable())?
        .connect_timeout(from.timeout);
    let channel = endpoint.connect().await.map_err(|_| unreachable())?;
    let mut client = PeerClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let chunks = client
        .download(from.access.request(proto::DownloadRequest {}))
        .await;
    let mut chunks = chunks.map_err(broken)?.into_inner();
    let (mut received, mut at) = (0, None);
    // Its first chunk may take as long as the peer needs to write the snapshot.
    while let Some(chunk) = chunks.message().await.map_err(broken)? {
        let chunk = wire::chunk_from_proto(chunk).map_err(|source| RepairError::Senseless {
            peer: peer.to_owned(),
            source,
        })?;
        let is_next = chunk.position == received && at.is_none_or(|at| at == chunk.at);
        if !is_next || crc32fast::hash(&chunk.bytes) != chunk.crc {
            return Err(broken(tonic::Status::data_loss("a part of it is damaged")));
        }
        file.write_at(received, &chunk.bytes)
            .map_err(failed("write the snapshot"))?;
        at = Some(chunk.at);
        received += chunk.bytes.len() as u64;
    }
    file.sync().await.map_err(failed("sync the snapshot"))?;
    let at = at.ok_or_else(|| broken(tonic::Status::data_loss("it sent nothing")))?;
    Ok(snapshot::Snapshot {
        at,
        name: FETCHED.to_owned(),
        bytes: received,
    })
}
