//! What can go wrong with an engine, each with the facts to act on.

use std::io;

use super::EngineKind;

/// Why an engine refused.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// An earlier call failed; only reopening helps.
    #[error("the engine is poisoned by an earlier error; restart the node to reopen it: {first}")]
    Poisoned {
        /// What that call said. Whoever asks next may be the one who is heard.
        first: String,
    },
    /// The file system failed.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the file system said, with the path.
        source: io::Error,
    },
    /// Bytes on disk are not what was written.
    #[error("the engine's file {file} is damaged at byte {byte}: {why}")]
    Damaged {
        /// The file.
        file: String,
        /// Where the damage begins, or the unit that it is in.
        byte: u64,
        /// What is wrong there.
        why: &'static str,
    },
    /// A library found its file in a state that it cannot work with.
    #[error("the engine's file {file} is damaged: {found}")]
    Broken {
        /// The file.
        file: String,
        /// What the library said.
        found: String,
    },
    /// A later version of this program wrote the file.
    #[error(
        "the engine's file {file} has format {format}, and this program knows formats up to {known}"
    )]
    Newer {
        /// The file.
        file: String,
        /// Its format.
        format: u64,
        /// The newest that this program knows.
        known: u64,
    },
    /// This build lacks the engine.
    #[error("this program was built without the engine {engine}; build with --features {engine}")]
    NotBuilt {
        /// Which one.
        engine: EngineKind,
    },
    /// The engine does its own I/O, and the file system is no folder of the operating system.
    #[error("the engine {engine} needs a real folder on disk; this node keeps its data elsewhere")]
    NeedsFolder {
        /// Which one.
        engine: EngineKind,
    },
    /// redb failed in another way.
    #[error("redb, with the file {file}: {source}")]
    Redb {
        /// The file.
        file: String,
        /// What redb said.
        source: Box<redb::Error>,
    },
    /// sled failed.
    #[error("sled: {0}")]
    Sled(#[from] sled::Error),
    /// RocksDB failed.
    #[cfg(feature = "rocksdb")]
    #[error("rocksdb: {0}")]
    Rocksdb(#[from] rocksdb::Error),
}

impl EngineError {
    /// The file system failed at this.
    pub(super) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}
