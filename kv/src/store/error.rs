//! Why a store cannot be used.

use std::io;

use kv_core::Offset;

use crate::engine::{EngineError, EngineKind};

/// Why a store refused. The node must stop; nothing that was acknowledged is lost, since the log has it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The file system failed.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the file system said.
        source: io::Error,
    },
    /// The batch does not follow what was applied.
    #[error("a batch starts at offset {starts}, but the store has applied up to {applied}")]
    Gap {
        /// The first offset of the batch.
        starts: Offset,
        /// What was applied before.
        applied: Offset,
    },
    /// The engine holds bytes that this store never wrote.
    #[error(
        "the engine holds {what} that makes no sense: its files are damaged, or are not a store's. Take them from a peer: `kv repair --from PEER DIR`"
    )]
    Senseless {
        /// What it was.
        what: &'static str,
    },
    /// The folder was written with another engine.
    #[error(
        "{folder} holds engine {held}, and not {wanted}; start the node with `--engine {held}`, or change the folder: `kv data migrate --to {wanted} {folder}`"
    )]
    OtherEngine {
        /// The folder.
        folder: String,
        /// What it holds.
        held: EngineKind,
        /// What was asked for.
        wanted: EngineKind,
    },
    /// Something that the folder once had is not there.
    #[error(
        "{folder} lacks `{file}`: it was removed, or half of the folder was copied. Bring the whole folder back from a copy, or take everything from a peer: `kv repair --from PEER {folder}`"
    )]
    Missing {
        /// The folder.
        folder: String,
        /// What is missing.
        file: String,
    },
    /// The file that names the engine makes no sense.
    #[error(
        "the file `{file}` in {folder} is unreadable ({why}); bring the folder back from a copy, or take everything from a peer: `kv repair --from PEER {folder}`"
    )]
    Pointer {
        /// The folder.
        folder: String,
        /// The file.
        file: &'static str,
        /// What is wrong with it.
        why: serde_json::Error,
    },
    /// The folder's engine files are of a newer version.
    #[error(
        "{folder} has a store of format {format}, which is newer than this program; run the version that wrote it"
    )]
    Newer {
        /// The folder.
        folder: String,
        /// Its format.
        format: u32,
    },
    /// A snapshot is damaged, or is none.
    #[error("the snapshot {file} is damaged at byte {byte}; it is thrown away and fetched again")]
    Snapshot {
        /// The file.
        file: String,
        /// Where.
        byte: u64,
    },
}

impl StoreError {
    pub(super) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}
