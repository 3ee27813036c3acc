//! Engines: where committed data lies on disk, under the write-ahead log.
//!
//! An engine is an ordered map of bytes and knows nothing of the protocol. What the bytes mean, which of them change
//! together, and how far the log has been applied is the store's business (`store.rs`): it collects what was committed in memory
//! and hands it over in one batch at each checkpoint, so an engine sees few and large writes and needs no log of its own.
//!
//! | kind | what it is |
//! |---|---|
//! | `memory` | a sorted map, and a file of its batches that is written anew when it has grown |
//! | `redb` (default) | a copy-on-write B-tree in one file, over our own [`FileSystem`] |
//! | `sled` | a log-structured tree with threads of its own; needs a real folder |
//! | `rocksdb` | a log-structured merge tree; needs a real folder, and a build with the feature `rocksdb` |

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;

use crate::fs::FileSystem;

/// A durable, ordered map of bytes.
///
/// Contract, asserted for every implementation by `conformance::check`:
/// 1. `write` is atomic and durable: once it returned `Ok` the whole batch survives a crash, and a crash before leaves all of it
///    or nothing; within a batch, the last change of a key counts;
/// 2. `get` and `scan` see every `write` that returned before them; they may be called from other threads while a `write` runs,
///    and see all of it or nothing;
/// 3. `scan` goes in the order of the bytes of the keys, and returns at least one pair where there is one;
/// 4. after any `Err` of `write` the engine is poisoned: each later call errs, and only reopening helps;
/// 5. an engine that is opened again holds what it held.
pub trait Engine: Send + Sync {
    /// The value at a key.
    ///
    /// # Errors
    /// When the disk or the library fails, or the engine is poisoned.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError>;
    /// The pairs whose keys lie in the range, in order, until their keys and values have `bytes_max` bytes.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    fn scan(&self, keys: Range<&[u8]>, bytes_max: usize) -> Result<Vec<Pair>, EngineError>;
    /// Changes all of these keys, durably, or none. One caller at a time; it blocks until the disk is done.
    ///
    /// # Errors
    /// When the disk or the library fails: the engine is poisoned then.
    fn write(&self, changes: Vec<Change>) -> Result<(), EngineError>;
}

/// A key and its value.
pub type Pair = (Bytes, Bytes);

/// What becomes of a key: a new value, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Bytes,
    /// Its value from now on; nothing takes the key away.
    pub value: Option<Bytes>,
}

/// Which engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum EngineKind {
    /// A sorted map in memory, with its batches in a file.
    Memory,
    /// The default.
    #[default]
    Redb,
    /// A log-structured tree.
    Sled,
    /// A log-structured merge tree; only in a build with the feature.
    Rocksdb,
}

impl EngineKind {
    /// All of them, whether this build has them or not.
    pub const ALL: [Self; 4] = [Self::Memory, Self::Redb, Self::Sled, Self::Rocksdb];

    /// The name, as it is written in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redb => "redb",
            Self::Sled => "sled",
            Self::Rocksdb => "rocksdb",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// There is no such engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no engine \"{0}\"; the engines are: memory, redb, sled, rocksdb")]
pub struct UnknownEngine(String);

impl FromStr for EngineKind {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Self, UnknownEngine> {
        let known = Self::ALL.into_iter().find(|kind| kind.name() == name);
        known.ok_or_else(|| UnknownEngine(name.to_owned()))
    }
}

/// What can be chosen about an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How much memory it may use for what it has read, in bytes.
    pub cache_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 64 * 1024 * 1024,
        }
    }
}

/// Why an engine refused.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// An earlier call failed; only reopening helps.
    #[error("the engine is poisoned by an earlier error; restart the node to reopen it")]
    Poisoned,
}

/// Opens an engine that keeps its files under this name, or begins an empty one.
///
/// # Errors
/// When this build lacks it, the folder is not what it needs, or its files cannot be read.
pub fn open(
    kind: EngineKind,
    _options: Options,
    _file_system: &Arc<dyn FileSystem>,
    _name: &str,
) -> Result<Arc<dyn Engine>, EngineError> {
    let _ = kind;
    Err(EngineError::Poisoned)
}
