//! The engine: what committed entries are applied to, and what reads are answered from.

use bytes::Bytes;
use kv_core::{Entry, Offset, Version};

pub mod conformance;
pub mod memory;

/// A batch of consecutive committed entries.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The entries; the first stands right after what was applied before.
    pub entries: Vec<Entry>,
    /// The chained CRC-32 of the log up to the last of them.
    pub chain: u32,
}

/// How far an engine has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The last applied entry.
    pub version: Version,
    /// The chained CRC-32 of the log up to it.
    pub chain: u32,
}

/// What an engine knows of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The entry that wrote the value, or that deleted it.
    pub version: Version,
    /// The value; nothing after a delete that is still remembered.
    pub value: Option<Bytes>,
}

/// A durable ordered map: what a replica applies committed entries to.
///
/// Contract, asserted for every implementation by `conformance::check`:
/// 1. `get` sees every `apply` that returned before it;
/// 2. `apply` is atomic, the applied position included: after a crash the whole batch is there or none of it;
/// 3. once `sync` returns `Ok`, every earlier batch survives a crash (an engine that keeps nothing on disk starts again at
///    offset zero, and the WAL is replayed into it);
/// 4. after any `Err` the engine is poisoned: each later call errs, and only reopening helps.
pub trait Engine: Send {
    /// What is known of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Found>, EngineError>;
    /// Applies a batch, and notes how far the engine has got.
    fn apply(&mut self, batch: &Batch) -> Result<(), EngineError>;
    /// Makes every earlier batch durable.
    fn sync(&mut self) -> Result<(), EngineError>;
    /// How far the engine has got.
    fn applied(&self) -> Applied;
    /// Takes the position back to `to` without undoing what was applied above it. Only the plain protocol
    /// (`fencing = "none"`) truncates what it has applied; keys then keep values that the log has forgotten.
    fn rewind(&mut self, to: Applied) -> Result<(), EngineError>;
    /// The CRC-32 over all live keys, values and versions in key order: equal contents, equal digest.
    fn digest(&self) -> Result<u32, EngineError>;
}

/// Why an engine refused.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// An earlier call failed; only reopening helps.
    #[error("the engine is poisoned by an earlier error; restart the node to reopen it")]
    Poisoned,
    /// The batch does not follow what was applied.
    #[error("a batch starts at offset {starts}, but the engine has applied up to {applied}")]
    Gap {
        /// The first offset of the batch.
        starts: Offset,
        /// What was applied before.
        applied: Offset,
    },
}
