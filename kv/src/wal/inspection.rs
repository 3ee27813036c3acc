//! Looking at a log without changing it: what stands in its files, and whether a node could start on them.

use kv_core::{Epoch, Offset, Version};

use super::record::Record;
use super::recovery::Tail;
use super::{WalError, recovery, segment};
use crate::fs::FileSystem;

/// What a log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Its files, in order, with their sizes in bytes.
    pub files: Vec<(String, u64)>,
    /// The promise (R3); zero before the first.
    pub promised: Epoch,
    /// The first entry whose bytes are there; the one after the last if there is none.
    pub first: Offset,
    /// The last entry; `Version::ZERO` for an empty log.
    pub end: Version,
    /// Where a torn tail begins that was never synced, and that recovery would cut off: file and byte.
    pub torn: Option<(String, u64)>,
    /// Where a damaged tail begins that may have been synced, and that recovery would keep aside: file and byte.
    pub damaged: Option<(String, u64)>,
    /// Where a tail was found damaged before, if the node has not got again all that it may have lost.
    pub suspect: Option<(String, u64)>,
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
    let found = segment::find(file_system)?;
    let Some(last) = found.segments.last() else {
        let folder = file_system.describe();
        return Err(WalError::NoLog { folder });
    };
    let state = recovery::replay(&found, &mut |segment, byte, record| {
        tell(&segment.name, byte, record);
    })?;
    let sizes = found.segments.iter().map(|segment| {
        let bytes = segment.file.len().map_err(WalError::io("read"))?;
        Ok((segment.name.clone(), bytes))
    });
    let end_if = |tail| (state.tail == tail).then(|| (last.name.clone(), state.end));
    let suspect = state.standing.suspect;
    Ok(Inspection {
        files: sizes.collect::<Result<_, WalError>>()?,
        promised: state.standing.promised,
        first: state.first,
        end: state.standing.names.end(),
        torn: end_if(Tail::Torn),
        damaged: end_if(Tail::Suspect),
        suspect: suspect.map(|place| (segment::name_of(place.sequence), place.position)),
    })
}
