//! After an error an engine is not asked again: what it holds in memory may be ahead of the disk, or behind it.

use std::sync::atomic::{AtomicBool, Ordering};

use super::EngineError;

/// Whether an earlier call failed.
#[derive(Debug, Default)]
pub(super) struct Poison {
    is_poisoned: AtomicBool,
}

impl Poison {
    /// Whether an earlier call failed.
    pub(super) fn is_poisoned(&self) -> bool {
        self.is_poisoned.load(Ordering::Acquire)
    }

    /// Does the work, unless an earlier one failed; if this one does, it is the last.
    pub(super) fn guard<T>(
        &self,
        work: impl FnOnce() -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        if self.is_poisoned() {
            return Err(EngineError::Poisoned);
        }
        let result = work();
        if result.is_err() {
            self.is_poisoned.store(true, Ordering::Release);
        }
        result
    }
}
