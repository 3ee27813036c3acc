//! Whose data folder it is: a node claims its folder before it touches anything in it.
//!
//! A node is its disk (R18): a folder that is started under another id would vote twice, so the id is written down in
//! `identity`, a line of JSON, together with the format of the whole folder.

use std::io::{self, ErrorKind};

use kv_core::NodeId;
use serde::{Deserialize, Serialize};

use crate::fs::FileSystem;

/// The format of the folder that this program writes and reads.
const FORMAT: u32 = 1;
const IDENTITY: &str = "identity";
const UNFINISHED: &str = "identity.new";
/// No identity is longer.
const IDENTITY_BYTES_MAX: usize = 4096;

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataFolderError {
    /// Another process uses it.
    #[error("{folder} is in use by another process; stop that one, or choose another folder")]
    Locked {
        /// The folder.
        folder: String,
    },
    /// It belongs to another node.
    #[error(
        "{folder} belongs to node {owner}, not to node {node}; choose another folder, or start node {owner}",
        owner = .owner.0,
        node = .node.0
    )]
    OtherNode {
        /// The folder.
        folder: String,
        /// Whose it is.
        owner: NodeId,
        /// Who asked.
        node: NodeId,
    },
    /// A newer version wrote it.
    #[error(
        "{folder} has format {format}, but this program knows formats up to {FORMAT}; run the version that wrote it"
    )]
    Newer {
        /// The folder.
        folder: String,
        /// Its format.
        format: u32,
    },
    /// Its identity makes no sense.
    #[error(
        "the file `{IDENTITY}` in {folder} is unreadable ({source}); bring the folder back from a copy, or choose another folder"
    )]
    Unreadable {
        /// The folder.
        folder: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// It has files and no identity.
    #[error(
        "{folder} has files (`{file}`) but no `{IDENTITY}`: it is no data folder, or half of one; choose an empty folder, or copy the whole one"
    )]
    NoIdentity {
        /// The folder.
        folder: String,
        /// One of the files.
        file: String,
    },
    /// No node has used it.
    #[error("{folder} is no data folder of a node: it has no file `{IDENTITY}`")]
    NoNode {
        /// The folder.
        folder: String,
    },
    /// The file system failed.
    #[error("cannot use {folder}: {source}")]
    Io {
        /// The folder.
        folder: String,
        /// What the file system said.
        source: io::Error,
    },
}

/// The folder is this node's, until this is dropped.
pub struct Guard {
    _lock: Box<dyn Send + Sync>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    format: u32,
    node: u64,
    /// The cluster that the node has joined, once it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster: Option<u64>,
}

/// What every format has, past and to come.
#[derive(Debug, Deserialize)]
struct Format {
    format: u32,
}

/// Locks a folder for a node; an empty one becomes the node's own.
///
/// # Errors
/// One line that says why the folder cannot be used, and what to do. The folder is then as it was.
pub async fn claim(file_system: &dyn FileSystem, node: NodeId) -> Result<Guard, DataFolderError> {
    let folder = || file_system.describe();
    let failed = |source| DataFolderError::Io {
        folder: folder(),
        source,
    };
    let lock = match file_system.lock() {
        Ok(lock) => lock,
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            return Err(DataFolderError::Locked { folder: folder() });
        }
        Err(error) => return Err(failed(error)),
    };
    let names = file_system.list("").map_err(failed)?;
    if names.iter().any(|name| name == IDENTITY) {
        let bytes = read_identity(file_system).map_err(failed)?;
        check_identity(&bytes, node, folder)?;
    } else if let Some(file) = names.into_iter().find(|name| name != UNFINISHED) {
        let folder = folder();
        return Err(DataFolderError::NoIdentity { folder, file });
    } else {
        let identity = Identity {
            format: FORMAT,
            node: node.0,
            cluster: None,
        };
        write_identity(file_system, &identity)
            .await
            .map_err(failed)?;
    }
    // The name may stem from a process that was killed before this.
    file_system.sync_names().await.map_err(failed)?;
    Ok(Guard { _lock: lock })
}

/// Locks the folder of a node, whoever that is, for work on it while the node is down.
///
/// # Errors
/// One line that says why the folder cannot be used, and what to do. The folder is then as it was.
pub async fn claim_as_owner(
    file_system: &dyn FileSystem,
) -> Result<(Guard, NodeId), DataFolderError> {
    let folder = || file_system.describe();
    let names = file_system.list("");
    let names = names.map_err(|source| DataFolderError::Io {
        folder: folder(),
        source,
    })?;
    if !names.iter().any(|name| name == IDENTITY) {
        return Err(DataFolderError::NoNode { folder: folder() });
    }
    let bytes = read_identity(file_system).map_err(|source| DataFolderError::Io {
        folder: folder(),
        source,
    })?;
    let node = NodeId(parse_identity(&bytes, folder)?.node);
    Ok((claim(file_system, node).await?, node))
}

/// Says of which cluster a claimed folder is; one that is of none yet becomes this one's, durably.
///
/// # Errors
/// When the folder cannot be read or written.
pub async fn join(file_system: &dyn FileSystem, cluster: u64) -> Result<u64, DataFolderError> {
    let folder = || file_system.describe();
    let failed = |source| DataFolderError::Io {
        folder: folder(),
        source,
    };
    let names = file_system.list("").map_err(failed)?;
    if !names.iter().any(|name| name == IDENTITY) {
        return Ok(cluster); // Nobody has claimed it, so nothing is kept in it.
    }
    let bytes = read_identity(file_system).map_err(failed)?;
    let identity = parse_identity(&bytes, folder)?;
    if let Some(joined) = identity.cluster {
        return Ok(joined);
    }
    let joined = Identity {
        cluster: Some(cluster),
        ..identity
    };
    write_identity(file_system, &joined).await.map_err(failed)?;
    file_system.sync_names().await.map_err(failed)?;
    Ok(cluster)
}

fn read_identity(file_system: &dyn FileSystem) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; IDENTITY_BYTES_MAX];
    let count = file_system.open(IDENTITY)?.read_at(0, &mut bytes)?;
    bytes.truncate(count);
    Ok(bytes)
}

fn check_identity(
    bytes: &[u8],
    node: NodeId,
    folder: impl Fn() -> String,
) -> Result<(), DataFolderError> {
    let identity = parse_identity(bytes, &folder)?;
    if identity.node != node.0 {
        return Err(DataFolderError::OtherNode {
            folder: folder(),
            owner: NodeId(identity.node),
            node,
        });
    }
    Ok(())
}

fn parse_identity(bytes: &[u8], folder: impl Fn() -> String) -> Result<Identity, DataFolderError> {
    let unreadable = |source| DataFolderError::Unreadable {
        folder: folder(),
        source,
    };
    // The format first: what else a newer one holds, this program cannot know.
    let Format { format } = serde_json::from_slice(bytes).map_err(unreadable)?;
    if format > FORMAT {
        let folder = folder();
        return Err(DataFolderError::Newer { folder, format });
    }
    serde_json::from_slice(bytes).map_err(unreadable)
}

/// Whole or not at all: written beside, synced, and then given its name.
async fn write_identity(file_system: &dyn FileSystem, identity: &Identity) -> io::Result<()> {
    let mut line = serde_json::to_vec(identity)?;
    line.push(b'\n');
    let file = file_system.open(UNFINISHED)?;
    file.set_len(0)?;
    file.write_at(0, &line)?;
    file.sync().await?;
    file_system.rename(UNFINISHED, IDENTITY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::memory::MemoryFileSystem;

    async fn refusal(folder: &MemoryFileSystem, node: u64) -> String {
        let before = folder.list("").unwrap();
        let error = claim(folder, NodeId(node)).await.map(|_| ()).unwrap_err();
        assert_eq!(folder.list("").unwrap(), before, "nothing was written");
        let line = error.to_string();
        assert!(!line.contains('\n') && line.contains("a folder in memory"));
        line
    }

    fn folder_with_identity(content: &str) -> MemoryFileSystem {
        let folder = MemoryFileSystem::default();
        let file = folder.open(IDENTITY).unwrap();
        file.write_at(0, content.as_bytes()).unwrap();
        folder
    }

    #[tokio::test]
    async fn a_folder_stays_with_its_first_node() {
        let folder = MemoryFileSystem::default();
        drop(claim(&folder, NodeId(7)).await.unwrap());
        drop(claim(&folder, NodeId(7)).await.unwrap());
        let line = refusal(&folder, 8).await;
        assert!(line.contains("belongs to node 7, not to node 8"), "{line}");
    }

    #[tokio::test]
    async fn a_folder_has_one_holder_at_a_time() {
        let folder = MemoryFileSystem::default();
        let guard = claim(&folder, NodeId(7)).await.unwrap();
        let line = refusal(&folder, 7).await;
        assert!(line.contains("in use by another process"), "{line}");
        drop(guard);
        drop(claim(&folder, NodeId(7)).await.unwrap());
    }

    #[tokio::test]
    async fn a_newer_format_is_refused_whatever_else_it_holds() {
        let folder = folder_with_identity(r#"{"format": 2, "name": "seven"}"#);
        let line = refusal(&folder, 7).await;
        assert!(line.contains("has format 2"), "{line}");
    }

    #[tokio::test]
    async fn an_unreadable_identity_is_refused() {
        for content in [
            "",
            "{",
            "7",
            r#"{"node": 7}"#,
            r#"{"format": 1, "node": 7, "x": 1}"#,
        ] {
            let line = refusal(&folder_with_identity(content), 7).await;
            assert!(line.contains("unreadable"), "{line}");
        }
    }

    #[tokio::test]
    async fn a_folder_with_files_of_unknown_owner_is_refused() {
        let folder = MemoryFileSystem::default();
        folder.open("wal-0000000001").unwrap();
        let line = refusal(&folder, 7).await;
        assert!(line.contains("wal-0000000001"), "{line}");
    }

    #[tokio::test]
    async fn an_unfinished_identity_is_written_again() {
        let folder = MemoryFileSystem::default();
        let file = folder.open(UNFINISHED).unwrap();
        file.write_at(0, &[b'x'; 100]).unwrap();
        drop(claim(&folder, NodeId(7)).await.unwrap());
        drop(claim(&folder, NodeId(7)).await.unwrap());
        assert_eq!(folder.list("").unwrap(), [IDENTITY]);
    }
}
