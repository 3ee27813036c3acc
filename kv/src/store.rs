//! The store: what committed entries are applied to and what reads are answered from, over an [`Engine`].
//!
//! ```text
//!   apply ──► active ── begin_checkpoint ──► frozen ── one batch, on a thread of its own ──► engine
//!               ▲                              ▲                                               ▲
//!   get ────────┴── not there? ────────────────┴── not there? ─────────────────────────────────┘
//! ```
//!
//! What was applied since the last checkpoint is in memory, and in the write-ahead log. A checkpoint takes all of it and writes it to
//! the engine in one atomic, durable batch, together with the position that it brings the engine to: so a replay of the log after a
//! crash goes on exactly where the engine stopped, and nothing is ever applied twice. The engine sees few and large writes, a key that
//! is written often is written once, and the node's driver never waits for the engine's disk.
//!
//! Under the plain protocol what is committed may be taken back, so nothing is ever certain enough for a checkpoint: there the store
//! lives in memory, and is filled again from the whole log after a restart.
//!
//! Every opening, and every snapshot that is taken over, is a *generation* of engine files (`generation.rs`); one small file says which
//! one counts.

use std::sync::Arc;

use bytes::Bytes;
use kv_core::{Entry, Log, Operation, Version};

use crate::engine::{self, Engine, EngineError, EngineKind};
use crate::fs::FileSystem;

mod error;
mod flush;
mod generation;
mod overlay;
mod rows;
pub mod snapshot;
#[cfg(test)]
mod tests;

pub use error::StoreError;
pub use flush::Flush;
pub use generation::{
    Generation, Migration, current as current_generation, discard as discard_generation,
    engine_files, fresh as fresh_generation, inspect, make_current as make_current_generation,
    migrate,
};
pub use rows::Position;

use overlay::Overlay;

/// A batch of consecutive committed entries.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The entries; the first stands right after what was applied before.
    pub entries: Vec<Entry>,
    /// The chained CRC-32 of the log up to the last of them.
    pub chain: u32,
}

/// How far a store has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The last applied entry.
    pub version: Version,
    /// The chained CRC-32 of the log up to it.
    pub chain: u32,
}

/// What a store knows of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The entry that wrote the value, or that deleted it.
    pub version: Version,
    /// The value; nothing after a delete that is still remembered.
    pub value: Option<Bytes>,
}

/// What can be chosen about a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A checkpoint is due when so many bytes of log have been applied since the last one. It bounds what a restart replays.
    pub checkpoint_bytes: u64,
    /// How many deletes are remembered; the oldest is forgotten first.
    pub tombstones_max: u64,
    /// What can be chosen about the engine.
    pub engine: engine::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            checkpoint_bytes: 32 * 1024 * 1024,
            tombstones_max: 65_536,
            engine: engine::Options::default(),
        }
    }
}

/// A checkpoint is also due when what it would write takes so much memory.
const OVERLAY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The most bytes that are read from the engine at once.
const SCAN_BYTES: usize = 1024 * 1024;

/// A store. Cheap and synchronous but for what an engine reads from its disk.
pub struct Store {
    generation: Generation,
    engine: Arc<dyn Engine>,
    options: Options,
    /// Whether it takes checkpoints.
    is_kept: bool,
    /// What was applied since the last checkpoint began.
    active: Overlay,
    /// What the checkpoint that is under way writes.
    frozen: Option<Arc<Overlay>>,
    applied: Applied,
    /// How far the engine has got.
    durable: Position,
    /// What it was that made it useless.
    poisoned: Option<String>,
}

impl Store {
    /// Opens the store of a data folder, or begins one. Without `is_kept` it begins empty and takes no checkpoints.
    ///
    /// # Errors
    /// When the folder holds another engine, or the engine cannot be opened.
    pub async fn open(
        file_system: &Arc<dyn FileSystem>,
        kind: EngineKind,
        options: Options,
        is_kept: bool,
    ) -> Result<Self, StoreError> {
        let (generation, engine) =
            generation::open_or_begin(file_system, kind, options.engine, is_kept).await?;
        let durable = rows::position(engine.as_ref())?;
        Ok(Self {
            generation,
            engine,
            options,
            is_kept,
            active: Overlay::default(),
            frozen: None,
            applied: durable.applied(),
            durable,
            poisoned: None,
        })
    }

    /// What is known of a key.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn get(&self, key: &[u8]) -> Result<Option<Found>, StoreError> {
        self.refuse_if_poisoned()?;
        let row = rows::row_key(key);
        let recent = self.active.get(&row);
        if let Some(found) = recent.or_else(|| self.frozen.as_ref()?.get(&row)) {
            return Ok(Some(found.clone()));
        }
        match self.engine.get(&row)? {
            Some(value) => Ok(Some(rows::decode_row(&row, value)?)),
            None => Ok(None),
        }
    }

    /// Applies a batch, all of it or nothing.
    ///
    /// # Errors
    /// When it does not follow what was applied: the store is poisoned then.
    pub fn apply(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.refuse_if_poisoned()?;
        let mut last = self.applied.version.offset;
        for entry in &batch.entries {
            if entry.version.offset != last.next() {
                let gap = StoreError::Gap {
                    starts: entry.version.offset,
                    applied: last,
                };
                self.poisoned = Some(gap.to_string());
                return Err(gap);
            }
            last = entry.version.offset;
        }
        let Some(end) = batch.entries.last() else {
            return Ok(());
        };
        for entry in &batch.entries {
            let (key, value) = match &entry.operation {
                Operation::EpochStart => continue,
                Operation::Set { key, value } => (key, Some(value.clone())),
                Operation::Delete { key } => (key, None),
            };
            let version = entry.version;
            self.active
                .set(rows::row_key(key), Found { version, value });
        }
        self.applied = Applied {
            version: end.version,
            chain: batch.chain,
        };
        Ok(())
    }

    /// How far the store has got.
    #[must_use]
    pub fn applied(&self) -> Applied {
        self.applied
    }

    /// How far it has got durably: what a crash leaves.
    #[must_use]
    pub fn durable(&self) -> &Position {
        &self.durable
    }

    /// The engine files that are used.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The engine under it.
    #[must_use]
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// Takes the position back to `to` without undoing what was applied above it. Only the plain protocol truncates what it has
    /// applied; keys then keep values that the log has forgotten.
    ///
    /// # Panics
    /// When it was never there, or has taken a checkpoint since.
    pub fn rewind(&mut self, to: Applied) {
        assert!(
            to.version.offset <= self.applied.version.offset,
            "a store is rewound to a place that it has passed"
        );
        assert!(
            to.version.offset >= self.durable.applied().version.offset,
            "R5: what a checkpoint holds stays"
        );
        self.applied = to;
    }

    /// Whether a checkpoint is due, and none is under way.
    #[must_use]
    pub fn wants_checkpoint(&self) -> bool {
        self.is_kept && self.frozen.is_none() && self.is_heavy(1)
    }

    /// Whether so much was applied since the last checkpoint began that nothing more should be before the next one begins: whatever
    /// is in its way, be it another checkpoint, is to be waited for.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.is_kept && self.is_heavy(2)
    }

    fn is_heavy(&self, times: u64) -> bool {
        let memory = u64::try_from(OVERLAY_BYTES_MAX).unwrap_or(u64::MAX);
        self.active.log_bytes() >= times * self.options.checkpoint_bytes
            || self.active.memory_bytes() >= times * memory
    }

    /// Begins a checkpoint: what [`Flush::run`] writes, on whatever thread. `names` are those of the log up to what is applied.
    /// Nothing, if there is nothing to write, or a checkpoint is under way.
    ///
    /// # Panics
    /// When the names are those of another place.
    pub fn begin_checkpoint(&mut self, names: Log) -> Option<Flush> {
        assert!(
            names.end() == self.applied.version,
            "a checkpoint has the names of what it holds"
        );
        if !self.is_kept || self.frozen.is_some() || names.end() == self.durable.names.end() {
            return None;
        }
        let frozen = Arc::new(std::mem::take(&mut self.active));
        self.frozen = Some(Arc::clone(&frozen));
        let chain = self.applied.chain;
        Some(Flush {
            engine: Arc::clone(&self.engine),
            changes: frozen,
            position: Position {
                names,
                chain,
                tombstones: self.durable.tombstones,
            },
            tombstones_max: self.options.tombstones_max,
        })
    }

    /// The checkpoint that was under way is durable.
    pub fn end_checkpoint(&mut self, position: Position) {
        self.frozen = None;
        self.durable = position;
    }

    /// Goes on with another generation of engine files, which a snapshot was loaded into: it is the one that counts from now on.
    ///
    /// # Errors
    /// When the folder or the new engine fails; nothing is lost then, and the node must stop.
    ///
    /// # Panics
    /// When a checkpoint is under way, or the generation has less than the store.
    pub async fn switch(
        &mut self,
        file_system: &Arc<dyn FileSystem>,
        generation: Generation,
    ) -> Result<(), StoreError> {
        assert!(self.frozen.is_none(), "one thing at a time");
        let engine = generation.engine(file_system, self.options.engine)?;
        let durable = rows::position(engine.as_ref())?;
        assert!(
            durable.applied().version.offset >= self.applied.version.offset,
            "R5: a snapshot takes nothing back"
        );
        generation::make_current(file_system, generation).await?;
        let old = std::mem::replace(&mut self.generation, generation);
        self.engine = engine;
        self.active = Overlay::default();
        self.applied = durable.applied();
        self.durable = durable;
        generation::discard(file_system, old)
    }

    /// The CRC-32 over all live keys, values and versions in the order of slots and keys: equal contents, equal digest. It reads
    /// everything.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn digest(&self) -> Result<u32, StoreError> {
        let mut hasher = crc32fast::Hasher::new();
        self.for_each_row(&mut |key, found| {
            let Some(value) = &found.value else { return };
            // The lengths keep `ab` + `c` apart from `a` + `bc`.
            hasher.update(&(key.len() as u64).to_le_bytes());
            hasher.update(key);
            hasher.update(&(value.len() as u64).to_le_bytes());
            hasher.update(value);
            hasher.update(&found.version.epoch.0.to_le_bytes());
            hasher.update(&found.version.offset.0.to_le_bytes());
        })?;
        Ok(hasher.finalize())
    }

    /// Tells of every row, tombstones too, in the order of slots and keys.
    fn for_each_row(&self, tell: &mut dyn FnMut(&[u8], &Found)) -> Result<(), StoreError> {
        self.refuse_if_poisoned()?;
        let mut recent = Overlay::merged(self.frozen.as_deref(), &self.active).peekable();
        let mut from = Bytes::from_static(rows::ROWS);
        loop {
            let stored = self.engine.scan(&from..rows::ROWS_END, SCAN_BYTES)?;
            let Some((last, _)) = stored.last() else {
                break;
            };
            from = rows::after(last);
            for (row, value) in stored {
                while let Some((key, found)) = recent.next_if(|(key, _)| **key < row) {
                    tell(rows::user_key(key), found);
                }
                match recent.next_if(|(key, _)| **key == row) {
                    Some((key, found)) => tell(rows::user_key(key), found),
                    None => {
                        let found = rows::decode_row(&row, value)?;
                        tell(rows::user_key(&row), &found);
                    }
                }
            }
        }
        recent.for_each(|(key, found)| tell(rows::user_key(key), found));
        Ok(())
    }

    fn refuse_if_poisoned(&self) -> Result<(), StoreError> {
        match self.poisoned.clone() {
            Some(first) => Err(EngineError::Poisoned { first }.into()),
            None => Ok(()),
        }
    }
}
