//! After an error an engine is not asked again: what it holds in memory may be ahead of the disk, or behind it.

use std::sync::OnceLock;

use super::EngineError;

/// Whether an earlier call failed, and of what.
#[derive(Debug, Default)]
pub(super) struct Poison {
    first: OnceLock<String>,
}

impl Poison {
    /// Whether an earlier call failed.
    pub(super) fn is_poisoned(&self) -> bool {
        self.first.get().is_some()
    }

    /// Does the work, unless an earlier one failed; if this one does, it is the last.
    pub(super) fn guard<T>(
        &self,
        work: impl FnOnce() -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        if let Some(first) = self.first.get() {
            let first = first.clone();
            return Err(EngineError::Poisoned { first });
        }
        work().inspect_err(|error| {
            let _ = self.first.set(error.to_string());
        })
    }
}
