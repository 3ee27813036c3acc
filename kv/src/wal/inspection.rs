//! Looking at a log without changing it: what stands in its files, and whether a node could start on them.

use kv_core::{Epoch, Version};

use super::record::Record;
use super::segment::{self, Found};
use super::{WalError, recovery};
use crate::fs::FileSystem;

/// What a log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Its files, in order, with their sizes in bytes.
    pub files: Vec<(String, u64)>,
    /// The promise (R3); zero before the first.
    pub promised: Epoch,
    /// The last entry; `Version::ZERO` for an empty log.
    pub end: Version,
    /// Where a torn tail begins that was never synced, and that recovery would cut off: file and byte.
    pub torn: Option<(String, u64)>,
}

/// Reads a whole log as recovery does, and tells of each record: its file, its first byte, and what it says. A node may be running on
/// it; then what is being written may look torn.
///
/// # Errors
/// When there is no log, the folder fails, or the log is damaged; the records before the damage have been told.
pub fn inspect(
    file_system: &dyn FileSystem,
    tell: &mut dyn FnMut(&str, u64, &Record<'_>),
) -> Result<Inspection, WalError> {
    let Found { segments, .. } = segment::find(file_system)?;
    let Some(last) = segments.last() else {
        let folder = file_system.describe();
        return Err(WalError::NoLog { folder });
    };
    let state = recovery::replay(&segments, &mut |segment, byte, record| {
        tell(&segment.name, byte, record);
    })?;
    let sizes = segments.iter().map(|segment| {
        let bytes = segment.file.len().map_err(WalError::io("read"))?;
        Ok((segment.name.clone(), bytes))
    });
    Ok(Inspection {
        files: sizes.collect::<Result<_, WalError>>()?,
        promised: state.promised,
        end: state.shape.end(),
        torn: state.cut_at.map(|byte| (last.name.clone(), byte)),
    })
}
