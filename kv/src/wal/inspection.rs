//! Looking at a log without changing it: what stands in its files, and whether a node could start on them.

use kv_core::{Epoch, Offset, Version};

use super::index::Place;
use super::record::Record;
use super::recovery::{Tail, Told};
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

/// A part of a log file.
#[derive(Clone, Debug)]
pub enum Part<'a> {
    /// Its start, which says what the log had come to.
    Start {
        /// Whether the log was restarted there: whatever stood in older files is of no matter.
        is_restart: bool,
        /// The last entry before.
        end: Version,
        /// The promise before.
        promised: Epoch,
        /// Where a tail was found damaged before: file and byte.
        suspect: Option<(String, u64)>,
    },
    /// A record.
    Record(&'a Record<'a>),
}

/// Reads a whole log as recovery does, and tells of the start of each file and of each record: the file, the first byte, and
/// what it says. A node may be running on it; then what is being written may look torn.
///
/// # Errors
/// When there is no log, the folder fails, or the log is damaged before its tail; what stands before the damage has been told.
pub fn inspect(
    file_system: &dyn FileSystem,
    tell: &mut dyn FnMut(&str, u64, Part<'_>),
) -> Result<Inspection, WalError> {
    let found = segment::find(file_system)?;
    let Some(last) = found.segments.last() else {
        let folder = file_system.describe();
        return Err(WalError::NoLog { folder });
    };
    let named = |place: Place| (segment::name_of(place.sequence), place.position);
    let state = recovery::replay(&found, &mut |segment, told| match told {
        Told::File(standing) => {
            let start = Part::Start {
                is_restart: segment.header.is_restart,
                end: standing.names.end(),
                promised: standing.promised,
                suspect: standing.suspect.map(named),
            };
            tell(&segment.name, 0, start);
        }
        Told::Record(byte, record) => tell(&segment.name, byte, Part::Record(record)),
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
        suspect: suspect.map(named),
    })
}
