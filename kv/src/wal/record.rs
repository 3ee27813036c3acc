//! One record of the WAL as bytes: encoding, and decoding that trusts nothing.
//!
//! ```text
//!  0        4         8        12      20       28   29           31    31+k    31+k+v       16n
//!  | length | crc of  | crc of | epoch | offset | op | key length | key | value | zeros | 0x5A |
//!  | u32    | length  | rest   | u64   | u64    | u8 | u16 = k    |     |       |       | end  |
//!  |------------ head ---------|-------------- body: `length` bytes ------------|-- padding ---|
//! ```
//!
//! Integers are little-endian, and checksums are CRC-32. On the disk all of it is under noise (`noise.rs`); here it is plain.
//! Four properties let recovery tell a write that was torn from bytes that rotted (see `judge.rs`):
//! 1. the length has a checksum of its own, so that a flipped length is not taken for a record that ends too late;
//! 2. a record ends in a byte that is never zero on the disk, so that a record whose end is missing, or zeros, was never
//!    written whole;
//! 3. the second checksum is over the record's position in the file and all behind the head, so that a record is none
//!    elsewhere;
//! 4. a record begins and ends at a multiple of 16, so that at least 16 bytes of it are in each sector that it touches.
//!
//! Ops 1 to 3 are log entries. The others are the WAL's own:
//!
//! | op | record | epoch, offset | value |
//! |---|---|---|---|
//! | 1 | `EpochStart` | the entry's version | – |
//! | 2 | `Set` | the entry's version | the value |
//! | 3 | `Delete` | the entry's version | – |
//! | 4 | `Truncate`: entries above are gone | the entry that is the last now | – |
//! | 5 | `Promise` | the promised epoch, 0 | – |
//! | 6 | `SyncMark` | 0, 0 | up to which byte the file was durable before: u64 |
//! | 7 | `Whole`: the node has again all that it may have lost | 0, 0 | – |

use bytes::Bytes;
use kv_core::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use kv_core::{Entry, Epoch, Offset, Operation, Version};

use super::noise;

/// The bytes before the body.
pub const HEAD_BYTES: usize = 12;
/// A record begins and ends at a multiple of this.
pub const ALIGN_BYTES: usize = 16;
/// The smallest record.
pub const RECORD_BYTES_MIN: usize = record_bytes(BODY_BYTES_MIN);
/// The body without key and value.
const BODY_BYTES_MIN: usize = 8 + 8 + 1 + 2;
/// The largest body.
const BODY_BYTES_MAX: usize = BODY_BYTES_MIN + KEY_BYTES_MAX + VALUE_BYTES_MAX;
/// The last byte of every record.
const END: u8 = 0x5A;

const _: () = assert!(KEY_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(BODY_BYTES_MAX <= u32::MAX as usize);
const _: () = assert!(END & noise::ALWAYS_SET == 0);

/// One record; key and value are borrowed from where they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// The entry [`Operation::EpochStart`].
    EpochStart(Version),
    /// The entry [`Operation::Set`].
    Set {
        /// The entry's name.
        version: Version,
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
    /// The entry [`Operation::Delete`].
    Delete {
        /// The entry's name.
        version: Version,
        /// The key.
        key: &'a [u8],
    },
    /// Everything above this entry is gone from the log.
    Truncate(Version),
    /// The epoch was promised (R3).
    Promise(Epoch),
    /// Written at the start of each batch: every byte before this one was durable then.
    SyncMark(u64),
    /// What the node may have lost in a damaged tail, it has got again from its peers.
    Whole,
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes end before the record does.
    #[error("the record ends after the file")]
    Short {
        /// How many bytes the record has at least.
        needed: usize,
    },
    /// The length is damaged, or beyond the limits.
    #[error("the length of the record is damaged")]
    Length,
    /// The body is damaged.
    #[error("the record does not match its checksum")]
    Checksum,
    /// The checksum is right and the content makes no sense.
    #[error("the record makes no sense")]
    Malformed,
    /// The record does not follow the one before it (R21).
    #[error("the record does not follow the one before it")]
    Order,
}

impl<'a> Record<'a> {
    /// The record of an entry.
    #[must_use]
    pub fn of(entry: &'a Entry) -> Self {
        let version = entry.version;
        match &entry.operation {
            Operation::EpochStart => Self::EpochStart(version),
            Operation::Set { key, value } => Self::Set {
                version,
                key,
                value,
            },
            Operation::Delete { key } => Self::Delete { version, key },
        }
    }

    /// The entry that this record holds, if it holds one.
    #[must_use]
    pub fn to_entry(&self) -> Option<Entry> {
        let version = self.entry_version()?;
        let operation = match *self {
            Self::Set { key, value, .. } => Operation::Set {
                key: Bytes::copy_from_slice(key),
                value: Bytes::copy_from_slice(value),
            },
            Self::Delete { key, .. } => Operation::Delete {
                key: Bytes::copy_from_slice(key),
            },
            _ => Operation::EpochStart,
        };
        Some(Entry { version, operation })
    }

    /// The version of the entry that this record holds, if it holds one.
    #[must_use]
    pub fn entry_version(&self) -> Option<Version> {
        match *self {
            Self::EpochStart(version)
            | Self::Set { version, .. }
            | Self::Delete { version, .. } => Some(version),
            Self::Truncate(_) | Self::Promise(_) | Self::SyncMark(_) | Self::Whole => None,
        }
    }

    /// Appends the bytes of the record that begins at `position` of the file.
    ///
    /// # Panics
    /// When a key or value is beyond the limits; requests and messages are checked when they come in.
    pub fn encode(&self, position: u64, out: &mut Vec<u8>) {
        let mark;
        let nothing: &[u8] = &[];
        let (op, version, key, value) = match *self {
            Self::EpochStart(version) => (1, version, nothing, nothing),
            Self::Set {
                version,
                key,
                value,
            } => (2, version, key, value),
            Self::Delete { version, key } => (3, version, key, nothing),
            Self::Truncate(version) => (4, version, nothing, nothing),
            Self::Promise(epoch) => (5, Version::new(epoch, Offset::ZERO), nothing, nothing),
            Self::SyncMark(synced) => {
                mark = synced.to_le_bytes();
                (6, Version::ZERO, nothing, &mark[..])
            }
            Self::Whole => (7, Version::ZERO, nothing, nothing),
        };
        assert!(key.len() <= KEY_BYTES_MAX, "keys are within the limit");
        assert!(
            value.len() <= VALUE_BYTES_MAX,
            "values are within the limit"
        );
        if matches!(self, Self::Set { .. } | Self::Delete { .. }) {
            assert!(!key.is_empty(), "keys are not empty");
        }
        let body_bytes = BODY_BYTES_MIN + key.len() + value.len();
        let length = body_bytes as u32;
        let start = out.len();
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(&length.to_le_bytes()).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&version.epoch.0.to_le_bytes());
        out.extend_from_slice(&version.offset.0.to_le_bytes());
        out.push(op);
        out.extend_from_slice(&(key.len() as u16).to_le_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(value);
        out.resize(start + record_bytes(body_bytes) - 1, 0);
        out.push(END);
        let crc = crc_at(position, &out[start + HEAD_BYTES..]);
        out[start + 8..start + HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads the record at the start of `bytes`, which lie at `position` of the file, and how many bytes it takes. Total:
    /// any bytes give an answer.
    ///
    /// # Errors
    /// Says why there is no record. After [`Refusal::Short`] the caller may come again with more bytes.
    pub fn decode(position: u64, bytes: &'a [u8]) -> Result<(Self, usize), Refusal> {
        let taken = length_of(bytes)?;
        let needed = Refusal::Short { needed: taken };
        let behind_head = bytes.get(HEAD_BYTES..taken).ok_or(needed)?;
        if crc_at(position, behind_head) != u32_at(bytes, 8) {
            return Err(Refusal::Checksum);
        }
        let (body, padding) = behind_head.split_at(u32_at(bytes, 0) as usize);
        let is_padding = padding
            .split_last()
            .is_some_and(|(last, zeros)| *last == END && zeros.iter().all(|byte| *byte == 0));
        if !is_padding {
            return Err(Refusal::Malformed);
        }
        Ok((Self::from_body(body)?, taken))
    }

    fn from_body(body: &'a [u8]) -> Result<Self, Refusal> {
        let version = Version::new(Epoch(u64_at(body, 0)), Offset(u64_at(body, 8)));
        let key_length = usize::from(u16::from_le_bytes([body[17], body[18]]));
        let rest = &body[BODY_BYTES_MIN..];
        let (key, value) = rest
            .split_at_checked(key_length)
            .ok_or(Refusal::Malformed)?;
        let is_key = (1..=KEY_BYTES_MAX).contains(&key.len());
        match (body[16], key, value) {
            (1, [], []) => Ok(Self::EpochStart(version)),
            (2, _, _) if is_key && value.len() <= VALUE_BYTES_MAX => Ok(Self::Set {
                version,
                key,
                value,
            }),
            (3, _, []) if is_key => Ok(Self::Delete { version, key }),
            (4, [], []) => Ok(Self::Truncate(version)),
            (5, [], []) if version.offset == Offset::ZERO => Ok(Self::Promise(version.epoch)),
            (6, [], _) if value.len() == 8 && version == Version::ZERO => {
                Ok(Self::SyncMark(u64_at(value, 0)))
            }
            (7, [], []) if version == Version::ZERO => Ok(Self::Whole),
            _ => Err(Refusal::Malformed),
        }
    }
}

/// How many bytes the record at the start of `bytes` takes, from its head alone.
///
/// # Errors
/// [`Refusal::Short`] for less than a head, [`Refusal::Length`] for a damaged one.
pub fn length_of(bytes: &[u8]) -> Result<usize, Refusal> {
    if bytes.len() < HEAD_BYTES {
        return Err(Refusal::Short { needed: HEAD_BYTES });
    }
    let length = u32_at(bytes, 0) as usize;
    let is_intact = crc32fast::hash(&bytes[..4]) == u32_at(bytes, 4);
    if !is_intact || !(BODY_BYTES_MIN..=BODY_BYTES_MAX).contains(&length) {
        return Err(Refusal::Length);
    }
    Ok(record_bytes(length))
}

/// The bytes of a record with a body of so many bytes: the head, the body, at least the byte at the end.
const fn record_bytes(body_bytes: usize) -> usize {
    (HEAD_BYTES + body_bytes + 1).next_multiple_of(ALIGN_BYTES)
}

/// The bytes of a [`Record::SyncMark`].
pub(crate) const SYNC_MARK_BYTES: usize = record_bytes(BODY_BYTES_MIN + 8);

/// The checksum of what stands behind the head of a record at that position.
fn crc_at(position: u64, behind_head: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&position.to_le_bytes());
    hasher.update(behind_head);
    hasher.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POSITION: u64 = 64;

    fn encoded(record: &Record<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        record.encode(POSITION, &mut bytes);
        bytes
    }

    /// Every kind of record around the same parts.
    fn every_kind<'a>(version: Version, key: &'a [u8], value: &'a [u8]) -> [Record<'a>; 7] {
        [
            Record::EpochStart(version),
            Record::Set {
                version,
                key,
                value,
            },
            Record::Delete { version, key },
            Record::Truncate(version),
            Record::Promise(version.epoch),
            Record::SyncMark(version.offset.0),
            Record::Whole,
        ]
    }

    #[test]
    fn the_largest_entry_fits() {
        let (key, value) = (vec![1; KEY_BYTES_MAX], vec![2; VALUE_BYTES_MAX]);
        for record in every_kind(
            Version::new(Epoch(u64::MAX), Offset(u64::MAX)),
            &key,
            &value,
        ) {
            let bytes = encoded(&record);
            assert_eq!(Record::decode(POSITION, &bytes), Ok((record, bytes.len())));
        }
    }

    #[test]
    fn a_sync_mark_has_a_fixed_size() {
        assert_eq!(encoded(&Record::SyncMark(7)).len(), SYNC_MARK_BYTES);
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_is_read() {
        for length in [
            0,
            BODY_BYTES_MIN as u32 - 1,
            BODY_BYTES_MAX as u32 + 1,
            u32::MAX,
        ] {
            let mut bytes = length.to_le_bytes().to_vec();
            bytes.extend(crc32fast::hash(&length.to_le_bytes()).to_le_bytes());
            bytes.extend([0; 40]);
            assert_eq!(Record::decode(POSITION, &bytes), Err(Refusal::Length));
        }
        assert_eq!(Record::decode(POSITION, &[0; 100]), Err(Refusal::Length));
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(
            epoch: u64,
            offset: u64,
            key in proptest::collection::vec(any::<u8>(), 1..50),
            value in proptest::collection::vec(any::<u8>(), 0..200),
            behind in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            for record in every_kind(Version::new(Epoch(epoch), Offset(offset)), &key, &value) {
                let mut bytes = encoded(&record);
                let taken = bytes.len();
                prop_assert_eq!(taken % ALIGN_BYTES, 0);
                bytes.extend(&behind);
                prop_assert_eq!(Record::decode(POSITION, &bytes), Ok((record, taken)));
                let elsewhere = Record::decode(POSITION + 1, &bytes);
                prop_assert_eq!(elsewhere, Err(Refusal::Checksum));
                let entry = record.to_entry();
                if let Some(entry) = &entry {
                    prop_assert_eq!(Record::of(entry), record);
                }
                for cut in 0..taken {
                    let refusal = Record::decode(POSITION, &bytes[..cut]).unwrap_err();
                    let is_short = matches!(refusal, Refusal::Short { .. });
                    prop_assert!(is_short, "cut at {}: {}", cut, refusal);
                }
            }
        }

        #[test]
        fn any_single_flipped_bit_is_noticed(
            value in proptest::collection::vec(any::<u8>(), 0..100),
            bit: proptest::sample::Index,
        ) {
            for record in every_kind(Version::new(Epoch(3), Offset(9)), b"key", &value) {
                let mut bytes = encoded(&record);
                let bit = bit.index(bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(matches!(
                    Record::decode(POSITION, &bytes),
                    Err(Refusal::Length | Refusal::Checksum)
                ));
            }
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            body_crc_is_right: bool,
        ) {
            let _ = Record::decode(POSITION, &bytes);
            // The same bytes as a body whose checksums are right reach the last checks.
            if body_crc_is_right && bytes.len() >= BODY_BYTES_MIN {
                let length = (bytes.len() as u32).to_le_bytes();
                let mut whole = length.to_vec();
                whole.extend(crc32fast::hash(&length).to_le_bytes());
                whole.extend([0; 4]);
                whole.extend(&bytes);
                whole.resize(record_bytes(bytes.len()) - 1, 0);
                whole.push(END);
                let crc = crc_at(POSITION, &whole[HEAD_BYTES..]).to_le_bytes();
                whole[8..HEAD_BYTES].copy_from_slice(&crc);
                if let Ok((record, taken)) = Record::decode(POSITION, &whole) {
                    prop_assert_eq!(encoded(&record), &whole[..taken]);
                }
            }
        }
    }
}
