//! What the bytes in an engine mean.
//!
//! | key | value |
//! |---|---|
//! | `p` | the position: what of the log has been applied |
//! | `r`, slot (u16, big-endian), the client's key | epoch (u64), offset (u64), 1, the value; or epoch, offset, 0: a tombstone |
//! | `t`, offset (u64, big-endian), the client's key | nothing: the delete at that offset is remembered |
//!
//! Rows stand in the order of their slots, so that a slot is a range. All other integers are little-endian.
//!
//! The position:
//!
//! ```text
//!  0        1       5            13           21        21+16n
//!  | format | chain | tombstones | runs n     | runs ... |
//!  | u8 = 1 | u32   | u64        | u64        | epoch u64, first offset u64 | then the last offset: u64
//! ```

use bytes::{BufMut as _, Bytes, BytesMut};
use kv_core::{Epoch, Log, Offset, SLOT_COUNT, Version, slot_of};

use super::{Applied, Found, StoreError};
use crate::engine::Engine;
use crate::wal;

/// Where the position stands.
pub(super) const POSITION: &[u8] = b"p";
/// Where rows begin, and where they end.
pub(super) const ROWS: &[u8] = b"r";
pub(super) const ROWS_END: &[u8] = b"s";
/// Where remembered deletes begin, and where they end.
pub(super) const TOMBSTONES: &[u8] = b"t";
pub(super) const TOMBSTONES_END: &[u8] = b"u";

const FORMAT: u8 = 1;
/// The bytes of a row's key before the client's key.
const ROW_HEAD_BYTES: usize = 3;
/// The bytes of a row before its value.
const FOUND_HEAD_BYTES: usize = 17;
/// The bytes of a position before its runs.
const POSITION_HEAD_BYTES: usize = 21;

/// How far an engine has got: the log that was applied to it, by its names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The names of all entries that were applied, from the first one on.
    pub names: Log,
    /// The chained CRC-32 of that log.
    pub chain: u32,
    /// How many deletes are remembered.
    pub tombstones: u64,
}

impl Position {
    /// The end of what was applied.
    #[must_use]
    pub fn applied(&self) -> Applied {
        Applied {
            version: self.names.end(),
            chain: self.chain,
        }
    }

    pub(super) fn encode(&self) -> Bytes {
        let runs = wal::encode_runs(&self.names);
        let mut bytes = BytesMut::with_capacity(POSITION_HEAD_BYTES + runs.len() + 8);
        bytes.put_u8(FORMAT);
        bytes.put_u32_le(self.chain);
        bytes.put_u64_le(self.tombstones);
        bytes.put_u64_le((runs.len() / wal::RUN_BYTES) as u64);
        bytes.put_slice(&runs);
        bytes.put_u64_le(self.names.end().offset.0);
        bytes.freeze()
    }

    /// Reads a position. Total: any bytes give an answer, and nothing is allocated that the bytes do not have.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < POSITION_HEAD_BYTES + 8 || bytes[0] != FORMAT {
            return None;
        }
        let chain = u32::from_le_bytes(bytes[1..5].try_into().ok()?);
        let tombstones = u64_at(bytes, 5)?;
        let count = usize::try_from(u64_at(bytes, 13)?).ok()?;
        let (runs, last) = bytes[POSITION_HEAD_BYTES..].split_last_chunk::<8>()?;
        let last = u64::from_le_bytes(*last);
        // Nothing can follow the last offset that there is.
        if runs.len() != count.checked_mul(wal::RUN_BYTES)? || last == u64::MAX {
            return None;
        }
        Some(Self {
            names: wal::decode_runs(runs, Offset(last))?,
            chain,
            tombstones,
        })
    }
}

/// How far an engine has got.
pub(super) fn position(engine: &dyn Engine) -> Result<Position, StoreError> {
    match engine.get(POSITION)? {
        None => Ok(Position::default()),
        Some(bytes) => Position::decode(&bytes).ok_or(StoreError::Senseless { what: "a position" }),
    }
}

/// Where the row of a key stands.
pub(super) fn row_key(key: &[u8]) -> Bytes {
    let mut row = BytesMut::with_capacity(ROW_HEAD_BYTES + key.len());
    row.put_slice(ROWS);
    row.put_u16(slot_of(key).number());
    row.put_slice(key);
    row.freeze()
}

/// The client's key of a row.
pub(super) fn user_key(row: &[u8]) -> &[u8] {
    row.get(ROW_HEAD_BYTES..).unwrap_or_default()
}

/// A row's value.
pub(super) fn encode_row(found: &Found) -> Bytes {
    let length = found.value.as_ref().map_or(0, Bytes::len);
    let mut bytes = BytesMut::with_capacity(FOUND_HEAD_BYTES + length);
    bytes.put_u64_le(found.version.epoch.0);
    bytes.put_u64_le(found.version.offset.0);
    match &found.value {
        Some(value) => {
            bytes.put_u8(1);
            bytes.put_slice(value);
        }
        None => bytes.put_u8(0),
    }
    bytes.freeze()
}

/// Reads a row. Total.
pub(super) fn decode_row(row: &[u8], value: Bytes) -> Result<Found, StoreError> {
    let senseless = || StoreError::Senseless { what: "a row" };
    let slot = row.get(1..ROW_HEAD_BYTES).ok_or_else(senseless)?;
    if u16::from_be_bytes([slot[0], slot[1]]) >= SLOT_COUNT {
        return Err(senseless());
    }
    let epoch = u64_at(&value, 0).ok_or_else(senseless)?;
    let offset = u64_at(&value, 8).ok_or_else(senseless)?;
    let kind = value.get(16).copied();
    let value = match (kind, value.len()) {
        (Some(1), _) => Some(value.slice(FOUND_HEAD_BYTES..)),
        (Some(0), FOUND_HEAD_BYTES) => None,
        _ => return Err(senseless()),
    };
    let version = Version::new(Epoch(epoch), Offset(offset));
    Ok(Found { version, value })
}

/// Where it is remembered that a key was deleted at an offset.
pub(super) fn tombstone_key(offset: Offset, row: &[u8]) -> Bytes {
    let key = user_key(row);
    let mut bytes = BytesMut::with_capacity(9 + key.len());
    bytes.put_slice(TOMBSTONES);
    bytes.put_u64(offset.0);
    bytes.put_slice(key);
    bytes.freeze()
}

/// The offset of a remembered delete, and where its row stands.
pub(super) fn decode_tombstone(key: &[u8]) -> Result<(Offset, Bytes), StoreError> {
    let senseless = StoreError::Senseless {
        what: "a tombstone",
    };
    let offset = key.get(1..9).and_then(|bytes| bytes.try_into().ok());
    let Some(offset) = offset else {
        return Err(senseless);
    };
    Ok((Offset(u64::from_be_bytes(offset)), row_key(&key[9..])))
}

/// The least key after this one.
pub(super) fn after(key: &[u8]) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}
