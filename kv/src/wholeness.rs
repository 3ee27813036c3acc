//! Whether a data folder is all there.
//!
//! The engine, the file that says which one counts, and the log belong together: where one of them is missing, the others are but a
//! part of what was acknowledged, and to begin the missing one anew would be to forget the rest. So a node begins them in an order that
//! tells a first start that was interrupted from a folder that has lost something: the log, empty, then the engine, and last the file
//! that says that it counts.

use std::sync::Arc;

use kv_core::{Epoch, Version};

use crate::error::NodeError;
use crate::fs::FileSystem;
use crate::store::{self, Generation, StoreError};
use crate::wal::inspection::inspect;
use crate::wal::{self, WalError};

/// The generation of engine files that counts in a folder that is all there; nothing in one that no node has started on.
///
/// # Errors
/// When something is missing, or cannot be read. Nothing is changed.
pub fn check(file_system: &dyn FileSystem) -> Result<Option<Generation>, NodeError> {
    let generation = store::current_generation(file_system)?;
    let log = inspect_if_there(file_system, generation.is_none())?;
    match (generation, log) {
        (Some(_), Log::Missing) => {
            let folder = file_system.describe();
            Err(WalError::NoLog { folder }.into())
        }
        (None, Log::Used) => {
            let (folder, file) = (file_system.describe(), "engine".to_owned());
            Err(StoreError::Missing { folder, file }.into())
        }
        (Some(generation), _) => {
            generation.check(file_system)?;
            Ok(Some(generation))
        }
        (None, _) => Ok(None),
    }
}

/// The same for a node that starts: what was not begun yet is begun, but for the engine.
///
/// # Errors
/// As for [`check`], and when the folder cannot be written.
pub(crate) async fn check_or_begin(file_system: &Arc<dyn FileSystem>) -> Result<(), NodeError> {
    let file_system = file_system.as_ref();
    let generation = check(file_system)?;
    if generation.is_none() && wal::names(file_system)?.is_empty() {
        wal::begin(file_system).await?;
    }
    Ok(())
}

enum Log {
    Missing,
    Blank,
    Used,
}

/// What kind of log there is; whether it is blank matters only without an engine.
fn inspect_if_there(file_system: &dyn FileSystem, is_read: bool) -> Result<Log, WalError> {
    if wal::names(file_system)?.is_empty() {
        return Ok(Log::Missing);
    }
    if !is_read {
        return Ok(Log::Used);
    }
    let log = inspect(file_system, &mut |_, _, _| {})?;
    let is_blank = log.end == Version::ZERO && log.promised == Epoch(0);
    Ok(match is_blank {
        true => Log::Blank,
        false => Log::Used,
    })
}
