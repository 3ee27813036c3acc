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
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;

use crate::fs::FileSystem;

pub mod conformance;
mod error;
mod memory;
mod poison;
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
mod sled;

pub use error::EngineError;

/// A durable, ordered map of bytes.
///
/// Contract, asserted for every implementation by `conformance::check`:
/// 1. `write` is atomic and durable: once it returned `Ok` the whole batch survives a crash, and a crash before leaves all of it
///    or nothing; within a batch, the last change of a key counts;
/// 2. `get` and `scan` see every `write` that returned before them; they may be called from other threads while a `write` runs,
///    and see all of it or nothing;
/// 3. `scan` goes in the order of the bytes of the keys, and returns at least one pair where there is one; an empty or upside-down
///    range has none;
/// 4. after any `Err` the engine is poisoned: each later call errs, and only reopening helps;
/// 5. an engine that is opened again holds what it held.
pub trait Engine: Send + Sync {
    /// The value at a key.
    ///
    /// # Errors
    /// When the disk or the library fails, or the engine is poisoned.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError>;
    /// The pairs whose keys lie in the range, in order, as many as have `bytes_max` bytes together, or the first alone. There may be
    /// more behind the last one: only an empty answer is the end.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    fn scan(&self, keys: Range<&[u8]>, bytes_max: usize) -> Result<Vec<Pair>, EngineError>;
    /// Changes all of these keys, durably, or none. One caller at a time; it blocks until the disk is done.
    ///
    /// # Errors
    /// When the disk or the library fails: the engine is poisoned then.
    fn write(&self, changes: Vec<Change>) -> Result<(), EngineError>;
    /// How many bytes its files have.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    fn bytes_on_disk(&self) -> Result<u64, EngineError>;
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

/// Opens an engine that keeps its files under this name, or begins an empty one. Whoever calls it has claimed the folder.
///
/// # Errors
/// When this build lacks it, the folder is not what it needs, or its files cannot be read.
pub fn open(
    kind: EngineKind,
    options: Options,
    file_system: &Arc<dyn FileSystem>,
    name: &str,
) -> Result<Arc<dyn Engine>, EngineError> {
    let file = file_name(kind, name);
    Ok(match kind {
        EngineKind::Memory => Arc::new(memory::MemoryEngine::open(file_system, &file)?),
        EngineKind::Redb => Arc::new(redb::RedbEngine::open(options, file_system, &file)?),
        EngineKind::Sled => {
            let folder = real_folder(kind, file_system.as_ref(), &file)?;
            Arc::new(sled::SledEngine::open(options, &folder)?)
        }
        #[cfg(feature = "rocksdb")]
        EngineKind::Rocksdb => {
            let folder = real_folder(kind, file_system.as_ref(), &file)?;
            Arc::new(rocksdb::RocksdbEngine::open(options, &folder)?)
        }
        #[cfg(not(feature = "rocksdb"))]
        EngineKind::Rocksdb => return Err(EngineError::NotBuilt { engine: kind }),
    })
}

/// The files and folders of an engine that is kept under this name; not all of them are always there.
#[must_use]
pub fn files(kind: EngineKind, name: &str) -> [String; 2] {
    let file = file_name(kind, name);
    let unfinished = unfinished(&file);
    [file, unfinished]
}

/// Takes the files of an engine away, durably, whether this build has that engine or not. Nobody may have it open.
///
/// # Errors
/// When the file system fails.
pub fn remove(
    kind: EngineKind,
    file_system: &dyn FileSystem,
    name: &str,
) -> Result<(), EngineError> {
    for file in files(kind, name) {
        match file_system.remove(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.map_err(EngineError::io("remove the engine"))?,
        }
    }
    let synced = file_system.sync_names_now();
    synced.map_err(EngineError::io("sync the removal of the engine"))
}

/// Whether there is an engine under this name. To open one that is not there would begin an empty one.
///
/// # Errors
/// When the file system fails.
pub fn is_there(
    kind: EngineKind,
    file_system: &dyn FileSystem,
    name: &str,
) -> Result<bool, EngineError> {
    let file = file_name(kind, name);
    // A library's own folder may be there without what it looks for in it.
    let file = match kind {
        EngineKind::Memory | EngineKind::Redb => file,
        EngineKind::Sled => format!("{file}/db"),
        EngineKind::Rocksdb => format!("{file}/CURRENT"),
    };
    exists(file_system, &file).map_err(EngineError::io("look for the engine"))
}

fn file_name(kind: EngineKind, name: &str) -> String {
    format!("{name}.{kind}")
}

/// Under which name a file is written until it may take its own.
fn unfinished(file: &str) -> String {
    format!("{file}.new")
}

/// Whether there is a file of that name.
fn exists(file_system: &dyn FileSystem, file: &str) -> io::Result<bool> {
    let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
    Ok(file_system
        .list(folder)?
        .iter()
        .any(|listed| listed == name))
}

fn real_folder(
    kind: EngineKind,
    file_system: &dyn FileSystem,
    file: &str,
) -> Result<PathBuf, EngineError> {
    let folder = file_system
        .real_folder(file)
        .map_err(|source| match source.kind() {
            io::ErrorKind::Unsupported => EngineError::NeedsFolder { engine: kind },
            _ => EngineError::io("make the engine's folder")(source),
        })?;
    let synced = file_system.sync_names_now();
    synced.map_err(EngineError::io("sync the name of the engine's folder"))?;
    Ok(folder)
}

/// Gathers the pairs of one scan: at least one, and no more than may be.
struct Page {
    pairs: Vec<Pair>,
    bytes_left: usize,
}

impl Page {
    fn new(bytes_max: usize) -> Self {
        Self {
            pairs: Vec::new(),
            bytes_left: bytes_max,
        }
    }

    /// Takes a pair, unless the page is full.
    fn take(&mut self, key: &[u8], value: &[u8]) -> bool {
        let bytes = key.len() + value.len();
        if bytes > self.bytes_left && !self.pairs.is_empty() {
            return false;
        }
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        let pair = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        self.pairs.push(pair);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::memory::MemoryFileSystem;
    use crate::fs::os::OsFileSystem;

    fn check(kind: EngineKind, file_system: Arc<dyn FileSystem>) {
        conformance::check(kind, &file_system);
        conformance::check_readers(kind, &file_system);
        assert!(
            file_system
                .list("")
                .unwrap()
                .iter()
                .all(|name| !name.contains(kind.name())),
            "a removed engine leaves nothing"
        );
    }

    fn check_in_a_real_folder(kind: EngineKind) {
        let folder = tempfile::tempdir().unwrap();
        check(kind, Arc::new(OsFileSystem::open(folder.path()).unwrap()));
    }

    #[test]
    fn memory_keeps_the_contract() {
        check(EngineKind::Memory, Arc::new(MemoryFileSystem::default()));
        check_in_a_real_folder(EngineKind::Memory);
    }

    #[test]
    fn redb_keeps_the_contract() {
        check(EngineKind::Redb, Arc::new(MemoryFileSystem::default()));
        check_in_a_real_folder(EngineKind::Redb);
    }

    #[test]
    fn sled_keeps_the_contract() {
        check_in_a_real_folder(EngineKind::Sled);
    }

    #[cfg(feature = "rocksdb")]
    #[test]
    fn rocksdb_keeps_the_contract() {
        check_in_a_real_folder(EngineKind::Rocksdb);
    }

    fn refusal(kind: EngineKind) -> String {
        let folder: Arc<dyn FileSystem> = Arc::new(MemoryFileSystem::default());
        let opened = open(kind, Options::default(), &folder, "data");
        opened.err().unwrap().to_string()
    }

    #[cfg(not(feature = "rocksdb"))]
    #[test]
    fn an_engine_that_this_build_lacks_says_what_to_build_with() {
        let refusal = refusal(EngineKind::Rocksdb);
        assert!(
            refusal.contains("build with --features rocksdb"),
            "{refusal}"
        );
    }

    #[test]
    fn an_engine_with_files_of_its_own_needs_a_real_folder() {
        let refusal = refusal(EngineKind::Sled);
        assert!(refusal.contains("sled needs a real folder"), "{refusal}");
    }

    #[test]
    fn engines_have_the_names_that_they_are_written_with() {
        for kind in EngineKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        let error = "rocks".parse::<EngineKind>().unwrap_err();
        assert!(error.to_string().contains("the engines are: memory, redb"));
    }
}
